"""Truncation of a text at a stop sequence or after a number of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from captioner.predict.pieces import Piece


class Truncation:
    """Truncate one text that arrives in pieces.

    Args:
        limit: Maximum number of tokens.
        longest: The number of tokens at which the model itself ends an incomplete text.
        stop: Stop sequences; the text ends before the first that occurs.

    Attributes:
        reason: Why the text ends, as OpenAI's `finish_reason`: `stop` at its end or at a stop
            sequence, `length` if more than `limit` tokens were generated, or `longest`.
        tokens: The number of tokens up to the end. The last ones of a truncated text may be part
            of a character, which is left out.
        ended: True if the end is reached, so that further pieces are not needed.
    """

    def __init__(
        self,
        *,
        limit: int | None = None,
        longest: int | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        self.limit, self.longest, self.stop = limit, longest, tuple(stop)
        self.reason, self.tokens, self.ended = "stop", 0, False
        self._pending = ""  # the end of the text, if a stop sequence may have begun there

    def push(self, piece: Piece) -> str:
        """Add a piece; return the text that is certain to be before any stop sequence."""
        if self.limit is not None and piece.tokens > self.limit:
            self.reason, self.ended, self.tokens = "length", True, self.limit
            return self.close()
        self.tokens = piece.tokens
        text = self._pending + piece
        starts = [start for start in map(text.find, self.stop) if start >= 0]
        if starts:
            self.ended, self._pending = True, ""
            return text[: min(starts)]
        kept = len(text) - self._count_pending(text)
        self._pending = text[kept:]
        return text[:kept]

    def close(self) -> str:
        """Return the rest of the text, after its last piece."""
        if self.longest is not None and not self.ended and self.tokens >= self.longest:
            self.reason = "length"
        rest, self._pending = self._pending, ""
        return rest

    def _count_pending(self, text: str) -> int:
        """Return the length of the longest suffix that is a prefix of a stop sequence."""
        longest = min(len(text), max(map(len, self.stop), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self.stop):
                return length
        return 0
