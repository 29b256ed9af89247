"""Settings of the search: for captions `DecodingConfig`, for answers `AnswerConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from captioner.config.parsing import check_interval, check_minimum
from captioner.errors import ConfigError

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "seed")
"""Settings that only sampling uses."""

MAX_LENGTH_PENALTY = 10
"""Largest absolute length penalty: beyond it only the length matters, and scores overflow."""
MAX_TEMPERATURE = 1000
"""Largest temperature: beyond it all tokens are equally likely, and probabilities overflow."""

DTYPES = ("float32", "bfloat16", "float16", "int8", "auto")
"""Types of weights and arithmetic in inference; `auto` is the fastest on the device."""

TTA_VIEWS = (1, 2, 4)
"""Views of test-time augmentation: the image; also mirrored; and both also in a smaller copy."""


def check_views(tta: int) -> None:
    """Raise ConfigError if a number of views of test-time augmentation is not in `TTA_VIEWS`."""
    if tta not in TTA_VIEWS:
        raise ConfigError(f"tta={tta}: expected one of {', '.join(map(str, TTA_VIEWS))}")


def widen_beam(beams: int, captions: int, *, groups: int) -> int:
    """Return the beam size, raised to the number of captions and to a multiple of the groups."""
    return -(-max(beams, captions) // groups) * groups


@dataclass(frozen=True)
class DecodingConfig:
    """The search for captions, in validation and by default in `generate.py`.

    Lengths are in tokens. Each rule that changes captions is off by default.
    """

    method: Literal["beam", "sample"] = "beam"
    """Beam search (greedy search with one beam), or sampling."""
    beam_size: int = 5
    """Hypotheses that are kept in each step."""
    max_length: int = 30
    """Longest caption, including EOS."""
    min_length: int = 0
    """Fewest tokens before EOS."""
    length_penalty: float = 1.0
    """The score of a hypothesis is its log-probability / length ** length_penalty; -10 to 10."""
    length_form: Literal["average", "gnmt"] = "average"
    """Length in this formula: the number of tokens, or (5 + tokens) / 6 as in GNMT."""
    groups: int = 1
    """Diverse beam search: number of groups, which share the beams evenly."""
    diversity: float = 0.0
    """Diverse beam search: penalty of a token for each beam of an earlier group that chose it."""
    temperature: float = 1.0
    """Sampling: divisor of the logits; below 1 prefers likely tokens."""
    top_k: int = 0
    """Sampling: draw from the k most likely tokens only; 0 is off."""
    top_p: float = 1.0
    """Nucleus sampling: draw from the most likely tokens with this total probability; 1 is off."""
    min_p: float = 0.0
    """Sampling: smallest probability of a token, relative to the most likely one; 0 is off."""
    seed: int = 0
    """Sampling: seed; the captions of an image depend on it and on the position of the image."""
    no_repeat_ngram: int = 0
    """Forbid that a sequence of this many tokens occurs twice in a caption; 0 is off."""
    repetition_penalty: float = 1.0
    """Factor on the log-probability of tokens that the caption already contains; 1 is off."""
    must_include: tuple[str, ...] = ()
    """Words or phrases that each caption must contain; `|` separates alternatives."""
    banned: tuple[str, ...] = ()
    """Words or phrases that no caption may contain."""
    prefix: str = ""
    """Words with which each caption begins."""
    no_dangling: bool = False
    """Forbid that a caption ends with a word such as "with" or "a"."""

    def __post_init__(self) -> None:
        check_minimum("decoding", self, 1, "beam_size", "max_length", "groups")
        check_minimum("decoding", self, 0, "min_length", "diversity", "top_k", "no_repeat_ngram")
        check_minimum("decoding", self, 1, "repetition_penalty")
        check_interval("decoding", self, f"(0, {MAX_TEMPERATURE}]", "temperature")
        limit = MAX_LENGTH_PENALTY
        check_interval("decoding", self, f"[-{limit}, {limit}]", "length_penalty")
        check_interval("decoding", self, "(0, 1]", "top_p")
        check_interval("decoding", self, "[0, 1]", "min_p")
        if self.min_length >= self.max_length:
            raise ConfigError(
                f"decoding.min_length={self.min_length} must be less than"
                f" decoding.max_length={self.max_length}, which includes EOS"
            )
        self._check_method()
        self._check_words()

    def _check_method(self) -> None:
        others = {"beam": ("sample", SAMPLING), "sample": ("beam", ("groups", "must_include"))}
        method, names = others[self.method]
        for name in names:
            if getattr(self, name) != getattr(type(self), name):
                raise ConfigError(f"decoding.{name} needs decoding.method={method}")
        if (self.groups > 1) != (self.diversity > 0):
            raise ConfigError(
                f"decoding.groups={self.groups} and decoding.diversity={self.diversity}: diverse"
                " beam search needs groups above 1 and diversity above 0; set both or neither"
            )
        if self.beam_size % self.groups:
            problem = f"is not a multiple of decoding.groups={self.groups}"
            raise ConfigError(f"decoding.beam_size={self.beam_size} {problem}")

    def _check_words(self) -> None:
        banned = {phrase.strip().lower() for phrase in self.banned}
        for phrase in self.must_include:
            words = {word.strip().lower() for word in phrase.split("|")}
            if words <= banned:
                raise ConfigError(f"{phrase!r} is in decoding.must_include and decoding.banned")


@dataclass(frozen=True)
class AnswerConfig:
    """The search for answers, which are ranked by probability without a length penalty."""

    beam_size: int = 5
    """Hypotheses that are kept in each step."""
    max_length: int = 12
    """Longest answer in tokens, including EOS."""
    min_length: int = 0
    """Fewest tokens before EOS of an answer that is not one of a closed set."""
    repetition_penalty: float = 1.0
    """Factor on the log-probability of tokens that the answer already contains; 1 is off."""
    temperature: float = 1.0
    """Divisor of the logits that calibrates confidences; fitted on held-out questions."""

    def __post_init__(self) -> None:
        check_minimum("answers", self, 1, "beam_size", "max_length", "repetition_penalty")
        check_minimum("answers", self, 0, "min_length")
        check_interval("answers", self, f"(0, {MAX_TEMPERATURE}]", "temperature")
        if self.min_length >= self.max_length:
            raise ConfigError(
                f"answers.min_length={self.min_length} must be less than"
                f" answers.max_length={self.max_length}, which includes EOS"
            )
