"""The table of data formats, and the detection of the format of a folder or file.

To add a reader (an example is in CONTRIBUTING.md):
1. Write `find_NAME` and `read_NAME`, as described in `Reader`, and add them to `READERS`. Empty
   texts, missing images and duplicates are checked for all formats.
2. Add a small data set to `MAKERS` in tests/unit/data/caption_sets.py (or question_sets.py), and a
   row to docs/data-formats.md.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.data.example import Example
from captioner.data.formats import (
    audio_captions,
    coco,
    coco_variants,
    csv_jsonl,
    daquar_easy_vqa,
    flickr,
    hf_dataset_files,
    llava_conversations,
    shard_readers,
    sidecar_json,
    sidecar_texts,
    textcaps,
    vizwiz_vqa,
    vqa,
)
from captioner.data.formats.hf_dataset_names import is_dataset_name, parse_dataset_name
from captioner.data.formats.io import Source
from captioner.data.shards.shard_files import PARQUET, check_suffixes
from captioner.errors import DataError


@dataclass(frozen=True)
class Reader:
    """One format of files on disk."""

    find: Callable[[Path], tuple[Path, ...]]
    """Returns the files to read below a folder, or of a given file; () if there are none."""
    read: Callable[[Source], Iterator[Example]]
    """Yields one example per image or question; broken rows go to `source.report`."""
    layout: str
    """The files that it searches for, for error messages."""


READERS: dict[str, Reader] = {
    "flickr8k": Reader(flickr.find_flickr8k, flickr.read_flickr8k, "*.token.txt"),
    "flickr8k_csv": Reader(
        flickr.find_kaggle, flickr.read_kaggle, "captions.txt with the header image,caption"
    ),
    "karpathy": Reader(coco.find_karpathy, coco.read_karpathy, "dataset_*.json"),
    "nocaps": Reader(
        coco_variants.find_nocaps, coco_variants.read_nocaps, "nocaps_val_4500_captions.json"
    ),
    "vizwiz_captions": Reader(
        coco_variants.find_vizwiz_captions,
        coco_variants.read_vizwiz_captions,
        "annotations/{train,val,test}.json with text_detected",
    ),
    "vizwiz_vqa": Reader(
        vizwiz_vqa.find_vizwiz_vqa,
        vizwiz_vqa.read_vizwiz_vqa,
        "Annotations/{train,val,test}.json with rows {image, question, answers, answerable}",
    ),
    "textcaps": Reader(
        textcaps.find_textcaps, textcaps.read_textcaps, "TextCaps_0.1_{train,val,test}.json"
    ),
    "llava": Reader(
        llava_conversations.find_llava,
        llava_conversations.read_llava,
        "*.json with rows {id, image, conversations: [{from, value}]}",
    ),
    "coco": Reader(coco.find_coco, coco.read_coco, "annotations/captions_{train,val}*.json"),
    "flickr30k": Reader(flickr.find_flickr30k, flickr.read_flickr30k, "results.csv separated by |"),
    "vqav2": Reader(
        vqa.find_vqav2, vqa.read_vqav2, "v2_OpenEnded_mscoco_*_questions.json and annotations"
    ),
    "daquar": Reader(
        daquar_easy_vqa.find_daquar,
        daquar_easy_vqa.read_daquar,
        "data_train.csv with the columns question, answer, image_id",
    ),
    "easy_vqa": Reader(
        daquar_easy_vqa.find_easy_vqa,
        daquar_easy_vqa.read_easy_vqa,
        "train/questions.json with rows [question, answer, image number]",
    ),
    "clotho": Reader(
        audio_captions.find_clotho, audio_captions.read_clotho, "clotho_captions_*.csv"
    ),
    "audiocaps": Reader(
        audio_captions.find_audiocaps,
        audio_captions.read_audiocaps,
        "*.csv with the header audiocap_id,youtube_id,start_time,caption",
    ),
    "folder": Reader(
        csv_jsonl.find_folder, csv_jsonl.read_folder, "metadata.jsonl (or in train/, val/)"
    ),
    "jsonl": Reader(
        csv_jsonl.find_jsonl, csv_jsonl.read_jsonl, "one *.jsonl, or train.jsonl and val.jsonl"
    ),
    "csv": Reader(
        csv_jsonl.find_csv,
        csv_jsonl.read_custom_csv,
        "one *.csv with columns image and caption (or image, question, answer), or train.csv ...",
    ),
    "texts": Reader(
        sidecar_texts.find_sidecar_texts,
        sidecar_texts.read_sidecar_texts,
        "photo.txt beside photo.jpg",
    ),
    "sidecar_json": Reader(
        sidecar_json.find_sidecar_json,
        sidecar_json.read_sidecar_json,
        "photo.json beside photo.jpg",
    ),
    "webdataset": Reader(
        shard_readers.find_webdataset,
        shard_readers.read_webdataset,
        "*.tar with photo.jpg and photo.txt or photo.json",
    ),
    "parquet": Reader(
        shard_readers.find_parquet,
        shard_readers.read_parquet_files,
        "*.parquet with the columns image and caption (or image, question, answer)",
    ),
    "hf_dataset": Reader(
        hf_dataset_files.find_hf_dataset,
        hf_dataset_files.read_hf_dataset,
        "a folder of `datasets` (save_to_disk or Parquet), or hf-dataset:USER/NAME",
    ),
}
"""Readers by name, in the order of detection: those with more specific file names come first."""

_SHARED = ("texts", "sidecar_json", "hf_dataset")
"""Formats whose files are beside each image, or are those of another format, too."""


def detect_format(root: str | os.PathLike[str]) -> str:
    """Return the name of the format of a folder or file.

    Raises:
        DataError: `root` does not exist or is in none of the formats.
    """
    path = resolve_path(root)
    for name, reader in READERS.items():
        if reader.find(path):
            return name
    wanted = "; ".join(f"{reader.layout} ({name})" for name, reader in READERS.items())
    advice = "put one of these there or name the file itself"
    raise DataError(f"{path}: no known data set here; looked for {wanted}; {advice}")


def resolve_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path; raise DataError if it does not exist.

    The name of a data set on the Hub is returned as it is.
    """
    if not os.fspath(path):
        raise DataError("no path to the data was given; set data.root=PATH")
    if is_dataset_name(path):
        return Path(str(parse_dataset_name(path)))
    absolute = Path(os.path.abspath(os.path.expanduser(path)))
    if not absolute.exists():
        raise DataError(f"{path}: no such file or folder; check the path (data.root, data.images)")
    return absolute


