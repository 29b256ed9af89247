"""Rules, automata and sampling against plain Python, and searches against brute force."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_search import BOS, EOS, NEVER, PENALTIES, Toy, assert_same
from torch import Tensor

from captioner.decoding import (
    FORBIDDEN,
    Automaton,
    Hypothesis,
    Prefixes,
    Rule,
    Sampler,
    beam_search,
    beam_stream,
    choose_best,
    collect_hypotheses,
    generate_steps,
    greedy_search,
    length_normalization,
    min_length,
    no_repeat_ngram,
    repetition_penalty,
    satisfy_automata,
)

VOCAB, LONGEST = 5, 4


def holding(*phrases: tuple[int, ...], vocab: int = VOCAB) -> Automaton:
    """Texts that hold one of the phrases, made without the code that makes them of words."""
    states: list[tuple[int, ...]] = [()]
    for phrase in phrases:
        states += [phrase[:n] for n in range(1, len(phrase) + 1) if phrase[:n] not in states]
    table = torch.full((len(states) + 1, vocab), len(states))
    for state, begun in enumerate(states):
        for token in range(vocab):
            if begun in phrases:
                continue  # the last state, in which all is said
            ends = [(*begun, token)[n:] for n in range(len(begun) + 2)]
            table[state, token] = states.index(next(e for e in ends if e in states))
        table[state, EOS] = len(states) if begun in phrases else FORBIDDEN
    return Automaton(table, eos=EOS)


def forbidding(*tokens: int, last: tuple[int, ...] = ()) -> Automaton:
    """Texts without these tokens, and that do not end in those of `last`."""
    table = torch.zeros((2, VOCAB), dtype=torch.long)
    table[:, list(last)] = 1
    table[:, list(tokens)] = FORBIDDEN
    table[1, EOS] = FORBIDDEN
    return Automaton(table, eos=EOS)


def has(text: list[int], phrase: tuple[int, ...]) -> bool:
    return any(tuple(text[i : i + len(phrase)]) == phrase for i in range(len(text)))


def sequences(longest: int = LONGEST) -> list[list[int]]:
    """All that a search of at most so many tokens may return."""
    others = [token for token in range(VOCAB) if token != EOS]
    found = [list(x) for x in itertools.product(others, repeat=longest)]
    for n in range(longest):
        found += [[*x, EOS] for x in itertools.product(others, repeat=n)]
    return found


def best_of(toy: Toy, seed: int, keep, penalty: float = 1.0) -> list[Hypothesis]:
    """The sequences that `keep` allows, best first, by the model's own probabilities."""
    found = []
    for tokens in filter(keep, sequences()):
        p = toy.logprob(seed, tokens)
        found.append(Hypothesis(tokens, p, p / len(tokens) ** penalty))
    return sorted(found, key=lambda h: -h.score)


def search(toy: Toy, rules: list[Rule], **options) -> list[list[Hypothesis]]:
    shape = {"images": len(toy.seeds), "beams": toy.beams, "bos": BOS, "eos": EOS}
    options = {"stop": "exact", "max_length": LONGEST} | options
    return beam_search(toy.step, toy.reorder, **shape, rules=rules, **options)


SEEDS = [3, 4, 5]
WIDE = len(sequences())


def assert_exhaustive(rules: list[Rule], keep, **options) -> None:
    """A wide beam under the rules finds all that `keep` allows, in order, and nothing else."""
    toy = Toy(SEEDS, vocab=VOCAB, beams=WIDE)
    penalty = options.get("length_penalty", 1.0)
    for seed, found in zip(SEEDS, search(toy, rules, **options), strict=True):
        assert_same(found, best_of(toy, seed, keep, penalty))


# Rules on their own


@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_min_length(n, penalty):
    rules = [min_length(n, eos=EOS)]
    keep = lambda tokens: EOS not in tokens or len(tokens) > n  # noqa: E731
    assert_exhaustive(rules, keep, length_penalty=penalty)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_comes_twice(n):
    def keep(tokens):
        grams = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
        return max(grams.values(), default=0) < 2

    assert_exhaustive([no_repeat_ngram(n)], keep)


