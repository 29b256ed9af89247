"""The results of the stages of a run: which checkpoints are kept, and which one is the best.

A stage writes its checkpoints, in float32, to `stages/NAME` in the folder of the run. The one with
the best score is its result. If the start of the stage has a score on the same tasks and no
checkpoint is better, the start is the result. Checkpoints are removed only after a state without
them was saved.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint import METRICS
from captioner.checkpoint.resolution import describe_name
from captioner.config.stage_graph import find_size, find_start
from captioner.training import html_report
from captioner.training.public_model import CaptionModel, PublicModel
from captioner.training.run_checkpoints import load_best, publish_checkpoint, save_checkpoint
from captioner.training.run_state import Progress
from captioner.training.stage import ranked_tasks
from captioner.training.validation import Validation

if TYPE_CHECKING:
    from captioner.training.run import Run

STAGES = "stages"
START, AVERAGE = "start", "average"
"""Names of the checkpoints that are not those of an epoch."""


def record_score(progress: Progress, stage: str, name: str, score: float | None, keep: int) -> bool:
    """Record the score of a checkpoint; return whether it is the result of its stage so far.

    The `keep` best checkpoints of epochs are kept. Of equal scores, the earlier one is better. On a
    handful of images, all scores may be 0; then the latest checkpoint is the best one. So it is
    without a score (None), which never ends the stage.
    """
    if name not in (START, AVERAGE):
        scores = progress.kept.get(stage, {}) | {name: score or 0.0}
        order = sorted(scores, key=lambda k: (-scores[k], int(k) if scores[k] else -int(k)))
        progress.kept[stage] = {k: scores[k] for k in sorted(order[:keep])}
    is_better = score is None or score > progress.best
    progress.stale = 0 if is_better else progress.stale + 1
    if is_better or score == progress.best == 0:
        progress.best = float("-inf") if score is None else score
        progress.results[stage] = f"{STAGES}/{stage}/{name}"
        return True
    return False


def save_result(
    run: Run, number: int, name: str, model: CaptionModel, result: Validation, **details: Any
) -> None:
    """Write a validated checkpoint if it is kept, and publish it if it is the result so far.

    Args:
        run: The run.
        number: The stage.
        name: The name of the checkpoint: an epoch, `START` or `AVERAGE`.
        model: The model, with all of its weights.
        result: Its validation.
        details: Further fields of `metrics.json`.
    """
    stage, config = run.names[number], run.settings.stages[number]
    score = result.scores.get("score")
    is_result = record_score(run.progress, stage, name, score, config.snapshots)
    if not run.is_main or not (is_result or name in run.progress.kept.get(stage, ())):
        return
    folder = run.output / STAGES / stage / name
    ranked = [run.tasks[n].name for n in ranked_tasks(config, run.tasks)]
    metrics = {"stage": stage, **details, "ranked": ranked, "val": result.scores}
    metrics |= {"classes": result.classes} if result.classes else {}
    metrics |= {"data": run.provenance} if run.provenance else {}
    if isinstance(model, PublicModel):
        metrics["start"] = describe_name(str(run.settings.start))
    save_checkpoint(folder, run.sized_config, run.tokenizer, model, metrics)
    if is_result:
        publish_checkpoint(folder, run.best)
        if result.captions:
            html_report.replace_rows(run.output / html_report.CAPTIONS, result.captions)


def prune_checkpoints(run: Run, number: int) -> None:
    """Remove the checkpoints of a stage that are neither kept nor its result."""
    stage = run.names[number]
    result = run.output / run.progress.results.get(stage, "")
    for path in (run.output / STAGES / stage).glob("[!.]*/") if run.is_main else ():
        if path != result and path.name not in run.progress.kept.get(stage, ()):
            shutil.rmtree(path)


def begin_from_result(run: Run, number: int) -> None:
    """Load the result of the stage that a stage starts from.

    If it was scored on the same tasks, it is also the result of the new stage until an epoch is
    better.
    """
    start = find_start(run.settings.stages, number)
    assert start is not None
    result = run.progress.results[run.names[start]]
    load_best(run.output / result, run.model)
    run.progress.results[run.names[number]] = result
    score = comparable_score(run, number, run.output / result)
    run.progress.best = float("-inf") if score is None else score


def comparable_score(run: Run, number: int, folder: Path) -> float | None:
    """Return the score of a checkpoint if the tasks that ranked it also rank those of a stage.

    It is None if none of them is validated.
    """
    metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    ranked = [run.tasks[n].name for n in ranked_tasks(run.settings.stages[number], run.tasks)]
    score: float | None = metrics["val"].get("score")
    return score if metrics.get("ranked") == ranked else None


def stage_size(run: Run, number: int) -> int | None:
    """Return the image size of a stage; None for a model of recordings only."""
    return find_size(run.settings.stages, number, run.config.image.size)
