"""The origin of captions that a model wrote: read from FILE.meta.json beside the rows.

`captioner caption --output FILE` writes it, with the name and the revision of each checkpoint under
`origins` and the options of the captions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SUFFIX = ".meta.json"
ORIGINS, BASE = "origins", "base"
"""Keys of the models, and of the folder of the images, which does not matter here."""


def read_provenance(roots: Iterable[str | os.PathLike[str]]) -> list[dict[str, Any]]:
    """Return the origins of the files of data sets that a model wrote.

    Args:
        roots: Annotation files, or folders with some.

    Returns:
        For each such file: its name, its `origins`, and the `options` of its captions. Files
        without a readable record are left out, because people may have written them.
    """
    return [
        record for root in roots for path in _list_records(Path(root)) if (record := _read(path))
    ]


def _list_records(root: Path) -> list[Path]:
    """Return the existing records of a file, or of the files in a folder."""
    if root.is_dir():
        records = sorted(root.glob(f"*{SUFFIX}"))
        return [path for path in records if path.with_name(path.name[: -len(SUFFIX)]).is_file()]
    return [path for path in [root.with_name(root.name + SUFFIX)] if path.is_file()]


def _read(path: Path) -> dict[str, Any] | None:
    """Return the origin of one file; None if its record is no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    options = {key: value for key, value in content.items() if key not in (ORIGINS, BASE)}
    return {
        "file": path.name[: -len(SUFFIX)],
        ORIGINS: content.get(ORIGINS) or [],
        "options": options,
    }
