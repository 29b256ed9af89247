"""Images to captions, images and questions to answers: the Python API behind the command line."""

from __future__ import annotations

from captioner.predict.captioner import DTYPES, Captioner, load
from captioner.predict.results import UNSURE, Answer, Answers, Caption, Encoded, Result

__all__ = [
    "DTYPES",
    "UNSURE",
    "Answer",
    "Answers",
    "Caption",
    "Captioner",
    "Encoded",
    "Result",
    "load",
]
