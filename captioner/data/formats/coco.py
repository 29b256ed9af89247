"""Readers of the two JSON layouts: COCO's caption annotations and Karpathy's splits.

Sources: Chen et al., "Microsoft COCO Captions", arXiv:1504.00325 (`captions_*.json`); Karpathy and
Fei-Fei, CVPR 2015 (`dataset_*.json`, where `restval` is the part of COCO val given to training).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioner.data.example import NO_FILE_NAME, Example, has_file_name
from captioner.data.formats.io import (
    Source,
    canonical_split,
    find_images,
    list_files,
    list_in,
    locate_images,
    read_head,
    read_json,
)
from captioner.data.report import BAD_ROW, DUPLICATE, Report
from captioner.errors import DataError

UNKNOWN_IMAGE = "caption of an image that is not in the file"
OTHER_YEAR = "COCO file of an earlier year left unread (name it to read it)"

_COCO_NAMES = re.compile(r"^captions_(train|val|test)(\d{4})?\.json$", re.IGNORECASE)
_TEXT_FOLDERS = ("annotations", "caption_datasets", "captions")


def find_karpathy(root: Path) -> tuple[Path, ...]:
    """`dataset*.json` with `sentences`, given or in the folder (or its `annotations/`)."""
    if root.is_file():
        is_json = root.suffix.lower() == ".json" and not _COCO_NAMES.match(root.name)
        return (root,) if is_json and '"sentences"' in read_head(root, size=65536) else ()
    for folder in (root, *(root / name for name in _TEXT_FOLDERS)):
        found = [path for path in list_files(folder) if re.match(r"dataset.*\.json$", path.name)]
        found = [path for path in found if find_karpathy(path)]
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(f"{folder}: holds several data sets ({names}); give the path of one")
        if found:
            return tuple(found)
    return ()


def read_karpathy(source: Source) -> Iterator[Example]:
    """Reads `{"images": [{filename, filepath, split, sentences: [{raw}], cocoid}]}`.

    `restval` counts as train, as in all published work on COCO. The id is `cocoid` where there is
    one (so that COCO result files match), else the file name.
    """
    path = source.files[0]
    rows = [
        example
        for index, row in enumerate(list_in(read_json(path), "images", path, kind="caption"))
        if (example := _karpathy_row(row, f"{path.name}:images[{index}]", source.report))
    ]
    folder = locate_images(source, _file_names(row.image for row in rows))
    if folder is None:  # all images in one folder, without `train2014/` and `val2014/`
        rows = [replace(row, image=Path(row.image).name) for row in rows]
        folder = find_images(source, _file_names(row.image for row in rows))
    for row in rows:
        yield replace(row, image=str(folder / row.image))


def _karpathy_row(row: Any, where: str, report: Report) -> Example | None:
    try:
        texts = tuple(
            sentence["raw"] if "raw" in sentence else " ".join(sentence["tokens"])
            for sentence in row["sentences"]
        )
        name = row["filename"] if "cocoid" not in row else row.get("filename")
        name = f"{where}{NO_FILE_NAME}" if name is None else name
        image = f"{row['filepath']}/{name}" if row.get("filepath") else name
        split = canonical_split(row.get("split", "train"))
        image_id = str(row.get("cocoid", name))
    except (TypeError, KeyError, AttributeError):
        report.add(BAD_ROW, where, rows=1)
        return None
    if not (isinstance(name, str) and name and all(isinstance(text, str) for text in texts)):
        report.add(BAD_ROW, where, rows=1)
        return None
    return Example(image, image_id, texts, split)


def find_coco(root: Path) -> tuple[Path, ...]:
    """`captions_{train,val}{2014,2017}.json` in `annotations/` or the folder, or one such JSON."""
    if root.is_file():
        if _COCO_NAMES.match(root.name):
            return (root,)
        head = read_head(root, size=65536) if root.suffix.lower() == ".json" else ""
        keys = ('"annotations"', '"images"')
        other = ('"sentences"', '"question_id"')  # Karpathy's, and VQA's
        if any(key in head for key in other):
            return ()
        return (root,) if any(key in head for key in keys) else ()
    for folder in (root / "annotations", root):
        found = [path for path in list_files(folder) if _COCO_NAMES.match(path.name)]
        if found:
            return tuple(found)
    return ()


def read_coco(source: Source) -> Iterator[Example]:
    """Reads COCO caption files, each a split that its name states (train if it states none).

    2014 and 2017 divide the same photographs differently, so of a folder with both only the later
    year is read, and that is reported.
    """
    for path in _latest_year(source):
        match = _COCO_NAMES.match(path.name)
        split, year = (match[1].lower(), match[2] or "") if match else ("train", "")
        document = read_json(path)
        images = _coco_images(
            list_in(document, "images", path, kind="caption"), path, source.report
        )
        captions = _coco_captions(document, images, path=path, report=source.report)
        folders = (f"{split}{year}", f"images/{split}{year}", split)
        folder = find_images(source, _file_names(images.values()), folders=folders)
        for key, name in images.items():
            texts = tuple(captions.get(key, ()))
            if not texts and not has_file_name(name):
                source.report.add(BAD_ROW, name.removesuffix(NO_FILE_NAME))
            else:
                yield Example(str(folder / name), key, texts, split, rows=len(texts))


def _file_names(images: Iterable[str]) -> list[str]:
    return [image for image in images if has_file_name(image)]


def _latest_year(source: Source) -> list[Path]:
    years = {path: (_COCO_NAMES.match(path.name) or [None] * 3)[2] or "" for path in source.files}
    latest = max(years.values())
    for path, year in years.items():
        if year != latest:
            source.report.add(OTHER_YEAR, path.name)
    return [path for path, year in years.items() if year == latest]


def _coco_images(rows: list[Any], path: Path, report: Report) -> dict[str, str]:
    """Return the file names by image id.

    Karpathy's ground truth for the COCO test split states ids alone, which is enough to score.
    """
    images: dict[str, str] = {}
    for index, row in enumerate(rows):
        where = f"{path.name}:images[{index}]"
        try:
            key, name = str(row["id"]), row.get("file_name")
        except (TypeError, KeyError, AttributeError):
            report.add(BAD_ROW, where)
            continue
        name = f"{where}{NO_FILE_NAME}" if name is None else name
        if not isinstance(name, str) or not name:
            report.add(BAD_ROW, where)
        elif key in images:
            report.add(DUPLICATE, f"image {key} ({where})")
        else:
            images[key] = name
    return images


def _coco_captions(
    document: dict[str, Any], images: dict[str, str], *, path: Path, report: Report
) -> dict[str, list[str]]:
    """Maps image id to captions."""
    captions: dict[str, list[str]] = {}
    seen: set[Any] = set()
    for index, row in enumerate(list_in(document, "annotations", path, kind="caption")):
        where = f"{path.name}:annotations[{index}]"
        try:
            key, text, number = str(row["image_id"]), row["caption"], str(row.get("id", where))
        except (TypeError, KeyError, AttributeError):
            report.add(BAD_ROW, where, rows=1)
            continue
        if not isinstance(text, str):
            report.add(BAD_ROW, where, rows=1)
        elif key not in images:
            report.add(UNKNOWN_IMAGE, f"{key} ({where})", rows=1)
        elif number in seen:
            report.add(DUPLICATE, f"annotation {number} ({where})", rows=1)
        else:
            seen.add(number)
            captions.setdefault(key, []).append(text)
    return captions
