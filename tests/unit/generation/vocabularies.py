"""Small vocabularies of the kinds that models of other libraries have.

Both end a text with either of two ids, and have special ids unlike those of `captioner.tokenizer`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

PIECES = [" dog", " do", "og", " caf\u00e9", " caf", " ca", " a", " red", " ball", " with", "gs"]
PIECES += [" \u65e5\u672c", "\u2019", " t", "sh", "irt", " r", "un", " the", " cat", "ing"]
PARTS = [b" caf\xc3", b"\xa9s", b"\xa9 b", b"\xe6\x97", b"\xa5\xe6", b"\x9c\xac", b" \xe6"]
WORDS = ["dog", "##s", "##ing", "a", "red", "ball", "with", "t", "shirt", "s", "the", "walk"]
MARKS = ["'", "-", ",", "."]


class Vocabulary:
    """What both kinds have in common."""

    bos, pad, ends, silent, suppressed = 7, 5, (6, 2), (), ()

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces: list[bytes | None] = list(pieces)
        for special in (2, 5, 6, 7):
            self.pieces.insert(special, None)
        self.numbers = {piece: number for number, piece in enumerate(self.pieces)}

    def __len__(self) -> int:
        return len(self.pieces)

    def list_pieces(self) -> list[str | None]:
        return [x if x is None else x.decode(errors="surrogateescape") for x in self.pieces]

    def decode(self, ids: Sequence[int]) -> str:
        kept = []
        for i in ids:
            if i in self.ends:
                break
            kept.append(self.pieces[i] or b"")
        return b"".join(kept).decode(errors="replace").removeprefix(" ")


class ByteLevel(Vocabulary):
    """Byte-level BPE: a piece is any sequence of bytes."""

    def __init__(self) -> None:
        pieces = [piece.encode() for piece in PIECES] + PARTS
        super().__init__(pieces + [bytes([i]) for i in range(256)])

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        return [*self.divide(f" {text}"), self.ends[0]]

    def divide(self, text: str) -> list[int]:
        """Return the longest pieces of a text, from left to right."""
        data, ids = text.encode(), []
        while data:
            best = max((p for p in self.pieces if p and data.startswith(p)), key=len)
            ids.append(self.numbers[best])
            data = data[len(best) :]
        return ids


class WordPiece(Vocabulary):
    """WordPiece: words and marks, and continuations of words."""

    def __init__(self) -> None:
        pieces = [x[2:] if x.startswith("##") else f" {x}" for x in [*WORDS, *MARKS]]
        super().__init__([piece.encode() for piece in pieces])

    def encode(self, text: str, *, max_length: int | None = None) -> list[int]:
        ids = []
        for word in re.findall(r"\w+|[^\w\s]", text):
            rest, own = f" {word}".encode(), []
            while rest and None not in own:
                fitting = [p for p in self.pieces if p and rest.startswith(p)]
                own.append(max(fitting, key=len, default=None))
                rest = rest[len(own[-1] or b"") :]
            ids += [self.bos] if None in own else [self.numbers[piece] for piece in own]
        return [*ids, self.ends[0]]
