"""Run all checks of a data set."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.data.example_rows import read_rows
from captioner.data.formats.io import walk_files
from captioner.data.formats.registry import READERS
from captioner.errors import DataError
from captioner.extras import EXTRAS, explain_missing
from captioner.files import IMAGE_SUFFIXES
from captioner.quality.caption_faults import check_captions
from captioner.quality.copies import find_copies
from captioner.quality.entries import DataSet, read_entries
from captioner.quality.findings import Finding, sort_findings
from captioner.quality.image_facts import count_processes, measure_images
from captioner.quality.image_faults import check_copies, check_images, list_images
from captioner.quality.question_faults import check_questions
from captioner.quality.row_places import add_places
from captioner.sources import is_url, normalize, parse_member

if TYPE_CHECKING:
    from captioner.predict import Captioner


@dataclass(frozen=True)
class Audit:
    """The result of all checks."""

    data: DataSet
    findings: tuple[Finding, ...]
    """In the order of their kinds."""
    images: int
    """Number of different images."""
    held_out: int
    """Number of images of the held-out set."""
    inputs: frozenset[str] = frozenset()
    """Real paths of the files that were read: annotations, shards, images and recordings."""


def check_dataset(
    root: str | os.PathLike[str],
    *,
    format: str = "auto",
    images: str | os.PathLike[str] | None = None,
    held_out: str | os.PathLike[str] | None = None,
    captioner: Captioner | None = None,
    processes: int | None = None,
    progress: bool = False,
) -> Audit:
    """Check a data set.

    Args:
        root: A folder, the annotation file itself, or another location that training reads.
        format: A key of `captioner.data.READERS`, or "auto".
        images: Folder of the images if it is none of the usual ones.
        held_out: A data set, or a folder of images, that must have no copies in `root`.
        captioner: The model for the checks that need one; without it, they are left out.
        processes: Processes that decode images; None for the number of usable cores.
        progress: Show progress bars on stderr.

    Returns:
        The findings; they do not depend on the number of processes.

    Raises:
        DataError: A path does not exist or holds no data.
        DependencyError: An optional library is not installed.
    """
    _require_libraries()
    data = read_entries(root, format=format, images=images)
    places = list_images(data.examples)
    others = [] if held_out is None else list_held_out(held_out)
    paths = list(dict.fromkeys((*places, *others)))
    facts = measure_images(paths, processes=count_processes(processes), progress=progress)
    groups = find_copies(facts)
    findings = [
        *data.findings,
        *check_images(places, facts),
        *check_copies(places, others, groups),
        *check_captions(data.examples, groups.find),
        *check_questions(data.examples),
    ]
    if captioner is not None:
        from captioner.quality.model_faults import check_with_model

        readable = [path for path in places if not facts[path].error and not facts[path].blank]
        findings += check_with_model(captioner, data.examples, readable, progress=progress)
    ordered = sort_findings(add_places(findings, data.files))
    given = [] if held_out is None else [os.fspath(held_out)]
    inputs = _list_inputs(data, [*others, *given])
    return Audit(data, tuple(ordered), len(places), len(others), inputs)


def _list_inputs(data: DataSet, others: Iterable[str]) -> frozenset[str]:
    """Return the real paths of all files of a data set, and of other files."""
    paths = {*map(os.fspath, data.files), os.fspath(data.root), *others}
    paths |= {path for example in data.examples for path in (example.image, example.audio)}
    files = {member.container if (member := parse_member(path)) else path for path in paths}
    return frozenset(os.path.realpath(path) for path in files if path and not is_url(path))


def _require_libraries() -> None:
    """Raise DependencyError at once if a library is not installed, and not after minutes."""
    with explain_missing("captioner check"):
        for name in EXTRAS["check"]:
            importlib.import_module(name)


def list_held_out(path: str | os.PathLike[str]) -> Sequence[str]:
    """Return the images of a data set, or of a folder without annotations; raise DataError."""
    try:
        rows, _ = read_rows(path, splits=None, require_answers=False)
        images = [row.image for row in rows if row.image != row.audio]
    except DataError:
        folder = Path(os.path.abspath(path))
        images = [str(p) for p in walk_files(folder) if p.suffix.lower() in IMAGE_SUFFIXES]
        if not images and folder.exists() and not _is_dataset(folder):
            raise DataError(
                f"{path}: not a data set or folder of images; name a folder, shards or an"
                " annotation file (--held-out)"
            ) from None
        if not images:
            raise
    return list(dict.fromkeys(map(normalize, images)))


def _is_dataset(path: Path) -> bool:
    try:
        return any(reader.find(path) for reader in READERS.values())
    except DataError:  # several data sets of one format
        return True
