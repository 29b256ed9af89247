"""The rules of a search that depend on its model."""

from __future__ import annotations

from collections.abc import Sequence

from captioner.backends.base import DecodingState, RuledState
from captioner.decoding import Rule, repetition_penalty


def rules_of_model(state: DecodingState, penalty: float, *, greedy: bool) -> Sequence[Rule]:
    """Return the rules of a model with a penalty of repeated tokens; see `RuledState.rules`."""
    if isinstance(state, RuledState):
        return state.rules(penalty, greedy=greedy)
    return [repetition_penalty(penalty)] if penalty != 1 else []
