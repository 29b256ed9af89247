"""The report of an audit: one HTML file with thumbnails, and findings.jsonl."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from captioner.errors import ImageError
from captioner.files import replace_file, replace_rows
from captioner.images.thumbnails import make_data_uri
from captioner.quality.audit import Audit
from captioner.quality.findings import KINDS, Finding, shorten, to_unicode
from captioner.sources import short_name

PAGE, ROWS = "report.html", "findings.jsonl"
SHOWN = 40
"""Findings of a kind on the page; all are in findings.jsonl."""
SIDE = 160
"""Longer side of a thumbnail, in pixels."""
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } caption { text-align: left; font-weight: 600 }
td, th { padding: .25rem 1rem .25rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right }
ul.findings { list-style: none; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)) }
ul.findings li { border: 1px solid; border-radius: .4rem; padding: .6rem; overflow-wrap: anywhere }
img { max-width: 48%; height: auto; vertical-align: top } p { margin: .3rem 0 }
.text { font-weight: 600 } a:focus-visible { outline: 3px solid }
"""


def write_report(audit: Audit, folder: str | os.PathLike[str]) -> Path:
    """Write the page and findings.jsonl into a folder, which is created; return the page's path.

    Raises:
        OSError: The folder cannot be written.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    replace_rows(path / ROWS, [finding.to_record() for finding in audit.findings])
    replace_file(path / PAGE, "".join(_page(audit)).encode())
    return path / PAGE


def _page(audit: Audit) -> Iterator[str]:
    title = f"Data quality of {_escape(audit.data.root.name)}"
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
    )
    yield _describe_data(audit)
    groups: dict[str, list[Finding]] = {}
    for finding in audit.findings:
        groups.setdefault(finding.kind, []).append(finding)
    yield _describe_kinds(groups)
    for kind, findings in groups.items():
        yield from _section(kind, findings)
    yield "</main></body></html>\n"


def _describe_data(audit: Audit) -> str:
    data = audit.data
    rows = "".join(
        f"<tr><th scope=row>{_escape(split)}</th><td>{_escape(kind)}</td><td class=n>{count}</td>"
        for (split, kind), count in sorted(data.rows.items())
    )
    held_out = f", {audit.held_out} held-out images" if audit.held_out else ""
    return (
        f"<p>Format {_escape(data.format)}: {audit.images} images{held_out}.</p>"
        "<table><caption>Usable rows</caption><tr><th scope=col>split</th><th scope=col>rows of"
        f"</th><th scope=col class=n>count</th></tr>{rows}</table>"
    )


def _describe_kinds(groups: dict[str, list[Finding]]) -> str:
    if not groups:
        return "<p>No findings.</p>"
    rows = []
    for kind, findings in groups.items():
        splits = Counter(finding.split or "unknown" for finding in findings)
        by_split = ", ".join(f"{_escape(split)} {count}" for split, count in splits.items())
        rows.append(
            f'<tr><th scope=row><a href="#{kind}">{kind}</a></th><td class=n>{len(findings)}</td>'
            f"<td>{by_split}</td><td>{_escape(KINDS[kind].meaning)}</td></tr>"
        )
    return (
        "<nav aria-label=findings><table><caption>Findings</caption><tr><th scope=col>kind</th>"
        "<th scope=col class=n>count</th><th scope=col>by split</th><th scope=col>meaning</th></tr>"
        f"{''.join(rows)}</table></nav>"
    )


def _section(kind: str, findings: Sequence[Finding]) -> Iterator[str]:
    title = f"{KINDS[kind].title} ({len(findings)})"
    yield f'<section id="{kind}"><h2>{_escape(title)}</h2><p>{_escape(KINDS[kind].meaning)}'
    if len(findings) > SHOWN:
        yield f" The first {SHOWN} are shown; all are in {ROWS}."
    yield '</p><ul class="findings">'
    yield from map(_item, findings[:SHOWN])
    yield "</ul></section>"


def _item(finding: Finding) -> str:
    images = "".join(_image(path) for path in (finding.image, finding.other) if path)
    text = f'<p class="text">{_escape(shorten(finding.text))}</p>' if finding.text else ""
    where = ": ".join(filter(None, (finding.split, finding.place)))
    name = short_name(finding.image)
    small = ", ".join(filter(None, (where, "" if name in where else name)))
    return (
        f"<li>{images}{text}<p>{_escape(shorten(finding.explanation))}</p>"
        f"<p><small>{_escape(small)}</small></p></li>"
    )


def _image(path: str) -> str:
    """Return the HTML of a thumbnail; "" for an image that cannot be decoded."""
    source = _thumbnail(path)
    name = _escape(short_name(path))
    return f'<img alt="{name}" src="{source}"> ' if source else ""


@lru_cache(maxsize=512)
def _thumbnail(path: str) -> str:
    try:
        return make_data_uri(path, SIDE)
    except ImageError:
        return ""


def _escape(text: str) -> str:
    return html.escape(to_unicode(text))
