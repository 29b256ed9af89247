"""The model card of a run, README.md in the folder of its best checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint import METRICS
from captioner.checkpoint.hub_names import parse_hub_name
from captioner.files import replace_file
from captioner.training.public_model import PublicModel

if TYPE_CHECKING:
    from captioner.training.run import Run

CARD = "README.md"


def write_card(run: Run) -> None:
    """Write the card of a transformers model, or of one that learned the captions of a model."""
    is_public = isinstance(run.model, PublicModel)
    if not (is_public or run.provenance):
        return
    metrics = json.loads((run.best / METRICS).read_text(encoding="utf-8"))
    lines = [*_front_matter(run, is_public), *_describe(run, metrics)]
    replace_file(run.best / CARD, ("\n".join(lines) + "\n").encode())


def describe_origin(record: Mapping[str, Any]) -> str:
    """Return a line on a file of captions that a model wrote."""
    names = {
        model["name"] + (f"@{model['revision']}" if model.get("revision") else "")
        for origin in record["origins"]
        for model in origin.get("checkpoint", ())
    }
    options = {k: v for k, v in record["options"].items() if k != "checkpoint"}
    settings = ", ".join(f"{key} {value}" for key, value in options.items())
    return f"{record['file']}: {', '.join(sorted(names)) or 'unknown model'} ({settings})"


def _front_matter(run: Run, is_public: bool) -> Iterator[str]:
    hub = parse_hub_name(run.settings.start or "")
    yield "---"
    yield f"library_name: {'transformers' if is_public else 'captioner'}"
    yield "pipeline_tag: image-to-text"
    if hub:
        yield f"base_model: {hub.repository}"
    yield "---"


def _describe(run: Run, metrics: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {Path(run.settings.output).name}"
    yield ""
    if run.settings.start:
        yield f"Fine-tuned with captioner from `{run.settings.start}`."
        yield ""
    yield "## Data"
    yield ""
    for task in run.tasks:
        yield f"- {task.name} ({task.kind})"
    for record in run.provenance:
        yield f"- Captions written by a model: {describe_origin(record)}"
    yield ""
    yield "## Validation scores"
    yield ""
    yield "| score | value |"
    yield "|---|---|"
    for name, value in metrics["val"].items():
        yield f"| {name} | {value:.4f} |"
