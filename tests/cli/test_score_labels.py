"""score.py with --labels: the labels that captions name."""

from __future__ import annotations

import json

import pytest
from score_data import caption_row, question_row, write

LABELS = "dog bark=barking dog|dog barks,rain"


@pytest.fixture
def files(tmp_path, pictures):
    """A data set of three images, and captions of them."""
    texts = {0: ("a dog barks", "the barking dog"), 1: ("rain falls",), 2: ("silence",)}
    rows = [caption_row(pictures, i, *some) for i, some in texts.items()]
    captions = {"0": "a barking dog", "1": "a dog barks", "2": "rain"}
    return write(tmp_path / "c.json", captions), write(tmp_path / "data.jsonl", rows)


def test_captions_are_scored_by_their_labels(run_score, files, tmp_path):
    candidates, data = files
    words = (candidates, "--references", data, "--labels")
    _, out, _ = run_score(*words, LABELS, "--json")
    table = json.loads(out)["classes"]["labels"]
    assert (table["examples"], table["accuracy"]) == (2, 0.5)
    assert table["confusion"] == {"classes": ["dog bark", "rain"], "counts": [[1, 0], [1, 0]]}
    (tmp_path / "labels.txt").write_text(LABELS.replace(",", "\n"))
    status, text, _ = run_score(*words, f"@{tmp_path / 'labels.txt'}")
    assert status == 0
    lines = [line.split() for line in text.splitlines()]
    assert lines[-5][:4] == ["labels", "2", "2", "50.0"]
    assert lines[-2:] == [["dog", "bark", "1", "0"], ["rain", "1", "0"]]


def test_labels_that_nothing_names_are_an_error(run_score, files, pictures, tmp_path):
    candidates, data = files
    status, out, err = run_score(candidates, "--references", data, "--labels", "cat,bird")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "name one of cat, bird" in err
    asked = write(tmp_path / "q.jsonl", [question_row(pictures, 0, "what?", "a", 7)])
    answers = write(tmp_path / "a.json", [{"question_id": 7, "answer": "a"}])
    status, out, err = run_score(answers, "--references", asked, "--labels", LABELS)
    assert (status, out) == (1, "")
    assert "holds answers" in err
