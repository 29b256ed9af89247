"""Text to token ids and back with SentencePiece; the only owner of the special ids.

A model whose question encoder comes from Hugging Face reads questions with that one's tokenizer.

A tokenizer is trained on the training captions and travels with the checkpoint as one
`tokenizer.model` file. Source: Kudo and Richardson, SentencePiece (EMNLP 2018, demos).
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from captioner.errors import CheckpointError, ConfigError

PAD, UNK, BOS, EOS = range(4)

# SentencePiece writes a space as U+2581 and would read that character back as a space, so it
# is spelt with an escape of its own.
_JOINERS = frozenset("\u200d\ufe0e\ufe0f\u20e3") | {chr(i) for i in range(0x1F3FB, 0x1F400)}
"""What joins or changes the character before it: ZWJ, variation selectors, skin tones."""
_ESCAPES = (("\x1a", "\x1a0"), ("\u2581", "\x1a1"))


class Tokenizer:
    """A SentencePiece model whose encoding can be read back exactly for any Unicode text.

    Characters that the training text did not hold become UTF-8 byte pieces, so `<unk>` is
    never produced; a lone surrogate, which is no Unicode text, is read as U+FFFD.

    `question_tokenizer` is what encodes questions: this tokenizer, unless it is set to another.
    """

    pad = PAD

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self.question_tokenizer: Tokenizer | TextEncoderTokenizer = self
        self.model = model
        self._processor = SentencePieceProcessor()
        try:
            # Given to the constructor, an empty model is taken for none, and crashes later.
            self._processor.LoadFromSerializedProto(model)
            len(self)
        except (RuntimeError, OSError) as error:
            raise CheckpointError(f"not a SentencePiece model: {error}") from None
        p = self._processor
        found = (p.pad_id(), p.unk_id(), p.bos_id(), p.eos_id())
        if found != (PAD, UNK, BOS, EOS):
            raise CheckpointError(
                f"the tokenizer has pad, unk, bos, eos = {found}, expected {(PAD, UNK, BOS, EOS)}"
            )

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a `tokenizer.model` file; raises CheckpointError."""
        try:
            return cls(Path(path).read_bytes())
        except (OSError, CheckpointError) as error:
            raise CheckpointError(f"{path}: cannot be read as a tokenizer: {error}") from None

    @classmethod
    def train(
        cls, texts: Iterable[str], *, vocab_size: int = 4000, kind: str = "unigram"
    ) -> Tokenizer:
        """Train on `texts`, one caption each; deterministic for equal texts in equal order.

        Where the texts are too few for `vocab_size` pieces, the vocabulary is smaller.
        Raises ConfigError when `vocab_size` cannot hold the specials, bytes and characters.
        """
        from sentencepiece import SentencePieceTrainer

        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=(_escape(text) for text in texts),
                model_writer=model,
                model_type=kind,
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                character_coverage=1.0,
                byte_fallback=True,
                # Text is cleaned before it comes here; what comes must come back unchanged.
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                split_digits=True,
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                pad_piece="<pad>",
                unk_piece="<unk>",
                bos_piece="<s>",
                eos_piece="</s>",
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise ConfigError(
                f"tokenizer.vocab_size={vocab_size} does not fit the captions: {error}"
            ) from None
        return cls(model.getvalue())

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def list_pieces(self) -> list[str | None]:
        """What each id writes, spaces included; None for the special ones.

        A byte beyond ASCII, which alone is no character, stands as U+DC80 to U+DCFF, as Python's
        `surrogateescape` has it.
        """
        p, found = self._processor, []
        for i in range(len(self)):
            piece = p.id_to_piece(i)
            if p.is_byte(i):
                piece = bytes([int(piece[3:5], 16)]).decode("ascii", "surrogateescape")
            special = p.is_control(i) or p.is_unknown(i)
            found.append(None if special else piece.replace("\u2581", " "))
        return found

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return token ids that end in EOS (no BOS).

        A text of more than `max_length` ids, EOS included, is cut, but never inside a character.
        """
        ids = self._processor.encode(_escape(text))
        if max_length is not None and len(ids) >= max_length:
            ids = self._cut(text, ids[: max_length - 1])
        return [*ids, EOS]

    def _cut(self, text: str, ids: list[int]) -> list[int]:
        """Remove ids from the end until they are a beginning of the text in whole characters."""
        text = _unescape(_escape(text))  # with what lone surrogates are read as
        while ids:
            start = self.decode(ids)
            if text.startswith(start) and not _joins(text[len(start) - 1 : len(start) + 1]):
                break
            ids = ids[:-1]
        return ids

    def count_bytes(self, ids: Iterable[int]) -> int:
        """Return how many of the ids are bytes of a character that has no piece of its own."""
        return sum(map(self._processor.is_byte, ids))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first EOS; the special ones are not written."""
        kept = []
        for i in ids:
            if i == EOS:
                break
            if i not in (PAD, UNK, BOS):
                kept.append(int(i))
        return _unescape(self._processor.decode(kept))

    def save(self, path: str | Path) -> None:
        """Write the `tokenizer.model` file."""
        Path(path).write_bytes(self.model)


class TextEncoderTokenizer:
    """A Hugging Face tokenizer, that of a text encoder, in the manner of `Tokenizer`.

    Raises ConfigError where it has no padding token.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.pad = tokenizer, tokenizer.pad_token_id
        if self.pad is None:
            raise ConfigError(
                f"{tokenizer.name_or_path}: its tokenizer has no padding token; name another"
                " encoder"
            )

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return token ids with the encoder's own special ones.

        A text of more than `max_length` ids is cut, but never inside a character, and keeps the
        special ones.
        """
        ids = self._tokenizer(text)["input_ids"]
        if max_length is None or len(ids) <= max_length:
            return ids
        if self._tokenizer.is_fast:
            text = self._cut(text, max_length)
        return self._tokenizer(text, truncation=True, max_length=max_length)["input_ids"]

    def _cut(self, text: str, max_length: int) -> str:
        """Return the beginning of the text that fits, in whole characters."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = found["offset_mapping"]
        kept = max(0, max_length - self._tokenizer.num_special_tokens_to_add())
        # Tokens of one character have its place in common.
        while 0 < kept < len(offsets) and offsets[kept][0] < offsets[kept - 1][1]:
            kept -= 1
        return text[: offsets[kept - 1][1]] if kept else ""

    def count_bytes(self, ids: Iterable[int]) -> int:
        """Return 0: such a tokenizer only reads."""
        return 0

    def save(self, folder: str | Path) -> None:
        """Write its files."""
        self._tokenizer.save_pretrained(str(folder))


def _joins(pair: str) -> bool:
    """Return whether two neighboring characters make one, as a letter and its accent do."""
    if len(pair) < 2:
        return False
    return pair[0] in _JOINERS or pair[1] in _JOINERS or unicodedata.combining(pair[1]) != 0


def _escape(text: str) -> str:
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescape(text: str) -> str:
    for plain, escaped in reversed(_ESCAPES):
        text = text.replace(escaped, plain)
    return text
