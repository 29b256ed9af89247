"""Compare searches in a closed set with brute force: renormalized probabilities of members."""

from __future__ import annotations

import math
import random
import time
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy_search import BOS, EOS, NEVER, PENALTIES, Sequence, Toy, assert_same, never_stopping

from captioner.decoding import (
    Hypothesis,
    Trie,
    beam_search,
    constrain_to_trie,
    greedy_search,
    sample,
)

VOCAB, PAD = 6, 2
STOPS = ("first", "heuristic", "exact")
Answers = list[list[int]]

# PAD may occur in an answer here: only EOS is special to a trie.
words = st.lists(st.integers(2, VOCAB - 1), max_size=5)
answer_sets = st.lists(words.map(lambda word: [*word, EOS]), min_size=1, max_size=14)

SETS: dict[str, Answers] = {
    "one": [[3, 4, EOS]],
    "one of one token": [[3, EOS]],
    "only the end": [[EOS]],
    "prefixes": [[3, EOS], [3, 4, EOS], [3, 4, 5, EOS], [3, 4, 5, 3, EOS], [EOS]],
    "duplicates": [[4, 5, EOS], [3, EOS], [4, 5, EOS], [3, EOS], [3, EOS]],
    "deep and shallow": [[2, EOS], [3, EOS], [4, 3, 4, 3, 4, 3, 4, 3, EOS], [4, 3, 5, EOS]],
    "one path": [[5] * n + [EOS] for n in range(1, 7)],
    "one end": [[a, b, c, 2, EOS] for a in (3, 4) for b in (4, 5) for c in (2, 5)],
}
each_set = pytest.mark.parametrize("answers", SETS.values(), ids=SETS)


def following(answers: Answers, prefix: Sequence) -> set[int]:
    """Return the tokens that may follow; EOS where no member continues."""
    n = len(prefix)
    return {a[n] for a in answers if tuple(a[:n]) == prefix and len(a) > n} or {EOS}


class ClosedToy(Toy):
    """The toy model restricted to a set by a scan of all members at every step."""

    def __init__(self, answers: Answers, seeds: list[int], *, beams: int = 1) -> None:
        super().__init__(seeds, vocab=VOCAB, beams=beams)
        self.answers = answers

    def logits(self, seed: int, prefix: Sequence) -> Tensor:
        may = following(self.answers, prefix[1:])
        return torch.tensor(
            [x if i in may else NEVER for i, x in enumerate(super().logits(seed, prefix).tolist())]
        )

    def all_members(self, seed: int) -> dict[Sequence, float]:
        """Return all members with their log-probabilities."""
        return {tuple(a): self.logprob(seed, a) for a in self.answers}


def longest(answers: Answers) -> int:
    return max(map(len, answers))


def closed_beam(
    answers: Answers,
    seeds: list[int],
    *,
    beams: int,
    penalty: float = 0.0,
    stop: str = "exact",
    max_length: int | None = None,
) -> list[list[Hypothesis]]:
    toy, trie = Toy(seeds, vocab=VOCAB, beams=beams), Trie(answers, eos=EOS)
    step, reorder = constrain_to_trie(toy.step, toy.reorder, trie)
    options = {"images": len(seeds), "beams": beams, "bos": BOS, "eos": EOS, "stop": stop}
    options |= {"max_length": max_length or trie.longest, "length_penalty": penalty}
    return beam_search(step, reorder, **options)


def closed_greedy(answers: Answers, seeds: list[int]) -> list[Hypothesis]:
    toy = Toy(seeds, vocab=VOCAB, beams=1)
    step, _ = constrain_to_trie(toy.step, toy.reorder, Trie(answers, eos=EOS))
    options = {"bos": BOS, "eos": EOS, "max_length": longest(answers)}
    return [found for [found] in greedy_search(step, images=len(seeds), **options)]


def closed_sample(answers: Answers, seeds: list[int], rows: int) -> list[list[list[int]]]:
    toy = Toy(seeds, vocab=VOCAB, beams=rows)
    step, _ = constrain_to_trie(toy.step, toy.reorder, Trie(answers, eos=EOS))
    options = {"images": len(seeds), "rows": rows, "bos": BOS, "eos": EOS, "pad": PAD}
    return sample(step, **options, max_length=longest(answers) + 2).tolist()


def assert_all_members(found: list[Hypothesis], expected: dict[Sequence, float]) -> None:
    """Assert that all members occur once, in order, and that their probabilities sum to 1."""
    assert len(found) == len(expected)
    assert {tuple(h.tokens) for h in found} == set(expected)
    for h in found:
        assert h.logprob == pytest.approx(expected[tuple(h.tokens)], rel=1e-5, abs=1e-5)
    assert all(one.score >= two.score for one, two in pairwise(found))
    assert sum(math.exp(h.logprob) for h in found) == pytest.approx(1.0, abs=1e-5)


