"""Search for answers to questions, or rank the answers of a classifier.

Shapes: B questions, A answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from captioner.backends.base import Backend, Memory
from captioner.config import AnswerConfig
from captioner.decoding import Hypothesis, Trie, beam_search, constrain_to_trie, greedy_search
from captioner.decoding.beam import Reorder
from captioner.decoding.numpy_arrays import NUMPY
from captioner.decoding.rules import min_length
from captioner.decoding.search import Step
from captioner.generation.search_rules import rules_of_model


def search_answers(
    backend: Backend,
    memories: Sequence[Memory],
    config: AnswerConfig,
    *,
    num_return: int | None = None,
    closed: Trie | None = None,
) -> list[list[Hypothesis]]:
    """Return the answers to each question, most likely first, with their log-probabilities.

    A classifier of questions ranks its answers; `config.beam_size` is then their largest number.

    Args:
        backend: The model.
        memories: One per question, from `Backend.encode_questions`.
        config: The search; its temperature divides the logits.
        num_return: End the search of a question when its first so many answers are certain.
        closed: The only answers that can be returned. Each token's probability is normalized
            over the tokens that may follow, so the probabilities of all members sum to 1. No
            member may be longer than `backend.max_length`.
    """
    if backend.answers:
        count = num_return or config.beam_size
        return _rank_answers(backend, memories, config.temperature, closed, count)
    beams, length = config.beam_size, config.max_length if closed is None else closed.longest
    options: dict[str, Any] = {"images": len(memories), "bos": backend.bos, "eos": backend.ends}
    options |= {"max_length": length, "length_penalty": 0.0, "arrays": backend.arrays}
    with backend.inference():
        state = backend.start(memories, rows=beams, room=length, temperature=config.temperature)
        step: Step = state.step
        reorder: Reorder = state.reorder
        if closed is not None:
            step, reorder = constrain_to_trie(step, reorder, closed)
        else:
            penalty = config.repetition_penalty
            options["rules"] = [*rules_of_model(state, penalty, greedy=beams == 1)]
            if config.min_length:
                options["rules"].append(min_length(config.min_length, eos=backend.ends))
        if beams == 1:
            return greedy_search(step, **options)
        options |= {"beams": beams, "stop": "exact", "num_return": num_return}
        return beam_search(step, reorder, **options)


def _rank_answers(
    backend: Backend,
    memories: Sequence[Memory],
    temperature: float,
    closed: Trie | None,
    count: int,
) -> list[list[Hypothesis]]:
    """Return the `count` most likely answers of a classifier; see `search_answers`."""
    logprobs = backend.classify(memories, temperature=temperature)  # (B, A)
    answers = list(backend.answers)
    if closed is not None:
        places = [place for place, ids in enumerate(answers) if ids in closed.members]
        answers = [answers[place] for place in places]
        logprobs = NUMPY.log_softmax(logprobs[:, places])
    order = np.argsort(-logprobs, axis=-1, kind="stable")[:, :count]
    return [
        [Hypothesis(list(answers[i]), float(row[i]), float(row[i])) for i in best]
        for row, best in zip(logprobs, order, strict=True)
    ]
