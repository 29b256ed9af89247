"""Weights of rows: read from every custom format, and kept until the batch."""

from __future__ import annotations

import csv
import io

import pytest
import torch
from data_files import json_lines, list_problems, pictures, write
from datasets import Dataset
from drawn_images import Table
from sample_tables import draw_pictures, make_dataset, question_row, table_row, train_tokenizer

from captioner.data.collate import collate
from captioner.data.dataset import Key, Sample
from captioner.data.report import BAD_WEIGHT, ZERO_WEIGHT
from captioner.data.row_digest import digest_rows

ROWS = [
    {"image": "a.jpg", "caption": "one", "weight": 0.25},
    {"image": "a.jpg", "caption": "two"},
    {"image": "b.jpg", "captions": ["three", " ", "four"], "weight": "2"},
    {"image": "c.jpg", "caption": "five", "weight": 1.0},
]
WEIGHTS = {"a.jpg": (0.25, 1.0), "b.jpg": (2.0, 2.0), "c.jpg": ()}


def test_weights_of_jsonl_rows(tmp_path, read):
    write(tmp_path / "x.jsonl", json_lines(*ROWS))
    pictures(tmp_path, *WEIGHTS)
    rows, report = read(tmp_path)
    assert {row.image_id: row.weights for row in rows} == WEIGHTS
    assert list(list_problems(report)) == ["empty caption"]


def test_weights_of_a_folder_with_metadata(tmp_path, read):
    rows = ({"file_name": row["image"]} | row for row in ROWS)
    write(tmp_path / "metadata.jsonl", json_lines(*rows))
    pictures(tmp_path, *WEIGHTS)
    rows, _ = read(tmp_path)
    assert {row.image_id: row.weights for row in rows} == WEIGHTS


def test_weights_of_csv_rows(tmp_path, read):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["image", "caption", "Weight"])
    writer.writerows([["a.jpg", "one", "0.25"], ["a.jpg", "two", ""], ["b.jpg", "three", "2"]])
    write(tmp_path / "x.csv", out.getvalue())
    pictures(tmp_path, "a.jpg", "b.jpg")
    rows, report = read(tmp_path)
    assert [row.weights for row in rows] == [(0.25, 1.0), (2.0,)]
    assert not report


@pytest.mark.parametrize(
    "weight",
    [
        -1,
        "x",
        "nan",
        [1],
        True,
        "inf",
        float("nan"),
        {},
        "1,5",
        1e308,
        1e-45,
        "9e-7",
        1.1e6,
        10**400,
    ],
)
def test_invalid_weight_is_a_reported_row(weight, tmp_path, read):
    bad = {"image": "a.jpg", "caption": "bad", "weight": weight}
    write(tmp_path / "x.jsonl", json_lines(bad, {"image": "a.jpg", "caption": "good"}))
    pictures(tmp_path, "a.jpg")
    (row,), report = read(tmp_path)
    assert (row.references, row.weights) == (("good",), ())
    assert report.problems[BAD_WEIGHT].rows == 1
    assert report.problems[BAD_WEIGHT].names[0].startswith("x.jsonl:1")


@pytest.mark.parametrize("weight", [1e-6, "1e-6", 1e6, 1_000_000])
def test_bounds_of_weights_are_valid(weight, tmp_path, read):
    row = {"image": "a.jpg", "caption": "good", "weight": weight}
    write(tmp_path / "x.jsonl", json_lines(row))
    pictures(tmp_path, "a.jpg")
    (row,), report = read(tmp_path)
    assert (row.weights, bool(report)) == ((float(weight),), False)


def test_rows_of_weight_0_are_left_out_of_training_but_not_of_scoring(tmp_path, read):
    rows = [
        {"image": "a.jpg", "caption": "noise", "weight": 0},
        {"image": "a.jpg", "caption": "good", "weight": 3},
        {"image": "b.jpg", "caption": "noise", "weight": 0.0},
        {"image": "b.jpg", "question": "what?", "answer": "noise", "weight": 0},
        {"image": "b.jpg", "tags": ["noise"], "weight": 0},
        {"image": "a.jpg", "tags": ["dog"], "weight": 0.5},
    ]
    write(tmp_path / "x.jsonl", json_lines(*rows))
    pictures(tmp_path, "a.jpg", "b.jpg")
    found, report = read(tmp_path)
    assert {(row.kind, row.references, row.weights) for row in found} == {
        ("captions", ("good",), (3.0,)),
        ("tags", (), (0.5,)),
    }
    assert report.problems[ZERO_WEIGHT].rows == 4
    assert (report.rows, report.used["train"]) == (6, 2)
    found, report = read(tmp_path, check_images=False)
    assert len(found) == 5
    assert not report


