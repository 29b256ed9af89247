"""Build the tokenizer, the model and the data sets of a run from its configuration."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from captioner.build import (
    build_answer_head,
    build_audio_backbone,
    build_backbone,
    build_model,
    feature_shape,
    load_checkpoint,
)
from captioner.checkpoint.audio_format import first_spec, second_spec
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import Config, ModelConfig
from captioner.config.audio_section import AUDIO_AUGMENTATION
from captioner.data import normalize_caption, normalize_question
from captioner.data.dataset import ImageDataset
from captioner.data.splits import Task
from captioner.data.tag_counts import MIN_TAG_IMAGES, frequent_tags
from captioner.errors import CheckpointError, ConfigError
from captioner.model.image_encoder import TagHead
from captioner.model.lora import add_adapters
from captioner.model.question_encoder import QuestionEncoder, TextEncoder
from captioner.model.recurrent_encoder import RecurrentEncoder
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer
from captioner.training.model_soup import average_checkpoints
from captioner.training.public_model import CaptionModel, CaptionTokenizer, PublicModel
from captioner.training.public_start import (
    ProcessorPixels,
    build_public_start,
    find_public_folder,
)

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


Start: TypeAlias = tuple[CaptionModel, CaptionTokenizer, Config]
"""A model, its tokenizer and the completed configuration."""


def build_start(config: Config, rows: Dataset) -> Start:
    """Return a new model and tokenizer, or those of `train.start`, and the completed configuration.

    A new tokenizer is trained on the texts of the training rows. Raises ConfigError if the settings
    do not fit the model or the data, CheckpointError if the checkpoint cannot be used.
    """
    if folder := find_public_folder(config.train.start):
        return build_public_start(config, folder, rows)
    if config.train.lora_rank:
        raise ConfigError(
            f"train.lora_rank={config.train.lora_rank} is for transformers models; set train.start"
            " to one, or model.question.lora_rank for a question encoder"
        )
    if not config.train.start and all(tags is not None for tags in rows["tags"]):
        raise ConfigError(
            "the data has tags only, and a new model needs captions or questions; add a data set"
            " with them, or set train.start"
        )
    config = _without_kinds(config)
    start = _from_checkpoint(config) if config.train.start else _from_scratch(config, rows)
    model, tokenizer, config = start
    question = config.model.question
    if question is None and any(rows["question"]):
        raise ConfigError(
            "the data has questions, but the model has no question modules; add"
            " model.question.fusion=cross_attention to the command"
        )
    _check_inputs(config.model, rows)
    if question and question.classes and model.answer_head is None:
        answers = frequent_answers(config, rows, tokenizer)
        model.answer_head = build_answer_head(config.model, question, answers)
    if tags := frequent_tags(rows):
        _add_tag_head(model, tags)
    if question and question.lora_rank and isinstance(model.question_encoder, TextEncoder):
        add_adapters(model.question_encoder.model, question.lora_rank)
    return start


def _check_inputs(model: ModelConfig, rows: Dataset) -> None:
    """Raise ConfigError if the model does not take any input of a row."""
    for image, audio in zip(rows["image"], rows["audio"], strict=True):
        if image == audio and model.audio is None:
            raise ConfigError(
                f"the data has recordings ({audio}), but the model takes images only; set"
                " model.audio"
            )
        if not audio and not model.backbones:
            raise ConfigError(
                f"the data has images ({image}), but the model takes recordings only; set"
                " model.backbones"
            )


def _add_tag_head(model: Seq2Seq, tags: Mapping[int, Collection[str]]) -> None:
    """Add a classifier of the tags of all data sets; raise ConfigError if one has none."""
    if not all(tags.values()):
        raise ConfigError(
            f"a data set of tags has no tag with {MIN_TAG_IMAGES} training images; add images"
        )
    channels = model.memory_encoder.projection.in_features
    model.tag_head = TagHead(channels, len(set().union(*tags.values())))


def frequent_answers(config: Config, rows: Dataset, tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    """Return the token ids of the most frequent training answers, `model.question.classes` at most.

    Raises:
        ConfigError: There are fewer than two different answers.
    """
    question, lowercase = config.model.question, config.data.lowercase
    assert question is not None
    pairs = zip(rows["references"], rows["question"], strict=True)
    texts = (text for references, asked in pairs if asked for text in references)
    counts = Counter(normalize_caption(text, lowercase=lowercase) for text in texts)
    ordered = sorted(counts, key=lambda text: (-counts[text], text))
    length = config.model.max_length
    ids = [tuple(tokenizer.encode(text, max_length=length)) for text in ordered]
    answers = list(dict.fromkeys(ids))[: question.classes]
    if len(answers) < 2:
        raise ConfigError(
            f"model.question.classes={question.classes}: found {len(answers)} answers; a classifier"
            " needs two, and training questions"
        )
    known = set(answers)
    covered = sum(counts[text] for text, key in zip(ordered, ids, strict=True) if key in known)
    share = covered / counts.total()
    logger.info(f"model.question.classes: {len(answers)} answers cover {share:.1%} of those given")
    return answers


def _from_scratch(config: Config, rows: Dataset) -> tuple[Seq2Seq, Tokenizer, Config]:
    tokenizer = Tokenizer.train(
        _texts(rows, lowercase=config.data.lowercase),
        vocab_size=config.tokenizer.vocab_size,
        kind=config.tokenizer.kind,
    )
    backbone, config = build_backbone(config)
    positions, channels = feature_shape(backbone, first_spec(config))
    audio = None
    if spec := second_spec(config):
        second = build_audio_backbone(config)
        audio = second, feature_shape(second, spec)
    model = build_model(
        config.model,
        backbone,
        tokenizer=tokenizer,
        channels=channels,
        positions=positions,
        audio=audio,
    )
    return model, tokenizer, config


def _texts(rows: Dataset, *, lowercase: bool) -> Iterator[str]:
    for references, question in zip(rows["references"], rows["question"], strict=True):
        if question:
            yield normalize_question(question, lowercase=lowercase)
        # Ten equal answers to a question count as one, ten equal captions as ten.
        for text in dict.fromkeys(references) if question else references:
            yield normalize_caption(text, lowercase=lowercase)


def _from_checkpoint(config: Config) -> tuple[Seq2Seq, Tokenizer, Config]:
    """Return the model, tokenizer and pixel format of a checkpoint, with the run's settings."""
    name, question = config.train.start, config.model.question
    assert name is not None
    model, tokenizer, saved = load_checkpoint(name, for_training=True, question=question)
    model.kind_head, saved = None, _without_kinds(saved)
    average_checkpoints(model, tokenizer, saved, config.train.soup)
    _check_model_section(config, saved)
    model.blind = model.blind or config.model.blind
    audio = dataclasses.replace(
        saved.audio, **{name: getattr(config.audio, name) for name in AUDIO_AUGMENTATION}
    )
    image = dataclasses.replace(
        saved.image,
        size=config.image.size or saved.image.size,
        min_scale=config.image.min_scale,
        flip=config.image.flip,
        jitter=config.image.jitter,
    )
    sizes = dataclasses.replace(
        saved.model, blind=model.blind, question=question or saved.model.question
    )
    config = dataclasses.replace(config, model=sizes, tokenizer=saved.tokenizer, image=image)
    config = dataclasses.replace(config, audio=audio)
    if image.size != saved.image.size:
        resize_model(model, config)
    return model, tokenizer, _extend_texts(model, config)


