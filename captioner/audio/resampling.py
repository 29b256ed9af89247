"""Resample audio with a polyphase filter, in NumPy.

The filter equals that of `scipy.signal.resample_poly`, whose import takes longer than captioning;
soxr would be a further dependency, under the LGPL.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

_HALF_WIDTH = 10
"""Half of the filter's length, in samples at the lower of both rates."""
_BETA = 5.0
"""Shape of the Kaiser window."""
_MAX_FACTOR = 1000
"""Largest factor of decimation: unusual rates are rounded, by less than 1 part in 1,000."""


def resample(samples: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    """Return float32 samples (N,) at another rate: ceil(N * up / down) samples.

    The quotient up / down equals rate / source_rate for all usual rates.

    Method: upsampling by zeros, a low-pass filter (windowed sinc) at the lower Nyquist frequency,
    and decimation, where only the needed products are computed (Crochiere and Rabiner 1983).
    """
    up, down = Fraction(rate, source_rate).limit_denominator(_MAX_FACTOR).as_integer_ratio()
    if up == down:
        return samples
    taps = _low_pass(max(up, down)) * np.float32(up)
    half = len(taps) // 2
    # Row p holds the coefficients of every up-th tap from p on, in the order of the samples.
    width = -(-len(taps) // up)
    phases = np.pad(taps, (0, width * up - len(taps))).reshape(width, up).T[:, ::-1]
    count = -(-len(samples) * up // down)
    last = ((count - 1) * down + half) // up
    padding = np.zeros(width, np.float32)
    after = np.zeros(max(0, last + 1 - len(samples)), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([padding, samples, after]), width
    )
    out = np.empty(count, np.float32)
    for i in range(min(up, count)):  # outputs i, i + up, i + 2 * up, ... have the same phase
        last, phase = divmod(i * down + half, up)
        part = out[i::up]
        np.matmul(frames[last + 1 :: down][: len(part)], phases[phase], out=part)
    return out


def _low_pass(factor: int) -> np.ndarray:
    """Return a low-pass filter with gain 1 and cutoff 1 / factor of the Nyquist frequency."""
    half = _HALF_WIDTH * factor
    taps = np.sinc(np.arange(-half, half + 1) / factor) * np.kaiser(2 * half + 1, _BETA)
    return (taps / taps.sum()).astype(np.float32)
