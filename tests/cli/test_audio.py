"""The command line with recordings: alone, beside an image, and for a model that takes none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import make_checkpoint, picture
from tiny_audio import make_audio_checkpoint, tone, write_wave

import captioner
from captioner.cli import generate
from captioner.cli.attention_sheets import TILE, SheetWriter, draw_sheet
from captioner.config import QuestionConfig
from captioner.images import load_image

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("working_folder")]
QUESTION = QuestionConfig(encoder_layers=1, fusion="concat", fusion_layers=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """Return a model of recordings that answers questions."""
    folder = tmp_path_factory.mktemp("sounds") / "best"
    return str(make_audio_checkpoint(folder, question=QUESTION))


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> str:
    """Return a model of images and recordings."""
    return str(make_audio_checkpoint(tmp_path_factory.mktemp("both") / "best", images=True))


@pytest.fixture
def bark(working_folder: Path) -> str:
    write_wave(working_folder / "bark.wav", tone(300))
    return "bark.wav"


def test_a_recording_has_a_caption_and_answers(run, bark):
    status, out, err = run(bark)
    assert (status, len(out), err) == (0, 1, "")
    status, out, _ = run(bark, "--question", "what is this?", "--jsonl")
    record = json.loads(out[0])
    assert status == 0
    assert {"answer", "confidence"} <= record.keys()
    assert record["inputs"] == ["audio"]


def test_a_folder_is_searched_for_recordings(run, bark, working_folder):
    write_wave(working_folder / "rain.wav", tone(1200))
    (working_folder / "broken.wav").write_bytes(b"RIFF....WAVE")
    picture(1).save(working_folder / "photo.jpg")
    status, out, err = run(".", "--jsonl")
    records = {json.loads(line)["image"]: json.loads(line) for line in out}
    assert status == 3
    assert list(records) == ["./bark.wav", "./broken.wav", "./rain.wav"]
    assert "error" in records["./broken.wav"]
    assert "photo.jpg" in err  # skipped
    assert err.count("\n") == 2


def test_silence_is_flagged(run, working_folder):
    write_wave(working_folder / "silence.wav", 0 * tone(100))
    _, out, _ = run("silence.wav", "--jsonl")
    assert json.loads(out[0])["low_confidence"] is True


def test_what_a_model_of_recordings_cannot_do_is_one_line(run, bark, working_folder):
    picture(1).save(working_folder / "photo.jpg")
    status, out, err = run("photo.jpg")
    assert (status, out) == (1, [])
    assert err.startswith("generate.py: photo.jpg: is an image; expected WAV")
    status, _, err = run(bark, "--attention", "maps")
    assert (status, err) == (
        1,
        f"generate.py: {bark}: --attention draws over images, not over recordings\n",
    )
    status, _, err = run(bark, "--tta", "2")
    assert status == 1
    assert err.count("\n") == 1
    assert "takes recordings only" in err


def test_an_image_model_refuses_a_recording_in_one_line(bark, tmp_path_factory, capsys):
    checkpoint = make_checkpoint(tmp_path_factory.mktemp("images") / "best")
    assert generate.main([bark, "--checkpoint", str(checkpoint)]) == 1
    problem = "is a recording; this model takes images only, see docs/multimodal.md for others"
    assert capsys.readouterr().err == f"generate.py: {bark}: {problem}\n"


def test_a_recording_beside_an_image_changes_the_result(both, bark, working_folder, capsys):
    picture(1).save(working_folder / "photo.jpg")
    records = []
    for words in (["photo.jpg"], ["photo.jpg", "--audio", bark], [bark]):
        assert generate.main([*words, "--checkpoint", both, "--jsonl"]) == 0
        records.append(json.loads(capsys.readouterr().out))
    assert [record.get("inputs") for record in records] == [None, ["image", "audio"], ["audio"]]
    assert len({record["score"] for record in records}) == 3


def test_errors_of_a_model_of_both_name_the_file_and_all_formats(
    both, bark, working_folder, capsys
):
    picture(1).save(working_folder / "photo.jpg")
    (working_folder / "broken.mp3").write_bytes(b"just text")
    assert generate.main([".", "--attention", "maps", "--checkpoint", both, "--jsonl"]) == 3
    out, err = capsys.readouterr()
    errors = {row["image"]: row.get("error", "") for row in map(json.loads, out.splitlines())}
    assert errors["./photo.jpg"] == errors["./bark.wav"] == ""
    assert "./bark.wav: --attention draws over images, not over recordings\n" in err
    assert errors["./broken.mp3"].startswith("./broken.mp3: is text; expected JPEG, PNG")
    assert errors["./broken.mp3"].endswith("WAV, FLAC, Ogg, AIFF, MP3")
    assert err.count("\n") == 2
    assert generate.main([bark, "--audio", bark, "--checkpoint", both]) == 1
    problem = f"{bark}: is a recording; expected an image"
    assert capsys.readouterr().err == f"generate.py: {problem}\n"


def test_an_attention_sheet_depends_on_the_recording_beside_the_image(both, bark, working_folder):
    picture(1).save(working_folder / "photo.jpg")
    model, text = captioner.load(both), "a red dog"
    image = load_image("photo.jpg", min_size=2 * TILE)
    pair = captioner.Inputs("photo.jpg", bark)
    sheets = [np.asarray(draw_sheet(image, model.attention(x, text))) for x in (pair, "photo.jpg")]
    writer = SheetWriter("maps", lambda: model, join_audio=lambda path: replace(pair, image=path))
    assert writer.draw("photo.jpg", text, "maps/sheet.png") == ("", "")
    written = np.asarray(Image.open("maps/sheet.png"))
    assert np.array_equal(written, sheets[0])
    assert not np.array_equal(written, sheets[1])
