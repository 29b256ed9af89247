"""Tables of answer scores: the measure of calibration, missing answers, many types."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.data import Example
from captioner.errors import MetricError
from captioner.evaluation import tables
from captioner.metrics import exact_match, expected_calibration_error, vqa_accuracy


def example(i: int, question: str, *answers: str, image: int = 0, **others: str) -> Example:
    return Example(f"/{image}.png", f"{image}", answers, "val", question, str(i), **others)


WORDS = st.sampled_from(["yes", "no", "2", "a dog", "Dogs!"])


@given(st.lists(st.tuples(WORDS, WORDS, st.floats(0, 1)), min_size=1), st.booleans())
def test_calibration_uses_the_main_measure(drawn, many):
    rows = [
        example(i, "what?", *[text] * 2, *["other"] * (3 + 5 * many))
        for i, (text, _, _) in enumerate(drawn)
    ]
    answers = {str(i): text for i, (_, text, _) in enumerate(drawn)}
    confidences = {str(i): p for i, (_, _, p) in enumerate(drawn)}
    table = tables.measure_calibration(rows, answers, confidences)
    right = [vqa_accuracy(answers[r.question_id], r.references) for r in rows]
    error = expected_calibration_error(list(confidences.values()), right, bins=15)
    assert table["expected calibration error"] == pytest.approx(error)
    assert sum(row["count"] for row in table["reliability"]) == len(drawn)
    rows = [dataclasses.replace(row, references=row.references[:1]) for row in rows]
    table = tables.measure_calibration(rows, answers, confidences)
    right = [exact_match(answers[r.question_id], r.references) for r in rows]
    error = expected_calibration_error(list(confidences.values()), right, bins=15)
    assert table["expected calibration error"] == pytest.approx(error)


def test_acceptability_is_that_of_the_captions_with_a_result():
    dog, two = "a dog runs on the grass", ("a dog runs on the grass", "a dog runs on grass")
    rows = [Example(f"/{i}.png", f"{i}", (f"{i} cats", f"{i} cats sleep"), "val") for i in "12"]
    rows = [Example("/0.png", "0", two, "val"), *rows]
    results = {"0": SimpleNamespace(text=dog), "1": SimpleNamespace(text=dog)}
    assert tables.score_acceptability(results, rows) == {"0": 1.0, "1": 0.0}
    # The CIDEr-D of human captions needs a second reference of an image with a result.
    single = [dataclasses.replace(row, references=row.references[:1]) for row in rows[:2]]
    assert tables.score_acceptability(results, [*single, rows[2]]) == {}


def test_score_table_needs_all_answers():
    with pytest.raises(MetricError):
        tables.build_score_table(
            [example(0, "what?", "a"), example(1, "who?", "b")], {"x": {"0": "a"}}
        )


def test_small_question_types_share_a_line():
    """The text shows the largest types, and one line for all others."""
    rows = [example(i, f"{'what' * (i // 2)}?", "a") for i in range(60)]
    answers = {row.question_id: "a" if int(row.question_id) % 3 else "b" for row in rows}
    table = tables.build_score_table(rows, {"model": answers}, missing={"blind": "not made"})
    assert len(table["question types"]) == 30
    lines = [line for line in tables.format_table(table) if line]
    start = next(i for i, line in enumerate(lines) if "by question type" in line)
    end = next(i for i, line in enumerate(lines) if "by answer type" in line)
    shown = [line.split() for line in lines[start + 1 : end]]
    assert len(shown) == tables.MAX_TYPES + 1
    assert shown[-1][:4] == ["10", "further", "types", "20"]
    rest = list(table["question types"].values())[tables.MAX_TYPES :]
    value = 100 * sum(g["questions"] * g["model"]["exact match"] for g in rest) / 20
    assert shown[-1][4:] == [f"{value:.1f}", "-"]
    assert "not made" in lines[2]
