"""What the page shows of results, as HTML; every text from outside is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from captioner.serve.page.file_table import Row

if TYPE_CHECKING:
    from captioner.predict import Answers, Result

NOTHING_SEEN = "There is little to see in this picture, so do not trust the caption."


def escape(text: str) -> str:
    """Text as HTML; braces and dollars too, which Gradio's templates would read."""
    found = html.escape(text)
    for character in "{}$":
        found = found.replace(character, f"&#{ord(character)};")
    return found


def percent(share: float) -> str:
    """A share as a reader expects it; neither certainty nor impossibility is claimed."""
    if share < 0.01:
        return "under 1%"
    return "over 99%" if share > 0.99 else f"{share:.0%}"


def note(text: str) -> str:
    """A plain line."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def trouble(text: str) -> str:
    """A line on what went wrong."""
    return f'<p class="trouble"><span aria-hidden="true">⚠ </span>{escape(text)}</p>'


def caption(result: Result) -> str:
    """The best caption with its confidence, and the others."""
    best, *others = result.captions
    found = f'<p class="best">{escape(best.text)}</p>'
    found += f'<p class="sure">Confidence {percent(best.confidence)}</p>'
    if result.low_confidence:
        found += trouble(NOTHING_SEEN)
    if others:
        rows = [(c.text, percent(c.confidence)) for c in others]
        found += table(("Other captions", "Confidence"), rows)
    return found


def answer(question: str, answers: Answers) -> str:
    """The newest answer."""
    found = f'<p class="note">{escape(question)}</p><p class="best">{escape(answers.text)}</p>'
    found += f'<p class="sure">Confidence {percent(answers.confidence)}'
    others = ", ".join(f"{escape(a.text)} ({percent(a.confidence)})" for a in answers.answers[1:])
    return found + (f"; or else {others}</p>" if others else "</p>")


def earlier(asked: Sequence[tuple[str, Answers]]) -> str:
    """What was asked before, newest first."""
    if not asked:
        return ""
    rows = [(question, a.text, percent(a.confidence)) for question, a in reversed(asked)]
    return table(("Earlier question", "Answer", "Confidence"), rows)


def batch(rows: Sequence[Row]) -> str:
    """What came of many files."""
    failed = sum(bool(row.error) for row in rows)
    what = f"{len(rows) - failed} of {len(rows)} pictures have a caption."
    cells = []
    for row in rows:
        hint = " (little to see)" if row.low_confidence else ""
        sure = "-" if row.confidence is None else percent(row.confidence) + hint
        cells.append((row.file, row.caption or row.error, sure))
    return note(what) + table(("File", "Caption", "Confidence"), cells)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Texts in a table."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag[:2]}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    columns = line('th scope="col"', head)
    return f'<table class="found"><thead>{columns}</thead><tbody>{body}</tbody></table>'
