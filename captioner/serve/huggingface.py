"""The dialect of Hugging Face's inference API: the tasks image-to-text and
visual-question-answering, one path for both, as an endpoint of theirs has.

    InferenceClient(model="http://127.0.0.1:7860/hf/").image_to_text("photo.jpg")
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from captioner.serve.bodies import LONGEST, MOST_CAPTIONS, check, image_bytes, media_type, read_json
from captioner.serve.engine import Engine
from captioner.serve.fetch import Fetcher
from captioner.serve.problems import Refusal


class HfParameters(BaseModel):
    """What of the parameters counts here."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    top_k: int | None = Field(None, ge=1, le=MOST_CAPTIONS)


class HfRequest(BaseModel):
    """An image, as base64, or an image and a question."""

    model_config = ConfigDict(extra="ignore")
    inputs: str | dict[str, Any]
    question: str | None = Field(None, max_length=LONGEST)
    parameters: HfParameters = HfParameters()


class HfCaption(BaseModel):
    """Of image-to-text."""

    generated_text: str


class HfAnswer(BaseModel):
    """Of visual-question-answering."""

    answer: str
    score: float


def router(engine: Engine, fetcher: Fetcher, body: Any) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/hf", tags=["Hugging Face"])
    model = list[HfCaption] | list[HfAnswer]

    @routes.post("/", response_model=model, openapi_extra=body(HfRequest, image="inputs"))
    async def infer(request: Request) -> Any:
        """Caption an image (its bare bytes, or JSON), or answer the question beside it."""
        image, question, top = await _read(request, fetcher)
        picture = await engine.read(image)
        if question is None:
            result = await engine.caption(picture)
            return [{"generated_text": result.text}]
        answers = await engine.ask(picture, question, num_answers=top)
        return [{"answer": a.text, "score": a.confidence} for a in answers.answers]

    return routes


async def _read(request: Request, fetcher: Fetcher) -> tuple[bytes, str | None, int]:
    if media_type(request) != "application/json":
        data = await request.body()
        if not data:
            raise Refusal(415, "not_an_image", "an empty body")
        return data, None, 1
    asked = check(HfRequest, await read_json(request))
    image, question = asked.inputs, asked.question
    if isinstance(image, dict):
        image, question = image.get("image"), image.get("question", question)
        if question is not None and not isinstance(question, str):
            raise Refusal(422, "bad_request", "inputs.question: expected text")
        question = None if question is None else question[:LONGEST]
    return await image_bytes(image, fetcher), question, asked.parameters.top_k or 1
