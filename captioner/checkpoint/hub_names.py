"""Names of checkpoints on the Hugging Face Hub: `hf-hub:USER/NAME[@REVISION]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import CheckpointError
from captioner.sources import printable_line

PREFIX = "hf-hub:"
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"[^\s@\\^~:?*\[\]]+")
"""Characters of a branch, a tag or a commit, which has no ".." either."""


@dataclass(frozen=True)
class HubName:
    """A repository of the Hub, and one of its revisions."""

    repository: str
    """`USER/NAME`."""
    revision: str | None = None
    """A branch, a tag or a commit; None is the default branch."""

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}{f'@{self.revision}' if self.revision else ''}"

    @property
    def commit(self) -> str | None:
        """The revision if it is a full commit, whose content cannot change; otherwise None."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None


def is_hub_name(name: str | Path) -> bool:
    """Return whether a checkpoint is named by the Hub's prefix, correctly or not."""
    return str(name).startswith(PREFIX)


def parse_hub_name(name: str | Path) -> HubName | None:
    """Return the repository and revision of a checkpoint; None if it is not on the Hub.

    Raises:
        CheckpointError: The name has the prefix of the Hub and is not valid.
    """
    if not is_hub_name(name):
        return None
    repository, separator, revision = str(name)[len(PREFIX) :].partition("@")
    check_repository(repository, name)
    valid = REVISION.fullmatch(revision) and ".." not in revision
    if separator and not valid:
        raise CheckpointError(
            f"{printable_line(str(name))}: {revision!r} is no revision; expected a branch,"
            " a tag or a commit after @"
        )
    return HubName(repository, revision or None)


def check_repository(repository: str, name: str | Path) -> None:
    """Raise CheckpointError unless the repository, which `name` contains, is `USER/NAME`."""
    wrong = any(part in repository for part in ("--", "..")) or repository.endswith(".git")
    if wrong or not _REPOSITORY.fullmatch(repository):
        raise CheckpointError(
            f"{printable_line(str(name))}: {repository!r} is no repository of the Hugging Face Hub;"
            " expected USER/NAME of letters, digits, '-', '_' and '.'"
        )


def repository_title(name: str | Path) -> str:
    """Return the short name of a checkpoint: NAME of a repository, or that of the folder."""
    hub = parse_hub_name(name)
    return hub.repository.partition("/")[2] if hub else Path(name).name
