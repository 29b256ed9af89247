"""The dialect of Hugging Face's inference API: the tasks image-to-text and
visual-question-answering, one path for both, as an endpoint of theirs has.

    InferenceClient(model="http://127.0.0.1:7860/hf/").image_to_text("photo.jpg")
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from captioner.serve.engine import Engine
from captioner.serve.fetch import Fetcher
from captioner.serve.routes.fields import check
from captioner.serve.routes.huggingface_fields import HfInputs, HfParameters, HfRequest
from captioner.serve.routes.image_field import image_bytes
from captioner.serve.routes.requests import media_type, read_bytes, read_json, reject_query

_INFER = """Caption an image (its bare bytes, or JSON), or answer the question beside it.

Every parameter is applied or rejected with status 422. Those of a caption are `max_new_tokens` and
`generation_parameters` (or `generate_kwargs`), that of a question is `top_k`. With `do_sample` and
without a `seed`, each request draws a different caption.
"""


class HfCaption(BaseModel):
    """Of image-to-text."""

    generated_text: str


class HfAnswer(BaseModel):
    """Of visual-question-answering."""

    answer: str
    score: float


def router(engine: Engine, fetcher: Fetcher, body: Any) -> APIRouter:
    """Return the routes; `body(model)` documents what they take."""
    routes = APIRouter(prefix="/hf", tags=["Hugging Face"])
    model = list[HfCaption] | list[HfAnswer]

    @routes.post(
        "/",
        response_model=model,
        openapi_extra=body(HfRequest, image="inputs"),
        description=_INFER,
    )
    async def infer(request: Request) -> Any:
        """Caption an image, or answer the question beside it."""
        image, question, parameters = await _read(request, fetcher)
        if question is None:
            count, options = parameters.of_caption()
            picture = await engine.read(image)
            result = await engine.caption(picture, num_captions=count, options=options)
            return [{"generated_text": caption.text} for caption in result.captions]
        count = parameters.of_question()
        answers = await engine.ask(await engine.read(image), question, num_answers=count)
        return [{"answer": a.text, "score": a.confidence} for a in answers.answers]

    return routes


async def _read(request: Request, fetcher: Fetcher) -> tuple[bytes, str | None, HfParameters]:
    if media_type(request) != "application/json":
        reject_query(request)
        return await read_bytes(request), None, HfParameters()
    asked = check(HfRequest, await read_json(request))
    image = asked.inputs.image if isinstance(asked.inputs, HfInputs) else asked.inputs
    return await image_bytes(image, fetcher), asked.asked, asked.parameters or HfParameters()
