"""Images to captions, images and questions to answers: the Python API behind the command line."""

from __future__ import annotations

from captioner.config.decoding import DTYPES
from captioner.predict.attention import Attention
from captioner.predict.captioner import Captioner, load
from captioner.predict.results import UNSURE, Answer, Answers, Caption, Encoded, Result, Scored

__all__ = [
    "DTYPES",
    "UNSURE",
    "Answer",
    "Answers",
    "Attention",
    "Caption",
    "Captioner",
    "Encoded",
    "Result",
    "Scored",
    "load",
]
