"""Compare the rows of an earlier run with the image files as they are now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from captioner.cli.batch.dedupe import READERS, read_digests
from captioner.cli.batch.row_file import RowFile
from captioner.cli.output import list_paths, show_progress

Name = Callable[[str], str]
"""From the path of an image to its name in the row."""


def check_rows(output: RowFile, paths: Sequence[str], name: Name) -> Iterator[str]:
    """Mark the rows whose file has changed, to be replaced; yield messages for the user.

    The whole file is read: a copy may keep the size and the time of the file that it replaces.
    """
    kept = [path for path in paths if output.has(name(path))]
    changed, unreadable = [], []
    files = read_digests(kept, readers=READERS)
    for path, _, digest in show_progress(files, len(kept), "row"):
        known = output.digest(name(path))
        if digest is None and known is not None:
            unreadable.append(path)
        # A row without digest belongs to a file that could not be read then, but can now.
        elif digest != known and (known or output.has_failed(name(path))):
            changed.append(path)
    output.mark_outdated({name(path) for path in changed})
    if changed:
        are = "images have" if len(changed) > 1 else "image has"
        yield (
            f"{output.path}: {len(changed)} {are} changed since the earlier run, and the rows are"
            f" made again ({list_paths(changed)})"
        )
    gone = [*unreadable, *_missing(output, {name(path) for path in paths})]
    if gone:
        are = "rows belong to files" if len(gone) > 1 else "row belongs to a file"
        yield f"{output.path}: {len(gone)} {are} that cannot be read now; kept ({list_paths(gone)})"


def _missing(output: RowFile, inputs: set[str]) -> list[str]:
    """Return the images that have a row, are not inputs of this run and no longer exist."""
    others = (image for image in output if image not in inputs)
    # A backslash may be the escape of a byte or of a line break in the name.
    return [x for x in others if "\\" not in x and not os.path.exists(os.path.join(output.base, x))]
