"""HTTP error responses: a status, a one-line message, and an error code.

The body has the form of OpenAI's API, `{"error": {"message", "type", "code"}}`; under `/hf`, that
of Hugging Face's API, `{"error": "message"}`.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import JSONResponse

from captioner.errors import (
    AudioError,
    AudioFormatError,
    CaptionerError,
    ImageError,
    ImageFormatError,
    InputError,
    QuestionError,
)
from captioner.serve.engine import NotReadyError, QueueFullError
from captioner.serve.model_process import ModelProcessError


class RequestError(CaptionerError):
    """A request that is rejected; `reason` is the error code, which the metrics count too."""

    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})


_STATUSES: tuple[tuple[type[CaptionerError], int, str], ...] = (  # the first match applies
    (QueueFullError, 429, "queue_full"),
    (NotReadyError, 503, "not_ready"),
    (ModelProcessError, 503, "model_ended"),
    (ImageFormatError, 415, "not_an_image"),
    (ImageError, 422, "bad_image"),
    (AudioFormatError, 415, "not_audio"),
    (AudioError, 422, "bad_audio"),
    (InputError, 415, "wrong_input"),  # the model does not take images, or recordings
    (QuestionError, 422, "bad_question"),
    (CaptionerError, 422, "bad_request"),
)


def to_request_error(error: CaptionerError) -> RequestError:
    """Return an error of the package with its HTTP status and error code."""
    if isinstance(error, RequestError):
        return error
    status, reason = next((s, r) for kind, s, r in _STATUSES if isinstance(error, kind))
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    return RequestError(status, reason, str(error), headers)


def error_response(error: RequestError, path: str) -> JSONResponse:
    """Return the response to a rejected request, in the format of the API at `path`."""
    body: dict[str, str | dict[str, str]]
    if path.startswith("/hf"):
        body = {"error": str(error)}
    else:
        kind = "server_error" if error.status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if error.status == 429 else kind
        body = {"error": {"message": str(error), "type": kind, "code": error.reason}}
    return JSONResponse(body, status_code=error.status, headers=error.headers)
