"""Hugging Face's inference API: the tasks image-to-text and visual-question-answering.

Both tasks use the same path, as in an inference endpoint of Hugging Face:

    InferenceClient(model="http://127.0.0.1:7860/hf/").image_to_text("photo.jpg")
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from captioner.serve.engine import Engine
from captioner.serve.fetch import Fetcher
from captioner.serve.routes.fields import validate
from captioner.serve.routes.huggingface_fields import HfInputs, HfParameters, HfRequest
from captioner.serve.routes.image_field import read_image_field
from captioner.serve.routes.request_schema import document_image_body
from captioner.serve.routes.requests import media_type, read_bytes, read_json, reject_query


class HfCaptionItem(BaseModel):
    """A result of image-to-text."""

    generated_text: str


class HfAnswerItem(BaseModel):
    """A result of visual-question-answering."""

    answer: str
    score: float


def create_huggingface_router(engine: Engine, fetcher: Fetcher) -> APIRouter:
    """Create the route."""
    routes = APIRouter(prefix="/hf", tags=["Hugging Face"])
    model = list[HfCaptionItem] | list[HfAnswerItem]
    body = document_image_body(HfRequest, image="inputs")

    @routes.post("/", response_model=model, openapi_extra=body)
    async def infer(request: Request) -> Any:
        """Caption an image (its bytes, or JSON), or answer the question that is sent with it.

        Every parameter is applied or rejected with status 422. The parameters of a caption are
        `max_new_tokens` and `generation_parameters` (or `generate_kwargs`); that of a question is
        `top_k`. With `do_sample` and without a `seed`, each request samples a new caption.
        """
        data, question, parameters = await _read(request, fetcher)
        if question is None:
            count, options = parameters.caption_options()
            image = await engine.decode(data)
            result = await engine.caption(image, num_captions=count, options=options)
            return [{"generated_text": caption.text} for caption in result.captions]
        count = parameters.num_answers()
        answers = await engine.answer(await engine.decode(data), question, num_answers=count)
        return [{"answer": a.text, "score": a.confidence} for a in answers.answers]

    return routes


async def _read(request: Request, fetcher: Fetcher) -> tuple[bytes, str | None, HfParameters]:
    """Return the image file, the question and the parameters of a request."""
    if media_type(request) != "application/json":
        reject_query(request)
        return await read_bytes(request), None, HfParameters()
    fields = validate(HfRequest, await read_json(request))
    image = fields.inputs.image if isinstance(fields.inputs, HfInputs) else fields.inputs
    parameters = fields.parameters or HfParameters()
    return await read_image_field(image, fetcher), fields.any_question, parameters
