"""Data sets: rows on disk -> Example -> Batch.

Importing this package imports neither torch nor `datasets`. The modules `dataset` and `collate`
need torch and are imported by their full names.
"""

from __future__ import annotations

from captioner.data.example import Example
from captioner.data.formats.registry import READERS, detect_format
from captioner.data.mirrored_text import can_flip, flip_caption, mentions_side
from captioner.data.report import Report
from captioner.data.table import read_dataset
from captioner.text import normalize_caption, normalize_question

__all__ = [
    "READERS",
    "Example",
    "Report",
    "can_flip",
    "detect_format",
    "flip_caption",
    "mentions_side",
    "normalize_caption",
    "normalize_question",
    "read_dataset",
]
