"""Convert a stream of tokens to pieces of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from captioner.backends.vocabulary import TextTokenizer


class Piece(str):
    """A part of a streamed text; joined, the pieces are the text."""

    tokens: int
    """The number of tokens of the text up to the end of this piece."""

    def __new__(cls, text: str, tokens: int = 0) -> Piece:
        """Create a piece; `tokens` are those of the text up to its end."""
        piece = super().__new__(cls, text)
        piece.tokens = tokens
        return piece


def split_text(tokens: Iterable[int], tokenizer: TextTokenizer) -> Iterator[Piece]:
    """Yield what each token adds to the text, up to EOS; never part of a character."""
    so_far: list[int] = []
    written = ""
    for token in tokens:
        if token in tokenizer.ends:
            break
        so_far.append(token)
        text = tokenizer.decode(so_far)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # the first bytes of a character
            yield Piece(text.removeprefix(written), len(so_far))
            written = text
    rest = tokenizer.decode(so_far).removeprefix(written)
    if rest:
        yield Piece(rest, len(so_far))
