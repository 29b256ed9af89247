"""Augmentation of recordings and spectrograms for training.

`rng` is the only source of random numbers. Shapes: N samples, M mel bands, T frames.
"""

from __future__ import annotations

import random

import numpy as np


def random_shift(samples: np.ndarray, rng: random.Random, longest: int) -> np.ndarray:
    """Return samples (N,) rotated by at most `longest` samples in either direction."""
    return np.roll(samples, rng.randint(-longest, longest))


def random_gain(samples: np.ndarray, rng: random.Random, decibels: float) -> np.ndarray:
    """Return samples (N,) with a random gain of at most `decibels` in either direction."""
    return samples * np.float32(10 ** (rng.uniform(-decibels, decibels) / 20))


def spec_augment(
    spectrogram: np.ndarray,
    rng: random.Random,
    *,
    frequency_masks: int = 2,
    frequency_width: int = 12,
    time_masks: int = 2,
    time_width: int = 50,
    fill: float = 0.0,
) -> np.ndarray:
    """Return a copy of a spectrogram (..., M, T) with masked bands and frames.

    The width of each mask is uniform in 0..width, and so is its position. Source: Park et al.,
    SpecAugment (2019), without time warping, which they found to contribute least.

    Args:
        spectrogram: A spectrogram, normalized so that its mean is `fill`.
        rng: Source of random numbers.
        frequency_masks: Number of masks of mel bands.
        frequency_width: Largest number of mel bands of a mask.
        time_masks: Number of masks of frames.
        time_width: Largest number of frames of a mask.
        fill: The value of masked positions.
    """
    masked = spectrogram.copy()
    bands, frames = masked.shape[-2:]
    for _ in range(frequency_masks):
        masked[..., _random_slice(rng, frequency_width, bands), :] = fill
    for _ in range(time_masks):
        masked[..., _random_slice(rng, time_width, frames)] = fill
    return masked


def mixup(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """Return weight * first + (1 - weight) * second, of spectrograms or samples of one shape.

    Source: Zhang et al., mixup (2018); the loss is mixed with the same weight.
    """
    return np.float32(weight) * first + np.float32(1 - weight) * second


def _random_slice(rng: random.Random, width: int, size: int) -> slice:
    width = rng.randint(0, min(width, size))
    start = rng.randint(0, size - width)
    return slice(start, start + width)
