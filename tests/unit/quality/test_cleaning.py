"""The cleaned manifest: rows left out, repaired and weighted, read back by the readers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from quality_data import caption, photo, write_set

from captioner.data import read_dataset
from captioner.data.example_rows import read_rows
from captioner.quality.audit import check_dataset
from captioner.quality.cleaning import write_manifest

pytest.importorskip("imagehash")
pytest.importorskip("py3langid")

CUT = "A red dog is standing near the"


@pytest.fixture
def source(tmp_path):
    """A data set with faults of most kinds."""
    changes = {
        1: {"captions": ["A cafÃ© near the <b>tree</b> on a sunny day .", caption(3)]},
        2: {"captions": [caption(4), CUT]},
        3: {"captions": [CUT]},
        4: {"captions": ["", caption(8), caption(8).upper()]},
        9: {"captions": [caption(18), CUT]},  # of the validation split
        10: {"captions": ["lost caf\ufffd at the sea on a day", caption(20)]},
    }
    extra = [
        {"image": "images/leak.jpg", "caption": caption(70), "split": "train"},
        {"image": "images/5.jpg", "question": "what color?", "answer": "red", "split": "train"},
        {"image": "images/5.jpg", "question": "what color?", "answer": "blue", "split": "train"},
        {"image": "images/6.jpg", "question": "is it day?", "answers": ["yes"] * 3 + ["no"]},
        {"image": "images/7.jpg", "tags": ["dog", "tree"]},
    ]
    path = write_set(tmp_path, changes=changes, extra=extra)
    photo(9).save(tmp_path / "images" / "leak.jpg", quality=70)
    (tmp_path / "images" / "0.jpg").write_bytes(b"")
    return path


def read(path: Path) -> dict[str, dict]:
    return {row.get("question_id") or row["id"]: row for row in map(json.loads, path.open())}


def test_faults_are_dropped_repaired_and_weighted(source, tmp_path):
    audit = check_dataset(source, processes=1)
    clean = tmp_path / "clean.jsonl"
    cleaning = write_manifest(audit, clean, weight=0.25)
    rows = read(clean)
    assert "images/0.jpg" not in rows
    assert "images/leak.jpg" not in rows
    assert rows["images/1.jpg"]["captions"][0] == "A café near the tree on a sunny day ."
    assert rows["images/2.jpg"]["captions"] == [caption(4), CUT]
    assert rows["images/2.jpg"]["weight"] == 0.625  # the mean of 1 and 0.25
    assert (rows["images/3.jpg"]["captions"], rows["images/3.jpg"]["weight"]) == ([CUT], 0.25)
    assert rows["images/4.jpg"]["captions"] == [caption(8)]
    assert rows["images/9.jpg"]["captions"] == [caption(18), CUT]
    assert "weight" not in rows["images/9.jpg"]
    assert rows["images/10.jpg"]["captions"] == [caption(20)]
    colors = [row for row in rows.values() if row.get("question") == "what color?"]
    assert [(row["answers"], row["weight"]) for row in colors] == [
        (["red"], 0.25),
        (["blue"], 0.25),
    ]
    weighted = sum("weight" in row for row in rows.values())
    assert (cleaning.rows, cleaning.weighted, cleaning.dropped) == (
        len(clean.open().readlines()),
        weighted,
        2,
    )


def test_the_readers_read_the_manifest(source, tmp_path):
    audit = check_dataset(source, processes=1)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    paths = (tmp_path / "clean.jsonl", folder / "clean.jsonl")
    for path in paths:
        write_manifest(audit, path, weight=0.5)
        rows, report = read_rows(path, splits=None)
        assert not report
        assert {row.split for row in rows} == {"train", "val"}
        assert {row.kind for row in rows} == {"captions", "questions", "tags"}
        assert len(rows) == len(path.open().readlines())
        table, report = read_dataset(path, splits=None, cache_dir=tmp_path / "cache")
        assert len(table) == len(rows)
        assert not report
    names = [json.loads(next(path.open()))["image"] for path in paths]
    assert names == ["images/5.jpg", str(tmp_path / "images/5.jpg")]


def test_a_clean_manifest_has_few_findings(source, tmp_path):
    clean = tmp_path / "clean.jsonl"
    write_manifest(check_dataset(source, processes=1), clean, weight=0.5)
    kinds = {finding.kind for finding in check_dataset(clean, processes=1).findings}
    assert kinds == {"truncated-caption", "contradictory-answers"}


def test_the_record_keeps_the_origins_of_the_source(source, tmp_path):
    record = {"origins": [{"captioner": "0.2.0", "checkpoint": "x"}]}
    source.with_name("data.jsonl.meta.json").write_text(json.dumps(record))
    clean = tmp_path / "clean.jsonl"
    write_manifest(check_dataset(source, processes=1), clean, weight=0.5)
    written = json.loads((tmp_path / "clean.jsonl.meta.json").read_text())
    assert written["origins"] == record["origins"]
    assert written["cleaning"]["source"] == "data.jsonl"
    assert written["cleaning"]["findings"]["split-leak"] == 1
    assert str(tmp_path) not in json.dumps(written)
