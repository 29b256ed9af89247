"""Readers of data sets in the layout of COCO with fields of their own: nocaps, VizWiz-Captions.

Sources: Agrawal et al., "nocaps: novel object captioning at scale", ICCV 2019, arXiv:1812.08658;
Gurari et al., "Captioning images taken by people who are blind", ECCV 2020, arXiv:2002.08565.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioner.data.example import Example, split_in_file_name
from captioner.data.formats.coco import read_annotations
from captioner.data.formats.io import Source, list_files, read_head, read_json

_NOCAPS_NAMES = re.compile(r"^nocaps_(val|test)\w*captions\w*\.json$", re.IGNORECASE)
_VIZWIZ_KEYS = ('"vizwiz_url"', '"text_detected"', '"is_precanned"')
_PRECANNED = "quality issues are too severe"
"""Start of the caption that VizWiz's annotators could choose instead of a description."""
_TEXT_FOLDERS = ("annotations", "Annotations")


def find_nocaps(root: Path) -> tuple[Path, ...]:
    """Return `nocaps_val_4500_captions.json`, given, in `root` or in `annotations/`."""
    if root.is_file():
        is_json = root.suffix.lower() == ".json"
        head = read_head(root, size=65536) if is_json else ""
        is_nocaps = _NOCAPS_NAMES.match(root.name) or '"open_images_id"' in head
        return (root,) if is_json and is_nocaps else ()
    for folder in (root, *(root / name for name in _TEXT_FOLDERS)):
        if files := [
            path for path in list_files(folder, ".json") if _NOCAPS_NAMES.match(path.name)
        ]:
            return tuple(files)
    return ()


def read_nocaps(source: Source) -> Iterator[Example]:
    """Read COCO's layout, with `open_images_id`, `coco_url` and `domain` of each image.

    An image without `file_name` has the file name of its URL. The domain (in-domain, near-domain or
    out-domain) becomes `Example.question_type`, the group for reporting scores.
    """
    for path in source.files:
        match = _NOCAPS_NAMES.match(path.name)
        split = match[1].lower() if match else "val"
        document = read_json(path)
        images = [row for row in _list_rows(document, "images") if "id" in row]
        for row in images:
            row.setdefault("file_name", str(row.get("coco_url") or "").rpartition("/")[2] or None)
        domains = {str(row["id"]): str(row.get("domain", "")) for row in images}
        folders = (split, f"images/{split}", f"nocaps/{split}", "nocaps")
        part = replace(source, files=(path,))
        for example in read_annotations(document, path, part, split=split, folders=folders):
            yield replace(example, question_type=domains.get(example.image_id, ""))


def find_vizwiz_captions(root: Path) -> tuple[Path, ...]:
    """Return `{train,val,test}.json` with VizWiz's captions, in `annotations/` or `root`."""
    if root.is_file():
        head = read_head(root, size=65536) if root.suffix.lower() == ".json" else ""
        is_object = head.lstrip().startswith("{")
        return (root,) if is_object and any(key in head for key in _VIZWIZ_KEYS) else ()
    for folder in (*(root / name for name in _TEXT_FOLDERS), root):
        files = [path for path in list_files(folder, ".json") if split_in_file_name(path)]
        if files := [path for path in files if find_vizwiz_captions(path)]:
            return tuple(files)
    return ()


def read_vizwiz_captions(source: Source) -> Iterator[Example]:
    """Read COCO's layout, with `is_rejected` and `is_precanned` of each caption.

    A rejected caption does not describe the image. A pre-canned one states that its quality is too
    low. Both are reported and left out.
    """
    for path in source.files:
        split = split_in_file_name(path) or "train"
        document = read_json(path)
        if split == "test":  # the captions of the test set are not public
            document.setdefault("annotations", [])
        folders = (split, f"images/{split}")
        part = replace(source, files=(path,))
        yield from read_annotations(
            document, path, part, split=split, folders=folders, is_rejected=_is_rejected
        )


def _is_rejected(row: dict[str, Any]) -> bool:
    text = str(row.get("caption", "")).strip().lower()
    return bool(row.get("is_rejected") or row.get("is_precanned")) or text.startswith(_PRECANNED)


def _list_rows(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the objects of a list of a document; empty if it has no such list."""
    rows = document.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
