"""Many image files to rows of a table, and the table to files."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError, ImageError
from captioner.files import csv_line
from captioner.serve.engine import Busy, Engine

PAUSE = 0.5
"""Seconds after which a server that was full is asked again."""


@dataclass(frozen=True)
class Row:
    """What came of one file: a caption, or the error that stands in its place."""

    file: str
    caption: str = ""
    confidence: float | None = None
    """As `Caption.confidence`."""
    low_confidence: bool | None = None
    error: str = ""


async def read_file(path: str | Path) -> bytes:
    """The bytes of an uploaded file; raises CaptionerError where it is no longer there."""
    try:
        return await asyncio.to_thread(Path(path).read_bytes)
    except OSError:
        raise CaptionerError("the picture is no longer here; choose it again") from None


async def caption_files(
    engine: Engine,
    paths: Sequence[str | Path],
    options: Mapping[str, Any],
    progress: Callable[[int], None],
) -> list[Row]:
    """A row per file, in their order; as many at a time as share a batch. Waits for a full server.

    `progress` is told how many are done.
    """
    room, done = asyncio.Semaphore(engine.settings.max_batch), 0

    async def one(path: Path) -> Row:
        nonlocal done
        async with room:
            row = await _row(engine, path, options)
        done += 1
        progress(done)
        return row

    return list(await asyncio.gather(*(one(Path(path)) for path in paths)))


async def _row(engine: Engine, path: Path, options: Mapping[str, Any]) -> Row:
    while True:
        try:
            with engine.slot():
                picture = await engine.read(await read_file(path))
                result = await engine.caption(picture, options=options)
        except Busy:
            await asyncio.sleep(PAUSE)
        except CaptionerError as error:
            return Row(path.name, error=sentence(error))
        else:
            best = result.best
            return Row(path.name, best.text, best.confidence, result.low_confidence)


def sentence(error: CaptionerError) -> str:
    """An error as the page says it, where nobody has heard of bytes and configurations."""
    text = str(error).replace("decoding.", "")
    if isinstance(error, ImageError):
        text = "This file " + text.removeprefix("<bytes>: ")
        text = re.sub(r"(?<=cannot be decoded) \(.*\)(?=;)", "", text)  # what Pillow said
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def to_csv(rows: Sequence[Row]) -> str:
    """With a head; an empty cell is what a row does not have."""
    names = [field.name for field in fields(Row)]
    cells = [["" if value is None else value for value in astuple(row)] for row in rows]
    return "".join(f"{csv_line(line)}\n" for line in [names, *cells])


def to_jsonl(rows: Sequence[Row]) -> str:
    """An object a line; what a row does not have is left out."""
    each = ({k: v for k, v in asdict(row).items() if v not in (None, "")} for row in rows)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in each)
