"""HTML of results; all texts are escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from captioner.images.kinds import PHOTOGRAPH, describe_kind
from captioner.serve.page.file_table import Row

if TYPE_CHECKING:
    from captioner.predict.results import Answers, Result

NOTHING_SEEN = "This file contains little that can be recognized; do not rely on the caption."


def escape(text: str) -> str:
    """Return text as HTML, with escaped braces and dollar signs for Gradio's templates."""
    escaped = html.escape(text)
    for character in "{}$":
        escaped = escaped.replace(character, f"&#{ord(character)};")
    return escaped


def format_percent(share: float) -> str:
    """Return a probability in percent, never 0% or 100%."""
    if share < 0.01:
        return "under 1%"
    return "over 99%" if share > 0.99 else f"{share:.0%}"


def format_note(text: str) -> str:
    """Return a plain line of text."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def format_alert(text: str) -> str:
    """Return a line that reports a problem."""
    return f'<p class="alert"><span aria-hidden="true">⚠ </span>{escape(text)}</p>'


def format_caption(result: Result) -> str:
    """Return the best caption with its confidence, and a table of the others."""
    best, *others = result.captions
    text = f'<p class="best">{escape(best.text)}</p>'
    text += f'<p class="confidence">Confidence {format_percent(best.confidence)}</p>'
    if result.low_confidence or result.notice:
        text += format_alert(NOTHING_SEEN if result.low_confidence else result.notice)
    if others:
        rows = [(c.text, format_percent(c.confidence)) for c in others]
        text += format_table(("Other captions", "Confidence"), rows)
    return text


def format_answer(question: str, answers: Answers) -> str:
    """Return the latest question with its answer and the alternatives."""
    text = f'<p class="note">{escape(question)}</p><p class="best">{escape(answers.text)}</p>'
    text += f'<p class="confidence">Confidence {format_percent(answers.confidence)}'
    others = ", ".join(
        f"{escape(a.text)} ({format_percent(a.confidence)})" for a in answers.answers[1:]
    )
    return text + (f"; other answers: {others}</p>" if others else "</p>")


def format_history(history: Sequence[tuple[str, Answers]]) -> str:
    """Return a table of earlier questions and answers, latest first."""
    if not history:
        return ""
    rows = [(question, a.text, format_percent(a.confidence)) for question, a in reversed(history)]
    return format_table(("Earlier question", "Answer", "Confidence"), rows)


def format_files(rows: Sequence[Row]) -> str:
    """Return a table of the captions of many files."""
    failed = sum(bool(row.error) for row in rows)
    summary = f"{len(rows) - failed} of {len(rows)} images have a caption."
    cells = []
    for row in rows:
        unusual = row.kind if row.kind != PHOTOGRAPH else None
        hint = f" (looks like {describe_kind(unusual)})" if unusual else ""
        hint = " (little to recognize)" if row.low_confidence else hint
        confidence = "-" if row.confidence is None else format_percent(row.confidence) + hint
        cells.append((row.file, row.caption or row.error, confidence))
    return format_note(summary) + format_table(("File", "Caption", "Confidence"), cells)


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag[:2]}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    columns = line('th scope="col"', head)
    return f'<table class="results"><thead>{columns}</thead><tbody>{body}</tbody></table>'
