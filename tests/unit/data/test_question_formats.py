"""Readers of question formats: each format by split, by file and damaged."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from pathlib import Path

import pytest
from data_files import write
from question_sets import (
    MAKERS,
    content,
)

from captioner.data import READERS, detect_format
from captioner.errors import DataError, SplitError


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_is_detected_and_read(name, tmp_path, read):
    make, wanted = MAKERS[name]
    make(tmp_path)
    assert [n for n, reader in READERS.items() if reader.find(tmp_path)] == [name]
    assert detect_format(tmp_path) == name
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == wanted
    assert list(content(rows)) == list(wanted), "in the order of the files"
    assert all(Path(row.image).is_file() for row in rows)
    assert not report, report.summary()


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_by_split_and_without_images(name, tmp_path, read):
    make, wanted = MAKERS[name]
    make(tmp_path)
    for split in {value[0] for value in wanted.values()}:
        rows, _ = read(tmp_path, format=name, splits=split)
        assert content(rows) == {k: v for k, v in wanted.items() if v[0] == split}
    with pytest.raises(SplitError, match=r"no split other; it has .*train \("):
        read(tmp_path, splits=("train", "other"))
    gone = [path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".png")]
    for picture in gone:
        picture.unlink()
    # A missing image counts once for all its questions.
    with pytest.raises(DataError, match=rf"no usable example.*missing image: {len(gone)} "):
        read(tmp_path, splits=None)
    rows, report = read(tmp_path, splits=None, check_images=False)
    assert content(rows) == wanted
    assert not report


@pytest.mark.parametrize("name", MAKERS)
def test_question_file_with_images_elsewhere(name, tmp_path, read):
    make, wanted = MAKERS[name]
    make(tmp_path / "data")
    elsewhere = tmp_path / "elsewhere"
    file = READERS[name].find(tmp_path / "data")[0]
    split = next(iter(wanted.values()))[0]
    with_images = file.parent if name in ("easy_vqa", "folder") else tmp_path / "data"
    for picture in [p for p in with_images.rglob("*") if p.suffix in (".jpg", ".png")]:
        tail = f"p/{picture.name}" if name == "jsonl" else picture.name
        write(elsewhere / tail, picture.read_bytes())
        picture.unlink()
    assert detect_format(file) == name
    rows, report = read(file, images=elsewhere, splits=split)
    assert [row.question for row in rows] == [v[1] for v in wanted.values() if v[0] == split]
    assert all(Path(row.image).is_relative_to(elsewhere) for row in rows)
    assert not report


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_files_give_rows_or_data_error(name, tmp_path, read):
    make, _ = MAKERS[name]
    make(tmp_path)
    files = [p for p in tmp_path.rglob("*") if p.suffix in (".json", ".jsonl", ".csv")]
    whole = {path: path.read_bytes() for path in files}
    rng = random.Random(name)
    outcomes = Counter()
    for _ in range(30):
        path = rng.choice(files)
        data = bytearray(whole[path])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data) + 1)
            junk = [b"", b'"', b"\0", b"\xff", b"\n", b",", b"{", b"null", b"[]", b"\r", b"1e999"]
            data[at : at + rng.randrange(3)] = rng.choice(junk)
        write(path, bytes(data[: rng.choice([len(data), rng.randrange(len(data) + 1)])]))
        with contextlib.suppress(DataError):
            rows, _ = read(tmp_path, format=name, splits=None)
            assert all(row.references and Path(row.image).is_file() for row in rows)
            assert len({row.question_id for row in rows if row.question}) == len(rows)
            outcomes["read"] += 1
        write(path, whole[path])
    assert outcomes["read"]
