"""Where a text ends: at a stop sequence, or after so many tokens."""

from __future__ import annotations

from collections.abc import Sequence

from captioner.predict.pieces import Piece


class Truncation:
    """Cut one text, whose pieces come one after another.

    Attributes:
        reason: Why the text ends, as OpenAI's `finish_reason`: `stop` at its end or at a stop
            sequence, `length` where more than `limit` tokens were written.
        tokens: The number of tokens up to there.
        ended: Whether further pieces are not needed.
    """

    def __init__(self, *, limit: int | None = None, stop: Sequence[str] = ()) -> None:
        self.limit, self.stop = limit, tuple(stop)
        self.reason, self.tokens, self.ended = "stop", 0, False
        self._held = ""  # the end of the text, where a stop sequence may have begun

    def push(self, piece: Piece) -> str:
        """Return the text that is certain once this piece is known."""
        if self.limit is not None and piece.tokens > self.limit:
            self.reason, self.ended = "length", True
            return self.close()
        self.tokens = piece.tokens
        text = self._held + piece
        starts = [start for start in map(text.find, self.stop) if start >= 0]
        if starts:
            self.ended, self._held = True, ""
            return text[: min(starts)]
        kept = len(text) - self._partial(text)
        self._held = text[kept:]
        return text[:kept]

    def close(self) -> str:
        """Return the rest of the text, after its last piece."""
        rest, self._held = self._held, ""
        return rest

    def _partial(self, text: str) -> int:
        """Return the length of the longest end of a text with which a stop sequence begins."""
        longest = min(len(text), max(map(len, self.stop), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self.stop):
                return length
        return 0
