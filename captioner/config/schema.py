"""The settings of a run, with their defaults, and how they are read and written.

A YAML file lists only differences from the defaults, and `key.path=value` words on the command line
list differences from the file. The resolved configuration is saved next to the weights. An unknown
key is an error that names the nearest valid one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from captioner.config.audio_section import AudioConfig
from captioner.config.confidence_options import ConfidenceConfig
from captioner.config.data_section import DataConfig
from captioner.config.decoding_options import AnswerConfig, DecodingConfig
from captioner.config.model_section import ModelConfig
from captioner.config.parsing import (
    apply_override,
    check_interval,
    check_minimum,
    load_yaml,
    parse_value,
    to_dict,
    type_name,
)
from captioner.config.train_section import TrainConfig
from captioner.errors import ConfigError
from captioner.text import one_line


@dataclass(frozen=True)
class TokenizerConfig:
    """The SentencePiece model, which is trained on the training texts."""

    kind: Literal["unigram", "bpe"] = "unigram"
    """Unigram language model or byte-pair encoding."""
    vocab_size: int = 4000
    """Pieces, including the 4 special ones and the 256 bytes of the fallback."""


@dataclass(frozen=True)
class ImageConfig:
    """Preprocessing and augmentation of images; unset values are those of the backbone."""

    size: int | None = None
    """Height and width in pixels. If it differs from that of `train.start`, position embeddings are
    interpolated. A size above that of training can be better for evaluation, because random crops
    enlarge objects (Touvron et al., "Fixing the Train-Test Resolution Discrepancy", 2019)."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel, for normalization."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel, for normalization."""
    resize: Literal["squash", "crop"] = "squash"
    """`squash` distorts the image to a square; `crop` keeps the aspect ratio and cuts margins."""
    min_scale: float = 0.5
    """Augmentation: smallest share of the area that a random crop keeps, above 0, up to 1."""
    flip: bool = True
    """Augmentation: horizontal flips, with `left` and `right` exchanged in the captions."""
    jitter: float = 0.2
    """Augmentation: brightness, contrast and saturation factors are 1 +- at most this, 0 to 1."""

    def __post_init__(self) -> None:
        check_minimum("image", self, 1, "size")
        check_interval("image", self, "(0, 1]", "min_scale")
        check_interval("image", self, "[0, 1]", "jitter")


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    answers: AnswerConfig = field(default_factory=AnswerConfig)
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)

    def __post_init__(self) -> None:
        for section in ("decoding", "answers") if self.model.question else ("decoding",):
            length = getattr(self, section).max_length
            limit = max(self.model.max_length, self.train.max_length or 0)
            if length > limit:
                limits = f"model.max_length={limit}, the number of positions of the decoder"
                raise ConfigError(f"{section}.max_length={length} exceeds {limits}")
        if not self.model.backbones and (self.image.size or any(s.size for s in self.train.stages)):
            raise ConfigError("image.size: the model has no image backbones (model.backbones=[])")
        if self.model.audio and (self.train.kinds or self.train.teacher):
            name = "kinds" if self.train.kinds else "teacher"
            raise ConfigError(f"train.{name} is for models of images, without model.audio")
        sources = len(self.data.all_sources)
        for number, stage in enumerate(self.train.stages):
            if len(stage.weights) not in (0, sources):
                counts = f"{len(stage.weights)} weights for {sources} source(s)"
                raise ConfigError(f"train.stages.{number}: {counts}; expected one per source")


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file (None for the defaults) and apply `key.path=value` overrides.

    Raises:
        ConfigError: The file cannot be read as YAML, a key is unknown, or a value is not valid.
    """
    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = load_yaml(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read as YAML: {one_line(error)}") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{path}: expected a mapping of settings, found a {type_name(data)}")
    for word in overrides:
        apply_override(data, word)
    return parse_value(Config, data)


def save_config(config: Config, path: str | Path) -> None:
    """Write the whole configuration as YAML, for `load_config`."""
    Path(path).write_text(yaml.safe_dump(to_dict(config), sort_keys=False), encoding="utf-8")
