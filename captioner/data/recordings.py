"""Read recordings as spectrograms for training: augmentation and mixup.

Shapes: M mel bands, T frames.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from captioner.audio import AudioSpec, load_audio, to_spectrogram
from captioner.audio.augment import mixup, random_gain, random_shift, spec_augment


@dataclass(frozen=True)
class AudioAugmentation:
    """Augmentation of training recordings; see `AudioConfig`."""

    time_masks: int
    time_width: float
    frequency_masks: int
    frequency_width: float
    shift: float
    gain: float
    mixup: float


@dataclass(frozen=True)
class Mix:
    """A second recording that is mixed in, and the share of the first."""

    index: int
    share: float
    """Share of the first recording, 0.5 to 1."""


def read_spectrogram(
    path: str,
    spec: AudioSpec,
    rng: random.Random,
    *,
    augmentation: AudioAugmentation | None,
    other: tuple[str, float] | None = None,
) -> np.ndarray:
    """Return the spectrogram (1, M, T) of a recording; raise AudioError.

    Of a recording that is longer than the input, it is a random part, or the middle without
    augmentation. `other` is the path of a recording to mix in, and the share of the first.
    """
    if augmentation is None:
        recording = load_audio(path, spec.rate)
        return to_spectrogram(recording, spec, max(0.0, recording.seconds - spec.seconds) / 2)
    samples = _read_part(path, spec, rng, augmentation)
    if other is not None:
        samples = mixup(samples, _read_part(other[0], spec, rng, augmentation), other[1])
    spectrogram = to_spectrogram(load_audio((samples, spec.rate), spec.rate), spec)
    return spec_augment(
        spectrogram,
        rng,
        frequency_masks=augmentation.frequency_masks,
        frequency_width=round(augmentation.frequency_width * spec.mels),
        time_masks=augmentation.time_masks,
        time_width=round(augmentation.time_width * spec.frames),
    )


def _read_part(
    path: str, spec: AudioSpec, rng: random.Random, augmentation: AudioAugmentation
) -> np.ndarray:
    """Return a random part of a recording, shifted and with another level, float32 (N,)."""
    samples = load_audio(path, spec.rate).samples
    start = rng.randint(0, max(0, len(samples) - spec.length))
    part = samples[start : start + spec.length]
    part = np.pad(part, (0, spec.length - len(part)))
    part = random_shift(part, rng, round(augmentation.shift * spec.length))
    return random_gain(part, rng, augmentation.gain)
