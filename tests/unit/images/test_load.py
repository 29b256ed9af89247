"""Pixels of every kind of input; one typed, printable error for everything else."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import chunk, encode, png
from PIL import Image, ImageCms, ImageFile, features

from captioner.errors import ImageError
from captioner.images import load_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def picture(width: int = 40, height: int = 24, seed: int = 0) -> Image.Image:
    """A smooth random photograph-like picture with no symmetry."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def differ(one: Image.Image, other: Image.Image) -> int:
    assert one.size == other.size
    return int(np.abs(pixels(one) - pixels(other)).max())


LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]
LOSSLESS += [("PPM", {}), ("WEBP", {"lossless": True}), ("JPEG2000", {}), ("ICO", {})]
LOSSLESS += [("JPEG2000", {"no_jp2": True})]


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_formats_keep_every_pixel(kind: str, options: dict) -> None:
    original = picture(32, 32)
    if kind == "ICO":
        options = {"sizes": [(32, 32)]}
    if kind == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this Pillow has no JPEG 2000")
    assert differ(load_image(encode(original, kind, **options)), original) == 0


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_stay_close(kind: str) -> None:
    if kind != "JPEG" and not features.check(kind.lower()):
        pytest.skip(f"this Pillow has no {kind}")
    loaded = load_image(encode(picture(), kind, quality=95))
    assert np.abs(pixels(loaded) - pixels(picture())).mean() < 6


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    data = encode(picture(), "PNG")
    path = tmp_path / "p.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        file.seek(7)
        sources = [str(path), path, data, bytearray(data), io.BytesIO(data), file]
        sources += [picture(), np.asarray(picture()), Image.open(path)]
        results = [load_image(source) for source in sources]
        assert not file.closed
    assert all(type(result) is Image.Image and result.info == {} for result in results)
    assert all(differ(result, picture()) == 0 for result in results)


def test_a_pipe_object_without_seek_is_read() -> None:
    read_end, write_end = os.pipe()
    data = encode(picture(), "PNG")
    writer = threading.Thread(target=lambda: (os.write(write_end, data), os.close(write_end)))
    writer.start()
    with os.fdopen(read_end, "rb") as file:
        assert differ(load_image(file), picture()) == 0
    writer.join()


def test_the_source_is_not_changed() -> None:
    image = picture().quantize(8)
    image.info["transparency"] = 0
    before = image.mode, dict(image.info), image.tobytes()
    load_image(image).putpixel((0, 0), (1, 2, 3))
    assert (image.mode, image.info, image.tobytes()) == before
    rgb = picture()
    load_image(rgb).paste(RED, (0, 0, 40, 24))
    assert differ(rgb, picture()) == 0


TURNS = [  # EXIF 2.3, the tag Orientation, as operations on rows and columns
    (1, lambda a: a),
    (2, lambda a: a[:, ::-1]),
    (3, lambda a: a[::-1, ::-1]),
    (4, lambda a: a[::-1]),
    (5, lambda a: a.swapaxes(0, 1)),
    (6, lambda a: a[::-1].swapaxes(0, 1)),
    (7, lambda a: a[::-1, ::-1].swapaxes(0, 1)),
    (8, lambda a: a[:, ::-1].swapaxes(0, 1)),
]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF", "image"])
def test_exif_orientation_is_applied_once(kind: str) -> None:
    if kind in ("WEBP", "AVIF") and not features.check(kind.lower()):
        pytest.skip(f"this Pillow has no {kind}")
    for value, turn in TURNS:
        exif = Image.Exif()
        exif[0x0112] = value
        options = {"lossless": True} if kind == "WEBP" else {}
        options |= {"quality": 100, "subsampling": "4:4:4"} if kind in ("JPEG", "AVIF") else {}
        data = encode(picture(), "PNG" if kind == "image" else kind, exif=exif, **options)
        loaded = load_image(Image.open(io.BytesIO(data)) if kind == "image" else data)
        error = np.abs(pixels(loaded) - turn(pixels(picture())))
        assert error.max() <= (12 if kind in ("JPEG", "AVIF") else 0), value
        assert differ(load_image(loaded), loaded) == 0  # nothing is left to be applied twice


