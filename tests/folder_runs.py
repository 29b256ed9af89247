"""Helpers for tests of runs over many files."""

from __future__ import annotations

import csv
import json


def rows(path: str = "out.jsonl") -> list[dict]:
    """Return the rows of an output file, JSONL or CSV."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if ".csv" in path else [json.loads(x) for x in file]
