"""Test rules and automata against plain Python and brute force."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_search import (
    BOS,
    EOS,
    LONGEST,
    NEVER,
    PENALTIES,
    SEEDS,
    VOCAB,
    WIDE,
    Toy,
    assert_exhaustive,
    search,
)

from captioner.decoding import (
    FORBIDDEN,
    Automaton,
    Prefixes,
    greedy_search,
    min_length,
    no_repeat_ngram,
    repetition_penalty,
    satisfy_automata,
)
from captioner.decoding.arrays import Array, Arrays


def phrase_automaton(*phrases: tuple[int, ...], vocab: int = VOCAB) -> Automaton:
    """Return an automaton for texts with one of the phrases, independent of the package's code."""
    states: list[tuple[int, ...]] = [()]
    for phrase in phrases:
        states += [phrase[:n] for n in range(1, len(phrase) + 1) if phrase[:n] not in states]
    table = np.full((len(states) + 1, vocab), len(states))
    for state, begun in enumerate(states):
        for token in range(vocab):
            if begun in phrases:
                continue  # the last state, after a complete phrase
            ends = [(*begun, token)[n:] for n in range(len(begun) + 2)]
            table[state, token] = states.index(next(e for e in ends if e in states))
        table[state, EOS] = len(states) if begun in phrases else FORBIDDEN
    return Automaton(table, eos=EOS)


def forbidding(*tokens: int, last: tuple[int, ...] = ()) -> Automaton:
    """Return an automaton for texts without these tokens that do not end in those of `last`."""
    table = np.zeros((2, VOCAB), np.int64)
    table[:, list(last)] = 1
    table[:, list(tokens)] = FORBIDDEN
    table[1, EOS] = FORBIDDEN
    return Automaton(table, eos=EOS)


def has(text: list[int], phrase: tuple[int, ...]) -> bool:
    return any(tuple(text[i : i + len(phrase)]) == phrase for i in range(len(text)))


@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_min_length(arrays, n, penalty):
    rules = [min_length(n, eos=EOS)]
    keep = lambda tokens: EOS not in tokens or len(tokens) > n  # noqa: E731
    assert_exhaustive(arrays, rules, keep, length_penalty=penalty)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_repeat_ngram(arrays, n):
    def keep(tokens):
        grams = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
        return max(grams.values(), default=0) < 2

    assert_exhaustive(arrays, [no_repeat_ngram(n)], keep)


@pytest.mark.parametrize("penalty", [1.0, 1.3, 4.0])
def test_repetition_penalty(arrays, penalty):
    """Only the log-probability of tokens that the row already contains is multiplied."""
    toy = Toy(arrays, SEEDS, vocab=VOCAB, beams=WIDE)
    found = search(toy, [repetition_penalty(penalty)], length_penalty=0.0)
    for seed, rows in zip(SEEDS, found, strict=True):
        assert len(rows) == WIDE
        for h in rows:
            total, prefix = 0.0, (BOS,)
            for token in h.tokens:
                p = toy.logprobs(seed, prefix)[token]
                total += p * (penalty if token in prefix[1:] else 1)
                prefix += (token,)
            assert h.logprob == pytest.approx(total, rel=1e-4, abs=1e-5)


def prefixes_of(arrays: Arrays, tokens: np.ndarray, lengths: list[int]) -> Prefixes:
    return Prefixes(arrays.asarray(tokens), arrays.asarray(np.array(lengths)), arrays)


tokens_of_rows = st.lists(
    st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=4, max_size=4
)


@given(tokens_of_rows, st.lists(st.integers(0, 7), min_size=2, max_size=2), st.integers(1, 4))
def test_rules_use_only_the_valid_prefix(arrays, rows, lengths, n):
    """Compare two images of different lengths, with two rows each, with each row alone."""
    written = prefixes_of(arrays, np.array(rows).reshape(2, 2, 7), lengths)
    random_numbers = np.random.default_rng(0).standard_normal((2, 2, 4))

    def logprobs() -> Array:
        return arrays.log_softmax(arrays.asarray(random_numbers))

    automaton = phrase_automaton((2, 2), (3,), vocab=4)
    for rule in (
        no_repeat_ngram(n),
        repetition_penalty(2.0),
        min_length(n, eos=EOS),
        satisfy_automata([automaton], max_length=7),
    ):
        found = rule(logprobs(), written)
        for image, length in enumerate(lengths):
            for row in range(2):
                text = np.array(rows[2 * image + row])[:length].reshape(1, 1, length)
                alone = rule(
                    logprobs()[image, row].reshape(1, 1, 4), prefixes_of(arrays, text, [length])
                )
                assert found[image, row].tolist() == alone[0, 0].tolist()
    # Compare the first rule with its definition.
    for image, length in enumerate(lengths):
        for row in range(2):
            text = rows[2 * image + row][:length]
            blocked = no_repeat_ngram(n)(logprobs(), written)[image, row] == NEVER
            tail = text[len(text) - n + 1 :] if n > 1 else []
            for token in range(4):
                before = len(text) >= n and has(text, (*tail, token))
                assert blocked[token].item() == before


def test_min_remaining_of_an_automaton():
    assert phrase_automaton((2, 3), (4,)).min_remaining.tolist() == [1, 1, 0, 0, 0]
    assert phrase_automaton((2, 3, 2)).min_remaining.tolist() == [3, 2, 1, 0, 0]
    assert forbidding(2, last=(3,)).min_remaining.tolist() == [0, 1]


