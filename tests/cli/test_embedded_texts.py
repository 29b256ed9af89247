"""Descriptions and keywords in the IPTC and EXIF of images are kept."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest
from PIL import Image
from raw_files import make_dng
from tiny import picture

from captioner.cli.batch import embedded_texts, sidecars
from captioner.cli.batch.embedded_texts import EmbeddedTexts, read_embedded_texts
from captioner.cli.batch.xmp import read_description, read_packet
from captioner.cli.batch.xmp_properties import Entry, read_text, write_entry
from captioner.errors import ImageError

pytestmark = pytest.mark.usefixtures("working_folder")

ANN = "a dog in Łódź"


@pytest.fixture(scope="session")
def checkpoint(vqa_checkpoint: str) -> str:
    return vqa_checkpoint


@pytest.fixture
def labels(set_keywords):
    set_keywords("dog", "ball")


def iim(caption: bytes = b"", keywords: tuple[bytes, ...] = ()) -> bytes:
    """Return the data sets of IPTC."""
    sets = [(120, caption)] if caption else []
    sets += [(25, word) for word in keywords]
    return b"".join(struct.pack(">BBBH", 28, 2, kind, len(x)) + x for kind, x in sets)


def save(name: str, iptc: bytes = b"", **tags: str | bytes) -> str:
    """Write an image with IPTC and with tags of EXIF; return its name."""
    numbers = {"description": 0x010E, "comment": 0x9C9C, "words": 0x9C9E}
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[numbers[tag]] = value
    if name.endswith("tif"):
        if iptc:
            exif[33723] = iptc
        picture(1).save(name, tiffinfo=exif)
        return name
    picture(1).save(name, exif=exif)
    if iptc:
        block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
        body = b"Photoshop 3.0\0" + block
        data = Path(name).read_bytes()
        segment = b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
        Path(name).write_bytes(data[:2] + segment + data[2:])
    return name


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_both_blocks_are_read(name):
    iptc = iim(ANN.encode(), (b"sea", "Düne".encode("cp1252"), b"sea"))
    save(name, iptc, description="a dog", words="Ann;sea".encode("utf-16-le") + b"\0\0")
    assert read_embedded_texts(name) == EmbeddedTexts((ANN, "a dog"), ("sea", "Düne", "Ann"))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_a_comment_of_windows_is_a_description(name):
    save(name, comment=ANN.encode("utf-16-le"))
    assert read_embedded_texts(name).descriptions == (ANN,)


@pytest.mark.parametrize(
    "text",
    [
        "OLYMPUS DIGITAL CAMERA         ",
        "SONY DSC",
        "Default",
        "DIGITAL CAMERA",
        "KODAK Digital Still Camera",
        "DCIM\\100MEDIA\\DJI_0001.JPG",
        '{"shape": [2, 3]}',
        "   ",
        "\0\0 ",
    ],
)
def test_the_defaults_of_cameras_are_no_descriptions(text):
    save("a.jpg", description=text)
    assert read_embedded_texts("a.jpg").descriptions == ()
    save("a.jpg", iim(text.encode()))
    assert read_embedded_texts("a.jpg").descriptions == ()


@pytest.mark.parametrize("signature", [b"IIRO", b"IIU\0"])
def test_raw_formats_with_another_signature_are_read_as_tiff(signature):
    save("a.tif", description="a dog")
    Path("a.orf").write_bytes(signature + Path("a.tif").read_bytes()[4:])
    assert read_embedded_texts("a.orf").descriptions == ("a dog",)


def test_other_raw_files_are_read_through_their_preview(monkeypatch):
    pytest.importorskip("rawpy")
    preview = Path(save("a.jpg", description="a dog")).read_bytes()
    # LibRaw inserts its own EXIF unless the first segment is EXIF, so JFIF (18 bytes) is removed.
    Path("a.raf").write_bytes(make_dng(preview[:2] + preview[20:]))
    monkeypatch.setattr(embedded_texts, "_TIFF", re.compile(b"no signature"))
    assert read_embedded_texts("a.raf").descriptions == ("a dog",)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
@pytest.mark.filterwarnings("ignore:Truncated", "ignore:Corrupt", "ignore:Possibly")
def test_damaged_blocks_are_ignored(name):
    save(name, b"\x1c\x99" + iim(ANN.encode()), description="a dog")
    assert read_embedded_texts(name).descriptions == ("a dog",)
    data = save(name, iim(ANN.encode()), description="a dog") and Path(name).read_bytes()
    for end in range(0, min(len(data), 400), 7):
        Path(name).write_bytes(data[:end])
        read_embedded_texts(name)
        Path(name).write_bytes(data[:end] + b"\xff" * 9 + data[end + 9 :])
        read_embedded_texts(name)
    assert read_embedded_texts("missing.jpg") == EmbeddedTexts()


@pytest.mark.parametrize("tags", [{"iptc": iim(ANN.encode())}, {"description": ANN.encode()}])
def test_a_description_is_kept_in_place_and_in_copies(run, tags):
    data = Path(save("a.jpg", **tags)).read_bytes()
    for target in ("--in-place", "copies"):
        status, out, err = run("a.jpg", "--write-xmp", target)
        assert status == 0
        assert f"a.jpg: already has the description {ANN!r}; --overwrite replaces it" in err
        assert read_description(Path("a.jpg").read_bytes()) == ""
        assert Path("a.jpg").read_bytes() == data
    status, out, err = run("a.jpg", "--write-xmp", "--in-place", "--overwrite")
    assert f"a.jpg: the description {ANN!r} in its IPTC or EXIF is not replaced" in err
    data = Path("a.jpg").read_bytes()
    assert read_description(data) == out[0]
    assert run("a.jpg", "--write-xmp", "--in-place")[2] == ""
    assert Path("a.jpg").read_bytes() == data


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_a_sidecar_does_not_hide_a_description(run, name):
    save(name, iim(ANN.encode()))
    assert f"already has the description {ANN!r}" in run(name, "--xmp-sidecar")[2]
    assert not Path(f"{name}.xmp").exists()
    _, out, err = run(name, "--xmp-sidecar", "--overwrite")
    assert (err.count("\n"), "is not replaced" in err) == (1, True)
    data = Path(f"{name}.xmp").read_bytes()
    assert read_text(data) == out[0]
    assert run(name, "--xmp-sidecar")[2] == ""
    assert Path(f"{name}.xmp").read_bytes() == data


def test_the_caption_of_the_model_in_iptc_is_not_a_description_of_others(run):
    caption = run(save("a.jpg"))[1][0]
    save("a.jpg", iim(caption.encode()))
    assert run("a.jpg", "--xmp-sidecar")[::2] == (0, "")
    assert read_text(Path("a.jpg.xmp").read_bytes()) == caption


def test_keywords_are_copied_with_new_ones(run, labels):
    save("a.jpg", iim(b"", (b"sea", b"Dog")))
    run("a.jpg", "--write-xmp", "--in-place", "--keywords")
    data = Path("a.jpg").read_bytes()
    packet = read_packet(data) or b""
    words = [packet.index(b">%s<" % word) for word in (b"sea", b"Dog", b"ball")]
    assert words == sorted(words)
    assert b">dog<" not in packet
    run("a.jpg", "--write-xmp", "--in-place", "--keywords")
    assert Path("a.jpg").read_bytes() == data


def test_deleted_keywords_do_not_return_without_new_ones():
    packet = write_entry(None, Entry(keywords=("dog",))).data
    assert write_entry(packet, Entry(keywords=("dog",), embedded_keywords=("sea",))).data == packet


def test_a_read_only_image_is_kept(run, monkeypatch):
    data = Path(save("a.jpg")).read_bytes()
    os.chmod("a.jpg", 0o444)
    monkeypatch.setattr(sidecars.os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(ImageError, match="read-only"):
        sidecars.check_is_writable("a.jpg")
    _, _, err = run("a.jpg", "--write-xmp", "--in-place")
    assert err.count("a.jpg: is read-only and is kept; allow writing to it") == 1
    assert Path("a.jpg").read_bytes() == data
