"""Score given texts: their log-probabilities as captions of an image or answers to a question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.backends.base import Backend, Memory
from captioner.errors import CaptionerError


def score_texts(
    backend: Backend, memory: Memory, texts: Sequence[Sequence[int]], *, temperature: float = 1.0
) -> list[float]:
    """Return the summed log-probability of each text, token ids that end in EOS.

    `memory` is that of an image or a question; `temperature` divides the logits.
    """
    tokens = np.full((1, len(texts), max(map(len, texts), default=0)), backend.pad)
    for row, text in zip(tokens[0], texts, strict=True):
        row[: len(text)] = text
    totals = backend.score([memory], tokens, temperature=temperature).sum(-1)
    return [float(total) for total in totals[0]]


def score_known_answers(
    backend: Backend, memory: Memory, texts: Sequence[Sequence[int]], *, temperature: float = 1.0
) -> list[float]:
    """Return the log-probability of each text as an answer of a classifier of questions.

    The arguments are those of `score_texts`. Raises CaptionerError for a text that is none of the
    answers.
    """
    (logprobs,) = backend.classify([memory], temperature=temperature).tolist()
    known = dict(zip(backend.answers, logprobs, strict=True))
    unknown = [text for text in texts if tuple(text) not in known]
    if unknown:
        raise CaptionerError(
            f"texts: {backend.tokenizer.decode(unknown[0])!r} is none of the {len(known)} answers"
            " of this model, which classifies questions"
        )
    return [known[tuple(text)] for text in texts]
