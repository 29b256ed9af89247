"""Score captions and answers: `captioner score CANDIDATES --references PATH`."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from captioner.cli.process import notify, run_command
from captioner.cli.score_args import ScoreOptions, is_checkpoint, parse
from captioner.errors import CaptionerError, DataError
from captioner.files import format_json

if TYPE_CHECKING:
    from captioner.config import Config
    from captioner.evaluation.class_tables import Labels
    from captioner.evaluation.predictions import PredictionOptions
    from captioner.evaluation.tasks import EvaluationTask
    from captioner.predict import Captioner


def main(argv: list[str] | None = None, *, prog: str = "score.py") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def run(options: ScoreOptions) -> int:
    """Score, and print the scores; return the exit status."""
    if options.compared is not None:
        return _compare(options, *options.compared)
    if options.calibrate:
        return _calibrate(options)
    if options.candidates is not None:
        scores, complete = {"": _score_file(options, options.candidates)}, True
    else:
        scores, complete = _score_checkpoint(options)
    several = len(scores) > 1
    for name, result in scores.items():
        for warning in result.get("warnings", ()):
            notify(f"{name}: {warning}" if several else warning)
    if options.json:
        named = options.held_out or several
        print(format_json(scores if named else next(iter(scores.values())), ensure_ascii=True))
        return 0 if complete else 3
    for i, (name, result) in enumerate(scores.items()):
        if several:
            print("\n" * bool(i) + f"{name}:")
        _print_scores(result)
    return 0 if complete else 3


def _print_scores(scores: dict[str, Any]) -> None:
    """Print the scores of one task as a table."""
    from captioner.evaluation.tables import format_caption_scores, format_table

    if "scores" in scores:
        print(*format_table(scores), sep="\n")
        notify(f"{scores['questions']} questions about {scores['images']} images")
    elif "references" in scores:
        print(*format_caption_scores(scores), sep="\n")
        notify(f"{scores['images']} images, {scores['references']} references")


def _score_file(options: ScoreOptions, candidates: str) -> dict[str, Any]:
    """Return the scores of a file of captions or answers."""
    from captioner.evaluation.candidate_files import read_candidates
    from captioner.evaluation.scoring import score_candidates

    # Read before the data set, which may be large, to report an error in the file at once.
    rows = list(read_candidates(candidates))
    tasks, references = _read_tasks(options), options.references
    return score_candidates(
        rows,
        tasks,
        source=candidates,
        references=references,
        notify=notify,
        labels=_read_labels(options),
        seed=options.seed,
    )


def _compare(options: ScoreOptions, first: str, second: str) -> int:
    """Print the differences between two systems; return the exit status."""
    from captioner.evaluation.scoring import compare_captions, few_images_warnings

    open_images = is_checkpoint(first) or is_checkpoint(second)
    tasks = _read_tasks(options, open_images=open_images)
    task = next((task for task in tasks if not task.has_questions), None)
    if task is None:
        raise DataError(f"{options.references}: has no captions, which compare needs")
    a, b = (_read_captions(system, task, options) for system in (first, second))
    rows = [row for row in task.rows if row.image_id in a and row.image_id in b]
    differences = compare_captions(a, b, rows, seed=options.seed)
    warnings = few_images_warnings(len(rows))
    for warning in warnings:
        notify(warning)
    if options.json:
        print(format_json(differences | ({"warnings": warnings} if warnings else {})))
    else:
        _print_differences(differences)
        notify(f"{len(rows)} images")
    return 0 if len(rows) == len(task.rows) else 3


def _print_differences(differences: dict[str, dict[str, float]]) -> None:
    """Print the scores of two systems and their differences as a table."""
    print(f"{'x 100':<10} {'A':>6} {'B':>6} {'B - A':>6} {'95 % interval':>16} {'p':>7}")
    for name, row in differences.items():
        a, b, delta, low, high = (100 * row[k] for k in ("A", "B", "difference", "low", "high"))
        interval = f"{low:+.1f} to {high:+.1f}"
        print(f"{name:<10} {a:6.1f} {b:6.1f} {delta:+6.1f} {interval:>16} {row['p']:7.4f}")


def _read_captions(system: str, task: EvaluationTask, options: ScoreOptions) -> dict[str, str]:
    """Return captions by image id, from a file or by a checkpoint."""
    from captioner.evaluation.candidate_files import are_answers, read_candidates
    from captioner.evaluation.candidates import match_captions
    from captioner.evaluation.scoring import caption_task

    if is_checkpoint(system):
        captioner = _load(system, options)
        results = caption_task(captioner, task, _prediction_options(options, task, None))
        return {name: result.text for name, result in results.items()}
    rows = list(read_candidates(system))
    if are_answers(rows):
        raise DataError(f"{system}: holds answers; compare needs captions")
    return match_captions(rows, task.rows, source=system)


def _score_checkpoint(options: ScoreOptions) -> tuple[dict[str, Any], bool]:
    """Return the scores by task, and True if no row was left out."""
    from captioner.checkpoint import pin_checkpoint
    from captioner.evaluation.tasks import check_blind, checkpoint_config

    options = replace(options, checkpoint=pin_checkpoint(options.checkpoint))
    config = checkpoint_config(options.checkpoint, options.overrides)
    if options.blind:
        check_blind(options.blind, config, held_out=options.held_out)
    tasks = _read_tasks(options, config, open_images=True)
    has_questions = any(task.has_questions for task in tasks)
    if options.blind and not has_questions:
        raise CaptionerError("--blind is a baseline for answers, but the data has no questions")
    labels = _read_labels(options)
    if labels and all(task.has_questions for task in tasks):
        raise CaptionerError("--labels are named by captions, but the data has none")
    if has_questions and len(tasks) > 1 and options.writes_vqa_results:
        problem = "the data has captions too; give a .jsonl file"
        raise CaptionerError(f"--output {options.output}: {problem}")
    captioner = _load(options.checkpoint, options)
    blind = _load(options.blind, options) if options.blind else None
    scores, complete = {}, True
    with _open_output(options.output) as file:
        for task in tasks:
            if task.has_questions:
                result = _score_answers(task, captioner, options, file, blind=blind)
            else:
                result = _score_captions(task, captioner, options, file, labels=labels)
            scores[task.name], all_scored = result
            complete = complete and all_scored
    return scores, complete


def _calibrate(options: ScoreOptions) -> int:
    """Fit the confidences of a checkpoint on held-out rows and store them; print their errors."""
    from captioner.checkpoint import resolve_writable_checkpoint
    from captioner.evaluation.confidence_fit import calibrate_checkpoint
    from captioner.evaluation.tables import format_figures
    from captioner.evaluation.tasks import checkpoint_config

    folder = resolve_writable_checkpoint(options.checkpoint, "--calibrate")
    config = checkpoint_config(options.checkpoint, options.overrides)
    tasks = _read_tasks(options, config, open_images=True)
    captioner = _load(options.checkpoint, options)
    prediction = _prediction_options(options, tasks[0], None)
    figures = calibrate_checkpoint(folder, captioner, tasks, prediction)
    if options.json:
        print(format_json(figures))
    else:
        for line in format_figures(figures):
            print(line)
    notify(f"{folder}: the coefficients are in its configuration, in the section confidence")
    return 0


def _score_captions(
    task: EvaluationTask,
    captioner: Captioner,
    options: ScoreOptions,
    file: TextIO | None,
    *,
    labels: Labels | None,
) -> tuple[dict[str, Any], bool]:
    """Caption the images; return the scores, and whether no image was left out."""
    from captioner.evaluation.scoring import (
        caption_task,
        measure_caption_calibration,
        score_image_captions,
    )

    results = caption_task(captioner, task, _prediction_options(options, task, file))
    rows = [row for row in task.rows if row.image_id in results]
    captions = {row.image_id: results[row.image_id].text for row in rows}
    scores = score_image_captions(captions, rows, labels=labels, seed=options.seed)
    if calibration := measure_caption_calibration(results, rows):
        scores["calibration"] = calibration
    return scores, len(rows) == len(task.rows)


def _score_answers(
    task: EvaluationTask,
    captioner: Captioner,
    options: ScoreOptions,
    file: TextIO | None,
    *,
    blind: Captioner | None,
) -> tuple[dict[str, Any], bool]:
    """Answer the questions; return the scores, and whether no question was left out."""
    from captioner.evaluation.scoring import answer_task, score_question_answers
    from captioner.evaluation.vqa_results import write_vqa_results

    if not options.output and not any(row.references for row in task.rows):
        name = options.references or task.name
        hint = "give --output to keep the answers of the checkpoint"
        raise DataError(f"{name}: none of its questions has a reference answer; {hint}")
    as_jsonl = None if options.writes_vqa_results else file
    prediction = _prediction_options(options, task, as_jsonl)
    answers, confidences = answer_task(captioner, task, prediction)
    if options.output and options.writes_vqa_results:
        write_vqa_results(options.output, answers)
    table = score_question_answers(captioner, task, answers, confidences, prediction, blind=blind)
    return table, len(confidences) == len(task.rows)


def _read_labels(options: ScoreOptions) -> dict[str, list[str]] | None:
    """Return the other names of each label; None without labels."""
    from captioner.cli.question_file import read_allowed_answers
    from captioner.evaluation.class_tables import parse_labels

    texts = read_allowed_answers(options.labels)
    return None if texts is None else parse_labels(texts)


def _load(checkpoint: str, options: ScoreOptions) -> Captioner:
    from captioner.predict import load

    return load(
        checkpoint,
        backend=options.backend,
        device=options.device,
        dtype=options.dtype,
        tta=options.tta,
    )


def _prediction_options(
    options: ScoreOptions, task: EvaluationTask, file: TextIO | None
) -> PredictionOptions:
    """Return how the texts of a task are predicted, and written to a file, if any."""
    from captioner.evaluation.predictions import PredictionOptions

    return PredictionOptions(
        source=options.references or task.name,
        write_row=partial(_write_row, file=file, task=task.name if options.held_out else None),
        notify=notify,
        batch_size=options.batch_size,
        beam_size=options.beam_size,
        seed=options.seed,
    )


def _read_tasks(
    options: ScoreOptions, config: Config | None = None, *, open_images: bool = False
) -> list[EvaluationTask]:
    """Return the rows to score, and report the problems of the data.

    With `held_out` they are the validation rows of `config`, otherwise those of the references.
    With `open_images`, rows without an image file are left out.
    """
    from captioner.evaluation.tasks import read_held_out, read_tasks

    if options.held_out and config is not None:
        tasks, report = read_held_out(config, only=options.only)
    else:
        tasks, report = read_tasks(
            options.references,
            format=options.format,
            splits=options.splits,
            images=options.images,
            questions=options.questions,
            seed=options.seed,
            open_images=open_images,
        )
    for line in report.summary().splitlines():
        notify(line)
    return tasks


def _write_row(row: dict[str, Any], *, file: TextIO | None, task: str | None) -> None:
    """Write a row as JSON, with the name of its task if there may be several."""
    if file:
        print(format_json({"task": task} | row if task else row), file=file)
        file.flush()


def _open_output(path: str | None) -> AbstractContextManager[TextIO | None]:
    """Open the file of predictions, if any; raise CaptionerError if it cannot be written."""
    try:
        return open(path, "w", encoding="utf-8") if path else contextlib.nullcontext()
    except OSError as error:
        raise CaptionerError(f"{path}: cannot be written: {error.strerror}") from None
