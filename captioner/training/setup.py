"""Configuration to the things a run starts with: rows, tokenizer, model, data sets."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from captioner.build import (
    build_backbone,
    build_model,
    feature_shape,
    load_checkpoint,
    pixel_spec,
)
from captioner.config import Config, ModelConfig, SourceConfig, StageConfig
from captioner.data import Report, normalize_caption, normalize_question, read_dataset
from captioner.data.dataset import Augmentation, ImageDataset, Unreadable
from captioner.data.files import canonical_split
from captioner.data.load import quiet_datasets
from captioner.data.report import UNREADABLE_IMAGE
from captioner.errors import CheckpointError, ConfigError, SplitError
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer
from captioner.training.lora import add_adapters
from captioner.training.optimizer import blocks_back

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


@dataclass(frozen=True)
class Task:
    """What is learnt from one data set: to caption its images, or to answer its questions."""

    name: str
    source: SourceConfig
    asks: bool


def read_rows(config: Config) -> tuple[list[Task], Dataset, Dataset, Report]:
    """The tasks, training rows, validation rows, and what was wrong with the files.

    The column `source` is a row's place among the tasks. A data set with both captions and
    questions makes two of them.
    """
    from datasets import concatenate_datasets

    report, tasks, train, val = Report(), [], [], []
    for source in config.data.all_sources:
        both = _read_source(source, config, report)
        kinds = [[bool(question) for question in rows["question"]] for rows in both]
        for asks in sorted({kind for found in kinds for kind in found}):
            for rows, found, parts in zip(both, kinds, (train, val), strict=True):
                chosen = rows.select([i for i, kind in enumerate(found) if kind == asks])
                with quiet_datasets():
                    parts.append(chosen.add_column("source", [len(tasks)] * len(chosen)))
            tasks.append(Task(_name(source, asks, tasks), source, asks))
    return tasks, concatenate_datasets(train), concatenate_datasets(val), report


def _name(source: SourceConfig, asks: bool, others: list[Task]) -> str:
    """What results call a task: the data set's folder, and its place where that was there."""
    base = Path(source.root).stem + (" questions" if asks and source.questions else "")
    taken = {task.name for task in others}
    names = (f"{base} {number}" if number > 1 else base for number in itertools.count(1))
    return next(name for name in names if name not in taken)


def _read_source(source: SourceConfig, config: Config, report: Report) -> tuple[Dataset, Dataset]:
    """Training and validation rows of one data set."""
    if source.root is None:
        raise ConfigError("data.root is not set; add data.root=PATH to the command")
    seed = config.data.seed
    where = {"format": source.format, "images": source.images}
    where |= {"questions": source.questions, "seed": seed}
    try:
        # Both at once: the files are parsed, and what is wrong with them is counted, one time.
        both = (*source.train_splits, *source.val_splits)
        rows, problems = read_dataset(source.root, splits=both, **where)
        train, val = (_of_splits(rows, names) for names in (source.train_splits, source.val_splits))
    except SplitError as error:
        if source.val_splits != SourceConfig().val_splits:
            raise  # asked for by name
        train, problems = read_dataset(source.root, splits=source.train_splits, **where)
        train, val = hold_out(train, source, seed, error)
        kind = f"held out for validation, which {source.root} has no split for"
        key = "question_id" if source.hold_out == "question" else "image_id"
        for name in dict.fromkeys(val[key]):
            problems.add(kind, name)
    report.merge(problems)
    train, val = (_first_images(rows, source.limit) for rows in (train, val))
    return train, _first_images(val, config.train.eval_images)


def _first_images(rows: Dataset, limit: int | None) -> Dataset:
    if limit is None:
        return rows
    wanted = set(list(dict.fromkeys(rows["image"]))[:limit])
    return rows.select([i for i, image in enumerate(rows["image"]) if image in wanted])


def _of_splits(rows: Dataset, names: tuple[str, ...]) -> Dataset:
    wanted = {canonical_split(name) for name in names}
    return rows.select([i for i, split in enumerate(rows["split"]) if split in wanted])


