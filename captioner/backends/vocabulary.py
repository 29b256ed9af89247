"""Define the interface of a backend's tokenizer: texts to token ids and back.

`captioner.tokenizer.Tokenizer` implements it for checkpoints of this package; a backend of another
library brings an implementation for its own vocabulary, such as byte-level BPE or WordPiece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class QuestionTokenizer(Protocol):
    """The tokenizer of questions, which may have a vocabulary of its own."""

    @property
    def pad(self) -> int:
        """The id that fills the end of shorter questions in a batch."""

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return the token ids of a text, with the special ids that the encoder expects.

        A text with more than `max_length` ids is truncated between characters.
        """


class TextIds(Protocol):
    """The ids at the beginning and the end of the texts that a model generates."""

    @property
    def bos(self) -> int:
        """The id of the token before the first one."""

    @property
    def pad(self) -> int:
        """The id that fills the end of shorter texts in a batch; no id of a text or of `ends`."""

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text; the first is the one that `encode` appends."""


class TextTokenizer(TextIds, Protocol):
    """The tokenizer of the texts that a model generates. It can be pickled.

    The text of the first n ids begins with the text of fewer ids, except for U+FFFD at its end,
    which stands for the first bytes of a character. Streaming depends on it.
    """

    @property
    def silent(self) -> tuple[int, ...]:
        """Special ids that texts contain, such as a first token that the model is forced to."""

    @property
    def suppressed(self) -> tuple[int, ...]:
        """Ids that the settings of the model never allow."""

    @property
    def question_tokenizer(self) -> QuestionTokenizer:
        """The tokenizer of questions, which may be this one."""

    def __len__(self) -> int:
        """Return the number of ids V, which is also the number of logits."""

    def list_pieces(self) -> list[str | None]:
        """Return the text of each id (V entries), spaces included; None for special ids.

        A piece that begins a word has a space in front, also where it is the first of a text. A
        byte beyond ASCII that is not a whole character within its piece becomes U+DC80 to U+DCFF,
        as with Python's error handler `surrogateescape`.
        """

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return the token ids of a text and its end, without `bos`.

        A text with more than `max_length` ids, its end included, is truncated between characters.
        """

    def generates(self, ids: Sequence[int]) -> bool:
        """Return whether the ids of `encode` are a text that the model can generate.

        It cannot generate ids of unknown characters, special ids and ids without a logit.
        """

    def question_problem(self, question: str) -> str:
        """Return what a question contains that no question may, as the end of a sentence.

        That is a token that controls the model. Empty if there is nothing.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids up to the first of `ends`; special ids are skipped."""
