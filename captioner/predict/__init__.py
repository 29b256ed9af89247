"""The Python API: images to captions, images and questions to answers.

`Captioner`, `Inputs` and `load` are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from captioner.backends.model_inputs import Inputs
    from captioner.predict.captioner import Captioner
    from captioner.predict.loading import load

__all__ = [
    "DTYPES", "UNSURE", "Answer", "Answers", "Attention", "Caption", "Captioner", "Encoded",
    "Inputs", "Result", "Scored", "load",
]  # fmt: skip
_LAZY = {
    "Captioner": "captioner.predict.captioner",
    "Inputs": "captioner.backends.model_inputs",
    "load": "captioner.predict.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
