"""Searches with several ids that end a sequence, against brute force and transformers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from toy_search import BOS, NEVER, Toy, assert_same

from captioner.decoding import (
    FORBIDDEN,
    Automaton,
    Hypothesis,
    Trie,
    beam_search,
    choose_best,
    collect_hypotheses,
    constrain_to_trie,
    generate_steps,
    greedy_search,
    length_normalization,
    min_length,
    sample,
    satisfy_automata,
)
from captioner.decoding.arrays import Arrays
from captioner.decoding.numpy_arrays import NUMPY
from captioner.decoding.torch_arrays import arrays_on

VOCAB, LONGEST, ENDS, PAD = 6, 4, (4, 1, 5), 9
SEEDS = [3, 4, 5]
SEQUENCES = [
    [*words, *end]
    for n in range(LONGEST + 1)
    for words in itertools.product(sorted(set(range(VOCAB)) - set(ENDS)), repeat=n)
    for end in ([()] if n == LONGEST else [(end,) for end in ENDS])
]
BOTH = pytest.mark.parametrize("arrays", [NUMPY, arrays_on("cpu")], ids=["numpy", "torch"])


def search(toy: Toy, ends: tuple[int, ...] = ENDS, **options) -> list[list[Hypothesis]]:
    shape = {"images": len(toy.seeds), "beams": toy.beams, "bos": BOS, "eos": ends}
    options = {"max_length": LONGEST, "arrays": toy.arrays, "stop": "exact"} | options
    return beam_search(toy.step, toy.reorder, **shape, **options)


def best_of(toy: Toy, seed: int, keep=lambda tokens: True) -> list[Hypothesis]:
    found = [(tokens, toy.logprob(seed, tokens)) for tokens in SEQUENCES if keep(tokens)]
    ranked = [Hypothesis(tokens, p, p / len(tokens)) for tokens, p in found]
    return sorted(ranked, key=lambda h: -h.score)


def beams_by_definition(toy: Toy, seed: int) -> list[Hypothesis]:
    """Return the finished hypotheses of a beam search that never stops early."""
    running, finished = [((BOS,), 0.0)], []
    for t in range(1, LONGEST + 1):
        further = [
            ((*prefix, token), total + p)
            for prefix, total in running
            for token, p in enumerate(toy.logprobs(seed, prefix))
        ]
        further.sort(key=lambda pair: -pair[1])
        ended = [pair[0][-1] in ENDS or t == LONGEST for pair in further]
        for (prefix, p), end in list(zip(further, ended, strict=True))[: toy.beams]:
            finished += [Hypothesis(list(prefix[1:]), p, p / t)] if end else []
        running = [pair for pair, end in zip(further, ended, strict=True) if not end][: toy.beams]
    return sorted(finished, key=lambda h: -h.score)[: toy.beams]


@BOTH
def test_a_wide_beam_finds_all_sequences(arrays: Arrays) -> None:
    toy = Toy(arrays, SEEDS, vocab=VOCAB, beams=len(SEQUENCES))
    for seed, found in zip(SEEDS, search(toy), strict=True):
        assert_same(found, best_of(toy, seed))


@BOTH
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_a_narrow_beam_follows_the_definition(arrays: Arrays, beams: int) -> None:
    seeds = list(range(20))
    toy = Toy(arrays, seeds, vocab=VOCAB, beams=beams)
    for seed, found in zip(seeds, search(toy), strict=True):
        assert_same(found, beams_by_definition(toy, seed))


@BOTH
def test_the_order_of_the_ends_and_duplicates_do_not_matter(arrays: Arrays) -> None:
    one, *others = (
        search(Toy(arrays, SEEDS, vocab=VOCAB, beams=4), ends)
        for ends in (ENDS, ENDS[::-1], (*ENDS, *ENDS))
    )
    assert one == others[0] == others[1]
    assert len({h.tokens[-1] for found in one for h in found} & set(ENDS)) > 1


@BOTH
def test_one_end_in_a_list_is_that_end(arrays: Arrays) -> None:
    toys = [Toy(arrays, SEEDS, vocab=VOCAB, beams=4) for _ in range(2)]
    assert search(toys[0], (1,)) == search(toys[1], 1)


@BOTH
def test_greedy_search_ends_at_any_end(arrays: Arrays) -> None:
    seeds = list(range(30))
    toy = Toy(arrays, seeds, vocab=VOCAB, beams=1)
    options = {"bos": BOS, "eos": ENDS, "max_length": LONGEST, "arrays": arrays}
    found = [tokens for [tokens] in greedy_search(toy.step, images=30, **options)]
    for seed, hypothesis in zip(seeds, found, strict=True):
        tokens: list[int] = []
        while len(tokens) < LONGEST and not {*tokens} & {*ENDS}:
            tokens.append(int(np.argmax(toy.logits(seed, (BOS, *tokens)))))
        assert hypothesis.tokens == tokens
        assert hypothesis.logprob == pytest.approx(toy.logprob(seed, tokens), abs=1e-5)
    assert {h.tokens[-1] for h in found} >= {*ENDS}


@BOTH
def test_rows_that_have_ended_continue_with_the_first_end(arrays: Arrays) -> None:
    toy = Toy(arrays, SEEDS, vocab=VOCAB, beams=2)
    shape = {"images": 3, "rows": 2, "bos": BOS, "eos": ENDS, "max_length": LONGEST}
    steps = list(generate_steps(toy.step, choose_best, **shape, arrays=arrays))
    for rows in np.stack([tokens.tolist() for tokens, _ in steps], -1).reshape(6, -1).tolist():
        end = next((i for i, token in enumerate(rows) if token in ENDS), len(rows))
        assert all(token == ENDS[0] for token in rows[end + 1 :])
    found = collect_hypotheses(steps, eos=ENDS, score=length_normalization(1.0))
    assert all(sum(map(h.tokens.count, ENDS)) <= 1 for rows in found for h in rows)


@BOTH
def test_samples_are_padded_after_any_end(arrays: Arrays) -> None:
    toy = Toy(arrays, SEEDS, vocab=VOCAB, beams=40)
    draws = arrays.asarray(np.random.default_rng(0).random((LONGEST, 3, 40)))
    drawn = sample(toy.step, draws, bos=BOS, eos=ENDS, pad=PAD).reshape(120, -1).tolist()
    kept = [row[: row.index(PAD)] if PAD in row else row for row in drawn]
    assert all(set(row[len(own) :]) <= {PAD} for row, own in zip(drawn, kept, strict=True))
    assert all(own in SEQUENCES for own in kept)
    assert {own[-1] for own in kept} >= {*ENDS}


def test_at_least_one_end_is_required() -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        min_length(1, eos=[])


@BOTH
def test_min_length_forbids_every_end(arrays: Arrays) -> None:
    toy = Toy(arrays, SEEDS, vocab=VOCAB, beams=len(SEQUENCES))
    found = search(toy, rules=[min_length(2, eos=ENDS)])
    for seed, hypotheses in zip(SEEDS, found, strict=True):
        assert_same(hypotheses, best_of(toy, seed, lambda tokens: len(tokens) > 2))


@BOTH
def test_automata_end_with_any_end(arrays: Arrays) -> None:
    """The automaton accepts sequences with the token 3."""
    table = np.zeros((2, VOCAB), np.int64)
    table[1], table[:, 3] = 1, 1
    table[0, list(ENDS)] = FORBIDDEN
    automaton = Automaton(table, eos=ENDS)
    assert automaton.min_remaining.tolist() == [1, 0]
    rules = [satisfy_automata([automaton], max_length=LONGEST)]
    for required in ([], [automaton]):
        toy = Toy(arrays, SEEDS, vocab=VOCAB, beams=len(SEQUENCES))
        found = search(toy, rules=rules, required=required)
        for seed, hypotheses in zip(SEEDS, found, strict=True):
            keep = best_of(toy, seed, lambda tokens: 3 in tokens and tokens[-1] in ENDS)
            assert_same(hypotheses, keep)


@BOTH
def test_members_of_a_trie_have_the_probability_of_all_ends(arrays: Arrays) -> None:
    answers, first = [[0, 2, 4], [0, 1], [3, 3, 0, 5]], ENDS[0]
    trie = Trie(answers, eos=ENDS)
    assert trie.members == {(0, 2, first), (0, first), (3, 3, 0, first)}
    toy = Toy(arrays, SEEDS, vocab=VOCAB, beams=8)
    step, reorder = constrain_to_trie(toy.step, toy.reorder, trie)
    options = {"images": 3, "beams": 8, "bos": BOS, "eos": ENDS, "length_penalty": 0.0}
    results = beam_search(step, reorder, **options, max_length=trie.longest, arrays=arrays)
    for seed, found in zip(SEEDS, results, strict=True):
        p = np.exp(toy.logprobs(seed, (BOS,)))
        after = np.exp(toy.logprobs(seed, (BOS, 0)))
        ending = after[list(ENDS)].sum()
        share = {(0, first): ending, (0, 2, first): after[2]}
        expected = {k: math.log(p[0] / (p[0] + p[3]) * v / (ending + after[2]))
                    for k, v in share.items()}  # fmt: skip
        expected[3, 3, 0, first] = math.log(p[3] / (p[0] + p[3]))
        assert {tuple(h.tokens): h.logprob for h in found} == pytest.approx(expected, abs=1e-5)
        assert sum(math.exp(h.logprob) for h in found) == pytest.approx(1, abs=1e-5)


@BOTH
@pytest.mark.filterwarnings("error")
def test_impossible_ends_of_a_trie(arrays: Arrays) -> None:
    toy = Toy(arrays, SEEDS, vocab=VOCAB, beams=1)
    toy.forbidden = ENDS
    step, _ = constrain_to_trie(toy.step, toy.reorder, Trie([[0, 1], [0, 2, 1]], eos=ENDS))
    options = {"images": 3, "bos": BOS, "eos": ENDS, "max_length": 3, "arrays": arrays}
    for [found] in greedy_search(step, **options):
        assert (found.tokens, found.logprob > NEVER) == ([0, 2, ENDS[0]], True)


def test_a_trie_rejects_an_end_within_a_sequence() -> None:
    for wrong in ([0, 1, 5], [0, 2], [4, 4]):
        with pytest.raises(ValueError, match="expected tokens that end in the one EOS, 4 or 1 or"):
            Trie([wrong], eos=ENDS)


@torch.inference_mode()
@pytest.mark.parametrize(("stop", "early"), [("heuristic", False), ("exact", "never")])
def test_beam_search_matches_transformers_with_two_ends(stop: str, early: bool | str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)  # results of many lengths with both ends
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=16, n_embd=16, n_layer=1, n_head=2, initializer_range=0.4,
        bos_token_id=2, eos_token_id=[3, 7], pad_token_id=0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    starts = torch.arange(11)[:, None]
    out = model.generate(
        starts, attention_mask=torch.ones_like(starts), num_beams=4, num_return_sequences=4,
        max_new_tokens=8, do_sample=False, early_stopping=early, length_penalty=1.0,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    expected = []
    for row in out.sequences[:, 1:].tolist():
        end = next((i for i, token in enumerate(row, 1) if token in (3, 7)), 8)
        expected.append(row[:end])
    rows = starts.repeat_interleave(4, 0)  # (B * K, T)

    def step(tokens: torch.Tensor) -> torch.Tensor:
        nonlocal rows
        if step.begun:
            rows = torch.cat([rows, tokens.reshape(-1, 1)], 1)
        step.begun = True
        return model(rows).logits[:, -1].reshape(-1, 4, 11)

    def reorder(order: torch.Tensor) -> None:
        nonlocal rows
        rows = rows[order]

    step.begun = False
    found = beam_search(
        step, reorder, images=11, beams=4, bos=2, eos=(3, 7), max_length=8, stop=stop,
        arrays=arrays_on("cpu"),
    )  # fmt: skip
    assert [h.tokens for image in found for h in image] == expected
    scores = [h.score for image in found for h in image]
    assert scores == pytest.approx(out.sequences_scores.tolist(), rel=1e-4)
    assert {tokens[-1] for tokens in expected} >= {3, 7}
    assert len(set(map(len, expected))) > 2
