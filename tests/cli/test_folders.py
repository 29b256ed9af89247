"""Runs over many files: their rows, resuming and conflicting flags."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import sys
from pathlib import Path

import pytest
from folder_runs import rows
from tiny import picture
from tiny_vqa import QUESTIONS

from captioner.backends import input_reader
from captioner.cli import generate
from captioner.errors import ImageError
from captioner.images import load_image

pytestmark = pytest.mark.usefixtures("working_folder")


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def checkpoint(vqa_checkpoint: str) -> str:
    return vqa_checkpoint


def usage(capsys, *words: str) -> str:
    with pytest.raises(SystemExit, match="2"):
        generate.parse(list(words))
    return capsys.readouterr().err.splitlines()[-1]


# Failures before the first row


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_run_that_cannot_begin_leaves_no_file(capsys, checkpoint, photos, name, is_damaged):
    shutil.copytree(checkpoint, "model")
    if is_damaged:
        os.truncate("model/model.safetensors", 1000)
    words = ["photos", "--checkpoint", "model", "--output", name, "--errors-to", "errors.txt"]
    words += [] if is_damaged else ["--max-length", "900"]
    before = set(os.listdir())
    assert generate.main(words) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert set(os.listdir()) == before
    assert generate.main(["photos", "--checkpoint", checkpoint, "--output", name]) == 0


# Rows


def test_each_image_has_a_row_in_order(run, album):
    status, out, err = run(album, "--recursive", "--output", "out.jsonl")
    assert (status, out) == (3, [])
    assert err.count("\n") == 2
    found = {row["image"]: row for row in rows()}
    names = ["0.png", "1.png", "2.png", "bad.png", "sub/twin.png", "sub/x.jpg", "sub/z.png"]
    assert list(found) == [f"photos/{name}" for name in names]
    plain = [json.loads(line) for line in run(album, "photos/sub", "--jsonl")[1]]
    for row in plain:
        kept = {k: v for k, v in found[row["image"]].items() if k not in ("sha256", "same_as")}
        assert kept == row


def test_the_same_bytes_are_captioned_once(run, album, encoded):
    run(album, "--recursive", "--output", "out.jsonl", "photos/./0.png", "photos/0.png")
    assert sum(encoded) == 4
    same = {row["image"]: row["same_as"] for row in rows() if "same_as" in row}
    assert same == {
        "photos/./0.png": "photos/0.png",
        "photos/sub/twin.png": "photos/1.png",
        "photos/sub/z.png": "photos/bad.png",
    }
    found = {row["image"]: row for row in rows()}
    assert found["photos/sub/twin.png"]["caption"] == found["photos/1.png"]["caption"]
    assert found["photos/sub/z.png"]["error"].startswith("photos/sub/z.png: is text")
    assert len(found) == len(rows())  # Files that are named twice have one row.


def test_csv_and_jsonl_have_the_same_values(run, album):
    options = (album, "--recursive", "--output")
    run(*options, "out.jsonl")
    run(*options, "out.csv")
    run(*options, "also", "--csv")
    assert Path("out.csv").read_bytes() == Path("also").read_bytes()
    for one, other in zip(rows(), rows("out.csv"), strict=True):
        assert {k: v for k, v in other.items() if v} == {k: str(v) for k, v in one.items()}
    status, out, _ = run(album, "--csv")
    assert (status, out[0]) == (3, "image,caption,score,confidence,error,kind,kind_probability")
    assert [line.split(",")[:3] for line in out[1:3]] == [
        [row["image"], row["caption"], row["score"]] for row in rows("out.csv")[:2]
    ]


def test_a_name_with_line_breaks_has_one_row_and_resumes(run, photos):
    picture(5).save(photos / "new\nline, and\ttab \u2028.png")
    for name in ("out.csv", "out.jsonl"):
        assert run("photos", "--output", name)[0] == 0
        before = rows(name)
        assert len(before) == 4
        assert run("photos", "--output", name, "--resume") == (0, [], "")
        assert rows(name) == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_name_that_is_not_utf8_has_a_row_and_resumes(run, photos, name):
    for i, odd in enumerate((b"caf\xe9.gif", b"\xe9.png")):
        picture(5 + i).save(photos / "new.gif")
        os.rename(photos / "new.gif", os.path.join(os.fsencode(photos), odd))
    Path("photos/\udce9.png").write_bytes(b"bad")
    options = ("photos", "--output", name, "--resume", "--errors-to", "errors.jsonl")
    texts = ("--sidecar", "--write-xmp")
    assert run(*options, *texts)[0] == 3
    before = rows(name)
    assert "photos/caf\\xe9.gif" in [row["image"] for row in before]
    assert "photos/caf\\xe9.gif" in [row["image"] for row in rows("errors.jsonl")]
    assert run(*options, *texts) == (3, [], "")
    assert rows(name) == before


def test_stdin_has_a_row(run, photos, monkeypatch):
    data = (photos / "1.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run("-", "photos/1.png", "--output", "out.jsonl")[0] == 0
    assert [(row["image"], row.get("same_as")) for row in rows()] == [
        ("-", None),
        ("photos/1.png", "-"),
    ]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_one_question_gives_a_row_per_image(run, album, name):
    asked = ("--question", QUESTIONS[0])
    expected = [json.loads(x) for x in run(album, "photos/sub", *asked, "--jsonl")[1]]
    options = (album, "photos/sub", *asked, "--batch-size", 2, "--output", name)
    assert run(*options)[0] == 3
    for row, other in zip(rows(name), expected, strict=True):
        assert {key: str(row[key]) for key in other} == {k: str(v) for k, v in other.items()}
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[:-150])
    run(*options, "--resume")
    assert Path(name).read_bytes() == whole
    status, _, err = run(album, "--question", QUESTIONS[1], "--output", name, "--resume")
    assert (status, "question" in err) == (1, True)


# Resuming


def test_an_existing_file_needs_resume_and_keeps_its_rows(run, album, encoded):
    options = (album, "--recursive", "--output", "out.jsonl")
    run(*options)
    whole, seen = Path("out.jsonl").read_bytes(), sum(encoded)
    status, _, err = run(*options)
    assert (status, err.count("\n")) == (1, 1)
    assert "--resume" in err
    assert run(*options, "--resume")[0] == 3  # The errors remain.
    picture(9).save("photos/9.png")
    shutil.copy("photos/0.png", "photos/zero.png")
    run(*options, "--resume")
    assert Path("out.jsonl").read_bytes().startswith(whole)
    new = rows()[7:]
    assert [(row["image"], row.get("same_as")) for row in new] == [
        ("photos/9.png", None),
        ("photos/zero.png", "photos/0.png"),
    ]
    assert sum(encoded) == seen + 1


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_truncated_file_resumes_to_the_same_bytes(run, album, name):
    options = (album, "--recursive", "--batch-size", 1, "--output", name)
    run(*options)
    whole = Path(name).read_bytes()
    for size in random.Random(0).sample(range(len(whole)), 8):
        Path(name).write_bytes(whole[:size])
        _, _, err = run(*options, "--resume")
        assert Path(name).read_bytes() == whole
        assert ("incomplete" in err) == (size > 0 and whole[size - 1 : size] != b"\n")


def test_retry_failed_replaces_rows_with_errors(run, album, monkeypatch):
    options = (album, "--recursive", "--output", "out.jsonl", "--resume")
    fail = {"photos/bad.png", "photos/sub/z.png"}
    with monkeypatch.context() as patch:  # For example, a plugin is not installed.

        def load(source, **rest):
            if source in fail:
                raise ImageError(f"{source}: cannot be read today")
            return load_image(source, **rest)

        picture(8).save("photos/bad.png")
        shutil.copy("photos/bad.png", "photos/sub/z.png")
        patch.setattr(input_reader, "load_image", load)
        assert run(*options)[0] == 3
    assert run(*options)[0] == 3  # The files have not changed.
    assert run(*options, "--retry-failed") == (0, [], "")
    retried = Path("out.jsonl").read_bytes()
    os.remove("out.jsonl")
    run(*options)
    assert retried == Path("out.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--beam-size", 2), "beam_size None, not 2"),
        (("--ban", "dog"), "ban"),
        (("--num-captions", 2), "num_captions"),
        (("--tta", 2), "tta None, not 2"),
        (("--alt-text",), "alt_length"),
        (("--sidecar",), "sidecar"),
        (("--checkpoint", "bundled"), "checkpoint"),
    ],
)
def test_resuming_with_other_options_is_an_error(run, photos, more, message):
    run("photos/0.png", "--output", "out.jsonl")
    before = Path("out.jsonl").read_bytes()
    status, _, err = run("photos", "--output", "out.jsonl", "--resume", *more)
    assert (status, err.count("\n")) == (1, 1)
    assert message in err
    assert Path("out.jsonl").read_bytes() == before
    # The batch size does not change the rows.
    assert run("photos", "--output", "out.jsonl", "--resume", "--batch-size", 1)[0] == 0


def test_errors_are_written_to_a_file(run, album):
    options = (album, "--recursive", "--errors-to")
    run(*options, "errors.txt")
    lines = [line.split("\t") for line in Path("errors.txt").read_text().splitlines()]
    assert [path for path, _ in lines] == ["photos/bad.png", "photos/sub/z.png"]
    assert all(reason.startswith("is text") for _, reason in lines)
    for _ in range(2):  # The second run reads them from the rows.
        run(*options, "errors.jsonl", "--output", "out.jsonl", "--resume")
        assert [list(row.values()) for row in rows("errors.jsonl")] == lines


# Conflicting flags


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--resume", "--resume needs --output"),
        ("--output o --retry-failed", "needs --resume"),
        ("--in-place", "needs --write-xmp"),
        ("--overwrite", "needs --sidecar, --write-xmp"),
        ("--alt-length 9", "needs --alt-text"),
        ("--errors-to e --question q", "needs --output or --csv"),
        ("--csv --jsonl", "--jsonl"),
        ("--jsonl --output o.CSV", "--jsonl"),
        ("--write-xmp x --in-place", "--in-place"),
        ("--csv --num-captions 2", "--num-captions"),
        ("--csv --question q --num-answers 2", "--num-answers"),
        ("--alt-text --num-captions 2", "--num-captions"),
        ("--output o --errors-to o", "one file"),
        ("--output o --resume --sample", "--sample"),
        ("- --sidecar", "stdin"),
        ("- --output o --resume", "stdin"),
        ("- @-", "@-"),
        ("--output o --score t", "--score"),
        ("--csv --stream", "--stream"),
        ("--alt-text --question q", "--question"),
        ("--sidecar --question q", "--question"),
        ("--output o --question q --question r", "takes one --question"),
        ("--output o --questions f", "takes one --question"),
        ("--output o --ask", "takes one --question"),
    ],
)
def test_conflicting_flags_of_batch_runs_are_rejected(capsys, words, message):
    assert message in usage(capsys, "a.png", *words.split())
