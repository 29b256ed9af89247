"""The file and the line of findings."""

from __future__ import annotations

import json
import os

import pytest
from quality_data import caption, write_set

from captioner.quality.audit import check_dataset

pytest.importorskip("imagehash")
pytest.importorskip("py3langid")


def list_places(path):
    audit = check_dataset(path, processes=1)
    return [(finding.kind, finding.place, finding.split) for finding in audit.findings]


@pytest.mark.parametrize("escape", [True, False])
@pytest.mark.parametrize(
    "name", ['a "b".jpg', "it's.jpg", "café 犬.jpg", "a, b; c|d#e.jpg", "a\\b.jpg", "no suffix"]
)
def test_lines_of_json_with_any_name(tmp_path, name, escape):
    path = write_set(tmp_path, images=4)
    (tmp_path / name).write_bytes(b"")
    row = {"image": name, "caption": 'a "red" café <b>sign</b>'}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=escape) + "\n")
    assert list_places(path) == [
        ("unreadable-image", "data.jsonl:5", "train"),
        ("markup", "data.jsonl:5", "train"),
    ]


def test_lines_of_csv_with_quoted_names(tmp_path):
    write_set(tmp_path, images=4)
    (tmp_path / 'a, "b".jpg').write_bytes(b"")
    path = tmp_path / "data.csv"
    path.write_text('image,caption\nimages/0.jpg,a dog\n"a, ""b"".jpg","a dog"\n')
    assert list_places(path)[0] == ("unreadable-image", "data.csv:3", "train")


def test_lines_of_texts_that_are_not_unicode(tmp_path):
    path = write_set(tmp_path, images=4)
    with path.open("ab") as file:
        file.write(b'{"image": "images/1.jpg", "caption": "\\ud83d"}\n')
        file.write(b'{"image": "images/2.jpg", "caption": "a caf\xe9"}\n')
    audit = check_dataset(path, processes=1)
    assert [f.to_record()["place"] for f in audit.findings] == ["data.jsonl:5", "data.jsonl:6"]
    assert [f.to_record()["text"] for f in audit.findings] == ["\\ud83d", "a caf\\udce9"]


def test_the_split_decides_among_lines_of_an_image(tmp_path):
    extra = [{"image": "images/9.jpg", "caption": caption(50), "split": "train"}]
    path = write_set(tmp_path, images=10, extra=extra)
    assert list_places(path) == [("split-leak", "data.jsonl:11", "train")]


def test_a_broken_link_is_a_missing_image(tmp_path):
    path = write_set(tmp_path, images=4)
    (tmp_path / "images" / "2.jpg").unlink()
    os.symlink("nowhere.jpg", tmp_path / "images" / "2.jpg")
    assert list_places(path) == [("missing-image", "data.jsonl:3", "train")]
