"""Readers of Flickr8k (official and Kaggle layout) and Flickr30k.

Sources of the layouts: Hodosh, Young, Hockenmaier, JAIR 2013 (`image#n<TAB>caption` and the split
lists); Young et al., TACL 2014, as repacked with `results.csv` (`image| n| caption`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from captioner.data.example import Example
from captioner.data.formats.custom_rows import parse_texts
from captioner.data.formats.io import (
    SPLIT_NAMES,
    Source,
    canonical_split,
    find_images,
    list_files,
    read_csv,
    read_head,
    read_lines,
)
from captioner.data.report import BAD_LIST, BAD_ROW, DUPLICATE, NO_SPLIT
from captioner.errors import DataError

_TOKEN_NAMES = re.compile(r"(\.token\.txt|\.token)$", re.IGNORECASE)
_LEMMAS = re.compile(r"(?:^|[._-])lemma", re.IGNORECASE)
# Flickr_8k.trainImages.txt, flickr30k_val.txt, test.txt, train_images.txt
_LIST_NAMES = re.compile(
    rf"(?:^|[._-])({'|'.join(sorted(SPLIT_NAMES))})(?:[._-]?images?)?\.txt$", re.IGNORECASE
)
_KAGGLE_HEADERS = ("image,caption", "image_name,comment_number,comment")
_TEXT_FOLDERS = ("Flickr8k_text", "flickr8k_text", "Flickr30k_text", "text", "captions")


def find_flickr8k(root: Path) -> tuple[Path, ...]:
    """`*.token.txt` given, in the folder or in its `Flickr8k_text/`."""
    if root.is_file():
        return (root,) if _TOKEN_NAMES.search(root.name) else ()
    for folder in (root, *(root / name for name in _TEXT_FOLDERS)):
        tokens = [path for path in list_files(folder) if _TOKEN_NAMES.search(path.name)]
        # The archive has the captions a second time, each word in its base form.
        tokens = [path for path in tokens if not _LEMMAS.search(path.name)] or tokens
        if len(tokens) > 1:
            names = ", ".join(path.name for path in tokens)
            raise DataError(
                f"{folder}: holds several caption files ({names}); give the path of one"
            )
        if tokens:
            return tuple(tokens)
    return ()


def read_flickr8k(source: Source) -> Iterator[Example]:
    """Reads `image#n<TAB>caption` lines and the split lists beside them."""
    captions: dict[str, dict[str, str]] = {}
    for where, line in read_lines(source.files[0]):
        key, tab, caption = line.partition("\t")
        image, mark, number = key.strip().rpartition("#")
        if not (tab and mark and image and number.isdecimal()):
            source.report.add(BAD_ROW, where, rows=1)
        elif number in captions.setdefault(image, {}):
            source.report.add(DUPLICATE, f"{image}#{number} ({where})", rows=1)
        else:
            captions[image][number] = caption
    return _examples({name: tuple(texts.values()) for name, texts in captions.items()}, source)


def find_kaggle(root: Path) -> tuple[Path, ...]:
    """`captions.txt` with one of Kaggle's headers, given or in the folder.

    They are `image,caption` and `image_name,comment_number,comment`.
    """
    path = root if root.is_file() else root / "captions.txt"
    is_text = path.suffix.lower() == ".txt"
    return (path,) if is_text and _kaggle_header(path) in _KAGGLE_HEADERS else ()


def _kaggle_header(path: Path) -> str:
    return read_head(path).split("\n", 1)[0].strip().lower().replace(" ", "").replace('"', "")


def read_kaggle(source: Source) -> Iterator[Example]:
    """Reads Kaggle's `captions.txt`; split lists beside it are used, else everything is train."""
    captions: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    before = _kaggle_header(source.files[0]).count(",")
    """Fields before the caption."""
    rows = read_csv(source.files[0], source.report, delimiter=",")
    next(rows, None)  # the header
    for where, row in rows:
        if len(row) <= before or not row[0].strip():
            source.report.add(BAD_ROW, where, rows=1)
        else:
            # Only the caption can hold a comma that was not quoted, so joining restores it.
            found = parse_texts(",".join(row[before:]))
            if found is None:
                source.report.add(BAD_LIST, where, rows=1)
                continue
            captions.setdefault(row[0].strip(), []).extend(map(str, found))
            counts[row[0].strip()] += 1
    return _examples({name: tuple(texts) for name, texts in captions.items()}, source, counts)


def find_flickr30k(root: Path) -> tuple[Path, ...]:
    """`results.csv` with `|` between its fields, given, in the folder or beside the images."""
    paths = [root]
    if not root.is_file():
        folders = (root, root / "flickr30k_images")
        paths = [folder / name for folder in folders for name in ("results.csv", "captions.txt")]
    for path in paths:
        header = read_head(path).split("\n", 1)[0].lower()
        if path.suffix.lower() in (".csv", ".txt") and header.count("|") == 2 and "image" in header:
            return (path,)
    return ()


def read_flickr30k(source: Source) -> Iterator[Example]:
    """Reads `image| n| caption` lines; split lists beside them are used, else all is train.

    The published file holds one row that lacks its second bar (2199200615.jpg); it is reported.
    The fields are not CSV in the usual sense: quotation marks in captions are plain characters.
    """
    captions: dict[str, dict[str, str]] = {}
    lines = read_lines(source.files[0])
    next(lines, None)  # the header
    for where, line in lines:
        fields = [field.strip() for field in line.split("|", 2)]
        if len(fields) < 3 or not fields[0] or not fields[1].isdecimal():
            source.report.add(BAD_ROW, where, rows=1)
        elif fields[1] in captions.setdefault(fields[0], {}):
            source.report.add(DUPLICATE, f"{fields[0]}#{fields[1]} ({where})", rows=1)
        else:
            captions[fields[0]][fields[1]] = fields[2]
    return _examples({name: tuple(texts.values()) for name, texts in captions.items()}, source)


def _examples(
    captions: Mapping[str, tuple[str, ...]],
    source: Source,
    counts: Mapping[str, int] | None = None,
) -> Iterator[Example]:
    """Join captions with the split lists; an image of a list may be without captions.

    `counts` are the rows that the captions of each image come from; by default, one from each.
    """
    counts = {name: len(texts) for name, texts in captions.items()} if counts is None else counts
    folder = find_images(source, list(captions))
    splits = _split_lists(source.files[0].parent, known=captions)
    splits = splits or _split_lists(source.root, known=captions)
    if not splits:
        splits = {"train": captions}
    listed: set[str] = set()
    for split, names in splits.items():
        for name in names:
            texts = captions.get(name, ())
            # An image that is listed twice is a duplicate; its captions are rows only once.
            rows = 0 if name in listed else counts.get(name, 0)
            listed.add(name)
            yield Example(str(folder / name), name, texts, split, rows=rows)
    for name in captions:
        if name not in listed:
            source.report.add(NO_SPLIT, name, rows=counts[name])


def _split_lists(folder: Path, *, known: Iterable[str]) -> dict[str, list[str]]:
    """Reads the split lists of a folder: one image name, with or without ending, per line."""
    full_name = {Path(name).stem: name for name in known}
    splits: dict[str, list[str]] = {}
    for path in list_files(folder):
        match = _LIST_NAMES.search(path.name)
        if match:
            names = [line.strip() for _, line in read_lines(path)]
            names = [name if Path(name).suffix else full_name.get(name, name) for name in names]
            splits.setdefault(canonical_split(match[1]), []).extend(names)
    order = ("train", "val", "test")
    return {split: splits[split] for split in order if split in splits}