@pytest.mark.parametrize("exif", [b"Exif\0\0junk", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 40])
def test_damaged_metadata_does_not_lose_the_picture(exif: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_image(encode(picture(), "JPEG", exif=exif, quality=95))
    assert loaded.size == picture().size


def test_palette_grey_and_one_bit() -> None:
    palette = picture().quantize(16)
    assert differ(load_image(encode(palette, "PNG")), palette.convert("RGB")) == 0
    assert differ(load_image(encode(palette, "GIF")), palette.convert("RGB")) == 0
    grey = picture().convert("L")
    assert differ(load_image(encode(grey, "PNG")), grey.convert("RGB")) == 0
    bits = grey.convert("1")
    for kind in ("PNG", "TIFF", "BMP", "PPM", "GIF"):
        loaded = pixels(load_image(encode(bits, kind)))
        assert (loaded == 255 * np.asarray(bits)[..., None]).all(), kind


def test_cmyk_inks_have_their_colours() -> None:
    inks = {(0, 0, 0, 0): WHITE, (0, 255, 255, 0): RED, (255, 0, 255, 0): (0, 255, 0)}
    inks |= {(255, 255, 0, 0): (0, 0, 255), (0, 0, 0, 255): (0, 0, 0)}
    for ink, colour in inks.items():
        image = Image.new("CMYK", (16, 16), ink)
        jpeg = encode(image, "JPEG", quality=95)  # written inverted, with an Adobe marker
        assert b"Adobe" in jpeg
        for source in (jpeg, encode(image, "TIFF"), image):
            assert np.abs(pixels(load_image(source)) - colour).max() <= 4


def test_adobe_ycck_jpeg() -> None:
    stored = (180, 90, 160, 220)  # the planes as they lie in the file
    image = Image.new("CMYK", (16, 16), tuple(255 - value for value in stored))
    jpeg = bytearray(encode(image, "JPEG", quality=100))
    jpeg[jpeg.index(b"Adobe") + 11] = 2  # the transform: from now on the planes mean YCCK
    y, cb, cr, light = stored
    ink = (y + 1.402 * (cr - 128), y - 0.344 * (cb - 128) - 0.714 * (cr - 128))
    ink = (*ink, y + 1.772 * (cb - 128))  # JFIF's conversion gives cyan, magenta, yellow
    expected = [(255 - value) * light / 255 for value in ink]
    assert np.abs(pixels(load_image(bytes(jpeg)))[8, 8] - expected).max() <= 3


def test_other_colour_spaces_come_back() -> None:
    original = picture()
    assert differ(load_image(original.convert("YCbCr")), original) <= 4
    assert differ(load_image(original.convert("HSV")), original) <= 12
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(original, to_lab)
    for source in (lab, encode(lab, "TIFF")):
        assert np.abs(pixels(load_image(source)) - pixels(original)).mean() < 2


RAMP16 = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "png", "tiff", "tiff-big", "ppm", "array"])
def test_16_bit_grey_is_scaled_and_not_clipped(mode: str) -> None:
    image = Image.fromarray(RAMP16)
    source = {
        "I;16": lambda: image,
        "I;16B": lambda: Image.frombytes("I;16B", (8, 8), RAMP16.astype(">u2").tobytes()),
        "I": lambda: Image.fromarray(RAMP16.astype(np.int32)),
        "png": lambda: encode(image, "PNG"),
        "tiff": lambda: encode(image, "TIFF"),
        "tiff-big": lambda: encode(
            Image.frombytes("I;16B", (8, 8), RAMP16.astype(">u2").tobytes()), "TIFF"
        ),
        "ppm": lambda: b"P5 8 8 65535\n" + RAMP16.astype(">u2").tobytes(),
        "array": lambda: RAMP16,
    }[mode]()
    expected = np.rint(RAMP16 / 257).astype(int)
    assert (pixels(load_image(source)) == expected[..., None]).all()


def test_a_dark_16_bit_png_stays_dark() -> None:
    dark = encode(Image.fromarray(np.full((4, 4), 200, np.uint16)), "PNG")
    assert pixels(load_image(dark)).max() == 1


def test_deep_colour_png_keeps_its_high_byte() -> None:
    row = b"\0" + struct.pack(">6H", 0xFFFF, 0x8000, 0, 0x1234, 0x0100, 0x00FF)
    assert pixels(load_image(png(2, 1, 16, 2, row))).tolist() == [[[255, 128, 0], [18, 1, 0]]]


def test_white_is_zero_tiff_of_16_bits_is_not_a_negative() -> None:
    data = encode(Image.fromarray(RAMP16), "TIFF")
    at = data.index(struct.pack("<HHI", 262, 3, 1))  # the entry PhotometricInterpretation
    inverted = data[: at + 8] + struct.pack("<H", 0) + data[at + 10 :]
    assert (pixels(load_image(inverted)) == 255 - pixels(load_image(data))).all()


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.0, 255.0), (0.0, 40000.0), (-3000.0, 8848.0), (-1.0, 1.0)]
)
def test_float_tiff_spans_black_to_white(low: float, high: float) -> None:
    ramp = np.linspace(low, high, 256, dtype=np.float32).reshape(16, 16)
    loaded = pixels(load_image(encode(Image.fromarray(ramp), "TIFF")))
    assert np.abs(loaded[..., 0].ravel() - np.arange(256)).max() <= 1


