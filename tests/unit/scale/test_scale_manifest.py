"""The record of a run: resume, damaged parts, and changes that are rejected."""

from __future__ import annotations

import json

import pytest

from captioner.errors import DataError
from captioner.scale.manifest import INPUTS, MANIFEST, RUN, Manifest, open_run, read_units
from captioner.scale.output_folder import LOCK, OutputFolder
from captioner.scale.shard_worker import Record
from captioner.scale.work_units import WorkUnit

UNITS = [WorkUnit("tar", f"/in/{i}.tar", f"10 {i}") for i in range(3)]
SETTINGS = {"num_captions": 1, "decoding": {"beam_size": 3}}
ORIGIN = {"captioner": "1"}


@pytest.fixture
def output(tmp_path):
    return OutputFolder(str(tmp_path / "out"))


def start(output, *, settings=SETTINGS, origin=ORIGIN, units=UNITS, resume=True):
    return open_run(output, settings, origin, units, resume=resume)


def publish(output, number, content=b"rows"):
    name = f"part-{number}"
    with output.new_part(name) as path, open(path, "wb") as file:
        file.write(content)
    digest, size = output.digest(name)
    return Record(number, UNITS[number].label, name, 4, 1, size, digest)


def restore(output, *, by_digest=False):
    manifest = Manifest(output)
    messages = list(manifest.restore(len(UNITS), by_digest=by_digest))
    manifest.close()
    return manifest, messages


def test_a_new_run_needs_an_empty_folder(output, tmp_path):
    assert start(output, resume=False) == 3
    with pytest.raises(DataError, match="is not empty; add --resume"):
        start(output, resume=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    with pytest.raises(DataError, match=r"is not empty and has no run\.json"):
        start(OutputFolder(str(tmp_path / "other")))


def test_a_second_run_on_a_folder_is_rejected(output, tmp_path):
    folder = str(tmp_path / "out")
    with output.locked():
        assert start(output, resume=False) == 3  # the lock does not count as a file
        with pytest.raises(DataError, match="another run writes to this folder"):
            OutputFolder(folder).locked().__enter__()
    assert not (tmp_path / "out" / LOCK).exists()
    (tmp_path / "out" / LOCK).touch()  # left by a run that was killed
    with OutputFolder(folder).locked():
        assert start(output) == 3


def test_a_run_that_ended_while_it_was_set_up_starts_again(output, tmp_path):
    assert start(output) == 3  # nothing to resume
    (tmp_path / "out" / RUN).unlink()
    assert start(output) == 3


def test_resume_skips_what_is_recorded(output):
    start(output)
    manifest = Manifest(output)
    manifest.add(publish(output, 1))
    manifest.add(publish(output, 1))  # a repeated task
    manifest.add(Record(2, UNITS[2].label, error="damaged"))
    manifest.close()
    assert len(output.read(MANIFEST).splitlines()) == 2
    assert start(output) == 3
    restored, messages = restore(output, by_digest=True)
    assert (restored.finished, restored.rows, restored.errors) == ({1}, 4, 1)
    assert messages == []
    assert list(read_units(output, restored.finished)) == [(0, UNITS[0]), (2, UNITS[2])]


@pytest.mark.parametrize(
    ("content", "by_digest", "problem"),
    [
        (None, False, "part-1 is missing"),
        (b"row", False, "part-1 has 3 bytes, not 4"),
        (b"rowz", True, "part-1 has changed"),
        (b"rowz", False, None),
    ],
)
def test_damaged_parts_are_removed_and_done_again(output, tmp_path, content, by_digest, problem):
    start(output)
    manifest = Manifest(output)
    manifest.add(publish(output, 1))
    manifest.close()
    part = tmp_path / "out" / "parts" / "part-1"
    part.unlink()
    if content is not None:
        part.write_bytes(content)
    restored, messages = restore(output, by_digest=by_digest)
    assert restored.finished == (set() if problem else {1})
    assert messages == ([f"{problem}; its shard is processed again"] if problem else [])
    assert part.exists() == (problem is None)


def test_temporary_files_are_removed(output, tmp_path):
    start(output)
    stale = tmp_path / "out" / "parts" / ".tmp-part-0-abc"
    stale.write_bytes(b"half")
    restore(output)
    assert not stale.exists()


def test_a_partial_record_is_removed(output, tmp_path):
    start(output)
    manifest = Manifest(output)
    manifest.add(publish(output, 1))
    manifest.close()
    with (tmp_path / "out" / MANIFEST).open("ab") as file:
        file.write(b'{"unit": 2, "par')
    restored, _ = restore(output)
    assert restored.finished == {1}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"settings": SETTINGS | {"num_captions": 2}},
         "made with --num-captions 1, not with --num-captions 2"),
        ({"settings": SETTINGS | {"checkpoint": ["x"]}},
         r"without --checkpoint, not with --checkpoint \['x'\]"),
        ({"settings": SETTINGS | {"decoding": {}}}, "with --beam-size 3, not without"),
        ({"settings": {"decoding": {}, "answering": {"beam_size": 2}, "question": "q"}},
         "made without --question, not with --question 'q'"),
        ({"settings": SETTINGS | {"columns": {"key": "id"}}}, "not with --key-column 'id'"),
        ({"settings": SETTINGS | {"images": False}}, "without --no-images, not with --no-images"),
        ({"units": UNITS[:2]}, "shard 2: /in/2.tar is missing"),
        ({"units": [*UNITS, WorkUnit("tar", "/in/3.tar", "1")]}, "shard 3: /in/3.tar is new"),
        ({"units": [WorkUnit("tar", "/in/0.tar", "11 0"), *UNITS[1:]]}, "/in/0.tar has changed"),
        ({"units": UNITS[::-1]}, "shard 0: it was /in/0.tar, is /in/2.tar"),
    ],
)  # fmt: skip
def test_changes_are_rejected_and_named(output, change, problem):
    start(output)
    with pytest.raises(DataError, match=problem):
        start(output, **change)
    assert start(output) == 3


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    output = OutputFolder(str(tmp_path / "file" / "out"))
    with pytest.raises(DataError, match=r"/file/out: cannot be read or written \(Not a directory"):
        output.locked().__enter__()


