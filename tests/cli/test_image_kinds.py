"""The kinds of images in the output of generate.py."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from kind_heads import IMAGES, KIND_OF_IMAGES, add_kind_head
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

from captioner.cli import generate

pytestmark = pytest.mark.usefixtures("working_folder")
DRAWING = (
    "generate.py: photos/4.png: looks like a drawing, not a photograph;"
    " its description may be wrong"
)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(add_kind_head(make_vqa_checkpoint(tmp_path_factory.mktemp("kinds") / "best")))


@pytest.fixture(autouse=True)
def photos(working_folder: Path) -> None:
    folder = working_folder / "photos"
    folder.mkdir()
    for number, image in enumerate(IMAGES):
        image.save(folder / f"{number}.png")


def test_a_message_names_an_image_that_is_no_photograph(run, vqa_checkpoint, capsys):
    status, out, err = run("photos/4.png")
    assert (status, err.splitlines()) == (0, [DRAWING])
    # The same model without the head.
    assert generate.main(["photos/4.png", "--checkpoint", vqa_checkpoint]) == 0
    assert capsys.readouterr() == ("\n".join([*out, ""]), "")
    status, _, err = run("photos/0.png")
    assert (status, err) == (0, "")


def test_one_message_names_the_images_of_a_folder(run, vqa_checkpoint, capsys):
    status, out, err = run("photos")
    assert status == 0
    assert err.splitlines() == [
        "generate.py: 4 images do not look like photographs; their descriptions may be wrong:"
        " photos/2.png (text), photos/3.png (text), photos/4.png (drawing), ..."
    ]
    assert generate.main(["photos", "--checkpoint", vqa_checkpoint]) == 0
    assert capsys.readouterr() == ("\n".join([*out, ""]), "")


@pytest.mark.parametrize(
    "words", [("--question", QUESTIONS[0]), ("--score", "a dog"), ("--stream",)]
)
def test_messages_of_answers_scores_and_streams(run, words):
    status, _, err = run("photos/4.png", *words)
    assert (status, err.splitlines()) == (0, [DRAWING])


def test_the_message_comes_before_typed_questions(run, type_in):
    type_in(f"{QUESTIONS[0]}\n{QUESTIONS[1]}\n")
    status, out, err = run("photos/4.png", "--ask")
    assert (status, len(out)) == (0, 2)
    assert err.count(DRAWING) == 1


def test_json_and_csv_have_the_kind_and_its_probability(run):
    _, lines, _ = run("photos", "--jsonl")
    records = [json.loads(line) for line in lines]
    assert [record["kind"] for record in records] == KIND_OF_IMAGES
    assert all(1 / 3 < record["kind_probability"] <= 1 for record in records)
    for name in ("out.jsonl", "out.csv"):
        assert run("photos", "--output", name)[0] == 0
    written = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert all(row.items() >= one.items() for row, one in zip(written, records, strict=True))
    with open("out.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for key in ("kind", "kind_probability"):
        assert [row[key] for row in rows] == [str(record[key]) for record in records]


def test_answers_have_the_kind_of_their_image(run):
    _, lines, _ = run("photos", "--question", QUESTIONS[0], "--jsonl")
    assert [json.loads(line)["kind"] for line in lines] == KIND_OF_IMAGES
