"""Test the augmentation of recordings and spectrograms."""

from __future__ import annotations

import random

import numpy as np
import pytest

from captioner.audio.augment import mixup, random_gain, random_shift, spec_augment

ONES = np.ones((1, 64, 200), np.float32)


def test_masks_are_bands_of_limited_width() -> None:
    widths, heights = set(), set()
    for seed in range(200):
        masked = spec_augment(
            ONES,
            random.Random(seed),
            frequency_masks=1,
            frequency_width=5,
            time_masks=1,
            time_width=9,
        )
        bands, frames = (masked[0] == 0).all(axis=1), (masked[0] == 0).all(axis=0)
        assert np.array_equal(masked[0] == 0, bands[:, None] | frames)
        for rows, found in ((bands, heights), (frames, widths)):
            assert np.count_nonzero(np.diff(rows.astype(int), prepend=0) == 1) <= 1
            found.add(int(rows.sum()))
    assert heights == set(range(6))
    assert widths == set(range(10))
    assert (ONES == 1).all()


def test_the_same_seed_gives_the_same_masks() -> None:
    first, second, third = (spec_augment(ONES, random.Random(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_masks_fit_small_spectrograms_and_may_be_absent() -> None:
    small = np.ones((1, 3, 2), np.float32)
    assert spec_augment(small, random.Random(0), fill=-1.0).shape == small.shape
    unmasked = spec_augment(ONES, random.Random(0), frequency_masks=0, time_masks=0)
    assert np.array_equal(unmasked, ONES)


def test_shift_rotates_within_its_limit() -> None:
    samples = np.arange(10, dtype=np.float32)
    shifts = {int(random_shift(samples, random.Random(seed), 3)[0]) for seed in range(99)}
    assert shifts == {0, 1, 2, 3, 7, 8, 9}


def test_gain_stays_within_its_limit() -> None:
    gains = [random_gain(np.ones(1, np.float32), random.Random(seed), 6.0) for seed in range(99)]
    assert all(gain.dtype == np.float32 for gain in gains)
    decibels = 20 * np.log10(np.concatenate(gains))
    assert decibels.min() < -4
    assert decibels.max() > 4
    assert np.abs(decibels).max() <= 6.0001


def test_mixup_is_the_weighted_sum() -> None:
    mixed = mixup(ONES, 3 * ONES, 0.25)
    assert mixed.dtype == np.float32
    assert mixed == pytest.approx(2.5)