def report_unreadable(unreadable: list[Unreadable], data: ImageDataset, report: Report) -> None:
    """Count the images that did not decode, each once in a run, however often it is met."""
    for item in unreadable:
        report.add_once(UNREADABLE_IMAGE, item.reason, key=data.images[item.index])


def hold_out(
    rows: Dataset, source: SourceConfig, seed: int, error: SplitError
) -> tuple[Dataset, Dataset]:
    """Part the rows in two; raises `error` where either part would be empty.

    Rows of one image stay together, unless single questions are to be held out; of these, such as
    training asks of the same picture, too, are left out. Each id is held out or not whatever the
    others are, so data sets over the same pictures part alike, and `val_share` is met on average.
    """
    single = source.hold_out == "question"
    pairs = zip(rows["image_id"], rows["question_id"], strict=True)
    keys = [(single and question_id) or image_id for image_id, question_id in pairs]
    drawn = {key: _uniform(f"{seed} {key}") for key in keys}
    # Of a few rows, too, each side has one.
    lowest, highest = min(drawn, key=drawn.get), max(drawn, key=drawn.get)
    held = [key == lowest or (drawn[key] < source.val_share and key != highest) for key in keys]
    train, val = (
        rows.select([i for i, is_held in enumerate(held) if is_held == wanted])
        for wanted in (False, True)
    )
    # A data set may ask the same of a picture twice; what training has asked is no test.
    asked = set(_asked(train))
    val = val.select(
        [i for i, (image, q) in enumerate(_asked(val)) if not q or (image, q) not in asked]
    )
    if not len(train) or not len(val):
        raise error
    return train, val


def _uniform(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _asked(rows: Dataset) -> Iterator[tuple[str, str]]:
    """Image and question of each row."""
    return zip(rows["image"], map(normalize_question, rows["question"]), strict=True)


def digest(*tables: Dataset) -> str:
    """Of all rows, and of the sizes of their images' files, wherever those lie."""
    found = hashlib.sha256()
    for rows in tables:
        for row in rows:
            path = Path(row["image"])
            size = path.stat().st_size if path.exists() else None
            found.update(repr((row | {"image": path.name}, size)).encode())
    return found.hexdigest()


def build_start(config: Config, rows: Dataset) -> tuple[Seq2Seq, Tokenizer, Config]:
    """Model and tokenizer, new or those of `train.start`, and the completed configuration."""
    if config.train.start:
        model, tokenizer, config = _build_from_checkpoint(config)
    else:
        tokenizer = Tokenizer.train(
            _texts(rows, lowercase=config.data.lowercase),
            vocab_size=config.tokenizer.vocab_size,
            kind=config.tokenizer.kind,
        )
        backbone, config = build_backbone(config)
        positions, channels = feature_shape(backbone, pixel_spec(config))
        model = build_model(
            config.model, backbone, tokenizer=tokenizer, channels=channels, positions=positions
        )
    if config.model.question is None and any(rows["question"]):
        raise ConfigError(
            "the data has questions, and the model no parts to answer them; add"
            " model.question.fusion=cross_attention to the command"
        )
    if config.model.question and config.model.question.lora_rank:
        add_adapters(model.question_encoder.model, config.model.question.lora_rank)
    return model, tokenizer, config


def _texts(rows: Dataset, *, lowercase: bool) -> Iterator[str]:
    for references, question in zip(rows["references"], rows["question"], strict=True):
        if question:
            yield normalize_question(question, lowercase=lowercase)
        # An answer that ten people gave is one word to learn, not ten.
        for text in dict.fromkeys(references) if question else references:
            yield normalize_caption(text, lowercase=lowercase)


def _build_from_checkpoint(config: Config) -> tuple[Seq2Seq, Tokenizer, Config]:
    """The checkpoint's model, tokenizer and pixels; the rest of the configuration is the run's."""
    question, blind = config.model.question, config.model.blind
    model, tokenizer, theirs = load_checkpoint(
        config.train.start, for_training=True, question=question
    )
    # A model section that says something else than the checkpoint would silently be ignored.
    saved, own = _without_adapters(theirs.model), _without_adapters(config.model)
    own = dataclasses.replace(own, blind=saved.blind)
    asked = dataclasses.replace(ModelConfig(), question=own.question, blind=saved.blind)
    if own not in (asked, saved) or own.question not in (None, saved.question):
        raise CheckpointError(
            f"train.start={config.train.start}: its model section differs from this run's;"
            " leave the model section out of the configuration"
        )
    model.blind = model.blind or blind
    image = dataclasses.replace(
        theirs.image,
        min_scale=config.image.min_scale,
        flip=config.image.flip,
        jitter=config.image.jitter,
    )
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(
            theirs.model, blind=model.blind, question=question or theirs.model.question
        ),
        tokenizer=theirs.tokenizer,
        image=image,
    )
    return model, tokenizer, config


