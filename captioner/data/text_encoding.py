"""Define the interface of the tokenizers that data sets use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class QuestionEncoding(Protocol):
    """Texts to token ids."""

    @property
    def pad(self) -> int:
        """The id that fills the end of shorter texts in a batch."""

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return the ids of a text, truncated to at most `max_length`."""

    def count_bytes(self, ids: Iterable[int]) -> int:
        """Return how many ids are bytes of characters without a piece of their own."""


class TextEncoding(QuestionEncoding, Protocol):
    """The tokenizer of captions and answers, with that of questions."""

    @property
    def question_tokenizer(self) -> QuestionEncoding:
        """The tokenizer of questions."""

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text; the first is the one that `encode` appends."""
