"""Compare the functions of both array libraries with plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captioner.decoding.arrays import Arrays, namespace
from captioner.decoding.numpy_arrays import NUMPY, TOPK_GROUPS
from captioner.decoding.torch_arrays import arrays_on

NEVER = float("-inf")


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def integers(high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape)


def kind(x) -> str:
    """Return the name of an array's type."""
    return str(x.dtype).removeprefix("torch.")


def test_an_array_determines_its_functions(arrays: Arrays) -> None:
    assert namespace(arrays.arange(3)) == arrays
    assert hash(namespace(arrays.arange(3))) == hash(arrays)


def test_new_arrays_have_the_type_of_their_values(arrays: Arrays) -> None:
    found = {kind(arrays.full((2, 3), value)): value for value in (True, 7, NEVER)}
    assert found == {"bool": True, "int64": 7, "float32": NEVER}
    assert arrays.full((2, 1), 7).tolist() == [[7], [7]]
    assert (kind(arrays.arange(3)), arrays.arange(3).tolist()) == ("int64", [0, 1, 2])
    half = arrays.asarray(np.ones((2, 2), np.float16))
    assert (kind(arrays.full_like(half, 0.5)), kind(arrays.float32(half))) == ("float16", "float32")


def test_a_choice_keeps_the_type_of_the_array(arrays: Arrays) -> None:
    x = arrays.asarray(numbers(4))
    found = arrays.where(x > 0, NEVER, x)
    assert kind(found) == "float32"
    assert found.tolist() == [NEVER if v > 0 else v for v in x.tolist()]
    assert kind(arrays.where(x > 0, arrays.arange(4), 9)) == "int64"


def test_gather_selects_along_the_last_axis_of_the_index(arrays: Arrays) -> None:
    x, index = numbers(2, 5, 3), integers(5, 2, 4)
    expected = [[x[b, n].tolist() for n in row] for b, row in enumerate(index)]
    assert arrays.gather(arrays.asarray(x), arrays.asarray(index)).tolist() == expected
    index = integers(3, 2, 5, 6)
    expected = [[x[b, k, row].tolist() for k, row in enumerate(r)] for b, r in enumerate(index)]
    assert arrays.gather(arrays.asarray(x), arrays.asarray(index)).tolist() == expected


def test_count_ignores_what_the_mask_excludes(arrays: Arrays) -> None:
    index, mask = integers(4, 2, 3, 6), integers(2, 2, 1, 6) > 0
    found = arrays.count(arrays.asarray(index), arrays.asarray(mask), 5)
    assert (kind(found), tuple(found.shape)) == ("float32", (2, 3, 5))
    for b in range(2):
        for k in range(3):
            row = [i for i, m in zip(index[b, k].tolist(), mask[b, 0].tolist(), strict=True) if m]
            assert found[b, k].tolist() == [row.count(i) for i in range(5)]


def test_log_softmax_is_that_of_float64(arrays: Arrays) -> None:
    x = 9 * numbers(2, 3, 50)
    x[0, 0, 7] = NEVER
    x[1, 1, 1:] = NEVER
    before = x.copy()
    for dtype in (np.float32, np.float16):
        given = x.astype(dtype)
        found = arrays.log_softmax(arrays.asarray(given))
        wide = given.astype(np.float64)
        expected = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
        assert kind(found) == "float32"
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6, atol=2e-6)
    assert (x == before).all()


def test_orders_are_stable(arrays: Arrays) -> None:
    x = arrays.asarray(integers(3, 2, 40).astype(np.float32))
    for descending in (False, True):
        found = arrays.argsort(x, descending=descending).tolist()
        for row, order in zip(x.tolist(), found, strict=True):
            sign = -1 if descending else 1
            assert order == sorted(range(40), key=lambda i: sign * row[i])
    mask = arrays.asarray(np.array([True, False, True, False]))
    assert arrays.argsort(mask).tolist() == [1, 3, 0, 2]


def test_remaining_functions(arrays: Arrays) -> None:
    x = arrays.asarray(numbers(3, 4))
    assert arrays.amax(x).tolist() == [max(row) for row in x.tolist()]
    sums = arrays.cumsum(x)
    assert kind(sums) == "float64"
    assert sums[..., -1].tolist() == pytest.approx([math.fsum(row) for row in x.tolist()])
    assert arrays.exp(x)[0, 0].item() == pytest.approx(math.exp(x[0, 0].item()))
    assert [i.tolist() for i in arrays.nonzero(arrays.asarray(np.eye(2)))] == [[0, 1], [0, 1]]
    n = arrays.arange(3)
    assert arrays.repeat(n, n).tolist() == [1, 2, 2]
    assert arrays.searchsorted(n * 2, n).tolist() == [0, 1, 1]
    assert arrays.concat([n, n], 0).tolist() == [0, 1, 2, 0, 1, 2]
    assert arrays.stack([n, n], -1).tolist() == [[0, 0], [1, 1], [2, 2]]


sizes = st.sampled_from([1, 5, 2 * TOPK_GROUPS - 1, 2 * TOPK_GROUPS, 700])


@given(sizes, st.integers(1, 80), st.sampled_from([0.0, 0.6, 0.995, 1.0]), st.integers(0, 99))
def test_topk_of_numpy_prefers_the_lower_index(n: int, k: int, forbidden: float, seed: int) -> None:
    """Compare it with a stable sort, with ties, -inf and rows of different kinds."""
    k, x = min(k, n), numbers(3, 2, n, seed=seed)
    x[1] = np.round(2 * x[1])
    x[2][numbers(2, n, seed=seed + 100).argsort(-1).argsort(-1) < forbidden * n] = NEVER
    values, index = NUMPY.topk(x, k)
    for row, best, places in zip(
        x.reshape(6, n).tolist(), values.reshape(6, k).tolist(), index.reshape(6, k).tolist(),
        strict=True,
    ):  # fmt: skip
        assert places == sorted(range(n), key=lambda i: -row[i])[:k]
        assert best == [row[i] for i in places]
    found, _ = arrays_on("cpu").topk(torch.from_numpy(x), k)
    assert found.tolist() == values.tolist()


@pytest.mark.parametrize("n", [9, 3000])
def test_topk_of_numpy_accepts_nan(n: int) -> None:
    x = numbers(2, n)
    x[0, ::2] = math.nan
    values, index = NUMPY.topk(x, 3)
    assert index[1].tolist() == sorted(range(n), key=lambda i: -x[1, i])[:3]
    assert values[0].tolist() == sorted(x[0, 1::2].tolist())[:-4:-1]
