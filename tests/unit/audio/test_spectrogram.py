"""Test log-mel spectrograms against librosa, and windows."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.audio import AudioSpec, Recording, load_audio, log_mel, to_spectrogram, windows
from captioner.checkpoint.audio_format import audio_spec
from captioner.config import AudioConfig, Config


def spec_of(**settings: float) -> AudioSpec:
    """Return the format of a configuration with these settings in the section `audio`."""
    return audio_spec(Config(audio=AudioConfig(**settings)))


SPEC = spec_of(seconds=1.0)


def noise(seconds: float, seed: int = 0) -> Recording:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(16_000 * seconds))
    return load_audio((samples, 16_000))


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(),
        spec_of(min_hz=0, mels=40),
        spec_of(max_hz=4_000),
        spec_of(fft=1024, window=1024, hop=320, mels=128),
        spec_of(fft=512, window=401),
        spec_of(rate=44_100, max_hz=20_000, fft=2048, window=1102, hop=441),
    ],
)
@pytest.mark.parametrize("count", [1, 159, 160, 12_345])
@pytest.mark.filterwarnings("ignore:n_fft=.* is too large")
def test_log_mel_equals_librosa(spec: AudioSpec, count: int) -> None:
    librosa = pytest.importorskip("librosa")
    rng = np.random.default_rng(count)
    samples = (rng.standard_normal(count) * np.linspace(0, 0.3, count)).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=spec.rate,
        n_fft=spec.fft,
        hop_length=spec.hop,
        win_length=spec.window,
        n_mels=spec.mels,
        fmin=spec.min_hz,
        fmax=spec.max_hz,
    )
    expected = librosa.power_to_db(power, ref=1.0, top_db=None)
    found = log_mel(samples, spec)
    assert found.dtype == np.float32
    assert found.shape == (spec.mels, 1 + count // spec.hop)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(10 ** (found / 10), np.maximum(power, 1e-10), rtol=1e-4)


def test_a_tone_appears_in_its_band() -> None:
    samples = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    bands = log_mel(samples, spec_of()).mean(axis=1)
    assert bands.argmax() == 20  # 66.7 Hz for each mel below 1 kHz
    assert bands.max() > bands[40:].max() + 40


def test_silence_has_the_lowest_value() -> None:
    np.testing.assert_allclose(log_mel(np.zeros(999, np.float32), SPEC), -100, rtol=1e-6)


@pytest.mark.parametrize("seconds", [0.01, 0.999, 1.0, 3.0])
def test_a_spectrogram_has_exactly_the_frames_of_the_input(seconds: float) -> None:
    values = to_spectrogram(noise(seconds), SPEC)
    assert values.shape == (1, 64, 100)
    assert values.dtype == np.float32
    assert SPEC.shape == values.shape


def test_short_recordings_are_filled_with_silence() -> None:
    spec = spec_of(seconds=1.0, mean=-40.0, std=20.0)
    values = to_spectrogram(noise(0.5), spec)
    np.testing.assert_allclose(values[:, :, 53:], -3.0, rtol=1e-5)
    np.testing.assert_allclose(
        values[0, :, :48] * 20 - 40, log_mel(noise(0.5).samples, spec)[:, :48], atol=1e-4
    )


def test_a_window_equals_the_spectrogram_of_its_samples() -> None:
    recording = noise(2.5)
    part = load_audio((recording.samples[8_000:24_000], 16_000))
    assert np.array_equal(to_spectrogram(recording, SPEC, 0.5), to_spectrogram(part, SPEC))


def test_a_recording_of_another_rate_is_an_error() -> None:
    with pytest.raises(ValueError, match="8000"):
        to_spectrogram(load_audio((np.ones(9), 8_000), rate=8_000), SPEC)


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(0.2, [0]), (1, [0]), (1.5, [0, 0.5]), (2, [0, 1]), (3.25, [0, 1, 2, 2.25])],
)
def test_windows_cover_the_recording(seconds: float, starts: list[float]) -> None:
    assert windows(noise(seconds), SPEC) == starts
