"""Search for answers to questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from captioner.backends.base import Backend, Memory
from captioner.config import AnswerConfig
from captioner.decoding import Hypothesis, Trie, beam_search, constrain_to_trie, greedy_search
from captioner.decoding.beam import Reorder
from captioner.decoding.search import Step
from captioner.tokenizer import BOS, EOS


def search_answers(
    backend: Backend,
    memories: Sequence[Memory],
    config: AnswerConfig,
    *,
    num_return: int | None = None,
    closed: Trie | None = None,
) -> list[list[Hypothesis]]:
    """Return the answers to each question, most likely first, with their log-probabilities.

    Args:
        backend: The model.
        memories: One per question, from `Backend.encode_questions`.
        config: The search; its temperature divides the logits.
        num_return: End the search of a question when its first so many answers are certain.
        closed: The only answers that can be returned. Each token's probability is normalized
            over the tokens that may follow, so the probabilities of all members sum to 1. No
            member may be longer than `backend.max_length`.
    """
    beams, length = config.beam_size, config.max_length if closed is None else closed.longest
    options: dict[str, Any] = {"images": len(memories), "bos": BOS, "eos": EOS}
    options |= {"max_length": length, "length_penalty": 0.0, "arrays": backend.arrays}
    with backend.inference():
        state = backend.start(memories, rows=beams, room=length, temperature=config.temperature)
        step: Step = state.step
        reorder: Reorder = state.reorder
        if closed is not None:
            step, reorder = constrain_to_trie(step, reorder, closed)
        if beams == 1:
            return greedy_search(step, **options)
        options |= {"beams": beams, "stop": "exact", "num_return": num_return}
        return beam_search(step, reorder, **options)
