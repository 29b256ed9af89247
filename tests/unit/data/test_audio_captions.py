"""Rows with recordings: Clotho, AudioCaps, labels, folds, and files with both inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_files import write

from captioner.config import SourceConfig
from captioner.data import detect_format
from captioner.data.example_rows import read_rows
from captioner.errors import ConfigError

CLOTHO = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
AUDIOCAPS = "audiocap_id,youtube_id,start_time,caption\n"


def recordings(folder: Path, *names: str) -> None:
    """Write files that nothing decodes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"RIFF")


def test_clotho_has_its_own_names_of_the_splits(tmp_path):
    for part, name in (("development", "rain 1.wav"), ("evaluation", "dog.wav")):
        row = f'{name},"rain, then more",b,c,d,e\n'
        write(tmp_path / f"clotho_captions_{part}.csv", CLOTHO + row)
        recordings(tmp_path / part, name)
    assert detect_format(tmp_path) == "clotho"
    rows, report = read_rows(tmp_path, splits=None)
    assert not report
    assert [(row.image_id, row.split) for row in rows] == [
        ("rain 1.wav", "train"), ("dog.wav", "test"),
    ]  # fmt: skip
    assert rows[0].references == ("rain, then more", "b", "c", "d", "e")
    assert rows[0].audio == rows[0].image == str(tmp_path / "development" / "rain 1.wav")


def test_audiocaps_joins_the_captions_of_a_clip(tmp_path):
    lines = ["1,abc,30,a dog barks", "2,abc,30,barking", "3,xyz,0,rain", "4,gone,5,wind"]
    write(tmp_path / "val.csv", AUDIOCAPS + "\n".join(lines) + "\n")
    recordings(tmp_path / "audio" / "val", "abc_30.flac", "xyz.wav")
    assert detect_format(tmp_path) == "audiocaps"
    rows, report = read_rows(tmp_path, splits=None)
    assert {row.image_id: (row.split, row.references) for row in rows} == {
        "abc_30.flac": ("val", ("a dog barks", "barking")),
        "xyz.wav": ("val", ("rain",)),
    }
    assert report.summary() == "missing recording: 1 (gone_5 (val.csv:5))"
    assert report.rows == 4


def test_labels_become_captions_and_folds_become_splits(tmp_path):
    rows = [
        {"file_name": f"{fold}.ogg", "label": label, "fold": fold}
        for fold, label in ((1, "dog bark"), (2, "rain"))
    ]
    write(tmp_path / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    recordings(tmp_path, "1.ogg", "2.ogg")
    phrases = ("{label}", "the sound of {label}")
    found, report = read_rows(tmp_path, splits=["fold2"], phrases=phrases)
    assert [row.references for row in found] == [("rain", "the sound of rain")]
    assert found[0].audio == found[0].image
    assert report.unused == {"fold1": 1}


def test_a_label_beside_a_caption_is_not_used(tmp_path):
    row = {"file_name": "1.ogg", "label": "dog bark", "caption": "a dog"}
    write(tmp_path / "metadata.jsonl", json.dumps(row))
    recordings(tmp_path, "1.ogg")
    ((found,), _) = read_rows(tmp_path, phrases=["{label}!"])
    assert found.references == ("a dog",)


def test_a_row_may_have_an_image_a_recording_and_a_question(tmp_path):
    rows = [
        {"image": "a.png", "audio": "1.wav", "question": "what barks", "answer": "a dog"},
        {"image": "a.png", "audio": "2.wav", "caption": "a street with rain"},
        {"image": "a.png", "audio": "1.wav", "caption": "a street with a dog"},
        {"audio": "2.wav", "caption": "rain"},
        {"image": "a.png", "caption": "a street"},
    ]
    write(tmp_path / "own.jsonl", "\n".join(map(json.dumps, rows)))
    recordings(tmp_path, "a.png", "1.wav", "2.wav")
    found, report = read_rows(tmp_path)
    assert not report
    names = [(Path(r.image).name, r.audio and Path(r.audio).name, r.references) for r in found]
    assert names == [
        ("a.png", "1.wav", ("a dog",)),
        ("a.png", "2.wav", ("a street with rain",)),
        ("a.png", "1.wav", ("a street with a dog",)),
        ("2.wav", "2.wav", ("rain",)),
        ("a.png", "", ("a street",)),
    ]


def test_a_missing_recording_beside_an_image_is_reported(tmp_path):
    row = {"image": "a.png", "audio": "gone.wav", "caption": "a street"}
    write(tmp_path / "own.jsonl", json.dumps(row) + "\n" + json.dumps(row | {"audio": "1.wav"}))
    recordings(tmp_path, "a.png", "1.wav")
    found, report = read_rows(tmp_path)
    assert [Path(row.audio).name for row in found] == ["1.wav"]
    assert "missing recording: 1" in report.summary()


def test_a_phrase_needs_the_label():
    with pytest.raises(ConfigError, match=r"data\.phrases: 'a sound'"):
        SourceConfig(phrases=("a sound",))
