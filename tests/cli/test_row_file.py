"""Rows in a file: append, resume, truncate and replace."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from captioner.cli.batch.dedupe import AHEAD, compute_digest, describe_distinct
from captioner.cli.batch.error_list import ErrorList
from captioner.cli.batch.row_file import CAPTION_COLUMNS, FILE_COLUMNS, RowFile
from captioner.cli.batch.run_record import meta_path
from captioner.errors import DataError

ROWS = [
    {
        "image": "a.png",
        "caption": 'a "dog", running',
        "score": -0.5,
        "confidence": 0.6,
        "sha256": "0a" * 32,
    },
    {"image": "b\u2028 é.png", "error": "b: is text", "sha256": "0b" * 32},
    {"image": "c.png", "caption": "a cat", "score": -1.25, "same_as": "a.png", "sha256": "0a" * 32},
]


@pytest.fixture(params=["jsonl", "csv"])
def opened(request, tmp_path):
    """Return a function that opens a file of rows: (the RowFile, the messages)."""

    def call(*, resume: bool = True, retry: bool = False, settings=None):
        message = []
        file = RowFile(
            str(tmp_path / f"out.{request.param}"),
            columns=(*CAPTION_COLUMNS, *FILE_COLUMNS) if request.param == "csv" else None,
            settings=settings or {"beam_size": 3, "ban": ["x"]},
            resume=resume,
            retry=retry,
            notify=message.append,
        )
        return file, message

    return call


def write(opened, rows, **options) -> Path:
    file, message = opened(**options)
    with file:
        for row in rows:
            if not file.has(row["image"]):
                file.append(row)
    assert message == []
    return Path(file.path)


def test_appended_rows_are_written_at_once_and_read_back(opened):
    file, _ = opened(resume=False)
    for i, row in enumerate(ROWS):
        file.append(row)
        assert Path(file.path).read_text("utf-8").count("\n") == i + 1 + bool(file.columns)
        found = file.row(row["image"])
        assert found == (dict(zip(row, map(str, row.values()))) if file.columns else row)  # noqa: B905
    assert list(file.failed) == [ROWS[1]["image"]]
    file.close()


def test_a_truncated_file_is_completed_to_the_same_bytes(opened):
    path = write(opened, ROWS, resume=False)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        file, message = opened()
        assert bool(message) == (size > 0 and not whole[:size].endswith(b"\n")), size
        with file:
            for row in ROWS:
                if not file.has(row["image"]):
                    file.append(row)
        assert path.read_bytes() == whole


def test_only_an_invalid_last_line_is_removed(opened):
    path = write(opened, ROWS, resume=False)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 9 + b"\n")
    file, message = opened()
    file.close()
    assert path.read_bytes() == whole
    assert "incomplete" in message[0]
    path.write_bytes(whole + b"{}\n" + whole)
    with pytest.raises(DataError, match=rf"{path.name}:\d+: is not a row"):
        opened()


def test_an_existing_file_without_resume_is_an_error(opened):
    path = write(opened, ROWS, resume=False)
    before = path.read_bytes()
    with pytest.raises(DataError, match="--resume"):
        opened(resume=False)
    assert path.read_bytes() == before


def test_other_settings_are_refused_by_name(opened):
    path = write(opened, ROWS, resume=False)
    for settings, message in (
        ({"beam_size": 5, "ban": ["x"]}, "beam_size 3, not 5"),
        ({"ban": ["x"]}, "beam_size 3, not None"),
        ({"beam_size": 3, "ban": ["x"], "seed": 1}, "seed None, not 1"),
    ):
        with pytest.raises(DataError, match=message):
            opened(settings=settings)
    opened(settings={"ban": ("x",), "beam_size": 3})[0].close()
    Path(meta_path(str(path))).write_text("{")
    with pytest.raises(DataError, match=r"meta\.json is missing or damaged"):
        opened()


def test_retried_rows_replace_errors_in_place(opened):
    path = write(opened, ROWS, resume=False)
    good = ROWS[1] | {"caption": "a boat", "score": -1.0}
    del good["error"]
    file, _ = opened(retry=True)
    assert [file.has(row["image"]) for row in ROWS] == [True, False, True]
    assert set(file.known.values()) == {"a.png"}  # Rows with errors are not repeated.
    file.append(good)
    assert not file.has_failed(good["image"])
    file.close()
    retried = path.read_bytes()
    path.unlink()
    write(opened, [ROWS[0], good, ROWS[2]])
    assert retried == path.read_bytes()


def test_a_kill_between_retry_and_replacement_loses_nothing(opened):
    path = write(opened, ROWS, resume=False)
    file, _ = opened(retry=True)
    file.append(ROWS[1] | {"error": "", "caption": "a boat"})
    after_kill = path.read_bytes()
    assert after_kill.count(b"0b" * 32) == 2
    file.close()
    expected = path.read_bytes()
    path.write_bytes(after_kill)
    again, _ = opened()
    assert not again.failed
    again.close()
    assert path.read_bytes() == expected
    assert expected.count(b"0b" * 32) == 1


def test_a_line_cut_by_a_full_disk_affects_no_other_row(opened):
    path = write(opened, ROWS, resume=False)
    file, _ = opened(retry=True)
    file.append(ROWS[1] | {"error": "", "caption": "a boat"})
    with path.open("ab") as torn:
        torn.write(b"{")
    file.close()
    assert [row["image"] for row in ROWS] == list(opened()[0]._positions)
    assert b"a boat" in path.read_bytes()


def test_a_repeated_row_names_the_first(opened):
    file, _ = opened(resume=False)
    for row in ROWS[:2]:
        file.append(row)
    row = file.repeat("d.png", "a.png")
    assert (row["image"], row["same_as"], row["caption"]) == ("d.png", "a.png", ROWS[0]["caption"])
    assert row["sha256"] == ROWS[0]["sha256"]
    file.close()


def test_a_file_that_cannot_be_written_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no/out"):
        RowFile(
            str(tmp_path / "no" / "out"), columns=None, settings={}, resume=False, retry=False,
            notify=print,
        )  # fmt: skip
    with pytest.raises(DataError, match="no/errors"):
        ErrorList(str(tmp_path / "no" / "errors"))


@pytest.mark.parametrize("name", ["errors.txt", "errors.jsonl"])
def test_each_error_has_one_line(tmp_path, name):
    path = tmp_path / name
    with ErrorList(str(path)) as errors:
        errors.add("a.png", "a.png: is\ntext")
        assert path.read_text().count("\n") == 1
    if name.endswith("l"):
        assert json.loads(path.read_text()) == {"image": "a.png", "error": "is\ntext"}
    else:
        assert path.read_text() == "a.png\tis text\n"
    with ErrorList(None) as errors:
        errors.add("a.png", "nothing is written")


# Reading each content once


def test_files_with_equal_content_are_described_once_in_order(tmp_path):
    paths = []
    for i, content in enumerate([b"a", b"b", b"a", b"a", b"c", b"b"] * AHEAD):
        paths.append(str(tmp_path / f"{i}"))
        (tmp_path / f"{i}").write_bytes(content)
    paths.insert(3, str(tmp_path / "missing"))
    seen, known = [], {}

    def describe(sources):
        for source in sources:
            seen.append(source)
            yield f"of {source}"

    found = list(describe_distinct(paths, describe, known, name=str.upper))
    assert [path for path, _, _ in found] == paths
    assert seen == [paths[i] for i in (0, 1, 3, 5)]
    assert {path: result for path, _, result in found if result} == {p: f"of {p}" for p in seen}
    assert known[hashlib.sha256(b"b").digest()] == paths[1].upper()
    assert found[3][1] is None


def test_prefetching_is_limited(tmp_path):
    taken = []

    class Paths(list):
        def __iter__(self):
            for path in super().__iter__():
                taken.append(path)
                yield path

    paths = Paths(str(tmp_path / str(i)) for i in range(5 * AHEAD))
    found = describe_distinct(paths, lambda sources: (s for s in sources), {}, name=str)
    next(found)
    assert len(taken) <= AHEAD + 2
    found.close()


def test_only_regular_files_have_a_digest(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    assert compute_digest(str(tmp_path / "pipe")) is None
    assert compute_digest(str(tmp_path)) is None
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert compute_digest(str(tmp_path / "file")) == compute_digest(b"x" * 3_000_000)


# Failures before the first row


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_before_the_first_row_leaves_no_file(opened, tmp_path, exists):
    file, _ = opened(resume=False)
    file.close()
    for path in tmp_path.iterdir():
        path.unlink()
    if exists:
        Path(file.path).touch()
    for error in (DataError, KeyboardInterrupt):
        with pytest.raises(error), opened(resume=False)[0]:
            raise error
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b""] * exists


def test_a_failure_after_a_row_keeps_the_rows(opened, tmp_path):
    file, _ = opened(resume=False)
    file.append(ROWS[0])
    with pytest.raises(KeyboardInterrupt), file:
        raise KeyboardInterrupt
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 2
    with pytest.raises(KeyboardInterrupt), opened()[0]:
        raise KeyboardInterrupt
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_settings_that_cannot_be_written_leave_no_rows(opened, tmp_path):
    file, _ = opened(resume=False)
    with file:
        pass
    Path(file.path).unlink()
    Path(meta_path(file.path)).unlink()
    Path(meta_path(file.path)).mkdir()
    with pytest.raises(DataError, match="cannot be used"):
        opened(resume=False)
    assert [path.name for path in tmp_path.iterdir()] == [Path(meta_path(file.path)).name]


def test_a_failure_leaves_a_list_of_errors_only_if_it_has_one(tmp_path):
    path = tmp_path / "errors.txt"
    with pytest.raises(KeyboardInterrupt), ErrorList(str(path)):
        raise KeyboardInterrupt
    assert not path.exists()
    errors = ErrorList(str(path))
    errors.add("a.png", "is text")
    with pytest.raises(KeyboardInterrupt), errors:
        raise KeyboardInterrupt
    assert path.read_text() == "a.png\tis text\n"
