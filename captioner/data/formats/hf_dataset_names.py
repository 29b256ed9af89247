"""Names of data sets on the Hugging Face Hub: `hf-dataset:USER/NAME[@REVISION][:CONFIG]`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from captioner.checkpoint.hub_errors import explain_hub_error, is_unreachable
from captioner.checkpoint.hub_names import REVISION, HubName, check_repository
from captioner.errors import CheckpointError, DataError
from captioner.sources import printable_line
from captioner.text import one_line

PREFIX = "hf-dataset:"
_CONFIG = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class DatasetName:
    """A data set of the Hub, one of its revisions and one of its configurations."""

    repository: str
    """`USER/NAME`."""
    revision: str | None = None
    """A branch, a tag or a commit; None is the default branch."""
    config: str | None = None
    """None is the default configuration."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{PREFIX}{self.repository}{revision}{f':{self.config}' if self.config else ''}"

    def explain(self, error: BaseException) -> str:
        """Return the message for an error while it was downloaded, on one line."""
        from huggingface_hub import constants, errors

        first = _find_hub_error(error)
        if first is None and constants.HF_HUB_OFFLINE and is_unreachable(error):
            first = errors.OfflineModeIsEnabled()  # `datasets` has a type of its own for it
        if first or is_unreachable(error):
            place = HubName(f"datasets/{self.repository}", self.revision)
            return f"{self}: {explain_hub_error(first or error, place)}"
        problem = f"{type(error).__name__}: {one_line(error)}"
        return f"{self}: cannot be loaded: {problem}; check the name and the revision"


def _find_hub_error(error: BaseException | None) -> BaseException | None:
    """Return the error of `huggingface_hub` that an error of `datasets` was raised for, or None."""
    while error is not None and not type(error).__module__.startswith("huggingface_hub"):
        error = error.__cause__ or error.__context__
    return error


def is_dataset_name(root: str | os.PathLike[str]) -> bool:
    """Return whether a data set is named by the prefix of the Hub, correctly or not."""
    return os.fspath(root).startswith(PREFIX)


def parse_dataset_name(root: str | os.PathLike[str]) -> DatasetName:
    """Return the parts of the name of a data set on the Hub.

    Raises:
        DataError: The name is not valid.
    """
    text = os.fspath(root)
    place, has_config, config = text[len(PREFIX) :].partition(":")
    repository, has_revision, revision = place.partition("@")
    try:
        check_repository(repository, text)
    except CheckpointError as error:
        raise DataError(str(error)) from None
    for has_part, pattern, part, kind in (
        (has_revision, REVISION, revision, "branch, tag or commit after @"),
        (has_config, _CONFIG, config, "configuration after :"),
    ):
        if has_part and (not pattern.fullmatch(part) or ".." in part):
            raise DataError(
                f"{printable_line(text)}: {part!r} is no {kind}; expected"
                f" {PREFIX}USER/NAME[@REVISION][:CONFIG]"
            )
    return DatasetName(repository, revision or None, config or None)
