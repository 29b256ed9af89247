"""The application: routes, health, metrics and documentation behind the gate, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from captioner import __version__
from captioner.errors import CaptionerError
from captioner.serve.engine import Engine
from captioner.serve.fetch import Fetcher
from captioner.serve.http_errors import Refusal, refusal, response
from captioner.serve.middleware import Gate
from captioner.serve.routes import huggingface, native, openai
from captioner.serve.settings import Settings

if TYPE_CHECKING:
    from captioner.predict import Captioner

_PROBLEMS = {
    400: "The body cannot be parsed",
    401: "No token, or a wrong one",
    408: "The body came too slowly",
    413: "The body is too large",
    415: "Not an image, or a compressed body",
    422: "An image, a question or an option that cannot be used, or an unknown option",
    429: "Too many requests at a time; see Retry-After",
    503: "Loading, or being stopped",
    504: "Not done before the deadline",
}


_DESCRIPTION = """Captions of images, and answers to questions about them.

Every option is applied or rejected: a name that is unknown, or known elsewhere, is rejected with
status 422 and the nearest valid name. Images are sent as files, as base64 (standard or URL-safe,
with or without padding), as data URIs, or as http(s) URLs of hosts that the server allows; it never
reads local files.
"""


class Problem(BaseModel):
    """What is returned instead of a result."""

    error: dict[str, str] | str


def create_app(
    load: Callable[[], Captioner],
    settings: Settings,
    *,
    name: str = "captioner",
    page: bool = True,
) -> FastAPI:
    """The application of one captioner, which `load` makes once the server runs.

    `app.state.engine` is what it runs on.
    """
    engine = Engine(load, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await engine.close()

    app = FastAPIOffline(
        title="captioner",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        responses={s: {"model": Problem, "description": d} for s, d in _PROBLEMS.items()},
    )
    app.state.engine = engine
    fetcher = Fetcher(settings.fetch, max_bytes=settings.max_body)
    app.include_router(native.router(engine, fetcher, body))
    app.include_router(openai.router(engine, fetcher, json_body, name=name))
    app.include_router(huggingface.router(engine, fetcher, body))
    _add_health(app, engine)
    _add_problems(app, engine)
    if page:
        from captioner.serve.page.layout import mount

        app = mount(app, engine)
    # The last one that is added sees a request first. A browser asks whether its page may call
    # without showing a token.
    app.add_middleware(Gate, engine=engine)
    if settings.cors:
        options = {"allow_methods": ["GET", "POST"], "allow_headers": ["*"]}
        app.add_middleware(CORSMiddleware, allow_origins=list(settings.cors), **options)
    if settings.hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts))
    return app


def _add_health(app: FastAPI, engine: Engine) -> None:
    @app.get("/healthz", tags=["server"])
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["server"])
    async def readyz() -> JSONResponse:
        """Whether requests are taken: 503 while the model is loaded, and while stopping."""
        status = "ready" if engine.ready else "draining" if engine.draining else "loading"
        return JSONResponse({"status": status}, status_code=200 if engine.ready else 503)

    @app.get("/metrics", tags=["server"], response_class=Response)
    async def metrics() -> Response:
        """Prometheus's text format."""
        return Response(engine.telemetry.text(), media_type=CONTENT_TYPE_LATEST)


def _add_problems(app: FastAPI, engine: Engine) -> None:
    @app.exception_handler(CaptionerError)
    async def refused(request: Request, error: CaptionerError) -> JSONResponse:
        found = refusal(error)
        engine.telemetry.reject(found.reason)
        return response(found, request.url.path)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        found = Refusal(error.status_code, "bad_request", str(error.detail), headers)
        return response(found, request.url.path)


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that the route parses itself."""
    schema = _inlined(model.model_json_schema(ref_template="{model}"))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without `$defs`, since within a document of OpenAPI nothing can refer to them."""
    kinds = schema.pop("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, list):
            return [resolve(each) for each in part]
        if not isinstance(part, dict):
            return part
        part = {**kinds.get(part.get("$ref"), {}), **part}
        return {name: resolve(value) for name, value in part.items() if name != "$ref"}

    return resolve(schema)


def body(model: type[BaseModel], *, image: str = "image") -> dict[str, Any]:
    """The same, of a body that holds an image and may be a form, or the image itself."""
    found = json_body(model)
    content = found["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    binary = {"type": "string", "format": "binary"}
    if image not in schema["properties"]:
        text = {"type": "string", "description": "Base64, or a data URI"}
        required = [image, *schema.get("required", [])]

        def with_image(kind: dict[str, Any]) -> dict[str, Any]:
            return {
                **schema,
                "properties": {image: kind, **schema["properties"]},
                "required": required,
            }

        content["application/json"] = {"schema": with_image(text)}
        content["multipart/form-data"] = {"schema": with_image(binary)}
    content["application/octet-stream"] = {"schema": binary}
    return found
