"""Conversations about images, as LLaVA is trained on."""

from __future__ import annotations

import pytest
from caption_sets import turn
from data_files import list_problems, pictures, write

from captioner.data import detect_format
from captioner.data.formats.llava_conversations import (
    NO_IMAGE,
    SEVERAL_IMAGES,
    UNPAIRED_TURN,
    asks_for_description,
)
from captioner.errors import DataError


@pytest.mark.parametrize(
    "prompt",
    [
        "Describe the image concisely.",
        "Render a clear and concise summary of the photo.",
        "Can you describe the main features of this image for me?",
        "What do you see happening in this image?",
        "What\u2019s happening in the scene?",
        "Provide a one-sentence caption for the provided image.",
        "Present a compact description of the photo's key features.",
    ],
)
def test_prompts_for_a_description(prompt):
    assert asks_for_description(prompt)


@pytest.mark.parametrize(
    "prompt",
    ["Describe the man in the image.", "What is this?", "Is this a photo?", "", "How are you?"],
)
def test_other_prompts_are_questions(prompt):
    assert not asks_for_description(prompt)


def test_turns_become_captions_and_questions(tmp_path, read):
    turns = [
        turn("system", "be brief"),
        turn("human", "<image>\nDescribe the image.\nReference OCR token: STOP"),
        turn("gpt", "A dog on a lawn."),
        turn("human", "What color is it?"),
        turn("gpt", "Brown."),
        turn("human", "Describe the image."),
        turn("gpt", "A dog."),
    ]
    more = [turn("human", "Where is\n<image> the dog?"), turn("gpt", "On a lawn.")]
    rows = [
        {"id": "1", "image": "a.jpg", "conversations": turns},
        {"id": "1", "image": ["a.jpg"], "conversations": more},
    ]
    write(tmp_path / "llava_instruct.json", rows)
    pictures(tmp_path / "train2017", "a.jpg")
    assert detect_format(tmp_path) == "llava"
    found, report = read(tmp_path)
    assert {(row.question, row.references) for row in found} == {
        ("", ("A dog on a lawn.",)),
        ("What color is it?", ("Brown.",)),
        ("Describe the image.", ("A dog.",)),
        ("Where is the dog?", ("On a lawn.",)),
    }
    assert {row.question_id for row in found} == {
        "",
        "llava_instruct.json[0].1",
        "llava_instruct.json[0].2",
        "llava_instruct.json[1].0",
    }
    assert not report


def test_broken_rows_are_reported(tmp_path, read):
    good = [turn("human", "Describe the image."), turn("gpt", "a dog")]
    rows = [
        {"id": 0, "image": "a.jpg", "conversations": good},
        {"id": 1, "conversations": good},
        {"id": 2, "image": ["a.jpg", "b.jpg"], "conversations": good},
        {"id": 3, "image": "a.jpg", "conversations": "none"},
        {"id": 4, "image": 4, "conversations": good},
        "row",
        {"id": 6, "image": "a.jpg", "conversations": [*good[:1], *good]},
        {"id": 7, "image": "a.jpg", "conversations": [good[1], good[0]]},
        {"id": 8, "image": "a.jpg", "conversations": [3, turn("human", None), turn("bot", "x")]},
        {"id": 9, "image": "a.jpg", "conversations": [turn("human", "<image>"), good[1]]},
    ]
    path = write(tmp_path / "x.json", rows)
    pictures(tmp_path, "a.jpg", "b.jpg")
    (row,), report = read(path)
    assert row.references == ("a dog", "a dog")
    problems = list_problems(report)
    assert problems[NO_IMAGE] == ["x.json[1]"]
    assert problems[SEVERAL_IMAGES] == ["x.json[2]"]
    assert problems[UNPAIRED_TURN] == ["x.json[6]", "x.json[7]", "x.json[7]"]
    assert report.problems["row that cannot be parsed"].count == 6
    assert report.problems["empty question"].count == 1


def test_several_files_are_an_error_that_names_them(tmp_path):
    rows = [{"image": "a.jpg", "conversations": []}]
    for name in ("detail_23k.json", "conversation_58k.json"):
        write(tmp_path / name, rows)
    with pytest.raises(DataError, match=r"conversation_58k\.json, detail_23k\.json"):
        detect_format(tmp_path)