def resolve_format(path: Path, name: str) -> str:
    """Return the format to read a folder or file with: its name, or for "auto" the detected one.

    Raises:
        DataError: The name is unknown, or `path` is not in that format.
    """
    if name == "auto":
        return detect_format(path)
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(f"data format {name!r} is unknown; {hint}known: auto, {', '.join(READERS)}")
    if not READERS[name].find(path):
        raise DataError(
            f"{path}: not in the format {name!r}: found no {READERS[name].layout}; "
            f"check the path or use format 'auto'"
        )
    return name


def resolve_shard_format(address: str, shards: Sequence[str], name: str) -> str:
    """Return the format of shards that a URL or a pattern names; raise DataError."""
    format = "parquet" if check_suffixes(address, shards) == PARQUET else "webdataset"
    if name not in ("auto", format):
        raise DataError(
            f"{address}: is in the format {format!r}, not {name!r}; use format 'auto', or give the"
            " path of a local file or folder"
        )
    return format


def find_other_files(root: Path, files: tuple[Path, ...]) -> dict[Path, str]:
    """Return annotation files in a folder other than `files`, each with its format, sorted.

    The user may have meant one of them.
    """
    others = {
        path: name
        for name, accepts in (("jsonl", csv_jsonl.is_jsonl), ("csv", csv_jsonl.is_custom_csv))
        for path in csv_jsonl.list_custom_files(root, accepts)
    }
    for name, reader in READERS.items():
        if name in _SHARED:
            continue
        try:
            others |= dict.fromkeys(reader.find(root), name)
        except DataError:  # several data sets of one format
            continue
    return {path: others[path] for path in sorted(others) if path not in files}
