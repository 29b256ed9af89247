"""Configuration to the things a run starts with: rows, tokenizer, model, data sets."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.build import (
    build_backbone,
    build_model,
    feature_shape,
    load_checkpoint,
    pixel_spec,
)
from captioner.config import Config, DataConfig, ModelConfig, StageConfig
from captioner.data import Report, normalize_caption, read_dataset
from captioner.data.dataset import Augmentation, CaptionDataset, Unreadable
from captioner.data.files import canonical_split
from captioner.data.report import UNREADABLE_IMAGE
from captioner.errors import CheckpointError, ConfigError, SplitError
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer

if TYPE_CHECKING:
    from datasets import Dataset


def make_output(folder: Path) -> None:
    """Make the run's folder; raises ConfigError where there can be none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"train.output={folder}: cannot be made a folder ({error.strerror}); name another"
        ) from None


def read_rows(config: Config) -> tuple[Dataset, Dataset, Report]:
    """Training rows, validation rows, and what was wrong with the files."""
    data = config.data
    if data.root is None:
        raise ConfigError("data.root is not set; add data.root=PATH to the command")
    where = {"format": data.format, "images": data.images}
    try:
        # Both at once: the files are parsed, and what is wrong with them is counted, one time.
        both = (*data.train_splits, *data.val_splits)
        rows, report = read_dataset(data.root, splits=both, **where)
        train, val = (_of_splits(rows, names) for names in (data.train_splits, data.val_splits))
    except SplitError as error:
        if data.val_splits != DataConfig().val_splits:
            raise  # asked for by name
        train, report = read_dataset(data.root, splits=data.train_splits, **where)
        train, val = _hold_out(train, data.val_share, config.train.seed, error)
        for name in val["image_id"]:
            report.add("held out for validation, which the data set has no split for", name)
    train, val = (
        rows.select(range(min(data.limit or len(rows), len(rows)))) for rows in (train, val)
    )
    if config.train.eval_images:
        val = val.select(range(min(config.train.eval_images, len(val))))
    return train, val, report


def _of_splits(rows: Dataset, names: tuple[str, ...]) -> Dataset:
    wanted = {canonical_split(name) for name in names}
    return rows.select([i for i, split in enumerate(rows["split"]) if split in wanted])


def report_unreadable(unreadable: list[Unreadable], rows: Dataset, report: Report) -> None:
    """Count the images that did not decode, each once in a run, however often it is met."""
    for item in unreadable:
        report.add_once(UNREADABLE_IMAGE, item.reason, key=rows[item.index]["image"])


def _hold_out(rows: Dataset, share: float, seed: int, error: SplitError) -> tuple[Dataset, Dataset]:
    """Part the rows in two, the same way for the same number of rows and seed."""
    if len(rows) < 2:
        raise error
    order = list(range(len(rows)))
    random.Random(f"held out {seed}").shuffle(order)
    count = min(max(1, round(share * len(rows))), len(rows) - 1)
    return rows.select(sorted(order[count:])), rows.select(sorted(order[:count]))


def build_start(config: Config, rows: Dataset) -> tuple[Seq2Seq, Tokenizer, Config]:
    """Model and tokenizer, new or those of `train.start`, and the completed configuration."""
    if config.train.start:
        return _build_from_checkpoint(config)
    texts = (
        normalize_caption(text, lowercase=config.data.lowercase)
        for references in rows["references"]
        for text in references
    )
    tokenizer = Tokenizer.train(
        texts, vocab_size=config.tokenizer.vocab_size, kind=config.tokenizer.kind
    )
    backbone, config = build_backbone(config)
    positions, channels = feature_shape(backbone, pixel_spec(config))
    model = build_model(
        config.model,
        backbone,
        vocab_size=len(tokenizer),
        channels=channels,
        positions=positions,
    )
    return model, tokenizer, config


def _build_from_checkpoint(config: Config) -> tuple[Seq2Seq, Tokenizer, Config]:
    """The checkpoint's model, tokenizer and pixels; the rest of the configuration is the run's."""
    model, tokenizer, theirs = load_checkpoint(config.train.start, for_training=True)
    # A model section that says something else than the checkpoint would silently be ignored.
    if config.model not in (ModelConfig(), theirs.model):
        raise CheckpointError(
            f"train.start={config.train.start}: its model section differs from this run's;"
            " leave the model section out of the configuration"
        )
    image = dataclasses.replace(
        theirs.image,
        min_scale=config.image.min_scale,
        flip=config.image.flip,
        jitter=config.image.jitter,
    )
    config = dataclasses.replace(
        config, model=theirs.model, tokenizer=theirs.tokenizer, image=image
    )
    return model, tokenizer, config


def build_datasets(
    config: Config, train: Dataset, val: Dataset, tokenizer: Tokenizer
) -> tuple[CaptionDataset, CaptionDataset]:
    """Training samples (not augmented before `start_stage`) and validation samples."""
    common = {
        "spec": pixel_spec(config),
        "tokenizer": tokenizer,
        "max_length": config.model.max_length,
        "captions_per_image": config.data.captions_per_image,
        "lowercase": config.data.lowercase,
        "seed": config.train.seed,
    }
    return CaptionDataset(train, **common), CaptionDataset(val, **common)


def start_stage(
    stage: StageConfig,
    config: Config,
    model: Seq2Seq,
    train: CaptionDataset,
    val: CaptionDataset,
) -> None:
    """Freeze or free the backbone, and set the stage's augmentation; no kept features yet."""
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(bool(stage.encoder_lr))
    image = config.image
    # Those of the stage before are another backbone's.
    train.features = val.features = None
    train.augmentation = (
        Augmentation(min_scale=image.min_scale, flip=image.flip, jitter=image.jitter)
        if stage.augment
        else None
    )


def train_mode(model: Seq2Seq) -> None:
    """Training mode, but for the backbone: its batch statistics stay those it came with.

    A captioning set is too small, and its steps too few images, to estimate them anew.
    """
    model.train()
    model.backbone.eval()


def describe(
    config: Config,
    model: Seq2Seq,
    tokenizer: Tokenizer,
    train: CaptionDataset,
    val: CaptionDataset,
    world: int,
) -> str:
    """One line on what is about to be trained."""
    behind = [model.memory_encoder, model.decoder]
    sizes = [sum(p.numel() for p in m.parameters()) / 1e6 for m in (model.backbone, *behind)]
    return (
        f"{len(train)} training and {len(val)} validation images; {len(tokenizer)} pieces;"
        f" {sum(sizes):.1f} M parameters ({sizes[0]:.1f} M of them the backbone's);"
        f" {world} process(es) x {config.train.batch_size} images a step"
    )


def format_scores(scores: dict[str, float]) -> str:
    """`name value` pairs on one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
