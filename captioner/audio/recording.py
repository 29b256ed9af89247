"""Load a recording from any source; every failure is an AudioError that names the source.

Shapes: N samples, C channels.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from captioner.audio.resampling import resample
from captioner.audio.signatures import NEEDED_BYTES, identify_audio
from captioner.errors import AudioError, AudioFormatError, AudioSizeError, DependencyError
from captioner.extras import explain_missing
from captioner.sources import open_source, printable_line, read_failure, source_name

AudioInput: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | tuple[np.ndarray, int]
"""A path, the bytes of a file, an open binary file, or samples (N,) or (N, C) and their rate."""
_SOURCES = "a path, bytes, file, or a tuple of samples and rate"

MAX_SECONDS = 600.0
MAX_CHANNELS = 64
RATES = (1_000, 384_000)
"""The lowest and the highest sample rate."""
_MAX_BYTES = 2**29
"""The largest size of a file."""
_BLOCK = 4096
"""Samples per channel that are decoded at once; damage costs at most so many."""
_NO_FILE = 7
"""libsndfile's code of the error "File does not exist"."""
_MIN_PART = 0.1
"""The shortest readable part of a damaged file that is used, in seconds."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Mono audio."""

    samples: np.ndarray
    """float32 (N,), in [-1, 1]."""
    rate: int
    """Samples per second."""
    source_rate: int
    """The rate before resampling; the samples have no content above half of it."""
    channels: int
    """The number of channels before they were averaged."""

    @property
    def seconds(self) -> float:
        """The duration."""
        return len(self.samples) / self.rate


def load_audio(
    source: AudioInput, rate: int = 16_000, max_seconds: float = MAX_SECONDS
) -> Recording:
    """Return a recording as mono audio at `rate`: the average of its channels, resampled.

    Of a damaged or truncated file, the part before the damage is returned. Samples beyond [-1, 1],
    which lossy formats and floating-point files may have, are divided by their peak.

    Args:
        source: A path to a regular file (pipes and devices are rejected unopened), bytes, a file
            object (read from its start and left open), or a tuple of an array of integers (full
            scale is that of their type) or floats, shape (N,) or (N, C), and its rate.
        rate: The rate of the result.
        max_seconds: Longest duration. A longer recording is rejected; it is decoded in blocks, so
            that neither its header nor its content allocates more.

    Raises:
        AudioError: The source cannot be decoded (AudioFormatError: its format is not supported;
            AudioSizeError: it is too long or has too many channels). The message is one printable
            line with the name of the file, or <bytes>, <array> or <file>.
        DependencyError: soundfile is not installed.
    """
    try:
        if isinstance(source, tuple):
            mono, source_rate, channels = _from_array(source, max_seconds)
        else:
            with open_source(source, AudioError, AudioFormatError, _SOURCES) as file:
                mono, source_rate, channels = _decode(file, max_seconds)
        return Recording(resample(_scale(mono), source_rate, rate), rate, source_rate, channels)
    except DependencyError:
        raise
    except Exception as error:  # a file object may raise errors of any type
        name = "<array>" if isinstance(source, tuple) else source_name(source) or "<file>"
        kind = type(error) if isinstance(error, AudioError) else AudioError
        raise kind(printable_line(f"{name}: {_reason(error)}")) from error


def import_decoder() -> ModuleType:
    """Import and return soundfile; raise DependencyError if it is not installed."""
    with explain_missing("reading audio files"):
        import soundfile
    return soundfile


def _reason(error: Exception) -> str:
    if isinstance(error, AudioError):
        return str(error)  # raised in this package, without the name of the source
    if failure := read_failure(error):
        return failure
    if isinstance(error, MemoryError):
        return "is too large for memory; use a shorter recording"
    text = getattr(error, "error_string", None) or f"{type(error).__name__}: {error}".rstrip(": ")
    if getattr(error, "code", None) == _NO_FILE:
        text = "No audio data."  # the file exists, because it was read into memory
    return f"cannot be decoded ({text}); it is damaged or truncated, use another copy"