@pytest.mark.parametrize("penalty", [1.0, 1.3, 4.0])
def test_repetition_costs(penalty):
    """The log-probability of what a row holds already is multiplied, and nothing else."""
    toy = Toy(SEEDS, vocab=VOCAB, beams=WIDE)
    found = search(toy, [repetition_penalty(penalty)], length_penalty=0.0)
    for seed, rows in zip(SEEDS, found, strict=True):
        assert len(rows) == WIDE
        for h in rows:
            total, prefix = 0.0, (BOS,)
            for token in h.tokens:
                p = toy.logits(seed, prefix).double().log_softmax(-1)[token].item()
                total += p * (penalty if token in prefix[1:] else 1)
                prefix += (token,)
            assert h.logprob == pytest.approx(total, rel=1e-4, abs=1e-5)


tokens_of_rows = st.lists(
    st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=4, max_size=4
)


@given(tokens_of_rows, st.lists(st.integers(0, 7), min_size=2, max_size=2), st.integers(1, 4))
def test_rules_see_no_more_than_has_been_written(rows, lengths, n):
    """Two images of two rows, each image at a length of its own, against its rows alone."""
    written = Prefixes(torch.tensor(rows).view(2, 2, 7), torch.tensor(lengths))
    logprobs = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    automaton = holding((2, 2), (3,), vocab=4)
    for rule in (
        no_repeat_ngram(n),
        repetition_penalty(2.0),
        min_length(n, eos=EOS),
        satisfy_automata([automaton], max_length=7),
    ):
        found = rule(logprobs.clone(), written)
        for image, length in enumerate(lengths):
            for row in range(2):
                text = torch.tensor(rows[2 * image + row])[:length].view(1, 1, length)
                alone = rule(
                    logprobs[image, row].clone().view(1, 1, 4),
                    Prefixes(text, torch.tensor([length])),
                )
                assert torch.equal(found[image, row], alone[0, 0])
    # And the first two against what they say.
    for image, length in enumerate(lengths):
        for row in range(2):
            text = rows[2 * image + row][:length]
            blocked = no_repeat_ngram(n)(logprobs.clone(), written)[image, row] == NEVER
            tail = text[len(text) - n + 1 :] if n > 1 else []
            for token in range(4):
                before = len(text) >= n and has(text, (*tail, token))
                assert blocked[token].item() == before


# Automata


def test_what_an_automaton_needs():
    assert holding((2, 3), (4,)).min_remaining.tolist() == [1, 1, 0, 0, 0]
    assert holding((2, 3, 2)).min_remaining.tolist() == [3, 2, 1, 0, 0]
    assert forbidding(2, last=(3,)).min_remaining.tolist() == [0, 1]


def test_an_automaton_that_nothing_satisfies_is_refused():
    table = torch.zeros((1, VOCAB), dtype=torch.long)
    table[0, EOS] = FORBIDDEN
    with pytest.raises(ValueError, match="no text"):
        Automaton(table, eos=EOS)


def ended(tokens: list[int]) -> bool:
    return tokens[-1] == EOS


@pytest.mark.parametrize("penalty", PENALTIES)
def test_what_is_banned_does_not_come_and_all_else_does(penalty):
    rules = [satisfy_automata([forbidding(3)], max_length=LONGEST)]
    keep = lambda tokens: ended(tokens) and 3 not in tokens  # noqa: E731
    assert_exhaustive(rules, keep, length_penalty=penalty)


def test_what_may_not_be_last_is_not():
    rules = [satisfy_automata([forbidding(last=(2, 4))], max_length=LONGEST)]
    assert_exhaustive(rules, lambda x: ended(x) and x[-2:-1] not in ([2], [4]))


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
def test_a_wide_beam_finds_all_texts_that_hold_the_words(words, penalty, banks):
    automata = [holding(*alternatives) for alternatives in words]
    rules = [satisfy_automata(automata, max_length=LONGEST)]

    def keep(tokens):
        return ended(tokens) and all(any(has(tokens, p) for p in some) for some in words)

    required = {"required": automata} if banks else {}
    assert_exhaustive(rules, keep, length_penalty=penalty, **required)