def _without_kinds(config: Config) -> Config:
    """Return a configuration without the kind head, which is fitted at the end of a run only."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, kinds=()))


def _check_model_section(config: Config, saved: Config) -> None:
    """Raise CheckpointError if the run's model section contradicts that of the checkpoint.

    A run may repeat the section, with or without `sizes`, leave it out, or set only the question
    modules.
    """
    theirs, own = _without_adapters(saved.model), _without_adapters(config.model)
    own = dataclasses.replace(own, blind=theirs.blind, sizes=own.sizes or theirs.sizes)
    added = dataclasses.replace(
        ModelConfig(), question=own.question, blind=own.blind, sizes=own.sizes
    )
    if own not in (added, theirs) or own.question not in (None, theirs.question):
        raise CheckpointError(
            f"train.start={config.train.start}: its model section differs from this run's;"
            " leave the model section out of the configuration"
        )


def _without_adapters(model: ModelConfig) -> ModelConfig:
    """Return the section without LoRA, which belongs to a run and not to a checkpoint."""
    question = model.question and dataclasses.replace(model.question, lora_rank=0)
    return dataclasses.replace(model, question=question)


def at_size(config: Config, size: int) -> Config:
    """Return a configuration with another image size."""
    return dataclasses.replace(config, image=dataclasses.replace(config.image, size=size))


def resize_model(model: CaptionModel, config: Config) -> None:
    """Interpolate the position embeddings of a model for `image.size`; raise ConfigError.

    A model of recordings only remains as it is, and so does a transformers model.
    """
    if not config.model.backbones or isinstance(model, PublicModel):
        return
    positions, _ = feature_shape(model.backbone, pixel_spec(config))
    try:
        model.memory_encoder.resize(positions)
    except ValueError as error:
        raise ConfigError(
            f"image.size={config.image.size}: the model cannot be given another size: {error}"
        ) from None


def check_sizes(model: CaptionModel, config: Config) -> None:
    """Raise ConfigError if the model cannot be given the image size of a stage."""
    if isinstance(model, PublicModel):
        return  # `build_public_start` accepts no other size
    memory_encoder = model.memory_encoder
    for size in sorted({stage.size for stage in config.train.stages if stage.size}):
        positions = memory_encoder.positions
        resize_model(model, at_size(config, size))
        memory_encoder.positions = positions


def _extend_texts(model: Seq2Seq, config: Config) -> Config:
    """Raise the model's text limits to those of the run; return the completed configuration."""
    train, sizes = config.train, config.model
    try:
        if train.max_length:
            for decoder in filter(None, (model.decoder, model.answerer)):
                decoder.extend_positions(train.max_length)
            sizes = dataclasses.replace(sizes, max_length=train.max_length)
        if train.question_max_length:
            encoder = model.question_encoder
            encoders = (QuestionEncoder, RecurrentEncoder, TextEncoder)
            if not isinstance(encoder, encoders) or sizes.question is None:
                raise ValueError("the model has no question modules")
            encoder.extend_positions(train.question_max_length)
            question = dataclasses.replace(sizes.question, max_length=train.question_max_length)
            sizes = dataclasses.replace(sizes, question=question)
    except ValueError as error:
        raise ConfigError(
            f"train.max_length={train.max_length},"
            f" train.question_max_length={train.question_max_length}: not with"
            f" train.start={train.start}: {error}"
        ) from None
    return dataclasses.replace(config, model=sizes)


def build_datasets(
    config: Config,
    tasks: list[Task],
    train: Dataset,
    val: Dataset,
    tokenizer: CaptionTokenizer,
    *,
    model: CaptionModel | None = None,
) -> tuple[ImageDataset, ImageDataset]:
    """Return the training set, not augmented before `start_stage`, and the validation set."""
    data, question = config.data, config.model.question
    build = partial(
        ImageDataset,
        spec=first_spec(config),
        audio_spec=second_spec(config),
        tokenizer=tokenizer,
        max_length=config.model.max_length,
        question_length=32 if question is None else question.max_length,
        lowercase=data.lowercase,
        seed=config.train.seed,
        tags=frequent_tags(train),
        answers=() if model is None else model.answers,
    )
    train_set = build(
        train,
        captions_per_image=data.captions_per_image,
        questions_per_image=data.questions_per_image,
        drop_input=config.train.modality_dropout,
        unaugmented=[number for number, task in enumerate(tasks) if not task.source.augment],
    )
    val_set = build(val, captions_per_image=1, questions_per_image=None)
    if isinstance(model, PublicModel):
        train_set.processor = val_set.processor = ProcessorPixels(model.family.processor)
    return train_set, val_set
