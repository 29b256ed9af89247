"""The data set of corrected captions: valid for training, one row per image, atomic writes."""

from __future__ import annotations

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny import picture

pytest.importorskip("gradio")
from captioner.errors import CaptionerError, ImageFormatError
from captioner.serve.corrections import METADATA, Corrections


def encoded(seed: int = 0, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, kind)
    return file.getvalue()


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / METADATA).read_text("utf-8").splitlines()]


def test_saved_corrections_are_a_data_set(tmp_path, read) -> None:
    kinds = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "TIFF": "tif", "GIF": "gif"}
    corrections = Corrections(tmp_path / "made" / "new")
    for i, kind in enumerate(kinds):
        assert corrections.save([encoded(i, kind)], f" a  {kind}\nÜ ") == i + 1
    examples, report = read(corrections.folder)
    assert [example.references for example in examples] == [(f"a {kind} Ü",) for kind in kinds]
    assert [Path(example.image).suffix[1:] for example in examples] == list(kinds.values())
    assert [Path(example.image).read_bytes() for example in examples] == [
        encoded(i, kind) for i, kind in enumerate(kinds)
    ]
    assert not report


def test_image_has_one_row_and_other_rows_are_kept(tmp_path) -> None:
    kept = ['{"file_name": "mine.jpg", "caption": "mine", "more": 1}', "no row at all"]
    (tmp_path / METADATA).write_text("\n".join(kept), encoding="utf-8")
    corrections = Corrections(tmp_path)
    corrections.save([encoded(0)], "first")
    corrections.save([encoded(1)], "another")
    assert corrections.save([encoded(0)], "second") == 4
    lines = (tmp_path / METADATA).read_text("utf-8").splitlines()
    assert lines[:2] == kept
    assert [json.loads(line)["caption"] for line in lines[2:]] == ["another", "second"]
    assert len(list(tmp_path.iterdir())) == 3


def test_recordings_and_pairs_are_saved(tmp_path) -> None:
    pytest.importorskip("soundfile")
    from bad_recordings import TONE, write

    corrections, wav = Corrections(tmp_path), write(TONE)
    corrections.save([wav], "a tone")
    corrections.save([encoded(), wav], "a tone")
    assert corrections.save([encoded(), wav], "a beep") == 2
    first, second = rows(tmp_path)
    assert first.keys() == {"file_name", "caption"}
    assert first["file_name"].endswith(".wav")
    assert (tmp_path / first["file_name"]).read_bytes() == wav
    assert second["file_name"].endswith(".png")
    assert (second["audio"], second["caption"]) == (first["file_name"], "a beep")


@pytest.mark.parametrize("caption", ["", " \n", "x" * 1001])
def test_empty_and_long_captions_are_rejected(tmp_path, caption) -> None:
    with pytest.raises(CaptionerError, match="correct"):
        Corrections(tmp_path).save([encoded()], caption)
    assert not list(tmp_path.iterdir())


def test_invalid_image_and_unwritable_folder_are_errors(tmp_path) -> None:
    with pytest.raises(ImageFormatError):
        Corrections(tmp_path).save([b"<svg/>"], "a caption")
    (tmp_path / "file").touch()
    with pytest.raises(CaptionerError, match="cannot be saved"):
        Corrections(tmp_path / "file").save([encoded()], "a caption")


def test_lone_surrogate_is_rejected(tmp_path) -> None:
    with pytest.raises(CaptionerError, match="an incomplete character"):
        Corrections(tmp_path).save([encoded()], "a \ud800 dog")
    assert not list(tmp_path.iterdir())


def test_concurrent_saves_lose_nothing(tmp_path) -> None:
    corrections = Corrections(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: corrections.save([encoded(i % 10)], f"caption {i}"), range(40)))
    result = rows(tmp_path)
    assert len(result) == len({row["file_name"] for row in result}) == 10


def test_failed_save_keeps_the_rows(tmp_path, monkeypatch) -> None:
    corrections = Corrections(tmp_path)
    corrections.save([encoded(0)], "kept")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CaptionerError, match="No space left"):
        corrections.save([encoded(1)], "lost")
    assert [row["caption"] for row in rows(tmp_path)] == ["kept"]
    assert len(list(tmp_path.iterdir())) == 2
