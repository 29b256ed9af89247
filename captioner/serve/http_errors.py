"""What is answered in the place of a result: a status, one message, and the reason in one word.

The shape is that of OpenAI's API, `{"error": {"message", "type", "code"}}`; under `/hf` it is that
of Hugging Face's, `{"error": "message"}`.
"""

from __future__ import annotations

from fastapi.responses import JSONResponse

from captioner.errors import CaptionerError, ImageError, ImageFormatError, QuestionError
from captioner.serve.engine import Busy, NotReady
from captioner.serve.model_process import LaneError


class Refusal(CaptionerError):
    """A request that is not served, with its HTTP status; `reason` is what the metrics count."""

    def __init__(
        self, status: int, reason: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.headers = status, reason, headers or {}


_KINDS = (  # the first that fits
    (Busy, 429, "queue_full"),
    (NotReady, 503, "not_ready"),
    (LaneError, 503, "model_ended"),
    (ImageFormatError, 415, "not_an_image"),
    (ImageError, 422, "bad_image"),
    (QuestionError, 422, "bad_question"),
    (CaptionerError, 422, "bad_request"),
)


def refusal(error: CaptionerError) -> Refusal:
    """How an error of the package is told to a caller."""
    if isinstance(error, Refusal):
        return error
    status, reason = next((s, r) for kind, s, r in _KINDS if isinstance(error, kind))
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    return Refusal(status, reason, str(error), headers)


def response(found: Refusal, path: str) -> JSONResponse:
    """The answer, in the dialect of the path."""
    if path.startswith("/hf"):
        body = {"error": str(found)}
    else:
        kind = "server_error" if found.status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if found.status == 429 else kind
        body = {"error": {"message": str(found), "type": kind, "code": found.reason}}
    return JSONResponse(body, status_code=found.status, headers=found.headers)
