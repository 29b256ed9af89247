"""Weights of rows across accumulated batches and ranks."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from drawn_images import Table

from captioner.data.collate import collate
from captioner.data.dataset import Sample
from captioner.tokenizer import PAD
from captioner.training.accumulation import (
    Microbatch,
    has_weights,
    share_steps,
    shares_of,
    weight_sums,
)


def part_of(number: int, *weights: float, counts: bool = True) -> Microbatch:
    """Return a batch of captions of two tokens."""
    samples = [Sample(i, torch.zeros(1), [[5, 3]], weights=[w]) for i, w in enumerate(weights)]
    return Microbatch(number, collate(samples), counts)


def test_shares_of_a_step_have_the_mean_1():
    shares = shares_of(torch.tensor([[1.0, 10], [6, 20], [2, 10]]))
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.3, 0.2]) / 0.2)


def test_single_rows_count_by_their_weight():
    """Without shares, each batch of one row would count the same."""
    weights = [0.25, 1.0, 3.0]
    sums = torch.stack([weight_sums(part_of(0, weight)) for weight in weights])
    # loss / sum of weights * share / batches = loss / sum of all weights
    factors = [
        weight / total * share / 3
        for weight, (total, _), share in zip(weights, sums, shares_of(sums), strict=True)
    ]
    expected = [weight / (2 * sum(weights)) for weight in weights]
    torch.testing.assert_close(torch.stack(factors), torch.tensor(expected))


def test_unreadable_batch_of_a_rank_has_no_weight():
    assert weight_sums(part_of(0, 1.0, 2.0, counts=False)).tolist() == [0, 0]
    assert weight_sums(part_of(0, 1.0, 2.0)).tolist() == [6, 4]


def test_steps_are_grouped_in_order(fresh_accelerate):
    parts = [part_of(i, w) for i, w in enumerate((1.0, 3.0, 2.0))]
    found = list(share_steps(parts, Accelerator(cpu=True), size=2, pad=PAD))
    assert [part.number for part in found] == [0, 1, 2]
    assert [part.share.item() for part in found] == [0.5, 1.5, 1]


def test_tables_with_and_without_weights():
    for weights, expected in (([], False), ([2.0], True)):
        table = Table([{"weights": []}, {"weights": weights}])
        assert has_weights(table) is expected
