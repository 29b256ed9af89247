"""Captions in text files and in XMP metadata, and alternative texts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from folder_runs import rows
from PIL import Image
from tiny import picture

from captioner.cli.batch.xmp_properties import Origin

pytestmark = pytest.mark.usefixtures("working_folder")


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def checkpoint(vqa_checkpoint: str) -> str:
    return vqa_checkpoint


def test_sidecars_have_the_caption_and_replace_no_other_text(run, album):
    Path("photos/1.txt").write_text("mine")
    captions = dict(line.split("\t") for line in run(album, "--sidecar")[1])
    assert Path("photos/0.txt").read_text() == captions["photos/0.png"] + "\n"
    assert Path("photos/1.txt").read_text() == "mine"
    assert not Path("photos/bad.txt").exists()
    status, _, err = run(*Path("photos").glob("[0-9]*"), "--sidecar")
    assert (status, err.count("\n")) == (0, 1)  # Texts are not inputs.
    assert "photos/1.txt: exists with another text" in err
    assert run("photos/1.png", "--sidecar", "--overwrite") == (0, [captions["photos/1.png"]], "")
    assert Path("photos/1.txt").read_text() == captions["photos/1.png"] + "\n"


def description(path: str) -> str:
    with Image.open(path) as image:
        image.load()
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    packet = packet.decode() if isinstance(packet, bytes) else packet
    return packet.split('xml:lang="x-default">')[1].split("<")[0]


def test_copies_have_the_caption_and_originals_do_not_change(run, album):
    os.chmod("photos/0.png", 0o640)
    os.utime("photos/0.png", (1e9, 1e9))
    picture(3).save("photos/sub/y.gif")
    before = {path: path.read_bytes() for path in Path("photos").rglob("*.*")}
    options = (album, "--recursive", "--write-xmp", "photos/copies", "--errors-to", "errors")
    for _ in range(2):  # The copies are not inputs.
        status, out, err = run(*options)
        captions = dict(line.split("\t") for line in out)
        assert (status, len(captions), err.count("\n")) == (3, 6, 3)
        assert "sub/y.gif: has a format without support for XMP" in err
    assert "photos/sub/y.gif\thas a format" in Path("errors").read_text()
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


def test_a_later_run_changes_no_copy(run, photos, monkeypatch):
    for date in ("2026-01-02T03:04:05+00:00", "2030-01-02T03:04:05+00:00"):
        origin = Origin("m", "1", "0", date)
        monkeypatch.setattr("captioner.cli.generate.make_origin", lambda *_, o=origin: o)
        assert run("photos", "--write-xmp")[::2] == (0, "")
    assert b"2026-01-02T03:04:05" in Path("captioned/0.png").read_bytes()
    assert run("photos", "--write-xmp", "--overwrite")[::2] == (0, "")
    assert b"2026-01-02T03:04:05" in Path("captioned/0.png").read_bytes()


def test_xmp_in_place_keeps_permissions(run, photos):
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


def test_copies_have_a_default_folder(run, photos):
    assert run("photos/0.png", "--write-xmp")[0] == 0
    assert Path("captioned/0.png").exists()
    status, _, err = run("photos", "--write-xmp", "photos")
    assert (status, "all inputs are files that this run writes" in err) == (1, True)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named_in_the_error(run, photos):
    os.chmod("photos", 0o500)
    status, out, err = run("photos", "--sidecar")
    os.chmod("photos", 0o700)
    assert (status, len(out), err.count("cannot be written")) == (1, 3, 3)


def test_a_text_that_cannot_be_written_is_named_in_the_error(run, photos):
    os.mkdir("photos/0.txt")
    os.symlink("nowhere/x", "photos/1.txt")
    Path("captioned").write_text("a file, no folder")
    status, out, err = run("photos", "--write-xmp", "--sidecar", "--overwrite")
    assert (status, len(out)) == (1, 3)
    assert err.count("captioned") == 3
    assert "photos/0.txt cannot be written" in err


# Alternative texts


def test_all_outputs_have_the_alternative_text(run, photos):
    (text,) = run("photos/0.png", "--alt-text")[1]
    assert text[0] == text[0].upper()
    assert text.endswith(".")
    assert text == run("photos/0.png", "--alt-text", "--alt-length", 125)[1][0]
    run("photos/0.png", "--alt-text", "--sidecar", "--write-xmp", "--output", "out.jsonl")
    assert rows()[0]["caption"] == description("captioned/0.png") == text
    assert Path("photos/0.txt").read_text() == text + "\n"
    status, out, err = run("photos", "--alt-text", "--alt-length", 1)
    assert (status, out, err.count("increase --alt-length")) == (1, [], 3)
