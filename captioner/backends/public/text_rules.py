"""The tokens that a model's generation settings force or forbid.

Shapes: B images, K rows of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captioner.errors import CheckpointError

NEVER = float("-inf")


@dataclass(frozen=True)
class TokenRules:
    """Rules of a `GenerationConfig` that depend on the position only."""

    suppressed: tuple[int, ...] = ()
    """Tokens that are never generated."""
    suppressed_first: tuple[int, ...] = ()
    """Tokens that are not the first of a text, or the second after `first`."""
    first: int | None = None
    """The first token of each text."""
    last: tuple[int, ...] = ()
    """The tokens that end a text of the maximum length."""

    @classmethod
    def of_model(cls, model: nn.Module, *, size: int, start: Sequence[int]) -> TokenRules:
        """Return the rules of a model's generation settings, for ids below `size`.

        The first token is forced only if one token, `start`, stands before each text.
        """
        settings: Any = getattr(model, "generation_config", None)

        def ids(name: str) -> tuple[int, ...]:
            return tuple(i for i in as_ids(getattr(settings, name, None)) if i < size)

        first = ids("forced_bos_token_id")
        return cls(
            ids("suppress_tokens"),
            ids("begin_suppress_tokens"),
            first[0] if first and len(start) == 1 else None,
            ids("forced_eos_token_id"),
        )

    @property
    def suppresses(self) -> bool:
        """Whether a token is suppressed."""
        return bool(self.suppressed or self.suppressed_first)

    def apply(self, logits: Tensor, length: int, *, is_last: bool) -> tuple[Tensor, Tensor | None]:
        """Apply the rules to the logits of a token.

        A forced token has the probability 1, as in `generate` of transformers.

        Args:
            logits: (B, K, V); they may be overwritten.
            length: Number of tokens before this one.
            is_last: Whether the text then has the maximum length.

        Returns:
            The logits after the rules, and the logarithm (B, K, 1) of the total probability that
            the model gives to tokens that are not suppressed; None if it is 0.
        """
        if self.first is not None and length == 0:
            return _keep(logits, [self.first]), None
        if self.last and is_last:
            return _keep(logits, self.last), None
        is_first = length == (0 if self.first is None else 1)
        forbidden = self.suppressed + (self.suppressed_first if is_first else ())
        if not forbidden:
            return logits, None
        total = logits.logsumexp(-1, keepdim=True)
        logits[..., list(forbidden)] = NEVER
        return logits, logits.logsumexp(-1, keepdim=True) - total


def _keep(logits: Tensor, ids: Iterable[int]) -> Tensor:
    """Return logits that are 0 for these ids and -inf for all others."""
    kept = torch.full_like(logits, NEVER)
    kept[..., list(ids)] = 0
    return kept


def as_ids(value: Any) -> tuple[int, ...]:
    """Return a setting that is an id, a list of ids or None as a tuple of ids."""
    if value is None:
        return ()
    ids = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not all(type(i) is int and i >= 0 for i in ids):
        raise CheckpointError(f"generation_config.json: {value!r}: expected token ids, 0 or more")
    return ids
