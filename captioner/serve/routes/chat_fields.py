"""The fields of `/v1/chat/completions`: OpenAI's, each applied, neutral, or rejected."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, create_model, model_validator

from captioner.serve.routes.fields import Fields, unusable
from captioner.serve.routes.native_fields import COLDEST, DECODING, LONGEST, MOST_CAPTIONS

MOST_STOPS = 4

_NO_EFFECT: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({}, []),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "tool_prompt": (),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
    "moderation": (),
    "store": (False,),
}
"""Fields that this model cannot apply, and the values, besides null, that ask for nothing."""

_INFORMATION = (
    *("user", "metadata", "service_tier", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
)
"""Fields that say something about the request and change no text."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_StopText = Annotated[str, Field(min_length=1, max_length=LONGEST)]
_Stop = Annotated[
    list[_StopText] | None,
    Field(max_length=MOST_STOPS),
    BeforeValidator(_as_list, json_schema_input_type=str | list[_StopText] | None),
]


class StreamOptions(Fields):
    """What a stream holds besides the text."""

    group: ClassVar[str] = "stream_options."
    include_usage: bool | None = Field(None, description="A last chunk holds the token counts")
    include_obfuscation: bool | None = Field(None, description="Only false or null")


class _Applied(Fields):
    elsewhere: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(DECODING, "it is for captions; use /v1/caption"),
        "num_captions": "use n",
        **dict.fromkeys(("image", "question"), "put it into a message"),
    }
    messages: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=1000,
        description=(
            "The last image of the conversation is the one that is described or asked about. The"
            " last text of the user is the request; other texts, such as a system prompt, are not"
            " read."
        ),
    )
    model: str | None = Field(None, description="Any name: there is one model, which answers")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(
        None,
        ge=1,
        le=MOST_CAPTIONS,
        description="Choices; a question has fewer where fewer different answers exist",
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=2,
        description=(
            "Above 0, texts are drawn at random; with 0 or null (and no top_p), they are searched"
            " for, which is deterministic"
        ),
    )
    top_p: float | None = Field(
        None, gt=0, le=1, description="Below 1 and without a temperature, that is 1"
    )
    seed: int | None = Field(
        None,
        ge=-(2**63),
        le=2**63 - 1,
        description="Equal seeds draw equal texts; without one, each request draws another text",
    )
    max_tokens: int | None = Field(None, ge=1, description="As max_completion_tokens")
    max_completion_tokens: int | None = Field(
        None, ge=1, description="A longer text is cut after so many tokens; the search is the same"
    )
    stop: _Stop = Field(None, description="A text is cut before the first of these that occurs")

    @model_validator(mode="after")
    def _check_combination(self) -> _Applied:
        for name, neutral in _NO_EFFECT.items():
            value = getattr(self, name)
            if value is not None and value not in neutral:
                raise unusable(name, f"not supported; leave it out, or send {_listed(neutral)}")
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise unusable("max_tokens", "differs from max_completion_tokens; send one of them")
        if self.temperature is not None and 0 < self.temperature < COLDEST:
            raise unusable("temperature", f"expected 0, or {COLDEST} and more")
        if self.stream_options is not None:
            if not self.stream:
                raise unusable("stream_options", "only a stream has them; set stream to true")
            if self.stream_options.include_obfuscation:
                raise unusable("stream_options.include_obfuscation", "not supported; send false")
        return self

    @property
    def limit(self) -> int | None:
        """The most tokens of a text."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self) -> dict[str, Any]:
        """Return the decoding options that draw texts; nothing where texts are searched for."""
        temperature, top_p = self.temperature, self.top_p or 1.0
        if temperature is None and top_p < 1:
            temperature = 1.0
        if not temperature:
            return {}
        # As two's complement, so that no negative seed is another one's positive.
        seed = secrets.randbits(63) if self.seed is None else self.seed % 2**64
        return {"method": "sample", "temperature": temperature, "top_p": top_p, "seed": seed}


def choice_seed(seed: int, index: int) -> int:
    """Return the seed of one of several choices; the first has the request's."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:8], "big")


def _listed(values: tuple[Any, ...]) -> str:
    return " or ".join(map(repr, (*values, None))).replace("None", "null").replace("'", '"')


def _chat_request() -> type[_Applied]:
    fields: dict[str, Any] = {}
    for name, neutral in _NO_EFFECT.items():
        about = "Not supported: only values that ask for nothing are accepted"
        extra = {"enum": [*neutral, None]}
        fields[name] = (Any, Field(None, description=about, json_schema_extra=extra))
    for name in _INFORMATION:
        fields[name] = (Any, Field(None, description="For information: it changes no text"))
    return create_model("ChatRequest", __base__=_Applied, **fields)


ChatRequest = _chat_request()
