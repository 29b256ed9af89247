"""Worker process that decodes images and recordings for a server, within limits of memory and time.

It reads requests from stdin and writes responses to stdout, both as frames: a length of four bytes
(big-endian), then that many bytes. A request is an image or an audio file. A response is one of:

* a JSON object with `error` and `kind`;
* for an image, a JSON object with `size`, `original_size` and `low_confidence`, and the RGB pixels
  (H, W, 3). `original_size` is the size of the decoded image; a JPEG may be decoded at a reduced
  scale;
* for a recording, a JSON object with `rate` and `low_confidence`, and the float32 samples (N,).

The module imports only Pillow and numpy, and soundfile if the model takes recordings, but no torch,
so that the process starts in about 0.1 s.
"""

from __future__ import annotations

import json
import struct
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import BinaryIO

from captioner.audio import is_audio, is_silent_or_noise, load_audio
from captioner.audio.recording import import_decoder
from captioner.audio.signatures import AUDIO_FORMATS, NEEDED_BYTES
from captioner.errors import CaptionerError, ImageFormatError, InputError
from captioner.images import fit, is_blank, load_image
from captioner.images.file_types import identify_format

if sys.platform != "win32":
    import resource

LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class DecoderLimits:
    """The output formats of a decoder, and resource limits for decoding one file."""

    size: tuple[int, int] | None
    """Height and width of images; None if the model takes no images."""
    crop: bool
    max_pixels: int
    memory: int
    """Bytes of address space."""
    seconds: int
    """Processor time for each file."""
    audio_rate: int | None = None
    """Samples per second of recordings; None if the model takes no recordings."""
    max_audio_seconds: float = 60.0

    def dump(self) -> str:
        """Return the limits as JSON, for the worker's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> DecoderLimits:
        """Return the limits from the output of `dump`."""
        fields = json.loads(text)
        return cls(**fields | {"size": fields["size"] and tuple(fields["size"])})


def main(argv: list[str]) -> None:
    """Decode files until stdin is closed; `argv` holds the limits as JSON."""
    limits = DecoderLimits.load(argv[0])
    if limits.audio_rate is not None:
        import_decoder()  # now, because the first file has little time
    restrict_process(limits)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while (data := read_frame(source)) is not None:
        limit_cpu_time(limits.seconds)
        for frame in decode(data, limits):
            target.write(LENGTH.pack(len(frame)) + frame)
        target.flush()


def decode(data: bytes, limits: DecoderLimits) -> list[bytes]:
    """Return the frames of the response to one file."""
    try:
        if is_audio(data[:NEEDED_BYTES]):
            return _decode_recording(data, limits)
        return _decode_image(data, limits)
    except CaptionerError as error:
        return [json.dumps({"error": str(error), "kind": type(error).__name__}).encode()]


def _decode_image(data: bytes, limits: DecoderLimits) -> list[bytes]:
    if limits.size is None:
        with suppress(ImageFormatError):
            identify_format(data)
            raise InputError("<bytes>: is an image; this model takes recordings only")
        return _decode_recording(data, limits)  # raises an error that names the expected formats
    # The same minimum size as `Captioner.caption` requests, so that the pixels are equal.
    image = load_image(
        data,
        max_pixels=limits.max_pixels,
        min_size=2 * max(limits.size),
        other_formats=() if limits.audio_rate is None else AUDIO_FORMATS,
    )
    small = fit(image, limits.size, crop=limits.crop)
    head = {
        "size": small.size,
        "original_size": small.size if limits.crop else image.size,
        "low_confidence": is_blank(image, small),
    }
    return [json.dumps(head).encode(), small.tobytes()]


def _decode_recording(data: bytes, limits: DecoderLimits) -> list[bytes]:
    if limits.audio_rate is None:
        raise InputError("<bytes>: is a recording; this model takes images only")
    recording = load_audio(data, limits.audio_rate, limits.max_audio_seconds)
    head = {"rate": recording.rate, "low_confidence": is_silent_or_noise(recording)}
    return [json.dumps(head).encode(), recording.samples.tobytes()]


def read_frame(source: BinaryIO) -> bytes | None:
    """Return the content of the next frame; None at the end of the input."""
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = source.read(length)
    return data if len(data) == length else None


def restrict_process(limits: DecoderLimits) -> None:
    """Limit the address space of this process, and forbid writing files."""
    # Windows has no such limits; there, only the timeout of the pool applies.
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_cpu_time(seconds: int) -> None:
    """Limit the CPU time of this process: the kernel kills it after `seconds` more seconds."""
    if sys.platform != "win32":
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
