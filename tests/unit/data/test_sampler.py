"""Batches of an epoch: sources, weights, ranks and seeds."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.data.dataset import Key
from captioner.data.sampler import EpochBatches

SIZES = {
    "length": st.integers(0, 60),
    "batch_size": st.integers(1, 7),
    "world": st.integers(1, 5),
    "seed": st.integers(0, 5),
    "epoch": st.integers(0, 5),
}


def list_steps(length, batch_size, *, seed, epoch, rank=0, world=1) -> list[list[Key]]:
    batches = EpochBatches([range(length)], batch_size, seed=seed, rank=rank, world=world)
    batches.epoch = epoch
    found = list(batches)
    assert len(found) == len(batches)
    return found


@given(**SIZES)
def test_epoch_has_each_image_once(length, batch_size, world, seed, epoch):
    del world
    found = [key for step in list_steps(length, batch_size, seed=seed, epoch=epoch) for key in step]
    assert sorted(found) == [Key(epoch, i, 0) for i in range(length)]


@given(**SIZES)
def test_ranks_share_steps_of_a_single_rank(length, batch_size, world, seed, epoch):
    alone = list_steps(length, batch_size * world, seed=seed, epoch=epoch)
    shares = [
        list_steps(length, batch_size, seed=seed, epoch=epoch, rank=rank, world=world)
        for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    # Only a step with fewer images than ranks is left out.
    assert len(alone) - len(shares[0]) in (0, 1)
    left_out = [key for step in alone[len(shares[0]) :] for key in step]
    assert len(left_out) < world
    for i, step in enumerate(zip(*shares, strict=True)):
        assert all(1 <= len(share) <= batch_size for share in step)
        together = [key for share in step for key in share]
        assert len(together) == len(set(together))
        assert set(together) == set(alone[i])


MIXED = (range(10), range(5, 17), range(3, 11), ())


WEIGHTS = (0.5, 1, 2.5, 3)


def list_mixed_steps(
    batch_size: int, *, epoch: int = 0, seed: int = 0, **kwargs
) -> list[list[Key]]:
    batches = EpochBatches(MIXED, batch_size, weights=WEIGHTS, seed=seed, **kwargs)
    batches.epoch = epoch
    found = list(batches)
    assert len(found) == len(batches)
    return found


@pytest.mark.parametrize("epoch", range(4))
def test_source_is_repeated_by_its_weight(epoch):
    found = list_mixed_steps(3, epoch=epoch)
    assert all(len({key.source for key in step}) == 1 for step in found)
    keys = [key for step in found for key in step]
    assert Counter(key.source for key in keys) == {0: 5, 1: 12, 2: 20}
    images = [Counter(key.image for key in keys if key.source == s) for s in range(3)]
    assert set(images[0].values()) == {1}
    assert images[0].keys() <= set(MIXED[0])
    assert images[1] == Counter(MIXED[1])
    assert images[2].keys() == set(MIXED[2])
    assert Counter(images[2].values()) == {2: 4, 3: 4}  # two passes and a half
    # Repeated images have different keys, and so other texts and crops.
    assert len(set(keys)) == len(keys)


def test_no_key_is_repeated_in_a_run():
    keys = [key for epoch in range(6) for step in list_mixed_steps(3, epoch=epoch) for key in step]
    assert len(set(keys)) == len(keys)


def test_half_passes_differ_between_epochs():
    halves = {
        frozenset(
            key.image for step in list_mixed_steps(3, epoch=e) for key in step if key.source == 0
        )
        for e in range(6)
    }
    assert len(halves) > 1


def test_steps_of_sources_are_mixed():
    orders = [[step[0].source for step in list_mixed_steps(2, epoch=epoch)] for epoch in range(4)]
    assert all(order != sorted(order) for order in orders)
    assert len(set(map(tuple, orders))) > 1


@given(
    batch_size=st.integers(1, 5), world=st.integers(1, 4), epoch=st.integers(0, 3),
    seed=st.integers(0, 3),
)  # fmt: skip
def test_ranks_share_steps_of_several_sources(batch_size, world, epoch, seed):
    shares = [
        list_mixed_steps(batch_size, epoch=epoch, seed=seed, rank=rank, world=world)
        for rank in range(world)
    ]
    assert shares == [
        list_mixed_steps(batch_size, epoch=epoch, seed=seed, rank=rank, world=world)
        for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    total = Counter()
    for step in zip(*shares, strict=True):
        assert all(1 <= len(share) <= batch_size for share in step)
        together = [key for share in step for key in share]
        assert len({key.source for key in together}) == 1
        assert len(set(together)) == len(together)
        total.update(key.source for key in together)
    for source, all_of_it in ((0, 5), (1, 12), (2, 20)):
        assert all_of_it - world < total[source] <= all_of_it


def test_small_weight_keeps_one_image():
    found = list(EpochBatches([range(3)], 2, weights=[0.01]))
    assert [len(step) for step in found] == [1]


def test_order_depends_on_epoch_and_seed():
    def order(seed: int, epoch: int) -> list[int]:
        return [i for step in list_steps(50, 7, seed=seed, epoch=epoch) for _, i, _ in step]

    orders = [order(s, e) for s in range(3) for e in range(3)]
    assert orders == [order(s, e) for s in range(3) for e in range(3)]
    assert len(set(map(tuple, orders))) == 9


def test_order_of_rows_without_shuffle():
    found = list(EpochBatches([range(5)], 2, shuffle=False))
    assert found == [[(0, 0, 0), (0, 1, 0)], [(0, 2, 0), (0, 3, 0)], [(0, 4, 0)]]
