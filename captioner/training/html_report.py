"""The HTML report of a run: learning curves, scores with confidence intervals, sample captions.

It is made from three files of the run: `log.jsonl`, with a row for each epoch, `captions.jsonl`,
with the best checkpoint's captions of the validation images and their references, and
`best/metrics.json`, with the classes of its answers.
"""

from __future__ import annotations

import contextlib
import html
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.checkpoint import METRICS
from captioner.errors import ImageError
from captioner.files import replace_rows as replace_rows
from captioner.images.thumbnails import make_data_uri
from captioner.metrics import caption_statistics, tokenize

LOG, CAPTIONS, REPORT = "log.jsonl", "captions.jsonl", "report.html"
SHOWN = 12
"""Number of images in each gallery."""
SIDE = 200
"""Longer side of an image, in pixels."""
WIDTH, HEIGHT = 560, 180
COLORS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#4b5563")
STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: right }
td:first-child, th:first-child { text-align: left }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem }
figure { margin: 0 } img { max-width: 100% } svg { max-width: 100%; height: auto }
figcaption b { display: block } details, small { opacity: .75 }
"""


def log_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to the log of a run, in the place of one of the same stage and epoch.

    An epoch is repeated if a run was interrupted before the state after it was saved.
    """
    rows = {**_load_log(path), (row["stage"], row["epoch"]): row}
    replace_rows(path, rows.values())


def _load_log(path: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the rows of a log by stage and epoch."""
    return {(row["stage"], row["epoch"]): row for row in load_rows(path)}


def load_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines, without incomplete ones; [] without a file."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # a line that an interruption has cut off
            rows.append(json.loads(line))
    return rows


def write_report(folder: Path) -> Path:
    """Write the report of the run in a folder; return its path."""
    log = _load_log(folder / LOG)
    rows = load_rows(folder / CAPTIONS)
    ordered = [log[key] for key in sorted(log)]
    parts = [f"<h1>{html.escape(folder.name)}</h1>", *_stages(ordered), *_curves(ordered)]
    if (metrics := folder / "best" / METRICS).exists():
        classes = json.loads(metrics.read_text(encoding="utf-8")).get("classes", {})
        parts += [_classes(task, tables) for task, tables in classes.items()]
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


def _stages(log: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Yield a table of the stages, with the number of epochs and the best score of each."""
    scores: dict[str, list[float]] = {}
    epochs = Counter[str]()
    for row in log:
        name = str(row.get("name", row["stage"]))
        epochs[name] += row["epoch"] >= 0
        scores.setdefault(name, []).extend([row["score"]] if "score" in row else [])
    if len(scores) > 1:
        rows = "".join(
            f"<tr><td>{html.escape(name)}<td>{epochs[name]}"
            f"<td>{f'{max(values):.4f}' if values else 'none'}"
            for name, values in scores.items()
        )
        yield f"<h2>Stages</h2><table><tr><th>stage<th>epochs<th>best score{rows}</table>"


def _curves(log: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Yield plots over the epochs: losses, rewards, validation scores."""
    names = dict.fromkeys(name for row in log for name in row)
    scores = ("CIDEr-D", "BLEU-4", "exact match")
    for title, endings in (("Loss", "loss"), ("Reward", "reward"), ("Validation", scores)):
        lines = {
            name: [(i + 1, row[name]) for i, row in enumerate(log) if name in row]
            for name in names
            if name.endswith(endings)
        }
        if lines:
            yield f"<h2>{title}</h2>{_plot(lines, epochs=len(log))}"


def _plot(
    lines: Mapping[str, Sequence[tuple[int, float]]], *, epochs: int, unit: str = "epoch {}"
) -> str:
    """Return a line plot as SVG; `unit` labels the end of the x axis."""
    values = [value for points in lines.values() for _, value in points]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0

    def place(epoch: int, value: float) -> str:
        x = 45 + (WIDTH - 60) * (epoch - 1) / max(1, epochs - 1)
        return f"{x:.1f},{HEIGHT - 20 - (HEIGHT - 35) * (value - low) / spread:.1f}"

    parts, legend = [], []
    for color, (name, points) in zip(COLORS * len(lines), lines.items(), strict=False):
        label = html.escape(name)
        path = " ".join(place(*point) for point in points)
        dots = "".join(
            f"<circle cx={x} cy={y} r=2.5 fill='{color}'><title>{label}, epoch {epoch}:"
            f" {value:.4g}</title></circle>"
            for epoch, value in points
            for x, y in [place(epoch, value).split(",")]
        )
        parts.append(f"<polyline points='{path}' fill=none stroke='{color}' />{dots}")
        legend.append(f"<span style='color:{color}'>&#9632;</span> {label}")
    axis = (
        f"<text x=0 y=18 font-size=11 fill=currentColor>{high:.4g}</text>"
        f"<text x=0 y={HEIGHT - 18} font-size=11 fill=currentColor>{low:.4g}</text>"
        f"<text x={WIDTH - 60} y={HEIGHT - 3} font-size=11 fill=currentColor>"
        f"{unit.format(epochs)}</text>"
    )
    size = f"viewBox='0 0 {WIDTH} {HEIGHT}' width={WIDTH} height={HEIGHT}"
    svg = f"<svg {size} role=img aria-label='curves'>{axis}{''.join(parts)}</svg>"
    return f"{svg}<p>{' '.join(legend)}</p>"


def _classes(task: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the classification scores of a task, with the confusion table of all questions."""
    means = "<th>macro P<th>R<th>F1<th>weighted P<th>R<th>F1"
    parts = [f"<tr><th>questions<th>examples<th>classes<th>accuracy{means}"]
    for name, table in tables.items():
        values = [table["accuracy"]]
        for mean in ("macro", "weighted"):
            values += [table[mean][key] for key in ("precision", "recall", "f1")]
        cells = "".join(f"<td>{value:.3f}" for value in values)
        parts.append(
            f"<tr><td>{html.escape(name)}<td>{table['examples']}<td>{table['classes']}{cells}"
        )
    confusion = next(iter(tables.values()))["confusion"]
    names = [html.escape(name) for name in confusion["classes"]]
    rows = "".join(
        f"<tr><th>{name}{''.join(f'<td>{count}' for count in row)}"
        for name, row in zip(names, confusion["counts"], strict=True)
    )
    return (
        f"<h2>Classes of {html.escape(task)}</h2><table>{''.join(parts)}</table>"
        f"<p>Questions by correct class (row) and predicted class (column):</p>"
        f"<table><tr><th>{''.join(f'<th>{name}' for name in names)}{rows}</table>"
    )


def _scores(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Yield the scores with intervals, statistics of words, and galleries of captioned images."""
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
    """Yield lengths and vocabulary of the captions next to those of the references."""
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
    if longest:  # there is nothing to plot if no text has a word
        yield "<p>Share of texts by their number of words:</p>"
        yield _plot(lines, epochs=longest, unit="{} words")


def _figure(row: Mapping[str, Any], cider: float) -> str:
    texts = "<br>".join(map(html.escape, row["references"]))
    return (
        f"<figure>{_image(row['image'])}<figcaption><b>{html.escape(row['caption'])}</b>"
        f"<small>CIDEr-D {cider:.2f}</small><details><summary>references</summary>{texts}</details>"
        "</figcaption></figure>"
    )


def _image(path: str) -> str:
    try:
        return f"<img alt='' src='{make_data_uri(path, SIDE)}'>"
    except ImageError as error:
        return f"<p>{html.escape(str(error))}</p>"
