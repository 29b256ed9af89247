"""Runs over many files, as a user meets them: rows, resuming, texts beside the images."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

from captioner.cli import generate
from captioner.cli.batch.row_file import RowFile
from captioner.errors import ImageError
from captioner.images import load_image
from captioner.predict import members

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_vqa_checkpoint(tmp_path_factory.mktemp("folders") / "best"))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def album(photos) -> str:
    """Four pictures in two folders, one of them twice, and two files that are none."""
    (photos / "sub").mkdir()
    shutil.copy(photos / "1.png", photos / "sub" / "twin.png")
    picture(7).save(photos / "sub" / "x.jpg")
    (photos / "bad.png").write_bytes(b"no picture")
    (photos / "sub" / "z.png").write_bytes(b"no picture")
    return "photos"


def rows(path: str = "out.jsonl") -> list[dict]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if ".csv" in path else [json.loads(x) for x in file]


def usage(capsys, *words: str) -> str:
    with pytest.raises(SystemExit, match="2"):
        generate.parse(list(words))
    return capsys.readouterr().err.splitlines()[-1]


# What is in the rows


def test_a_row_of_each_image_in_order(run, album):
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
    assert len(found) == len(rows())  # what is named twice has one row


def test_csv_says_what_jsonl_says(run, album):
    options = (album, "--recursive", "--output")
    run(*options, "out.jsonl")
    run(*options, "out.csv")
    run(*options, "also", "--csv")
    assert Path("out.csv").read_bytes() == Path("also").read_bytes()
    for one, other in zip(rows(), rows("out.csv"), strict=True):
        assert {k: v for k, v in other.items() if v} == {k: str(v) for k, v in one.items()}
    status, out, _ = run(album, "--csv")
    assert (status, out[0]) == (3, "image,caption,score,error")
    assert [line.split(",")[:3] for line in out[1:3]] == [
        [row["image"], row["caption"], row["score"]] for row in rows("out.csv")[:2]
    ]


def test_an_odd_name_keeps_to_its_row_and_is_found_again(run, photos):
    picture(5).save(photos / "new\nline, and\ttab \u2028.png")
    for name in ("out.csv", "out.jsonl"):
        assert run("photos", "--output", name)[0] == 0
        before = rows(name)
        assert len(before) == 4
        assert run("photos", "--output", name, "--resume") == (0, [], "")
        assert rows(name) == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_name_that_is_not_utf8_is_written_and_found_again(run, photos, name):
    for i, odd in enumerate((b"caf\xe9.gif", b"\xe9.png")):
        picture(5 + i).save(photos / "new.gif")
        os.rename(photos / "new.gif", os.path.join(os.fsencode(photos), odd))
    Path("photos/\udce9.png").write_bytes(b"bad")
    options = ("photos", "--output", name, "--resume", "--errors-to", "errors.jsonl")
    texts = ("--sidecar", "--write-xmp")
    assert run(*options, *texts)[0] == 3
    before = rows(name)
    assert "photos/caf\\xe9.gif" in [row["image"] for row in before]
    assert "photos/caf\\xe9.gif" in [row["image"] for row in rows("errors.jsonl")]  # takes no XMP
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
def test_a_question_may_be_asked_of_all(run, album, name):
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


# Going on


def test_what_is_there_is_refused_without_resume_and_not_asked_again_with_it(run, album, encoded):
    options = (album, "--recursive", "--output", "out.jsonl")
    run(*options)
    whole, seen = Path("out.jsonl").read_bytes(), sum(encoded)
    status, _, err = run(*options)
    assert (status, err.count("\n")) == (1, 1)
    assert "--resume" in err
    assert run(*options, "--resume")[0] == 3  # the errors are still there
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
def test_cut_anywhere_and_resumed_it_equals_a_run_in_one(run, album, name):
    options = (album, "--recursive", "--batch-size", 1, "--output", name)
    run(*options)
    whole = Path(name).read_bytes()
    for size in random.Random(0).sample(range(len(whole)), 8):
        Path(name).write_bytes(whole[:size])
        _, _, err = run(*options, "--resume")
        assert Path(name).read_bytes() == whole
        assert ("incomplete" in err) == (size > 0 and whole[size - 1 : size] != b"\n")


def test_failures_are_asked_about_again_and_replaced(run, album, monkeypatch):
    options = (album, "--recursive", "--output", "out.jsonl", "--resume")
    fail = {"photos/bad.png", "photos/sub/z.png"}
    with monkeypatch.context() as patch:  # such as a format whose plugin is not installed

        def load(source, **rest):
            if source in fail:
                raise ImageError(f"{source}: cannot be read today")
            return load_image(source, **rest)

        picture(8).save("photos/bad.png")
        shutil.copy("photos/bad.png", "photos/sub/z.png")
        patch.setattr(members, "load_image", load)
        assert run(*options)[0] == 3
    assert run(*options)[0] == 3  # the files are as they were
    assert run(*options, "--retry-failed") == (0, [], "")
    retried = Path("out.jsonl").read_bytes()
    os.remove("out.jsonl")
    run(*options)
    assert retried == Path("out.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--beam-size", 2), "beam_size None, not 2"),
        (("--ban", "dog"), "ban"),
        (("--num-captions", 2), "num_captions"),
        (("--tta", 2), "looks None, not 2"),
        (("--alt-text",), "alt_length"),
        (("--sidecar",), "sidecar"),
        (("--checkpoint", "bundled"), "checkpoint"),
    ],
)
def test_other_options_do_not_mix(run, photos, more, told):
    run("photos/0.png", "--output", "out.jsonl")
    before = Path("out.jsonl").read_bytes()
    status, _, err = run("photos", "--output", "out.jsonl", "--resume", *more)
    assert (status, err.count("\n")) == (1, 1)
    assert told in err
    assert Path("out.jsonl").read_bytes() == before
    # These change no row.
    assert run("photos", "--output", "out.jsonl", "--resume", "--batch-size", 1)[0] == 0


def test_errors_are_listed(run, album):
    options = (album, "--recursive", "--errors-to")
    run(*options, "errors.txt")
    lines = [line.split("\t") for line in Path("errors.txt").read_text().splitlines()]
    assert [path for path, _ in lines] == ["photos/bad.png", "photos/sub/z.png"]
    assert all(reason.startswith("is text") for _, reason in lines)
    for _ in range(2):  # also those of rows that are there
        run(*options, "errors.jsonl", "--output", "out.jsonl", "--resume")
        assert [list(row.values()) for row in rows("errors.jsonl")] == lines


# Kills and signals


def started(checkpoint: str, *words: str) -> subprocess.Popen:
    command = [sys.executable, ROOT / "generate.py", "photos", "--checkpoint", checkpoint, *words]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(process: subprocess.Popen, path: str, size: int) -> None:
    """Until the file has grown past a size, or the process has ended."""
    while process.poll() is None:
        if os.path.exists(path) and os.path.getsize(path) > size:
            return
        time.sleep(0.001)


def many(photos: Path, count: int) -> None:
    for i in range(count):
        picture(i % (count - 9)).save(photos / f"{i:04}.png")  # some twice
    (photos / "0002.png").write_bytes(b"bad")


def close(found: list[dict], expected: list[dict]) -> bool:
    """Equal, but for the last digit of scores: batches of other images round otherwise."""
    scores = [[row.pop("score", 0) for row in each] for each in (found, expected)]
    return found == expected and np.allclose(*scores, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_killed_ten_times_it_ends_as_if_never_killed(run, checkpoint, photos, name):
    many(photos, 300)
    run("photos", "--output", f"whole-{name}", "--batch-size", 2)
    options = ("--output", name, "--resume", "--batch-size", "2")
    total, draw, kills = os.path.getsize(f"whole-{name}"), random.Random(), 0
    while kills < 10:
        size = os.path.getsize(name) if os.path.exists(name) else 0
        process = started(checkpoint, *options)
        wait_for(process, name, size)
        time.sleep(draw.random() * 0.02)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate()
        assert os.path.getsize(name) < total, "it was done before it could be killed ten times"
    assert started(checkpoint, *options).wait() == 3
    found, expected = rows(name), rows(f"whole-{name}")
    assert len({row["image"] for row in found}) == len(found) == 303
    for row in (*found, *expected):
        row["score"] = float(row.get("score") or 0)
    assert close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_rows(checkpoint, photos, number, status):
    many(photos, 300)
    process = started(checkpoint, "--output", "out.jsonl", "--batch-size", "2")
    wait_for(process, "out.jsonl", 0)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (status, b"")
    assert Path("out.jsonl").read_bytes().endswith(b"\n")
    assert 0 < len(rows()) < 303


def test_a_closed_pipe_ends_quietly(checkpoint, photos):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, ROOT / "generate.py", "photos", "--csv", "--checkpoint", checkpoint]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_memory_holds_no_rows():
    """What is kept of an image that is done: its path, a number and a digest."""
    file = RowFile("o", columns=None, settings={}, resume=False, retry=False, notify=print)
    for i in range(50):
        file.append({"image": f"{i}", "caption": "long " * 1000, "sha256": f"{i:064x}"})
    assert "long" not in str(vars(file))
    file.close()


# Beside the images


def test_sidecars_hold_the_caption_and_replace_no_other_text(run, album):
    Path("photos/1.txt").write_text("mine")
    captions = dict(line.split("\t") for line in run(album, "--sidecar")[1])
    assert Path("photos/0.txt").read_text() == captions["photos/0.png"] + "\n"
    assert Path("photos/1.txt").read_text() == "mine"
    assert not Path("photos/bad.txt").exists()
    status, _, err = run(*Path("photos").glob("[0-9]*"), "--sidecar")
    assert (status, err.count("\n")) == (0, 1)  # no text is an input
    assert "photos/1.txt: exists with another text" in err
    assert run("photos/1.png", "--sidecar", "--overwrite") == (0, [captions["photos/1.png"]], "")
    assert Path("photos/1.txt").read_text() == captions["photos/1.png"] + "\n"


def description(path: str) -> str:
    with Image.open(path) as image:
        image.load()
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    packet = packet.decode() if isinstance(packet, bytes) else packet
    return packet.split('xml:lang="x-default">')[1].split("<")[0]


def test_copies_have_the_caption_and_the_originals_stay(run, album):
    os.chmod("photos/0.png", 0o640)
    os.utime("photos/0.png", (1e9, 1e9))
    picture(3).save("photos/sub/y.gif")
    before = {path: path.read_bytes() for path in Path("photos").rglob("*.*")}
    options = (album, "--recursive", "--write-xmp", "photos/copies", "--errors-to", "errors")
    for _ in range(2):  # the copies are not taken for inputs
        status, out, err = run(*options)
        captions = dict(line.split("\t") for line in out)
        assert (status, len(captions), err.count("\n")) == (3, 6, 3)
        assert "sub/y.gif: is of a format without support for XMP" in err
    assert "photos/sub/y.gif\tis of a format" in Path("errors").read_text()
    assert all(path.read_bytes() == data for path, data in before.items())
    for path, caption in captions.items():
        if path.endswith("gif"):
            continue
        copy = path.replace("photos", "photos/copies")
        assert description(copy) == caption
        with Image.open(path) as one, Image.open(copy) as other:
            assert np.array_equal(np.asarray(one), np.asarray(other))
    status = os.stat("photos/copies/0.png")
    assert (status.st_mode & 0o777, status.st_mtime) == (0o640, 1e9)
    Path("photos/copies/0.png").write_bytes(b"mine")
    _, _, err = run("photos/[01].png", *options[2:])
    assert "copies/0.png: exists with other content" in err
    assert Path("photos/copies/0.png").read_bytes() == b"mine"
    run("photos/[01].png", *options[2:], "--overwrite")
    assert description("photos/copies/0.png") == captions["photos/0.png"]


def test_in_place_needs_its_flag_and_keeps_permissions(run, photos):
    os.chmod("photos/0.png", 0o640)
    os.symlink("0.png", "photos/link.png")
    pixels = np.asarray(Image.open("photos/0.png"))
    status, out, _ = run("photos/link.png", "--write-xmp", "--in-place")
    assert status == 0
    assert os.path.islink("photos/link.png")
    assert description("photos/0.png") == out[0]
    assert os.stat("photos/0.png").st_mode & 0o777 == 0o640
    assert np.array_equal(np.asarray(Image.open("photos/0.png")), pixels)
    before = Path("photos/0.png").read_bytes()
    status, _, err = run("photos/0.png", "--write-xmp", "--in-place", "--ban", out[0])
    assert (status, "already" in err) == (0, True)
    assert Path("photos/0.png").read_bytes() == before


def test_copies_go_to_a_folder_of_their_own_by_default(run, photos):
    assert run("photos/0.png", "--write-xmp")[0] == 0
    assert Path("captioned/0.png").exists()
    status, _, err = run("photos", "--write-xmp", "photos")
    assert (status, "lies in what this run writes" in err) == (1, True)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_takes_no_file_fails_by_name(run, photos):
    os.chmod("photos", 0o500)
    status, out, err = run("photos", "--sidecar")
    os.chmod("photos", 0o700)
    assert (status, len(out), err.count("cannot be written")) == (1, 3, 3)


def test_a_text_that_cannot_be_written_fails_by_name(run, photos):
    os.mkdir("photos/0.txt")
    os.symlink("nowhere/x", "photos/1.txt")
    Path("captioned").write_text("a file, no folder")
    status, out, err = run("photos", "--write-xmp", "--sidecar", "--overwrite")
    assert (status, len(out)) == (1, 3)
    assert err.count("captioned") == 3
    assert "photos/0.txt cannot be written" in err


# Alternative texts


def test_alt_text_is_in_all_outputs(run, photos):
    (text,) = run("photos/0.png", "--alt-text")[1]
    assert text[0] == text[0].upper()
    assert text.endswith(".")
    assert text == run("photos/0.png", "--alt-text", "--alt-length", 125)[1][0]
    run("photos/0.png", "--alt-text", "--sidecar", "--write-xmp", "--output", "out.jsonl")
    assert rows()[0]["caption"] == description("captioned/0.png") == text
    assert Path("photos/0.txt").read_text() == text + "\n"
    status, out, err = run("photos", "--alt-text", "--alt-length", 1)
    assert (status, out, err.count("allow more")) == (1, [], 3)


# What goes together


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--resume", "--resume needs --output"),
        ("--output o --retry-failed", "needs --resume"),
        ("--in-place", "needs --write-xmp"),
        ("--overwrite", "needs --sidecar or --write-xmp"),
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
def test_what_does_not_go_together_is_told_of(capsys, words, told):
    assert told in usage(capsys, "a.png", *words.split())
