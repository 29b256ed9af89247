"""The request fields of `/v1/chat/completions`: applied, without effect, or rejected."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from captioner.serve.routes.fields import Fields, field_error, information, unsupported
from captioner.serve.routes.native_fields import (
    DECODING_FIELDS,
    MIN_TEMPERATURE,
    LongText,
    NumCaptions,
)

MAX_STOP_SEQUENCES = 4


def _to_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_StopText = Annotated[LongText, Field(min_length=1)]
_Stop = Annotated[
    list[_StopText] | None,
    Field(max_length=MAX_STOP_SEQUENCES),
    BeforeValidator(_to_list, json_schema_input_type=str | list[_StopText] | None),
]


class StreamOptions(Fields):
    """Optional contents of a stream besides the text."""

    group: ClassVar[str] = "stream_options."
    include_usage: bool | None = None
    """Send a last chunk with the token counts."""
    include_obfuscation: bool | None = None
    """Only false or null."""


class ChatRequest(Fields):
    """OpenAI's fields of a chat completion."""

    advice: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(DECODING_FIELDS, "it is for captions; use /v1/caption"),
        "num_captions": "use n",
        **dict.fromkeys(("image", "question"), "put it into a message"),
    }
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=1000)
    """The last image of the conversation is the one that is described or asked about. The last text
    of the user is the request; other texts, such as a system prompt, are not read."""
    model: str | None = None
    """Any name: the server has one model."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: NumCaptions | None = None
    """Choices; a question has fewer if fewer different answers exist."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Above 0, texts are sampled; with 0 or null (and no top_p), they are found by a search, which
    is deterministic."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Below 1, texts are sampled; temperature is then 1."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """Equal seeds sample equal texts; without one, each request uses a new seed."""
    max_tokens: int | None = Field(default=None, ge=1)
    """As max_completion_tokens."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """A longer text is truncated to so many tokens; the search is the same."""
    stop: _Stop = None
    """The text ends before the first of these that occurs."""
    frequency_penalty: Any = unsupported(0)
    presence_penalty: Any = unsupported(0)
    logit_bias: Any = unsupported({}, [])
    logprobs: Any = unsupported(False)
    top_logprobs: Any = unsupported(0)
    response_format: Any = unsupported({"type": "text"})
    tools: Any = unsupported([])
    tool_choice: Any = unsupported("none", "auto")
    tool_prompt: Any = unsupported()
    parallel_tool_calls: Any = unsupported(True, False)
    functions: Any = unsupported([])
    function_call: Any = unsupported("none", "auto")
    modalities: Any = unsupported(["text"])
    audio: Any = unsupported()
    prediction: Any = unsupported()
    reasoning_effort: Any = unsupported("none")
    verbosity: Any = unsupported("medium")
    web_search_options: Any = unsupported()
    moderation: Any = unsupported()
    store: Any = unsupported(False)
    user: Any = information()
    metadata: Any = information()
    service_tier: Any = information()
    safety_identifier: Any = information()
    prompt_cache_key: Any = information()
    prompt_cache_options: Any = information()
    prompt_cache_retention: Any = information()

    @model_validator(mode="after")
    def _check_combination(self) -> ChatRequest:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise field_error("max_tokens", "differs from max_completion_tokens; send one of them")
        if self.temperature is not None and 0 < self.temperature < MIN_TEMPERATURE:
            raise field_error("temperature", f"expected 0, or {MIN_TEMPERATURE} and more")
        if self.stream_options is not None:
            if not self.stream:
                raise field_error("stream_options", "need a stream; set stream to true")
            if self.stream_options.include_obfuscation:
                raise field_error("stream_options.include_obfuscation", "not supported; send false")
        return self

    @property
    def limit(self) -> int | None:
        """Maximum number of tokens of a text."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def include_usage(self) -> bool:
        """True if a stream ends with the token counts."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling_options(self) -> dict[str, Any]:
        """Return the decoding options for sampling; empty if texts are found by a search."""
        temperature, top_p = self.temperature, self.top_p or 1.0
        if temperature is None and top_p < 1:
            temperature = 1.0
        if not temperature:
            return {}
        # Two's complement, so that no negative seed equals a positive one.
        seed = secrets.randbits(63) if self.seed is None else self.seed % 2**64
        return {"method": "sample", "temperature": temperature, "top_p": top_p, "seed": seed}


def choice_seed(seed: int, index: int) -> int:
    """Return the seed of one of several choices; the first has the seed of the request."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:8], "big")
