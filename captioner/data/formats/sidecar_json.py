"""Reader of JSON files beside the images, with the keys of the rows of JSONL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captioner.data.example import Example
from captioner.data.formats.csv_jsonl import split_in_folders
from captioner.data.formats.csv_jsonl_rows import AUDIO_KEYS, IMAGE_KEYS
from captioner.data.formats.io import Source, read_json
from captioner.data.formats.row_joiner import RowDefaults, RowJoiner
from captioner.data.formats.sidecar_texts import find_sidecars, pair_sidecars
from captioner.data.report import BAD_ROW
from captioner.errors import DataError

NO_SIDECAR = "image without a JSON file"
SHARED_JSON = (
    "JSON file that matches several images (name it after one file, such as photo.jpg.json)"
)


def find_sidecar_json(root: Path) -> tuple[Path, ...]:
    """Return each `photo.json` or `photo.jpg.json` beside its `photo.jpg`, in `root` or below."""
    return find_sidecars(root, ".json")


def read_sidecar_json(source: Source) -> Iterator[Example]:
    """Read one row, or a list of rows, from each JSON file beside an image.

    The keys are those of `read_jsonl`, except that the image is the one beside the file, whatever
    the row names. A folder `train`, `val` or `test` is a split unless the row names one.
    """
    rows = RowJoiner(source)
    for path, sidecar in pair_sidecars(source, ".json", shared=SHARED_JSON, count=lambda _: 1):
        if sidecar is None:
            source.report.add(NO_SIDECAR, path.relative_to(source.root).as_posix())
            continue
        image = path.relative_to(source.root).as_posix()
        defaults = RowDefaults(source.root, split_in_folders(path, source.root) or "train")
        for where, row in _read_rows(sidecar, source):
            fields = {key: value for key, value in row.items() if key not in _INPUT_KEYS}
            rows.add(fields | {IMAGE_KEYS[0]: image}, where, defaults)
    yield from rows.examples()


_INPUT_KEYS = frozenset((*IMAGE_KEYS, *AUDIO_KEYS))


def _read_rows(path: Path, source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file with their places; report what is no object."""
    where = path.relative_to(source.root).as_posix()
    try:
        document = read_json(path, kind=object)
    except DataError:
        document = None
    is_list = isinstance(document, list)
    for index, row in enumerate(document if is_list else [document]):
        place = f"{where}[{index}]" if is_list else where
        if isinstance(row, dict):
            yield place, row
        else:
            source.report.add(BAD_ROW, place, rows=1)