@forced
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_a_narrow_beam_holds_the_words_too(words, beams):
    """However unlikely they are: the model all but forbids them."""
    automata = [holding(*alternatives) for alternatives in words]
    toy = Toy(list(range(8)), vocab=VOCAB, beams=beams)
    plain = toy.logits
    unlikely = torch.tensor([0.0, 0.0, -15.0, -15.0, -15.0])
    toy.logits = lambda seed, prefix: plain(seed, prefix) + unlikely
    rules = [satisfy_automata(automata, max_length=8)]
    for found in search(toy, rules, required=automata, max_length=8):
        assert 1 <= len(found) <= beams
        assert len({tuple(h.tokens) for h in found}) == len(found)
        for h in found:
            assert ended(h.tokens)
            assert all(any(has(h.tokens, p) for p in some) for some in words)


def test_banks_find_better_texts_than_masks_alone():
    """A narrow beam that is only held to unlikely words writes them at the end, where it must."""
    seeds, vocab, scores = list(range(30)), 20, []
    automata = [holding((2, 3), vocab=vocab), holding((4,), vocab=vocab)]
    unlikely = torch.tensor([0.0, 0.0, -4.0, -4.0, -4.0] + [0.0] * (vocab - 5))
    for required in ([], automata):
        toy = Toy(seeds, vocab=vocab, beams=5, sharp=2)
        plain = toy.logits
        toy.logits = lambda seed, prefix, plain=plain: plain(seed, prefix) + unlikely
        rules = [satisfy_automata(automata, max_length=10)]
        found = search(toy, rules, required=required, max_length=10)
        scores.append([rows[0].score for rows in found])
    better = sum(banks > masks + 1e-6 for masks, banks in zip(*scores, strict=True))
    worse = sum(banks < masks - 1e-6 for masks, banks in zip(*scores, strict=True))
    assert better > 3 * worse


@pytest.mark.parametrize("beams", [1, 3])
def test_words_that_do_not_fit_leave_nothing(beams):
    automata = [holding((2, 3, 4, 2, 3))]
    rules = [satisfy_automata(automata, max_length=5)]
    toy = Toy([1, 2], vocab=VOCAB, beams=beams)
    assert search(toy, rules, required=automata, max_length=5) == [[], []]
    greedy = Toy([1, 2], vocab=VOCAB, beams=1)
    options = {"images": 2, "bos": BOS, "eos": EOS, "max_length": 5, "rules": rules}
    assert greedy_search(greedy.step, **options) == [[], []]


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_rules_work_together(beams):
    automata = [holding((2,)), forbidding(4, last=(3,))]
    rules = [
        min_length(3, eos=EOS),
        no_repeat_ngram(2),
        repetition_penalty(1.5),
        satisfy_automata(automata, max_length=7),
    ]
    toy = Toy(list(range(10)), vocab=VOCAB, beams=beams)
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
    assert any(search(Toy(list(range(10)), vocab=VOCAB, beams=4), rules, max_length=7))


# Length penalties


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_gnmt_penalty(penalty):
    toy = Toy(SEEDS, vocab=VOCAB, beams=WIDE)
    found = search(toy, [], length_penalty=penalty, length_form="gnmt")
    for seed, rows in zip(SEEDS, found, strict=True):
        scores = {
            tuple(s): toy.logprob(seed, s) / ((5 + len(s)) / 6) ** penalty for s in sequences()
        }
        expected = sorted(scores, key=lambda s: -scores[s])
        assert [tuple(h.tokens) for h in rows] == expected
        for h in rows:
            assert h.score == pytest.approx(scores[tuple(h.tokens)], rel=1e-4, abs=1e-5)


# Diverse beam search


