"""Attention sheets: `generate.py --attention DIR`."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from public_folders.encoder_decoder import build_encoder_decoder
from tiny import make_checkpoint, picture

from captioner.cli import generate
from captioner.cli.attention_sheets import _IMAGE, COLUMNS, LABEL, MARGIN, TILE, draw_sheet
from captioner.cli.batch.find_images import SHEET_KEY
from captioner.predict import Attention


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best"))


def size_of(words: int, height: int) -> tuple[int, int]:
    """Return the size of a sheet with this many words, for images as wide as a tile."""
    columns = min(COLUMNS, words + 1)
    rows = -(-(words + 1) // columns)
    return columns * (TILE + MARGIN) + MARGIN, rows * (height + LABEL + MARGIN) + MARGIN


def attention(word: str) -> Attention:
    return Attention(word, np.full((2, 2), 0.25), (0.0, 0.0, 1.0, 1.0))


@pytest.mark.parametrize("words", [0, 1, 4, 5, 9, 10, 23])
def test_a_sheet_has_a_tile_for_the_image_and_one_for_each_word(words):
    found = draw_sheet(picture(1), [attention(f"word{i}") for i in range(words)])
    height = TILE * 60 // 80
    assert (found.mode, found.size) == ("RGB", size_of(words, height))
    pixels = np.asarray(found)
    for i in range(words + 1):
        row, column = divmod(i, COLUMNS)
        left, top = MARGIN + column * (TILE + MARGIN), MARGIN + row * (height + LABEL + MARGIN)
        label = pixels[top + height : top + height + LABEL, left : left + TILE]
        assert (label.min() < 100) == (i > 0)  # Only words have a label.
        assert pixels[top : top + height, left : left + TILE].min() < 255


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (50, 80), (500, 300)])
@pytest.mark.parametrize("word", ["a", "w" * 60, "北京", "\u202e", "\x00\x18\ufffd"])
def test_a_sheet_has_room_for_any_image_size_and_word(size, word):
    found = np.asarray(draw_sheet(picture(0, size=size), [attention(word)]))
    assert found.shape[1] == 2 * (TILE + MARGIN) + MARGIN
    assert (found[:, :MARGIN] == 255).all()
    assert (found[:, -MARGIN:] == 255).all()


def test_each_image_has_a_sheet_and_captions_do_not_change(run, photos, tmp_path):
    out = tmp_path / "new" / "sheets"
    found = run(photos, "--attention", out)
    assert found == run(photos)
    assert sorted(p.name for p in out.iterdir()) == [f"{i}.attention.png" for i in range(3)]
    for line in found[1]:
        path, caption = line.split("\t")
        with Image.open(out / f"{path[-5]}.attention.png") as image:
            image.load()
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert image.size == size_of(len(caption.split()), TILE * 60 // 80)


def test_images_with_equal_names_have_separate_sheets(run, photos, tmp_path):
    (photos / "inner").mkdir()
    for name in ("0.bmp", "inner/0.png", "0-2.png"):
        picture(7).save(photos / name)
    out = tmp_path / "out"
    inputs = [photos, photos / "inner", photos / "0.png"]
    status, _, err = run(*inputs, "--attention", out)
    assert status == 0
    assert "0.bmp and" in err
    sheets = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.png")}
    names = sorted(name.removesuffix(".attention.png") for name in sheets)
    assert names == ["0-2", "0.bmp", "0.png", "1", "2", "inner/0"]
    assert run(*inputs[::-1], "--attention", out)[0] == 0
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.png")} == sheets


def test_the_sheet_of_another_image_is_not_replaced(run, photos, tmp_path):
    """Two runs on files with the same name write to one folder of sheets."""
    other = tmp_path / "other"
    other.mkdir()
    picture(7).save(other / "0.png")
    out = tmp_path / "out"
    assert run(photos / "0.png", "--attention", out)[0] == 0
    before = (out / "0.attention.png").read_bytes()
    status, captions, err = run(other / "0.png", "--attention", out)
    assert (status, len(captions), err.count("\n")) == (0, 1, 1)
    assert "is the sheet of another image" in err
    assert (out / "0.attention.png").read_bytes() == before
    assert run(other / "0.png", "--attention", out, "--overwrite") == (0, captions, "")
    assert (out / "0.attention.png").read_bytes() != before
    # A changed image and a moved image replace their own sheet.
    for path in (other / "0.png", other / "moved" / "0.png"):
        path.parent.mkdir(exist_ok=True)
        picture(8).save(path)
        assert run(path, "--attention", out)[2] == ""


def test_images_with_equal_content_have_a_sheet_each(run, photos, tmp_path):
    shutil.copy(photos / "0.png", photos / "twin.png")
    words = (photos, "--attention", tmp_path / "out", "--output", tmp_path / "out.jsonl")
    assert run(*words) == (0, [], "")
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert run(*words, "--resume") == (0, [], "")
    status, _, err = run(*words[:1], *words[3:], "--resume")
    assert (status, "made with attention" in err) == (1, True)
    status, _, err = run(photos, "--recursive", "--attention", photos / "sheets")
    assert (status, err) == (0, "")
    plain = run(*sorted(photos.glob("*.png")))
    assert run(photos, "--recursive", "--attention", photos / "sheets") == plain
    # A run without --attention skips the sheets, too.
    assert run(photos, "--recursive") == plain
    assert SHEET_KEY == _IMAGE


def test_sheets_in_the_folder_of_the_images_do_not_change_them(run, photos):
    before = {p.name: p.read_bytes() for p in photos.iterdir()}
    for _ in range(2):  # The second run does not process the sheets as images.
        assert run(photos, "--attention", photos)[0] == 0
        assert {name: (photos / name).read_bytes() for name in before} == before
        assert len(list(photos.iterdir())) == 2 * len(before)


def test_an_unreadable_image_does_not_stop_the_other_sheets(run, photos, tmp_path):
    (photos / "1.png").write_bytes(b"no picture")
    status, out, err = run(photos, "--attention", tmp_path / "out", "--jsonl", "--num-captions", 2)
    assert (status, len(out), err.count("\n")) == (3, 3, 1)
    assert "error" in json.loads(out[1])
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_sheet_that_cannot_be_drawn_is_an_error_beside_the_row(
    run, photos, tmp_path, monkeypatch
):
    """A sheet cannot be drawn if, for example, the image was deleted in the meantime."""
    from captioner.predict import Captioner

    attention = Captioner.attention

    def late(self, image, text):
        shutil.rmtree(photos, ignore_errors=True)
        return attention(self, image, text)

    monkeypatch.setattr(Captioner, "attention", late)
    [caption] = run(photos / "0.png")[1]
    status, out, err = run(photos / "0.png", "--attention", tmp_path / "out")
    assert (status, out) == (1, [caption])
    assert "0.png" in err
    assert "Traceback" not in err


def test_sheets_show_captions_that_are_no_valid_text(photos, tmp_path, capsys):
    """Byte-level captions may have control characters and parts of characters."""
    build_encoder_decoder(tmp_path / "model", 0)
    arguments = [photos, "--attention", tmp_path / "out", "--checkpoint", tmp_path / "model"]
    for resumed in ([], ["--jsonl"], ["--output", tmp_path / "rows.jsonl"]):
        shutil.copy(photos / "0.png", photos / "twin.png")
        assert generate.main([*map(str, (*arguments, "--max-length", 12, *resumed))]) == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    captions = [row["caption"] for row in rows]
    assert len(captions) == 4
    assert any("\ufffd" in caption or "\x18" in caption for caption in captions)
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_folder_that_cannot_be_written_is_a_one_line_error(run, photos):
    status, out, err = run(photos, "--attention", photos / "0.png")
    assert (status, out, err.count("\n")) == (1, [], 1)
    assert "0.png" in err


@pytest.mark.parametrize(
    "words", [["--question", "what?"], ["--score", "a dog"], ["--stream"], ["-"]], ids=" ".join
)
def test_attention_with_conflicting_flags_is_a_usage_error(run, photos, tmp_path, words):
    with pytest.raises(SystemExit) as stop:
        run(photos / "0.png", *words, "--attention", tmp_path / "out")
    assert stop.value.code == 2
