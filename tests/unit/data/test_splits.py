"""Training and validation rows of a run."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from datasets import Dataset
from drawn_images import SHAPES, draw, make_flickr, make_questions
from runs import sources

from captioner.config import (
    SourceConfig,
    load_config,
)
from captioner.data.held_out_rows import hold_out
from captioner.data.splits import read_splits
from captioner.errors import ConfigError, SplitError


def read(*words: str):
    return read_splits(load_config(None, words))


def question_rows(*, images: int = 40, questions: int = 3, shuffled: int | None = None) -> Dataset:
    """Return rows of questions about images, in the order of the files or shuffled."""
    rows = [
        {
            "image": f"/x/{i}.png",
            "image_id": f"{i}.png",
            "question": f"what is {j}",
            "question_id": f"{i}:{j}",
        }
        for i in range(images)
        for j in range(questions)
    ]
    if shuffled is not None:
        random.Random(shuffled).shuffle(rows)
    return Dataset.from_list(rows)


def part(rows: Dataset, seed: int = 0, **settings) -> tuple[list[dict], list[dict]]:
    source = SourceConfig("somewhere", val_share=0.25, **settings)
    return tuple(map(list, hold_out(rows, source, seed, SplitError("too few"))))


@pytest.mark.parametrize("seed", range(3))
def test_held_out_images_are_in_no_training_row(seed):
    rows = question_rows()
    train, val = part(rows, seed)
    sides = [{row["image"] for row in side} for side in (train, val)]
    assert not sides[0] & sides[1]
    assert 4 <= len(sides[1]) <= 17  # ten on average
    assert sorted(row["question_id"] for row in train + val) == sorted(rows["question_id"])
    assert len(val) == 3 * len(sides[1])  # with all of their questions
    assert part(rows, seed) == (train, val)
    assert part(rows, seed + 1)[1] != val


def test_held_out_images_do_not_depend_on_order_or_number_of_rows():
    expected = {row["image"] for row in part(question_rows())[1]}
    for rows in (question_rows(shuffled=1), question_rows(questions=1), question_rows(questions=5)):
        assert {row["image"] for row in part(rows)[1]} == expected


def test_held_out_questions_leave_their_images_in_training():
    rows = question_rows()
    train, val = part(rows, hold_out="question")
    sides = [{row["question_id"] for row in side} for side in (train, val)]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(rows["question_id"])
    assert 18 <= len(sides[1]) <= 42  # thirty on average
    both = {row["image"] for row in train} & {row["image"] for row in val}
    assert len(both) > 10
    assert part(rows, hold_out="question") == (train, val)
    again = part(question_rows(shuffled=2), hold_out="question")
    assert {row["question_id"] for row in again[1]} == sides[1]


def test_questions_of_training_rows_are_not_held_out():
    """Ask the same question about each image four times, and another question once."""
    rows = [
        {
            **row,
            "question": "what" if j < 4 else "where",
            "question_id": f"{row['question_id']}:{j}",
        }
        for row in question_rows(questions=1)
        for j in range(5)
    ]
    train, val = part(Dataset.from_list(rows), hold_out="question")
    pairs = [{(row["image"], row["question"]) for row in side} for side in (train, val)]
    assert not pairs[0] & pairs[1]
    assert "where" in {row["question"] for row in val}
    # Questions that are left out of validation are not added to training.
    assert 130 <= len(train) <= 170
    assert len(val) < len(rows) - len(train)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [(question_rows(images=1), "image"), (question_rows(images=1, questions=1), "question")],
    ids=["image", "question"],
)
def test_too_few_rows_for_a_held_out_part_are_an_error(rows, kind):
    with pytest.raises(SplitError, match="too few"):
        part(rows, hold_out=kind)
    two = question_rows(images=2, questions=1)
    assert [len(side) for side in part(two, hold_out=kind)] == [1, 1]


def test_rows_have_their_source_and_each_source_its_limit(tmp_path):
    captions = make_flickr(tmp_path / "captions", train=range(6))
    pictures = captions / "Flicker8k_Dataset"
    questions = make_questions(tmp_path / "questions", train=range(5), val=[5], pictures=pictures)
    first = {"root": str(captions), "limit": 4}
    second = {"root": str(questions), "val_splits": ["val"], "limit": 2}
    tasks, train, val, report = read(sources(first, second))
    beyond = [key for key in report.problems if key.startswith("rows beyond")]
    assert beyond == ["rows beyond data.sources.0.limit=4", "rows beyond data.sources.1.limit=2"]
    assert [(task.name, task.kind) for task in tasks] == [
        ("captions", "captions"),
        ("questions", "questions"),
    ]
    assert train["source"] == [0] * 4 + [1] * 6  # four images; two, with three questions each
    assert [bool(question) for question in train["question"]] == [False] * 4 + [True] * 6
    assert val["source"] == [0] * 4 + [1] * 3
    assert {Path(image).name for image in val["image"][4:]} == {"5.png"}
    assert set(train["image"][4:]) <= set(train["image"][:4])  # the same images
    _, train, val, _ = read(sources(first, second), "train.eval_images=1")
    assert [len(train), len(val)] == [10, 1 + 3]
    *_, train, val, _ = read(sources(first | {"eval_images": 2}, second), "train.eval_images=1")
    assert [len(train), len(val)] == [10, 2 + 3]
    none = sources(first | {"eval_images": 0}, second)
    *_, train, val, report = read(none)
    assert [len(train), len(val)] == [10, 3]
    assert "rows beyond data.sources.0.eval_images=0" in report.problems
    *_, train, val, report = read_splits(load_config(None, [none]), all_validation_rows=True)
    assert [len(train), len(val)] == [10, 4 + 3]
    assert not any("eval_images" in key for key in report.problems)


def test_data_sets_of_the_same_name_get_different_task_names(tmp_path):
    roots = [make_questions(tmp_path / name / "data") for name in "ab"]
    tasks, *_ = read(sources(*({"root": str(root)} for root in roots)))
    assert len({task.name for task in tasks}) == 2


def test_captions_and_questions_made_from_them_hold_out_the_same_images(tmp_path):
    """Otherwise, the answers to held-out questions could be in the training captions."""
    lines = []
    for i, shape in enumerate(SHAPES):
        draw(*shape).save(tmp_path / f"{i}.png")
        # Images give different numbers of questions, or none.
        captions = ["two brown dogs run on the green grass", "a man in a red shirt", "one too many"]
        lines.append(json.dumps({"image": f"{i}.png", "captions": captions[i % 3 :]}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    common = {"root": str(tmp_path), "val_splits": ["val"], "val_share": 0.34}
    tasks, train, val, report = read(sources(common, common | {"questions": True}))
    assert [task.kind for task in tasks] == ["captions", "questions"]
    assert set(val["source"]) == set(train["source"]) == {0, 1}
    assert not set(train["image"]) & set(val["image"])
    assert len(set(val["image"])) >= 1
    assert "held out" in report.summary()


def test_questions_and_captions_made_from_them_hold_out_the_same_images(tmp_path):
    lines = []
    for i, shape in enumerate(SHAPES):
        draw(*shape).save(tmp_path / f"{i}.png")
        question = "what is parked near the building?" if i % 3 else "what color is the ball?"
        lines.append(json.dumps({"image": f"{i}.png", "question": question, "answer": "bus"}))
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    common = {"root": str(tmp_path), "val_splits": ["val"], "val_share": 0.34}
    tasks, train, val, report = read(sources(common, common | {"captions": True}))
    assert [task.kind for task in tasks] == ["questions", "captions"]
    assert not set(train["image"]) & set(val["image"])
    made = [row for row in train if row["source"] == 1]
    assert made
    assert all(row["references"] == ["a bus is parked near the building"] for row in made)
    assert "image whose questions give no caption" in report.summary()


def test_captions_and_questions_of_one_source_cannot_both_be_made(tmp_path):
    with pytest.raises(ConfigError, match="cannot both be true"):
        read(sources({"root": str(tmp_path), "questions": True, "captions": True}))
