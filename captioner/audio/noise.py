"""Detect recordings that contain nothing: silence, a constant, or white noise."""

from __future__ import annotations

import numpy as np

from captioner.audio.recording import Recording

_SILENCE = 1e-4
"""Standard deviation of the samples (-80 dB) below which a recording is silent."""
_RIPPLE = 0.01
"""The largest deviation from a constant, relative to it, that resampling can cause."""
_FLATNESS = 0.99
"""Spectral flatness of white noise; at most 0.982 in ESC-10, for one recording of rain."""
_EDGE = 0.01
"""Seconds at both ends in which resampling changes a constant."""
_FFT = 512
_MIN_HZ = 100.0


def is_silent_or_noise(recording: Recording) -> bool:
    """Return whether a recording is silence, a constant (DC) or white noise.

    Noise is recognized by the spectral flatness of its average power spectrum (geometric mean /
    arithmetic mean, Welch 1967), from about one second on. Colored noise, hum, a tone, noise that
    covers a sound, and silence with a short click are not recognized.
    """
    edge = round(_EDGE * recording.rate)
    inner = recording.samples[edge:-edge]
    samples = inner if len(inner) else recording.samples
    is_constant = np.std(samples) < max(_SILENCE, _RIPPLE * abs(np.mean(samples)))
    return bool(is_constant) or _flatness(recording) > _FLATNESS


def _flatness(recording: Recording) -> float:
    """Return the spectral flatness; 0 for a recording shorter than one frame."""
    if len(recording.samples) < _FFT:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(recording.samples, _FFT)[:: _FFT // 2]
    spectrum = np.fft.rfft(frames * np.hanning(_FFT).astype(np.float32), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=0)
    hz = np.fft.rfftfreq(_FFT, 1 / recording.rate)
    # Above the Nyquist frequency of the source there is nothing; filters attenuate below it.
    top = 0.45 * min(recording.rate, recording.source_rate)
    power = power[(hz >= _MIN_HZ) & (hz <= top)].astype(np.float64) + 1e-20
    return float(np.exp(np.log(power).mean()) / power.mean())
