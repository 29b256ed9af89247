"""OpenAI's API: `/v1/chat/completions` and `/v1/models`, for existing clients.

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
from captioner.serve.prompts.intent import classify_intent
from captioner.serve.routes.chat_completion import Chat, complete, stream_chunks
from captioner.serve.routes.chat_fields import ChatRequest
from captioner.serve.routes.chat_messages import read_messages
from captioner.serve.routes.event_stream import EVENT_STREAM, send_events
from captioner.serve.routes.fields import validate
from captioner.serve.routes.image_field import read_image_field
from captioner.serve.routes.request_schema import document_json_body
from captioner.serve.routes.requests import read_json


class ChatMessage(BaseModel):
    """The generated text."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One of `n` choices."""

    index: int
    message: ChatMessage
    finish_reason: Literal["stop", "length"] = Field(
        description="length: the text was truncated after max_tokens or at the longest length of"
        " the model; stop: otherwise"
    )


class Usage(BaseModel):
    """Tokens of the question and of the generated texts.

    The image and the words of the model's own prompt are not counted.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatResponse(BaseModel):
    """OpenAI's `chat.completion`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    task: Literal["caption", "question"] = Field(
        description="How the request was interpreted; not one of OpenAI's fields"
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
    """OpenAI's list of models, with one entry."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def _describe_inputs(engine: Engine) -> str:
    """Return what the model takes, as messages name it."""
    if engine.loaded.audio_rate is None:
        return "an image"
    return "a recording" if engine.loaded.view is None else "an image or a recording"


def create_openai_router(engine: Engine, fetcher: Fetcher, *, name: str) -> APIRouter:
    """Create the routes; `name` is the name of the model."""
    routes, started = APIRouter(prefix="/v1", tags=["OpenAI"]), int(time.time())

    @routes.get("/models", response_model=ModelList)
    async def models() -> Any:
        """List the only model."""
        return {"data": [{"id": name, "created": started}]}

    @routes.post(
        "/chat/completions",
        response_model=ChatResponse,
        responses=EVENT_STREAM,
        openapi_extra=document_json_body(ChatRequest),
    )
    async def chat(request: Request) -> Any:
        """Caption the last image or recording of a chat, or answer the last question about it.

        `task` in the response, and in each chunk of a stream, is `caption` or `question`. "What is
        in this picture?" and other questions about the whole image request a caption, unless the
        model answers questions only. A model that captions only rejects all other questions.

        Every field is applied or rejected with status 422. Fields that this model cannot apply,
        such as `frequency_penalty`, `tools` or `response_format`, may be sent with their neutral
        value; `user`, `metadata` and other information is accepted and does not change the text.
        `temperature`, `top_p` and `seed` sample captions and answers alike. Without them, the `n`
        choices are the best results of beam search, and a single streamed text is found by greedy
        search.
        """
        fields = validate(ChatRequest, await read_json(request))
        found, text = read_messages(fields.messages, needed=_describe_inputs(engine))
        intent = classify_intent(text, captions=engine.loaded.captions)
        files = [await read_image_field(v, fetcher, name=name) for name, v in found.items()]
        image = await engine.decode(*files)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}
        conversation = Chat(fields, image, intent.question, head | {"task": intent.task})
        if fields.stream:
            return send_events(await stream_chunks(engine, conversation), end="[DONE]")
        return await complete(engine, conversation)

    return routes
