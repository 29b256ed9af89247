"""Test the pixels that are loaded from every kind of source."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import chunk, encode, png
from image_samples import RED, WHITE, differ, picture, pixels
from PIL import Image, ImageCms, features

from captioner.errors import ImageError
from captioner.images import load_image

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


def test_loading_does_not_change_the_source() -> None:
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
        assert differ(load_image(loaded), loaded) == 0  # the orientation is not applied twice


@pytest.mark.parametrize("exif", [b"Exif\0\0junk", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 40])
def test_damaged_metadata_is_ignored(exif: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_image(encode(picture(), "JPEG", exif=exif, quality=95))
    assert loaded.size == picture().size


def test_palette_gray_and_one_bit_images() -> None:
    palette = picture().quantize(16)
    assert differ(load_image(encode(palette, "PNG")), palette.convert("RGB")) == 0
    assert differ(load_image(encode(palette, "GIF")), palette.convert("RGB")) == 0
    gray = picture().convert("L")
    assert differ(load_image(encode(gray, "PNG")), gray.convert("RGB")) == 0
    bits = gray.convert("1")
    for kind in ("PNG", "TIFF", "BMP", "PPM", "GIF"):
        loaded = pixels(load_image(encode(bits, kind)))
        assert (loaded == 255 * np.asarray(bits)[..., None]).all(), kind


def test_cmyk_is_converted_to_rgb() -> None:
    inks = {(0, 0, 0, 0): WHITE, (0, 255, 255, 0): RED, (255, 0, 255, 0): (0, 255, 0)}
    inks |= {(255, 255, 0, 0): (0, 0, 255), (0, 0, 0, 255): (0, 0, 0)}
    for ink, color in inks.items():
        image = Image.new("CMYK", (16, 16), ink)
        jpeg = encode(image, "JPEG", quality=95)  # stored inverted, with an Adobe marker
        assert b"Adobe" in jpeg
        for source in (jpeg, encode(image, "TIFF"), image):
            assert np.abs(pixels(load_image(source)) - color).max() <= 4


def test_adobe_ycck_jpeg() -> None:
    stored = (180, 90, 160, 220)  # the planes in the file
    image = Image.new("CMYK", (16, 16), tuple(255 - value for value in stored))
    jpeg = bytearray(encode(image, "JPEG", quality=100))
    jpeg[jpeg.index(b"Adobe") + 11] = 2  # the transform flag: the planes are now YCCK
    y, cb, cr, light = stored
    ink = (y + 1.402 * (cr - 128), y - 0.344 * (cb - 128) - 0.714 * (cr - 128))
    ink = (*ink, y + 1.772 * (cb - 128))  # JFIF's conversion gives cyan, magenta, yellow
    expected = [(255 - value) * light / 255 for value in ink]
    assert np.abs(pixels(load_image(bytes(jpeg)))[8, 8] - expected).max() <= 3


def test_other_color_spaces_are_converted_to_rgb() -> None:
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
def test_16_bit_gray_is_scaled_and_not_clipped(mode: str) -> None:
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


def test_16_bit_color_png_keeps_its_high_byte() -> None:
    row = b"\0" + struct.pack(">6H", 0xFFFF, 0x8000, 0, 0x1234, 0x0100, 0x00FF)
    assert pixels(load_image(png(2, 1, 16, 2, row))).tolist() == [[[255, 128, 0], [18, 1, 0]]]


def test_16_bit_white_is_zero_tiff_is_inverted() -> None:
    data = encode(Image.fromarray(RAMP16), "TIFF")
    at = data.index(struct.pack("<HHI", 262, 3, 1))  # the tag PhotometricInterpretation
    inverted = data[: at + 8] + struct.pack("<H", 0) + data[at + 10 :]
    assert (pixels(load_image(inverted)) == 255 - pixels(load_image(data))).all()


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.0, 255.0), (0.0, 40000.0), (-3000.0, 8848.0), (-1.0, 1.0)]
)
def test_float_tiff_spans_black_to_white(low: float, high: float) -> None:
    ramp = np.linspace(low, high, 256, dtype=np.float32).reshape(16, 16)
    loaded = pixels(load_image(encode(Image.fromarray(ramp), "TIFF")))
    assert np.abs(loaded[..., 0].ravel() - np.arange(256)).max() <= 1


def test_a_constant_float_image_is_loaded() -> None:
    assert pixels(load_image(Image.new("F", (3, 2), 0.5))).tolist()[0][0] == [128] * 3
    assert pixels(load_image(Image.new("F", (3, 2), 5000.0))).max() == 0


@pytest.mark.parametrize("kind", ["RGBA", "LA", "PA", "RGBa", "La", "P", "gif", "webp", "tiff"])
def test_alpha_is_composited_on_white(kind: str) -> None:
    alpha = np.array([[0, 64, 128, 255]], np.uint8).repeat(3, axis=0)
    gray = kind in ("LA", "La")
    color = (60, 60, 60) if gray else (200, 30, 90)
    solid = Image.new("L" if gray else "RGB", (4, 3), 60 if gray else color)
    solid.putalpha(Image.fromarray(alpha))
    if kind in ("P", "gif"):
        image = Image.new("P", (4, 3))
        image.putdata([0, 1, 2, 3] * 3)
        image.putpalette(list(color) * 4)
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
        flat.putpalette(list(color))
        source = flat.convert("PA")
        source.putalpha(Image.fromarray(alpha))
        assert source.mode == "PA"
    else:
        source = solid if kind == solid.mode else solid.convert(kind)
    opacity = alpha[..., None] / 255
    expected = opacity * np.array(color) + (1 - opacity) * 255
    slack = 3 if kind in ("RGBa", "La") else 1  # premultiplied bands are rounded
    assert np.abs(pixels(load_image(source)) - expected).max() <= slack


def test_a_transparent_color_becomes_white_at_every_depth() -> None:
    cases = [  # depth, color type, one row of two pixels, tRNS, color of the second pixel
        (1, 0, b"\0\x40", struct.pack(">H", 0), WHITE),  # 0 is transparent, 1 is white
        (2, 0, b"\0\x60", struct.pack(">H", 1), (170,) * 3),  # samples 1 and 2
        (4, 0, b"\0\x79", struct.pack(">H", 7), (153,) * 3),  # samples 7 and 9
        (8, 0, b"\0\x46\x50", struct.pack(">H", 0x46), (80,) * 3),
        (16, 0, b"\0\x46\x00\x50\x00", struct.pack(">H", 0x4600), (80,) * 3),
        (8, 2, b"\0\1\2\3\4\5\6", struct.pack(">3H", 1, 2, 3), (4, 5, 6)),
        (16, 2, b"\0" + b"\1\0\2\0\3\0\4\0\5\0\6\0", struct.pack(">3H", 256, 512, 768), (4, 5, 6)),
    ]
    for depth, color, row, trns, second in cases:
        loaded = load_image(png(2, 1, depth, color, row, before=chunk(b"tRNS", trns)))
        found = [loaded.getpixel((0, 0)), loaded.getpixel((1, 0))]
        assert found == [WHITE, second], (depth, color)
    plain = load_image(png(2, 1, 4, 0, b"\0\x79"))
    assert plain.getpixel((0, 0)) == (119,) * 3


def test_only_the_first_frame_of_an_animation_is_loaded() -> None:
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


def test_arrays_of_all_types() -> None:
    rgb = np.asarray(picture())
    for array in (rgb, rgb / 255, (rgb / 255).astype(np.float16), rgb.astype(np.float32)):
        assert (pixels(load_image(array)) == rgb).all()
    for array in (rgb.astype(np.int64), rgb.astype(np.uint16) * 257, np.asfortranarray(rgb)):
        assert (pixels(load_image(array)) == rgb).all()
    gray = rgb[..., 0]
    for array in (gray, gray[..., None], gray.astype(">u2") * 257):
        assert (pixels(load_image(array)) == gray[..., None]).all()
    assert (pixels(load_image(gray > 99)) == 255 * (gray > 99)[..., None]).all()
    clear = np.dstack([rgb, np.zeros_like(gray)])
    assert pixels(load_image(clear)).min() == 255
    assert (pixels(load_image(rgb[::-1, ::-2])) == rgb[::-1, ::-2]).all()
    overshot = np.array([[-0.02, 0.5, 1.03]])
    assert pixels(load_image(overshot))[0, :, 0].tolist() == [0, 128, 255]


def test_min_size_gives_a_smaller_but_equal_image() -> None:
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
