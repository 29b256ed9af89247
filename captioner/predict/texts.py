"""Texts of callers to token ids: captions, answers and questions, as the model was trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from captioner.backends.vocabulary import TextTokenizer
from captioner.config import Config
from captioner.errors import CaptionerError, QuestionError
from captioner.predict.checks import check_text, quote
from captioner.text import normalize_caption, normalize_question


def encode_text(
    text: Any, *, tokenizer: TextTokenizer, max_length: int, lowercase: bool
) -> list[int]:
    """Return the ids of a caption or answer, EOS last; raise CaptionerError."""
    check_text(text, "a text", CaptionerError)
    normalized = normalize_caption(text, lowercase=lowercase)
    if not normalized:
        raise CaptionerError(f"texts: {text!r} has no words")
    ids = tokenizer.encode(normalized)
    check_tokens(ids, f"texts: {quote(text)}", tokenizer)
    if len(ids) > max_length:
        raise CaptionerError(
            f"texts: {quote(text)} has {len(ids)} tokens; this model generates at most"
            f" {max_length}, the end mark included"
        )
    return ids


def check_tokens(ids: Sequence[int], text: str, tokenizer: TextTokenizer) -> None:
    """Raise CaptionerError if the model cannot generate the ids of a text."""
    if not tokenizer.generates(ids):
        raise CaptionerError(f"{text} cannot be generated with the tokens of this model")


def encode_question(question: Any, *, tokenizer: TextTokenizer, config: Config) -> list[int]:
    """Return the ids of a question; raise QuestionError."""
    check_text(question, "a question", QuestionError)
    text = normalize_question(question, lowercase=config.data.lowercase)
    if not any(c.isalnum() for c in text):
        problem = f"{quote(question)} has no letter and no digit" if text else "is empty"
        raise QuestionError(f"the question {problem}; ask in words")
    ids = tokenizer.question_tokenizer.encode(text)
    if problem := tokenizer.question_problem(text):
        raise QuestionError(f"the question {problem}")
    settings = config.model.question
    if settings is not None and len(ids) > settings.max_length:
        raise QuestionError(
            f"the question {quote(question)} has {len(ids)} tokens; this model reads at most"
            f" {settings.max_length}, the end mark included; shorten it"
        )
    return ids
