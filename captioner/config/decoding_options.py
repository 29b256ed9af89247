"""How texts are searched for: captions by `DecodingConfig`, answers by `AnswerConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from captioner.config.parsing import check_minimum
from captioner.errors import ConfigError

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "seed")
"""Settings that mean nothing to a beam search."""

MAX_LENGTH_PENALTY = 10
"""Of lengths: beyond it nothing else counts, and what is computed leaves the numbers there are."""

DTYPES = ("float32", "bfloat16", "float16", "int8", "auto")
"""Of weights and arithmetic, where a checkpoint is used; `auto` is the fastest on the device."""

TTA_VIEWS = (1, 2, 4)
"""How often a picture may be looked at: as it is; mirrored; and both in a smaller copy."""


def widen_beam(beams: int, captions: int, *, groups: int) -> int:
    """As many beams as captions at least, which the groups can share evenly."""
    return -(-max(beams, captions) // groups) * groups


@dataclass(frozen=True)
class DecodingConfig:
    """How captions are searched for, in validation and by default in `generate.py`.

    Lengths are counted in tokens. Whatever is unset changes no caption.
    """

    method: Literal["beam", "sample"] = "beam"
    """Beam search, which with one beam is greedy search; or draws from the model."""
    beam_size: int = 5
    max_length: int = 30
    min_length: int = 0
    """Tokens before the end mark."""
    length_penalty: float = 1.0
    """A hypothesis scores its summed log-probability over its length to this power, -10 to 10."""
    length_form: Literal["average", "gnmt"] = "average"
    """What is meant by its length: the length itself, or (5 + length) / 6."""
    groups: int = 1
    """Diverse beam search: groups that share the beams evenly, each kept from the others' words."""
    diversity: float = 0.0
    """Log-probability that a token costs for each beam of an earlier group that has taken it."""
    temperature: float = 1.0
    """Of sampling: divides the logits, below 1 towards the likeliest tokens."""
    top_k: int = 0
    """Of sampling: only the so many likeliest tokens; 0 is all."""
    top_p: float = 1.0
    """Of sampling: only the likeliest tokens that make up so much of the probability."""
    min_p: float = 0.0
    """Of sampling: only tokens so many times as likely as the likeliest."""
    seed: int = 0
    """Of sampling; an image's captions depend on it and on the image's place among the inputs."""
    no_repeat_ngram: int = 0
    """No sequence of so many tokens twice in a caption; 0 is off."""
    repetition_penalty: float = 1.0
    """Multiplies the log-probability of tokens that a caption already holds."""
    must_include: tuple[str, ...] = ()
    """Words or phrases that each caption holds; alternatives of one are joined by `|`."""
    banned: tuple[str, ...] = ()
    """Words or phrases that no caption holds."""
    prefix: str = ""
    """Words that each caption begins with."""
    no_dangling: bool = False
    """No end on a word that others must follow, such as "with" or "a"."""

    def __post_init__(self) -> None:
        check_minimum("decoding", self, 1, "beam_size", "max_length", "groups")
        check_minimum("decoding", self, 0, "min_length", "diversity", "top_k", "no_repeat_ngram")
        check_minimum("decoding", self, 1, "repetition_penalty")
        if self.temperature <= 0:
            raise ConfigError(f"decoding.temperature={self.temperature}: expected more than 0")
        if not -MAX_LENGTH_PENALTY <= self.length_penalty <= MAX_LENGTH_PENALTY:
            raise ConfigError(
                f"decoding.length_penalty={self.length_penalty}: expected -{MAX_LENGTH_PENALTY} to"
                f" {MAX_LENGTH_PENALTY}"
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"decoding.top_p={self.top_p}: expected a share above 0, up to 1")
        if not 0 <= self.min_p <= 1:
            raise ConfigError(f"decoding.min_p={self.min_p}: expected a share from 0 to 1")
        if self.min_length >= self.max_length:
            raise ConfigError(
                f"decoding.min_length={self.min_length} leaves no room for the end mark in"
                f" decoding.max_length={self.max_length}"
            )
        self._check_method()
        self._check_words()

    def _check_method(self) -> None:
        if self.method == "beam":
            for name in SAMPLING:
                if getattr(self, name) != getattr(type(self), name):
                    raise ConfigError(f"decoding.{name} is of decoding.method=sample")
        else:
            for name in ("groups", "must_include"):
                if getattr(self, name) != getattr(type(self), name):
                    raise ConfigError(f"decoding.{name} is of decoding.method=beam")
        if (self.groups > 1) != (self.diversity > 0):
            raise ConfigError(
                f"decoding.groups={self.groups} and decoding.diversity={self.diversity}: groups"
                " differ by their diversity; set both or neither"
            )
        if self.beam_size % self.groups:
            raise ConfigError(
                f"decoding.beam_size={self.beam_size} cannot be shared evenly by"
                f" decoding.groups={self.groups}"
            )

    def _check_words(self) -> None:
        banned = {phrase.strip().lower() for phrase in self.banned}
        for phrase in self.must_include:
            words = {word.strip().lower() for word in phrase.split("|")}
            if words <= banned:
                raise ConfigError(f"{phrase!r} is in decoding.must_include and decoding.banned")


@dataclass(frozen=True)
class AnswerConfig:
    """How answers are searched for; the likeliest as a whole is the best, whatever its length."""

    beam_size: int = 5
    max_length: int = 12
    temperature: float = 1.0
    """Divides the logits, so that probabilities are as high as the answers are often right; fitted
    on held-out questions after training."""

    def __post_init__(self) -> None:
        check_minimum("answers", self, 1, "beam_size", "max_length")
        if self.temperature <= 0:
            raise ConfigError(f"answers.temperature={self.temperature}: expected more than 0")
