"""Recordings in tar files give the samples of recordings in files of their own."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from drawn_images import Table, draw
from sample_tables import SPEC, train_tokenizer
from shard_files import write_tar
from tiny_audio import AUDIO, audio_config, tone, write_wave

from captioner.checkpoint.audio_format import audio_spec
from captioner.data.dataset import ImageDataset, Key, Sample
from captioner.data.example import Example
from captioner.data.example_rows import read_rows
from captioner.data.recordings import AudioAugmentation

AUGMENTATION = AudioAugmentation(1, 0.2, 1, 0.2, shift=0.2, gain=6.0, mixup=0.0)


def samples_of(rows: list[Example]) -> list[Sample]:
    """Return the samples of an epoch for a model of images and recordings."""
    data = ImageDataset(
        Table({**dataclasses.asdict(row), "source": 0} for row in rows),
        spec=SPEC,
        audio_spec=audio_spec(audio_config(images=True)),
        tokenizer=train_tokenizer(),
        max_length=40,
    )
    data.audio_augmentation = AUGMENTATION
    return [data[Key(0, index)] for index in range(len(data))]


def test_samples_equal_those_of_files(tmp_path):
    """A recording takes the place of the image, or is beside it."""
    soundfile = pytest.importorskip("soundfile")
    low, image, high = (tmp_path / name for name in ("a.wav", "b.png", "b.flac"))
    write_wave(low, tone(200, seconds=2.0))
    draw("red", "circle", "left").save(image)
    soundfile.write(high, tone(900, seconds=2.0), AUDIO.rate)
    members = [(path.name, path.read_bytes()) for path in (low, image, high)]
    members += [("a.txt", "the left one"), ("b.json", '{"caption": "a red circle"}')]
    rows, report = read_rows(write_tar(tmp_path / "0.tar", members))
    assert not report
    expected = [
        Example(str(low), "", ("the left one",), "train", audio=str(low)),
        Example(str(image), "", ("a red circle",), "train", audio=str(high)),
    ]
    for one, other in zip(samples_of(rows), samples_of(expected), strict=True):
        assert one.texts == other.texts
        assert torch.equal(one.spectrogram, other.spectrogram)
        assert (one.image is None) == (other.image is None)
        assert one.image is None or torch.equal(one.image, other.image)
