"""Measure images in a process pool: size, content, perceptual hashes and a thumbnail.

Shapes: S `SIDE`, the side of a thumbnail in pixels.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from captioner.errors import CaptionerError, ImageError
from captioner.extras import explain_missing
from captioner.images import fit, is_blank, load_image
from captioner.sources import open_source, source_name

SIDE = 48
"""Side of the gray thumbnails that copies are compared by, in pixels."""
TINY = 64
"""Shortest side of an image that is not tiny, in pixels."""
_DECODED = 224
"""Sides below which no JPEG is decoded, in pixels; the size `is_blank` was measured at."""
_FEW = 32
"""Shorter side below which only images of one color are blank: too few pixels to tell noise."""
_CHUNK = 32


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """What the checks need to know about one image; `error` if it cannot be decoded."""

    path: str
    error: str = ""
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels, as in the file."""
    blank: bool = False
    hashes: tuple[int, int] = (0, 0)
    """64-bit perceptual hashes of the image and of its mirror image."""
    thumbnail: np.ndarray | None = None
    """(S, S) gray values as uint8."""

    @property
    def tiny(self) -> bool:
        """Return whether the shorter side has fewer than `TINY` pixels."""
        return not self.error and min(self.size) < TINY


def measure_images(
    paths: Sequence[str], *, processes: int, progress: bool = False
) -> dict[str, ImageFacts]:
    """Return the facts of images by path, in the order of the paths.

    Args:
        paths: Different paths.
        processes: Number of processes; 1 measures in this one. The result does not depend on it.
        progress: Show a progress bar on stderr.

    Raises:
        DependencyError: imagehash is not installed.
    """
    from tqdm import tqdm

    with explain_missing("captioner check"):
        import imagehash  # noqa: F401  # fails here and not in a worker
    stream = _measure_all(paths, processes)
    bar = tqdm(stream, total=len(paths), unit="image", disable=not progress)
    return {facts.path: facts for facts in bar}


def _measure_all(paths: Iterable[str], processes: int) -> Iterator[ImageFacts]:
    paths = list(paths)
    if processes == 1 or len(paths) <= _CHUNK:
        yield from map(measure_image, paths)
        return
    # Forking is unsafe in a process with threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_ignore_warnings) as pool:
        yield from pool.map(measure_image, paths, chunksize=_CHUNK)


def _ignore_warnings() -> None:
    """Ignore Pillow's warnings, because the error of an image describes its problem."""
    warnings.filterwarnings("ignore", module="PIL")


def measure_image(path: str) -> ImageFacts:
    """Decode an image and return its facts."""
    try:
        image = load_image(path, min_size=_DECODED)
        size = _read_size(path)
    except (ImageError, OSError) as error:
        reason = str(error).removeprefix(f"{source_name(path)}: ")
        return ImageFacts(path, error=reason)
    if min(size) < _FEW:
        blank = len(image.getcolors(image.width * image.height) or ()) == 1
    else:
        blank = is_blank(image, fit(image, (_DECODED, _DECODED), crop=False))
    gray = image.convert("L")
    small = gray.resize((SIDE, SIDE), Image.Resampling.BOX if min(gray.size) >= SIDE else None)
    hashes = _hash(gray), _hash(ImageOps.mirror(gray))
    return ImageFacts(path, "", size, blank, hashes, np.asarray(small))


def _read_size(path: str) -> tuple[int, int]:
    with (
        open_source(path, ImageError, ImageError, "a path") as file,
        Image.open(file) as image,
    ):
        return image.size


def _hash(gray: Image.Image) -> int:
    """Return the 64 bits of imagehash's pHash (discrete cosine transform, median of 8 x 8)."""
    import imagehash

    bits: Any = imagehash.phash(gray).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def count_processes(processes: int | None) -> int:
    """Return the number of processes to use: the given one, or that of the usable cores."""
    if processes is None:
        usable = getattr(os, "sched_getaffinity", None)
        return len(usable(0)) if usable else os.cpu_count() or 1
    if processes < 1:
        raise CaptionerError(f"processes={processes}: expected 1 or more")
    return processes
