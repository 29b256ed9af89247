"""Text to token ids and back with SentencePiece; the only owner of the special ids.

| id | name | use |
|---|---|---|
| 0 | `PAD` | fills the end of shorter texts in a batch; ignored by the loss |
| 1 | `UNK` | never produced: unknown characters become UTF-8 bytes |
| 2 | `BOS` | first input of the decoder; not part of an encoded text |
| 3 | `EOS` | last id of each encoded text |

Pieces have the ids 4 to V - 1, where V is the vocabulary size, `len(tokenizer)`. The tokenizer is
trained on the training captions and stored in the checkpoint as `tokenizer.model`. Source: Kudo and
Richardson, SentencePiece (EMNLP 2018, demos).

A model whose question encoder comes from Hugging Face encodes questions with the tokenizer of that
encoder (`TextEncoderTokenizer`), which has other special ids.
"""

from __future__ import annotations

import io
import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from captioner.errors import CheckpointError, ConfigError

PAD, UNK, BOS, EOS = range(4)
SPECIAL = slice(PAD, EOS)
"""PAD, UNK and BOS are never part of a text."""

_JOINERS = frozenset("\u200d\ufe0e\ufe0f\u20e3") | {chr(i) for i in range(0x1F3FB, 0x1F400)}
"""Characters that join or modify the one before: ZWJ, variation selectors, skin tones."""
# SentencePiece writes a space as U+2581 and would decode that character to a space, so U+2581 in a
# text is escaped.
_ESCAPES = (("\x1a", "\x1a0"), ("\u2581", "\x1a1"))


class Tokenizer:
    """A SentencePiece model that decodes each encoded Unicode text exactly.

    Characters that are not in the training text become UTF-8 byte pieces, so `<unk>` is never
    produced. A lone surrogate, which is not valid Unicode, becomes U+FFFD.

    Args:
        model: Content of a `tokenizer.model` file.

    Raises:
        CheckpointError: It is not a SentencePiece model, or has other special ids.
    """

    bos, pad, ends, silent, suppressed = BOS, PAD, (EOS,), (), ()
    """The ids before the first token, of padding, of the tokens that end a text, of special tokens
    within a text, and of tokens that are never generated."""

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self.question_tokenizer: Tokenizer | TextEncoderTokenizer = self
        """Encodes questions; replaced if the question encoder has its own tokenizer."""
        self.model = model
        self._processor = SentencePieceProcessor()
        try:
            # The constructor would accept an empty model, which crashes later.
            self._processor.LoadFromSerializedProto(model)
            len(self)
        except (RuntimeError, OSError) as error:
            raise CheckpointError(f"not a SentencePiece model: {error}") from None
        p = self._processor
        ids = (p.pad_id(), p.unk_id(), p.bos_id(), p.eos_id())
        if ids != (PAD, UNK, BOS, EOS):
            raise CheckpointError(
                f"the tokenizer has pad, unk, bos, eos = {ids}, expected {(PAD, UNK, BOS, EOS)}"
            )

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a `tokenizer.model` file; raise CheckpointError if that fails."""
        try:
            return cls(Path(path).read_bytes())
        except (OSError, CheckpointError) as error:
            raise CheckpointError(f"{path}: cannot be read as a tokenizer: {error}") from None

    @classmethod
    def train(
        cls, texts: Iterable[str], *, vocab_size: int = 4000, kind: str = "unigram"
    ) -> Tokenizer:
        """Train a tokenizer on normalized captions; deterministic for the same texts in order.

        `vocab_size` is the number of ids V, which is smaller if the texts yield fewer
        pieces; `kind` is "unigram" or "bpe".

        Raises:
            ConfigError: `vocab_size` is too small for the special ids, bytes and characters.
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
                # The captions are already normalized; decoding must restore them exactly.
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                split_digits=True,
                pad_id=PAD, unk_id=UNK, bos_id=BOS, eos_id=EOS,
                pad_piece="<pad>", unk_piece="<unk>", bos_piece="<s>", eos_piece="</s>",
                num_threads=1,
                minloglevel=2,
            )  # fmt: skip
        except RuntimeError as error:
            raise ConfigError(
                f"tokenizer.vocab_size={vocab_size} does not fit the captions: {error}"
            ) from None
        return cls(model.getvalue())

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def list_pieces(self) -> list[str | None]:
        """Return the text of each id (V entries), spaces included; None for the special ids.

        A byte beyond ASCII, which is not a character alone, becomes U+DC80 to U+DCFF, as with
        Python's error handler `surrogateescape`.
        """
        p, pieces = self._processor, list[str | None]()
        for i in range(len(self)):
            piece = p.id_to_piece(i)
            if p.is_byte(i):
                piece = bytes([int(piece[3:5], 16)]).decode("ascii", "surrogateescape")
            special = p.is_control(i) or p.is_unknown(i)
            pieces.append(None if special else piece.replace("\u2581", " "))
        return pieces

    def export_pieces(self) -> dict[str, Any]:
        """Return what another implementation needs: `pieces`, `scores` and `types` of all ids.

        A type is one letter: `n` a normal piece, `b` a byte, `c` a special id.
        """
        p, ids = self._processor, range(len(self))
        special = [p.is_control(i) or p.is_unknown(i) or p.is_unused(i) for i in ids]
        return {
            "pieces": [p.id_to_piece(i) for i in ids],
            "scores": [p.get_score(i) for i in ids],
            "types": "".join("c" if special[i] else "b" if p.is_byte(i) else "n" for i in ids),
        }

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return the token ids of a text and EOS, without BOS.

        A text with more than `max_length` ids, EOS included, is truncated between characters.
        """
        ids = self._processor.encode(_escape(text))
        if max_length is not None and len(ids) >= max_length:
            ids = self._truncate(text, ids[: max_length - 1])
        return [*ids, EOS]

    def generates(self, ids: Sequence[int]) -> bool:
        """Return True: other characters are spelled in bytes, and no text has special ids."""
        return True

    def question_problem(self, question: str) -> str:
        """Return nothing: no question has special ids."""
        return ""

    def _truncate(self, text: str, ids: list[int]) -> list[int]:
        """Remove ids from the end until they are a prefix of the text in whole characters."""
        text = _unescape(_escape(text))  # replaces lone surrogates
        while ids:
            start = self.decode(ids)
            if text.startswith(start) and not _joins(text[len(start) - 1 : len(start) + 1]):
                break
            ids = ids[:-1]
        return ids

    def count_bytes(self, ids: Iterable[int]) -> int:
        """Return how many ids are bytes of characters without a piece of their own."""
        return sum(map(self._processor.is_byte, ids))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids up to the first EOS; the special ids are skipped."""
        until_eos = itertools.takewhile(lambda i: i != EOS, ids)
        kept = [int(i) for i in until_eos if i not in (PAD, UNK, BOS)]
        return _unescape(self._processor.decode(kept))

    def save(self, path: str | Path) -> None:
        """Write the `tokenizer.model` file."""
        Path(path).write_bytes(self.model)


