"""The end of a run: publish the result of the last stage as the best checkpoint.

Each step can be repeated, so that an interrupted end is resumed from its beginning.
"""

from __future__ import annotations

import logging
from pathlib import Path

from captioner import checkpoint
from captioner.data.report import UNREADABLE_IMAGE
from captioner.errors import DataError
from captioner.evaluation.confidence_fit import calibrate_checkpoint
from captioner.evaluation.predictions import PredictionOptions
from captioner.evaluation.tables import format_figures
from captioner.evaluation.tasks import read_held_out
from captioner.predict import load
from captioner.training import html_report
from captioner.training.calibrate import fit_answer_temperature
from captioner.training.kind_fitting import fit_kind_head
from captioner.training.public_model import PublicModel
from captioner.training.run import Run, set_size
from captioner.training.run_checkpoints import image_size, load_best, publish_checkpoint
from captioner.training.stage import trained_tasks
from captioner.training.validation import Validation, describe_scores, validate

logger = logging.getLogger(__name__)


def finish_run(run: Run) -> dict[str, float]:
    """Publish the result of the last stage, calibrate it, and write its graphs and the report.

    All ranks must call this.

    Returns:
        The validation scores of the result.
    """
    result = run.output / run.progress.results[run.names[-1]]
    set_size(run, image_size(result))
    run.val_set.features = None  # those of the last stage may be of another backbone
    rest = validate_rest(run, result)
    if run.is_main:
        publish_checkpoint(result, run.best, rest.scores, rest.classes)
        load_best(run.best, run.model)
        calibrate(run)
        if run.settings.kinds:
            fit_kind_head(run)
        export_best(run)
    if unreadable := run.report.problems.get(UNREADABLE_IMAGE):
        logger.info(f"{UNREADABLE_IMAGE}: {unreadable}")  # the rest was reported before training
    if run.is_main:
        logger.info(f"report: {html_report.write_report(run.output)}")
    run.accelerator.end_training()
    # Not from `run.best`, which the main process may still be writing.
    scores = rest.scores | checkpoint.best_scores(result)
    best = f"best validation score {scores['score']:.4f}; " if "score" in scores else ""
    logger.info(f"{best}checkpoint in {run.best}")
    return scores


def validate_rest(run: Run, result: Path) -> Validation:
    """Score the result on the captions and answers that the last stage has not scored.

    All ranks must call this. If any captions are left, all are scored, because they replace those
    in the report. So are all tasks if the result is the start of the last stage.
    """
    stage, tasks = run.settings.stages[-1], run.tasks
    left = {n for n, task in enumerate(tasks) if task.kind != "tags"}
    if result.parent.name == run.names[-1]:
        left -= set(trained_tasks(stage, tasks))
    if any(tasks[n].kind == "captions" for n in left):
        left |= {n for n, task in enumerate(tasks) if task.kind == "captions"}
    if not left:
        return Validation()
    load_best(result, run.model)
    validation = validate(run.model, run, stage, sorted(left))
    validation.scores.pop("score", None)
    if run.is_main and validation.captions:
        html_report.replace_rows(run.output / html_report.CAPTIONS, validation.captions)
    logger.info(f"result of the run: {describe_scores(validation.scores)}")
    return validation


def calibrate(run: Run) -> None:
    """Fit `answers.temperature` and `confidence` on held-out rows for the best checkpoint.

    Confidences are fitted on all rows of the data sets that are validated. A transformers folder
    has no place for either.
    """
    if isinstance(run.model, PublicModel):
        return
    if run.config.model.question:
        model = run.model.to(run.accelerator.device)
        temperature = fit_answer_temperature(model, run.val_set, run.tasks, run.accelerator)
        if temperature:
            checkpoint.set_temperature(run.best, temperature)
            logger.info(f"answers.temperature {temperature:.3f}")
    numbered = enumerate(run.tasks)
    validated = {task.name for n, task in numbered if run.val_set.select_images(n)}
    captioner = load(run.best, backend="torch", device=run.accelerator.device)
    options = PredictionOptions(str(run.best), write_row=lambda _: None, notify=logger.info)
    try:
        held_out, _ = read_held_out(run.config)
        tasks = [task for task in held_out if task.name in validated]
        figures = calibrate_checkpoint(run.best, captioner, tasks, options)
    except DataError as error:
        logger.info(f"confidences are not calibrated: {error}")
        return
    for line in format_figures(figures):
        logger.info(line)


def export_best(run: Run) -> None:
    """Write the ONNX graphs of the best checkpoint if `train.export` asks for them."""
    if run.settings.export != "none":
        # Imported here because the packages are needed for this only.
        from captioner.export.onnx_graphs import export_graphs

        paths = export_graphs(run.best, dtype=run.settings.export)
        logger.info(f"graphs: {', '.join(path.name for path in paths)}")
