"""The checkpoints and options of a captioner, from which a copy of it is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captioner.checkpoint import checkpoint_files, fingerprint
from captioner.errors import CaptionerError


@dataclass(frozen=True)
class Origin:
    """The checkpoints of a captioner and the options that it was loaded with."""

    names: tuple[str, ...]
    """Absolute paths, or `bundled`."""
    options: Mapping[str, Any]
    """Keyword arguments of `load`."""
    stamps: tuple[tuple[int, int], ...]
    """Sizes and modification times of the files when they were read."""

    @classmethod
    def create(cls, names: Sequence[str], options: Mapping[str, Any]) -> Origin:
        """Return the origin of a captioner that is being loaded now."""
        names = tuple(name if name == "bundled" else os.path.abspath(name) for name in names)
        return cls(names, dict(options), _stamps(names))

    def fingerprint(self) -> str:
        """Return a digest of the checkpoint files.

        Raises:
            CaptionerError: The files have changed since the captioner was loaded.
        """
        if _stamps(self.names) != self.stamps:
            raise CaptionerError(
                f"{', '.join(self.names)}: the checkpoint has changed since it was loaded, so that"
                " the captioner cannot be copied from it; load it again"
            )
        return fingerprint(self.names)


def _stamps(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    stats = [path.stat() for name in names for path in checkpoint_files(name) if path.exists()]
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)
