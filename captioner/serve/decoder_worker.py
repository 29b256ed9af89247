"""A process that decodes images for a server, within limits of memory and time.

It reads requests from stdin and writes replies to stdout, each a frame: four bytes of length, most
significant first, then so many bytes. A request is an image file. A reply is a JSON head, with
`error` and `kind`; or with `size`, with `of`, the size of what it shows in the file, where a JPEG
may be read at a reduced scale, and with `low_confidence`; the pixels (H, W, 3) are a second frame.
What it imports is small, so that it starts in a tenth of a second: Pillow and numpy, no torch.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import asdict, dataclass
from typing import BinaryIO

from captioner.errors import ImageError
from captioner.images import fit, is_blank, load_image

try:
    import resource
except ImportError:  # Windows has no such limits; the server's clock is the one that counts there
    resource = None

LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class Limits:
    """What an image may cost, and the size (height, width) that it is brought to."""

    size: tuple[int, int]
    crop: bool
    max_pixels: int
    memory: int
    """Bytes of address space."""
    seconds: int
    """Of processor time, for each image."""

    def dump(self) -> str:
        """As one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Limits:
        """The inverse of `dump`."""
        fields = json.loads(text)
        return cls(**fields | {"size": tuple(fields["size"])})


def main(argv: list[str]) -> None:
    """Serve until stdin ends."""
    limits = Limits.load(argv[0])
    restrict(limits)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while (data := read_frame(source)) is not None:
        allow(limits.seconds)
        for frame in reply(data, limits):
            target.write(LENGTH.pack(len(frame)) + frame)
        target.flush()


def reply(data: bytes, limits: Limits) -> list[bytes]:
    """The frames that answer one image."""
    try:
        # As large as the caption's own reading asks for, so that the same pixels come of it.
        least = 2 * max(limits.size)
        image = load_image(data, max_pixels=limits.max_pixels, min_size=least)
        small = fit(image, limits.size, crop=limits.crop)
        of = small.size if limits.crop else image.size
        nothing = is_blank(image, small)
        head = {"size": small.size, "of": of, "low_confidence": nothing}
        return [json.dumps(head).encode(), small.tobytes()]
    except ImageError as error:
        return [json.dumps({"error": str(error), "kind": type(error).__name__}).encode()]


def read_frame(source: BinaryIO) -> bytes | None:
    """The bytes of a frame; None where there are no more."""
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = source.read(length)
    return data if len(data) == length else None


def restrict(limits: Limits) -> None:
    """Limits that hold for good: memory, and nothing written to any file."""
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow(seconds: int) -> None:
    """So much processor time from now on; the kernel ends the process after it."""
    if resource is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
