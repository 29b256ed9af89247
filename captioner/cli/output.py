"""The results that `captioner caption` prints: text separated by tabs, or JSON lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from captioner.cli.batch.keywords import join_keywords, keywords_of
from captioner.files import format_json
from captioner.text import one_line

if TYPE_CHECKING:
    from captioner.cli.question_file import QuestionRow
    from captioner.predict import Answers, Caption, Result, Scored

Item = TypeVar("Item")


def make_caption_record(path: str, result: Result) -> dict[str, Any]:
    """Return the JSON object of one image."""
    record: dict[str, Any] = {"image": to_unicode(path)}
    if result.error is not None:
        return record | {"error": str(result.error)}
    record |= _caption_fields(result.best)
    record |= _describe_image(result)
    if len(result.captions) > 1:
        record["captions"] = list(map(_caption_fields, result.captions))
    return record


def _caption_fields(caption: Caption) -> dict[str, Any]:
    confidence = round_confidence(caption.confidence)
    return {"caption": caption.text, "score": round(caption.score, 4), "confidence": confidence}


def make_answer_record(row: QuestionRow, result: Answers | None, error: str) -> dict[str, Any]:
    """Return the JSON object of one question."""
    keys = {"image": row.image, "question": row.question}
    record = {key: value for key, value in keys.items() if value is not None}
    if error or result is None:
        return record | {"error": error, **row.other}
    record |= {"answer": result.text, "confidence": round_confidence(result.confidence)}
    record |= _describe_image(result)
    if len(result.answers) > 1:
        record["answers"] = [
            {"answer": a.text, "confidence": round_confidence(a.confidence)} for a in result.answers
        ]
    return {**record, **row.other}


def _describe_image(result: Result | Answers) -> dict[str, Any]:
    """Return the fields about the image of a result."""
    fields: dict[str, Any] = {"low_confidence": True} if result.low_confidence else {}
    if result.inputs != ("image",):
        fields["inputs"] = list(result.inputs)
    if result.kind_probability is not None:
        probability = round_confidence(result.kind_probability)
        fields |= {"kind": result.kind, "kind_probability": probability}
    return fields


def format_captions(
    path: str,
    row: Mapping[str, Any],
    *,
    alone: bool,
    as_json: bool,
    columns: Sequence[str] = ("caption",),
) -> Iterator[str]:
    """Yield the lines of one image; its path is left out if it is alone.

    `columns` names the fields of a line: "caption", "keywords" or both.
    """
    if as_json:
        yield format_json(row)
    elif "error" not in row:
        for caption in row.get("captions", [row]):
            texts = {"caption": caption["caption"], "keywords": join_keywords(keywords_of(row))}
            cells = [one_line(texts[name]) for name in columns]
            yield "\t".join(cells if alone else [escape_path(path), *cells])


def format_answers(
    row: QuestionRow, result: Answers | None, error: str, *, columns: Sequence[str], as_json: bool
) -> Iterator[str]:
    """Yield the lines of one question; `columns` names what stands before each answer."""
    if as_json:
        yield format_json(make_answer_record(row, result, error))
    elif result is not None and not error:
        cells = {"image": escape_path(row.image), "question": one_line(row.question)}
        alternatives = [] if result.unsure else [a.text for a in result.answers[1:]]
        for text in [result.text, *alternatives]:
            yield "\t".join([*(cells[name] for name in columns), one_line(text)])


def format_scores(
    path: str, scores: Sequence[Scored], error: str, *, alone: bool, as_json: bool
) -> Iterator[str]:
    """Yield the lines of the texts that were scored for one image."""
    if as_json:
        texts = [
            {"text": s.text, "logprob": round(s.logprob, 4), "score": round(s.score, 4)}
            for s in scores
        ]
        record = {"image": to_unicode(path)} | ({"error": error} if error else {"scores": texts})
        yield format_json(record)
        return
    for scored in scores:
        columns = [] if alone else [escape_path(path)]
        yield "\t".join([*columns, f"{scored.score:.4f}", one_line(scored.text)])


def round_confidence(confidence: float) -> float:
    """Return a probability with four significant digits."""
    return float(f"{confidence:.4g}")


def to_unicode(path: str) -> str:
    """Return a path as valid Unicode, with an escape for each byte that is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def escape_path(path: str) -> str:
    """Return a path on one line and without tabs."""
    return to_unicode(path).translate({ord(c): repr(c)[1:-1] for c in "\n\r\t"})


def list_paths(paths: Sequence[str], *, most: int = 3) -> str:
    """Return the first few paths, for messages."""
    return ", ".join(map(escape_path, paths[:most])) + ", ..." * (len(paths) > most)


def describe_unusual(kinds: Mapping[str, str | None]) -> str:
    """Return a message about the images, by path, that are not photographs, or an empty text."""
    from captioner.images.kinds import PHOTOGRAPH, describe_kind  # imports NumPy

    unusual = {path: kind for path, kind in kinds.items() if kind not in (None, PHOTOGRAPH)}
    names = [f"{path} ({kind})" for path, kind in unusual.items()]
    if len(unusual) > 1:
        return (
            f"{len(unusual)} images do not look like photographs; their descriptions may be wrong:"
            f" {list_paths(names)}"
        )
    for path, kind in unusual.items():
        name = describe_kind(kind or "")
        problem = f"looks like {name}, not a photograph; its description may be wrong"
        return f"{escape_path(path)}: {problem}"
    return ""


def show_progress(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    """Return an iterator with a progress bar, if stderr is a terminal and `total` is not 1."""
    if total == 1 or not sys.stderr.isatty():
        return iter(items)
    from tqdm import tqdm

    return iter(tqdm(items, total=total, unit=unit, file=sys.stderr))


def print_lines(lines: Iterable[str], *, flush: bool = False) -> None:
    """Print lines of data to stdout."""
    for line in lines:
        print(line, flush=flush)
