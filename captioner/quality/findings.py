"""The kinds of faults that `captioner check` reports, and the record of one fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from captioner.quality.text_repair import escape_controls
from captioner.sources import source_name
from captioner.text import one_line

Action = Literal["drop", "repair", "weight", "keep"]
"""What a cleaned manifest does with the row or the text."""


@dataclass(frozen=True)
class FindingKind:
    """One kind of fault."""

    name: str
    """The stable name, for `--fail-on` and the key `kind`."""
    group: str
    """"images", "captions", "questions", "pairs" or "rows"."""
    title: str
    meaning: str
    action: Action = "keep"


_ROWS: dict[str, list[tuple[str, str, str, Action]]] = {
    "images": [
        ("missing-image", "Missing image", "The image of a row does not exist.", "drop"),
        ("missing-recording", "Missing recording", "The recording does not exist.", "drop"),
        ("unreadable-image", "Unreadable image", "The file cannot be decoded completely.", "drop"),
        ("tiny-image", "Tiny image", "The shorter side has fewer than 64 pixels.", "weight"),
        ("blank-image", "Blank image", "The image has one color, or is white noise.", "weight"),
        ("not-photograph", "Not a photograph", "The model assigns another kind.", "weight"),
        ("duplicate-image", "Duplicate image", "Its bytes equal those of another image.", "keep"),
        ("near-duplicate-image", "Near duplicate", "An edited copy of another image.", "keep"),
        ("split-leak", "Copy in another split", "A test or validation image has a copy.", "drop"),
        ("held-out-leak", "Held-out image", "The held-out set has a copy of the image.", "drop"),
    ],
    "captions": [
        ("no-caption", "Image without captions", "The image is listed and has no caption.", "drop"),
        ("empty-caption", "Empty caption", "The caption has no words.", "drop"),
        ("truncated-caption", "Truncated caption", "The caption ends too early.", "weight"),
        ("repeated-caption", "Repeated caption", "The image has the caption twice.", "drop"),
        ("boilerplate-caption", "Boilerplate", "Many unrelated images share the text.", "weight"),
        ("mojibake", "Mojibake", "The text was decoded with a wrong encoding.", "repair"),
        ("markup", "Markup", "The text holds markup, a URL or control characters.", "repair"),
        ("other-language", "Other language", "Most captions are in another language.", "weight"),
        ("unusual-length", "Unusual length", "The number of words is an outlier.", "weight"),
    ],
    "questions": [
        ("empty-question", "Empty question", "The row has no question.", "drop"),
        ("empty-answer", "Empty answer", "The question has no answer, or an empty one.", "drop"),
        ("contradictory-answers", "Contradictory answers", "The answers exclude each other.",
         "weight"),
    ],
    "pairs": [
        ("mismatched-pair", "Mismatched pair", "The caption fits other images better.", "weight"),
    ],
    "rows": [
        ("duplicate-row", "Duplicate row", "An image or a question occurs again.", "drop"),
        ("dropped-row", "Dropped row", "The row cannot be used.", "drop"),
        ("unread-data", "Unread data", "A file or a column is not read.", "keep"),
    ],
}  # fmt: skip
KINDS = {
    name: FindingKind(name, group, title, meaning, action)
    for group, rows in _ROWS.items()
    for name, title, meaning, action in rows
}
"""All kinds by name, in the order of the report."""


@dataclass(frozen=True)
class Finding:
    """One fault of a data set."""

    kind: str
    explanation: str
    split: str = ""
    place: str = ""
    """File and line where they are known, otherwise the file or the id of the row."""
    image: str = ""
    """Absolute path of the image or the recording, or the address of a member of a shard."""
    text: str = ""
    other: str = ""
    """Absolute path of the image that it is compared with."""
    entry: int | None = None
    """Number of the entry of the data set; None for a row that is not used."""

    def to_record(self) -> dict[str, Any]:
        """Return the JSON object of findings.jsonl; keys without a value are left out.

        The member of a shard is `/data/000.tar::a.jpg`. Long texts are truncated.
        """
        keys = ("kind", "split", "place", "image", "text", "other", "explanation")
        record = {key: getattr(self, key) for key in keys if getattr(self, key)}
        for key in record.keys() & {"image", "other"}:
            record[key] = source_name(record[key])
        for key in record.keys() & {"text", "explanation"}:
            record[key] = shorten(record[key])
        return {key: to_unicode(value) for key, value in record.items()}


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings in the order of their kinds; those of a kind keep their order."""
    order = {name: number for number, name in enumerate(KINDS)}
    return sorted(findings, key=lambda finding: order[finding.kind])


def summarize(findings: Sequence[Finding]) -> str:
    """Return a line with the name and the count of each kind that occurs."""
    counts = Counter(finding.kind for finding in findings)
    width = max(map(len, counts), default=0)
    rows = [(name, counts[name]) for name in KINDS if counts[name]]
    return "\n".join(f"{name:{width}}  {count:6d}  {KINDS[name].meaning}" for name, count in rows)


def shorten(text: str, *, limit: int = 500) -> str:
    """Return a text for display: with at most `limit` characters, and escapes of controls."""
    return escape_controls(text if len(text) <= limit else f"{text[: limit - 3]}...")


def to_unicode(text: str) -> str:
    """Return a text as valid Unicode, with an escape for each byte that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def quote(text: str, *, limit: int = 60) -> str:
    """Return a text in quotation marks on one line, shortened to `limit` characters."""
    line = one_line(text)
    return f'"{line}"' if len(line) <= limit else f'"{line[: limit - 3]}..."'