@each_set
@pytest.mark.parametrize("spare", [0, 1, 9])
@pytest.mark.parametrize("stop", STOPS)
def test_a_wide_beam_finds_all_members(answers: Answers, stop: str, spare: int) -> None:
    seeds = [1, 2, 3]
    beams = len({tuple(a) for a in answers}) + spare
    closed = ClosedToy(answers, seeds)
    for further in (0, 4):  # a longer search finds nothing more
        found = closed_beam(
            answers, seeds, beams=beams, stop=stop, max_length=longest(answers) + further
        )
        for seed, hypotheses in zip(seeds, found, strict=True):
            assert_all_members(hypotheses, closed.all_members(seed))


@given(answer_sets, st.integers(0, 4), st.sampled_from(PENALTIES), st.sampled_from(STOPS))
def test_a_wide_beam_finds_all_members_of_any_set(
    answers: Answers, spare: int, penalty: float, stop: str
) -> None:
    beams, seeds = len(answers) + spare, [4, 5]
    found = closed_beam(answers, seeds, beams=beams, penalty=penalty, stop=stop)
    for seed, hypotheses in zip(seeds, found, strict=True):
        assert_all_members(hypotheses, ClosedToy(answers, seeds).all_members(seed))
        for h in hypotheses:
            assert h.score == pytest.approx(h.logprob / len(h.tokens) ** penalty, rel=1e-5)


@given(answer_sets, st.integers(1, 6), st.sampled_from(PENALTIES))
def test_a_narrow_beam_equals_beam_search_on_a_closed_model(
    answers: Answers, beams: int, penalty: float
) -> None:
    seeds = [6, 7]
    options = {"beams": beams, "max_length": longest(answers), "penalty": penalty}
    for seed, found in zip(seeds, closed_beam(answers, seeds, **options), strict=True):
        expected = never_stopping(ClosedToy(answers, seeds), seed, **options)
        assert_same(found, [h for h in expected if h.logprob > NEVER])
        assert found


