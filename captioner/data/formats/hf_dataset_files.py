"""Reader of data sets of Hugging Face `datasets`: folders, and repositories of the Hub by name.

Code of a repository is never run: `datasets` 4 and later have no support for it, and no argument
that would turn it on is passed.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.data.example import SPLIT_NAMES, Example, normalize_split
from captioner.data.formats.cells import extract_text
from captioner.data.formats.csv_jsonl import split_in_folders
from captioner.data.formats.csv_jsonl_rows import (
    ANSWER_KEYS,
    AUDIO_KEYS,
    CAPTION_KEYS,
    ID_KEYS,
    IMAGE_KEYS,
    LABEL_KEYS,
    TAG_KEYS,
    WEIGHT_KEY,
    has_value,
    is_numbered,
)
from captioner.data.formats.hf_dataset_names import is_dataset_name, parse_dataset_name
from captioner.data.formats.io import Source, list_files, list_folders
from captioner.data.formats.row_joiner import Fields, RowDefaults, RowJoiner
from captioner.errors import DataError, ImageError
from captioner.extras import explain_missing
from captioner.files import replace_file
from captioner.images.file_types import identify_format
from captioner.text import one_line

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

CACHE = "captioner_images"
"""Folder in the cache of `datasets` with the images that data sets hold as bytes."""

_SENTENCES = "sentences"
"""Another name of a column of captions, as in data sets made from Karpathy's files."""
_TEXT_COLUMNS = (*CAPTION_KEYS, _SENTENCES, "question", *TAG_KEYS, *LABEL_KEYS)
_COLUMNS = {*_TEXT_COLUMNS, *ANSWER_KEYS, *ID_KEYS, *AUDIO_KEYS, WEIGHT_KEY, "split", "fold"}
_COLUMNS |= {"question_id", "question_type", "type", "answer_type"}
_TABLES = (".parquet", ".arrow")
"""Suffixes of tables; a folder with both kinds is read by the first."""


def find_hf_dataset(root: Path) -> tuple[Path, ...]:
    """Return the files that mark a folder of `save_to_disk`, tables in a folder, or a Hub name.

    Tables (Parquet or Arrow) are searched in the folder, in `data/` and in other subfolders.
    """
    if is_dataset_name(root):
        return (root,)
    if not root.is_dir():
        return ()
    if (root / "dataset_dict.json").is_file():
        return (root / "dataset_dict.json",)
    if (root / "state.json").is_file() and (root / "dataset_info.json").is_file():
        return (root / "state.json",)
    folders = [root, *list_folders(root)]
    tables = ([p for folder in folders for p in list_files(folder, kind)] for kind in _TABLES)
    return tuple(next(filter(None, tables), ()))


def read_hf_dataset(source: Source) -> Iterator[Example]:
    """Read the rows of all splits; the columns are those of `read_jsonl`, and `sentences`.

    The image is the first column of the type `Image`, or else a column of paths. Images that the
    table holds as bytes are written to a cache once, named by their SHA-256, so that images of
    equal bytes are one image.

    Raises:
        DataError: The data set cannot be loaded, or has no column of images or texts.
    """
    rows, name = RowJoiner(source), _name_of(source)
    ids: dict[str, str] = {}  # of images that have none: the first row of each
    base = source.images or (Path.cwd() if is_dataset_name(source.files[0]) else source.root)
    for split, table in _load(source, name).items():
        defaults = RowDefaults(base, normalize_split(split))
        try:
            for index, fields in enumerate(_read_rows(table, name)):
                image = fields[IMAGE_KEYS[0]]
                if image and not any(has_value(fields.get(key)) for key in ID_KEYS):
                    fields["image_id"] = ids.setdefault(str(image), f"{split}/{index}")
                rows.add(fields, f"{split}[{index}]", defaults)
        except (OSError, ValueError) as error:  # ValueError: Arrow's error for a damaged file
            raise DataError(f"{name}: cannot be read: {one_line(error)}") from error
    yield from rows.examples()


def _name_of(source: Source) -> str:
    file = source.files[0]
    return os.fspath(file if is_dataset_name(file) else source.root)


def _load(source: Source, name: str) -> Mapping[str, Dataset]:
    """Return the tables of a data set by split; raise DataError."""
    with explain_missing("reading a data set of Hugging Face"):
        import datasets
    try:
        if is_dataset_name(name):
            hub = parse_dataset_name(name)
            data = datasets.load_dataset(hub.repository, hub.config, revision=hub.revision)
        elif source.files[0].suffix == ".json":
            data = datasets.load_from_disk(name)
        else:
            # Not the folder: its README.md might name files elsewhere on the network.
            kind = source.files[0].suffix[1:].lower()
            data = datasets.load_dataset(kind, data_files=_group_by_split(source))
    except Exception as error:  # of many types, those of the libraries for files and requests
        if is_dataset_name(name):
            raise DataError(parse_dataset_name(name).explain(error)) from None
        problem = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(f"{name}: `datasets` cannot load it: {problem}") from None
    return _by_split(data)


