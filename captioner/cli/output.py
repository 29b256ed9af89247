"""What `generate.py` prints: lines of text, tab-separated, or an object of JSON a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.cli.question_file import Asked
    from captioner.predict import Answers, Result, Scored


def lines(path: str, row: Mapping[str, Any], *, alone: bool, as_json: bool) -> Iterator[str]:
    """What is printed of one image's record."""
    if as_json:
        yield json.dumps(row, ensure_ascii=False)
    elif "error" not in row:
        for found in row.get("captions", [row]):
            text = " ".join(found["caption"].split())
            yield text if alone else f"{printable(path)}\t{text}"


def record(path: str, result: Result) -> dict[str, Any]:
    """The JSON object of one image."""
    found: dict[str, Any] = {"image": decodable(path)}
    if result.error is not None:
        return found | {"error": str(result.error)}
    found |= {"caption": result.text, "score": round(result.best.score, 4)}
    found |= {"low_confidence": True} if result.low_confidence else {}
    if len(result.captions) > 1:
        found["captions"] = [
            {"caption": c.text, "score": round(c.score, 4)} for c in result.captions
        ]
    return found


def answer_lines(
    row: Asked, result: Answers | None, error: str, *, columns: Sequence[str], as_json: bool
) -> Iterator[str]:
    """What is printed for one question; `columns` name what stands before an answer."""
    if as_json:
        yield json.dumps(answer_record(row, result, error), ensure_ascii=False)
    elif not error:
        shown = {"image": printable(row.image), "question": " ".join(row.question.split())}
        before = [shown[name] for name in columns]
        alternatives = [] if result.unsure else [a.text for a in result.answers[1:]]
        for text in [result.text, *alternatives]:
            yield "\t".join([*before, " ".join(text.split())])


def answer_record(row: Asked, result: Answers | None, error: str) -> dict[str, Any]:
    """The JSON object of one question."""
    known = {"image": row.image, "question": row.question}
    found = {key: value for key, value in known.items() if value is not None}
    if error:
        return found | {"error": error} | row.carried
    found |= {"answer": result.text, "confidence": rounded(result.confidence)}
    found |= {"low_confidence": True} if result.low_confidence else {}
    if len(result.answers) > 1:
        found["answers"] = [
            {"answer": a.text, "confidence": rounded(a.confidence)} for a in result.answers
        ]
    return found | row.carried


def scored_lines(
    path: str, found: Sequence[Scored], error: str, *, alone: bool, as_json: bool
) -> Iterator[str]:
    """What is printed of the texts that were scored against one image, likeliest first."""
    if as_json:
        image = {"image": decodable(path)}
        scores = [
            {"text": s.text, "logprob": round(s.logprob, 4), "score": round(s.score, 4)}
            for s in found
        ]
        yield json.dumps(
            image | ({"error": error} if error else {"scores": scores}), ensure_ascii=False
        )
        return
    for scored in found:
        columns = [] if alone else [printable(path)]
        yield "\t".join([*columns, f"{scored.score:.4f}", " ".join(scored.text.split())])


def rounded(confidence: float) -> float:
    """Four digits that count, so that what is small is not 0."""
    return float(f"{confidence:.4g}")


def decodable(path: str) -> str:
    """The path as valid Unicode, whatever bytes its name holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def printable(path: str) -> str:
    """The path on one line and in one column."""
    return decodable(path).translate({ord(c): repr(c)[1:-1] for c in "\n\r\t"})


def listed(paths: Sequence[str], *, most: int = 3) -> str:
    """Return the first of some paths, for messages."""
    return ", ".join(map(printable, paths[:most])) + ", ..." * (len(paths) > most)


def progress(items: Iterable[Any], total: int, unit: str) -> Iterator[Any]:
    """The items, with a bar on a terminal's stderr where there are many."""
    if total == 1 or not sys.stderr.isatty():
        return iter(items)
    from tqdm import tqdm

    return iter(tqdm(items, total=total, unit=unit, file=sys.stderr))