def _decode(file: BinaryIO, max_seconds: float) -> tuple[np.ndarray, int, int]:
    """Return the average of the channels (N,), the rate and the number of channels of a file."""
    size = file.seek(0, os.SEEK_END)
    if size > _MAX_BYTES:
        raise AudioSizeError(f"has {size} bytes; expected at most {_MAX_BYTES}")
    file.seek(0)
    data = file.read()
    if not isinstance(data, bytes):
        raise AudioError("is open in text mode; open it with mode 'rb'")
    identify_audio(data[:NEEDED_BYTES])
    # A copy in memory, because soundfile ignores errors of file objects.
    with import_decoder().SoundFile(io.BytesIO(data)) as sound:
        rate, channels = sound.samplerate, sound.channels
        _check_header(rate, channels)
        blocks, count = [], 0
        for block in _read_blocks(sound):
            count += len(block)
            _check_length(count, rate, max_seconds)
            blocks.append(block)
    return np.concatenate(blocks), rate, channels


def _read_blocks(sound: Any) -> Iterator[np.ndarray]:
    """Yield the average of the channels (N,) of a file in blocks until its end or first damage.

    Raises:
        AudioError: The file has no samples.
        RuntimeError: It is damaged before or soon after its start.
    """
    # A given buffer is filled whatever the header says about the length.
    block = np.empty((_BLOCK, sound.channels), np.float32)
    count = 0
    while True:
        try:
            part = sound.read(out=block)
        except RuntimeError:  # the type of soundfile's errors
            if count < _MIN_PART * sound.samplerate:
                raise
            return
        if len(part) == 0:
            break
        count += len(part)
        yield part.mean(axis=1)
    if count == 0:
        raise AudioError("has no samples; get an intact copy")


def _from_array(source: tuple[Any, ...], max_seconds: float) -> tuple[np.ndarray, int, int]:
    """Return the average of the channels (N,), the rate and the number of channels of an array."""
    if len(source) != 2 or not isinstance(source[0], np.ndarray):
        raise AudioError("is a tuple; expected an array of samples and a rate")
    array, rate = source
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)):
        raise AudioError(f"has the rate {rate!r}; expected an integer")
    if array.ndim not in (1, 2) or array.size == 0:
        raise AudioError(f"has shape {array.shape}; expected (samples,) or (samples, channels)")
    if array.dtype.kind not in "iuf":
        raise AudioError(f"holds {array.dtype}; expected integers or floats")
    array = array.reshape(len(array), -1)
    _check_header(int(rate), array.shape[1])
    _check_length(len(array), int(rate), max_seconds)
    zero, full = 0.0, 1.0
    if array.dtype.kind in "iu":
        bits = 8 * array.dtype.itemsize
        full = 2.0 ** (bits - 1)
        zero = full if array.dtype.kind == "u" else 0.0
    return (array.mean(axis=1, dtype=np.float64) - zero) / full, int(rate), array.shape[1]


def _check_header(rate: int, channels: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"has a rate of {rate} Hz; expected {RATES[0]}..{RATES[1]}")
    if channels > MAX_CHANNELS:
        raise AudioSizeError(f"has {channels} channels; expected at most {MAX_CHANNELS}")


def _check_length(count: int, rate: int, max_seconds: float) -> None:
    if count > max_seconds * rate:
        raise AudioSizeError(f"is longer than {max_seconds:g} s (max_seconds); use a shorter part")


def _scale(mono: np.ndarray) -> np.ndarray:
    """Return samples as float32, divided by their peak if it exceeds 1."""
    peak = float(np.abs(mono).max())
    if not np.isfinite(peak):
        raise AudioError("has samples that are NaN or infinite; get an intact copy")
    return (mono / max(1.0, peak)).astype(np.float32)
