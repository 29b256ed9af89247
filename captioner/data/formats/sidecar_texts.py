"""Reader of text files beside the images, the layout that `captioner generate --sidecar` writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from captioner.data.example import Example
from captioner.data.formats.csv_jsonl import split_in_folders
from captioner.data.formats.io import Source, read_lines, walk_files
from captioner.data.report import UNREAD_FILE
from captioner.files import IMAGE_SUFFIXES

SHARED_TEXT = (
    "text file that matches several images (name it after one file, such as photo.jpg.txt)"
)


def find_sidecar_texts(root: Path) -> tuple[Path, ...]:
    """Return each `photo.txt` or `photo.jpg.txt` beside its `photo.jpg`, in `root` or below."""
    return find_sidecars(root, ".txt")


def find_sidecars(root: Path, suffix: str) -> tuple[Path, ...]:
    """Return each file `photo.SUFFIX` or `photo.jpg.SUFFIX` beside its `photo.jpg`."""
    if not root.is_dir():
        return ()
    files = list(walk_files(root))
    images = _keep_images(files)
    stems = {path.with_suffix("") for path in images} | set(images)
    sidecars = (path for path in files if path.suffix.lower() == suffix)
    return tuple(path for path in sidecars if path.with_suffix("") in stems)


def read_sidecar_texts(source: Source) -> Iterator[Example]:
    """Read one caption from each line of the text files beside the images.

    A folder `train`, `val` or `test` is a split. An image without a text file is reported as an
    image without captions, a text file that belongs to no image or to several as unused.
    """
    for path, text in pair_sidecars(source, ".txt", shared=SHARED_TEXT, count=_count_lines):
        captions = tuple(line for _, line in read_lines(text)) if text else ()
        name = path.relative_to(source.root).as_posix()
        split = split_in_folders(path, source.root) or "train"
        yield Example(str(path), name, captions, split, rows=len(captions))


def pair_sidecars(
    source: Source, suffix: str, *, shared: str, count: Callable[[Path], int]
) -> Iterator[tuple[Path, Path | None]]:
    """Yield each image with the file beside it, or None; report files that belong to no image.

    Args:
        source: The data set.
        suffix: Suffix of the files, such as `.txt`.
        shared: Kind of problem of a file that matches several images.
        count: Returns the number of rows in a file.
    """
    files = list(walk_files(source.root))
    sidecars = {path.with_suffix(""): path for path in files if path.suffix.lower() == suffix}
    # `photo.jpg.txt` belongs to `photo.jpg` alone, `photo.txt` to any image of that stem.
    stems = {
        path: path if path in sidecars else path.with_suffix("") for path in _keep_images(files)
    }
    images: dict[Path, list[Path]] = {}
    for path, stem in stems.items():
        images.setdefault(stem, []).append(path)
    for stem, sidecar in sidecars.items():
        owners = images.get(stem, [])
        if len(owners) > 1:
            names = ", ".join(path.name for path in owners)
            source.report.add(shared, f"{sidecar.name}: {names}", rows=count(sidecar))
        elif not owners:
            source.report.add(UNREAD_FILE, f"{sidecar.name} (no image of its name)")
    for path, stem in stems.items():
        single = stem in sidecars and len(images[stem]) == 1
        yield path, sidecars[stem] if single else None


def _count_lines(path: Path) -> int:
    return sum(1 for _ in read_lines(path))


def _keep_images(files: list[Path]) -> list[Path]:
    return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
