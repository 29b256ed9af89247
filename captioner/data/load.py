"""Any known data set on disk -> a memory-mapped table of Examples, and a Report of its faults."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.data.files import canonical_split
from captioner.data.readers import existing_path, format_name, read_examples
from captioner.data.report import MISSING_IMAGE, Report
from captioner.errors import DataError, SplitError

if TYPE_CHECKING:
    import datasets

# Raised whenever the readers yield other rows for the same files, so that old caches are not used.
_CACHE_VERSION = 1


def read_dataset(
    root: str | os.PathLike[str],
    *,
    format: str = "auto",
    splits: str | Iterable[str] | None = ("train",),
    images: str | os.PathLike[str] | None = None,
    check_images: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[datasets.Dataset, Report]:
    """Reads a data set from disk into an Arrow table that is memory-mapped, not held in memory.

    Args:
        root: A folder, or the annotation file itself.
        format: A key of `READERS`, or "auto".
        splits: Which splits ("dev" and "valid" mean val, "restval" train); None takes all. A data
            set without splits is all train.
        images: Folder of the images, where it is not one of the usual ones beside the captions.
        check_images: False for references alone, as in scoring: images may then be absent.
        cache_dir: Where the Arrow file goes; by default where `datasets` keeps its cache.

    Returns:
        A `datasets.Dataset` with the columns image, image_id, references and split (the fields of
        `Example`), in the order of the files, and the Report.

    Raises:
        DataError: `root` or `images` is missing, the format is unknown or not found, a split does
            not exist, or no usable example is left.
    """
    path = existing_path(root)
    name = format_name(path, format)
    folder = None if images is None else existing_path(images)
    if folder is not None and not folder.is_dir():
        raise DataError(f"{images}: is a file, expected the folder of the images (data.images)")
    wanted = _split_names(splits)
    request = {"splits": wanted, "images": folder, "check_images": check_images}

    report, found, digest, usable = Report(), Counter[str](), hashlib.sha256(), 0
    for row in read_examples(path, name, **request, report=report, found=found):
        text = repr((row.image, row.image_id, row.references, row.split))
        digest.update(text.encode("utf-8"))
        usable += 1
    absent = [split for split in wanted or () if split not in found]
    if found and absent:
        there = ", ".join(f"{split} ({count})" for split, count in sorted(found.items()))
        raise SplitError(f"{root}: has no split {', '.join(absent)}; it has {there}")
    if not usable:
        raise DataError(f"{root}: no usable example in the format {name}: {_why(report)}")
    # The rows themselves are the cache key: any change of a file that changes a row, and an image
    # that came or went, gives another table. The files are parsed again only to write a new one.
    stamp = f"{_CACHE_VERSION} {digest.hexdigest()}"
    return _to_arrow(path, name, request=request, stamp=stamp, cache_dir=cache_dir), report


def _split_names(splits: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if splits is None:
        return None
    names = [splits] if isinstance(splits, str) else list(splits)
    if not names:
        raise DataError("no split was asked for; name at least one, such as train")
    return tuple(dict.fromkeys(canonical_split(name) for name in names))


def _why(report: Report) -> str:
    problems = "; ".join(report.summary().splitlines()) or "it holds no rows"
    if MISSING_IMAGE in report.problems:
        problems += "; if the images lie elsewhere, name their folder with data.images=PATH"
    return problems


def _to_arrow(
    path: Path,
    name: str,
    *,
    request: dict[str, Any],
    stamp: str,
    cache_dir: str | os.PathLike[str] | None,
) -> datasets.Dataset:
    import datasets  # takes a second, and most commands do not need it

    features = datasets.Features(
        {
            "image": datasets.Value("string"),
            "image_id": datasets.Value("string"),
            "references": datasets.Sequence(datasets.Value("string")),
            "split": datasets.Value("string"),
        }
    )
    bars_were_off = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return datasets.Dataset.from_generator(
            _arrow_rows,
            features=features,
            cache_dir=None if cache_dir is None else str(cache_dir),
            gen_kwargs={"root": path, "name": name, "request": request, "stamp": stamp},
        )
    except (OSError, datasets.exceptions.DatasetGenerationError) as error:
        raise DataError(
            f"{cache_dir or datasets.config.HF_DATASETS_CACHE}: cannot hold the cache of the data "
            f"({error.__cause__ or error}); point HF_HOME at a folder that can be written"
        ) from error
    finally:
        if not bars_were_off:
            datasets.enable_progress_bars()


def _arrow_rows(
    *, root: Path, name: str, request: dict[str, Any], stamp: str
) -> Iterator[dict[str, Any]]:
    """The rows for `datasets`; `stamp` is only there to be part of its cache key."""
    for row in read_examples(root, name, **request, report=Report(), found=Counter()):
        yield {
            "image": row.image,
            "image_id": row.image_id,
            "references": row.references,
            "split": row.split,
        }