def test_a_constant_float_image_is_no_error() -> None:
    assert pixels(load_image(Image.new("F", (3, 2), 0.5))).tolist()[0][0] == [128] * 3
    assert pixels(load_image(Image.new("F", (3, 2), 5000.0))).max() == 0


@pytest.mark.parametrize("kind", ["RGBA", "LA", "PA", "RGBa", "La", "P", "gif", "webp", "tiff"])
def test_alpha_is_composited_on_white(kind: str) -> None:
    alpha = np.array([[0, 64, 128, 255]], np.uint8).repeat(3, axis=0)
    grey = kind in ("LA", "La")
    colour = (60, 60, 60) if grey else (200, 30, 90)
    solid = Image.new("L" if grey else "RGB", (4, 3), 60 if grey else colour)
    solid.putalpha(Image.fromarray(alpha))
    if kind in ("P", "gif"):
        image = Image.new("P", (4, 3))
        image.putdata([0, 1, 2, 3] * 3)
        image.putpalette(list(colour) * 4)
        steps = alpha[0] if kind == "P" else np.array([0, 255, 255, 255], np.uint8)
        trns = bytes(steps.tolist()) if kind == "P" else 0
        source: object = encode(image, "PNG" if kind == "P" else "GIF", transparency=trns)
        alpha = np.tile(steps, (3, 1))
    elif kind in ("webp", "tiff"):
        source = encode(
            solid, kind, **({"lossless": True, "exact": True} if kind == "webp" else {})
        )
    elif kind == "PA":
        flat = Image.new("P", (4, 3))
        flat.putpalette(list(colour))
        source = flat.convert("PA")
        source.putalpha(Image.fromarray(alpha))
        assert source.mode == "PA"
    else:
        source = solid if kind == solid.mode else solid.convert(kind)
    opacity = alpha[..., None] / 255
    expected = opacity * np.array(colour) + (1 - opacity) * 255
    slack = 3 if kind in ("RGBa", "La") else 1  # premultiplied bands are rounded
    assert np.abs(pixels(load_image(source)) - expected).max() <= slack


def test_one_transparent_colour_becomes_white_at_every_depth() -> None:
    cases = [  # depth, colour type, one row of two pixels, tRNS, the second pixel's colour
        (1, 0, b"\0\x40", struct.pack(">H", 0), WHITE),  # 0 is transparent, 1 is white anyhow
        (2, 0, b"\0\x60", struct.pack(">H", 1), (170,) * 3),  # samples 1 and 2
        (4, 0, b"\0\x79", struct.pack(">H", 7), (153,) * 3),  # samples 7 and 9
        (8, 0, b"\0\x46\x50", struct.pack(">H", 0x46), (80,) * 3),
        (16, 0, b"\0\x46\x00\x50\x00", struct.pack(">H", 0x4600), (80,) * 3),
        (8, 2, b"\0\1\2\3\4\5\6", struct.pack(">3H", 1, 2, 3), (4, 5, 6)),
        (16, 2, b"\0" + b"\1\0\2\0\3\0\4\0\5\0\6\0", struct.pack(">3H", 256, 512, 768), (4, 5, 6)),
    ]
    for depth, colour, row, trns, second in cases:
        loaded = load_image(png(2, 1, depth, colour, row, before=chunk(b"tRNS", trns)))
        found = [loaded.getpixel((0, 0)), loaded.getpixel((1, 0))]
        assert found == [WHITE, second], (depth, colour)
    plain = load_image(png(2, 1, 4, 0, b"\0\x79"))
    assert plain.getpixel((0, 0)) == (119,) * 3


