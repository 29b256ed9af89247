"""The searches against brute force on toy models, and against transformers on a tiny real one."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from torch import Tensor

from captioner.decoding import Hypothesis, beam_search, greedy_search
from captioner.model.decoder import Decoder

BOS, EOS = 0, 1
NEVER = float("-inf")
Sequence = tuple[int, ...]


class Toy:
    """Per image a random model of the whole history, which only `reorder` keeps straight."""

    def __init__(self, seeds: list[int], *, vocab: int, beams: int, sharp: float = 1.5) -> None:
        self.seeds, self.vocab, self.beams, self.sharp = seeds, vocab, beams, sharp
        self.forbidden: tuple[int, ...] = ()
        self.present = list(seeds)  # of the images that have not been left out
        self.rows: list[Sequence] = [()] * (len(seeds) * beams)
        self.calls: list[str] = []
        self.known: dict[tuple[int, Sequence], Tensor] = {}

    def logits(self, seed: int, prefix: Sequence) -> Tensor:
        if (seed, prefix) not in self.known:
            rng = random.Random(repr((seed, prefix)))
            values = [rng.gauss(0, self.sharp) for _ in range(self.vocab)]
            for token in self.forbidden:
                values[token] = NEVER
            self.known[seed, prefix] = torch.tensor(values)
        return self.known[seed, prefix]

    def step(self, tokens: Tensor) -> Tensor:
        assert tokens.shape == (len(self.present), self.beams)
        self.calls.append("step")
        self.rows = [(*row, x) for row, x in zip(self.rows, tokens.flatten().tolist(), strict=True)]
        found = [self.logits(self.present[i // self.beams], row) for i, row in enumerate(self.rows)]
        return torch.stack(found).view(*tokens.shape, self.vocab)

    def reorder(self, rows: Tensor) -> None:
        self.calls.append("reorder")
        images = (rows // self.beams).view(-1, self.beams)
        assert (images == images[:, :1]).all()  # a row stays with its image
        stay = images[:, 0].tolist()
        assert stay == sorted(set(stay))  # and images keep their order
        self.present = [self.present[image] for image in stay]
        self.rows = [self.rows[r] for r in rows.tolist()]

    def logprob(self, seed: int, tokens: list[int]) -> float:
        """Of a whole sequence, in float64."""
        total, prefix = 0.0, (BOS,)
        for token in tokens:
            total += self.logits(seed, prefix).double().log_softmax(-1)[token].item()
            prefix += (token,)
        return total


def beam(
    toy: Toy, *, max_length: int, length_penalty: float = 1.0, stop: str = "heuristic"
) -> list[list[Hypothesis]]:
    return beam_search(
        toy.step,
        toy.reorder,
        images=len(toy.seeds),
        beams=toy.beams,
        bos=BOS,
        eos=EOS,
        max_length=max_length,
        length_penalty=length_penalty,
        stop=stop,
    )


def greedy(toy: Toy, max_length: int) -> list[Hypothesis]:
    found = greedy_search(toy.step, images=len(toy.seeds), bos=BOS, eos=EOS, max_length=max_length)
    return [hypothesis for [hypothesis] in found]


def everything(toy: Toy, seed: int, *, max_length: int, penalty: float) -> list[Hypothesis]:
    """All sequences that a search could return, best first."""
    found, prefixes = [], [((BOS,), 0.0)]
    while prefixes:
        (prefix, total), *prefixes = prefixes
        logprobs = toy.logits(seed, prefix).double().log_softmax(-1).tolist()
        for token, logprob in enumerate(logprobs):
            tokens, p = [*prefix[1:], token], total + logprob
            if p == NEVER:
                continue
            if token == EOS or len(tokens) == max_length:
                found.append(Hypothesis(tokens, p, p / len(tokens) ** penalty))
            else:
                prefixes.append(((BOS, *tokens), p))
    return sorted(found, key=lambda h: -h.score)


def never_stopping(
    toy: Toy, seed: int, *, beams: int, max_length: int, penalty: float
) -> list[Hypothesis]:
    """Beam search as its definition has it, one image, with nothing stopped early."""
    running, finished = [((BOS,), 0.0)], []
    for t in range(1, max_length + 1):
        further = []
        for prefix, total in running:
            logprobs = toy.logits(seed, prefix).double().log_softmax(-1).tolist()
            further += [((*prefix, x), total + p) for x, p in enumerate(logprobs)]
        further = sorted(further, key=lambda pair: -pair[1])[: 2 * beams]
        ends = [prefix[-1] == EOS or t == max_length for prefix, _ in further]
        for (prefix, total), end in list(zip(further, ends, strict=True))[:beams]:
            if end:
                finished.append(Hypothesis(list(prefix[1:]), total, total / t**penalty))
        running = [pair for pair, end in zip(further, ends, strict=True) if not end][:beams]
    return sorted(finished, key=lambda h: -h.score)[:beams]


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    for one, two in zip(found, expected, strict=True):
        assert one.logprob == pytest.approx(two.logprob, rel=1e-5, abs=1e-5)
        assert one.score == pytest.approx(two.score, rel=1e-5, abs=1e-5)


PENALTIES = (0.0, 0.6, 1.0, 2.0, -1.0)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(
    ("vocab", "max_length", "beams"), [(3, 5, 63), (4, 4, 121), (5, 4, 341), (5, 1, 5)]
)
def test_a_wide_beam_is_an_exhaustive_search(
    vocab: int, max_length: int, beams: int, penalty: float
) -> None:
    toy = Toy([vocab, 77], vocab=vocab, beams=beams)
    for seed, found in zip(
        toy.seeds,
        beam(toy, max_length=max_length, length_penalty=penalty, stop="exact"),
        strict=True,
    ):
        expected = everything(toy, seed, max_length=max_length, penalty=penalty)
        assert len(expected) == beams  # so many sequences there are
        assert_same(found, expected)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_the_exact_stop_loses_nothing(beams: int, penalty: float) -> None:
    """What it finds is what a search that never stops early finds, and it does stop early."""
    seeds = list(range(12))
    toy = Toy(seeds, vocab=6, beams=beams, sharp=3)
    options = {"max_length": 8, "penalty": penalty}
    for seed, found in zip(
        seeds, beam(toy, max_length=8, length_penalty=penalty, stop="exact"), strict=True
    ):
        assert_same(found, never_stopping(toy, seed, beams=beams, **options))


@pytest.mark.parametrize("stop", ["first", "heuristic", "exact"])
def test_a_search_that_cannot_get_better_stops(stop: str) -> None:
    """Each token but EOS costs much, so nothing that goes on can win."""
    toy = Toy([0], vocab=4, beams=2)
    toy.logits = lambda seed, prefix: torch.tensor([-30.0, 0.0, -31.0, -32.0])
    found = beam(toy, max_length=50, length_penalty=0.0, stop=stop)
    assert found[0][0].tokens == [EOS]
    assert len(toy.calls) < 10


def test_the_stops_differ_as_they_are_named() -> None:
    """`first` searches the least and `exact` the most, and the best score tells."""
    seeds, scores, steps = list(range(30)), {}, {}
    for stop in ("first", "heuristic", "exact"):
        scores[stop], steps[stop] = [], 0
        for seed in seeds:
            toy = Toy([seed], vocab=6, beams=2, sharp=3)
            found = beam(toy, max_length=9, stop=stop)
            scores[stop].append(found[0][0].score)
            steps[stop] += toy.calls.count("step")
    assert steps["first"] <= steps["heuristic"] < steps["exact"]
    for first, heuristic, exact in zip(*scores.values(), strict=True):
        assert first <= heuristic + 1e-6
        assert heuristic <= exact + 1e-6
    assert scores["exact"] != scores["first"]


@pytest.mark.parametrize("max_length", [1, 2, 7])
def test_one_beam_is_greedy_search(max_length: int) -> None:
    seeds = list(range(20))
    one, two = (Toy(seeds, vocab=5, beams=1) for _ in range(2))
    for [beamed], single in zip(
        beam(one, max_length=max_length), greedy(two, max_length), strict=True
    ):
        assert_same([beamed], [single])


def test_greedy_search_takes_the_likeliest_token_each_time() -> None:
    seeds = list(range(20))
    toy = Toy(seeds, vocab=5, beams=1)
    lengths = set()
    for seed, found in zip(seeds, greedy(toy, 7), strict=True):
        prefix: Sequence = (BOS,)
        while len(prefix) < 8 and prefix[1:][-1:] != (EOS,):
            prefix += (toy.logits(seed, prefix).argmax().item(),)
        assert tuple(found.tokens) == prefix[1:]
        assert found.logprob == pytest.approx(toy.logprob(seed, found.tokens), rel=1e-5)
        assert found.score == pytest.approx(found.logprob / len(found.tokens))
        lengths.add(len(found.tokens))
    assert 1 in lengths
    assert 7 in lengths


def test_greedy_search_stops_when_all_have_ended() -> None:
    toy = Toy([0, 1], vocab=3, beams=1)
    toy.logits = lambda seed, prefix: torch.tensor([0.0, len(prefix) - 1.7 - seed, 0.5])
    assert [h.tokens for h in greedy(toy, 100)] == [[2, 2, EOS], [2, 2, 2, EOS]]
    assert len(toy.calls) == 4


@pytest.mark.parametrize("stop", ["first", "heuristic", "exact"])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_an_image_does_not_depend_on_its_batch(stop: str, penalty: float) -> None:
    seeds = list(range(10))
    options = {"max_length": 8, "length_penalty": penalty, "stop": stop}
    together = beam(Toy(seeds, vocab=6, beams=3, sharp=3), **options)
    apart = [beam(Toy([s], vocab=6, beams=3, sharp=3), **options)[0] for s in seeds]
    for one, other in zip(together, apart, strict=True):
        assert_same(one, other)
    alone = [greedy(Toy([s], vocab=6, beams=1), 8)[0] for s in seeds]
    assert_same(greedy(Toy(seeds, vocab=6, beams=1), 8), alone)


@pytest.mark.parametrize("stop", ["first", "heuristic", "exact"])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_hypotheses_are_whole_unique_sorted_and_scored(
    beams: int, penalty: float, stop: str
) -> None:
    seeds, max_length = list(range(15)), 6
    toy = Toy(seeds, vocab=5, beams=beams)
    found = beam(toy, max_length=max_length, length_penalty=penalty, stop=stop)
    assert len(found) == len(seeds)
    for seed, hypotheses in zip(seeds, found, strict=True):
        assert 1 <= len(hypotheses) <= beams
        assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses)
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for h in hypotheses:
            assert EOS not in h.tokens[:-1]
            assert h.tokens[-1] == EOS or len(h.tokens) == max_length
            assert h.logprob == pytest.approx(toy.logprob(seed, h.tokens), rel=1e-5)
            assert h.score == pytest.approx(h.logprob / len(h.tokens) ** penalty, rel=1e-5)


def test_steps_and_reorders_alternate() -> None:
    toy = Toy([0, 1], vocab=5, beams=3)
    beam(toy, max_length=6)
    steps = toy.calls.count("step")
    expected = ["step", "reorder"] * 6
    assert toy.calls in (expected[: 2 * steps], expected[: 2 * steps - 1])


def test_without_an_end_a_sequence_is_cut_at_the_maximum_length() -> None:
    toys = [Toy([0, 1], vocab=5, beams=beams) for beams in (3, 1)]
    for toy in toys:
        toy.forbidden = (EOS,)
    for hypotheses in [*beam(toys[0], max_length=4), *([h] for h in greedy(toys[1], 4))]:
        for h in hypotheses:
            assert len(h.tokens) == 4
            assert EOS not in h.tokens


@pytest.mark.parametrize("stop", ["first", "heuristic", "exact"])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_forbidden_tokens_are_never_found_and_leave_no_nan(stop: str, penalty: float) -> None:
    """More beams than the vocabulary leaves room for, so that some of them are dead."""
    toy = Toy([0, 1, 2], vocab=4, beams=9)
    toy.forbidden = (BOS, 3)
    found = beam(toy, max_length=4, length_penalty=penalty, stop=stop)
    for seed, hypotheses in zip(toy.seeds, found, strict=True):
        assert_same(hypotheses, everything(toy, seed, max_length=4, penalty=penalty))


def test_only_the_end_is_allowed() -> None:
    toy = Toy([0, 1], vocab=4, beams=3)
    toy.forbidden = (0, 2, 3)
    expected = Hypothesis([EOS], 0.0, 0.0)
    assert beam(toy, max_length=5) == [[expected]] * 2
    assert len(toy.calls) == 1


# The oracle: transformers' beam search on a tiny MBart with the same weights. Its ids differ
# from those of the toy models above.

PAD, START, END, VOCAB, WIDTH, LONGEST, INPUTS = 0, 2, 3, 17, 16, 12, 60
SEEDS = (14, 22, 28)  # models whose sequences end at many lengths, whatever the penalty


@cache
def mbart(seed: int):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.MBartConfig(
        vocab_size=VOCAB,
        d_model=WIDTH,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=2 * LONGEST,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=END,
        decoder_start_token_id=START,
        forced_eos_token_id=None,
        scale_embedding=False,
        dropout=0.0,
    )
    model = transformers.MBartForConditionalGeneration(config).eval()
    decoder = model.model.decoder
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.ones_(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        # Sharp, and moved by place and memory, so that ends come at many lengths.
        decoder.layer_norm.weight.fill_(3)
        decoder.layer_norm.bias.zero_()
        decoder.embed_positions.weight *= 2
        for layer in decoder.layers:
            layer.encoder_attn.out_proj.weight *= 2
    return model


@cache
@torch.no_grad()
def inputs(seed: int) -> tuple[Tensor, Tensor]:
    """Token inputs of MBart's encoder, and the memory that comes of them."""
    torch.manual_seed(seed)
    ids = torch.randint(4, VOCAB, (INPUTS, 6))
    return ids, mbart(seed).model.encoder(input_ids=ids).last_hidden_state


