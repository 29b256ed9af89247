"""The request fields of Hugging Face's API, and their conversion to decoding options."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

from pydantic import Field, model_validator

from captioner.serve.routes.fields import Fields, field_error, information, unsupported
from captioner.serve.routes.native_fields import (
    LongText,
    NumCaptions,
    OptionalBeams,
    OptionalNgramSize,
    OptionalSeed,
    OptionalTemperature,
    OptionalTopK,
)

_OPTION_NAMES = {
    "max_length": "max_length",
    "max_new_tokens": "max_length",
    "min_length": "min_length",
    "min_new_tokens": "min_length",
    "num_beams": "beam_size",
    "num_beam_groups": "groups",
    "diversity_penalty": "diversity",
    "length_penalty": "length_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "seed": "seed",
}
"""Generation parameters of transformers, and the corresponding decoding options."""
_SAMPLING_ONLY = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "seed": None}
"""Parameters that require `do_sample`, and their values without effect."""


class GenerationParameters(Fields):
    """Generation parameters of transformers, for captions."""

    group: ClassVar[str] = "generation_parameters."
    max_length: int | None = Field(default=None, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1)
    """As max_length: there is no prompt to count."""
    min_length: int | None = Field(default=None, ge=0)
    min_new_tokens: int | None = Field(default=None, ge=0)
    num_beams: OptionalBeams = None
    num_beam_groups: OptionalBeams = None
    diversity_penalty: float | None = Field(default=None, ge=0)
    length_penalty: float | None = None
    no_repeat_ngram_size: OptionalNgramSize = None
    num_return_sequences: NumCaptions | None = None
    do_sample: bool | None = None
    """Sample instead of searching; required for the following."""
    temperature: OptionalTemperature = None
    top_k: OptionalTopK = None
    """All tokens unless it is set."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    seed: OptionalSeed = None
    """Random unless it is set."""
    use_cache: bool | None = information()
    early_stopping: Any = unsupported(False)
    epsilon_cutoff: float | None = unsupported(0)
    eta_cutoff: float | None = unsupported(0)
    penalty_alpha: float | None = unsupported(0)
    repetition_penalty: float | None = unsupported(1)
    typical_p: float | None = unsupported(1)

    @model_validator(mode="after")
    def _check_combination(self) -> GenerationParameters:
        for name, default in _SAMPLING_ONLY.items():
            value = getattr(self, name)
            if not self.do_sample and value is not None and value != default:
                raise field_error(name, "has no effect without do_sample; set do_sample to true")
        if self.do_sample:
            for name in ("num_beams", "num_beam_groups"):
                if (getattr(self, name) or 1) > 1:
                    raise field_error(name, "cannot be combined with do_sample")
            if self.length_penalty not in (None, 1):
                raise field_error("length_penalty", "has no effect with do_sample")
        return self

    def decoding_options(self) -> dict[str, Any]:
        """Return the options of `Captioner.caption`; raises RequestError for contradictions."""
        options: dict[str, Any] = {}
        skipped = ("num_beams", "num_beam_groups") if self.do_sample else tuple(_SAMPLING_ONLY)
        for name, option in _OPTION_NAMES.items():
            value = getattr(self, name)
            if value is None or name in skipped:
                continue
            if options.get(option, value) != value:
                message = f"differs from another parameter for {option}; send one of them"
                raise field_error(name, message)
            options[option] = value
        if self.do_sample is not None:
            options["method"] = "sample" if self.do_sample else "beam"
        if self.do_sample:
            options.setdefault("seed", secrets.randbits(63))
        return options


class HfParameters(Fields):
    """Parameters of both tasks."""

    group: ClassVar[str] = "parameters."
    top_k: NumCaptions | None = None
    """For questions: the maximum number of answers."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """For captions."""
    generation_parameters: GenerationParameters | None = None
    """For captions."""
    generate_kwargs: GenerationParameters | None = None
    """As generation_parameters."""

    def caption_options(self) -> tuple[int, dict[str, Any]]:
        """Return the number of captions, and the options of `Captioner.caption`."""
        if self.top_k is not None:
            message = "is the number of answers; for sampling, put it into generation_parameters"
            raise field_error("parameters.top_k", message)
        if self.generation_parameters is not None and self.generate_kwargs is not None:
            message = "is the same as generation_parameters; send one of them"
            raise field_error("parameters.generate_kwargs", message)
        parameters = self.generation_parameters or self.generate_kwargs or GenerationParameters()
        options = parameters.decoding_options()
        if self.max_new_tokens is not None:
            if options.get("max_length", self.max_new_tokens) != self.max_new_tokens:
                message = "differs from the one in generation_parameters"
                raise field_error("parameters.max_new_tokens", message)
            options["max_length"] = self.max_new_tokens
        return parameters.num_return_sequences or 1, options

    def num_answers(self) -> int:
        """Return the number of answers; raises RequestError for parameters of captions."""
        for name in ("max_new_tokens", "generation_parameters", "generate_kwargs"):
            if getattr(self, name) is not None:
                message = "is for captions; for a question, leave it out"
                raise field_error(f"parameters.{name}", message)
        return self.top_k or 1


class HfInputs(Fields):
    """An image and a question about it."""

    group: ClassVar[str] = "inputs."
    image: Any
    """Base64, or a data URI."""
    question: LongText | None = None


class HfRequest(Fields):
    """An image as base64, or an image and a question."""

    inputs: str | HfInputs
    question: LongText | None = None
    image: str | None = None
    """Equal to inputs; sent by huggingface_hub."""
    parameters: HfParameters | None = None

    @model_validator(mode="after")
    def _check_combination(self) -> HfRequest:
        if self.image is not None and self.image != self.inputs:
            raise field_error("image", "differs from inputs; send one of them")
        if None not in (self.question, self.any_question) and self.question != self.any_question:
            raise field_error("question", "differs from inputs.question; send one of them")
        return self

    @property
    def any_question(self) -> str | None:
        """The question, from either of its two fields."""
        inner = self.inputs.question if isinstance(self.inputs, HfInputs) else None
        return self.question if inner is None else inner