@given(answer_sets, st.integers(1, 6), st.sampled_from(PENALTIES), st.sampled_from(STOPS))
def test_only_members_are_generated(
    answers: Answers, beams: int, penalty: float, stop: str
) -> None:
    seeds = [8, 9]
    found = closed_beam(answers, seeds, beams=beams, penalty=penalty, stop=stop)
    for seed, hypotheses in zip(seeds, found, strict=True):
        expected = ClosedToy(answers, seeds).all_members(seed)
        assert 1 <= len(hypotheses) <= beams
        assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses)
        for h in hypotheses:
            assert h.logprob == pytest.approx(expected[tuple(h.tokens)], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("beams", [1, 5])
def test_a_single_answer_is_certain(beams: int) -> None:
    for answer in ([EOS], [3, EOS], [3, 3, 4, 5, 2, EOS]):
        expected = [Hypothesis(answer, 0.0, 0.0)]
        assert closed_beam([answer], [1, 2], beams=beams) == [expected] * 2
        assert closed_greedy([answer], [1, 2]) == expected * 2


@given(answer_sets)
def test_greedy_search_chooses_the_most_probable_allowed_token(answers: Answers) -> None:
    seeds = list(range(6))
    closed = ClosedToy(answers, seeds)
    beamed = closed_beam(answers, seeds, beams=1, penalty=1.0, stop="first")
    for seed, found, hypotheses in zip(seeds, closed_greedy(answers, seeds), beamed, strict=True):
        prefix: Sequence = (BOS,)
        while prefix[-1] != EOS:
            prefix += (closed.logits(seed, prefix).argmax().item(),)
        assert tuple(found.tokens) == prefix[1:]
        assert found.logprob == pytest.approx(closed.logprob(seed, found.tokens), abs=1e-5)
        assert_same(hypotheses, [found])


@given(answer_sets)
def test_samples_are_members(answers: Answers) -> None:
    members = {tuple(a) for a in answers}
    for image in closed_sample(answers, [1, 2], rows=8):
        for row in image:
            end = row.index(EOS) + 1
            assert tuple(row[:end]) in members
            assert set(row[end:]) <= {PAD}


def test_samples_match_the_probabilities_of_members() -> None:
    answers, rows = SETS["prefixes"] + SETS["one end"], 3000
    torch.manual_seed(0)
    for seed in (3, 4):
        [image] = closed_sample(answers, [seed], rows)
        drawn = [tuple(row[: row.index(EOS) + 1]) for row in image]
        for member, logprob in ClosedToy(answers, [seed]).all_members(seed).items():
            p = math.exp(logprob)
            error = 5 * math.sqrt(p * (1 - p) / rows) + 1 / rows
            assert drawn.count(member) / rows == pytest.approx(p, abs=error)


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("beams", [1, 3, 20])
@pytest.mark.parametrize("name", ["prefixes", "deep and shallow", "one end"])
def test_search_results_do_not_depend_on_the_batch(name: str, beams: int, stop: str) -> None:
    seeds, options = list(range(8)), {"beams": beams, "penalty": 1.0, "stop": stop}
    together = closed_beam(SETS[name], seeds, **options)
    assert together == [closed_beam(SETS[name], [s], **options)[0] for s in seeds]
    alone = [closed_greedy(SETS[name], [s])[0] for s in seeds]
    assert closed_greedy(SETS[name], seeds) == alone
    assert len({tuple(h.tokens) for h in alone}) > 1  # the images differ


def test_concurrent_searches_can_share_a_trie() -> None:
    """The position in the trie is part of the search, not of the trie."""
    trie = Trie(SETS["one path"] + SETS["prefixes"], eos=EOS)
    logits = torch.zeros(1, 1, VOCAB)
    one, two = (constrain_to_trie(lambda x: logits, lambda rows: None, trie)[0] for _ in range(2))
    start, three, five = (torch.tensor([[token]]) for token in (BOS, 3, 5))

    def allowed_tokens(found: Tensor) -> set[int]:
        return set((found > NEVER).nonzero()[:, -1].tolist())

    assert allowed_tokens(one(start)) == {EOS, 3, 5}
    assert allowed_tokens(one(five)) == {EOS, 5}
    assert allowed_tokens(two(start)) == {EOS, 3, 5}
    assert allowed_tokens(two(three)) == {EOS, 4}
    assert allowed_tokens(one(five)) == {EOS, 5}
    assert allowed_tokens(one(three)) == {EOS}


@given(answer_sets, st.data())
def test_every_row_has_allowed_tokens_and_no_nan(answers: Answers, data) -> None:
    """This holds for members, for rows that have ended and for rows that are no members."""
    shape = (2, 3)
    logits = torch.randn((*shape, VOCAB), generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    orders: list[list[int]] = []
    step, reorder = constrain_to_trie(
        lambda x: logits, lambda rows: orders.append(rows.tolist()), Trie(answers, eos=EOS)
    )
    histories: list[Sequence] = [()] * 6
    tokens = [BOS] * 6
    for _ in range(longest(answers) + 2):
        found = step(torch.tensor(tokens).view(shape))
        assert found.shape == logits.shape
        assert not found.log_softmax(-1).isnan().any()
        for history, old, new in zip(
            histories, logits.flatten(0, 1), found.flatten(0, 1), strict=True
        ):
            may = following(answers, history)
            assert set((new > NEVER).nonzero().flatten().tolist()) == may
            assert all(new[token] == old[token] for token in may)
        rows = data.draw(st.lists(st.integers(0, 5), min_size=6, max_size=6), label="rows")
        reorder(torch.tensor(rows))
        assert orders[-1] == rows  # the model's cache is reordered as well
        six_tokens = st.lists(st.integers(0, VOCAB - 1), min_size=6, max_size=6)
        tokens = data.draw(six_tokens, label="tokens")
        histories = [(*histories[r], x) for r, x in zip(rows, tokens, strict=True)]
    assert torch.equal(logits, before)  # the model's own tensor is not changed


def test_a_token_outside_the_trie_leads_to_the_end_node() -> None:
    """This includes tokens whose keys are those of the next node's edges."""
    trie = Trie([[0, 0, EOS], [1 + EOS, 1 + EOS, EOS]], eos=EOS)
    nodes, tokens = torch.arange(trie.end + 1).tile(3 * trie.width), torch.arange(3 * trie.width)
    tokens = tokens.repeat_interleave(trie.end + 1)
    beyond = tokens >= trie.width
    assert (trie.next_nodes(nodes, tokens)[beyond] == trie.end).all()
    assert (trie.next_nodes(nodes, tokens)[~beyond] != trie.end).any()


def test_allowed_tokens_that_the_model_forbids_are_equally_probable() -> None:
    toy = Toy([1, 2], vocab=VOCAB, beams=8)
    toy.forbidden = (3, 4)
    answers = [[3, 5, EOS], [3, EOS], [4, 5, EOS], [4, 3, EOS]]
    step, reorder = constrain_to_trie(toy.step, toy.reorder, Trie(answers, eos=EOS))
    options = {"images": 2, "beams": 8, "bos": BOS, "eos": EOS, "max_length": 3}
    for seed, found in zip(toy.seeds, beam_search(step, reorder, **options), strict=True):
        # After 3 the model decides; after 4 it forbids one of the two continuations.
        after = toy.logits(seed, (BOS, 3)).double()[[5, EOS]].log_softmax(0)
        expected = {
            (3, 5, EOS): after[0].item() - math.log(2),
            (3, EOS): after[1].item() - math.log(2),
            (4, 5, EOS): -math.log(2),
        }
        assert_all_members(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_constrained_logits_keep_their_dtype(dtype: torch.dtype) -> None:
    logits = torch.arange(VOCAB, dtype=dtype).expand(2, 1, -1)
    trie = Trie([[4, EOS], [5, EOS]], eos=EOS)
    step, _ = constrain_to_trie(lambda x: logits, lambda rows: None, trie)
    found = step(torch.full((2, 1), BOS))
    assert found.dtype == dtype
    assert found.tolist() == [[[NEVER] * 4 + [4.0, 5.0]]] * 2


def tensors(trie: Trie) -> dict[str, Tensor]:
    return {name: x for name, x in vars(trie).items() if isinstance(x, Tensor)}


@given(answer_sets, st.randoms(use_true_random=False))
def test_order_and_duplicates_do_not_change_a_trie(answers: Answers, rng: random.Random) -> None:
    members = {tuple(a) for a in answers}
    other = answers + rng.choices(answers, k=3)
    rng.shuffle(other)
    one, two = Trie(iter(answers), eos=EOS), Trie(other, eos=EOS)
    assert len(one) == len(two) == len(members)
    assert one.longest == two.longest == longest(answers)
    for mine, theirs in zip(tensors(one).values(), tensors(two).values(), strict=True):
        assert torch.equal(mine, theirs)


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


def test_tokens_outside_the_vocabulary_are_rejected() -> None:
    toy = Toy([0], vocab=VOCAB, beams=1)
    step, _ = constrain_to_trie(toy.step, toy.reorder, Trie([[VOCAB, EOS]], eos=EOS))
    with pytest.raises(ValueError, match="has the token 6, the model 6 tokens"):
        step(torch.full((1, 1), BOS))


def test_a_trie_is_moved_completely_and_only_when_needed() -> None:
    trie = Trie(SETS["prefixes"], eos=EOS)
    assert trie.to("cpu") is trie
    moved = trie.to("meta")
    assert {x.device.type for x in tensors(moved).values()} == {"meta"}
    assert {x.device.type for x in tensors(trie).values()} == {"cpu"}
    assert (len(moved), moved.longest) == (len(trie), trie.longest)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_search_on_an_accelerator_matches_the_cpu() -> None:
    answers, logits = SETS["prefixes"] + SETS["one end"], torch.arange(VOCAB) / VOCAB
    trie, found = Trie(answers, eos=EOS), []
    for device in ("cpu", "cuda"):
        step, reorder = constrain_to_trie(
            lambda x, device=device: logits.to(device).expand(*x.shape, -1),
            lambda rows: None,
            trie,
        )
        options = {"images": 2, "beams": 20, "bos": BOS, "eos": EOS, "length_penalty": 0.0}
        found.append(beam_search(step, reorder, **options, max_length=trie.longest, device=device))
    for one, two in zip(*found, strict=True):
        expected = {tuple(h.tokens): h.logprob for h in one}
        assert_all_members(two, expected)


@settings(max_examples=5)
@given(st.integers(0, 10**6))
def test_a_trie_of_thousands_of_answers_is_small_and_fast(seed: int) -> None:
    """3000 answers of up to seven tokens for 16 images and 5 beams, with a generous limit."""
    rng, vocab = random.Random(seed), 3000
    drawn = [[rng.randrange(4, vocab) for _ in range(rng.randint(1, 6))] for _ in range(3000)]
    trie = Trie([[*word, EOS] for word in drawn], eos=EOS)
    assert sum(x.nbytes for x in tensors(trie).values()) < 2**20

    logits = torch.randn((16, 5, vocab), generator=torch.Generator().manual_seed(seed))
    step, reorder = constrain_to_trie(lambda x: logits[: len(x)], lambda rows: None, trie)
    times = []

    def timed(tokens: Tensor) -> Tensor:
        start = time.perf_counter()
        found = step(tokens)
        times.append(time.perf_counter() - start)
        return found

    options = {"images": 16, "beams": 5, "bos": BOS, "eos": EOS, "max_length": trie.longest}
    found = beam_search(timed, reorder, **options, stop="exact")
    members = {(*word, EOS) for word in drawn}
    assert all(tuple(h.tokens) in members for hypotheses in found for h in hypotheses)
    assert sorted(times)[len(times) // 2] < 0.05  # seconds per step
