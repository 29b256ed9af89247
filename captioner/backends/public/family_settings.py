"""The configuration of a transformers model, in the form of the configuration of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from captioner.backends.public.family import Family
from captioner.backends.public.generation_settings import GenerationSettings
from captioner.config import (
    AnswerConfig,
    Config,
    DataConfig,
    DecodingConfig,
    ModelConfig,
    QuestionConfig,
)


def build_config(family: Family, *others: Family) -> Config:
    """Return the settings of a family's searches; those of the model's own settings come first.

    Texts and questions have at most the length that all other members of an ensemble support.

    These are the beams, the length penalty, the lengths and the rules of repeated tokens and
    n-grams of the `generation_config` of the part that generates. A penalty below 1, which favors
    repetition, is ignored. The fields of layers and training keep defaults without meaning.
    """
    own, members = GenerationSettings.of_model(family.generator), (family, *others)
    beams = own.num_beams or family.beam_size
    penalty = max(1.0, own.repetition_penalty or 1.0)
    longest, shortest = _find_lengths(own, members, asks=False)
    longest_answer, shortest_answer = _find_lengths(own, members, asks=True)
    question = None
    if family.questions:
        question_length = min(member.question_length for member in members)
        classes = len(family.answers)
        question = QuestionConfig(max_length=question_length, classes=classes)
    decoding = DecodingConfig(
        beam_size=beams,
        max_length=longest,
        min_length=shortest,
        length_penalty=1.0 if own.length_penalty is None else own.length_penalty,
        no_repeat_ngram=own.no_repeat_ngram_size or 0,
        repetition_penalty=penalty,
    )
    return Config(
        data=DataConfig(lowercase=False),
        model=ModelConfig(
            max_length=min(member.max_length for member in members), question=question
        ),
        decoding=decoding,
        answers=AnswerConfig(
            beam_size=beams,
            max_length=longest_answer,
            min_length=shortest_answer,
            repetition_penalty=penalty,
        ),
    )


def _find_lengths(
    own: GenerationSettings, members: Sequence[Family], *, asks: bool
) -> tuple[int, int]:
    """Return the longest caption or answer of all members, and the fewest tokens before its end."""
    longest = min(member.length_limit(asks=asks) for member in members)
    family = members[0]
    works = family.questions if asks else family.captions
    shortest = own.shortest(family.prompt_length(asks=asks)) if works and own.has_lengths else 0
    return longest, min(shortest, longest - 1)
