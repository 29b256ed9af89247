"""JSON files beside images."""

from __future__ import annotations

from data_files import list_problems, write

from captioner.data import detect_format
from captioner.data.formats.sidecar_json import NO_SIDECAR, SHARED_JSON


def add(root, name, row):
    write(root / f"{name}.json", row)
    write(root / f"{name}.jpg", b"no image")


def test_rows_have_the_keys_of_jsonl(tmp_path, read):
    add(tmp_path, "a", {"caption": "a dog", "weight": 0.5, "split": "val"})
    add(tmp_path, "train/b", {"captions": ["a cat", "two cats"], "image": "elsewhere.jpg"})
    add(tmp_path, "val/c", {"tags": "dog, cat", "id": 7})
    asked = [{"question": "what?", "answer": "a car"}, {"question": "how many?", "answer": 2}]
    add(tmp_path, "d", asked)
    assert detect_format(tmp_path) == "sidecar_json"
    rows, report = read(tmp_path, splits=None)
    assert not report, report.summary()
    assert {(r.image_id, r.split, r.references, r.tags, r.weights) for r in rows} == {
        ("a.jpg", "val", ("a dog",), None, (0.5,)),
        ("train/b.jpg", "train", ("a cat", "two cats"), None, ()),
        ("7", "val", (), ("dog", "cat"), ()),
        ("d.jpg", "train", ("a car",), None, ()),
        ("d.jpg", "train", ("2",), None, ()),
    }
    assert {row.question_id for row in rows} == {"", "d.json[0]", "d.json[1]"}


def test_labels_become_captions(tmp_path, read):
    add(tmp_path, "a", {"label": "rain"})
    (row,), _ = read(tmp_path, phrases=("the sound of {label}",))
    assert row.references == ("the sound of rain",)


def test_broken_files_are_reported(tmp_path, read):
    add(tmp_path, "a", {"caption": "a dog"})
    add(tmp_path, "b", "{")
    add(tmp_path, "c", "[3]")
    add(tmp_path, "d", {"caption": "x", "weight": -1})
    add(tmp_path, "e", b"\xff\xfe{}")
    write(tmp_path / "lost.json", {"caption": "of no image"})
    write(tmp_path / "bare.png", b"")
    write(tmp_path / "f.json", {"caption": "of two"})
    for name in ("f.jpg", "f.png"):
        write(tmp_path / name, b"")
    (row,), report = read(tmp_path)
    assert row.references == ("a dog",)
    problems = list_problems(report)
    assert problems["row that cannot be parsed"] == ["b.json", "c.json[0]", "e.json"]
    assert problems["weight that is neither 0 nor from 1e-6 to 1e6"] == ["d.json: -1"]
    assert problems[NO_SIDECAR] == ["bare.png", "f.jpg", "f.png"]
    assert problems[SHARED_JSON] == ["f.json: f.jpg, f.png"]
    assert problems["file left unread (give its path to read it)"] == [
        "lost.json (no image of its name)"
    ]


def test_texts_are_detected_before_json(tmp_path):
    add(tmp_path, "a", {"caption": "a dog"})
    write(tmp_path / "a.txt", "a dog")
    assert detect_format(tmp_path) == "texts"
