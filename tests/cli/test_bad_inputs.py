"""Invalid image files: each gives its image or one typed error, in limited time and memory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import PLAIN, Kind, assert_bounded, blocks, build, encode
from PIL import Image
from tiny import make_checkpoint
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.cli import generate
from captioner.errors import ImageError
from captioner.images import fit, is_blank, load_image

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 5
MEGABYTES = 350
"""Memory of a process that reads any of the files, with Python and the libraries."""

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Kind]:
    return build(tmp_path_factory.mktemp("bad") / "inputs")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best"))


def outcome(source: object, kind: Kind) -> str:
    """Return a description of the problem with the result of a source; empty if it is correct."""
    try:
        image = load_image(source)
    except ImageError as error:
        if not str(error).isprintable():
            return "its message is no printable line"
        if kind.expect == "either":
            return ""
        good = kind.expect == "error" and type(error).__name__ == kind.error
        return "" if good else f"{type(error).__name__}: {error}"
    if kind.expect == "error":
        return "passed"
    if kind.like is None:
        return ""
    like = kind.like.convert("RGB")
    if image.size != like.size:
        return f"has the size {image.size}"
    difference = np.abs(np.asarray(image, dtype=int) - np.asarray(like, dtype=int)).mean()
    return "" if difference <= kind.tolerance else f"differs by {difference:.2f}"


def test_each_file_gives_its_image_or_one_typed_error(folder):
    wrong = {}
    for path, kind in folder.items():
        start = time.monotonic()
        found = {outcome(path, kind)}
        if isinstance(kind.content, bytes):
            found |= {outcome(kind.content, kind), outcome(io.BytesIO(kind.content), kind)}
        if time.monotonic() - start > SECONDS:
            found.add("is slow")
        if found != {""}:
            wrong[kind.name] = found
    assert wrong == {}
    assert len(folder) > 100


def check_records(lines: list[str], expected: dict[Path, Kind]) -> None:
    """Check that each file has one JSON line, and that PLAIN has the same caption everywhere."""
    records = {record["image"]: record for record in map(json.loads, lines)}
    assert len(records) == len(lines) == len(expected)
    decoded = {os.fsencode(p).decode("utf-8", "backslashreplace"): k for p, k in expected.items()}
    assert records.keys() == decoded.keys()
    plain = next(record for path, record in records.items() if "plain.png" in path)
    seen = set()
    for path, kind in decoded.items():
        record = records[path]
        if kind.expect != "either":
            assert ("error" in record) == (kind.expect == "error"), record
        if "error" in record:
            assert record["error"].isprintable()
            continue
        seen.add(record["caption"])
        assert record.get("low_confidence", False) is kind.low_confidence, record
        if kind.like is PLAIN and kind.tolerance <= 3:
            assert record["caption"] == plain["caption"], path
            slack = 1e-3 if kind.tolerance == 0 else 1
            assert record["score"] == pytest.approx(plain["score"], abs=slack), path
    assert len(seen) > 2  # Captions differ between images.


def test_the_command_line_reports_each_error_and_continues(folder, checkpoint, capsys):
    paths = list(map(str, folder))
    assert generate.main([*paths, "--jsonl", "--checkpoint", checkpoint]) == 3
    out, err = capsys.readouterr()
    check_records(out.splitlines(), folder)
    lines = err.splitlines()
    failed = sum('"error"' in line for line in out.splitlines())
    assert len(lines) == failed
    assert all(line.startswith("generate.py: ") and line.isprintable() for line in lines)


def test_a_single_bad_image_gives_status_1(folder, checkpoint, capsys):
    for path in folder:
        if path.name in ("empty.jpg", "half.jpg", "bomb.png", "pipe.jpg", "loop.jpg", "zero.jpg"):
            assert generate.main([str(path), "--checkpoint", checkpoint]) == 1
            out, err = capsys.readouterr()
            assert (out, err.count("\n")) == ("", 1)


@pytest.mark.slow
def test_a_whole_folder_in_a_separate_process(folder, checkpoint):
    where = next(iter(folder)).parent
    # A folder in a folder is skipped, even if its name has the suffix of an image.
    named = [where, where / "folder.jpg"]
    words = [ROOT / "generate.py", *named, "--jsonl", "--checkpoint", checkpoint]
    done = subprocess.run([sys.executable, *words], capture_output=True, timeout=120, cwd=ROOT)
    assert done.returncode == 3
    check_records(done.stdout.decode().splitlines(), folder)
    lines = done.stderr.decode().splitlines()  # C libraries write here directly.
    assert all(line.startswith("generate.py: ") for line in lines), lines


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_time_and_memory_are_bounded(folder):
    limits = {"seconds": SECONDS, "megabytes": MEGABYTES}
    assert assert_bounded("captioner.images.load_image", folder, **limits) == ""


def test_a_file_deleted_after_listing_its_folder_is_an_error(
    tmp_path, checkpoint, capsys, monkeypatch
):
    for i in range(3):
        blocks(i).save(tmp_path / f"{i}.png")
    load = generate.load_captioner

    def deleting(options, images):
        (tmp_path / "1.png").unlink()
        return load(options, images)

    monkeypatch.setattr(generate, "load_captioner", deleting)
    assert generate.main([str(tmp_path), "--checkpoint", checkpoint]) == 3
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert "1.png: cannot be read (No such file" in err


def test_heic_without_its_plugin_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        data = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic"
        with pytest.raises(captioner.errors.ImageFormatError, match=r"captioner\[heif\]"):
            load_image(data)


def test_reading_heic_registers_no_format_with_pillow():
    pytest.importorskip("pillow_heif")
    code = """