def test_only_the_first_frame_of_an_animation() -> None:
    first, second = picture(), picture(seed=1)
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        if kind == "WEBP" and not features.check("webp"):
            continue
        start = first.quantize(64) if kind == "GIF" else first
        data = encode(start, kind, save_all=True, append_images=[second], **options)
        assert Image.open(io.BytesIO(data)).n_frames == 2
        assert differ(load_image(data), start.convert("RGB")) == 0, kind
    mpo = encode(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert Image.open(io.BytesIO(mpo)).format == "MPO"
    assert np.abs(pixels(load_image(mpo)) - pixels(first)).mean() < 6


@pytest.mark.parametrize("size", [(1, 1), (65500, 1), (1, 65500)])
def test_extreme_sizes(size: tuple[int, int]) -> None:
    for kind in ("JPEG", "PNG"):
        assert load_image(encode(Image.new("RGB", size, RED), kind)).size == size


def test_arrays_of_every_kind() -> None:
    rgb = np.asarray(picture())
    for array in (rgb, rgb / 255, (rgb / 255).astype(np.float16), rgb.astype(np.float32)):
        assert (pixels(load_image(array)) == rgb).all()
    for array in (rgb.astype(np.int64), rgb.astype(np.uint16) * 257, np.asfortranarray(rgb)):
        assert (pixels(load_image(array)) == rgb).all()
    grey = rgb[..., 0]
    for array in (grey, grey[..., None], grey.astype(">u2") * 257):
        assert (pixels(load_image(array)) == grey[..., None]).all()
    assert (pixels(load_image(grey > 99)) == 255 * (grey > 99)[..., None]).all()
    clear = np.dstack([rgb, np.zeros_like(grey)])
    assert pixels(load_image(clear)).min() == 255
    assert (pixels(load_image(rgb[::-1, ::-2])) == rgb[::-1, ::-2]).all()
    overshot = np.array([[-0.02, 0.5, 1.03]])
    assert pixels(load_image(overshot))[0, :, 0].tolist() == [0, 128, 255]


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
def test_arrays_that_are_no_images(array: np.ndarray, word: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(array)
    assert str(caught.value).startswith("<array>: ")
    assert word in str(caught.value)


def test_nan_in_a_float_tiff() -> None:
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
def test_files_that_are_no_images(data: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    for source, name in ((path, str(path)), (data, "<bytes>"), (io.BytesIO(data), "<file>")):
        with pytest.raises(ImageError) as caught:
            load_image(source)
        assert str(caught.value).startswith(f"{name}: ")
        assert any(part in str(caught.value) for part in word.split("|")), str(caught.value)


@pytest.mark.parametrize("kind", ["PCX", "TGA", "SGI", "EPS", "PDF", "ICNS"])
def test_formats_outside_the_list_are_refused(kind: str) -> None:
    with pytest.raises(ImageError, match=r"expected JPEG, PNG"):
        load_image(encode(picture(), kind))


def test_paths_that_are_no_files(tmp_path: Path) -> None:
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


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encode(picture(), "PNG"))

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything, so chmod is no test
    with pytest.raises(ImageError, match="Permission denied"):
        load_image(path)


@pytest.mark.parametrize("source", [None, 7, 2.5, [1], object(), io.StringIO("x"), Image])
def test_other_types_are_refused(source: object) -> None:
    with pytest.raises(ImageError):
        load_image(source)


def test_a_closed_file_and_a_failing_reader() -> None:
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
def test_odd_names_give_one_printable_line(name: bytes, tmp_path: Path) -> None:
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


def test_pillows_own_limit_neither_warns_nor_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {kind: encode(picture(), kind) for kind in ("PNG", "JPEG", "BMP", "PPM")}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in data.values():
            assert load_image(one).size == (40, 24)
            assert load_image(one, max_pixels=960).size == (40, 24)


def test_a_bomb_inside_an_icon() -> None:
    inner = encode(Image.new("1", (3000, 3000)), "PNG")
    entry = struct.pack("<4B2H2I", 16, 16, 0, 0, 1, 32, len(inner), 22)
    icon = b"\0\0\1\0\1\0" + entry + inner
    with pytest.raises(ImageError, match="3000 x 3000"):
        load_image(icon, max_pixels=1_000_000)
    opaque = picture(16, 16).convert("RGBA")
    bitmap = encode(opaque, "ICO", sizes=[(16, 16)], bitmap_format="bmp")
    assert differ(load_image(bitmap), picture(16, 16)) == 0


def test_min_size_gives_a_smaller_but_equal_picture() -> None:
    big = picture(1601, 1200)
    data = encode(big, "JPEG", quality=92)
    full = load_image(data)
    assert full.size == big.size
    for floor, size in ((150, (201, 150)), (151, (401, 300)), (600, (801, 600)), (601, big.size)):
        small = load_image(data, min_size=floor)
        assert small.size == size
        assert min(small.size) >= floor
        reduced = full.resize(size, Image.Resampling.BOX)
        assert np.abs(pixels(small) - pixels(reduced)).mean() < 1.5
    assert load_image(data, min_size=5000).size == big.size
    assert load_image(encode(picture(), "PNG"), min_size=4).size == (40, 24)
    with pytest.raises(ImageError, match="1601 x 1200"):
        load_image(data, min_size=150, max_pixels=1000)


def samples() -> dict[str, bytes]:
    """Small valid files of every kind that has a common file extension."""
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
def test_truncated_files_never_give_half_a_picture(name: str) -> None:
    data = samples()[name]
    whole = load_image(data)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = 1 if "j2k" in name else 1 + len(data) // 90  # tiles end at a few places only
        ends = sorted({*range(0, len(data), every), len(data) - 30})
        for end in ends:
            try:
                assert differ(load_image(data[:end]), whole) == 0
            except ImageError:
                refused += 1
    assert refused > 0.9 * len(ends)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("name", samples())
def test_damaged_files_give_an_image_or_the_one_error(name: str) -> None:
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
