"""Test the samples of recordings, resampling, and the detection of silence and noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from captioner.audio import is_silent_or_noise, load_audio
from captioner.audio.resampling import resample

ESC10 = Path(__file__).parents[4] / "shared" / "esc10"
RATE = 16_000


def tone(rate: int, seconds: float = 1.0, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype("f4")


def test_floats_are_unchanged_and_channels_averaged() -> None:
    left, right = tone(RATE), tone(RATE, hz=1000)
    assert np.array_equal(load_audio((left, RATE)).samples, left)
    stereo = load_audio((np.stack([left, right], axis=1), RATE))
    np.testing.assert_allclose(stereo.samples, (left + right) / 2, atol=1e-7)
    assert (stereo.channels, stereo.rate, stereo.source_rate) == (2, RATE, RATE)


@pytest.mark.parametrize(
    ("dtype", "low", "zero"),
    [("int16", -(2**15), 0), ("int32", -(2**31), 0), ("uint8", 0, 128), ("int8", -128, 0)],
)
def test_integers_are_scaled_by_their_type(dtype: str, low: int, zero: int) -> None:
    samples = load_audio((np.array([low, zero], dtype), RATE)).samples
    assert samples.tolist() == [-1.0, 0.0]


def test_samples_beyond_full_scale_are_divided_by_their_peak() -> None:
    samples = load_audio((np.array([0.5, -4.0]), RATE)).samples
    assert samples.tolist() == [0.125, -1.0]


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 384_000])
@pytest.mark.parametrize("count", [1, 2, 999])
def test_resampling_equals_scipy(rate: int, count: int) -> None:
    signal = pytest.importorskip("scipy.signal")
    samples = np.random.default_rng(rate).standard_normal(count).astype(np.float32)
    expected = signal.resample_poly(samples.astype(np.float64), RATE, rate)
    np.testing.assert_allclose(resample(samples, rate, RATE), expected, atol=1e-5)
    back = signal.resample_poly(samples.astype(np.float64), rate, RATE)
    np.testing.assert_allclose(resample(samples, RATE, rate), back, atol=1e-5)


@pytest.mark.parametrize("rate", [1_000, 7_919, 44_101, 191_999, 383_999])
def test_unusual_rates_keep_the_frequency(rate: int) -> None:
    samples = load_audio((tone(rate, hz=200), rate)).samples
    assert abs(len(samples) - RATE) <= RATE / 1000
    np.testing.assert_allclose(samples[200:15_800], tone(RATE, hz=200)[200:15_800], atol=0.06)


def test_frequencies_above_the_lower_nyquist_frequency_are_removed() -> None:
    assert np.abs(resample(tone(48_000, hz=12_000), 48_000, RATE)[200:-200]).max() < 1e-3


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_silence_constants_and_white_noise_are_recognized(rate: int) -> None:
    rng = np.random.default_rng(rate)
    nothing = [np.zeros(rate), np.zeros(1), np.full(rate, -0.7), 1e-5 * rng.standard_normal(rate)]
    nothing += [0.1 * rng.standard_normal(2 * rate), rng.uniform(-1, 1, 2 * rate)]
    for samples in nothing:
        assert is_silent_or_noise(load_audio((samples, rate)))
    click = np.zeros(rate)
    click[rate // 2 : rate // 2 + 20] = 0.5
    brown = np.cumsum(rng.standard_normal(2 * rate)) / rate
    for samples in (tone(rate), 0.01 * tone(rate), click, brown):
        assert not is_silent_or_noise(load_audio((samples, rate)))


@pytest.mark.slow
@pytest.mark.skipif(not ESC10.is_dir(), reason="the recordings of ESC-10 are not here")
def test_real_recordings_are_not_recognized_as_nothing() -> None:
    pytest.importorskip("soundfile")
    rows = [json.loads(line) for line in (ESC10 / "metadata.jsonl").read_text().splitlines()]
    recordings = {row["file_name"]: load_audio(ESC10 / row["file_name"]) for row in rows}
    assert len(recordings) > 300
    assert all(3 < recording.seconds < 8 for recording in recordings.values())
    assert [name for name, r in recordings.items() if is_silent_or_noise(r)] == []
