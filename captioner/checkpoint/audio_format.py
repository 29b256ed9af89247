"""The input formats of a checkpoint's encoders, of which one may be that of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import Config
from captioner.errors import CaptionerError
from captioner.images.transforms import PixelSpec

if TYPE_CHECKING:
    from captioner.audio import AudioSpec


def audio_spec(config: Config) -> AudioSpec:
    """Return the format of the spectrograms of a configuration."""
    # Imported here: most checkpoints take no recordings.
    from captioner.audio import AudioSpec

    audio = config.audio
    return AudioSpec(
        rate=audio.rate,
        window=audio.window,
        hop=audio.hop,
        fft=audio.fft,
        mels=audio.mels,
        min_hz=audio.min_hz,
        max_hz=audio.max_hz,
        seconds=audio.seconds,
        mean=audio.mean,
        std=audio.std,
    )


def first_spec(config: Config) -> PixelSpec | AudioSpec:
    """Return the format of the first encoder: images, or recordings for a model of these alone."""
    return pixel_spec(config) if config.model.backbones else audio_spec(config)


def second_spec(config: Config) -> AudioSpec | None:
    """Return the format of the second encoder, that of recordings; None if there is none."""
    both = config.model.backbones and config.model.audio
    return audio_spec(config) if both else None


def input_specs(
    configs: Sequence[Config],
) -> tuple[list[PixelSpec | AudioSpec], list[AudioSpec]]:
    """Return the formats of the first and of the second encoders of the members of an ensemble.

    Raises:
        CaptionerError: The members take different inputs.
    """
    kinds = {(bool(c.model.backbones), c.model.audio is not None) for c in configs}
    if len(kinds) > 1:
        raise CaptionerError(
            "the members of an ensemble must take the same inputs: images, recordings or both"
        )
    seconds = [spec for spec in map(second_spec, configs) if spec is not None]
    return list(map(first_spec, configs)), seconds