def test_each_origin_is_recorded(output):
    start(output)
    start(output)
    start(output, origin={"captioner": "2"})
    run = json.loads(output.read(RUN))
    assert [origin["captioner"] for origin in run["origins"]] == ["1", "2"]
    assert len(output.read(INPUTS).splitlines()) == run["shards"] == 3


GOOD = {"unit": 1, "input": "x", "part": "part-000001.tar", "rows": 4, "errors": 1, "bytes": 4,
        "sha256": "0", "seconds": 0.5, "error": ""}  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [{}, [], 7, None, {"unit": 1}, *(dict(GOOD.items() - {(k, GOOD[k])}) for k in GOOD),
     *(GOOD | {k: []} for k in GOOD), GOOD | {"unit": 3}, GOOD | {"unit": -1}, GOOD | {"rows": -1},
     GOOD | {"unit": True}, GOOD | {"part": "../x"}, GOOD | {"part": "part-000002.tar"}],
)  # fmt: skip
def test_damaged_records_are_errors(output, record):
    start(output)
    output.write(MANIFEST, f"{json.dumps(GOOD)}\n{json.dumps(record)}\n".encode())
    with pytest.raises(DataError, match=r"line 2 of manifest\.jsonl is damaged; remove this line"):
        restore(output)


@pytest.mark.parametrize("line", [b"no json", b"\xff", b""])
def test_lines_that_are_no_json_are_errors(output, line):
    start(output)
    output.write(MANIFEST, line + b"\n")
    with pytest.raises(DataError, match=r"line 1 of manifest\.jsonl is damaged"):
        restore(output)


@pytest.mark.parametrize("data", [b"no json", b"[]", b"{}", b'{"settings": {}, "origins": {}}',
                                  b'{"settings": {"columns": 1}, "origins": [1], "shards": 3}',
                                  b'{"settings": {}, "origins": [1], "shards": "3"}'])  # fmt: skip
def test_a_damaged_run_file_is_an_error(output, data):
    start(output)
    output.write(RUN, data)
    with pytest.raises(DataError, match=r"run\.json is no record of a run; restore run\.json"):
        start(output)


@pytest.mark.parametrize("line", ["no json", "{}", "[]", "7", '{"kind": "tar", "members": []}',
    '{"kind": "x", "url": "", "stamp": "", "members": []}', '{"kind": "images", "url": "a",'
    ' "stamp": "", "members": []}', '{"kind": "tar", "url": 1, "stamp": "", "members": []}',
    "\xff"])  # fmt: skip
def test_a_damaged_list_of_inputs_is_an_error(output, line):
    start(output)
    lines = output.read(INPUTS).splitlines(keepends=True)
    output.write(INPUTS, b"".join([lines[0], line.encode("latin-1") + b"\n", lines[2]]))
    problem = r"inputs\.jsonl has no shard in line 2; restore inputs\.jsonl, or give another folder"
    with pytest.raises(DataError, match=problem):
        start(output)
    with pytest.raises(DataError, match=problem):
        list(read_units(output, set()))


def test_a_missing_or_truncated_list_of_inputs_is_an_error(output, tmp_path):
    start(output)
    output.write(INPUTS, output.read(INPUTS).splitlines(keepends=True)[0])
    with pytest.raises(DataError, match=r"inputs\.jsonl has 1 lines; run\.json records 3 shards"):
        start(output)
    (tmp_path / "out" / INPUTS).unlink()
    with pytest.raises(DataError, match=r"inputs\.jsonl is missing; restore inputs\.jsonl"):
        start(output)