def _group_by_split(source: Source) -> dict[str, list[str]]:
    """Return the patterns of the tables by split, which a word of the file or folder names."""
    groups: dict[str, list[str]] = {}
    for file in source.files:
        words = (word for word in re.split("[^a-z]+", file.stem.lower()) if word in SPLIT_NAMES)
        split = next(words, None) or split_in_folders(file, source.root) or "train"
        groups.setdefault(normalize_split(split), []).append(glob.escape(str(file)))
    return groups


def _by_split(data: Dataset | DatasetDict) -> Mapping[str, Dataset]:
    from datasets import Dataset

    if isinstance(data, Dataset):
        return {str(data.split or "train"): data}
    return {str(split): table for split, table in data.items()}


def _read_rows(table: Dataset, name: str) -> Iterator[Fields]:
    """Yield the known columns of each row, with the path of its image under "image"."""
    import datasets

    image, columns = _choose_columns(table, name)
    if isinstance(table.features[image], datasets.Image):
        table = table.cast_column(image, datasets.Image(decode=False))
    features = {column: table.features[column] for column in columns}
    for row in table.select_columns([image, *columns]):
        fields = {
            column.lower(): _simplify(row[column], feature) for column, feature in features.items()
        }
        if _SENTENCES in fields:
            fields.setdefault(CAPTION_KEYS[0], fields.pop(_SENTENCES))
        yield _assign_id(fields) | {IMAGE_KEYS[0]: _locate_image(row[image])}


def _assign_id(fields: Fields) -> Fields:
    """Return a row whose `id`, which numbers the rows of a table, is not that of its image.

    It is the id of a question; in a row of captions, it is that of the image if there is no other.
    """
    if has_value(fields.get("question")) and "id" in fields:
        row_id = fields.pop("id")
        fields.setdefault("question_id", row_id)
    elif has_value(fields.get("image_id")):
        fields.pop("id", None)
    return fields


def _choose_columns(table: Dataset, name: str) -> tuple[str, list[str]]:
    """Return the column of images and the other known columns; raise DataError without them."""
    import datasets

    features = table.features
    media = (datasets.Image, datasets.Audio, datasets.Video)
    images = [column for column, f in features.items() if isinstance(f, datasets.Image)]
    plain = {column.lower(): column for column, f in features.items() if not isinstance(f, media)}
    images += [plain[key] for key in (*IMAGE_KEYS, *AUDIO_KEYS) if key in plain]
    known = [
        column
        for key, column in plain.items()
        if column not in images[:1] and (key in _COLUMNS or is_numbered(key, CAPTION_KEYS))
    ]
    texts = [c for c in known if c.lower() in _TEXT_COLUMNS or is_numbered(c.lower(), CAPTION_KEYS)]
    present = f"it has the columns {', '.join(features) or '(none)'}"
    if not images:
        raise DataError(
            f"{name}: has no column of images; {present}; expected one of type Image,"
            " or image with paths"
        )
    if not texts:
        raise DataError(
            f"{name}: has no column of texts; {present}; expected caption, captions,"
            " text, sentences, question or tags"
        )
    return images[0], known


def _simplify(value: Any, feature: Any) -> Any:
    """Return names instead of class numbers, and texts instead of objects that hold a text."""
    names = getattr(getattr(feature, "feature", feature), "names", None)
    if names and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    if isinstance(value, list):
        inner = getattr(feature, "feature", None)
        return [_simplify(item, inner) for item in value]
    return extract_text(value)


def _locate_image(cell: Any) -> Any:
    """Return the path of an image: as in the table, or that of its bytes in the cache."""
    if not isinstance(cell, Mapping):
        return cell
    data = cell.get("bytes")
    return _store(data) if data else cell.get("path")


def _store(data: bytes) -> str:
    """Return the path of an image in the cache, which is written if it is not there.

    Raises:
        DataError: The cache cannot be written.
    """
    import datasets
    from filelock import FileLock

    try:
        suffix = f".{identify_format(data).lower()}"
    except ImageError:
        suffix = ""  # reported in training as an image that cannot be decoded
    digest = hashlib.sha256(data).hexdigest()
    cache = Path(datasets.config.HF_DATASETS_CACHE).absolute() / CACHE
    path = cache / digest[:2] / f"{digest}{suffix}"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / ".lock"):  # several ranks may read the same data set
                if not path.exists():
                    replace_file(path, data)
        except OSError as error:
            problem = f"cannot hold the images of the data set ({error.strerror or error})"
            advice = "point HF_HOME at a folder with space that can be written"
            raise DataError(f"{cache}: {problem}; {advice}") from error
    return str(path)
