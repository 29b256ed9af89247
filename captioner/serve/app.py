"""The FastAPI application: API routes, health, metrics and documentation, middleware, web page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from captioner import __version__
from captioner.errors import CaptionerError
from captioner.serve.engine import AnyCaptioner, Engine
from captioner.serve.fetch import Fetcher
from captioner.serve.http_errors import RequestError, error_response, to_request_error
from captioner.serve.middleware import RequestMiddleware
from captioner.serve.routes import huggingface, native, openai
from captioner.serve.settings import Settings

_ERRORS = {
    400: "The body cannot be parsed",
    401: "The token is missing or wrong",
    408: "The body was not received before the deadline",
    413: "The body is too large",
    415: "The body is not an input of the model, or is compressed",
    422: "An image, a recording, a question or an option cannot be used, or is unknown",
    429: "Too many requests at a time; see Retry-After",
    503: "The model is being loaded, or the server is shutting down",
    504: "Not finished before the deadline",
}

_DESCRIPTION = """Captions of images or recordings, and answers to questions about them.

Every option is applied or rejected: an option that does not exist in a request is rejected with
status 422 and the nearest valid name. Images and recordings are sent as files, as base64 (standard
or URL-safe, with or without padding), as data URIs, or as http(s) URLs of hosts that the server
allows; it never reads local files.
"""


class ErrorResponse(BaseModel):
    """The response to a rejected request."""

    error: dict[str, str] | str


def create_app(
    load: Callable[[], AnyCaptioner],
    settings: Settings,
    *,
    name: str = "captioner",
    page: bool = True,
) -> FastAPI:
    """Create the application; its engine is `app.state.engine`.

    Args:
        load: Loads the captioner of one worker; see `Engine`.
        settings: Limits and access rules.
        name: The model's name in OpenAI's API.
        page: Serve the web page at `/`.
    """
    engine = Engine(load, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await engine.close()

    app: FastAPI = FastAPIOffline(
        title="captioner",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        responses={s: {"model": ErrorResponse, "description": d} for s, d in _ERRORS.items()},
    )
    app.state.engine = engine
    fetcher = Fetcher(settings.fetch, max_bytes=settings.max_body)
    app.include_router(native.create_native_router(engine, fetcher))
    app.include_router(openai.create_openai_router(engine, fetcher, name=name))
    app.include_router(huggingface.create_huggingface_router(engine, fetcher))
    _add_health_routes(app, engine)
    _add_error_handlers(app, engine)
    if page:
        from captioner.serve.page.layout import mount_page

        app = mount_page(app, engine)
    # The middleware that is added last runs first. CORS precedes the token check, because browsers
    # send preflight requests without credentials.
    app.add_middleware(RequestMiddleware, engine=engine)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    if settings.hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts))
    return app


def _add_health_routes(app: FastAPI, engine: Engine) -> None:
    @app.get("/healthz", tags=["server"])
    async def healthz() -> dict[str, str]:
        """Return that the process is running."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["server"])
    async def readyz() -> JSONResponse:
        """Return whether requests are accepted: 503 while loading and while shutting down."""
        status = "ready" if engine.ready else "draining" if engine.draining else "loading"
        return JSONResponse({"status": status}, status_code=200 if engine.ready else 503)

    @app.get("/metrics", tags=["server"], response_class=Response)
    async def metrics() -> Response:
        """Return the metrics in Prometheus's text format."""
        return Response(generate_latest(engine.telemetry.registry), media_type=CONTENT_TYPE_LATEST)


def _add_error_handlers(app: FastAPI, engine: Engine) -> None:
    @app.exception_handler(CaptionerError)
    async def handle_captioner_error(request: Request, error: CaptionerError) -> JSONResponse:
        rejection = to_request_error(error)
        engine.telemetry.rejections.labels(rejection.reason).inc()
        return error_response(rejection, request.url.path)

    @app.exception_handler(HTTPException)
    async def handle_http_error(request: Request, error: HTTPException) -> JSONResponse:
        rejection = RequestError(error.status_code, "bad_request", str(error.detail), error.headers)
        return error_response(rejection, request.url.path)