class TextEncoderTokenizer:
    """The `transformers` tokenizer of a text encoder, with the interface of `Tokenizer`.

    It gives the special ids, padding included.

    Raises:
        ConfigError: It has no padding token.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.pad = tokenizer, tokenizer.pad_token_id
        if self.pad is None:
            name = tokenizer.name_or_path
            raise ConfigError(f"{name}: its tokenizer has no padding token; name another encoder")

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        """Return the token ids of a text with the special ids of the encoder.

        A text with more than `max_length` ids, special ids included, is truncated between
        characters.
        """
        ids = self._tokenizer(text)["input_ids"]
        if max_length is None or len(ids) <= max_length:
            return ids
        if self._tokenizer.is_fast:
            text = self._truncate(text, max_length)
        return self._tokenizer(text, truncation=True, max_length=max_length)["input_ids"]

    def _truncate(self, text: str, max_length: int) -> str:
        """Return the longest prefix of the text that fits, in whole characters."""
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoding["offset_mapping"]
        kept = max(0, max_length - self._tokenizer.num_special_tokens_to_add())
        # Tokens of the same character have the same offsets.
        while 0 < kept < len(offsets) and offsets[kept][0] < offsets[kept - 1][1]:
            kept -= 1
        return text[: offsets[kept - 1][1]] if kept else ""

    def count_bytes(self, ids: Iterable[int]) -> int:
        """Return 0, because byte pieces matter only for generated text."""
        return 0

    def save(self, folder: str | Path) -> None:
        """Write the files of the tokenizer to a folder."""
        self._tokenizer.save_pretrained(str(folder))


def _joins(pair: str) -> bool:
    """Return whether two adjacent characters form one, such as a letter and its accent."""
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
