"""Readers of COCO caption annotations and of Karpathy's split files.

Sources: Chen et al., "Microsoft COCO Captions", arXiv:1504.00325 (`captions_*.json`); Karpathy and
Fei-Fei, CVPR 2015 (`dataset_*.json`, where `restval` is the part of COCO val used for training).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioner.data.example import NO_FILE_NAME, Example, has_file_name, normalize_split
from captioner.data.formats.image_folders import choose_image_folder, find_image_folder
from captioner.data.formats.io import Source, get_list, list_files, read_head, read_json
from captioner.data.report import BAD_ROW, DUPLICATE, Report
from captioner.errors import DataError

UNKNOWN_IMAGE = "caption of an image that is not in the file"
REJECTED_CAPTION = "rejected or pre-canned caption"
OTHER_YEAR = "COCO file of an earlier year left unread (name it to read it)"

# Not those of a folder of Hugging Face `datasets`, which name its columns.
_KARPATHY_NAMES = re.compile(r"^dataset(?!_(?:info|infos|dict)\.json$).*\.json$")
_COCO_NAMES = re.compile(r"^captions_(train|val|test)(\d{4})?\.json$", re.IGNORECASE)
_TEXT_FOLDERS = ("annotations", "caption_datasets", "captions")


def find_karpathy(root: Path) -> tuple[Path, ...]:
    """Return the `dataset*.json` with `sentences`: `root`, or a file in `root` or `annotations/`.

    Raises:
        DataError: A folder holds several such files.
    """
    if root.is_file():
        is_json = root.suffix.lower() == ".json" and not _COCO_NAMES.match(root.name)
        return (root,) if is_json and '"sentences"' in read_head(root, size=65536) else ()
    for folder in (root, *(root / name for name in _TEXT_FOLDERS)):
        files = [path for path in list_files(folder, ".json") if _KARPATHY_NAMES.match(path.name)]
        files = [path for path in files if find_karpathy(path)]
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise DataError(f"{folder}: holds several data sets ({names}); give the path of one")
        if files:
            return tuple(files)
    return ()


def read_karpathy(source: Source) -> Iterator[Example]:
    """Read `{"images": [{filename, filepath, split, sentences: [{raw}], cocoid}]}`.

    `restval` is read as train, as in all published results on COCO. The image id is `cocoid`
    where there is one, to match COCO result files, otherwise the file name.
    """
    path = source.files[0]
    rows = [
        example
        for index, row in enumerate(get_list(read_json(path), "images", path, kind="caption"))
        if (example := _parse_karpathy_row(row, f"{path.name}:images[{index}]", source.report))
    ]
    folder = find_image_folder(source, _keep_file_names(row.image for row in rows))
    if folder is None:  # all images in one folder, without `train2014/` and `val2014/`
        rows = [replace(row, image=Path(row.image).name) for row in rows]
        folder = choose_image_folder(source, _keep_file_names(row.image for row in rows))
    for row in rows:
        yield replace(row, image=str(folder / row.image))


def _parse_karpathy_row(row: Any, where: str, report: Report) -> Example | None:
    try:
        sentences = row["sentences"]
        texts = tuple(s["raw"] if "raw" in s else " ".join(s["tokens"]) for s in sentences)
        name = row["filename"] if "cocoid" not in row else row.get("filename")
        name = f"{where}{NO_FILE_NAME}" if name is None else name
        image = f"{row['filepath']}/{name}" if row.get("filepath") else name
        split = normalize_split(row.get("split", "train"))
        image_id = str(row.get("cocoid", name))
    except (TypeError, KeyError, AttributeError):
        report.add(BAD_ROW, where, rows=1)
        return None
    if not (isinstance(name, str) and name and all(isinstance(text, str) for text in texts)):
        report.add(BAD_ROW, where, rows=1)
        return None
    return Example(image, image_id, texts, split)


def find_coco(root: Path) -> tuple[Path, ...]:
    """Return `captions_{train,val,test}*.json` in `annotations/` or `root`, or one given JSON."""
    if root.is_file():
        if _COCO_NAMES.match(root.name):
            return (root,)
        head = read_head(root, size=65536) if root.suffix.lower() == ".json" else ""
        other = ('"sentences"', '"question_id"')  # keys of Karpathy's files and of VQA
        if any(key in head for key in other):
            return ()
        return (root,) if any(key in head for key in ('"annotations"', '"images"')) else ()
    for folder in (root / "annotations", root):
        files = [path for path in list_files(folder, ".json") if _COCO_NAMES.match(path.name)]
        if files:
            return tuple(files)
    return ()


def read_coco(source: Source) -> Iterator[Example]:
    """Read `{"images": [{id, file_name}], "annotations": [{id, image_id, caption}]}`.

    The file name gives the split; without one, the rows are train. The releases of 2014 and 2017
    split the same images differently: if a folder has both, the later one is read and the other
    is reported.
    """
    for path in _select_latest_year(source):
        match = _COCO_NAMES.match(path.name)
        split, year = (match[1].lower(), match[2] or "") if match else ("train", "")
        folders = (f"{split}{year}", f"images/{split}{year}", split)
        yield from read_annotations(read_json(path), path, source, split=split, folders=folders)


def read_annotations(
    document: dict[str, Any],
    path: Path,
    source: Source,
    *,
    split: str,
    folders: Sequence[str],
    is_rejected: Callable[[dict[str, Any]], bool] | None = None,
) -> Iterator[Example]:
    """Read a document `{"images": [...], "annotations": [...]}` as `read_coco` does.

    Args:
        document: The content of the file.
        path: The file, for messages.
        source: The data set.
        split: The split of the images.
        folders: Names of the folder of the images; other usual names are tried, too.
        is_rejected: Returns whether an annotation is to be reported and left out.

    Raises:
        DataError: One of the lists is missing.
    """
    rows = get_list(document, "images", path, kind="caption")
    images = _read_images(rows, path, source.report)
    captions = _read_captions(
        document, images, path=path, report=source.report, is_rejected=is_rejected
    )
    folder = choose_image_folder(source, _keep_file_names(images.values()), folders=folders)
    for key, name in images.items():
        texts = tuple(captions.get(key, ()))
        if not texts and not has_file_name(name):
            source.report.add(BAD_ROW, name.removesuffix(NO_FILE_NAME))
        else:
            yield Example(str(folder / name), key, texts, split, rows=len(texts))


def _keep_file_names(images: Iterable[str]) -> list[str]:
    return [image for image in images if has_file_name(image)]


def _select_latest_year(source: Source) -> list[Path]:
    matches = {path: _COCO_NAMES.match(path.name) for path in source.files}
    years = {path: (match and match[2]) or "" for path, match in matches.items()}
    latest = max(years.values())
    for path, year in years.items():
        if year != latest:
            source.report.add(OTHER_YEAR, path.name)
    return [path for path, year in years.items() if year == latest]


def _read_images(rows: list[Any], path: Path, report: Report) -> dict[str, str]:
    """Return the file names by image id; Karpathy's ground truth for COCO test names no files."""
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


def _read_captions(
    document: dict[str, Any],
    images: dict[str, str],
    *,
    path: Path,
    report: Report,
    is_rejected: Callable[[dict[str, Any]], bool] | None,
) -> dict[str, list[str]]:
    """Return the captions by image id."""
    captions: dict[str, list[str]] = {}
    seen: set[str] = set()
    for index, row in enumerate(get_list(document, "annotations", path, kind="caption")):
        where = f"{path.name}:annotations[{index}]"
        match row:
            case {"image_id": image, "caption": str(text)}:
                key, number = str(image), str(row.get("id", where))
            case _:
                report.add(BAD_ROW, where, rows=1)
                continue
        if is_rejected and is_rejected(row):
            report.add(REJECTED_CAPTION, where, rows=1)
        elif key not in images:
            report.add(UNKNOWN_IMAGE, f"{key} ({where})", rows=1)
        elif number in seen:
            report.add(DUPLICATE, f"annotation {number} ({where})", rows=1)
        else:
            seen.add(number)
            captions.setdefault(key, []).append(text)
    return captions
