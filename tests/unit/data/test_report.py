"""Counts, names, merging and pickling of reports."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

from captioner.data import (
    Report,
)


def test_report_counts_all_and_names_first():
    report = Report()
    assert not report
    assert report.summary() == ""
    for number in range(7):
        report.add("missing image", f"{number}\n.jpg")
    report.add("odd", Path("x"))
    assert report
    assert report.problems["missing image"].count == 7
    assert report.summary().splitlines() == [
        "missing image: 7 (0 .jpg, 1 .jpg, 2 .jpg, 3 .jpg, 4 .jpg, ...)",
        "odd: 1 (x)",
    ]


def test_merged_reports_equal_one_report():
    rng = random.Random(0)
    whole, parts = Report(), [Report() for _ in range(3)]
    for part in parts:
        for number in range(rng.randrange(8, 20)):
            for report in (whole, part):
                report.add(f"kind {number % 2}", number)
    merged = Report()
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.summary() == whole.summary() != ""
    merged.add("kind 0", "later")
    assert all("later" not in part.summary() for part in parts)


def test_report_can_be_pickled_and_merged():
    import pickle

    one, other = Report(), Report()
    one.used["train"], one.unused["x"] = 3, 1
    one.add("bad", "here", rows=2)
    other.used["train"] = 4
    other.add("bad", "there", rows=5)
    one.merge(pickle.loads(pickle.dumps(other)))
    assert (one.rows, one.dropped, one.used["train"]) == (15, 7, 7)
