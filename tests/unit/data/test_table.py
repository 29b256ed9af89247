"""The Arrow table of a data set: cache, light imports and clean stdout."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from caption_sets import make_csv, make_jsonl
from data_files import json_lines, list_problems, pictures, write, write_lines
from drawn_images import draw
from question_sets import content, make_mixed

from captioner.data import (
    read_dataset,
)
from captioner.errors import DataError, SplitError


def test_cache_is_used_until_row_or_image_changes(tmp_path, read):
    make_jsonl(tmp_path)
    cache = tmp_path / "cache"

    def table_file():
        table, report = read_dataset(tmp_path, cache_dir=cache)
        return table.cache_files[0]["filename"], len(table), report

    first, count, _ = table_file()
    written = os.stat(first).st_mtime_ns
    again, _, _ = table_file()
    assert (again, os.stat(again).st_mtime_ns, count) == (first, written, 2)
    (tmp_path / "p" / "a.jpg").unlink()
    without, count, report = table_file()
    assert (without != first, count, bool(report)) == (True, 1, True)
    _, _, report = table_file()
    assert report.problems["missing image"].count == 1, "a cached table must not hide its report"
    own = tmp_path / "own.jsonl"
    write(own, own.read_text(encoding="utf-8").replace("cat", "bat"))
    assert table_file()[0] not in (first, without)


def test_unwritable_cache_is_data_error(tmp_path):
    make_csv(tmp_path)
    with pytest.raises(DataError, match="HF_HOME"):
        read_dataset(tmp_path, cache_dir=tmp_path / "own.csv" / "cache")


def test_import_is_light_and_stdout_stays_empty(tmp_path):
    make_csv(tmp_path)
    code = (
        "import sys, captioner.data as data\n"
        "assert not {'torch', 'datasets'} & set(sys.modules)\n"
        "data.read_dataset(sys.argv[1], cache_dir=sys.argv[2])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "cache")]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.fixture
def generator_calls(monkeypatch):
    """Replace `captioner.data.caption_questions`; return the list of calls."""
    calls = []

    def questions_from_captions(examples, *, seed=0):
        examples = list(examples)
        calls.append((examples, seed))
        return [
            replace(e, references=(text,), question=f"{seed}?", question_id=f"{e.image_id}#{i}")
            for e in examples
            for i, text in enumerate(e.references)
        ]

    module = ModuleType("captioner.data.caption_questions")
    module.questions_from_captions = questions_from_captions
    monkeypatch.setitem(sys.modules, "captioner.data.caption_questions", module)
    monkeypatch.setattr("captioner.data.caption_questions", module, raising=False)
    return calls


def test_captions_become_questions_and_questions_remain(tmp_path, read, generator_calls):
    make_mixed(tmp_path)
    rows, report = read(tmp_path, splits=None, questions=True, seed=5)
    assert content(rows) == {
        "x.jsonl:3": ("train", "kept?", "yes"),
        "a.jpg#0": ("train", "5?", "one"),
        "a.jpg#1": ("train", "5?", "two"),
        "b.jpg#0": ("val", "5?", "three"),
    }
    assert rows[0].question_type == "mine"
    with pytest.raises(SplitError):
        read(tmp_path, splits="test", questions=True)
    ((given, seed),) = generator_calls  # one call for the checked captions of all splits
    assert ([e.image_id for e in given], seed) == (["a.jpg", "b.jpg"], 5)
    assert list_problems(report) == {"missing image": [str(tmp_path / "c.jpg")]}
    rows, _ = read(tmp_path, splits="val", questions=True)
    assert content(rows) == {"b.jpg#0": ("val", "0?", "three")}
    assert not any(row.question for row in read(tmp_path, splits="val")[0]), "off unless asked for"


def test_cache_of_made_questions_is_used_until_they_change(tmp_path, generator_calls):
    make_mixed(tmp_path)

    def table_file(**options):
        table, _ = read_dataset(tmp_path, cache_dir=tmp_path / "cache", **options)
        return table.cache_files[0]["filename"], table["question"][-1]

    captions, _ = table_file()
    first, _ = table_file(questions=True)
    written = os.stat(first).st_mtime_ns
    assert table_file(questions=True)[0] == first
    assert os.stat(first).st_mtime_ns == written
    other, question = table_file(questions=True, seed=1)
    assert question == "1?"
    assert len({captions, first, other}) == 3
    assert table_file()[0] == captions


def test_data_set_without_questions_is_data_error(tmp_path, read, generator_calls):
    write(tmp_path / "x.jsonl", json_lines({"image": "a.jpg", "captions": ["a"]}))
    with pytest.raises(DataError, match=r"no usable example.*missing image: 1"):
        read(tmp_path, questions=True)
    assert generator_calls == [([], 0)]
    pictures(tmp_path, "a.jpg")
    sys.modules["captioner.data.caption_questions"].questions_from_captions = (
        lambda examples, *, seed: []
    )
    with pytest.raises(DataError, match="its captions or tags give no question"):
        read(tmp_path, questions=True)


def test_read_dataset_returns_report(tmp_path):
    draw("red", "circle", "left").save(tmp_path / "a.png")
    lines = ['{"image": "a.png", "text": "a dog"}', '{"image": "b.png", "text": "a cat"}']
    write_lines(tmp_path / "own.jsonl", lines)
    table, report = read_dataset(tmp_path, cache_dir=tmp_path / "cache")
    assert len(table) == 1
    assert (report.rows, report.used["train"], report.dropped) == (2, 1, 1)
