"""Samples of recordings: spectrograms, augmentation, mixup and missing inputs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_images import Table, draw
from sample_tables import SPEC, decode_texts, train_tokenizer
from tiny_audio import AUDIO, audio_config, tone, write_wave

from captioner.checkpoint.audio_format import audio_spec
from captioner.data.collate import collate
from captioner.data.dataset import ImageDataset, Key, Sample, UnreadableImage
from captioner.data.recordings import AudioAugmentation

AUGMENTATION = AudioAugmentation(
    time_masks=1, time_width=0.2, frequency_masks=1, frequency_width=0.2, shift=0.2, gain=6.0,
    mixup=0.0,
)  # fmt: skip
MIXING = AudioAugmentation(0, 0.0, 0, 0.0, 0.0, 0.0, mixup=1.0)
TEXTS = ("a red circle", "the right one", "on the left side")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


@pytest.fixture
def sounds(tmp_path: Path) -> list[str]:
    return [
        write_wave(tmp_path / f"{hz}.wav", tone(hz, seconds=seconds))
        for hz, seconds in ((200, 1.024), (900, 3.0), (1800, 0.4))
    ]


def row(image: str, audio: str, text: str) -> dict:
    return {"image": image, "audio": audio, "references": [text], "question": "", "source": 0}


def make_sounds(sounds: list[str], tokenizer, **options) -> ImageDataset:
    """Return a data set for a model of recordings only."""
    rows = Table(row(path, path, text) for path, text in zip(sounds, TEXTS, strict=True))
    spec = audio_spec(audio_config())
    return ImageDataset(rows, spec=spec, tokenizer=tokenizer, max_length=40, **options)


def make_pairs(folder: Path, sounds: list[str], tokenizer, **options) -> ImageDataset:
    """Return a data set with an image, a pair and a recording for a model of both."""
    draw("red", "circle", "left").save(folder / "a.png")
    image = str(folder / "a.png")
    inputs = [(sounds[0], sounds[0]), (image, sounds[1]), (image, "")]
    rows = Table(row(*some, text) for some, text in zip(inputs, TEXTS, strict=True))
    spec = audio_spec(audio_config(images=True))
    options |= {"tokenizer": tokenizer, "max_length": 40}
    return ImageDataset(rows, spec=SPEC, audio_spec=spec, **options)


def test_samples_of_recordings_have_spectrograms(sounds, tokenizer):
    data = make_sounds(sounds, tokenizer)
    samples = [data[Key(0, index)] for index in range(3)]
    assert {sample.image.shape for sample in samples} == {(1, AUDIO.mels, 64)}
    assert torch.equal(samples[0].image, data[Key(5, 0)].image)  # without augmentation
    assert not torch.equal(samples[0].image, samples[1].image)


def test_augmentation_depends_on_seed_epoch_and_index_only(sounds, tokenizer):
    data, same = (make_sounds(sounds, tokenizer) for _ in range(2))
    data.audio_augmentation = same.audio_augmentation = AUGMENTATION
    first, again = data[Key(1, 1)].image, same[Key(1, 1)].image
    assert torch.equal(first, again)
    assert not torch.equal(first, data[Key(2, 1)].image)
    other = make_sounds(sounds, tokenizer, seed=1)
    other.audio_augmentation = AUGMENTATION
    assert not torch.equal(first, other[Key(1, 1)].image)


def test_mixup_draws_the_captions_of_both_recordings(sounds, tokenizer):
    data = make_sounds(sounds, tokenizer)
    plain = {index: data[Key(0, index)].image for index in range(3)}
    data.audio_augmentation = MIXING
    found: Counter[str] = Counter()
    for epoch in range(120):
        sample = data[Key(epoch, 0)]
        mix = data._draw_mix(epoch, 0)
        is_same = torch.allclose(sample.image, plain[0], atol=1e-3)  # mixed with itself
        assert is_same == (mix.index == 0)
        (text,) = decode_texts(sample, tokenizer)
        assert text in {TEXTS[0], TEXTS[mix.index]}
        found[text] += 1
    # A second recording differs in 2 of 3 cases, and has a share of 1/4 on average.
    assert found[TEXTS[1]] + found[TEXTS[2]] == pytest.approx(20, abs=12)


def test_a_recording_that_cannot_be_read_is_reported(sounds, tokenizer):
    Path(sounds[1]).write_bytes(b"no sound")
    data = make_sounds(sounds, tokenizer)
    item = data[Key(0, 1)]
    assert isinstance(item, UnreadableImage)
    assert sounds[1] in item.reason


def test_batches_are_ordered_by_their_inputs(tmp_path, sounds, tokenizer):
    data = make_pairs(tmp_path, sounds, tokenizer)
    batch = collate([data[Key(0, index)] for index in range(3)])
    assert batch.indices == [2, 1, 0]  # image, both, recording
    assert (len(batch.images), len(batch.spectrograms), batch.both) == (2, 2, 1)
    texts = [tokenizer.decode(ids) for ids in batch.labels[:, 0].tolist()]
    assert texts == [TEXTS[2], TEXTS[1], TEXTS[0]]
    image, pair, sound = batch.split()
    assert (image.spectrograms, sound.images) == (None, None)
    assert torch.equal(pair.images[0], batch.images[1])
    assert torch.equal(pair.spectrograms[0], batch.spectrograms[0])
    assert torch.equal(sound.spectrograms[0], batch.spectrograms[1])
    assert [part.indices for part in (image, pair, sound)] == [[2], [1], [0]]


def test_one_input_of_a_pair_is_dropped_at_random(tmp_path, sounds, tokenizer):
    data = make_pairs(tmp_path, sounds, tokenizer, drop_input=0.5)
    kinds: Counter[tuple[bool, bool]] = Counter()
    for epoch in range(80):
        sample = data[Key(epoch, 1)]
        assert isinstance(sample, Sample)
        kinds[sample.image is not None, sample.spectrogram is not None] += 1
        assert data._choose_inputs(Key(epoch, 0)) == (False, True)  # nothing to drop
    assert kinds[True, True] == pytest.approx(40, abs=15)
    assert kinds[True, False] == pytest.approx(20, abs=13)
    assert kinds[False, False] == 0


def test_a_long_recording_gives_its_middle_without_augmentation(sounds, tokenizer, tmp_path):
    loud = np.concatenate([np.zeros(8192), tone(900), np.zeros(8192)])
    paths = [write_wave(tmp_path / "loud.wav", loud), *sounds[1:]]
    sample = make_sounds(paths, tokenizer)[Key(0, 0)]
    alone = make_sounds([write_wave(tmp_path / "alone.wav", tone(900)), *sounds[1:]], tokenizer)
    inner = slice(2, -2)  # the samples beyond the window differ
    expected = alone[Key(0, 0)].image[..., inner]
    torch.testing.assert_close(sample.image[..., inner], expected, atol=1e-3, rtol=0)
