"""The configuration of a transformers model, in the form of the configuration of a checkpoint."""

from __future__ import annotations

from typing import Any

from captioner.backends.public.family import Family
from captioner.config import (
    AnswerConfig,
    Config,
    DataConfig,
    DecodingConfig,
    ModelConfig,
    QuestionConfig,
)
from captioner.errors import CheckpointError, ConfigError
from captioner.text import one_line

MOST_BEAMS = 100


def build_config(family: Family, *others: Family) -> Config:
    """Return the settings of a family's searches; those of the model's own settings come first.

    Texts and questions have at most the length that all other members of an ensemble support.

    These are the beams, the length penalty and the rules of repeated tokens and n-grams of the
    `generation_config` of the part that generates. A penalty below 1, which favors repetition, is
    ignored. The fields of layers and training keep defaults without meaning.
    """
    own: Any = getattr(family.generator, "generation_config", None)

    def setting(name: str, default: Any) -> Any:
        value = getattr(own, name, None)
        return default if value is None else value

    beams = setting("num_beams", 1)
    if not (type(beams) is int and 1 <= beams <= MOST_BEAMS):
        raise CheckpointError(
            f"generation_config.json: num_beams={beams!r}: expected a number from 1 to {MOST_BEAMS}"
        )
    beams = beams if beams > 1 else family.beam_size
    members = (family, *others)
    question = None
    if family.questions:
        question_length = min(member.question_length for member in members)
        classes = len(family.answers)
        question = QuestionConfig(max_length=question_length, classes=classes)
    try:
        penalty = max(1.0, float(setting("repetition_penalty", 1.0)))
        decoding = DecodingConfig(
            beam_size=beams,
            max_length=min(member.length_limit(asks=False) for member in members),
            length_penalty=float(setting("length_penalty", 1.0)),
            no_repeat_ngram=int(setting("no_repeat_ngram_size", 0)),
            repetition_penalty=penalty,
        )
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"generation_config.json: {one_line(error)}") from None
    limit = min(member.length_limit(asks=True) for member in members)
    answers = AnswerConfig(beam_size=beams, max_length=limit, repetition_penalty=penalty)
    return Config(
        data=DataConfig(lowercase=False),
        model=ModelConfig(
            max_length=min(member.max_length for member in members), question=question
        ),
        decoding=decoding,
        answers=answers,
    )
