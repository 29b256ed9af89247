"""A run as one HTML file: its curves, its scores with intervals, and what it says of pictures.

Made from what the run keeps: `log.jsonl`, a row for each epoch, and `captions.jsonl`, the best
checkpoint's captions of the validation images with their references.
"""

from __future__ import annotations

import base64
import html
import io
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.errors import ImageError
from captioner.images import load_image
from captioner.metrics import caption_statistics, tokenize

LOG, CAPTIONS, REPORT = "log.jsonl", "captions.jsonl", "report.html"
SHOWN = 12
"""Pictures of each kind."""
SIDE = 200
"""Pixels of a picture's longer side."""
WIDTH, HEIGHT = 560, 180
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#4b5563")
STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: right }
td:first-child, th:first-child { text-align: left }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem }
figure { margin: 0 } img { max-width: 100% } svg { max-width: 100%; height: auto }
figcaption b { display: block } details, small { opacity: .75 }
"""


def add_rows(path: Path, rows: Iterable[Mapping[str, Any]], *, anew: bool = False) -> None:
    """Write rows as JSON lines, behind what is there or in its place."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if anew:
        partial = path.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    else:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, but for a last line that a stop has cut; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def write_report(folder: Path) -> Path:
    """Write a run's report; returns its path."""
    # An epoch that was done again, after a crash, counts as it was last.
    log = {(row["stage"], row["epoch"]): row for row in read_rows(folder / LOG)}
    rows = read_rows(folder / CAPTIONS)
    parts = [f"<h1>{html.escape(folder.name)}</h1>", *_curves([log[key] for key in sorted(log)])]
    if rows:
        parts += _scores(rows)
    text = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(folder.name)}</title><style>{STYLE}</style>{''.join(parts)}</html>\n"
    )
    path = folder / REPORT
    path.write_text(text, encoding="utf-8")
    return path


def _curves(log: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Plots of what the log has, over its epochs: losses, rewards, scores."""
    names = dict.fromkeys(name for row in log for name in row)
    groups = {
        "Loss": [name for name in names if name.endswith("loss")],
        "Reward": [name for name in names if name.endswith("reward")],
        "Validation": [n for n in names if n.endswith(("CIDEr-D", "BLEU-4", "exact match"))],
    }
    for title, members in groups.items():
        lines = {
            name: [(i + 1, row[name]) for i, row in enumerate(log) if name in row]
            for name in members
        }
        if lines:
            yield f"<h2>{title}</h2>{_plot(lines, epochs=len(log))}"


def _plot(lines: Mapping[str, Sequence[tuple[int, float]]], *, epochs: int) -> str:
    values = [value for points in lines.values() for _, value in points]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0

    def place(epoch: int, value: float) -> str:
        x = 45 + (WIDTH - 60) * (epoch - 1) / max(1, epochs - 1)
        return f"{x:.1f},{HEIGHT - 20 - (HEIGHT - 35) * (value - low) / spread:.1f}"

    parts = []
    for colour, (name, points) in zip(COLOURS * len(lines), lines.items(), strict=False):
        path = " ".join(place(*point) for point in points)
        dots = "".join(
            f"<circle cx={x} cy={y} r=2.5 fill='{colour}'><title>{html.escape(name)}, epoch"
            f" {epoch}: {value:.4g}</title></circle>"
            for (epoch, value) in points
            for x, y in [place(epoch, value).split(",")]
        )
        parts.append(f"<polyline points='{path}' fill=none stroke='{colour}' />{dots}")
    legend = " ".join(
        f"<span style='color:{colour}'>&#9632;</span> {html.escape(name)}"
        for colour, name in zip(COLOURS * len(lines), lines, strict=False)
    )
    axis = (
        f"<text x=0 y=18 font-size=11 fill=currentColor>{high:.4g}</text>"
        f"<text x=0 y={HEIGHT - 18} font-size=11 fill=currentColor>{low:.4g}</text>"
        f"<text x={WIDTH - 60} y={HEIGHT - 3} font-size=11 fill=currentColor>epoch {epochs}</text>"
    )
    size = f"viewBox='0 0 {WIDTH} {HEIGHT}' width={WIDTH} height={HEIGHT}"
    return f"<svg {size} role=img aria-label='curves'>{axis}{''.join(parts)}</svg><p>{legend}</p>"


def _scores(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Scores with intervals, lengths and words, and pictures with what is said of them."""
    captions = {i: row["caption"] for i, row in enumerate(rows)}
    references = {i: row["references"] for i, row in enumerate(rows)}
    statistics = caption_statistics(captions, references)
    cells = "".join(
        f"<tr><td>{name}<td>{score:.3f}<td>{low:.3f} to {high:.3f}"
        for name, (score, low, high) in statistics.intervals().items()
    )
    yield (
        f"<h2>Scores of {len(rows)} validation images</h2><table>"
        f"<tr><th>metric<th>value<th>95 % interval{cells}</table>"
    )
    yield from _words(list(captions.values()), [t for texts in references.values() for t in texts])
    cider = statistics.means["CIDEr-D"]
    order = sorted(captions, key=lambda i: cider[i])
    some = random.Random(0).sample(order, min(SHOWN, len(order)))
    for title, chosen in (
        ("Samples", some),
        ("Best by CIDEr-D", order[: -SHOWN - 1 : -1]),
        ("Worst by CIDEr-D", order[:SHOWN]),
    ):
        figures = "".join(_figure(rows[i], cider[i]) for i in chosen)
        yield f"<h2>{title}</h2><div class=grid>{figures}</div>"


def _words(captions: Sequence[str], references: Sequence[str]) -> Iterable[str]:
    """Lengths and vocabulary beside the references'."""
    sides = {"captions": captions, "references": references}
    words = {name: [tokenize(text) for text in texts] for name, texts in sides.items()}
    counts = {name: Counter(map(len, texts)) for name, texts in words.items()}
    longest = max(max(c, default=0) for c in counts.values())
    lines = {
        name: [(n, count[n] / max(1, len(sides[name]))) for n in range(1, longest + 1)]
        for name, count in counts.items()
    }
    rows = "".join(
        f"<tr><td>{name}<td>{sum(map(len, texts)) / max(1, len(texts)):.1f}"
        f"<td>{len({w for text in texts for w in text})}<td>{len(set(sides[name]))}"
        f" of {len(texts)}"
        for name, texts in words.items()
    )
    yield (
        "<h2>Lengths and words</h2><table><tr><th><th>words a text<th>different words"
        f"<th>different texts{rows}</table>"
    )
    if longest:  # texts without a word have no such share
        yield "<p>Share of texts by their number of words:</p>"
        yield _plot(lines, epochs=longest).replace(f"epoch {longest}", f"{longest} words")


def _figure(row: Mapping[str, Any], cider: float) -> str:
    texts = "<br>".join(map(html.escape, row["references"]))
    return (
        f"<figure>{_thumbnail(row['image'])}<figcaption><b>{html.escape(row['caption'])}</b>"
        f"<small>CIDEr-D {cider:.2f}</small><details><summary>references</summary>{texts}</details>"
        "</figcaption></figure>"
    )


def _thumbnail(path: str) -> str:
    try:
        image = load_image(path, min_size=SIDE)
    except ImageError as error:
        return f"<p>{html.escape(str(error))}</p>"
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}'>"
