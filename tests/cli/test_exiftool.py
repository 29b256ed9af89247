"""What exiftool reads back: the written properties, and all other fields unchanged."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from raw_files import make_dng
from sidecar_shapes import DARKTABLE_5, DIGIKAM, EXIFTOOL, LIGHTROOM
from tiny import picture

from captioner import __version__

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("working_folder"),
    pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed"),
]

WRITTEN = {"XMP-dc:Description", "XMP-dc:Subject", "XMP-photoshop:CaptionWriter"}
WRITTEN |= {f"XMP-captioner:{name}" for name in ("Model", "Version", "Revision", "Date")}
WRITER = f"captioner {__version__} (vqa0/best)"


@pytest.fixture(scope="session")
def checkpoint(vqa_checkpoint: str) -> str:
    return vqa_checkpoint


@pytest.fixture
def labels(set_keywords):
    set_keywords("dog", "tennis ball")


def exiftool(path: str, *options: str) -> dict[str, Any]:
    """Return the fields of a file by group and name, without those of the file system."""
    command = ["exiftool", "-j", "-G1", "-a", "-struct", *options, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (fields,) = json.loads(done.stdout)
    return {k: v for k, v in fields.items() if not k.startswith(("System:", "SourceFile"))}


def image_hash(path: str) -> str:
    """Return a digest of the pixels."""
    with Image.open(path) as image:
        return hashlib.sha256(image.tobytes()).hexdigest()


def others(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that must not change; the flags of WebP state that there is XMP."""
    skipped = WRITTEN | {"ExifTool:Warning", "RIFF:WebP_Flags"}
    return {name: value for name, value in fields.items() if name not in skipped}


def check(path: str, before: dict[str, Any], caption: str, keywords: list[str]) -> None:
    """Check all fields of a file that had the fields `before`."""
    fields = exiftool(path)
    assert fields["XMP-dc:Description"] == caption
    assert fields["XMP-dc:Subject"] == [*keywords, "tennis ball"]
    assert fields["XMP-photoshop:CaptionWriter"] == WRITER
    assert set(fields) >= WRITTEN
    assert others(fields) == others(before)
    assert not fields.get("ExifTool:Warning")


EXIF = {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\1\0\0\0\0\0\0"}


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.jpg", EXIF), ("a.png", {}), ("a.webp", EXIF | {"lossless": True})],
)
@pytest.mark.parametrize("has_packet", [False, True])
def test_metadata_in_images(run, labels, name, options, has_packet):
    if has_packet and name.endswith("png"):
        from PIL.PngImagePlugin import PngInfo

        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", DARKTABLE_5)
    elif has_packet:
        options = options | {"xmp": DARKTABLE_5.encode()}
    picture(1).save(name, **options)
    before, digest = exiftool(name), image_hash(name)
    assert ("XMP-lr:HierarchicalSubject" in before) == has_packet
    status, out, _ = run(name, "--write-xmp", "--in-place", "--keywords")
    assert status == 0
    keywords = ["zebra", "Dog"] if has_packet else ["dog"]
    check(name, before, out[0].split("\t")[0], keywords)
    assert image_hash(name) == digest
    data = Path(name).read_bytes()
    run(name, "--write-xmp", "--in-place", "--keywords")
    assert Path(name).read_bytes() == data


@pytest.mark.parametrize("image", ["photo.dng", "photo.jpg"])
@pytest.mark.parametrize(
    ("sidecar", "keywords"),
    [
        (None, ["dog"]),
        (DARKTABLE_5, ["zebra", "Dog"]),
        (LIGHTROOM, ["dog"]),
        (DIGIKAM, ["Strand", "dog"]),
        (EXIFTOOL, ["one", "dog"]),
    ],
    ids=["new", "darktable", "Lightroom", "digiKam", "exiftool"],
)
def test_metadata_in_sidecars(run, labels, image, sidecar, keywords):
    picture(1).save("photo.jpg")
    if image == "photo.dng":
        pytest.importorskip("rawpy")
        Path("photo.dng").write_bytes(make_dng(Path("photo.jpg").read_bytes()))
    before: dict[str, Any] = {}
    target = f"{image}.xmp"
    if sidecar is not None:
        Path(target).write_text(sidecar, encoding="utf-8")
        before = exiftool(target)
    whole, data = exiftool(image), Path(image).read_bytes()
    status, out, err = run(image, "--xmp-sidecar", "--keywords", "--overwrite")
    assert (status, err) == (0, "")
    if sidecar is None:
        Path("empty.xmp").write_text(
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF'
            ' xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
        )
        before = exiftool("empty.xmp")
    check(target, before, out[0].split("\t")[0], keywords)
    assert exiftool(image) == whole
    assert Path(image).read_bytes() == data


def test_other_languages_are_read_back(run, labels):
    picture(1).save("a.jpg")
    Path("a.jpg.xmp").write_text(DIGIKAM, encoding="utf-8")
    _, out, _ = run("a.jpg", "--xmp-sidecar", "--overwrite")
    command = ["exiftool", "-j", "-XMP-dc:Description*", "a.jpg.xmp"]
    (fields,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert fields["Description"] == out[0]
    assert (fields["Description-de-DE"], fields["Description-fr-FR"]) == ("ein Hund", "un chien")


@pytest.mark.parametrize("image", ["a.jpg", "a.tif", "a.dng"])
@pytest.mark.parametrize("tag", ["IPTC:Caption-Abstract", "IFD0:ImageDescription", "XPComment"])
def test_texts_in_iptc_and_exif_are_not_hidden(run, labels, image, tag):
    picture(1).save("a.jpg")
    picture(1).save("a.tif")
    if image == "a.dng":
        pytest.importorskip("rawpy")
        Path("a.dng").write_bytes(make_dng(Path("a.jpg").read_bytes()))
    texts = [f"-{tag}=Ann's dog in Köln", "-IPTC:Keywords=sea", "-IPTC:Keywords=Dog"]
    subprocess.run(["exiftool", "-q", "-overwrite_original", *texts, image], check=True)
    before, data, digest = exiftool(image), Path(image).read_bytes(), image_hash("a.jpg")
    is_inside = image == "a.jpg"
    flags = ["--write-xmp", "--in-place"] if is_inside else ["--xmp-sidecar"]
    target = image if is_inside else f"{image}.xmp"
    status, _, err = run(image, *flags, "--keywords")
    assert status == 0
    assert f'{target}: already has the description "Ann\'s dog in Köln"' in err
    fields = exiftool(target)
    assert "XMP-dc:Description" not in fields
    assert fields["XMP-dc:Subject"] == ["sea", "Dog", "tennis ball"]
    _, out, err = run(image, *flags, "--keywords", "--overwrite")
    assert "in its IPTC or EXIF is not replaced" in err
    fields = exiftool(target)
    assert fields["XMP-dc:Description"] == out[0].split("\t")[0]
    written = Path(target).read_bytes()
    assert run(image, *flags, "--keywords")[2] == ""
    assert Path(target).read_bytes() == written
    if is_inside:
        assert others(fields) == others(before)
        assert image_hash(image) == digest
    else:
        assert Path(image).read_bytes() == data
