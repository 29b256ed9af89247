"""The server's own dialect: `/v1/caption`, `/v1/vqa`, `/v1/score`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from captioner.errors import CaptionerError
from captioner.serve.engine import Engine
from captioner.serve.fetch import Fetcher
from captioner.serve.http_errors import refusal
from captioner.serve.routes.native_fields import (
    CaptionRequest,
    ScoreRequest,
    VqaRequest,
    caption_options,
)
from captioner.serve.routes.requests import read


class CaptionFound(BaseModel):
    """One caption."""

    caption: str
    score: float
    """Log-probability over the number of tokens."""
    confidence: float
    """As `Caption.confidence`."""


class CaptionAnswer(CaptionFound):
    """The best caption, and all that were asked for."""

    captions: list[CaptionFound]
    low_confidence: bool
    """Whether the image shows nothing, such as one colour or noise."""


class AnswerFound(BaseModel):
    """One answer with its probability."""

    answer: str
    confidence: float


class VqaAnswer(AnswerFound):
    """The likeliest answer, or `unsure`, and all that were asked for."""

    answers: list[AnswerFound]
    unsure: bool


class TextScore(BaseModel):
    """One text of those given."""

    text: str
    logprob: float
    score: float


class ScoreAnswer(BaseModel):
    """The texts in the order in which they were given."""

    scores: list[TextScore]


_CAPTION = """Caption an image.

The image and the options are fields of a JSON object or of a form; with the bare bytes of an image
as the body, the options are query parameters. An option that is unknown, that comes twice, or that
cannot be applied, such as `num_captions` of a stream, is rejected with status 422.

Without a `beam_size`, there are as many beams as captions at least.
"""
_VQA = """Answer a question about an image.

The image and the options are sent as for `/v1/caption`. A stream holds one answer, so that
`answers`, `num_answers` and `min_confidence` cannot be applied to it and are rejected.
"""

EVENTS = {200: {"content": {"text/event-stream": {}}}}
"""What OpenAPI says of a route that also streams."""


def caption_fields(caption: Any) -> dict[str, Any]:
    """Return a caption's fields."""
    return {"caption": caption.text, "score": caption.score, "confidence": caption.confidence}


def router(engine: Engine, fetcher: Fetcher, body: Any) -> APIRouter:
    """Return the routes; `body(model)` documents what they take."""
    routes = APIRouter(prefix="/v1", tags=["captioner"])

    @routes.post(
        "/caption",
        response_model=CaptionAnswer,
        responses=EVENTS,
        openapi_extra=body(CaptionRequest),
        description=_CAPTION,
    )
    async def caption(request: Request) -> Any:
        """Caption an image."""
        data, asked = await read(request, CaptionRequest, fetcher)
        picture, options = await engine.read(data), caption_options(asked)
        if asked.stream:
            return await events(engine.stream(picture, options=options))
        result = await engine.caption(picture, num_captions=asked.num_captions, options=options)
        captions = [caption_fields(c) for c in result.captions]
        return {
            **captions[0],
            "captions": captions,
            "low_confidence": result.low_confidence,
        }

    @routes.post(
        "/vqa",
        response_model=VqaAnswer,
        responses=EVENTS,
        openapi_extra=body(VqaRequest),
        description=_VQA,
    )
    async def vqa(request: Request) -> Any:
        """Answer a question about an image."""
        data, asked = await read(request, VqaRequest, fetcher)
        picture = await engine.read(data)
        if asked.stream:
            return await events(engine.stream(picture, question=asked.question))
        answers = await engine.ask(
            picture,
            asked.question,
            answers=asked.answers,
            num_answers=asked.num_answers,
            min_confidence=asked.min_confidence,
            beam_size=asked.beam_size,
        )
        each = [{"answer": a.text, "confidence": a.confidence} for a in answers.answers]
        return {**each[0], "answer": answers.text, "answers": each, "unsure": answers.unsure}

    @routes.post("/score", response_model=ScoreAnswer, openapi_extra=body(ScoreRequest))
    async def score(request: Request) -> Any:
        """Score given texts as captions of an image, or as answers to a question about it."""
        data, asked = await read(request, ScoreRequest, fetcher)
        picture = await engine.read(data)
        scores = await engine.score(picture, asked.texts, asked.question)
        return {
            "scores": [{"text": s.text, "logprob": s.logprob, "score": s.score} for s in scores]
        }

    return routes


async def events(pieces: AsyncIterator[str]) -> StreamingResponse:
    """Send events `{"text": piece}`, and at the end `{"done": true}`."""
    pieces = await begun(pieces)

    async def objects() -> AsyncIterator[dict[str, Any]]:
        async with aclosing(pieces):
            async for piece in pieces:
                yield {"text": piece}
        yield {"done": True}

    return sse(objects())


async def begun(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """Return the same pieces once the first is known, so that an error has an HTTP status."""
    first = await anext(pieces, None)

    async def all_of_them() -> AsyncIterator[str]:
        async with aclosing(pieces):
            if first is not None:
                yield first
            async for piece in pieces:
                yield piece

    return all_of_them()


def sse(objects: AsyncIterator[dict[str, Any]], *, end: str = "") -> StreamingResponse:
    """Send objects as server-sent events; an error becomes the last one."""

    async def lines() -> AsyncIterator[str]:
        async with aclosing(objects):
            try:
                async for event in objects:
                    yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
            except CaptionerError as error:
                problem = refusal(error)
                event = {"error": {"message": str(problem), "code": problem.reason}}
                yield f"data: {json.dumps(event)}\n\n"
        if end:
            yield f"data: {end}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)
