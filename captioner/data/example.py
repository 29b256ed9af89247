"""The record that every reader yields: an input with its captions or tags, or a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

RowKind = Literal["captions", "questions", "tags"]
"""What a row has about its image."""

NO_FILE_NAME = " (no file_name)"
"""Suffix of `Example.image` where the data set gives an id but no file name."""

# "restval": the part of COCO val that Karpathy's split uses for training.
_ALIASES = {
    "train": ("train", "training", "restval"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
_SPLITS = {alias: split for split, aliases in _ALIASES.items() for alias in aliases}
SPLIT_NAMES = frozenset(_SPLITS)
"""All names of the splits train, val and test, in lower case."""


@dataclass(frozen=True)
class Example:
    """One image with its reference texts (captions, or the answers to one question) or its tags.

    Each question about an image is an example of its own. A recording may take the place of the
    image, or be beside it.
    """

    image: str
    """Absolute path of the image, or of the recording if there is no image."""
    image_id: str
    """Key that captions to be scored are matched by: the file name for Flickr, the numeric id for
    COCO, the row's id or else its file name for custom data."""
    references: tuple[str, ...]
    split: str
    """"train", "val", "test" or another name that custom data uses."""
    question: str = ""
    """Empty where the references are captions."""
    question_id: str = ""
    """Key that answers to be scored are matched by."""
    question_type: str = ""
    """Group for reporting scores, such as "how many" or "presence"; empty where unknown."""
    answer_type: str = ""
    """"yes/no", "number" or "other"; empty where unknown."""
    tags: tuple[str, ...] | None = None
    """Names of what is in the image, in lower case; all other tags of the data set are absent.
    None for captions and questions; empty if none of the tags is present."""
    rows: int = field(default=1, compare=False)
    """Number of rows in the files that the example was read from."""
    audio: str = ""
    """Absolute path of the recording; equal to `image` if there is no image, empty if there is no
    recording."""
    weights: tuple[float, ...] = ()
    """Weight of each reference in the training loss, or one weight of the tags; empty if all are
    1."""

    @property
    def reference_weights(self) -> tuple[float, ...]:
        """The weight of each reference."""
        return self.weights or (1.0,) * len(self.references)

    @property
    def mean_weight(self) -> float:
        """The mean weight of the references, or the weight of the tags."""
        return sum(self.weights) / len(self.weights) if self.weights else 1.0

    @property
    def kind(self) -> RowKind:
        """What the example has about its image."""
        return kind_of(self.question or self.question_id, self.tags)


def kind_of(question: str, tags: Sequence[str] | None) -> RowKind:
    """Return the kind of a row with this question and these tags."""
    if tags is not None:
        return "tags"
    return "questions" if question else "captions"


def pack_weights(weights: Sequence[float]) -> tuple[float, ...]:
    """Return the value of `Example.weights` for these weights."""
    return () if all(weight == 1 for weight in weights) else tuple(weights)


def has_file_name(image: str) -> bool:
    """Return whether `Example.image` names a file; scoring alone needs none."""
    return not image.endswith(NO_FILE_NAME)


def normalize_split(name: str) -> str:
    """Return train, val or test for any of `SPLIT_NAMES`, and other names in lower case.

    An empty name is train.
    """
    key = name.strip().lower()
    return _SPLITS.get(key, key or "train")


def split_in_file_name(path: Path) -> str | None:
    """Return the split that a file is named after (`valid.jsonl`, `train.csv`), or None."""
    return _SPLITS.get(path.stem.lower())
