#!/usr/bin/env python
"""Invalid and unusual image files: `python tests/bad_inputs.py FOLDER` writes them.

Each file must give an error or a caption. Most of the valid ones are the same image, PLAIN, in
another format. Formats that the installed Pillow cannot write are left out.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from image_bytes import bmp, chunk, interlaced, png, swap, tiff
from PIL import Image, features

BOMB = 60_000
"""Width and height of images that must not be decoded."""


def blocks(seed: int) -> Image.Image:
    """Return colored squares of 32 pixels, which JPEG changes little."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((128, 96), Image.Resampling.NEAREST)


PLAIN = blocks(5)
GREY = PLAIN.convert("L")


@dataclass(frozen=True)
class Kind:
    """One file: its content and the expected result."""

    name: str
    """The name of the file; bytes that are not UTF-8 are surrogates."""
    content: bytes | Callable[[Path], None]
    """Bytes, or a function that creates the path."""
    expect: str = "caption"
    """`error`, `caption`, or `either` if it depends on the libraries."""
    error: str = "ImageError"
    """The name of the exact class of the error."""
    like: Image.Image | None = field(default_factory=lambda: PLAIN)
    """The expected image; None if any is accepted."""
    tolerance: float = 0.0
    """The greatest mean difference from that image, in levels of 255."""
    low_confidence: bool = False