def _without_adapters(model: ModelConfig) -> ModelConfig:
    """These are a run's own matter, and in the weights of no checkpoint."""
    question = model.question and dataclasses.replace(model.question, lora_rank=0)
    return dataclasses.replace(model, question=question)


def build_datasets(
    config: Config, tasks: list[Task], train: Dataset, val: Dataset, tokenizer: Tokenizer
) -> tuple[ImageDataset, ImageDataset]:
    """Training samples (not augmented before `start_stage`) and validation samples."""
    data, question = config.data, config.model.question
    common = {
        "spec": pixel_spec(config),
        "tokenizer": tokenizer,
        "max_length": config.model.max_length,
        "lowercase": data.lowercase,
        "seed": config.train.seed,
    }
    if question is not None:
        common["question_length"] = question.max_length
    limits = {
        "captions_per_image": data.captions_per_image,
        "questions_per_image": data.questions_per_image,
    }
    plain = [number for number, task in enumerate(tasks) if not task.source.augment]
    return (
        ImageDataset(train, **common, **limits, unaugmented=plain),
        ImageDataset(val, **common, captions_per_image=1, questions_per_image=None),
    )


def start_stage(
    stage: StageConfig,
    config: Config,
    model: Seq2Seq,
    train: ImageDataset,
    val: ImageDataset,
) -> None:
    """Freeze or free the backbone, and set the stage's augmentation; no kept features yet."""
    back = blocks_back(model.backbone) if stage.encoder_blocks else {}
    for name, parameter in model.backbone.named_parameters():
        last = back.get(name, 0) < (stage.encoder_blocks or 1)
        parameter.requires_grad_(bool(stage.encoder_lr) and last)
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
    tasks: list[Task],
    model: Seq2Seq,
    train: ImageDataset,
    val: ImageDataset,
    world: int,
) -> str:
    """Lines on what is about to be trained."""
    sizes = {name: _millions(part) for name, part in model.named_children()}
    lines = [
        f"{len(train)} training and {len(val)} validation images; {len(train.tokenizer)} pieces;"
        f" {sum(sizes.values()):.1f} M parameters ({sizes['backbone']:.1f} M of them the"
        f" backbone's); {world} process(es) x {config.train.batch_size} images a step"
    ]
    for number, task in enumerate(tasks if len(tasks) > 1 else ()):
        counts = [Counter(data.rows["source"])[number] for data in (train, val)]
        what = f"{task.name}: {counts[0]} training and {counts[1]} validation rows"
        passes = [f"{source_weights(s, tasks)[number]:g}" for s in config.train.stages]
        images = f"{len(train.of_source(number))} training images"
        lines.append(f"{what}, {images} x {', '.join(passes)}")
    return "\n".join(lines)


def source_weights(stage: StageConfig, tasks: list[Task]) -> list[float]:
    """Passes over each source's images in an epoch of a stage."""
    return list(stage.weights) or [task.source.weight for task in tasks]


def _millions(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def format_scores(scores: dict[str, float]) -> str:
    """`name value` pairs on one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
