"""Data sets, candidates and checkpoints for the tests of score.py."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from captioner.config import load_config, save_config

PICTURES = 6
"""Pictures of the fixture `pictures`."""


def question_row(
    pictures: Path, number: int, question: str, answer: str | None, question_id: int
) -> dict:
    """Return a row with a question about a picture, and with its answer unless that is None."""
    row = caption_row(pictures, number) | {"question": question, "question_id": question_id}
    return row if answer is None else row | {"answer": answer}


def caption_row(pictures: Path, number: int, *captions: str) -> dict:
    """Return a row with a picture, and with its captions if there are any."""
    row = {"image": str(pictures / f"{number}.png"), "image_id": number}
    return row | {"captions": captions} if captions else row


def write(path: Path, rows: list | dict) -> Path:
    """Write rows as JSON lines if the name ends in .jsonl, otherwise as one JSON value."""
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        text = json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict]:
    """Return the rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def change_checkpoint(checkpoint: str, folder: Path, **sections: dict) -> Path:
    """Copy a checkpoint and change sections of its configuration."""
    folder.mkdir()
    for file in Path(checkpoint).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = load_config(folder / "config.yaml")
    sections = {
        name: dataclasses.replace(getattr(config, name), **settings)
        for name, settings in sections.items()
    }
    save_config(dataclasses.replace(config, **sections), folder / "config.yaml")
    return folder
