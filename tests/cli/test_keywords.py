"""Keywords: the nouns of captions, in rows, printed lines, texts and XMP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from blocked import HEAVY, ROOT, run_without
from folder_runs import rows

from captioner.cli.batch.keywords import find_keywords
from captioner.cli.batch.xmp import read_packet
from captioner.cli.batch.xmp_properties import read_text

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(scope="session")
def checkpoint(vqa_checkpoint: str) -> str:
    return vqa_checkpoint


def label(caption: str) -> list[str]:
    """Return keywords of a caption of the checkpoint, which has no nouns."""
    return ["dog", caption[:3]]


@pytest.fixture
def labels(monkeypatch):
    monkeypatch.setattr("captioner.cli.batch.runner.find_keywords", label)


@pytest.mark.parametrize(
    ("caption", "keywords"),
    [
        ("two dogs play with a tennis ball in the grass", "dog, tennis ball, grass"),
        ("A group of people are walking on the beach.", "person, beach"),
        ("a picture of a cat sitting on top of a table", "cat, table"),
        ("men and women wearing glasses", "man, woman, glasses"),
        ("a dog with a stick in its mouth", "dog, stick"),
        ("a herd of sheep under a cloudy sky", "herd, sheep, sky"),
        ("a boy jumps over a dog and another dog", "boy, dog"),
        ("a frobnicator on the left side of a couch", "frobnicator, couch"),
        ("there is no person in the room", "room"),
        ("jumping high", ""),
        ("", ""),
    ],
)
def test_keywords_are_the_nouns_of_a_caption(caption, keywords):
    assert ", ".join(find_keywords(caption)) == keywords


def test_rows_and_lines_have_keywords(run, photos, labels):
    captions = run("photos/0.png", "photos/1.png")[1]
    expected = []
    for line in captions:
        expected.append(f"{line}\t{', '.join(label(line.split(chr(9))[1]))}")
    assert run("photos/0.png", "photos/1.png", "--keywords")[1] == expected
    only = [f"{line.split(chr(9))[0]}\t{line.split(chr(9))[2]}" for line in expected]
    assert run("photos/0.png", "photos/1.png", "--keywords-only")[1] == only
    run("photos/0.png", "photos/1.png", "--keywords", "--output", "out.jsonl")
    run("photos/0.png", "photos/1.png", "--keywords", "--output", "out.csv")
    for row, line, cells in zip(rows(), expected, rows("out.csv"), strict=True):
        assert ", ".join(row["keywords"]) == cells["keywords"] == line.split("\t")[2]
    row = json.loads(run("photos/0.png", "--keywords-only", "--jsonl")[1][0])
    assert row["keywords"] == rows()[0]["keywords"]
    assert row["caption"] == rows()[0]["caption"]


def test_keywords_take_the_place_of_the_caption_in_texts_and_xmp(run, photos, labels):
    words = ("photos", "--keywords-only", "--sidecar", "--xmp-sidecar", "--output", "out.csv")
    assert run(*words)[0] == 0
    for row in rows("out.csv"):
        assert Path(row["image"]).with_suffix(".txt").read_text() == row["keywords"] + "\n"
        packet = Path(row["image"] + ".xmp").read_bytes()
        assert read_text(packet) == ""
        for keyword in row["keywords"].split(", "):
            assert f"<rdf:li>{keyword}</rdf:li>".encode() in packet
    # The text of the former content is replaced, although it is not the caption.
    Path("photos/0.png").write_bytes(Path("photos/2.png").read_bytes())
    assert run(*words, "--resume")[0] == 0
    assert Path("photos/0.txt").read_text() == Path("photos/2.txt").read_text()


def test_copies_have_keywords(run, photos, labels):
    assert run("photos/0.png", "--keywords", "--write-xmp")[0] == 0
    packet = read_packet(Path("captioned/0.png").read_bytes())
    assert b"<dc:subject>" in packet
    assert read_text(packet)


def test_rows_with_and_without_keywords_are_not_mixed(run, photos, labels):
    assert run("photos", "--output", "out.jsonl")[0] == 0
    status, _, err = run("photos", "--output", "out.jsonl", "--resume", "--keywords")
    assert (status, "keywords None, not True" in err) == (1, True)


@pytest.mark.slow
def test_keywords_need_no_library_for_training():
    code = "from captioner.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ("caption", ROOT / "examples/beach.jpg", "--keywords")
    done = run_without(code, *words, blocked=HEAVY)
    assert done.stdout == "a group of people are walking on the beach\tperson, beach\n", done.stderr
