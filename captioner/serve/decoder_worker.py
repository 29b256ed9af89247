"""Worker process that decodes images for a server, within limits of memory and time.

It reads requests from stdin and writes responses to stdout, both as frames: a length of four bytes
(big-endian), then that many bytes. A request is an image file. A response is a JSON object with
either `error` and `kind`, or `size`, `original_size` and `low_confidence`; in the second case, a
second frame holds the RGB pixels (H, W, 3). `original_size` is the size of the decoded image; a
JPEG may be decoded at a reduced scale. The module imports only Pillow and numpy, no torch, so that
the process starts in about 0.1 s.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import asdict, dataclass
from typing import BinaryIO

from captioner.errors import ImageError
from captioner.images import fit, is_blank, load_image

if sys.platform != "win32":
    import resource

LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class DecoderLimits:
    """Resource limits for decoding one image, and the output size (height, width)."""

    size: tuple[int, int]
    crop: bool
    max_pixels: int
    memory: int
    """Bytes of address space."""
    seconds: int
    """Processor time for each image."""

    def dump(self) -> str:
        """Return the limits as JSON, for the worker's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> DecoderLimits:
        """Return the limits from the output of `dump`."""
        fields = json.loads(text)
        return cls(**fields | {"size": tuple(fields["size"])})


def main(argv: list[str]) -> None:
    """Decode images until stdin is closed; `argv` holds the limits as JSON."""
    limits = DecoderLimits.load(argv[0])
    restrict_process(limits)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while (data := read_frame(source)) is not None:
        limit_cpu_time(limits.seconds)
        for frame in decode(data, limits):
            target.write(LENGTH.pack(len(frame)) + frame)
        target.flush()


def decode(data: bytes, limits: DecoderLimits) -> list[bytes]:
    """Return the frames of the response to one image file."""
    try:
        # The same minimum size as `Captioner.caption` requests, so that the pixels are equal.
        min_size = 2 * max(limits.size)
        image = load_image(data, max_pixels=limits.max_pixels, min_size=min_size)
        small = fit(image, limits.size, crop=limits.crop)
        head = {
            "size": small.size,
            "original_size": small.size if limits.crop else image.size,
            "low_confidence": is_blank(image, small),
        }
        return [json.dumps(head).encode(), small.tobytes()]
    except ImageError as error:
        return [json.dumps({"error": str(error), "kind": type(error).__name__}).encode()]


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
