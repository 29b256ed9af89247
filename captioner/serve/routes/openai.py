"""OpenAI's dialect: `/v1/chat/completions` and `/v1/models`, for existing clients.

The image is the last one of the conversation, and the request is the last text of the user: a
question about the image, or a request to describe it (`captioner.serve.prompts.intent` decides).
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from captioner.serve.engine import Engine
from captioner.serve.fetch import Fetcher
from captioner.serve.prompts.intent import read_intent
from captioner.serve.routes.chat_completion import Chat, complete, stream_chunks
from captioner.serve.routes.chat_fields import ChatRequest
from captioner.serve.routes.chat_messages import read_messages
from captioner.serve.routes.fields import check
from captioner.serve.routes.image_field import image_bytes
from captioner.serve.routes.native import EVENTS, sse
from captioner.serve.routes.requests import read_json

_CHAT = """Caption the last image of a conversation, or answer the last question about it.

`task` in the answer, and in each chunk of a stream, is what was done: `caption` or `question`.

Every field is applied or rejected with status 422. Fields that this model cannot apply, such as
`frequency_penalty`, `tools` or `response_format`, may be sent with the value that asks for nothing;
`user`, `metadata` and other information is accepted and changes no text. `temperature`, `top_p` and
`seed` draw captions and answers alike. Without them, `n` choices are the best that a search finds;
one text that is streamed is the likeliest word after word.
"""


class ChatMessage(BaseModel):
    """The text that was written."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One of `n`."""

    index: int
    message: ChatMessage
    finish_reason: Literal["stop", "length"] = Field(
        description="length: the text was cut after max_tokens; stop: it ended otherwise"
    )


class Usage(BaseModel):
    """Tokens of the question and of the texts; the image counts none."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatAnswer(BaseModel):
    """OpenAI's `chat.completion`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    task: Literal["caption", "question"] = Field(
        description="What the request was read as; not one of OpenAI's fields"
    )
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
    """Return the routes of a server whose model goes by this name."""
    routes, started = APIRouter(prefix="/v1", tags=["OpenAI"]), int(time.time())

    @routes.get("/models", response_model=ModelList)
    async def models() -> Any:
        """List the one model that there is."""
        return {"data": [{"id": name, "created": started}]}

    @routes.post(
        "/chat/completions",
        response_model=ChatAnswer,
        responses=EVENTS,
        openapi_extra=body(ChatRequest),
        description=_CHAT,
    )
    async def chat(request: Request) -> Any:
        """Caption the last image of a conversation, or answer the last question about it."""
        asked = check(ChatRequest, await read_json(request))
        image, text = read_messages(asked.messages)
        intent = read_intent(text)
        picture = await engine.read(await image_bytes(image, fetcher))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}
        head["task"] = intent.task
        conversation = Chat(asked, picture, intent.question, head)
        if asked.stream:
            return sse(await stream_chunks(engine, conversation), end="[DONE]")
        return await complete(engine, conversation)

    return routes
