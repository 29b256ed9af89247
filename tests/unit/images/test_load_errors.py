"""Test that every input that cannot be loaded gives one typed, printable error."""

from __future__ import annotations

import io
import os
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import encode, png
from image_samples import differ, picture
from PIL import Image, ImageFile, features

from captioner.errors import ImageError
from captioner.images import load_image

BAD_ARRAYS = [
    (np.array([[0.0, np.nan]]), "NaN"),
    (np.array([[0.0, -np.inf]]), "infinite"),
    (np.linspace(-2.1, 2.6, 12).reshape(2, 2, 3), "-2.1"),
    (np.full((2, 2), -5), "-5"),
    (np.full((2, 2), 70000), "70000"),
    (np.zeros((3, 8, 8)), "shape (3, 8, 8)"),
    (np.zeros((2, 2, 2)), "shape"),
    (np.zeros(4), "shape"),
    (np.zeros((0, 4)), "0"),
    (np.zeros((2, 2), complex), "complex"),
    (np.array([["a"]]), "<U1"),
    (np.array([[None]]), "object"),
]


@pytest.mark.parametrize(("array", "word"), BAD_ARRAYS)
def test_invalid_arrays_are_rejected(array: np.ndarray, word: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(array)
    assert str(caught.value).startswith("<array>: ")
    assert word in str(caught.value)


def test_nan_in_a_float_tiff_is_an_error() -> None:
    data = encode(Image.fromarray(np.array([[0.5, np.nan]], np.float32)), "TIFF")
    with pytest.raises(ImageError, match="NaN"):
        load_image(data)


BAD_FILES = [
    (b"", "empty"),
    (b"\xff", "unknown format"),
    (b"\xff\xd8", "damaged"),
    (b"not an image at all\n", "is text"),
    ("caf\xe9 \u2615 twice".encode(), "is text"),
    (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
    (b'\xef\xbb\xbf<?xml version="1.0"?><svg/>', "SVG"),
    (b'{"error": "not found"}', "is text"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git-LFS"),
    (b"8BPS\0\1" + b"\0" * 30, "PSD"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "EPS"),
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC|damaged"),
    (b"\0" * 64, "unknown format"),
    (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "damaged"),
    (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + b"\0" * 40, "AVIF|damaged"),
    (b"\0\0\1\0\xff\xff", "damaged"),
    (b"P6 3 3 255\nxx", "damaged"),
]


@pytest.mark.parametrize(("data", "word"), BAD_FILES)
def test_invalid_files_are_rejected(data: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    for source, name in ((path, str(path)), (data, "<bytes>"), (io.BytesIO(data), "<file>")):
        with pytest.raises(ImageError) as caught:
            load_image(source)
        assert str(caught.value).startswith(f"{name}: ")
        assert any(part in str(caught.value) for part in word.split("|")), str(caught.value)


@pytest.mark.parametrize("kind", ["PCX", "TGA", "SGI", "EPS", "PDF", "ICNS"])
def test_unsupported_formats_are_rejected(kind: str) -> None:
    with pytest.raises(ImageError, match=r"expected JPEG, PNG"):
        load_image(encode(picture(), kind))
    with pytest.raises(ImageError, match=r"expected JPEG, .*, ICO, WAV, MP3$"):
        load_image(encode(picture(), kind), other_formats=("WAV", "MP3"))


def test_invalid_paths_are_rejected(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "f.jpg").write_bytes(b"")
    start = time.monotonic()
    cases = {tmp_path: "folder", tmp_path / "none.jpg": "No such file", "": "No such file"}
    cases |= {tmp_path / "pipe.jpg": "pipe", "/dev/zero": "device", "/dev/null": "device"}
    cases |= {tmp_path / "loop.jpg": "symbolic", tmp_path / "f.jpg" / "x": "Not a directory"}
    cases |= {"a\0b": "null", "x" * 5000: "too long", tmp_path / "f.jpg": "empty"}
    for path, word in cases.items():
        with pytest.raises(ImageError, match=word):
            load_image(path)
    assert time.monotonic() - start < 5


def test_a_file_without_permission_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encode(picture(), "PNG"))

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)  # chmod has no effect for root
    with pytest.raises(ImageError, match="Permission denied"):
        load_image(path)


@pytest.mark.parametrize("source", [None, 7, 2.5, [1], object(), io.StringIO("x"), Image])
def test_other_types_of_source_are_rejected(source: object) -> None:
    with pytest.raises(ImageError):
        load_image(source)


def test_closed_files_and_failing_readers_are_errors() -> None:
    closed = io.BytesIO(b"x")
    closed.close()

    class Failing(io.RawIOBase):
        def readinto(self, _buffer: object) -> int:
            raise ConnectionResetError("gone")

    for source in (closed, Failing()):
        with pytest.raises(ImageError):
            load_image(source)


@pytest.mark.parametrize(
    "name", [b"new\nline.jpg", "\U0001f3d6.jpg".encode(), b"\xff\xfe.jpg", b"esc\x1b[31m.jpg"]
)
def test_unusual_file_names_give_one_printable_line(name: bytes, tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(b"junk")
    text = os.fsdecode(path)
    for source in (text, Path(text)):
        with pytest.raises(ImageError) as caught:
            load_image(source)
        message = str(caught.value)
        assert message.isprintable()
        assert message.encode("utf-8")
        assert ".jpg" in message
    with open(path, "wb") as file:
        file.write(encode(picture(), "PNG"))
    assert differ(load_image(text), picture()) == 0


def test_max_pixels_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    bomb = png(60000, 60000, 8, 0, b"")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="60000 x 60000"):
            load_image(bomb)
        with pytest.raises(ImageError, match=r"40 x 24 pixels; expected 1\.\.959 "):
            load_image(encode(picture(), "PNG"), max_pixels=959)
    assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match="max_pixels"):
        load_image(np.zeros((9, 9)), max_pixels=80)


def test_the_size_limit_of_pillow_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {kind: encode(picture(), kind) for kind in ("PNG", "JPEG", "BMP", "PPM")}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in data.values():
            assert load_image(one).size == (40, 24)
            assert load_image(one, max_pixels=960).size == (40, 24)


def test_a_large_image_in_an_icon_is_rejected() -> None:
    inner = encode(Image.new("1", (3000, 3000)), "PNG")
    entry = struct.pack("<4B2H2I", 16, 16, 0, 0, 1, 32, len(inner), 22)
    icon = b"\0\0\1\0\1\0" + entry + inner
    with pytest.raises(ImageError, match="3000 x 3000"):
        load_image(icon, max_pixels=1_000_000)
    opaque = picture(16, 16).convert("RGBA")
    bitmap = encode(opaque, "ICO", sizes=[(16, 16)], bitmap_format="bmp")
    assert differ(load_image(bitmap), picture(16, 16)) == 0


def samples() -> dict[str, bytes]:
    """Return small valid files of all usual formats."""
    image = picture(24, 16)
    files = {"jpeg": encode(image, "JPEG"), "progressive": encode(image, "JPEG", progressive=True)}
    files |= {"png": encode(image, "PNG"), "gif": encode(image.quantize(16), "GIF")}
    files |= {"bmp": encode(image, "BMP"), "tiff": encode(image, "TIFF")}
    files["packed tiff"] = encode(image, "TIFF", compression="tiff_lzw")
    if features.check("webp"):
        files |= {"webp": encode(image, "WEBP"), "webp+": encode(image, "WEBP", lossless=True)}
    if features.check("jpg_2000"):
        files["jp2"] = encode(image, "JPEG2000")
        files["j2k of tiles"] = encode(image, "JPEG2000", no_jp2=True, tile_size=(8, 8))
    return files


@pytest.mark.parametrize("name", samples())
def test_truncated_files_never_give_a_partial_image(name: str) -> None:
    data = samples()[name]
    whole = load_image(data)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = 1 if "j2k" in name else 1 + len(data) // 90  # tiles end at few positions
        ends = sorted({*range(0, len(data), every), len(data) - 30})
        for end in ends:
            try:
                assert differ(load_image(data[:end]), whole) == 0
            except ImageError:
                refused += 1
    assert refused > 0.9 * len(ends)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("name", samples())
def test_damaged_files_give_an_image_or_an_image_error(name: str) -> None:
    data = samples()[name]
    generator = np.random.default_rng(len(name))
    errors = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(70):
            damaged = bytearray(data)
            for place in generator.integers(0, len(data), generator.integers(1, 6)):
                damaged[place] ^= 1 << generator.integers(8)
            if generator.random() < 0.2:
                del damaged[generator.integers(len(data)) :]
            try:
                loaded = load_image(bytes(damaged), max_pixels=1_000_000)
            except ImageError as error:
                errors.append(str(error))
            else:
                assert loaded.mode == "RGB"
                assert loaded.size[0] * loaded.size[1] <= 1_000_000
    assert len(errors) > 3
    assert all(error.startswith("<bytes>: ") and error.isprintable() for error in errors)
