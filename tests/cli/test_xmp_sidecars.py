"""XMP sidecars of a folder run: names, content of other programs, and RAW files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from folder_runs import rows
from raw_files import make_dng
from sidecar_shapes import DARKTABLE_4, DARKTABLE_5, DIGIKAM, EXIFTOOL, LIGHTROOM
from tiny import picture

from captioner import __version__
from captioner.cli import generate_setup
from captioner.cli.batch import xmp_files
from captioner.cli.batch.xmp_properties import (
    EXTENSION,
    OWN,
    WRITER,
    read_property,
    read_text,
)

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(scope="session")
def checkpoint(vqa_checkpoint: str) -> str:
    return vqa_checkpoint


def packet(path: str) -> bytes:
    return Path(path).read_bytes()


def caption_of(run, path: str) -> str:
    return run(path)[1][0]


def write(name: str, data: str | bytes) -> Path:
    path = Path("photos", name)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.fixture
def raw(photos) -> str:
    """Return a RAW file whose preview is a JPEG beside it."""
    pytest.importorskip("rawpy")
    for path in photos.iterdir():
        path.unlink()
    picture(3).save("photos/photo.jpg")
    write("photo.dng", make_dng(Path("photos/photo.jpg").read_bytes()))
    return "photos/photo.dng"


# Content


def test_a_sidecar_has_caption_and_provenance_and_the_image_does_not_change(run, photos):
    os.utime("photos/0.png", (1e9, 1e9))
    before = Path("photos/0.png").read_bytes()
    status, out, err = run("photos", "--xmp-sidecar")
    assert (status, err) == (0, "")
    captions = dict(line.split("\t") for line in out)
    for path, caption in captions.items():
        assert read_text(packet(f"{path}.xmp")) == caption
    data = packet("photos/0.png.xmp")
    assert read_property(data, WRITER).startswith(f"captioner {__version__} (vqa0/best)")
    assert len(read_property(data, (OWN, "Revision"))) == 16
    assert read_property(data, (OWN, "Date")).endswith("+00:00")
    assert Path("photos/0.png").read_bytes() == before
    assert os.stat("photos/0.png").st_mtime == 1e9
    # Sidecars are no inputs, and a second run writes nothing.
    os.utime("photos/0.png.xmp", (1e9, 1e9))
    assert run("photos", "--xmp-sidecar") == (0, out, "")
    assert os.stat("photos/0.png.xmp").st_mtime == 1e9
    assert run("photos/*", "--xmp-sidecar") == (0, out, "")


@pytest.mark.parametrize("shape", [DARKTABLE_4, DARKTABLE_5, EXIFTOOL])
def test_a_sidecar_of_another_program_keeps_its_content(run, photos, shape):
    path = write("0.png.xmp", shape)
    os.chmod(path, 0o640)
    status, out, _ = run("photos/0.png", "--xmp-sidecar")
    assert (status, read_text(path.read_bytes())) == (0, out[0])
    assert path.stat().st_mode & 0o777 == 0o640
    left = iter(path.read_text())
    kept = shape.replace(">Ann</photoshop:CaptionWriter>", "></photoshop:CaptionWriter>")
    assert all(character in left for character in kept)


def test_a_description_of_others_is_replaced_only_with_overwrite(run, photos):
    path = write("0.png.xmp", DIGIKAM)
    status, out, err = run("photos/0.png", "--xmp-sidecar")
    assert (status, path.read_text()) == (0, DIGIKAM)
    assert "photos/0.png.xmp: already has the description 'a photograph by Ann'" in err
    assert run("photos/0.png", "--xmp-sidecar", "--overwrite")[2] == ""
    assert read_text(path.read_bytes()) == out[0]


def test_a_resumed_run_replaces_its_own_description(run, photos):
    words = ("photos", "--xmp-sidecar", "--output", "out.jsonl", "--resume")
    assert run(*words)[0] == 0
    own = rows()[0]["caption"]
    other = next(x for x in (3, 4, 5, 6, 7) if caption_of(run, draw(x)) != own)
    shutil.copy(draw(other), "photos/0.png")
    assert run(*words)[0] == 0
    new = {row["image"]: row["caption"] for row in rows()}["photos/0.png"]
    assert new != own
    assert read_text(packet("photos/0.png.xmp")) == new
    # A person has edited the description since.
    edited = packet("photos/0.png.xmp").replace(new.encode(), b"mine")
    write("0.png.xmp", edited)
    shutil.copy("photos/1.png", "photos/0.png")
    _, _, err = run(*words)
    assert "already has the description 'mine'" in err
    assert packet("photos/0.png.xmp") == edited


def draw(seed: int) -> str:
    picture(seed).save(f"{seed}.png")
    return f"{seed}.png"


def test_a_new_sidecar_begins_with_the_packet_in_the_image(run, photos):
    picture(1).save("photos/0.jpg", xmp=DARKTABLE_5.encode())
    status, out, _ = run("photos/0.jpg", "--xmp-sidecar")
    assert status == 0
    assert b"<rdf:li>zebra</rdf:li>" in packet("photos/0.jpg.xmp")
    assert read_text(packet("photos/0.jpg.xmp")) == out[0]
    picture(1).save("photos/1.jpg", xmp=DIGIKAM.encode())
    _, _, err = run("photos/1.jpg", "--xmp-sidecar")
    assert "already has the description 'a photograph by Ann'" in err
    assert not os.path.exists("photos/1.jpg.xmp")
    # Nor is it hidden by a sidecar without a description.
    write("1.jpg.xmp", DARKTABLE_4)
    _, _, err = run("photos/1.jpg", "--xmp-sidecar")
    assert "already has the description 'a photograph by Ann'" in err
    assert packet("photos/1.jpg.xmp") == DARKTABLE_4.encode()


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_and_line_breaks_are_kept(run, photos, codec):
    text = DARKTABLE_4.replace("\n", "\r\n").replace("a &amp; b", "é 😀")
    name = "utf-16" if "16" in codec else "utf-8"
    text = text.replace('encoding="UTF-8"', f'encoding="{name}"')
    path = write("0.png.xmp", text.encode(codec))
    assert run("photos/0.png", "--xmp-sidecar")[0] == 0
    data = path.read_bytes()
    assert data[:4] == text.encode(codec)[:4]
    after = data.decode(codec)
    assert "\n" not in after.replace("\r\n", "")
    left = iter(after)
    assert all(character in left for character in text)
    assert run("photos/0.png", "--xmp-sidecar")[2] == ""
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (DARKTABLE_4[:1500].encode(), "cannot be read"),
        (b"\xff\xfe" + b"<" * 9, "cannot be read"),
        (b"\xef\xbb\xbf<x>\xff</x>", "cannot be read"),
        (b"<?xml version='1.0' encoding='latin1'?><x/>", "latin1; expected UTF-8 or UTF-16"),
        (b"<!DOCTYPE x><x/>", "DOCTYPE"),
        (b"<x/>", "without rdf:RDF"),
        (b"not XML", "cannot be read"),
    ],
)
def test_a_damaged_sidecar_is_kept_and_named_in_one_line(run, photos, data, message):
    path = write("0.png.xmp", data)
    status, out, err = run("photos/0.png", "photos/1.png", "--xmp-sidecar", "--overwrite")
    assert (status, len(out), err.count("\n")) == (3, 2, 1)
    assert "photos/0.png: photos/0.png.xmp has an XMP packet" in err
    assert message in err
    assert path.read_bytes() == data
    assert os.path.exists("photos/1.png.xmp")


def test_a_large_file_and_a_folder_are_kept(run, photos, monkeypatch):
    monkeypatch.setattr(xmp_files, "_LARGEST", 100)
    write("0.png.xmp", DARKTABLE_4)
    os.mkdir("photos/1.png.xmp")
    status, _, err = run("photos/*.png", "--xmp-sidecar")
    assert (status, err.count("\n")) == (3, 2)
    assert "photos/0.png.xmp has more than 100 bytes; it is kept" in err
    assert "photos/1.png.xmp is not a regular file; it is kept" in err


def test_links_are_written_through(run, photos):
    os.mkdir("library")
    Path("library/0.xmp").write_text(DARKTABLE_4)
    os.symlink("../library/0.xmp", "photos/0.png.xmp")
    os.symlink("../library/new.xmp", "photos/1.png.xmp")
    os.symlink("../nowhere/x.xmp", "photos/2.png.xmp")
    status, out, err = run("photos", "--xmp-sidecar")
    assert (status, err.count("\n"), "cannot be written" in err) == (3, 1, True)
    captions = dict(line.split("\t") for line in out)
    assert os.path.islink("photos/0.png.xmp")
    assert os.path.islink("photos/1.png.xmp")
    assert read_text(packet("library/0.xmp")) == captions["photos/0.png"]
    assert read_text(packet("library/new.xmp")) == captions["photos/1.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named_in_the_error(run, photos):
    os.chmod("photos", 0o500)
    status, out, err = run("photos", "--xmp-sidecar")
    os.chmod("photos", 0o700)
    assert (status, len(out), err.count("cannot be written")) == (1, 3, 3)


def test_a_failed_write_leaves_the_sidecar_intact(run, photos, monkeypatch):
    """As in a folder without write permission."""
    path = write("0.png.xmp", DARKTABLE_4)

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "photos/0.png.xmp")

    monkeypatch.setattr("captioner.files.os.replace", deny)
    status, out, err = run("photos/0.png", "--xmp-sidecar")
    assert (status, len(out)) == (1, 1)
    assert "photos/0.png: photos/0.png.xmp cannot be written (Permission denied)" in err
    assert path.read_text() == DARKTABLE_4
    assert sorted(os.listdir("photos")) == ["0.png", "0.png.xmp", "1.png", "2.png"]


# Names and RAW files


def test_a_raw_file_is_captioned_by_its_preview_and_only_its_sidecar_is_written(run, raw):
    before = Path(raw).read_bytes()
    status, out, err = run("photos", "--xmp-sidecar")
    assert (status, err) == (0, "")
    captions = dict(line.split("\t") for line in out)
    assert captions[raw] == captions["photos/photo.jpg"]
    assert sorted(os.listdir("photos")) == [
        "photo.dng", "photo.dng.xmp", "photo.jpg", "photo.jpg.xmp",
    ]  # fmt: skip
    assert read_text(packet("photos/photo.dng.xmp")) == captions[raw]
    assert Path(raw).read_bytes() == before
    status, _, err = run(raw, "--write-xmp", "--in-place")
    assert (status, "--xmp-sidecar writes it to a file beside" in err) == (1, True)
    assert Path(raw).read_bytes() == before


def test_the_short_name_belongs_to_the_raw_file_of_a_pair(run, raw):
    assert run("photos", "--xmp-sidecar", "--xmp-names", "stem")[0] == 0
    assert sorted(os.listdir("photos")) == [
        "photo.dng", "photo.jpg", "photo.jpg.xmp", "photo.xmp",
    ]  # fmt: skip
    assert read_property(packet("photos/photo.xmp"), EXTENSION) == "DNG"
    assert read_property(packet("photos/photo.jpg.xmp"), EXTENSION) == ""
    # Both existing forms are updated, whatever the form of new names is.
    write("photo.xmp", LIGHTROOM)
    write("photo.dng.xmp", DARKTABLE_4)
    _, out, _ = run(raw, "--xmp-sidecar")
    assert read_text(packet("photos/photo.xmp")) == out[0]
    assert read_text(packet("photos/photo.dng.xmp")) == out[0]


def test_a_sidecar_for_another_suffix_is_not_changed(run, raw):
    os.remove(raw)
    write("photo.xmp", LIGHTROOM)
    assert run("photos/photo.jpg", "--xmp-sidecar", "--xmp-names", "stem")[0] == 0
    assert packet("photos/photo.xmp") == LIGHTROOM.encode()
    assert os.path.exists("photos/photo.jpg.xmp")


def test_images_of_one_name_have_separate_sidecars(run, photos):
    for name in ("x.jpg", "x.png", "x.jpg.png"):
        picture(len(name)).save(f"photos/{name}")
    words = [f"photos/{name}" for name in ("x.jpg", "x.png", "x.jpg.png")]
    for _ in range(2):
        status, out, _ = run(*words, "--xmp-sidecar", "--xmp-names", "stem")
        assert status == 0
        for path, caption in (line.split("\t") for line in out):
            assert read_text(packet(f"{path}.xmp")) == caption
    assert len(list(Path("photos").glob("*.xmp"))) == 3


def test_an_existing_short_name_of_a_single_image_is_updated(run, photos):
    write("0.XMP", DARKTABLE_4)
    _, out, _ = run("photos/0.png", "--xmp-sidecar")
    assert read_text(packet("photos/0.XMP")) == out[0]
    assert not os.path.exists("photos/0.png.xmp")
    run("photos/1.png", "--xmp-sidecar", "--xmp-names", "stem")
    assert read_property(packet("photos/1.xmp"), EXTENSION) == "PNG"


def test_without_rawpy_raw_files_are_counted_in_one_line(run, raw, monkeypatch):
    monkeypatch.setattr(generate_setup, "is_installed", lambda name: False)
    for name in ("b.CR2", "c.nef"):
        write(name, b"")
    status, out, err = run("photos")
    assert (status, len(out), err.count("\n")) == (0, 1, 1)
    assert 'skipped 3 RAW files, which need rawpy; run: pip install "captioner[raw]"' in err
    os.remove("photos/photo.jpg")
    status, _, err = run("photos")
    assert (status, err.count("\n")) == (1, 1)
    assert "has no images; 3 RAW files, which need rawpy" in err


def test_the_record_of_the_run_has_the_date(run, photos):
    assert run("photos", "--output", "out.jsonl")[0] == 0
    (origin,) = json.loads(Path("out.jsonl.meta.json").read_text())["origins"]
    assert origin["date"].endswith("+00:00")
    before = Path("out.jsonl.meta.json").read_bytes()
    assert run("photos", "--output", "out.jsonl", "--resume")[0] == 0
    assert Path("out.jsonl.meta.json").read_bytes() == before