from PIL import Image
from captioner.images import load_image
from bad_inputs import heics
load_image(next(heics()).content)
assert not {"HEIF", "HEIC"} & {*Image.OPEN, *Image.ID}
"""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": path})


def test_results_and_answers_have_low_confidence_set(tmp_path):
    model = captioner.load(make_vqa_checkpoint(tmp_path / "best"))
    black = Image.new("RGB", (80, 60))
    broken = encode(PLAIN, "PNG")[:-300]
    results = model.caption([PLAIN, black, broken, PLAIN, black], batch_size=2)
    assert [r.low_confidence for r in results] == [False, True, False, False, True]
    assert results[2].error is not None
    rows = [(image, QUESTIONS[0]) for image in (black, PLAIN, broken)]
    assert [a.low_confidence for a in model.answer(rows)] == [True, False, False]
    assert model.ask(model.encode(black), QUESTIONS[0]).low_confidence


def flagged(image: Image.Image, size: tuple[int, int] = (224, 224)) -> bool:
    return is_blank(image, fit(image, size, crop=False))


def noise(width: int, height: int, *, spread: float, gray: bool, seed: int = 0) -> Image.Image:
    shape = (height, width, 1 if gray else 3)
    values = np.random.default_rng(seed).normal(128, spread, shape)
    return Image.fromarray(
        np.broadcast_to(np.clip(values, 0, 255), (height, width, 3)).astype("u1")
    )


SIZES = [(64, 64), (100, 80), (224, 224), (300, 200), (640, 480), (1000, 150), (1600, 1200)]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_noise_and_single_colors_are_blank(size):
    for color in ("black", "white", "teal", (1, 1, 1)):
        image = Image.new("RGB", size, color)
        assert flagged(image)
        assert flagged(load_image(encode(image, "JPEG")))
    for gray in (False, True):
        for spread in (20, 80, 1000):
            image = noise(*size, spread=spread, gray=gray)
            assert flagged(image)
            for quality in (50, 75, 95):
                jpeg = encode(image, "JPEG", quality=quality)
                assert flagged(load_image(jpeg)), (spread, quality)


def texture(power: float, seed: int) -> Image.Image:
    """Return gray noise with the spectrum frequency ** -power; that of photos is about 1."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.fft2(generator.normal(size=(300, 300)))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(300), np.fft.fftfreq(300)))
    frequency[0, 0] = np.inf
    values = np.fft.ifft2(spectrum / frequency**power).real
    return Image.fromarray(np.clip(128 + 50 * values / values.std(), 0, 255).astype("u1")).convert(
        "RGB"
    )


def test_photos_drawings_and_textures_are_not_blank():
    from drawn_images import SHAPES, draw
    from PIL import ImageDraw

    found = {f"drawing {shape}": draw(*shape) for shape in SHAPES}
    for name in ("beach.jpg", "dog.jpg"):
        photo = found[name] = load_image(ROOT / "examples" / name)
        found[f"{name}, dark"] = photo.point(lambda value: value // 16)
        found[f"{name}, gray"] = photo.convert("L").convert("RGB")
        found[f"{name}, small"] = photo.resize((48, 32))
        grain = np.asarray(noise(*photo.size, spread=40, gray=False), dtype=int) - 128
        found[f"{name}, grainy"] = Image.fromarray(np.clip(photo + grain, 0, 255).astype("u1"))
    lines = Image.new("RGB", (600, 400), "white")
    ImageDraw.Draw(lines).line([(20, 380), (200, 30), (400, 300), (580, 50)], "black", 2)
    words = Image.new("RGB", (600, 400), "white")
    for y in range(0, 400, 14):
        ImageDraw.Draw(words).text((0, y), "a page of words, close to one another " * 3, "black")
    found |= {"lines": lines, "words": words}
    found |= {f"stripes {n}": Image.fromarray(stripes(n)) for n in (1, 2, 8)}
    found |= {f"texture {p}": texture(p, 1) for p in (0.7, 1.0, 1.5)}
    assert [name for name, image in found.items() if flagged(image)] == []


def stripes(width: int) -> np.ndarray:
    row = np.arange(224) // width % 2 * 255
    return np.broadcast_to(row[None, :, None], (224, 224, 3)).astype("u1")


@pytest.mark.parametrize("crop", [False, True])
def test_an_image_that_fits_keeps_its_pixels(crop):
    for width, height in ((64, 64), (97, 61), (49, 130)):
        image = noise(width, height, spread=90, gray=False)
        fitted = fit(image, (height, width), crop=crop)
        assert fitted.tobytes() == image.tobytes()
        assert fitted is not image
        other = fit(image, (40, 30), crop=crop)
        assert other.size == (30, 40)
        assert fit(other, (40, 30), crop=crop).tobytes() == other.tobytes()
