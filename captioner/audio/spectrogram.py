"""Log-mel spectrograms of recordings, and the windows of long recordings.

Shapes: N samples, F frequencies, M mel bands, T frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from captioner.audio.recording import Recording

_FLOOR = 1e-10
"""The lowest power, equal to -100 dB."""
_LINEAR_STEP, _BREAK, _LOG_STEP = 200 / 3, 1000.0, math.log(6.4) / 27
"""Slaney's mel scale: mels of 66.7 Hz up to 1 kHz, above it 27 mels for each factor of 6.4."""


@dataclass(frozen=True)
class AudioSpec:
    """The input format of an audio encoder; `captioner.config.AudioConfig` has its defaults."""

    rate: int
    """Samples per second."""
    window: int
    """Length of the Hann window in samples."""
    hop: int
    """Samples between frames."""
    fft: int
    """Length of the Fourier transform; the window is padded with zeros on both sides."""
    mels: int
    """Number of mel bands."""
    min_hz: float
    """Lower edge of the lowest mel band."""
    max_hz: float
    """Upper edge of the highest mel band."""
    seconds: float
    """Duration of the input; longer recordings are processed in windows."""
    mean: float
    """Mean of the log-mel values in dB, for normalization."""
    std: float
    """Standard deviation of the log-mel values in dB, for normalization."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the input, (1, M, T)."""
        return 1, self.mels, self.frames

    @property
    def frames(self) -> int:
        """The number of frames of the input."""
        return math.ceil(self.length / self.hop)

    @property
    def length(self) -> int:
        """The number of samples of the input."""
        return round(self.seconds * self.rate)


def log_mel(samples: np.ndarray, spec: AudioSpec) -> np.ndarray:
    """Return the log-mel spectrogram of samples (N,): float32 (M, T) in dB, T = 1 + N // hop.

    It is the power spectrogram of centered frames (zeros before and after the samples) with a Hann
    window, weighted by mel filters of equal area (Slaney, Auditory Toolbox, 1998) and converted to
    10 log10, at least -100 dB. It equals `librosa.power_to_db(librosa.feature.melspectrogram(...),
    top_db=None)`.
    """
    padded = np.pad(np.asarray(samples, np.float32), spec.fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.fft)[:: spec.hop]
    spectrum = np.fft.rfft(frames * _hann_window(spec.window, spec.fft), axis=1)  # (T, F)
    power = spectrum.real**2 + spectrum.imag**2
    mel = _mel_filters(spec.rate, spec.fft, spec.mels, spec.min_hz, spec.max_hz) @ power.T
    return 10 * np.log10(np.maximum(mel, np.float32(_FLOOR)))


def to_spectrogram(recording: Recording, spec: AudioSpec, start: float = 0.0) -> np.ndarray:
    """Return the normalized log-mel spectrogram of one window: float32 (1, M, `spec.frames`).

    Args:
        recording: A recording at the rate of `spec`.
        spec: The input format.
        start: Start of the window in seconds. A window that ends after the recording is filled
            with silence.
    """
    if recording.rate != spec.rate:
        raise ValueError(f"rate {recording.rate}, expected {spec.rate}")
    first = round(start * spec.rate)
    part = recording.samples[first : first + spec.length]
    part = np.pad(part, (0, spec.length - len(part)))
    values = log_mel(part, spec)[None, :, : spec.frames]
    return (values - np.float32(spec.mean)) / np.float32(spec.std)


def windows(recording: Recording, spec: AudioSpec) -> list[float]:
    """Return the starts in seconds of the windows that cover a recording.

    They do not overlap, except the last, which ends with the recording.
    """
    last = len(recording.samples) - spec.length
    starts = [*range(0, max(last, 1), spec.length), *([last] if last > 0 else [])]
    return [start / spec.rate for start in starts]


@lru_cache(maxsize=8)
def _hann_window(length: int, fft: int) -> np.ndarray:
    """Return a periodic Hann window, centered in `fft` values, float32."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    left = (fft - length) // 2
    return np.pad(window, (left, fft - length - left)).astype(np.float32)


@lru_cache(maxsize=8)
def _mel_filters(rate: int, fft: int, mels: int, min_hz: float, max_hz: float) -> np.ndarray:
    """Return triangular filters of area 1 over frequency, float32 (M, F)."""
    edges = _to_hz(np.linspace(_to_mel(min_hz), _to_mel(max_hz), mels + 2))
    distances = edges[:, None] - np.fft.rfftfreq(fft, 1 / rate)  # (M + 2, F)
    widths = np.diff(edges)[:, None]
    rising, falling = -distances[:-2] / widths[:-1], distances[2:] / widths[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * 2 / (edges[2:] - edges[:-2])[:, None]).astype(np.float32)


def _to_mel(hz: float) -> float:
    if hz < _BREAK:
        return hz / _LINEAR_STEP
    return _BREAK / _LINEAR_STEP + math.log(hz / _BREAK) / _LOG_STEP


def _to_hz(mel: np.ndarray) -> np.ndarray:
    above = np.maximum(mel - _BREAK / _LINEAR_STEP, 0)
    return np.where(above > 0, _BREAK * np.exp(above * _LOG_STEP), mel * _LINEAR_STEP)
