"""Server-sent events: texts that are sent while they are generated."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse

from captioner.errors import CaptionerError
from captioner.serve.http_errors import to_request_error

Text = TypeVar("Text", bound=str)

EVENT_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
"""OpenAPI documentation of a route that may respond with events."""


async def stream_text(pieces: AsyncGenerator[str, None]) -> StreamingResponse:
    """Respond with events `{"text": piece}`, and `{"done": true}` at the end."""
    return send_events(_text_events(await await_first(pieces)))


async def _text_events(pieces: AsyncGenerator[str, None]) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(pieces):
        async for piece in pieces:
            yield {"text": piece}
    yield {"done": True}


async def await_first(pieces: AsyncGenerator[Text, None]) -> AsyncGenerator[Text, None]:
    """Return the same pieces once the first is known, so that an error gets an HTTP status."""
    first = await anext(pieces, None)

    async def prepend() -> AsyncGenerator[Text, None]:
        async with aclosing(pieces):
            if first is not None:
                yield first
            async for piece in pieces:
                yield piece

    return prepend()


def send_events(
    events: AsyncGenerator[dict[str, Any], None], *, end: str = ""
) -> StreamingResponse:
    """Respond with events; an error becomes the last one, followed by the data `end`."""

    async def lines() -> AsyncGenerator[str, None]:
        async with aclosing(events):
            try:
                async for event in events:
                    yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
            except CaptionerError as error:
                rejection = to_request_error(error)
                event = {"error": {"message": str(rejection), "code": rejection.reason}}
                yield f"data: {json.dumps(event)}\n\n"
        if end:
            yield f"data: {end}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)
