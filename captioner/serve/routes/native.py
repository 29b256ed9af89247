"""The native API: `/v1/caption`, `/v1/vqa`, `/v1/score`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from captioner.serve.engine import Engine
from captioner.serve.fetch import Fetcher
from captioner.serve.routes.event_stream import EVENT_STREAM, stream_text
from captioner.serve.routes.native_fields import (
    CaptionRequest,
    ScoreRequest,
    VqaRequest,
    decoding_options,
)
from captioner.serve.routes.request_schema import document_image_body
from captioner.serve.routes.requests import read_request

if TYPE_CHECKING:
    from captioner.predict.results import Answers, Caption, Result


class CaptionItem(BaseModel):
    """One caption."""

    caption: str
    score: float
    """Log-probability divided by the number of tokens."""
    confidence: float
    """Calibrated probability that the caption is acceptable."""


class ImageKind(BaseModel):
    """What the image is; null if the model does not recognize kinds of images."""

    kind: str | None
    """photograph, text, screenshot, chart, icon, drawing, rendering or blank."""
    kind_probability: float | None


class CaptionResponse(CaptionItem, ImageKind):
    """The best caption, and all requested captions."""

    captions: list[CaptionItem]
    low_confidence: bool
    """True if the image shows nothing, such as a single color or noise."""


class AnswerItem(BaseModel):
    """One answer with the calibrated probability that it is correct."""

    answer: str
    confidence: float


class VqaResponse(AnswerItem, ImageKind):
    """The likeliest answer or `unsure`, and all requested answers."""

    answers: list[AnswerItem]
    unsure: bool


class TextScore(BaseModel):
    """The score of one text."""

    text: str
    logprob: float
    score: float


class ScoreResponse(BaseModel):
    """The scores, in the order of the texts in the request."""

    scores: list[TextScore]


def create_native_router(engine: Engine, fetcher: Fetcher) -> APIRouter:
    """Create the routes."""
    routes = APIRouter(prefix="/v1", tags=["captioner"])
    post = partial(routes.post, responses=EVENT_STREAM)

    body = document_image_body(CaptionRequest)

    @post("/caption", response_model=CaptionResponse, openapi_extra=body)
    async def caption(request: Request) -> Any:
        """Caption an image, a recording or both, as the model takes them.

        The fields `image` and `audio` hold the files, whose content decides what they are. They and
        the options are fields of a JSON object or of a form; if the body is the file itself, the
        options are query parameters. An option that is unknown, that is given twice, or
        that cannot be applied, such as `num_captions` in a stream, is rejected with status 422.

        Without a `beam_size`, the beam is at least as large as the number of captions.
        """
        files, fields = await read_request(request, CaptionRequest, fetcher)
        image, options = await engine.decode(*files), decoding_options(fields)
        if fields.stream:
            return await stream_text(engine.stream(image, options=options))
        result = await engine.caption(image, num_captions=fields.num_captions, options=options)
        captions = [_caption_fields(c) for c in result.captions]
        shown = {"captions": captions, "low_confidence": result.low_confidence}
        return captions[0] | shown | _kind_fields(result)

    @post("/vqa", response_model=VqaResponse, openapi_extra=document_image_body(VqaRequest))
    async def vqa(request: Request) -> Any:
        """Answer a question about an image, a recording or both.

        The files and the options are sent as for `/v1/caption`. A stream contains one answer, so
        `answers`, `num_answers` and `min_confidence` cannot be applied to it and are rejected.
        """
        files, fields = await read_request(request, VqaRequest, fetcher)
        image = await engine.decode(*files)
        if fields.stream:
            return await stream_text(engine.stream(image, question=fields.question))
        options = fields.model_dump(exclude={"question", "stream"})
        result = await engine.answer(image, fields.question, **options)
        answers = [{"answer": a.text, "confidence": a.confidence} for a in result.answers]
        shown = {"answer": result.text, "answers": answers, "unsure": result.unsure}
        return answers[0] | shown | _kind_fields(result)

    body = document_image_body(ScoreRequest)

    @routes.post("/score", response_model=ScoreResponse, openapi_extra=body)
    async def score(request: Request) -> Any:
        """Score texts as captions of an image or a recording, or as answers about it."""
        files, fields = await read_request(request, ScoreRequest, fetcher)
        image = await engine.decode(*files)
        scores = await engine.score(image, fields.texts, fields.question)
        return {"scores": scores}

    return routes


def _caption_fields(caption: Caption) -> dict[str, Any]:
    return {"caption": caption.text, "score": caption.score, "confidence": caption.confidence}


def _kind_fields(result: Result | Answers) -> dict[str, Any]:
    return {"kind": result.kind, "kind_probability": result.kind_probability}
