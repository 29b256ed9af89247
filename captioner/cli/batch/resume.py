"""Rows of an earlier run, compared with the files that are there now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from captioner.cli.batch.dedupe import READERS, digested
from captioner.cli.batch.row_file import RowFile
from captioner.cli.output import listed, progress

Name = Callable[[str], str]
"""From the path of an image to the path that its row has."""


def check_rows(output: RowFile, paths: Sequence[str], name: Name) -> Iterator[str]:
    """Mark the rows whose file has changed, to be replaced; yield messages for the user.

    A file is read to its end, since a copy may keep the size and the time of what it replaces.
    """
    kept = [path for path in paths if output.has(name(path))]
    changed, unreadable = [], []
    files = digested(kept, readers=READERS)
    for path, _, content in progress(files, len(kept), "row"):
        known = output.digest(name(path))
        if content is None and known is not None:
            unreadable.append(path)
        # A row without digest is that of a file which could not be read, and now can.
        elif content != known and (known or output.has_failed(name(path))):
            changed.append(path)
    output.mark_outdated({name(path) for path in changed})
    if changed:
        are = "images have" if len(changed) > 1 else "image has"
        yield (
            f"{output.path}: {len(changed)} {are} changed since the earlier run, and the rows are"
            f" made again ({listed(changed)})"
        )
    gone = [*unreadable, *_missing(output, {name(path) for path in paths})]
    if gone:
        are = "rows are of files" if len(gone) > 1 else "row is of a file"
        yield f"{output.path}: {len(gone)} {are} that cannot be read now; kept ({listed(gone)})"


def _missing(output: RowFile, inputs: set[str]) -> list[str]:
    """Return the images that have a row, are no inputs of this run and are not there any more."""
    others = (image for image in output if image not in inputs)
    # A backslash may stand for a byte or a line break that the name in the row cannot have.
    return [x for x in others if "\\" not in x and not os.path.exists(os.path.join(output.base, x))]
