"""Readers of Flickr8k (official and Kaggle layout) and Flickr30k.

Sources: Hodosh, Young, Hockenmaier, JAIR 2013 (`image#n<TAB>caption` and the split lists); Young
et al., TACL 2014, as repacked with `results.csv` (`image| n| caption`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from captioner.data.example import SPLIT_NAMES, Example, normalize_split
from captioner.data.formats.csv_jsonl_rows import parse_texts
from captioner.data.formats.image_folders import choose_image_folder
from captioner.data.formats.io import Source, list_files, read_csv, read_header, read_lines
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
    """Return the `*.token.txt`: `root`, or a file in `root` or its `Flickr8k_text/`.

    Raises:
        DataError: A folder holds several such files.
    """
    if root.is_file():
        return (root,) if _TOKEN_NAMES.search(root.name) else ()
    for folder in (root, *(root / name for name in _TEXT_FOLDERS)):
        tokens = [path for path in list_files(folder) if _TOKEN_NAMES.search(path.name)]
        # The archive also holds the lemmatized captions.
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
    """Read `image#n<TAB>caption` lines, and the split lists in the same folder."""
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
    return _join_splits({name: tuple(texts.values()) for name, texts in captions.items()}, source)


def find_kaggle(root: Path) -> tuple[Path, ...]:
    """Return the `captions.txt`, in `root` or given, that has one of Kaggle's headers."""
    path = root if root.is_file() else root / "captions.txt"
    is_text = path.suffix.lower() == ".txt"
    return (path,) if is_text and _read_kaggle_header(path) in _KAGGLE_HEADERS else ()


def _read_kaggle_header(path: Path) -> str:
    return read_header(path).replace(" ", "").replace('"', "")


def read_kaggle(source: Source) -> Iterator[Example]:
    """Read Kaggle's `captions.txt`, a CSV whose last column is the caption.

    Split lists in the same folder are used; without them, all rows are train.
    """
    captions: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    first = _read_kaggle_header(source.files[0]).count(",")  # index of the caption's column
    rows = read_csv(source.files[0], source.report, delimiter=",")
    next(rows, None)  # the header
    for where, row in rows:
        if len(row) <= first or not row[0].strip():
            source.report.add(BAD_ROW, where, rows=1)
            continue
        # Captions may hold commas without quotes; no other column does.
        texts = parse_texts(",".join(row[first:]))
        if texts is None:
            source.report.add(BAD_LIST, where, rows=1)
            continue
        captions.setdefault(row[0].strip(), []).extend(map(str, texts))
        counts[row[0].strip()] += 1
    return _join_splits({name: tuple(texts) for name, texts in captions.items()}, source, counts)


def find_flickr30k(root: Path) -> tuple[Path, ...]:
    """Return the `results.csv` with the delimiter `|`, given, in `root` or beside the images."""
    paths = [root]
    if not root.is_file():
        folders = (root, root / "flickr30k_images")
        paths = [folder / name for folder in folders for name in ("results.csv", "captions.txt")]
    for path in paths:
        header = read_header(path)
        if path.suffix.lower() in (".csv", ".txt") and header.count("|") == 2 and "image" in header:
            return (path,)
    return ()


def read_flickr30k(source: Source) -> Iterator[Example]:
    """Read `image| n| caption` lines; split lists are used, without them all rows are train.

    Quotation marks in captions are ordinary characters. In the published file, one row lacks its
    second delimiter (2199200615.jpg); it is reported.
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
    return _join_splits({name: tuple(texts.values()) for name, texts in captions.items()}, source)


def _join_splits(
    captions: Mapping[str, tuple[str, ...]], source: Source, counts: Mapping[str, int] | None = None
) -> Iterator[Example]:
    """Join the captions by image with the split lists; a listed image may have no captions.

    `counts` are the rows of the file by image, by default one per caption.
    """
    counts = {name: len(texts) for name, texts in captions.items()} if counts is None else counts
    folder = choose_image_folder(source, list(captions))
    splits: Mapping[str, Iterable[str]] = _read_split_lists(source.files[0].parent, captions)
    splits = splits or _read_split_lists(source.root, captions)
    listed: set[str] = set()
    for split, names in (splits or {"train": captions}).items():
        for name in names:
            texts = captions.get(name, ())
            # An image that is listed twice is a duplicate; its rows count once.
            rows = 0 if name in listed else counts.get(name, 0)
            listed.add(name)
            yield Example(str(folder / name), name, texts, split, rows=rows)
    for name in captions:
        if name not in listed:
            source.report.add(NO_SPLIT, name, rows=counts[name])


def _read_split_lists(folder: Path, images: Iterable[str]) -> dict[str, list[str]]:
    """Read the split lists of a folder: one image name per line, with or without its suffix."""
    full_name = {Path(name).stem: name for name in images}
    splits: dict[str, list[str]] = {}
    for path in list_files(folder):
        match = _LIST_NAMES.search(path.name)
        if match:
            names = [line.strip() for _, line in read_lines(path)]
            names = [name if Path(name).suffix else full_name.get(name, name) for name in names]
            splits.setdefault(normalize_split(match[1]), []).extend(names)
    order = ("train", "val", "test")
    return {split: splits[split] for split in order if split in splits}
