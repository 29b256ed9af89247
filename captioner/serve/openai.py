"""OpenAI's dialect: `/v1/chat/completions` and `/v1/models`, for clients that are there already.

The picture is the last one in the conversation. The last thing that the user said is the question,
or, where it asks for nothing in particular ("describe this image", "what is in this picture?"), the
wish for a caption.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from captioner.serve.bodies import read_json
from captioner.serve.engine import Engine
from captioner.serve.fetch import Fetcher
from captioner.serve.fields import check
from captioner.serve.image_field import image_bytes
from captioner.serve.native import EVENTS, begun, sse
from captioner.serve.native_fields import MOST_CAPTIONS
from captioner.serve.problems import Refusal

_ASKING = frozenset(
    re.findall(
        r"\w+",
        "what which who whose where when why how is are was were do does did can could has have",
    )
)
_GENERAL = frozenset(
    re.findall(
        r"\w+",
        "what whats is s are in on of at this the that these it a an there here me you we see do"
        " can could does show shows depict contain about happening going image picture photo"
        " photograph scene describe caption explain tell please hi hello",
    )
)
"""A text of these words alone asks for nothing in particular."""


class ChatRequest(BaseModel):
    """What of OpenAI's request counts here; other fields are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=1000)
    model: str | None = None
    stream: bool | None = None
    n: int | None = Field(None, ge=1, le=MOST_CAPTIONS)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)


class ChatMessage(BaseModel):
    """What the model says."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One of `n`."""

    index: int
    message: ChatMessage
    finish_reason: Literal["stop"] = "stop"


class Usage(BaseModel):
    """Tokens of the texts; the image counts none."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatAnswer(BaseModel):
    """OpenAI's `chat.completion`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ModelCard(BaseModel):
    """OpenAI's `model`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "captioner"


class ModelList(BaseModel):
    """OpenAI's list of models: one."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def router(engine: Engine, fetcher: Fetcher, body: Any, *, name: str) -> APIRouter:
    """The routes of a server whose model goes by this name."""
    routes, started = APIRouter(prefix="/v1", tags=["OpenAI"]), int(time.time())

    @routes.get("/models", response_model=ModelList)
    async def models() -> Any:
        """The one model that there is."""
        return {"data": [{"id": name, "created": started}]}

    @routes.post(
        "/chat/completions",
        response_model=ChatAnswer,
        responses=EVENTS,
        openapi_extra=body(ChatRequest),
    )
    async def chat(request: Request) -> Any:
        """Caption the last image of a conversation, or answer the last question about it."""
        asked = check(ChatRequest, await read_json(request))
        image, text = last_of(asked.messages)
        picture = await engine.read(await image_bytes(image, fetcher))
        question = text if is_question(text) else None
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}
        if asked.stream:
            pieces = await begun(
                engine.stream(picture, question=question, options=_options(asked, engine, question))
            )
            return sse(chunks(pieces, head), end="[DONE]")
        texts = await _answer(engine, picture, question, asked)
        choices = [{"index": i, "message": {"content": text}} for i, text in enumerate(texts)]
        before, after = engine.count_tokens([question or ""]), engine.count_tokens(texts)
        usage = {"prompt_tokens": before, "completion_tokens": after}
        return {**head, "choices": choices, "usage": usage | {"total_tokens": before + after}}

    return routes


async def _answer(
    engine: Engine, picture: Any, question: str | None, asked: ChatRequest
) -> list[str]:
    count = asked.n or 1
    if question is not None:
        answers = await engine.ask(picture, question, num_answers=count)
        return [answer.text for answer in answers.answers]
    options = _options(asked, engine, question)
    result = await engine.caption(picture, num_captions=count, options=options)
    return [caption.text for caption in result.captions]


def _options(asked: ChatRequest, engine: Engine, question: str | None) -> dict[str, Any]:
    """Drawing where a temperature was asked for, and the search of this server otherwise."""
    longest = asked.max_completion_tokens or asked.max_tokens
    options: dict[str, Any] = {}
    if longest is not None:
        options["max_length"] = min(longest, engine.longest)
    if asked.temperature and question is None:
        options |= {"method": "sample", "temperature": asked.temperature}
        options |= {"top_p": asked.top_p or 1.0, "seed": abs(asked.seed or 0)}
    return options


def last_of(messages: list[dict[str, Any]]) -> tuple[Any, str]:
    """The last image of a conversation, and the last text of its user; raises Refusal."""
    image, text = None, ""
    for message in messages:
        content = message.get("content")
        content = [{"text": content}] if isinstance(content, str) else content
        parts = content if isinstance(content, list) else []
        parts = [part for part in parts if isinstance(part, dict)]
        image = next((p["image_url"] for p in reversed(parts) if p.get("image_url")), image)
        if message.get("role", "user") == "user":
            said = [p["text"] for p in parts if isinstance(p.get("text"), str)]
            text = " ".join(said) or text
    if image is None:
        raise Refusal(
            422, "bad_request", "messages: no image_url in them; this model looks at images"
        )
    return image, text.strip()


def is_question(text: str) -> bool:
    """Whether a text asks for something in particular."""
    words = re.findall(r"\w+", text.lower())
    asks = "?" in text or (words and words[0] in _ASKING)
    return bool(asks) and not _GENERAL.issuperset(words)


async def chunks(pieces: AsyncIterator[str], head: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Pieces as OpenAI's `chat.completion.chunk`."""

    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    async with aclosing(pieces):
        async for piece in pieces:
            yield chunk({"content": piece})
    yield chunk({}, "stop")
