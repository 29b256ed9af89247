"""Findings about images: damage, size, content and copies."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from quality_data import caption, photo, write_set

from captioner.errors import CaptionerError, DataError
from captioner.quality.alignment import compare, is_copy
from captioner.quality.audit import check_dataset
from captioner.quality.copies import near_pairs
from captioner.quality.image_facts import count_processes, measure_image

pytest.importorskip("imagehash")
pytest.importorskip("py3langid")


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def cut(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(share * width), round(share * height), width, height))


EDITS = {
    "quality": lambda image: jpeg(image, 30),
    "resize": lambda image: image.resize((96, 72)),
    "crop": lambda image: cut(image, 0.06),
    "brightness": lambda image: ImageEnhance.Brightness(image).enhance(0.75),
    "mirror": ImageOps.mirror,
    "several": lambda image: jpeg(ImageOps.mirror(cut(image, 0.04)).resize((120, 90)), 50),
}


def kinds(path: Path, **options) -> dict[str, list[str]]:
    """Return the names of the images by kind of finding."""
    result: dict[str, list[str]] = {}
    for finding in check_dataset(path, processes=1, **options).findings:
        result.setdefault(finding.kind, []).append(Path(finding.image).name)
    return result


def test_a_clean_set_has_no_findings(tmp_path):
    audit = check_dataset(write_set(tmp_path), processes=1)
    assert audit.findings == ()
    assert (audit.images, audit.data.format, audit.held_out) == (30, "jsonl", 0)
    assert audit.data.rows == {("train", "captions"): 27, ("val", "captions"): 3}


def test_damaged_tiny_and_blank_images_are_found(tmp_path):
    path = write_set(tmp_path)
    folder = tmp_path / "images"
    (folder / "0.jpg").write_bytes((folder / "0.jpg").read_bytes()[:2000])
    (folder / "1.jpg").write_bytes(b"")
    (folder / "2.jpg").write_text("<html>")
    photo(2, (40, 90)).save(folder / "3.jpg")
    Image.new("RGB", (160, 120), "navy").save(folder / "4.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "5.jpg")
    (folder / "6.jpg").unlink()
    expected = {
        "missing-image": ["6.jpg"],
        "unreadable-image": ["0.jpg", "1.jpg", "2.jpg"],
        "tiny-image": ["3.jpg"],
        "blank-image": ["4.jpg", "5.jpg"],
    }
    assert kinds(path) == expected
    places = {f.kind: f.place for f in check_dataset(path, processes=1).findings}
    assert places["tiny-image"] == "data.jsonl:4"


@pytest.mark.parametrize("name", EDITS)
def test_edited_copies_are_found(tmp_path, name):
    rows = [{"image": "images/copy.png", "captions": [caption(80), caption(90)]}]
    path = write_set(tmp_path, extra=rows)
    EDITS[name](photo(5)).save(tmp_path / "images" / "copy.png")
    assert kinds(path) == {"near-duplicate-image": ["copy.png"]}
    (finding,) = check_dataset(path, processes=1).findings
    assert Path(finding.other).name == "5.jpg"
    assert ("mirrored" in finding.explanation) == (name in ("mirror", "several"))


def test_copies_across_splits_and_of_held_out_images(tmp_path):
    names = ("same", "leak", "held")
    rows = [{"image": f"images/{n}.jpg", "caption": caption(70 + i)} for i, n in enumerate(names)]
    path = write_set(tmp_path / "data", extra=rows)
    folder = tmp_path / "data" / "images"
    (folder / "same.jpg").write_bytes((folder / "3.jpg").read_bytes())
    EDITS["mirror"](photo(9)).save(folder / "leak.jpg")  # of the validation split
    photo(77).save(folder / "held.jpg", quality=60)
    held = tmp_path / "held"
    held.mkdir()
    photo(77).save(held / "a.png")
    photo(78).save(held / "b.png")
    expected = {
        "duplicate-image": ["same.jpg"],
        "split-leak": ["leak.jpg"],
        "held-out-leak": ["held.jpg"],
    }
    assert kinds(path, held_out=held) == expected


def test_one_file_in_two_splits_is_a_leak(tmp_path):
    row = {"image": "images/9.jpg", "question": "what is it?", "answer": "a dog", "split": "train"}
    assert kinds(write_set(tmp_path, extra=[row])) == {"split-leak": ["9.jpg"]}


def test_different_photographs_are_no_copies():
    thumbnails = [np.asarray(photo(i).convert("L").resize((48, 48))) for i in range(6)]
    for i, first in enumerate(thumbnails):
        assert is_copy(first, first)
        assert not any(is_copy(first, second) for second in thumbnails[i + 1 :])
    flat = np.full((48, 48), 9, np.uint8)
    assert compare(flat, flat)[0] == pytest.approx(0)


def test_near_pairs_equal_those_of_all_pairs():
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**63, 50).astype(np.uint64)
    hashes[7] = hashes[3] ^ np.uint64(0b1011)
    pairs = [
        (i, j) for a, b in near_pairs(hashes, hashes, limit=20) for i, j in zip(a, b, strict=True)
    ]
    distances = [[int(x ^ y).bit_count() for y in hashes.tolist()] for x in hashes.tolist()]
    expected = [(i, j) for i in range(50) for j in range(i + 1, 50) if distances[i][j] <= 20]
    assert sorted(pairs) == expected
    assert (3, 7) in pairs


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(tmp_path):
    rows = [{"image": f"images/{n}.jpg", "captions": [caption(90 + n)]} for n in range(40, 60)]
    path = write_set(tmp_path, extra=rows)
    for n in range(40, 60):
        EDITS["several"](photo(n - 40)).save(tmp_path / "images" / f"{n}.jpg")
    one, two = (check_dataset(path, processes=n).findings for n in (1, 2))
    assert one == two
    assert sum(finding.kind == "near-duplicate-image" for finding in one) >= 15


def test_errors(tmp_path):
    assert "No such file" in measure_image(str(tmp_path / "none.jpg")).error
    with pytest.raises(CaptionerError, match="processes=0"):
        count_processes(0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no known data set"):
        check_dataset(tmp_path / "empty")
    with pytest.raises(DataError):
        check_dataset(write_set(tmp_path / "x", images=2), held_out=tmp_path / "empty")


def test_broken_rows_are_findings(tmp_path):
    path = write_set(tmp_path)
    with path.open("a") as file:
        file.write('{"image": "images/1.jpg", \n[1, 2]\n')
        file.write(json.dumps({"image": "images/\u0000.jpg", "caption": "a dog"}) + "\n")
    found = kinds(path)
    assert len(found.pop("dropped-row")) == 2
    assert list(found) == ["missing-image"]
