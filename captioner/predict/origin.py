"""How a captioner was loaded, so that a copy of it can be loaded from the same checkpoints."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.build import resolve_checkpoint
from captioner.errors import CaptionerError, CheckpointError

_FILES = ("config.yaml", "model.safetensors", "tokenizer.model")


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
    def of(cls, names: Sequence[str], options: Mapping[str, Any]) -> Origin:
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


def fingerprint(names: Sequence[str]) -> str:
    """Return a digest of the files of checkpoints; raise CheckpointError for a missing one."""
    digest = hashlib.sha256()
    for name in names:
        for path in _files(name):
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def _files(name: str) -> list[Path]:
    return [resolve_checkpoint(name) / file for file in _FILES]


def _stamps(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    stats = [path.stat() for name in names for path in _files(name) if path.exists()]
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)