def test_answers_of_annotators_keep_their_weights(tmp_path, read):
    row = {"image": "a.jpg", "question": "what?", "question_id": 1}
    rows = (row | {"answer": "a dog"}, row | {"answers": ["a cat", "a bird"], "weight": 0.5})
    write(tmp_path / "x.jsonl", json_lines(*rows))
    pictures(tmp_path, "a.jpg")
    (found,), _ = read(tmp_path)
    assert (found.references, found.weights) == (("a dog", "a cat", "a bird"), (1.0, 0.5, 0.5))
    assert found.mean_weight == pytest.approx(2 / 3)


def test_made_texts_have_the_weights_of_their_rows(tmp_path, read):
    row = {"image": "a.jpg", "question": "what is the man riding?"}
    write(tmp_path / "x.jsonl", json_lines(row | {"answer": "horse", "weight": 0.5}))
    pictures(tmp_path, "a.jpg")
    (found,), _ = read(tmp_path, captions=True)
    assert (found.references, found.weights) == (("the man is riding a horse",), (0.5,))
    captions = ["two dogs run", "two dogs play", "two brown dogs run on grass"]
    write(tmp_path / "x.jsonl", json_lines({"image": "a.jpg", "captions": captions, "weight": 3}))
    questions, _ = read(tmp_path, questions=True)
    assert {row.weights for row in questions} == {(3.0,)}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


def test_batch_has_the_weights_of_the_drawn_captions(drawn, tokenizer):
    texts = [f"a {color} circle" for color in ("red", "right", "left", "one")]
    rows = [
        table_row(drawn[0], *texts) | {"weights": [1.0, 2.0, 3.0, 4.0]},
        table_row(drawn[1], "the right one"),
    ]
    data = make_dataset(Table(rows), tokenizer, captions_per_image=2)
    weight_of = dict(zip(texts, (1, 2, 3, 4), strict=True))
    for epoch in range(5):
        samples = [data[Key(epoch, i)] for i in range(2)]
        batch = collate(samples)
        expected = [weight_of[tokenizer.decode(ids)] for ids in samples[0].texts]
        assert batch.weights.tolist() == [expected, [1.0, 0.0]]
        tokens = (batch.labels != tokenizer.pad).sum(-1)
        assert batch.count() == (batch.weights * tokens).sum()
        assert batch.image_weights().tolist() == [sum(expected) / 2, 1.0]


def test_batch_of_a_classifier_has_mean_weights_and_weighted_targets(drawn, tokenizer):
    row = question_row(drawn[0], "what?", "red", "left", "other") | {"weights": [1.0, 0.5, 3.0]}
    answers = [tuple(tokenizer.encode(text)) for text in ("red", "left")]
    data = make_dataset(Table([row]), tokenizer, answers=answers)
    batch = collate([data[Key(0, 0)]])
    torch.testing.assert_close(batch.targets, torch.tensor([[1 / 3, 0.5 / 3]]))
    torch.testing.assert_close(batch.weights, torch.tensor([[1.5]]))
    assert batch.count() == 1.5
    assert batch.token_weights() is None


def test_batch_without_weights_has_none(drawn, tokenizer):
    data = make_dataset(Table([table_row(drawn[0], "a red circle", "the red one")]), tokenizer)
    batch = collate([data[Key(0, 0)]])
    assert batch.weights is None
    assert batch.count() == (batch.labels != tokenizer.pad).sum()


def test_parts_of_a_batch_keep_their_weights():
    image, sound = torch.zeros(3, 8, 8), torch.zeros(1, 4, 4)
    samples = [
        Sample(0, None, [[5, 3]], weights=[2.0], spectrogram=sound),
        Sample(1, image, [[6, 3]], weights=[4.0]),
    ]
    parts = collate(samples).split()
    assert [part.weights.tolist() for part in parts] == [[[4.0]], [[2.0]]]


def test_digest_of_rows_without_weights_is_unchanged(tmp_path):
    row = table_row(str(tmp_path / "a.jpg"), "a dog")
    plain = {name: value for name, value in row.items() if name != "weights"}
    without, empty, other = (
        digest_rows(Dataset.from_list([x]))
        for x in (plain, plain | {"weights": []}, plain | {"weights": [2.0]})
    )
    assert without == empty != other
