"""What a checkpoint says about rows: captions or answers, kept as they come, errors told.

`keep` is handed each row's result, a dict for JSONL; `prog` begins each message on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.data import Example
    from captioner.predict import Answers, Captioner

Keep = Callable[[dict[str, Any]], None]


def caption_rows(
    captioner: Captioner, rows: Sequence[Example], *, prog: str, keep: Keep, **options: Any
) -> dict[str, str]:
    """Captions by image id, without those of images that cannot be read, which are named."""
    from tqdm import tqdm

    results = captioner.caption_stream((r.image for r in rows), **options)
    found, bar = {}, tqdm(rows, unit="image", disable=not sys.stderr.isatty())
    for r, result in zip(bar, results, strict=True):
        row = {"image_id": r.image_id, "image": r.image}
        if result.error is None:
            found[r.image_id] = result.text
            row |= {"caption": result.text, "score": round(result.best.score, 4)}
        else:
            tqdm.write(f"{prog}: {result.error}", file=sys.stderr)
            row["error"] = str(result.error)
        keep(row)
    return found


def answer_rows(
    captioner: Captioner,
    rows: Sequence[Example],
    *,
    prog: str,
    keep: Keep,
    what: str = "model",
    **options: Any,
) -> dict[str, Answers]:
    """Answers by question id. What cannot be read or asked is named once."""
    from tqdm import tqdm

    results = captioner.answer_stream([(r.image, r.question) for r in rows], **options)
    found, told = {}, set()
    bar = tqdm(rows, what, unit="question", disable=not sys.stderr.isatty())
    for r, result in zip(bar, results, strict=True):
        found[r.question_id] = result
        row = {"question_id": r.question_id, "image": r.image, "question": r.question}
        if result.error is None:
            row |= {"answer": result.text, "confidence": float(f"{result.confidence:.4g}")}
        else:
            row["error"] = str(result.error)
            if row["error"] not in told:
                told.add(row["error"])
                of = f" (of the {what} control)" if what != "model" else ""
                tqdm.write(f"{prog}: {result.error}{of}", file=sys.stderr)
        keep(row)
    return found


def texts(found: Mapping[str, Answers]) -> dict[str, str]:
    """Answers by question id; nothing is said where there is an error."""
    return {name: result.text if result.error is None else "" for name, result in found.items()}