def bad(name: str, content: object, error: str = "ImageError") -> Kind:
    """Return a file that must give an error."""
    return Kind(name, content, "error", error)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as a file in a format that Pillow writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def not_images() -> Iterator[Kind]:
    """Yield files of other types with the name of an image."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "text")
    texts = {"text": "just text\n", "html": "<!DOCTYPE html><html>404</html>"}
    texts |= {"svg": '<svg xmlns="http://www.w3.org/2000/svg"/>', "json": '{"error": 404}'}
    texts |= {"pdf": "%PDF-1.4\n%", "lfs": "version https://git-lfs.github.com/spec/v1\nsize 9\n"}
    contents = {name: text.encode() for name, text in texts.items()}
    contents |= {"empty": b"", "one-byte": b"\xff", "zip": archive.getvalue()}
    contents |= {"exe": b"MZ\x90\0" + bytes(200), "psd": b"8BPS\0\1" + bytes(30)}
    contents |= {"eps": encode(PLAIN, "EPS"), "dds": encode(PLAIN, "DDS")}
    contents["fli"] = struct.pack("<IHHHH", 128, 0xAF11, 1, 8, 8) + bytes(116)
    for name, content in contents.items():
        yield bad(f"{name}.jpg", content, "ImageFormatError")


def odd_paths() -> Iterator[Kind]:
    """Yield paths that are not regular files, and unusual names."""
    yield bad("folder.jpg", Path.mkdir)
    yield bad("pipe.jpg", os.mkfifo)
    yield bad("zero.jpg", lambda path: path.symlink_to("/dev/zero"))
    yield bad("dangling.jpg", lambda path: path.symlink_to("nowhere.jpg"))
    yield bad("loop.jpg", lambda path: path.symlink_to(path.name))
    data = encode(PLAIN, "PNG")
    if os.geteuid():  # root may read everything
        yield bad("unreadable.png", lambda path: (path.write_bytes(data), path.chmod(0)))
    for name in (
        b"new\nline.png",
        "\U0001f3d6.png".encode(),
        b"\xff\xfe.png",
        b"x" * 200 + b".png",
    ):
        yield Kind(os.fsdecode(name), data)
        yield bad(os.fsdecode(b"bad-" + name), b"junk", "ImageFormatError")
    yield Kind("jpeg.png", encode(PLAIN, "JPEG", quality=95), tolerance=3)
    yield Kind("png.jpg", data)


ARITHMETIC = """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4n
ICIsIxwcKDcpLDAxNDQ0Hyc5PTgyPC4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIy
MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjL/yQARCAAQABADAREAAhEBAxEB/8wACgAQEAUBEBEF
/9oADAMBAAIRAxEAPwD/AKA668tblpoe3jNPAm/e16QS3P/Z
"""
TURNS = {1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
TURNS |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
"""The transform of the stored image for each EXIF orientation."""


def jpegs() -> Iterator[Kind]:
    """Yield valid and damaged JPEG files."""
    data = encode(PLAIN, "JPEG", quality=95)
    frame = data.index(b"\xff\xc0")
    yield bad("half.jpg", data[: len(data) // 2])
    yield bad("cut-128.jpg", data[:-128])
    yield bad("header-only.jpg", data[: data.index(b"\xff\xda")])
    yield bad("soi.jpg", b"\xff\xd8")
    yield bad("bomb.jpg", swap(data, frame + 5, b"\xff\xdc\xff\xdc"), "ImageSizeError")
    yield bad("12-bit.jpg", swap(swap(data, frame, b"\xff\xc1"), frame + 4, b"\x0c"))
    for i, at in enumerate(np.random.default_rng(0).integers(frame, len(data), 8)):
        flipped = swap(data, int(at), bytes([data[at] ^ 1 << i]))
        yield Kind(f"flipped-{i}.jpg", flipped, "either", like=None)

    halves = Image.new("RGB", (16, 16), "red")
    halves.paste("blue", (8, 0, 16, 16))
    arithmetic = base64.b64decode(ARITHMETIC)
    yield Kind("arithmetic.jpg", arithmetic, "either", like=halves, tolerance=3)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "text")
    inks = PLAIN.convert("CMYK")
    adobe = encode(inks, "JPEG", quality=95)  # Pillow writes inverted values, as Adobe does.
    mark = adobe.index(b"\xff\xee")
    good = {
        "progressive": encode(PLAIN, "JPEG", quality=95, progressive=True),
        "adobe-cmyk": adobe,
        "unmarked-cmyk": adobe[:mark] + adobe[mark + 16 :],  # Must be read as browsers do.
        "polyglot": data + archive.getvalue(),
        "mpo": encode(PLAIN, "MPO", save_all=True, append_images=[blocks(2)], quality=95),
        "wrong-icc": encode(PLAIN, "JPEG", quality=95, icc_profile=b"no profile" * 9),
        "no-exif": encode(PLAIN, "JPEG", quality=95, exif=b"Exif\0\0junk"),
        "torn-exif": encode(
            PLAIN, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 40
        ),
    }
    for value, turn in TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = value
        image = PLAIN.transpose(Image.Transpose[turn]) if turn else PLAIN
        good[f"exif-{value}"] = encode(image, "JPEG", quality=95, exif=exif)
    for name, content in good.items():
        yield Kind(f"{name}.jpg", content, tolerance=3)
    yield Kind("grey.jpg", encode(GREY, "JPEG", quality=95), like=GREY, tolerance=3)
    wide = Image.fromarray((np.arange(65500) // 99 % 256).astype(np.uint8)[None])
    yield Kind("65500x1.jpg", encode(wide, "JPEG"), like=wide, tolerance=5)


def bomb() -> bytes:
    """Return a complete PNG of 3,600 million pixels in half a megabyte."""
    deflate, row = zlib.compressobj(1), bytes(1 + BOMB // 8)
    packed = b"".join(deflate.compress(row * 100) for _ in range(BOMB // 100))
    return png(BOMB, BOMB, 1, 0, packed + deflate.flush(), packed=True)


def pngs() -> Iterator[Kind]:
    """Yield valid, damaged and animated PNG files."""
    data = encode(PLAIN, "PNG")
    body = data.index(b"IDAT") + 4
    yield bad("cut-idat.png", data[: (body + len(data)) // 2])
    yield bad("no-idat.png", data[: body - 8])
    yield bad("header-crc.png", swap(data, 29, b"\0\0\0\0"))
    yield Kind("idat-crc.png", swap(data, -16, b"\0\0\0\0"), "either")
    yield bad("bomb.png", bomb(), "ImageSizeError")
    text = b"a\0\0" + zlib.compress(bytes(200_000_000), 1)
    rgb = b"".join(b"\0" + row.tobytes() for row in np.asarray(PLAIN))
    yield Kind("text-bomb.png", png(128, 96, 8, 2, rgb, before=chunk(b"zTXt", text)), "either")

    yield Kind("plain.png", data)
    yield Kind("interlaced.png", interlaced(PLAIN))
    yield Kind("grey.png", encode(GREY, "PNG"), like=GREY)
    deep = np.asarray(GREY).astype(np.uint16) * 257
    yield Kind("16-bit-grey.png", encode(Image.fromarray(deep), "PNG"), like=GREY)
    rgba = np.dstack([np.asarray(PLAIN), np.full((96, 128), 255)]).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in rgba)
    yield Kind("16-bit-rgba.png", png(128, 96, 16, 6, rows))
    bits = GREY.convert("1")
    yield Kind("1-bit.png", encode(bits, "PNG"), like=bits)
    palette = PLAIN.quantize(16)
    half = Image.blend(Image.new("RGB", PLAIN.size, "white"), PLAIN, 128 / 255)
    alpha = encode(palette, "PNG", transparency=bytes([128] * 16))
    yield Kind("palette-alpha.png", alpha, like=half, tolerance=1)
    clear = encode(Image.new("RGBA", (64, 64)), "PNG")
    white = Image.new("RGB", (64, 64), "white")
    yield Kind("transparent.png", clear, like=white, low_confidence=True)
    large = encode(Image.new("P", (6000, 6000)), "PNG", transparency=0)
    yield Kind("large.png", large, like=None, low_confidence=True)
    for size in ((1, 1), (1, 300), (300, 1)):
        red = Image.new("RGB", size, "red")
        yield Kind(f"{size[0]}x{size[1]}.png", encode(red, "PNG"), like=red, low_confidence=True)

    moving = encode(PLAIN, "PNG", save_all=True, append_images=[blocks(2)])
    yield Kind("moving.png", moving)
    second = moving.index(b"fdAT") + 4
    yield Kind("moving-disordered.png", swap(moving, second, b"\0\0\0\x77"))
    count = moving.index(b"acTL") - 4
    none = moving[:count] + chunk(b"acTL", bytes(8)) + moving[count + 20 :]
    yield Kind("moving-none.png", none)


def bitmaps() -> Iterator[Kind]:
    """Yield BMP files of all types, and icons."""
    a = np.asarray(PLAIN)[..., ::-1]  # blue, green, red
    for mode in ("RGB", "RGBA", "P"):
        image = PLAIN.quantize(16) if mode == "P" else PLAIN.convert(mode)
        yield Kind(f"{mode}.bmp", encode(image, "BMP"))
    bits = GREY.convert("1")
    yield Kind("1-bit.bmp", encode(bits, "BMP"), like=bits)
    yield Kind("top-down.bmp", bmp(24, a.tobytes(), height=-96))
    five = (a[::-1] >> 3).astype("<u2")
    words = five[..., 0] | five[..., 1] << 5 | five[..., 2] << 10
    yield Kind("16-bit.bmp", bmp(16, words.tobytes()), tolerance=8)
    palette = PLAIN.quantize(16)
    table = np.zeros((256, 4), np.uint8)
    table[:, :3] = np.array(palette.getpalette() + [0] * 768)[:768].reshape(256, 3)[:, ::-1]
    runs = b"".join(
        b"".join(bytes([32, value]) for value in row[::32]) + b"\0\0"
        for row in np.asarray(palette)[::-1].tolist()
    )
    packed = bmp(8, runs + b"\0\1", packed=1, colours=table.tobytes())
    yield Kind("packed.bmp", packed)
    yield bad("cut.bmp", bmp(24, a.tobytes())[:-5000])
    yield bad("bomb.bmp", swap(bmp(24, b""), 18, struct.pack("<2i", BOMB, BOMB)), "ImageSizeError")
    yield Kind("icon.ico", encode(PLAIN, "ICO", sizes=[(128, 96)]))
    inner = png(BOMB, BOMB, 1, 0, bytes(9))
    icon = struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner
    yield bad("bomb.ico", icon, "ImageSizeError")
    yield bad("cursor.ico", swap(icon, 2, b"\2"), "ImageFormatError")


def other_formats() -> Iterator[Kind]:
    """Yield GIF, TIFF, and formats that not every Pillow reads."""
    palette, second = PLAIN.quantize(16), blocks(2)
    yield Kind("moving.gif", encode(palette, "GIF", save_all=True, append_images=[second]))
    yield bad("no-frame.gif", b"GIF89a" + struct.pack("<2H3B", 64, 64, 0, 0, 0) + b";")
    yield bad("bomb.gif", swap(encode(palette, "GIF"), 6, b"\xff\xff\xff\xff"), "ImageSizeError")
    yield bad("bomb.ppm", b"P6 60000 60000 255\n" + bytes(9), "ImageSizeError")

    pages = encode(PLAIN, "TIFF", save_all=True, append_images=[second])
    yield Kind("pages.tif", pages)
    yield Kind("little-endian.tif", tiff(PLAIN))
    yield Kind("big-endian.tif", tiff(PLAIN, ">"))
    yield Kind("tiled.tif", tiff(PLAIN, tiled=True))
    yield Kind("loop.tif", swap(tiff(PLAIN), 8 + 2 + 12 * 9, struct.pack("<I", 8)))
    floats = Image.fromarray(np.asarray(GREY, np.float32) / 255)
    yield Kind("float.tif", encode(floats, "TIFF"), like=GREY)
    yield Kind("inks.tif", encode(PLAIN.convert("CMYK"), "TIFF"))
    yield bad("cut.tif", tiff(PLAIN)[:-5000])
    # The values of the first two entries are width and height.
    wide = swap(tiff(PLAIN), 18, struct.pack("<H", BOMB))
    yield bad("bomb.tif", swap(wide, 30, struct.pack("<H", BOMB)), "ImageSizeError")

    if features.check("webp"):
        yield Kind("lossy.webp", encode(PLAIN, "WEBP", quality=95), tolerance=6)
        lossless = encode(PLAIN, "WEBP", lossless=True)
        yield Kind("lossless.webp", lossless)
        moving = encode(PLAIN, "WEBP", lossless=True, save_all=True, append_images=[second])
        yield Kind("moving.webp", moving)
        yield bad("cut.webp", lossless[:-20])
    if features.check("jpg_2000"):
        data = encode(PLAIN, "JPEG2000")
        yield Kind("plain.jp2", data)
        yield bad("cut.jp2", data[: len(data) // 2])
    if features.check("avif"):
        data = encode(PLAIN, "AVIF", quality=90)
        yield Kind("plain.avif", data, tolerance=6)
        yield bad("cut.avif", data[: len(data) // 2])
    yield from heics()


def heics() -> Iterator[Kind]:
    """Yield HEIC files: valid ones if pillow-heif is installed, else a stub that is an error."""
    if importlib.util.find_spec("pillow_heif") is None:
        stub = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
        yield bad("plain.heic", stub, "ImageFormatError")
        return
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(PLAIN).save(file, quality=95)
    data = file.getvalue()
    yield Kind("plain.heic", data, tolerance=6)
    yield Kind("heic.jpg", data, tolerance=6)
    yield bad("cut.heic", data[: len(data) // 2])
    size = data.index(b"ispe") + 8
    yield bad("bomb.heic", swap(data, size, struct.pack(">2I", BOMB, BOMB)), "ImageSizeError")


def blank_images() -> Iterator[Kind]:
    """Yield images of one color and of noise."""
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (150, 200, 3), np.uint8))
    for name, image in {
        "black": Image.new("RGB", (200, 150)),
        "white": Image.new("RGB", (200, 150), "white"),
        "noise": noise,
    }.items():
        yield Kind(f"{name}.png", encode(image, "PNG"), like=image, low_confidence=True)
        jpeg = encode(image, "JPEG", quality=75)
        yield Kind(f"{name}.jpg", jpeg, like=None, low_confidence=True)


def kinds() -> list[Kind]:
    """Return all files."""
    sources = (not_images, odd_paths, jpegs, pngs, bitmaps, other_formats, blank_images)
    return [kind for source in sources for kind in source()]


def build(folder: Path) -> dict[Path, Kind]:
    """Write all files to a folder; return each by its path."""
    return write_files(folder, kinds())


def write_files(folder: Path, files: Iterable[Any]) -> dict[Path, Any]:
    """Write files with a name and a content, or a function that makes the file, to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {folder / file.name: file for file in files}
    for path, file in written.items():
        if callable(file.content):
            file.content(path)
        else:
            path.write_bytes(file.content)
    return written


