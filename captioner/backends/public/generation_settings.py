"""The `GenerationConfig` of a transformers model: settings that searches use, and ignored ones.

A setting that a file does not state is None. Inner language models have only token ids there, since
transformers drops other settings of their part of `config.json`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from captioner.config.decoding_options import MAX_LENGTH_PENALTY
from captioner.errors import CheckpointError

MOST_BEAMS = 100
UNSUPPORTED = (
    "bad_words_ids", "constraints", "diversity_penalty", "dola_layers", "early_stopping",
    "encoder_no_repeat_ngram_size", "encoder_repetition_penalty",
    "exponential_decay_length_penalty", "force_words_ids", "forced_decoder_ids", "guidance_scale",
    "max_time", "num_beam_groups", "penalty_alpha", "renormalize_logits", "sequence_bias",
    "stop_strings", "token_healing", "watermarking_config",
)  # fmt: skip
"""Settings that change the texts of `generate`, and that the searches do not have."""
NEUTRAL_ONE = {"encoder_repetition_penalty", "guidance_scale", "num_beam_groups"}
"""Settings that are off with the value 1; all are off if empty, false or 0."""
TOKEN_LISTS = ("suppress_tokens", "begin_suppress_tokens")
TOKENS = ("forced_bos_token_id", "forced_eos_token_id", "eos_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class GenerationSettings:
    """The stated settings that the searches use; their names are those of transformers."""

    num_beams: int | None = None
    length_penalty: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    max_length: int | None = None
    """Longest text, with the prompt or the start token."""
    max_new_tokens: int | None = None
    """Longest text; `max_length` has then no effect."""
    min_length: int | None = None
    """Fewest tokens before the end of a text, with the prompt or the start token."""
    min_new_tokens: int | None = None
    """Fewest tokens before the end of a text; `min_length` has then no effect."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> GenerationSettings:
        """Return the settings of `generation_config.json`; raise CheckpointError."""
        limit = MAX_LENGTH_PENALTY
        for name in TOKEN_LISTS:
            ids = settings.get(name)
            if not (ids is None or (isinstance(ids, list) and all(map(_is_id, ids)))):
                raise _wrong(name, ids, "a list of token ids, 0 or more")
        for name in TOKENS:
            ids = settings.get(name)
            if not all(map(_is_id, ids if isinstance(ids, list) else [] if ids is None else [ids])):
                raise _wrong(name, ids, "token ids, 0 or more")
        return cls(
            num_beams=_whole(settings, "num_beams", 1, MOST_BEAMS),
            length_penalty=_number(settings, "length_penalty", -limit, limit),
            repetition_penalty=_number(settings, "repetition_penalty"),
            no_repeat_ngram_size=_whole(settings, "no_repeat_ngram_size", 0),
            max_length=_whole(settings, "max_length", 1),
            max_new_tokens=_whole(settings, "max_new_tokens", 1),
            min_length=_whole(settings, "min_length", 0),
            min_new_tokens=_whole(settings, "min_new_tokens", 0),
        )

    @classmethod
    def of_model(cls, generator: Any) -> GenerationSettings:
        """Return the settings of a module with `generate`; raise CheckpointError."""
        return cls.of(_settings_of(generator))

    @property
    def has_lengths(self) -> bool:
        """Whether the file states a length."""
        lengths = (self.max_length, self.max_new_tokens, self.min_length, self.min_new_tokens)
        return any(length is not None for length in lengths)

    def longest(self, prompt: int) -> int | None:
        """Return the longest text in tokens after a prompt; None if no possible one is stated."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        if self.max_length is None or self.max_length <= prompt:
            return None
        return self.max_length - prompt

    def shortest(self, prompt: int) -> int:
        """Return the fewest tokens before the end of a text after a prompt."""
        if self.min_new_tokens is not None:
            return self.min_new_tokens
        return max(0, (self.min_length or 0) - prompt)


def list_ignored(generator: Any) -> list[str]:
    """Return the stated settings that change the texts of `generate` and are not used here.

    `do_sample` and its options are not among them: most chat models state them, and the
    documentation says that searches are deterministic.
    """
    settings = _settings_of(generator)
    names = set(UNSUPPORTED)
    if settings.get("num_beams") in (None, 1):
        names -= {"early_stopping"}
    ignored = {
        name
        for name in names
        if settings.get(name) and not (name in NEUTRAL_ONE and settings[name] == 1)
    }
    favors_repetition = (settings.get("repetition_penalty") or 1) < 1
    return sorted(ignored | ({"repetition_penalty"} if favors_repetition else set()))


def _settings_of(generator: Any) -> dict[str, Any]:
    """Return the settings of a module by name; none if the module does not generate."""
    settings = getattr(generator, "generation_config", None)
    return {} if settings is None else dict(vars(settings))


def _is_id(value: Any) -> bool:
    return type(value) is int and value >= 0


def _whole(settings: Mapping[str, Any], name: str, low: int, high: int | None = None) -> int | None:
    value = settings.get(name)
    if value is None or (type(value) is int and low <= value <= (high or value)):
        return value
    limits = f", {low} or more" if high is None else f" from {low} to {high}"
    raise _wrong(name, value, f"a whole number{limits}")


def _number(
    settings: Mapping[str, Any], name: str, low: float = -math.inf, high: float = math.inf
) -> float | None:
    value = settings.get(name)
    if value is None:
        return None
    if type(value) in (int, float) and math.isfinite(value) and low <= value <= high:
        return float(value)
    limits = "" if math.isinf(low) else f" from {low} to {high}"
    raise _wrong(name, value, f"a number{limits}")


def _wrong(name: str, value: Any, expected: str) -> CheckpointError:
    return CheckpointError(
        f"generation_config.json: {name}={value!r}: expected {expected}; correct or remove it"
    )