def transformers_search(
    seed: int, *, beams: int, penalty: float, early: bool | str
) -> tuple[list[list[list[int]]], list[float]]:
    out = mbart(seed).generate(
        input_ids=inputs(seed)[0],
        attention_mask=torch.ones_like(inputs(seed)[0]),
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=penalty,
        early_stopping=early,
        max_new_tokens=LONGEST,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = []
    for row in out.sequences[:, 1:].tolist():
        end = row.index(END) + 1 if END in row else LONGEST
        found.append(row[:end])
    rows = [found[i : i + beams] for i in range(0, len(found), beams)]
    return rows, out.sequences_scores.tolist() if beams > 1 else []


@torch.inference_mode()
def our_search(seed: int, *, beams: int, penalty: float, stop: str) -> list[list[Hypothesis]]:
    decoder = Decoder(
        VOCAB, width=WIDTH, heads=2, ffn=16, layers=2, max_length=LONGEST, pad=PAD
    ).eval()
    decoder.from_mbart(mbart(seed).model.decoder.state_dict())
    memory = inputs(seed)[1]
    cache = decoder.start(memory, INPUTS * beams, LONGEST)
    options = {"images": INPUTS, "bos": START, "eos": END, "max_length": LONGEST}
    if stop == "greedy":
        return greedy_search(lambda x: decoder.step(x, cache), **options)
    return beam_search(
        lambda x: decoder.step(x, cache),
        cache.reorder,
        beams=beams,
        length_penalty=penalty,
        stop=stop,
        **options,
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("stop", "early"), [("first", True), ("heuristic", False), ("exact", "never")]
)
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_beam_search_is_that_of_transformers(
    penalty: float, stop: str, early: bool | str, seed: int
) -> None:
    expected, scores = transformers_search(seed, beams=5, penalty=penalty, early=early)
    found = our_search(seed, beams=5, penalty=penalty, stop=stop)
    assert [[h.tokens for h in hypotheses] for hypotheses in found] == expected
    assert [h.score for hypotheses in found for h in hypotheses] == pytest.approx(scores, rel=1e-4)
    # Neither all cut nor all alike, or there would be little to agree on.
    best = [tuple(hypotheses[0].tokens) for hypotheses in found]
    assert len(set(map(len, best))) > 2
    assert len(set(best)) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_search_is_that_of_transformers(seed: int) -> None:
    expected, _ = transformers_search(seed, beams=1, penalty=1.0, early=False)
    for stop in ("greedy", "heuristic"):
        found = our_search(seed, beams=1, penalty=1.0, stop=stop)
        assert [[h.tokens for h in hypotheses] for hypotheses in found] == expected


@pytest.mark.parametrize("wanted", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_a_search_for_the_first_finds_the_first_and_ends_sooner(seed, wanted):
    generator = torch.Generator().manual_seed(seed)
    table = 3 * torch.randn(2, VOCAB, VOCAB, generator=generator)
    steps = []

    def search(**options):
        count, present = [], torch.arange(2)

        def step(tokens):
            count.append(1)
            return table[present[:, None], tokens]

        def reorder(rows):
            nonlocal present
            present = present[rows[::4] // 4]

        found = beam_search(
            step, reorder, images=2, beams=4, bos=BOS, eos=EOS, max_length=12,
            length_penalty=0.0, stop="exact", **options,
        )  # fmt: skip
        steps.append(len(count))
        return found

    whole, first = search(), search(num_return=wanted)
    assert steps[1] <= steps[0]
    for every, some in zip(whole, first, strict=True):
        assert some[:wanted] == every[:wanted]
