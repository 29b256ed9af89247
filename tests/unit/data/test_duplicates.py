"""Groups of files with equal bytes, and how the held-out split treats them."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from datasets import Dataset
from drawn_images import make_flickr

from captioner.config import SourceConfig, load_config
from captioner.data import Report
from captioner.data.duplicates import LEAKED, group_equal_files
from captioner.data.held_out_rows import ASKED_BEFORE, hold_out
from captioner.data.splits import read_splits
from captioner.errors import DataError


def test_groups_have_equal_bytes(tmp_path):
    rng = random.Random(0)
    contents = [rng.randbytes(n) for n in (10, 10, 5000, 5000, 0)]
    contents.append(b"x" + contents[2][1:])  # equal length and equal end
    names = {}
    for number, place in enumerate([0, 1, 2, 3, 4, 5, 2, 0, 2, 4]):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(contents[place])
        names.setdefault(place, []).append(str(path))
    paths = [str(path) for path in tmp_path.iterdir()]
    missing = [str(tmp_path / "missing"), "no\0name"]
    found = group_equal_files([*paths, *missing, *paths])
    expected = [sorted(group) for group in names.values() if len(group) > 1]
    assert sorted(map(sorted, found)) == sorted(expected)


def test_only_files_of_equal_size_and_end_are_read(tmp_path, monkeypatch):
    opened = []
    for number in range(6):
        (tmp_path / str(number)).write_bytes(bytes(100 + number % 5) + bytes([number]))
    import captioner.data.duplicates as module

    def counting(path):
        opened.append(Path(path).name)
        return original(path)

    original = module.file_digest
    monkeypatch.setattr(module, "file_digest", counting)
    assert group_equal_files(str(tmp_path / str(n)) for n in range(6)) == []
    assert opened == []


def copies(root: Path, pairs: int) -> Dataset:
    root.mkdir(exist_ok=True)
    rows = []
    for number in range(pairs):
        for name in (f"{number}.jpg", f"copy_{number}.jpg"):
            (root / name).write_bytes(bytes([number]) * 50)
            rows.append({"image": str(root / name), "image_id": name})
            rows[-1] |= {"question": "", "question_id": ""}
    random.Random(1).shuffle(rows)
    return Dataset.from_list(rows)


@pytest.mark.parametrize("seed", range(5))
def test_equal_images_are_held_out_together(tmp_path, seed):
    rows = copies(tmp_path, 12)
    parts = hold_out(rows, SourceConfig("x", val_share=0.3), seed, DataError("too few"))
    train, val = ({Path(p).name.removeprefix("copy_") for p in part["image"]} for part in parts)
    assert not train & val
    assert train | val == {f"{n}.jpg" for n in range(12)}


def test_single_group_of_equal_images_cannot_be_held_out(tmp_path):
    with pytest.raises(DataError, match="too few"):
        hold_out(copies(tmp_path, 1), SourceConfig("x"), 0, DataError("too few"))


def test_equal_images_in_train_and_val_are_reported(tmp_path):
    data = make_flickr(tmp_path / "data", train=(0, 1), val=(2, 3))
    folder = data / "Flicker8k_Dataset"
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes())
    *_, report = read_splits(load_config(None, [f"data.root={data}"]))
    assert report.problems[LEAKED].count == 1
    assert report.problems[LEAKED].names == ["2.png = 1.png"]


def test_same_split_for_train_and_val_is_not_reported(tmp_path):
    data = make_flickr(tmp_path / "data")
    words = [f"data.root={data}", "data.val_splits=[train]"]
    *_, report = read_splits(load_config(None, words))
    assert LEAKED not in report.problems


def test_held_out_question_of_training_is_reported():
    rows = [
        {
            "image": f"{image}.jpg",
            "image_id": f"{image}.jpg",
            "question": "who?" if number == 0 else "what?",
            "question_id": f"{image}:{number}",
        }
        for image in range(20)
        for number in range(4)
    ]
    report = Report()
    source = SourceConfig("x", hold_out="question", val_share=0.3)
    train, val = hold_out(Dataset.from_list(rows), source, 0, DataError("too few"), report)
    left_out = len(rows) - len(train) - len(val)
    assert left_out > 0
    assert report.problems[ASKED_BEFORE].count == left_out


def test_single_image_is_an_error_that_names_it(tmp_path):
    data = make_flickr(tmp_path / "data", train=(0,))
    with pytest.raises(DataError, match=r"holds a single image \(0\.png\)") as caught:
        read_splits(load_config(None, [f"data.root={data}"]))
    assert "split" not in str(caught.value).split("data.val_splits")[0]
    tasks, train, val, _ = read_splits(
        load_config(None, [f"data.root={data}", "data.val_splits=[train]"])
    )
    assert (len(tasks), len(train), len(val)) == (1, 1, 1)


def test_two_equal_images_are_an_error(tmp_path):
    data = make_flickr(tmp_path / "data", train=(0, 1))
    folder = data / "Flicker8k_Dataset"
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(DataError, match="holds 2 images of equal bytes"):
        read_splits(load_config(None, [f"data.root={data}"]))


def test_images_beyond_limit_are_reported(tmp_path):
    data = make_flickr(tmp_path / "data", train=range(5), val=(5,))
    *_, report = read_splits(load_config(None, [f"data.root={data}", "data.limit=2"]))
    assert report.problems["rows beyond data.limit=2"].names == ["3 images of train"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_symbolic_link_equals_its_file(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert len(group_equal_files([str(tmp_path / "a"), str(tmp_path / "b")])) == 1
