"""Which checkpoints a stage keeps, which one is its result, and which tasks rank them."""

from __future__ import annotations

import pytest

from captioner.config import SourceConfig, StageConfig
from captioner.data.splits import Task
from captioner.training.run_state import Progress
from captioner.training.stage import ranked_tasks, trained_tasks
from captioner.training.stage_results import AVERAGE, START, record_score


def record(progress: Progress, *scores: float | None, keep: int = 1) -> list[bool]:
    return [record_score(progress, "s", f"{i:04}", x, keep) for i, x in enumerate(scores)]


def test_the_best_checkpoints_are_kept_and_the_best_one_is_the_result():
    progress = Progress()
    assert record(progress, 0.2, 0.5, 0.1, 0.5, 0.3, keep=2) == [True, True, False, False, False]
    assert progress.kept == {"s": {"0001": 0.5, "0003": 0.5}}
    assert progress.results == {"s": "stages/s/0001"}
    assert (progress.best, progress.stale) == (0.5, 3)


def test_snapshots_are_kept_even_if_the_start_is_better():
    progress = Progress(best=0.6, results={"s": "stages/base/0004"})
    assert record(progress, 0.2, 0.5, 0.6, keep=2) == [False] * 3
    assert progress.kept == {"s": {"0001": 0.5, "0002": 0.6}}
    assert progress.results == {"s": "stages/base/0004"}


def test_latest_of_scores_of_zero_is_the_result():
    progress = Progress()
    assert record(progress, 0.0, 0.0, 0.0) == [True] * 3
    assert progress.results == {"s": "stages/s/0002"}
    assert progress.kept == {"s": {"0002": 0.0}}


def test_latest_checkpoint_without_a_score_is_the_result():
    progress = Progress(best=0.0, stale=4)
    assert record(progress, None, None, None, keep=2) == [True] * 3
    assert progress.results == {"s": "stages/s/0002"}
    assert list(progress.kept["s"]) == ["0001", "0002"]
    assert (progress.best, progress.stale) == (float("-inf"), 0)


def test_result_is_always_among_the_kept_checkpoints():
    for scores in ((0, 0, 0.1, 0, 0.1), (0.3, 0, 0.2), (0, 0.2, 0.2, 0)):
        progress = Progress()
        record(progress, *scores)
        (kept,) = progress.kept["s"]
        assert progress.results["s"] == f"stages/s/{kept}"


def test_repeated_epoch_counts_once():
    progress = Progress()
    record(progress, 0.1, 0.2, keep=3)
    record_score(progress, "s", "0001", 0.2, 3)
    assert progress.kept == {"s": {"0000": 0.1, "0001": 0.2}}


@pytest.mark.parametrize("name", [START, AVERAGE])
def test_start_and_average_take_no_place_of_a_snapshot(name):
    progress = Progress()
    assert record_score(progress, "s", name, 0.9, 1)
    record(progress, 0.1)
    assert progress.kept == {"s": {"0000": 0.1}}
    assert progress.results == {"s": f"stages/s/{name}"}


A, B, C = SourceConfig("a"), SourceConfig("b", rank=False), SourceConfig("c", weight=2)
TASKS = [
    Task("a", A, "captions"),
    Task("b", B, "captions"),
    Task("b 2", B, "questions"),
    Task("c", C, "questions"),
]


@pytest.mark.parametrize(
    ("stage", "trained", "ranked"),
    [
        (StageConfig(), [0, 1, 2, 3], [0, 3]),
        (StageConfig(weights=(0, 1, 0.5)), [1, 2, 3], [3]),
        (StageConfig(weights=(0, 1, 0)), [1, 2], [1, 2]),
        (StageConfig(weights=(2, 0, 0)), [0], [0]),
        (StageConfig(parts="question"), [2, 3], [3]),
        (StageConfig(parts="question", weights=(1, 1, 0)), [2], [2]),
    ],
)
def test_score_of_a_stage_is_over_trained_tasks_that_rank(stage, trained, ranked):
    assert trained_tasks(stage, TASKS) == trained
    assert ranked_tasks(stage, TASKS) == ranked
