"""Readers of Clotho and AudioCaps: recordings with captions.

Sources: Drossos, Lipping, Virtanen, Clotho (ICASSP 2020); Kim et al., AudioCaps (NAACL 2019).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from captioner.data.example import Example, normalize_split, split_in_file_name
from captioner.data.formats.image_folders import choose_image_folder
from captioner.data.formats.io import Source, list_files, read_csv, read_header
from captioner.data.report import BAD_ROW, MISSING_AUDIO
from captioner.files import AUDIO_SUFFIXES

_CLOTHO_NAME = re.compile(r"clotho_captions_(\w+)\.csv", re.IGNORECASE)
# Clotho's names of its splits. Its evaluation split is for tests, and not for validation.
_CLOTHO_SPLITS = {"development": "train", "validation": "val", "evaluation": "test"}
_CLOTHO_COLUMNS = [f"caption_{number}" for number in range(1, 6)]
_AUDIOCAPS_HEADER = "audiocap_id,youtube_id,start_time,caption"
_AUDIO_FOLDERS = ("audio", "wav", "wavs", "recordings")


def find_clotho(root: Path) -> tuple[Path, ...]:
    """Return the files `clotho_captions_SPLIT.csv`: `root`, or all in `root`."""
    files = [root] if root.is_file() else list_files(root)
    return tuple(path for path in files if _CLOTHO_NAME.fullmatch(path.name))


def read_clotho(source: Source) -> Iterator[Example]:
    """Read rows of `file_name` and `caption_1` to `caption_5`.

    The recordings are in a folder named after the split, such as `development`, as the archives
    unpack, or in `audio`.
    """
    for file in source.files:
        match = _CLOTHO_NAME.fullmatch(file.name)
        part = match[1].lower() if match else ""
        rows = list(_read_rows(file, source, ["file_name", *_CLOTHO_COLUMNS]))
        names = [name for _, (name, *_) in rows]
        folders = (part, f"clotho_audio_{part}", f"clotho_audio_{part}/{part}", *_AUDIO_FOLDERS)
        folder = choose_image_folder(replace(source, files=(file,)), names, folders=folders)
        split = _CLOTHO_SPLITS.get(part, normalize_split(part))
        for _, (name, *captions) in rows:
            path = str(folder / name)
            yield Example(path, name, tuple(captions), split, rows=1, audio=path)


def find_audiocaps(root: Path) -> tuple[Path, ...]:
    """Return the CSV files with the header of AudioCaps: `root`, or all in `root`."""
    files = [root] if root.is_file() else list_files(root)
    return tuple(
        path
        for path in files
        if path.suffix.lower() == ".csv" and read_header(path) == _AUDIOCAPS_HEADER
    )


def read_audiocaps(source: Source) -> Iterator[Example]:
    """Read rows of `audiocap_id,youtube_id,start_time,caption`; each is one caption of a clip.

    A recording is named by its `youtube_id`, alone or followed by `_` and the start in seconds. A
    file that is named after a split belongs to it. Recordings that are not there are reported.
    """
    for file in source.files:
        split = split_in_file_name(file) or "train"
        paths = _index_recordings(source, file)
        captions: dict[str, list[str]] = {}
        for where, (clip, start, caption) in _read_rows(
            file, source, ["youtube_id", "start_time", "caption"]
        ):
            stems = (f"{clip}_{start}", clip)
            path = next((paths[stem] for stem in stems if stem in paths), None)
            if path is None:
                key = f"{clip}_{start}"
                source.report.add_once(MISSING_AUDIO, f"{key} ({where})", key=key, rows=1)
            else:
                captions.setdefault(str(path), []).append(caption)
        for name, texts in captions.items():
            count = len(texts)
            yield Example(name, Path(name).name, tuple(texts), split, rows=count, audio=name)


def _index_recordings(source: Source, file: Path) -> dict[str, Path]:
    """Return the recordings in the folders of a data set by their names without suffix."""
    bases = [source.images] if source.images else [source.root, file.parent]
    names = ("", file.stem, *_AUDIO_FOLDERS, *(f"{name}/{file.stem}" for name in _AUDIO_FOLDERS))
    folders = [base / name for base in bases for name in names]
    return {
        path.stem: path
        for folder in folders
        for path in list_files(folder)
        if path.suffix.lower() in AUDIO_SUFFIXES
    }


def _read_rows(
    file: Path, source: Source, columns: list[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield `(file:line, cells)` of these columns of a CSV; rows without them are reported."""
    rows = read_csv(file, source.report, delimiter=",")
    _, header = next(rows, ("", []))
    places = {name.strip().lower(): place for place, name in enumerate(header)}
    wanted = [places[name] for name in columns if name in places]
    for where, row in rows:
        if len(row) == len(header) and len(wanted) == len(columns) and row[wanted[0]].strip():
            yield where, tuple(row[place].strip() for place in wanted)
        else:
            source.report.add(BAD_ROW, where, rows=1)
