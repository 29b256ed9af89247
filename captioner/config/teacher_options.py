"""The settings of distillation: training from a teacher's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from captioner.config.parsing import check_interval, check_minimum
from captioner.errors import ConfigError


@dataclass(frozen=True)
class TeacherConfig:
    """The teacher of a run, and what stages with cross-entropy learn from it."""

    checkpoints: tuple[str, ...] = ()
    """Names of checkpoints, as for `train.start`; several are an ensemble, whose probabilities are
    averaged."""
    words: float = 0.5
    """Word-level distillation: share of the divergence from the teacher's next-token distribution
    in the loss of a text, 0 to 1; the rest is cross-entropy with the references."""
    temperature: float = 1.0
    """Temperature of both distributions in word-level distillation."""
    features: float = 0.0
    """Feature matching: weight of the distance between the memories of student and teacher."""
    captions: int = 0
    """Sequence-level distillation: captions per training image from the teacher's beam search,
    which are trained on in addition to the references."""
    captions_for: Literal["captioned", "all"] = "captioned"
    """Images to caption: those that have captions, or all."""

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise ConfigError("train.teacher.checkpoints is empty; name at least one checkpoint")
        check_interval("train.teacher", self, "[0, 1]", "words")
        check_interval("train.teacher", self, "(0, inf)", "temperature")
        check_minimum("train.teacher", self, 0, "features", "captions")
        if not (self.words or self.features or self.captions):
            raise ConfigError(
                "train.teacher: words, features and captions are 0; set one of them above 0"
            )
