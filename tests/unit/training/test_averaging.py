"""The greedy soup on scores that are known, and its cached evaluations."""

from __future__ import annotations

import json
from types import SimpleNamespace

import torch
from torch import nn

from captioner.checkpoint.weights import load_average, save_tensors
from captioner.training.averaging import Evaluations, greedy_soup, list_candidates
from captioner.training.run_state import Progress

POINTS = {"a": 1.0, "b": -0.8, "c": 3.0, "d": 0.9}


def score(names: tuple[str, ...]) -> float:
    """Return the score of an average of points: the closer it is to 0, the better."""
    return -abs(sum(POINTS[name] for name in names) / len(names))


def test_greedy_soup_adds_what_does_not_lower_the_score():
    tried = []

    def evaluate(names):
        tried.append(names)
        return score(names)

    chosen = greedy_soup({name: score((name,)) for name in POINTS}, evaluate)
    # b; with d it is 0.05, with a too 0.37: a is rejected. In the second pass, b is added again
    # only if -0.7 / 3 is better, which it is not.
    assert chosen == ("b", "d")
    assert tried == [("b", "d"), ("a", "b", "d"), ("b", "c", "d"), ("b", "b", "d"), ("b", "d", "d"),
                     ("a", "b", "d"), ("b", "c", "d")]  # fmt: skip


def test_second_pass_adds_a_checkpoint_again():
    points = {"x": 1.0, "y": -2.0}
    result = greedy_soup(
        {name: -abs(p) for name, p in points.items()},
        lambda names: -abs(sum(points[n] for n in names) / len(names)),
    )
    assert result == ("x", "x", "y")


def test_equal_scores_do_not_stop_the_soup():
    assert greedy_soup({"b": 0.5, "a": 0.5}, lambda names: 0.5) == ("a", "a", "b", "b")


def test_single_checkpoint_is_its_own_soup():
    def evaluate(names):
        raise AssertionError(f"{names} needs no evaluation")

    assert greedy_soup({"a": 0.1}, evaluate) == ("a",)


def test_candidates_are_the_kept_checkpoints_and_the_results_of_the_stages():
    results = {"a": "stages/a/0001", "b": "stages/b/average", "c": "stages/b/average"}
    kept = {"a": {"0000": 0.2, "0001": 0.4}, "b": {"0002": 0.1}}
    run = SimpleNamespace(progress=Progress(results=results, kept=kept))
    assert list_candidates(run, ["a", "b"]) == [
        *("stages/a/0000", "stages/a/0001", "stages/b/0002", "stages/b/average"),
    ]
    assert list_candidates(run, ["b", "c"]) == ["stages/b/0002", "stages/b/average"]


def test_evaluations_are_read_again_for_the_same_checkpoints_only(tmp_path):
    path = tmp_path / "stages" / "soup" / "evaluations.json"
    some = Evaluations(path, "one")
    some.add("a + b", 0.1 + 0.2, write=True)
    some.add("a + c", 0.4, write=False)
    assert Evaluations(path, "one").scores == {"a + b": 0.1 + 0.2}
    assert Evaluations(path, "two").scores == {}
    path.write_text(json.dumps({"of": "one"})[:-3])
    assert Evaluations(path, "one").scores == {}


class Positions(nn.Module):
    def __init__(self, positions: int) -> None:
        super().__init__()
        self.memory_encoder = nn.Module()
        self.memory_encoder.positions = nn.Parameter(torch.zeros(positions, 2))
        self.frozen = nn.Parameter(torch.zeros(1000))


def test_average_interpolates_positions_and_keeps_equal_tensors_exactly(tmp_path):
    frozen = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    folders = []
    for positions, value in ((4, 1.0), (9, 2.0), (4, 6.0)):
        folder = tmp_path / str(len(folders))
        folder.mkdir()
        grid = torch.full((positions, 2), value)
        save_tensors(
            {"memory_encoder.positions": grid, "frozen": frozen}, folder / "model.safetensors"
        )
        folders.append(folder)
    model = Positions(9)
    load_average(folders, model)
    torch.testing.assert_close(model.memory_encoder.positions.data, torch.full((9, 2), 3.0))
    assert torch.equal(model.frozen, frozen)
