"""RAW files: the embedded preview, its orientation, and development without a preview."""

from __future__ import annotations

import contextlib
import io
import random
import sys

import numpy as np
import pytest
from PIL import Image
from raw_files import make_dng

from captioner.errors import ImageError, ImageFormatError, ImageSizeError
from captioner.images import load_image
from captioner.images.file_types import identify_format

rawpy = pytest.importorskip("rawpy")


def jpeg(width: int = 90, height: int = 60, **options) -> bytes:
    """Return a JPEG whose left half is red and whose right half is blue."""
    image, out = Image.new("RGB", (width, height), "red"), io.BytesIO()
    image.paste("blue", (width // 2, 0, width, height))
    image.save(out, "JPEG", quality=95, **options)
    return out.getvalue()


def load(tmp_path, data: bytes, name: str = "photo.DNG", **options) -> Image.Image:
    path = tmp_path / name
    path.write_bytes(data)
    return load_image(path, **options)


def corners(image: Image.Image) -> str:
    """Return the colors of the top left and the bottom right corner."""
    pixels = image.getpixel((4, 4)), image.getpixel((image.width - 5, image.height - 5))
    return "".join("r" if red > blue else "b" for red, _, blue in pixels)


def test_libraw_opens_the_files_of_these_tests(tmp_path):
    path = tmp_path / "a.dng"
    path.write_bytes(make_dng(jpeg(), orientation=6))
    with rawpy.imread(str(path)) as raw:
        assert raw.extract_thumb().format == rawpy.ThumbFormat.JPEG
        assert (raw.sizes.flip, raw.sizes.width, raw.sizes.height) == (6, 96, 64)
        assert raw.raw_image.mean() == 2000


@pytest.mark.parametrize(
    ("orientation", "size", "colors"),
    [(1, (90, 60), "rb"), (3, (90, 60), "br"), (6, (60, 90), "rb"), (8, (60, 90), "br")],
)
def test_the_preview_is_turned_as_the_raw_file_states(tmp_path, orientation, size, colors):
    image = load(tmp_path, make_dng(jpeg(), orientation=orientation))
    assert (image.mode, image.size, corners(image)) == ("RGB", size, colors)
    assert image.getexif() == {}


def test_the_orientation_of_the_preview_itself_comes_first(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    preview = jpeg(exif=exif)
    preview = preview[:2] + preview[20:]  # As cameras write it, EXIF comes first, without JFIF.
    assert preview[6:10] == b"Exif"
    assert corners(load(tmp_path, make_dng(preview))) == "br"
    assert corners(load(tmp_path, make_dng(preview, orientation=3))) == "br"


def test_a_preview_that_is_upright_already_is_not_turned(tmp_path):
    image = load(tmp_path, make_dng(jpeg(60, 90), orientation=6))
    assert (image.size, corners(image)) == ((60, 90), "rb")
    square = load(tmp_path, make_dng(jpeg(60, 60), orientation=8))
    assert corners(square) == "br"


@pytest.mark.parametrize(("orientation", "size"), [(1, (48, 32)), (6, (32, 48))])
def test_without_a_preview_the_mosaic_is_developed_at_half_size(tmp_path, orientation, size):
    mosaic = np.full((64, 96), 400)
    mosaic[::2, ::2] = 3000
    image = load(tmp_path, make_dng(None, mosaic=mosaic, orientation=orientation))
    assert image.size == size
    red, green, blue = np.asarray(image).reshape(-1, 3).mean(0)
    assert red > 2 * max(green, blue)


def test_a_large_preview_is_decoded_at_a_reduced_scale(tmp_path):
    data = make_dng(jpeg(1200, 800))
    assert load(tmp_path, data, min_size=100).size == (150, 100)


def test_sizes_are_checked(tmp_path):
    with pytest.raises(ImageSizeError, match="96 x 64"):
        load(tmp_path, make_dng(jpeg()), max_pixels=6000)
    with pytest.raises(ImageSizeError, match="900 x 600"):
        load(tmp_path, make_dng(jpeg(900, 600)), max_pixels=10000)


def test_the_suffix_distinguishes_raw_files_from_tiff(tmp_path):
    data = make_dng(jpeg(), orientation=6)
    assert load(tmp_path, data, "a.nef").size == (60, 90)
    with open(tmp_path / "a.nef", "rb") as file:
        assert load_image(file).size == (60, 90)
    out = io.BytesIO()
    Image.new("RGB", (5, 3)).save(out, "TIFF")
    assert load(tmp_path, out.getvalue(), "b.tif").size == (5, 3)
    assert load(tmp_path, jpeg(), "c.dng").size == (90, 60)  # A JPEG with a wrong name.


@pytest.mark.parametrize(
    "head",
    [
        b"II*\0\x10\0\0\0CR\2\0", b"FUJIFILMCCD-RAW 0201", b"IIRO\x08\0\0\0", b"IIU\0\x18\0\0\0",
        b"\0\0\0\x18ftypcrx \0\0\0\1", b"FOVb\0\0\0\0", b"\0MRM\0\0\0\0",
    ],
)  # fmt: skip
def test_raw_files_are_recognized_by_their_signature(head):
    assert identify_format(head) == "RAW"
    with pytest.raises(ImageError, match="<bytes>: cannot be read as a RAW file"):
        load_image(head + bytes(600))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x01\x02\x03\x04" * 99, "cannot be read as a RAW file"),
        (b"just a text", "is text"),
        (make_dng(jpeg())[:200], "cannot be read|cannot be decoded"),
    ],
)
def test_errors_are_one_line_with_the_name(tmp_path, data, message):
    with pytest.raises(ImageError, match=rf"photo.cr2: .*{message}") as caught:
        load(tmp_path, data, "photo.cr2")
    assert str(caught.value).isprintable()


def test_damaged_files_raise_only_errors_of_images(tmp_path):
    draw, data = random.Random(0), make_dng(jpeg())
    for _ in range(60):
        damaged = bytearray(data[: draw.randrange(100, len(data))] if draw.random() < 0.5 else data)
        for _ in range(draw.randrange(1, 9)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        with contextlib.suppress(ImageError):
            assert load(tmp_path, bytes(damaged), max_pixels=100_000).mode == "RGB"


def test_without_rawpy_the_error_has_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(ImageFormatError, match=r'rawpy.* pip install "captioner\[raw\]"'):
        load(tmp_path, make_dng(jpeg()))