def diverse(
    toy: Toy, seed: int, *, groups: int, size: int, diversity: float, max_length: int
) -> list[list[Hypothesis]]:
    """As its definition has it: each group's finished hypotheses, best first, nothing stopped."""
    running = [[((BOS,), 0.0)] for _ in range(groups)]
    finished: list[list[Hypothesis]] = [[] for _ in range(groups)]
    for t in range(1, max_length + 1):
        taken: Counter[int] = Counter()
        for group in range(groups):
            further = []
            for prefix, total in running[group]:
                logprobs = toy.logits(seed, prefix).double().log_softmax(-1).tolist()
                for token, p in enumerate(logprobs):
                    further.append(
                        (total + p - diversity * taken[token], total + p, (*prefix, token))
                    )
            further = sorted(further, key=lambda x: -x[0])[: 2 * size]
            ends = [x[2][-1] == EOS or t == max_length for x in further]
            for (_, total, prefix), end in list(zip(further, ends, strict=True))[:size]:
                if end:
                    finished[group].append(Hypothesis(list(prefix[1:]), total, total / t))
            kept = [x for x, end in zip(further, ends, strict=True) if not end][:size]
            running[group] = [(prefix, total) for _, total, prefix in kept]
            taken.update(prefix[-1] for prefix, _ in running[group])
    return [sorted(group, key=lambda h: -h.score)[:size] for group in finished]


def merged(groups: list[list[Hypothesis]]) -> list[Hypothesis]:
    found: list[Hypothesis] = []
    for rank in itertools.zip_longest(*groups):
        for h in sorted((h for h in rank if h is not None), key=lambda h: -h.score):
            if h.tokens not in [other.tokens for other in found]:
                found.append(h)
    return found


@pytest.mark.parametrize(("groups", "size"), [(2, 1), (2, 2), (3, 2), (5, 1)])
@pytest.mark.parametrize("diversity", [0.1, 0.8, 5.0])
def test_diverse_beam_search_is_that_of_its_definition(groups, size, diversity):
    seeds = list(range(12))
    toy = Toy(seeds, vocab=7, beams=groups * size)
    found = search(toy, [], groups=groups, diversity=diversity, max_length=6)
    options = {"groups": groups, "size": size, "diversity": diversity, "max_length": 6}
    for seed, rows in zip(seeds, found, strict=True):
        assert_same(rows, merged(diverse(toy, seed, **options)))


def test_groups_differ_the_more_the_diversity():
    seeds, kinds = list(range(20)), []
    for diversity in (0.0, 0.5, 3.0):
        toy = Toy(seeds, vocab=9, beams=4)
        found = search(toy, [], groups=4, diversity=diversity, max_length=5)
        kinds.append(sum(len({h.tokens[0] for h in rows}) for rows in found))
    assert kinds[0] == len(seeds)  # without it, four times the same
    assert kinds[0] < kinds[1] < kinds[2]


def test_beams_that_cannot_be_shared_are_refused():
    with pytest.raises(ValueError, match="5 beams"):
        search(Toy([1], vocab=4, beams=5), [], groups=2, diversity=1.0)


# Sampling


def distribution(logits: Tensor, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0) -> list[float]:
    """What each token is drawn with, step by step as the methods are defined."""
    weights = [math.exp(x / temperature) for x in logits.tolist()]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    kept = order[: top_k or None]
    total, mass, nucleus = sum(weights[i] for i in kept), 0.0, []
    for i in kept:
        if mass >= top_p:
            break
        nucleus.append(i)
        mass += weights[i] / total
    best = max(weights)
    nucleus = [i for i in nucleus if weights[i] >= min_p * best]
    total = sum(weights[i] for i in nucleus)
    return [weights[i] / total if i in nucleus else 0.0 for i in range(len(weights))]


SAMPLING = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 4},
    {"top_p": 0.6},
    {"top_p": 1e-9},
    {"min_p": 0.3},
    {"temperature": 2.0, "top_k": 6, "top_p": 0.8, "min_p": 0.05},
]


