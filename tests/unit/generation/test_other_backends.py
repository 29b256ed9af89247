"""Searches on a backend with its own special ids and memories that admits no images."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest

from captioner.config import AnswerConfig, DecodingConfig
from captioner.decoding import Hypothesis, Trie
from captioner.decoding.numpy_arrays import NUMPY
from captioner.generation.answers import search_answers
from captioner.generation.captions import search_caption_stream, search_captions, stream_tokens
from captioner.generation.text_scores import score_texts

VOCAB = 12


@dataclass(frozen=True)
class Memory:
    """An image, whose memory has a layout."""

    seed: int
    layout: int


class Table:
    """A backend whose logits depend on the image and the last token."""

    arrays = NUMPY
    bos, pad, ends = 7, -1, (6, 2)
    admits, captions = False, True
    answers = ()
    inference = staticmethod(nullcontext)

    def __init__(self) -> None:
        self.batches: list[list[Memory]] = []

    def start(self, memories, *, rows, room, temperature=1.0):
        assert len({memory.layout for memory in memories}) == 1
        self.batches.append(list(memories))
        return State(memories, rows)

    def score(self, memories, texts, *, temperature=1.0):
        self.scored = texts
        return np.zeros(texts.shape, np.float32)


class State:
    """A search without `admit`."""

    def __init__(self, memories, rows) -> None:
        self.present, self.rows, self.begun = list(memories), rows, False

    def step(self, tokens):
        assert self.begun or (tokens == Table.bos).all()
        self.begun = True
        tables = np.stack([logits(memory.seed) for memory in self.present])
        return tables[np.arange(len(tokens))[:, None], tokens]

    def reorder(self, rows):
        self.present = [self.present[row // self.rows] for row in rows[:: self.rows].tolist()]


def logits(seed: int) -> np.ndarray:
    table = np.random.default_rng(seed).standard_normal((VOCAB, VOCAB)).astype(np.float32)
    table[:, Table.bos] = float("-inf")
    return table


MEMORIES = [Memory(seed, layout=seed % 3) for seed in range(30)]
BATCHES = [MEMORIES[:14], MEMORIES[14:16], MEMORIES[16:]]


def assert_ended(hypotheses: list[Hypothesis], length: int) -> None:
    for hypothesis in hypotheses:
        count = len(hypothesis.tokens)
        ends = [i for i, token in enumerate(hypothesis.tokens, 1) if token in Table.ends]
        assert ends == [count] or (not ends and count == length)


@pytest.mark.parametrize("config", [
    DecodingConfig(beam_size=4, max_length=8), DecodingConfig(method="sample", max_length=8),
], ids=["beam", "sample"])  # fmt: skip
def test_batches_are_decoded_by_themselves_in_order(config: DecodingConfig) -> None:
    backend = Table()
    results = list(search_caption_stream(backend, BATCHES, config))
    assert [len(batch) for batch in backend.batches] == [5, 5, 4, 1, 1, 5, 5, 4]
    for number, (memory, found) in enumerate(zip(MEMORIES, results, strict=True)):
        assert_ended(found, 8)
        if config.method == "beam":
            assert [found] == search_captions(Table(), [memory], config), number
    assert {found[0].tokens[-1] for found in results} >= {*Table.ends}


def test_streams_stop_before_any_end() -> None:
    config, last = DecodingConfig(beam_size=1, max_length=20), set()
    for memory in MEMORIES:
        [[best]] = search_captions(Table(), [memory], config)
        tokens = list(stream_tokens(Table(), memory, config))
        assert tokens == [token for token in best.tokens if token not in Table.ends]
        last.add(best.tokens[-1])
    assert last >= {*Table.ends}


def test_closed_answers_sum_to_one() -> None:
    answers = [(4, 6), (4, 9, 6), (5, 8, 6)]
    closed = Trie(answers, eos=Table.ends)
    [found] = search_answers(Table(), MEMORIES[:1], AnswerConfig(beam_size=3), closed=closed)
    assert sorted(tuple(h.tokens) for h in found) == answers
    assert sum(np.exp(h.logprob) for h in found) == pytest.approx(1)


def test_texts_are_padded_with_the_id_of_the_backend() -> None:
    backend = Table()
    assert score_texts(backend, MEMORIES[0], [[4, 6], [4, 5, 6]]) == [0, 0]
    assert backend.scored.tolist() == [[[4, 6, -1], [4, 5, 6]]]
