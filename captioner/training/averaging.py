"""The greedy soup: an average of checkpoints of earlier stages, from which a stage starts.

The checkpoints are sorted by their validation score. Starting with the best, each is added to the
average if that does not lower the score (Wortsman et al., Model soups, ICML 2022, recipe 1). A
second pass over all of them lets a good checkpoint count twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from captioner.checkpoint import WEIGHTS
from captioner.checkpoint.weights import load_weights
from captioner.config import to_dict
from captioner.files import file_digest, replace_file
from captioner.training import html_report
from captioner.training.public_model import PublicModel
from captioner.training.run import Run
from captioner.training.run_checkpoints import image_size, load_average
from captioner.training.signals import Stopped
from captioner.training.stage import start_stage
from captioner.training.stage_results import (
    AVERAGE,
    STAGES,
    comparable_score,
    save_result,
)
from captioner.training.stage_setup import cache_features
from captioner.training.validation import Validation, validate

logger = logging.getLogger(__name__)
EVALUATIONS = "evaluations.json"
"""Name of the file with the scores of averages, in the folder of the stage."""
Names = tuple[str, ...]
"""The names of the checkpoints of an average, sorted; each is a folder in that of the run."""


def greedy_soup(scores: dict[str, float], evaluate: Callable[[Names], float]) -> Names:
    """Return the checkpoints to average; one may be repeated.

    Args:
        scores: The validation score of each checkpoint.
        evaluate: Returns the score of an average.
    """
    first, *others = sorted(scores, key=lambda name: (-scores[name], name))
    chosen: Names = (first,)
    best = scores[first]
    for name in (*others, first, *others):
        trial = tuple(sorted((*chosen, name)))
        if len(set(trial)) == 1:
            continue  # the average of a checkpoint with itself
        score = evaluate(trial)
        if score >= best:
            chosen, best = trial, score
    return chosen


class Evaluations:
    """Scores of averages in a file, so that a resumed run does not compute them again.

    Args:
        path: The file.
        digest: Identifies the checkpoints and settings; scores of another digest are ignored.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self._path, self._digest = path, digest
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            record = {}
        self.scores: dict[str, float] = record["scores"] if record.get("of") == digest else {}

    def add(self, key: str, score: float, *, write: bool) -> None:
        """Add a score; with `write`, write the file."""
        self.scores[key] = score
        if write:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"of": self._digest, "scores": self.scores}, indent=2) + "\n"
            replace_file(self._path, text.encode())


def average_stages(run: Run, number: int) -> None:
    """Load the greedy soup of earlier stages into the model; it is the stage's result so far.

    All ranks must call this.

    Raises:
        Stopped: A signal was received. The scores so far are kept.
    """
    stage, progress = run.settings.stages[number], run.progress
    names = list_candidates(run, stage.average)
    start_stage(stage, run.config, run.model, run.train_set, run.val_set)
    share_features(run, number, names)
    path = run.output / STAGES / run.names[number] / EVALUATIONS
    evaluations = Evaluations(path, _digest(run, number, names))
    run.accelerator.wait_for_everyone()  # before one of the ranks writes to the file

    def evaluate(some: Names) -> float:
        key = " + ".join(some)
        if key not in evaluations.scores:
            if stop := run.stop_signal():
                kept = "the evaluated averages are kept; --resume continues after them"
                raise Stopped(stop, kept)
            # Without a score, all averages are equal, and so all checkpoints are averaged.
            score = _validate_average(run, number, some).scores.get("score", 0.0)
            evaluations.add(key, score, write=run.is_main)
            logger.info(f"stage {run.names[number]}: {key}: score {score:.4f}")
        return evaluations.scores[key]

    chosen = greedy_soup({n: _score_alone(run, number, n, evaluate) for n in names}, evaluate)
    result = _validate_average(run, number, chosen)
    progress.best, progress.stale = float("-inf"), 0
    save_result(run, number, AVERAGE, run.model, result, average=list(chosen))
    run.val_set.features = None
    score = result.scores.get("score", 0.0)
    logger.info(f"stage {run.names[number]}: average of {', '.join(chosen)}: score {score:.4f}")
    row = {"stage": number, "name": run.names[number], "epoch": -1} | result.scores
    if run.is_main:
        html_report.log_row(run.output / html_report.LOG, row)


def list_candidates(run: Run, stages: Sequence[str]) -> list[str]:
    """Return the folders of the checkpoints to average, relative to the folder of the run.

    They are the kept checkpoints of each stage and its result, which may be its start.
    """
    names: list[str] = []
    for stage in stages:
        names += [f"{STAGES}/{stage}/{name}" for name in run.progress.kept.get(stage, ())]
        names.append(run.progress.results[stage])
    return list(dict.fromkeys(names))


def _score_alone(run: Run, number: int, name: str, evaluate: Callable[[Names], float]) -> float:
    """Return the score of a single checkpoint: that of its own stage if it is comparable."""
    folder = run.output / name
    score = comparable_score(run, number, folder)
    same_size = image_size(folder) == run.sized_config.image.size
    return score if score is not None and same_size else evaluate((name,))


def _validate_average(run: Run, number: int, names: Names) -> Validation:
    load_average([run.output / name for name in names], run.model)
    return validate(run.model, run, run.settings.stages[number])


def share_features(run: Run, number: int, names: Sequence[str]) -> None:
    """Cache the features of the validation images if all checkpoints have the same backbone.

    The features of a model with two encoders are not cached, nor those of a transformers model.
    """
    if isinstance(run.model, PublicModel) or run.model.audio is not None:
        return
    states = (load_weights(run.output / name / WEIGHTS) for name in names)
    first, *others = ({k: v for k, v in s.items() if k.startswith("backbone.")} for s in states)
    if others and all(torch.equal(first[k], other[k]) for other in others for k in first):
        load_average([run.output / names[0]], run.model)
        cache_features(run, number, run.val_set, 1)


def _digest(run: Run, number: int, names: Sequence[str]) -> str:
    """Return a digest of what the scores of averages depend on."""
    config = to_dict(run.sized_config)
    settings = [config["decoding"], config["answers"], config["image"], config["data"], run.data]
    settings += [config["audio"]] if run.config.model.audio else []
    weights = [file_digest(run.output / name / WEIGHTS) for name in names]
    stage = to_dict(run.settings.stages[number])
    return hashlib.sha256(repr((settings, weights, stage)).encode()).hexdigest()
