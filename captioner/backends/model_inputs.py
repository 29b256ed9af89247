"""The inputs of a model: an image, a recording, or both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from captioner.audio import AudioInput
    from captioner.images import ImageInput

_HEAD = 64
"""Bytes from which the format of a file is identified."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """An image, a recording, or both, for a model that takes them."""

    image: ImageInput | None = None
    audio: AudioInput | None = None


ModelInput: TypeAlias = "ImageInput | AudioInput | Inputs"
"""An image or a recording, which is recognized by its content, or several inputs."""


class Prepared(NamedTuple):
    """One input, ready to be encoded.

    Shapes: H, W pixels; W windows of a recording, M mel bands, T frames.
    """

    arrays: tuple[np.ndarray, ...]
    """For each distinct format of the first encoders: pixels (3, H, W), or spectrograms
    (W, 1, M, T) of a model of recordings only, float32. Empty without such an input."""
    size: tuple[int, int]
    """Width and height of the image as it was read; (0, 0) without an image."""
    low_confidence: bool
    """True if the image is a single color or noise, or the recording is silence or noise, so that
    no caption can be correct."""
    audio: tuple[np.ndarray, ...] = ()
    """For each distinct format of the second encoders: spectrograms (W, 1, M, T), float32."""
    kinds: tuple[str, ...] = ("image",)
    """What was read: "image", "audio", or both."""


def split_input(source: Any) -> Inputs:
    """Return a source as an image or a recording, by its content."""
    if isinstance(source, Inputs):
        return source
    from captioner.audio import is_audio

    if isinstance(source, tuple) or is_audio(_read_head(source)):
        return Inputs(audio=source)
    return Inputs(image=source)


def _read_head(source: Any) -> bytes:
    """Return the first bytes of a file; empty for other sources and if it cannot be read."""
    if isinstance(source, (bytes, bytearray)):
        return bytes(source[:_HEAD])
    try:
        if isinstance(source, (str, os.PathLike)):
            if not os.path.isfile(source):  # opening a pipe would block
                return b""
            with open(source, "rb") as file:
                return file.read(_HEAD)
        if hasattr(source, "read") and hasattr(source, "seek"):
            source.seek(0)
            head = source.read(_HEAD)
            source.seek(0)
            return head if isinstance(head, bytes) else b""
    except (OSError, ValueError):
        pass
    return b""
