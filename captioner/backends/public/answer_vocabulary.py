"""The vocabulary of a classifier of questions: each answer is one id.

A tokenizer for text would not do, because it does not restore every answer: that of BERT inserts
spaces around punctuation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from captioner.backends.public.public_vocabulary import ControlTokens, Vocabulary


class AnswerVocabulary(Vocabulary):
    """Answers to ids and back.

    The ids are those of the answers, then the end, then all characters. Characters spell a text
    that is no answer, so that a message can quote it.

    Args:
        answers: The answers, in the order of the logits.
        tokenizer: The tokenizer of questions.
        words: Number of embeddings for the tokens of questions.
    """

    def __init__(self, answers: Sequence[str], tokenizer: Any, *, words: int) -> None:
        end = len(answers)
        super().__init__(tokenizer, size=end + 1, ends=[end])
        self.special = frozenset([end])
        self.controls = [ControlTokens(tokenizer, words)]
        self.answers = list(answers)
        self.ids = {answer: i for i, answer in reversed(list(enumerate(answers)))}
        self.longest = max(map(len, answers)) + 1
        """Ids of the longest text that can be an answer, spelled in characters."""

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return the id of an answer, or of each character of another text, and the end."""
        end = self.ends[0]
        place = self.ids.get(text, self.ids.get(text.lower()))
        ids = [end + 1 + ord(c) for c in text] if place is None else [place]
        return [*ids[: None if max_length is None else max_length - 1], end]

    def generates(self, ids: Sequence[int]) -> bool:
        """Return True: texts that are no answer are rejected as such."""
        return True

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids up to the end."""
        end, pieces = self.ends[0], []
        for i in map(int, ids):
            if i == end:
                break
            pieces.append(self.answers[i] if i < end else chr(i - end - 1))
        return "".join(pieces)

    def list_pieces(self) -> list[str | None]:
        """Return the text of each answer, and None for the end."""
        return [*self.answers, None]