@pytest.mark.parametrize("options", SAMPLING, ids=str)
def test_tokens_are_drawn_as_often_as_they_should_be(options):
    logits = 1.5 * torch.randn(12, generator=torch.Generator().manual_seed(1))
    count = 20000
    # Evenly spread numbers draw each token in proportion, to within one in `count`.
    draws = (torch.arange(count, dtype=torch.float64) + 0.5)[None, :, None] / count
    sampler = Sampler(draws, **options)
    drawn = sampler(logits.log_softmax(-1).expand(count, 1, -1)).flatten()
    found = torch.bincount(drawn, minlength=12) / count
    expected = distribution(logits, **options)
    assert found.tolist() == pytest.approx(expected, abs=2e-4)
    assert [p > 0 for p in found.tolist()] == [p > 0 for p in expected]


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_what_is_forbidden_is_never_drawn(draw):
    logprobs = torch.tensor([NEVER, -1.0, NEVER, -2.0, NEVER]).expand(1, 1, 5)
    for options in SAMPLING:
        sampler = Sampler(torch.full((1, 1, 1), draw, dtype=torch.float64), **options)
        assert sampler(logprobs).item() in (1, 3)


def test_a_row_does_not_depend_on_the_others():
    rng = random.Random(0)
    draws = torch.tensor([[[rng.random() for _ in range(3)] for _ in range(4)] for _ in range(6)])

    def run(images, rows):
        seeds = [10 + i for i in images]
        toy = Toy(seeds, vocab=VOCAB, beams=len(rows))
        sampler = Sampler(draws[:, images][:, :, rows], top_p=0.9)
        shape = {"images": len(images), "rows": len(rows), "bos": BOS, "eos": EOS}
        steps = list(generate_steps(toy.step, sampler, **shape, max_length=6))
        return collect_hypotheses(steps, eos=EOS, score=length_normalization(1.0))

    together = run([0, 1, 2, 3], [0, 1, 2])
    for image in range(4):
        for row in range(3):
            assert run([image], [row]) == [[together[image][row]]]
    assert len({tuple(h.tokens) for rows in together for h in rows}) > 4
    for image, rows in enumerate(together):
        for h in rows:
            p = Toy([0], vocab=VOCAB, beams=1).logprob(10 + image, h.tokens)
            assert h.logprob == pytest.approx(p, abs=1e-5)


def test_the_likeliest_each_time_is_greedy_search():
    seeds = list(range(9))
    one, two = (Toy(seeds, vocab=VOCAB, beams=1) for _ in range(2))
    shape = {"images": 9, "bos": BOS, "eos": EOS, "max_length": 6}
    steps = list(generate_steps(one.step, choose_best, rows=1, **shape))
    assert collect_hypotheses(steps, eos=EOS, score=length_normalization(1.0)) == greedy_search(
        two.step, **shape
    )


# A queue of images


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("first", [1, 4])
def test_images_that_come_later_are_searched_as_if_alone(beams, first):
    seeds = list(range(23))
    toy = Toy(seeds[:first], vocab=6, beams=beams, sharp=3)
    waiting = seeds[first:]
    most = []

    def admit(places):
        assert len(places) >= 1
        new = [waiting.pop(0) for _ in range(min(len(places), len(waiting)))]
        for place, seed in zip(places.tolist(), new, strict=False):
            toy.present[place] = seed
            toy.rows[place * beams : (place + 1) * beams] = [()] * beams
        most.append(len(toy.present))
        return len(new)

    options = {"beams": beams, "bos": BOS, "eos": EOS, "max_length": 7}
    rules = [no_repeat_ngram(2), min_length(1, eos=EOS)]
    stream = beam_stream(toy.step, toy.reorder, images=first, rules=rules, admit=admit, **options)
    found = dict(stream)
    assert sorted(found) == seeds
    assert max(most) == first
    for seed in seeds:
        alone = Toy([seed], vocab=6, beams=beams, sharp=3)
        expected = beam_search(alone.step, alone.reorder, images=1, rules=rules, **options)
        assert_same(found[seed], expected[0])
