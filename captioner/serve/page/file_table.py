"""Caption many image files, as the rows of a table that can be exported as CSV or JSONL."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError, InputError
from captioner.files import csv_line
from captioner.serve.engine import Engine, QueueFullError

RETRY_SECONDS = 0.5
"""Delay before repeating a request that was rejected because the server was full."""


@dataclass(frozen=True)
class Row:
    """The result of one file: a caption or an error."""

    file: str
    caption: str = ""
    confidence: float | None = None
    """`Caption.confidence`."""
    low_confidence: bool | None = None
    kind: str | None = None
    """`Result.kind`."""
    error: str = ""


async def read_file(path: str | Path) -> bytes:
    """Return the content of an uploaded file; raises CaptionerError if it no longer exists."""
    try:
        return await asyncio.to_thread(Path(path).read_bytes)
    except OSError:
        raise CaptionerError("the file is no longer available; choose it again") from None


async def caption_files(
    engine: Engine,
    paths: Sequence[str | Path],
    options: Mapping[str, Any],
    progress: Callable[[int], None],
) -> list[Row]:
    """Caption files, waiting while the server is full; return one row per file, in their order.

    Up to `max_batch` files are in progress; `progress` is called with the number of finished ones.
    """
    room, done = asyncio.Semaphore(engine.settings.max_batch), 0

    async def caption_one(path: Path) -> Row:
        nonlocal done
        async with room:
            row = await _caption_file(engine, path, options)
        done += 1
        progress(done)
        return row

    return list(await asyncio.gather(*(caption_one(Path(path)) for path in paths)))


async def _caption_file(engine: Engine, path: Path, options: Mapping[str, Any]) -> Row:
    while True:
        try:
            with engine.slot():
                image = await engine.decode(await read_file(path))
                result = await engine.caption(image, options=options)
        except QueueFullError:
            await asyncio.sleep(RETRY_SECONDS)
        except CaptionerError as error:
            return Row(path.name, error=format_error(error))
        else:
            best = result.best
            return Row(path.name, best.text, best.confidence, result.low_confidence, result.kind)


def format_error(error: CaptionerError) -> str:
    """Return an error as a sentence for the page, without internal names and details."""
    text = str(error).replace("decoding.", "")
    if isinstance(error, InputError):
        text = "This file " + text.removeprefix("<bytes>: ")
        text = re.sub(r"(?<=cannot be decoded) \(.*\)(?=;)", "", text)  # the message of a library
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def to_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV with a header; missing values are empty."""
    names = [field.name for field in fields(Row)]
    cells = [["" if value is None else value for value in astuple(row)] for row in rows]
    return "".join(f"{csv_line(line)}\n" for line in [names, *cells])


def to_jsonl(rows: Sequence[Row]) -> str:
    """Return the rows as one JSON object per line; missing values are left out."""
    objects = ({k: v for k, v in asdict(row).items() if v not in (None, "")} for row in rows)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects)
