"""The fields of Hugging Face's dialect, and what they are to the captioner."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

from pydantic import Field, model_validator

from captioner.serve.routes.fields import Fields, unusable
from captioner.serve.routes.native_fields import COLDEST, LONGEST, MOST_BEAMS, MOST_CAPTIONS

_NAMES = {
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
"""Generation parameters, and the decoding settings that they are."""
_OF_SAMPLING = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "seed": None}
"""Parameters that need `do_sample`, and the values without effect."""
_NO_EFFECT: dict[str, tuple[Any, ...]] = {
    "early_stopping": (False,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "penalty_alpha": (0,),
    "repetition_penalty": (1,),
    "typical_p": (1,),
}
_UNSUPPORTED = "Not supported: only null, or the value without effect"


class GenerationParameters(Fields):
    """Transformers' generation parameters, for captions."""

    group: ClassVar[str] = "generation_parameters."
    max_length: int | None = Field(None, ge=1)
    max_new_tokens: int | None = Field(None, ge=1, description="As max_length: no prompt counts")
    min_length: int | None = Field(None, ge=0)
    min_new_tokens: int | None = Field(None, ge=0)
    num_beams: int | None = Field(None, ge=1, le=MOST_BEAMS)
    num_beam_groups: int | None = Field(None, ge=1, le=MOST_BEAMS)
    diversity_penalty: float | None = Field(None, ge=0)
    length_penalty: float | None = None
    no_repeat_ngram_size: int | None = Field(None, ge=0, le=100)
    num_return_sequences: int | None = Field(None, ge=1, le=MOST_CAPTIONS)
    do_sample: bool | None = Field(None, description="Draw instead of search; only with it:")
    temperature: float | None = Field(None, ge=COLDEST)
    top_k: int | None = Field(None, ge=0, le=2**31 - 1, description="All tokens unless it is set")
    top_p: float | None = Field(None, gt=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="Random unless it is set")
    use_cache: bool | None = Field(None, description="For information: it changes no text")
    early_stopping: Any = Field(None, description=_UNSUPPORTED)
    epsilon_cutoff: float | None = Field(None, description=_UNSUPPORTED)
    eta_cutoff: float | None = Field(None, description=_UNSUPPORTED)
    penalty_alpha: float | None = Field(None, description=_UNSUPPORTED)
    repetition_penalty: float | None = Field(None, description=_UNSUPPORTED)
    typical_p: float | None = Field(None, description=_UNSUPPORTED)

    @model_validator(mode="after")
    def _check_combination(self) -> GenerationParameters:
        for name, neutral in _NO_EFFECT.items():
            value = getattr(self, name)
            if value is not None and value not in neutral:
                raise unusable(name, f"not supported; leave it out, or send {neutral[0]}")
        for name, neutral in _OF_SAMPLING.items():
            value = getattr(self, name)
            if not self.do_sample and value is not None and value != neutral:
                raise unusable(name, "has no effect without do_sample; set that to true")
        if self.do_sample:
            for name in ("num_beams", "num_beam_groups"):
                if (getattr(self, name) or 1) > 1:
                    raise unusable(name, "cannot be combined with do_sample")
            if self.length_penalty not in (None, 1):
                raise unusable("length_penalty", "has no effect with do_sample")
        return self

    def options(self) -> dict[str, Any]:
        """Return the decoding settings."""
        settings: dict[str, Any] = {}
        skipped = ("num_beams", "num_beam_groups") if self.do_sample else tuple(_OF_SAMPLING)
        for name, setting in _NAMES.items():
            value = getattr(self, name)
            if value is None or name in skipped:
                continue
            if settings.get(setting, value) != value:
                raise unusable(name, f"differs from another one for {setting}; send one of them")
            settings[setting] = value
        if self.do_sample is not None:
            settings["method"] = "sample" if self.do_sample else "beam"
        if self.do_sample:
            settings.setdefault("seed", secrets.randbits(63))
        return settings


class HfParameters(Fields):
    """Parameters of both tasks."""

    group: ClassVar[str] = "parameters."
    top_k: int | None = Field(
        None, ge=1, le=MOST_CAPTIONS, description="Of a question: the most answers to return"
    )
    max_new_tokens: int | None = Field(None, ge=1, description="Of a caption")
    generation_parameters: GenerationParameters | None = Field(None, description="Of a caption")
    generate_kwargs: GenerationParameters | None = Field(
        None, description="As generation_parameters"
    )

    def of_caption(self) -> tuple[int, dict[str, Any]]:
        """Return how many captions are asked for, and the decoding settings."""
        if self.top_k is not None:
            raise unusable(
                "parameters.top_k",
                "is the number of answers to a question; for sampling, put it into"
                " generation_parameters",
            )
        if self.generation_parameters is not None and self.generate_kwargs is not None:
            raise unusable(
                "parameters.generate_kwargs", "means generation_parameters; send one of them"
            )
        given = self.generation_parameters or self.generate_kwargs or GenerationParameters()
        options = given.options()
        if self.max_new_tokens is not None:
            if options.get("max_length", self.max_new_tokens) != self.max_new_tokens:
                raise unusable(
                    "parameters.max_new_tokens", "differs from that of the generation parameters"
                )
            options["max_length"] = self.max_new_tokens
        return given.num_return_sequences or 1, options

    def of_question(self) -> int:
        """Return how many answers are asked for."""
        for name in ("max_new_tokens", "generation_parameters", "generate_kwargs"):
            if getattr(self, name) is not None:
                raise unusable(
                    f"parameters.{name}", "is for captions; for a question, leave it out"
                )
        return self.top_k or 1


class HfInputs(Fields):
    """An image, and a question about it."""

    group: ClassVar[str] = "inputs."
    image: Any = Field(description="Base64, or a data URI")
    question: str | None = Field(None, max_length=LONGEST)


class HfRequest(Fields):
    """An image, as base64, or an image and a question."""

    inputs: str | HfInputs
    question: str | None = Field(None, max_length=LONGEST)
    image: str | None = Field(None, description="The same as inputs, as huggingface_hub sends it")
    parameters: HfParameters | None = None

    @model_validator(mode="after")
    def _check_combination(self) -> HfRequest:
        if self.image is not None and self.image != self.inputs:
            raise unusable("image", "differs from inputs; send one of them")
        inner = self.inputs.question if isinstance(self.inputs, HfInputs) else None
        if None not in (inner, self.question) and inner != self.question:
            raise unusable("question", "differs from inputs.question; send one of them")
        return self

    @property
    def asked(self) -> str | None:
        """The question, in either place."""
        inner = self.inputs.question if isinstance(self.inputs, HfInputs) else None
        return self.question if inner is None else inner
