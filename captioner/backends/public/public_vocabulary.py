"""The tokenizer of a transformers model, with the interface that searches and constraints use.

Shapes: V vocabulary: the logits of the model, which may be more than the tokens of its tokenizer.
"""

from __future__ import annotations

import itertools
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from typing import Any

PAD = -1
"""Fills the end of shorter texts. It is no token, because some models have none for padding."""
_JOINED = frozenset(f" {c}" for c in ".,?!'")
"""Pieces of WordPiece that stand directly behind a word."""


class PromptTokenizer:
    """The tokenizer of the questions of a family, which encodes prompts.

    Args:
        prompt: Returns the token ids of the prompt with a question.
    """

    pad = PAD

    def __init__(self, prompt: Callable[[str], list[int]]) -> None:
        self.prompt = prompt

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return the token ids of the prompt; a question that is too long is truncated."""
        if max_length is None:
            return self.prompt(text)
        lengths = range(len(text) + 1)  # in characters
        excess = bisect_right(lengths, max_length, key=lambda n: len(self.prompt(text[:n])))
        return self.prompt(text[: max(excess - 1, 0)])

    def count_bytes(self, ids: Iterable[int]) -> int:
        """Return 0, because byte pieces matter only for generated text."""
        return 0


class ControlTokens:
    """The tokens that a question must not contain.

    Args:
        tokenizer: A tokenizer of transformers that reads questions.
        size: Number of embeddings of the model for its tokens.
        ids: The control tokens; by default the special tokens of the tokenizer.
    """

    def __init__(self, tokenizer: Any, size: int, ids: frozenset[int] | None = None) -> None:
        self.tokenizer, self.size = tokenizer, size
        ids = _special_ids(tokenizer) if ids is None else ids
        self.ids = ids - {tokenizer.unk_token_id}  # stands for characters of other languages

    def find_problem(self, question: str) -> str:
        """Return what a question contains that no question may; empty if there is nothing."""
        for i in self.tokenizer(question, add_special_tokens=False)["input_ids"]:
            token = self.tokenizer.convert_ids_to_tokens(i)
            if i in self.ids:
                return f"contains the control token {token!r}; remove it"
            if i >= self.size:
                return f"contains {token!r}, for which this model has no weights; remove it"
        return ""


class Vocabulary:
    """Text to token ids and back.

    Args:
        tokenizer: The tokenizer of transformers.
        size: Number of logits V.
        ends: The ids that end a text; `encode` appends the first.
    """

    pad = PAD

    def __init__(self, tokenizer: Any, *, size: int, ends: Sequence[int]) -> None:
        self.tokenizer, self.size, self.ends = tokenizer, size, tuple(ends)
        self.bos = self.ends[0]
        """The input of the first step, which the prompt replaces."""
        self.special = _special_ids(tokenizer).union(self.ends)
        self.silent: tuple[int, ...] = ()
        """The special id with which each text begins, if the model is forced to it."""
        self.suppressed: tuple[int, ...] = ()
        """The ids that the generation settings of the model suppress."""
        self.question_tokenizer: PromptTokenizer | Vocabulary = self
        self.controls = [ControlTokens(tokenizer, size)]
        """For each tokenizer that reads questions."""

    def __len__(self) -> int:
        return self.size

    @property
    def model(self) -> bytes:
        """The content of the tokenizer: equal for tokenizers that give the same ids."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend else json.dumps(self.tokenizer.get_vocab())
        return f"{content}{self.ends}".encode()

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return the token ids of a text and the end, cut to `max_length` ids."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = [*self.silent, *ids]
        return [*ids[: None if max_length is None else max_length - 1], self.ends[0]]

    def generates(self, ids: Sequence[int]) -> bool:
        """Return whether ids of `encode` are a text: neither special, nor beyond the logits."""
        words = ids[len(self.silent) : -1]
        known = (i < self.size and self._pieces[i] is not None for i in words)
        return bool(words) and all(known)

    def question_problem(self, question: str) -> str:
        """Return what a question contains that no question may; empty if there is nothing."""
        problems = (controls.find_problem(question) for controls in self.controls)
        return next(filter(None, problems), "")

    def __getstate__(self) -> dict[str, Any]:
        # The tokenizer of questions refers to the model, which other processes do not need.
        return {k: v for k, v in self.__dict__.items() if k != "question_tokenizer"}

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids up to the first end; special ids are skipped.

        More ids only add to the text of the first ones, on which streaming depends. The tokenizer
        of transformers would change earlier text, such as "do not" to "don't".
        """
        kept = itertools.takewhile(lambda i: i not in self.ends, map(int, ids))
        pieces = [self._pieces[i] for i in kept if 0 <= i < self.size]
        texts = [piece for piece in pieces if piece is not None]
        if self._joins_punctuation:
            texts = _join_punctuation(texts)
        text = "".join(texts).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return text.lstrip()

    @cached_property
    def _pieces(self) -> list[str | None]:
        return self.list_pieces()

    @cached_property
    def _joins_punctuation(self) -> bool:
        return "WordPiece" in _decoder_kinds(self.tokenizer)

    def count_bytes(self, ids: Iterable[int]) -> int:
        """Return 0: this count serves the report of training data only."""
        return 0

    def list_pieces(self) -> list[str | None]:
        """Return the text of each id (V entries), spaces included; None for the special ids.

        A byte that is not a character alone becomes U+DC80 to U+DCFF, as with Python's error
        handler `surrogateescape`.
        """
        to_text = _piece_reader(self.tokenizer)
        count = min(len(self.tokenizer), self.size)
        tokens = self.tokenizer.convert_ids_to_tokens(list(range(count)))
        pieces = [
            None if i in self.special or token is None else to_text(token)
            for i, token in enumerate(tokens)
        ]
        return pieces + [None] * (self.size - count)


def _special_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids of the special tokens of a tokenizer."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = (i for i, token in added.items() if token.special)
    return frozenset(tokenizer.all_special_ids).union(special)


def _join_punctuation(pieces: Sequence[str]) -> list[str]:
    """Return pieces of WordPiece without the spaces around punctuation, as in "it's a cat."."""
    joined: list[str] = []
    for piece in pieces:
        follows_quote = bool(joined) and joined[-1] == "'"
        joined.append(piece.lstrip() if piece in _JOINED or follows_quote else piece)
    return joined


def _piece_reader(tokenizer: Any) -> Callable[[str], str]:
    """Return the function from the token of a vocabulary to its text."""
    kinds = _decoder_kinds(tokenizer)
    if "ByteLevel" in kinds:
        return _read_byte_level
    if "WordPiece" in kinds:
        return _read_word_piece
    return _read_sentence_piece


def _decoder_kinds(tokenizer: Any) -> set[str]:
    """Return the types of the decoders of a tokenizer of the tokenizers library."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return set()
    decoder = json.loads(backend.to_str()).get("decoder") or {}
    return {decoder.get("type"), *(part["type"] for part in decoder.get("decoders", ()))}


def _read_word_piece(token: str) -> str:
    return token[2:] if token.startswith("##") else f" {token}"


def _read_sentence_piece(token: str) -> str:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)]).decode("ascii", "surrogateescape")
    return token.replace("\u2581", " ")


def _read_byte_level(token: str) -> str:
    table = _byte_of_character()
    try:
        return bytes(table[c] for c in token).decode("utf-8", "surrogateescape")
    except KeyError:  # an added token, which is written as it is
        return token


@cache
def _byte_of_character() -> dict[str, int]:
    """Return the byte of each character in byte-level tokens.

    Printable bytes stand for themselves, and the others for the characters from U+0100. Source:
    Radford et al., Language Models are Unsupervised Multitask Learners (2019), released code.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