_READ = """
import json, sys, time
from captioner.errors import InputError
from {package} import {function} as load

def peak():  # Of this process alone; `resource` starts at the peak of its parent.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) // 1024

figures = [(0, peak())]
for path in json.load(sys.stdin):
    start = time.monotonic()
    try:
        load(path)
    except InputError:
        pass
    figures.append((time.monotonic() - start, peak()))
print(json.dumps(figures))
"""


def assert_bounded(loader: str, paths: Iterable[Path], *, seconds: float, megabytes: int) -> str:
    """Read files in a new process and assert that each takes limited time and memory.

    `loader` is the dotted name of the function that reads a path. `megabytes` includes Python and
    the libraries. Returns what the process wrote to stderr. Linux only.
    """
    package, _, function = loader.rpartition(".")
    code = _READ.format(package=package, function=function)
    names = [os.fsencode(path).decode("utf-8", "surrogateescape") for path in paths]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
        timeout=120,
        check=True,
    )
    (_, before), *figures = json.loads(done.stdout)
    assert 0 < before < megabytes
    figures = dict(zip(names, figures, strict=True))
    assert {n: x for n, x in figures.items() if x[0] > seconds or x[1] > megabytes} == {}
    return done.stderr


if __name__ == "__main__":
    print(f"{len(build(Path(sys.argv[1])))} files")
