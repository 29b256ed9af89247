"""The record that every reader yields: one image with its captions, or a question about it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Example:
    """One image with the texts that people wrote for it: captions, or a question's answers.

    `image` is an absolute path; `image_id` is what candidates are matched by (the file name for
    Flickr, COCO's numeric id as a string, a row's id or its file name for own data); `split` is
    "train", "val" or "test" (or whatever an own file calls it). Each question about an image is
    an example of its own, matched by `question_id`.
    """

    image: str
    image_id: str
    references: tuple[str, ...]
    split: str
    question: str = ""
    """Empty where the references are captions."""
    question_id: str = ""
    question_type: str = ""
    """What results are grouped by, such as "how many" or "presence"; empty where unknown."""
    answer_type: str = ""
    """"yes/no", "number" or "other"; empty where unknown."""
    rows: int = field(default=1, compare=False)
    """Number of rows in the files that it was read from."""


NO_FILE_NAME = " (no file_name)"
"""What the image of an example ends in if the data set names no file, only an id."""


def has_file_name(image: str) -> bool:
    """Return whether an example's image is a file; scoring needs none."""
    return not image.endswith(NO_FILE_NAME)
