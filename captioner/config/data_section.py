"""The section `data` of a configuration: the data sets of a run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from captioner.config.parsing import check_interval, check_minimum
from captioner.errors import ConfigError


@dataclass(frozen=True)
class SourceConfig:
    """One data set: its location, its splits and its weight in training."""

    root: str | None = None
    """Folder or file of the data set; of shards also a URL or a pattern such as
    `s3://bucket/train-{000..049}.tar`; or `hf-dataset:USER/NAME` on the Hugging Face Hub."""
    format: str = "auto"
    """Name of the reader (see `captioner.data.READERS`); `auto` detects it from the files."""
    images: str | None = None
    """Folder of the images; unset, the usual folders of the format."""
    questions: bool = False
    """Train on questions that are made from the captions or tags, instead of on these."""
    captions: bool = False
    """Train on captions that are made from the questions, instead of on the questions."""
    phrases: tuple[str, ...] = ()
    """Captions of rows that have a label and no caption; `{label}` stands for the label. Example:
    `["{label}", "the sound of a {label}"]`."""
    train_splits: tuple[str, ...] = ("train",)
    """Splits for training; a column `fold` makes the splits `fold1`, `fold2`, and so on."""
    val_splits: tuple[str, ...] = ("val",)
    """Splits for validation."""
    val_share: float = 0.1
    """Share of the training images to hold out if the data set has no validation split, 0 to 1."""
    hold_out: Literal["image", "question"] = "image"
    """Unit to hold out: whole images, or single questions, whose images stay in training."""
    augment: bool = True
    """Augment the images; False if colors or margins determine the answers."""
    photographs: bool = True
    """The images are photographs; False for drawings, which `train.kinds` does not learn from."""
    weight: float = 1.0
    """Passes over the images of the data set per epoch."""
    rank: bool = True
    """Count in the score that ranks checkpoints; False only validates and logs the data set."""
    limit: int | None = None
    """Use at most this many images of each split, the first ones (for smoke tests)."""
    eval_images: int | None = None
    """During training, validate on at most this many images of the data set, the first ones; 0 does
    not validate on it. Unset, `train.eval_images` applies."""

    def __post_init__(self) -> None:
        check_minimum("data", self, 1, "limit")
        check_minimum("data", self, 0, "eval_images")
        if self.questions and self.captions:
            problem = "questions and captions cannot both be true; list the source twice"
            raise ConfigError(f"data: {problem}")
        for phrase in self.phrases:
            if "{label}" not in phrase:
                raise ConfigError(f"data.phrases: {phrase!r}: expected {{label}} in the text")
        check_interval("data", self, "(0, 1)", "val_share")
        check_interval("data", self, "(0, inf)", "weight")


@dataclass(frozen=True)
class DataConfig(SourceConfig):
    """The data sets of a run: either one, by `root` and the settings beside it, or `sources`."""

    sources: tuple[SourceConfig, ...] = ()
    """Several data sets to train on together; each step takes one of them."""
    seed: int = 0
    """Seed of the rows held out and of questions made from captions or tags. With `train.start`,
    keep the seed of that checkpoint: otherwise validation includes its training rows."""
    lowercase: bool = True
    """Convert texts to lower case."""
    captions_per_image: int = 5
    """Captions per image and step; of an image with more, a new sample is drawn each epoch."""
    questions_per_image: int = 8
    """Questions per image and step, drawn in the same way."""
    workers: int = 0
    """Processes that load images; 0 loads in the training process."""
    cache_gb: float = 50.0
    """Most gigabytes of the local cache of shards: copies of remote tar files and the images of
    Parquet files. Members of remote tar files beyond it are read by range requests."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_minimum("data", self, 1, "captions_per_image", "questions_per_image")
        check_minimum("data", self, 0, "workers", "cache_gb")
        for setting in fields(SourceConfig) if self.sources else ():
            if getattr(self, setting.name) != setting.default:
                name, hint = setting.name, f"set it per source, as data.sources.0.{setting.name}"
                raise ConfigError(f"data.{name} cannot be combined with data.sources; {hint}")

    @property
    def all_sources(self) -> tuple[SourceConfig, ...]:
        """All data sets of the run."""
        return self.sources or (self,)

    @property
    def roots(self) -> str:
        """Their locations, for messages."""
        return ", ".join(str(source.root) for source in self.all_sources)
