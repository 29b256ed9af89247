"""The section `audio` of a configuration: spectrograms of recordings, and their augmentation."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.config.parsing import check_interval, check_minimum
from captioner.errors import ConfigError

AUDIO_AUGMENTATION = (
    "time_masks", "time_width", "frequency_masks", "frequency_width", "shift", "gain", "mixup"
)  # fmt: skip
"""The fields of `AudioConfig` that belong to a run, and not to its checkpoint."""


@dataclass(frozen=True)
class AudioConfig:
    """Log-mel spectrograms, and the augmentation of recordings."""

    rate: int = 16000
    """Sampling rate in Hz; recordings are resampled to it."""
    window: int = 400
    """Length of an analysis window in samples."""
    hop: int = 160
    """Samples between two analysis windows: one column of the spectrogram."""
    fft: int = 512
    """Length of the Fourier transform in samples; at least `window`."""
    mels: int = 64
    """Mel bands: the rows of the spectrogram."""
    min_hz: float = 50.0
    """Lower edge of the lowest mel band in Hz."""
    max_hz: float = 8000.0
    """Upper edge of the highest mel band in Hz; at most half of `rate`."""
    seconds: float = 5.0
    """Duration that the encoder takes. Shorter recordings are padded, longer ones are divided into
    windows, whose features are averaged."""
    mean: float = -40.0
    """Mean of the log-mel values in dB, for normalization."""
    std: float = 20.0
    """Standard deviation of the log-mel values in dB, for normalization."""
    time_masks: int = 2
    """Augmentation (SpecAugment; Park et al., 2019): masks over time."""
    time_width: float = 0.2
    """Augmentation: largest duration of a time mask, as a share of the spectrogram, 0 to 1."""
    frequency_masks: int = 2
    """Augmentation: masks over frequency."""
    frequency_width: float = 0.2
    """Augmentation: largest height of a frequency mask, as a share of the mel bands, 0 to 1."""
    shift: float = 0.2
    """Augmentation: largest shift in time, as a share of the duration, 0 to 1."""
    gain: float = 6.0
    """Augmentation: largest change of the level, in dB."""
    mixup: float = 0.0
    """Augmentation: probability that a second training recording is mixed in (mixup; Zhang et al.,
    2018), 0 to 1. The captions are drawn from those of both in proportion to their shares."""

    def __post_init__(self) -> None:
        check_minimum("audio", self, 1, "rate", "window", "hop", "fft", "mels")
        check_minimum("audio", self, 0, "time_masks", "frequency_masks", "min_hz", "gain")
        check_interval("audio", self, "[0, 1]", "time_width", "frequency_width", "shift", "mixup")
        check_interval("audio", self, "(0, inf)", "seconds", "std")
        if self.fft < self.window:
            raise ConfigError(f"audio.fft={self.fft} is below audio.window={self.window}")
        if not self.min_hz < self.max_hz <= self.rate / 2:
            bands = f"audio.min_hz={self.min_hz:g}, audio.max_hz={self.max_hz:g}"
            raise ConfigError(f"{bands}: expected min_hz < max_hz <= rate / 2 ({self.rate / 2:g})")
