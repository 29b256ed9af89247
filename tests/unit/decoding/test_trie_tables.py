"""Test the tables of a trie, and single steps under its constraint."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from closed_sets import SETS, VOCAB, Answers, answer_sets, following, longest
from hypothesis import given
from hypothesis import strategies as st
from toy_search import BOS, EOS, NEVER, Sequence, Toy

from captioner.decoding import Trie, constrain_to_trie
from captioner.decoding.arrays import Array, Arrays, namespace
from captioner.decoding.numpy_arrays import NUMPY
from captioner.decoding.torch_arrays import arrays_on


@given(answer_sets, st.data())
def test_every_row_has_allowed_tokens_and_no_nan(arrays: Arrays, answers: Answers, data) -> None:
    """This holds for members, for rows that have ended and for rows that are no members."""
    shape = (2, 3)
    before = np.random.default_rng(0).standard_normal((*shape, VOCAB), np.float32)
    logits = arrays.asarray(before.copy())
    orders: list[list[int]] = []
    step, reorder = constrain_to_trie(
        lambda x: logits, lambda rows: orders.append(rows.tolist()), Trie(answers, eos=EOS)
    )
    histories: list[Sequence] = [()] * 6
    tokens = [BOS] * 6
    for _ in range(longest(answers) + 2):
        found = step(arrays.asarray(np.array(tokens).reshape(shape)))
        assert found.shape == logits.shape
        assert not np.isnan(np.asarray(arrays.log_softmax(found))).any()
        olds, news = (x.reshape(6, VOCAB).tolist() for x in (logits, found))
        for history, old, new in zip(histories, olds, news, strict=True):
            may = following(answers, history)
            assert {token for token, x in enumerate(new) if x > NEVER} == may
            assert all(new[token] == old[token] for token in may)
        rows = data.draw(st.lists(st.integers(0, 5), min_size=6, max_size=6), label="rows")
        reorder(arrays.asarray(np.array(rows)))
        assert orders[-1] == rows  # the model's cache is reordered as well
        six_tokens = st.lists(st.integers(0, VOCAB - 1), min_size=6, max_size=6)
        tokens = data.draw(six_tokens, label="tokens")
        histories = [(*histories[r], x) for r, x in zip(rows, tokens, strict=True)]
    assert logits.tolist() == before.tolist()  # the model's own array is not changed


def test_a_token_outside_the_trie_leads_to_the_end_node(arrays: Arrays) -> None:
    """This includes tokens whose keys are those of the next node's edges."""
    trie = Trie([[0, 0, EOS], [1 + EOS, 1 + EOS, EOS]], eos=EOS).convert(arrays)
    nodes, tokens = np.arange(trie.end + 1), np.arange(3 * trie.width)
    nodes = arrays.asarray(np.tile(nodes, len(tokens)))
    tokens = arrays.asarray(np.repeat(tokens, trie.end + 1))
    beyond = tokens >= trie.width
    assert (trie.next_nodes(nodes, tokens)[beyond] == trie.end).all()
    assert (trie.next_nodes(nodes, tokens)[~beyond] != trie.end).any()


ROW = np.arange(VOCAB)
HALVES = [torch.from_numpy(ROW).to(dtype) for dtype in (torch.float16, torch.bfloat16)]


@pytest.mark.parametrize("row", [ROW.astype(np.float16), ROW.astype(np.float64), *HALVES], ids=str)
def test_constrained_logits_keep_their_dtype(row: Array) -> None:
    arrays, trie = namespace(row), Trie([[4, EOS], [5, EOS]], eos=EOS)
    logits = arrays.stack([row, row], 0)[:, None]
    step, _ = constrain_to_trie(lambda x: logits, lambda rows: None, trie)
    found = step(arrays.full((2, 1), BOS))
    assert found.dtype == row.dtype
    assert found.tolist() == [[[NEVER] * 4 + [4.0, 5.0]]] * 2


def tables(trie: Trie) -> dict[str, Array]:
    return {name: x for name, x in vars(trie).items() if hasattr(x, "shape")}


@given(answer_sets, st.randoms(use_true_random=False))
def test_order_and_duplicates_do_not_change_a_trie(answers: Answers, rng: random.Random) -> None:
    members = {tuple(a) for a in answers}
    other = answers + rng.choices(answers, k=3)
    rng.shuffle(other)
    one, two = Trie(iter(answers), eos=EOS), Trie(other, eos=EOS)
    assert len(one) == len(two) == len(members)
    assert one.longest == two.longest == longest(answers)
    for mine, theirs in zip(tables(one).values(), tables(two).values(), strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "no sequences"),
        ([[3, EOS], []], r"\[\]: expected"),
        ([[3, EOS], [3, 4]], r"\[3, 4\]: expected"),
        ([[3, EOS, 4, EOS]], r"\[3, 1, 4, 1\]: expected"),
        ([[EOS, EOS]], "expected"),
        ([[3, EOS, 4]], "expected"),
        ([[-1, EOS]], "negative"),
    ],
)
def test_invalid_members_are_rejected(answers: Answers, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trie(answers, eos=EOS)


def test_tokens_outside_the_vocabulary_are_rejected(arrays: Arrays) -> None:
    toy = Toy(arrays, [0], vocab=VOCAB, beams=1)
    step, _ = constrain_to_trie(toy.step, toy.reorder, Trie([[VOCAB, EOS]], eos=EOS))
    with pytest.raises(ValueError, match="has the token 6, the model 6 tokens"):
        step(arrays.full((1, 1), BOS))


def test_a_trie_is_converted_completely_and_once() -> None:
    trie = Trie(SETS["prefixes"], eos=EOS)
    assert trie.convert(NUMPY) is trie
    for device in ("cpu", "meta"):
        converted = trie.convert(arrays_on(device))
        assert {namespace(x) for x in tables(converted).values()} == {arrays_on(device)}
        assert tables(converted).keys() == tables(trie).keys()
        assert (len(converted), converted.longest) == (len(trie), trie.longest)
        assert trie.convert(arrays_on(device)) is converted
        assert converted.convert(NUMPY) is trie
    assert {namespace(x) for x in tables(trie).values()} == {NUMPY}
