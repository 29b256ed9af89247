"""Images to captions, images and questions to answers: the Python API behind the command line.

torch is imported with `Captioner` and `load`, which are the ones that need it.
"""

from __future__ import annotations

from typing import Any

from captioner.config.decoding_options import DTYPES
from captioner.predict.results import (
    UNSURE,
    Answer,
    Answers,
    Attention,
    Caption,
    Encoded,
    Result,
    Scored,
)

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


def __getattr__(name: str) -> Any:
    if name == "load":
        from captioner.predict.loading import load

        return load
    if name == "Captioner":
        from captioner.predict.captioner import Captioner

        return Captioner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
