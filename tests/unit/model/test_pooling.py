"""Test that pooled states depend on nodes only, in any order, and equal torch_geometric's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.pooling import AttentionPool, MaxPool, MeanPool

WIDTH, LENGTHS = 6, (5, 1, 3)
POOLS: dict[str, Callable[[], nn.Module]] = {
    "mean": MeanPool,
    "max": MaxPool,
    "attention": lambda: AttentionPool(WIDTH),
}
every_pool = pytest.mark.parametrize("name", POOLS)


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return POOLS[name]().double()


def make_nodes() -> tuple[Tensor, Tensor]:
    """Return node states and their mask; all states are negative, so that a zero would show."""
    torch.manual_seed(1)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return -1 - torch.rand(*mask.shape, WIDTH, dtype=torch.float64), mask


@pytest.mark.slow
@every_pool
def test_pooled_states_equal_those_of_torch_geometric(name: str) -> None:
    aggregation = pytest.importorskip("torch_geometric.nn.aggr")
    pool, (x, mask) = make(name), make_nodes()
    if name == "attention":
        theirs = aggregation.AttentionalAggregation(pool.score, pool.projection)
    else:
        theirs = {"mean": aggregation.MeanAggregation, "max": aggregation.MaxAggregation}[name]()
    graph = torch.arange(len(x)).repeat_interleave(torch.tensor(LENGTHS))
    torch.testing.assert_close(pool(x, mask), theirs(x[mask], graph))


@every_pool
def test_padding_does_not_change_pooled_states(name: str) -> None:
    pool, (x, mask) = make(name), make_nodes()
    before = pool(x, mask)
    other = torch.where(mask[..., None], x, torch.randn_like(x))
    torch.testing.assert_close(
        pool(F.pad(other, (0, 0, 0, 2), value=9), F.pad(mask, (0, 2))), before
    )
    for one, n, pooled in zip(x, LENGTHS, before, strict=True):
        torch.testing.assert_close(pool(one[None, :n]), pooled[None])


@every_pool
def test_nodes_may_have_any_order(name: str) -> None:
    pool, (x, mask) = make(name), make_nodes()
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(pool(x[:, order], mask[:, order]), pool(x, mask))


@every_pool
def test_gradients_reach_nodes_and_no_padding(name: str) -> None:
    pool, (x, mask) = make(name), make_nodes()
    x.requires_grad_()
    pooled = pool(x, mask)
    (pooled * torch.randn_like(pooled)).sum().backward()
    assert (x.grad[~mask] == 0).all()
    if name != "max":
        assert (x.grad[mask].abs().amax(-1) > 0).all()
    for key, parameter in pool.named_parameters():
        if key != "score.bias":  # the softmax cancels it
            assert parameter.grad.abs().max() > 0, key


@every_pool
def test_half_precision_is_kept(name: str) -> None:
    pool, (x, mask) = make(name), make_nodes()
    half = pool.bfloat16()(x.bfloat16(), mask)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), make(name)(x, mask), rtol=0.02, atol=0.02)