def test_an_unsatisfiable_automaton_is_rejected():
    table = np.zeros((1, VOCAB), np.int64)
    table[0, EOS] = FORBIDDEN
    with pytest.raises(ValueError, match="no text"):
        Automaton(table, eos=EOS)


def ended(tokens: list[int]) -> bool:
    return tokens[-1] == EOS


@pytest.mark.parametrize("penalty", PENALTIES)
def test_only_banned_tokens_are_excluded(arrays, penalty):
    rules = [satisfy_automata([forbidding(3)], max_length=LONGEST)]
    keep = lambda tokens: ended(tokens) and 3 not in tokens  # noqa: E731
    assert_exhaustive(arrays, rules, keep, length_penalty=penalty)


def test_forbidden_last_tokens_are_not_last(arrays):
    rules = [satisfy_automata([forbidding(last=(2, 4))], max_length=LONGEST)]
    assert_exhaustive(arrays, rules, lambda x: ended(x) and x[-2:-1] not in ([2], [4]))


FORCED = {
    "one": [((3,),)],
    "a phrase": [((3, 2),)],
    "alternatives": [((4,), (2, 3))],
    "two": [((2,),), ((3,),)],
    "two of which one is two": [((2, 4),), ((3,),)],
    "begins as the other": [((2, 3), (2, 4))],
    "itself again": [((2, 2, 3),)],
}
forced = pytest.mark.parametrize("words", FORCED.values(), ids=FORCED)


@forced
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("banks", [False, True])
def test_a_wide_beam_finds_all_texts_with_required_phrases(arrays, words, penalty, banks):
    automata = [phrase_automaton(*alternatives) for alternatives in words]
    rules = [satisfy_automata(automata, max_length=LONGEST)]

    def keep(tokens):
        return ended(tokens) and all(any(has(tokens, p) for p in some) for some in words)

    required = {"required": automata} if banks else {}
    assert_exhaustive(arrays, rules, keep, length_penalty=penalty, **required)


@forced
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_a_narrow_beam_includes_required_phrases(arrays, words, beams):
    """The phrases are included although the model gives them a very low probability."""
    automata = [phrase_automaton(*alternatives) for alternatives in words]
    toy = Toy(arrays, list(range(8)), vocab=VOCAB, beams=beams)
    plain = toy.logits
    unlikely = np.array([0.0, 0.0, -15.0, -15.0, -15.0], np.float32)
    toy.logits = lambda seed, prefix: plain(seed, prefix) + unlikely
    rules = [satisfy_automata(automata, max_length=8)]
    for found in search(toy, rules, required=automata, max_length=8):
        assert 1 <= len(found) <= beams
        assert len({tuple(h.tokens) for h in found}) == len(found)
        for h in found:
            assert ended(h.tokens)
            assert all(any(has(h.tokens, p) for p in some) for some in words)


def test_beam_allocation_finds_better_texts_than_masks(arrays):
    """With masks only, a narrow beam adds improbable phrases as late as the masks allow."""
    seeds, vocab, scores = list(range(30)), 20, []
    automata = [phrase_automaton((2, 3), vocab=vocab), phrase_automaton((4,), vocab=vocab)]
    unlikely = np.zeros(vocab, np.float32)
    unlikely[2:5] = -4.0
    for required in ([], automata):
        toy = Toy(arrays, seeds, vocab=vocab, beams=5, sharp=2)
        plain = toy.logits
        toy.logits = lambda seed, prefix, plain=plain: plain(seed, prefix) + unlikely
        rules = [satisfy_automata(automata, max_length=10)]
        found = search(toy, rules, required=required, max_length=10)
        scores.append([rows[0].score for rows in found])
    better = sum(banks > masks + 1e-6 for masks, banks in zip(*scores, strict=True))
    worse = sum(banks < masks - 1e-6 for masks, banks in zip(*scores, strict=True))
    assert better > 3 * worse


@pytest.mark.parametrize("beams", [1, 3])
def test_required_phrases_longer_than_the_limit_leave_no_hypothesis(arrays, beams):
    automata = [phrase_automaton((2, 3, 4, 2, 3))]
    rules = [satisfy_automata(automata, max_length=5)]
    toy = Toy(arrays, [1, 2], vocab=VOCAB, beams=beams)
    assert search(toy, rules, required=automata, max_length=5) == [[], []]
    greedy = Toy(arrays, [1, 2], vocab=VOCAB, beams=1)
    options = {
        "images": 2,
        "bos": BOS,
        "eos": EOS,
        "max_length": 5,
        "rules": rules,
        "arrays": arrays,
    }
    assert greedy_search(greedy.step, **options) == [[], []]


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_combined_rules(arrays, beams):
    automata = [phrase_automaton((2,)), forbidding(4, last=(3,))]
    rules = [
        min_length(3, eos=EOS),
        no_repeat_ngram(2),
        repetition_penalty(1.5),
        satisfy_automata(automata, max_length=7),
    ]
    toy = Toy(arrays, list(range(10)), vocab=VOCAB, beams=beams)
    for found in search(toy, rules, required=automata[:1], max_length=7):
        for h in found:
            text = h.tokens[:-1]
            assert ended(h.tokens)
            assert len(text) >= 3
            assert 2 in text
            assert 4 not in text
            assert text[-1] != 3
            pairs = list(itertools.pairwise(text))
            assert len(set(pairs)) == len(pairs)
    assert any(search(Toy(arrays, list(range(10)), vocab=VOCAB, beams=4), rules, max_length=7))
