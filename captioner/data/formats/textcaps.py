"""Reader of TextCaps, captions of images with text.

Source of the layout: Sidorov et al., "TextCaps: a dataset for image captioning with reading
comprehension", ECCV 2020, arXiv:2003.12462.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from captioner.data.example import Example, normalize_split
from captioner.data.formats.image_folders import choose_image_folder, find_image_folder
from captioner.data.formats.io import Source, get_list, list_files, read_head, read_json
from captioner.data.report import BAD_ROW, DUPLICATE, Report

_NAMES = re.compile(r"^TextCaps_[\d.]+_(train|val|test)\.json$", re.IGNORECASE)
_TEXT_FOLDERS = ("annotations", "Annotations")


@dataclass
class _Image:
    """An image of a file, with the captions of all of its rows."""

    path: str
    split: str
    captions: list[str] = field(default_factory=list)
    rows: int = 0


def find_textcaps(root: Path) -> tuple[Path, ...]:
    """Return `TextCaps_0.1_{train,val,test}.json`, given, in `root` or in `annotations/`."""
    if root.is_file():
        is_json = root.suffix.lower() == ".json"
        head = read_head(root, size=65536) if is_json else ""
        is_textcaps = _NAMES.match(root.name) or '"reference_strs"' in head
        return (root,) if is_json and is_textcaps else ()
    for folder in (root, *(root / name for name in _TEXT_FOLDERS)):
        if files := [path for path in list_files(folder, ".json") if _NAMES.match(path.name)]:
            return tuple(files)
    return ()


def read_textcaps(source: Source) -> Iterator[Example]:
    """Read `{"data": [{image_id, image_path, image_name, set_name, caption_str, reference_strs}]}`.

    The training file has a row for each caption, with all captions of its image; the rows of an
    image are joined. Images are at `image_path`, or under its file name in `train_images/` (which
    also has those of the validation set) or `test_images/`.
    """
    for path in source.files:
        images = _read_images(path, source.report)
        part = replace(source, files=(path,))
        folder = find_image_folder(part, [image.path for image in images.values()])
        if folder is None:
            for image in images.values():
                image.path = Path(image.path).name
            splits = dict.fromkeys(image.split for image in images.values())
            folders = [f"{split}_images" for split in splits] + ["train_images", *splits]
            names = [image.path for image in images.values()]
            folder = choose_image_folder(part, names, folders=folders)
        for key, image in images.items():
            texts = tuple(image.captions)
            yield Example(str(folder / image.path), key, texts, image.split, rows=image.rows)


def _read_images(path: Path, report: Report) -> dict[str, _Image]:
    """Return the images of a file by their ids."""
    match = _NAMES.match(path.name)
    default = match[1] if match else "train"
    images: dict[str, _Image] = {}
    for index, row in enumerate(get_list(read_json(path), "data", path, kind="TextCaps")):
        where = f"{path.name}:data[{index}]"
        image = _parse_row(row, default)
        if image is None:
            report.add(BAD_ROW, where, rows=1)
            continue
        first = images.setdefault(str(row["image_id"]), image)
        if (first.path, first.split) != (image.path, image.split):
            report.add(DUPLICATE, f"{row['image_id']} with another file or split ({where})", rows=1)
            continue
        first.captions += [text for text in image.captions if text not in first.captions]
        first.rows += 1
    return images


def _parse_row(row: Any, default: str) -> _Image | None:
    """Return the image of a row, or None if the row cannot be used."""
    match row:
        case {"image_id": str() | int(), "image_path": str(path)} if path:
            pass
        case {"image_id": str() | int(), "image_name": str(name)} if name:
            path = name if Path(name).suffix else f"{name}.jpg"
        case _:
            return None
    single, split = row.get("caption_str"), row.get("set_name") or default
    texts = row.get("reference_strs") or ([] if single is None else [single])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in (*texts, split)):
        return None
    return _Image(path, normalize_split(split), list(dict.fromkeys(texts)))
