"""ASGI middleware for every request: access control, size limit, concurrency limit, deadline.

As ASGI middleware, it sees a body while it is being received, and can end a request whose time is
over or whose client has disconnected.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import time
import uuid
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from captioner.errors import CaptionerError
from captioner.serve.engine import Engine, NotReadyError
from captioner.serve.http_errors import RequestError, error_response, to_request_error

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

PUBLIC_PATHS = ("/healthz", "/readyz")
"""Paths that need no token."""
API_PREFIXES = ("/v1/", "/hf/")
"""Paths where a POST request uses the model."""
UPLOAD_PATH = "/gradio_api/upload"
"""Path to which the page uploads files, several in one request."""
UPLOAD_FACTOR = 16
"""The size limit of an upload request, as a multiple of the limit of other requests."""
CLIENT_DISCONNECTED = 499
"""Status in the log of a request whose client has disconnected; it is never sent."""
DISCARD_SECONDS = 2.0
"""Maximum time to read the rest of a rejected body; otherwise the client may miss the response."""


class RequestMiddleware:
    """Apply the limits of a server to each request, and record the request in the telemetry."""

    def __init__(self, app: App, engine: Engine) -> None:
        self.app, self.engine, self.settings = app, engine, engine.settings

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        state = RequestState(scope, receive, send)
        try:
            await self._process(state)
        except CaptionerError as error:
            state.rejection = state.rejection or to_request_error(error)
        except Exception:
            if state.rejection is None:
                state.rejection = RequestError(500, "error", "internal error; see the server's log")
                raise
        finally:
            if state.rejection is not None:
                await self._send_rejection(state, state.rejection)
            self._record(state)

    async def _process(self, state: RequestState) -> None:
        """Pass the request to the application; raises CaptionerError if it is rejected."""
        path, method = state.scope["path"], state.scope["method"]
        if self.settings.token is not None and path not in PUBLIC_PATHS:
            header = state.headers.get("authorization", "")
            _check_token(header, self.settings.token, browser=not path.startswith(API_PREFIXES))
        limit = self.settings.max_body
        state.limit_body(limit * UPLOAD_FACTOR if path.startswith(UPLOAD_PATH) else limit)
        if method == "POST" and path.startswith(API_PREFIXES):
            with self.engine.slot():
                await self._run_until_deadline(state, self._deadline(state.headers))
        else:
            await self._run_until_shutdown(state)

    async def _run_until_shutdown(self, state: RequestState) -> None:
        """Run a request without a deadline, such as the page's event stream."""
        work = asyncio.ensure_future(self.app(state.scope, state.receive, state.send))
        closing = asyncio.ensure_future(self.engine.closing.wait())
        try:
            await asyncio.wait({work, closing}, return_when=FIRST_COMPLETED)
            if work.done():
                return work.result()
        finally:
            for task in (work, closing):
                task.cancel()
            await asyncio.gather(work, closing, return_exceptions=True)
        if state.status is None:
            raise NotReadyError("the server is shutting down")
        if not state.complete:
            await state.send({"type": "http.response.body"})

    async def _run_until_deadline(self, state: RequestState, seconds: float) -> None:
        """Run a request until it is done, its time is over, or its client disconnects."""
        work = asyncio.ensure_future(self.app(state.scope, state.receive, state.send))
        disconnect = asyncio.ensure_future(state.wait_for_disconnect())
        try:
            await asyncio.wait({work, disconnect}, timeout=seconds, return_when=FIRST_COMPLETED)
            if work.done():
                return work.result()
            if disconnect.done():
                status, reason, message = CLIENT_DISCONNECTED, "gone", "the client disconnected"
            elif state.body_received:
                status, reason, message = 504, "deadline", f"not finished within {seconds:g} s"
            else:
                status, reason = 408, "slow_body"
                message = f"the body was not received within {seconds:g} s"
            state.rejection = RequestError(status, reason, message)
        finally:
            for task in (work, disconnect):
                task.cancel()
            # Errors of the application no longer matter: the response has been decided.
            await asyncio.gather(work, disconnect, return_exceptions=True)

    def _deadline(self, headers: dict[str, str]) -> float:
        """Return the deadline in seconds: the server's, or a shorter one that the client sets."""
        value = headers.get("x-request-timeout")
        if value is None:
            return self.settings.deadline
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", value, re.ASCII):
            message = "X-Request-Timeout: expected seconds, such as 2.5"
            raise RequestError(400, "bad_request", message)
        return min(self.settings.deadline, float(value))

    async def _send_rejection(self, state: RequestState, rejection: RequestError) -> None:
        """Send the error response, unless another response has begun."""
        self.engine.telemetry.rejections.labels(rejection.reason).inc()
        if state.status is not None or rejection.status == CLIENT_DISCONNECTED:
            return
        if not state.body_received:
            rejection.headers["Connection"] = "close"
        state.sending_rejection = True
        await error_response(rejection, state.scope["path"])(state.scope, state.receive, state.send)
        if not state.body_received:
            with suppress(Exception):
                await asyncio.wait_for(state.discard_body(), DISCARD_SECONDS)

    def _record(self, state: RequestState) -> None:
        route = getattr(state.scope.get("route"), "path", "")
        rejection = state.rejection
        status = state.status or (rejection.status if rejection else CLIENT_DISCONNECTED)
        if not route and state.scope["path"].startswith(API_PREFIXES):
            route = "refused"
        if route:
            fields = {"id": state.id, "method": state.scope["method"], "bytes": state.size}
            if rejection is not None:
                fields["reason"] = rejection.reason
            record = self.engine.telemetry.record_request
            record(route=route, status=status, start=state.start, **fields)


class RequestState:
    """The progress of one request: how much of its body and of its response has passed.

    Attributes:
        id: Identifier in the log and in the response header X-Request-ID.
        rejection: The error that replaces the application's response.
        status: HTTP status of the response that has begun.
        size: Bytes of the body so far.
        complete: True if the whole response has been sent.
    """

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        sent_id = self.headers.get("x-request-id", "")
        valid = re.fullmatch(r"[\w.-]{1,64}", sent_id, re.ASCII)
        self.id = sent_id if valid else uuid.uuid4().hex
        self.start = time.perf_counter()
        self.rejection: RequestError | None = None
        self.status: int | None = None
        self.size, self._limit = 0, 0
        self.body_received, self.complete, self.sending_rejection = False, False, False
        self._body_ended, self._disconnected = asyncio.Event(), asyncio.Event()

    def limit_body(self, limit: int) -> None:
        """Set the size limit in bytes; raises RequestError if Content-Length exceeds it."""
        self._limit = limit
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """Receive an ASGI message; raises RequestError if the body is too large."""
        if self.body_received:
            await self.wait_for_disconnect()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._disconnected.set()
            self._body_ended.set()
            return message
        self.size += len(message.get("body", b""))
        if self.size > self._limit:
            self.rejection = self._too_large()
            raise self.rejection
        if not message.get("more_body", False):
            self.body_received = True
            self._body_ended.set()
        return message

    async def send(self, message: Message) -> None:
        """Send an ASGI message; messages of a rejected application are dropped."""
        if self.rejection is not None and not self.sending_rejection:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", []))
            message = {**message, "headers": [*headers, (b"x-request-id", self.id.encode())]}
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)

    async def wait_for_disconnect(self) -> None:
        """Return once the client has disconnected."""
        await self._body_ended.wait()
        while not self._disconnected.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._disconnected.set()

    async def discard_body(self) -> None:
        """Read the rest of the body."""
        while (message := await self._receive())["type"] == "http.request":
            if not message.get("more_body", False):
                return

    def _too_large(self) -> RequestError:
        return RequestError(413, "too_large", f"the body has more than {self._limit:,} bytes")


def _check_token(header: str, token: str, *, browser: bool) -> None:
    """Raise RequestError unless an Authorization header holds the token.

    The token is a bearer token, or the password of HTTP basic authentication with any user name.
    """
    scheme, _, value = header.encode("latin-1").decode("utf-8", "replace").partition(" ")
    if scheme.lower() == "basic":
        with suppress(ValueError):
            value = base64.b64decode(value).decode().partition(":")[2]
    equal = hmac.compare_digest(value.strip().encode("utf-8", "replace"), token.encode())
    if scheme.lower() not in ("bearer", "basic") or not equal:
        challenge = 'Basic realm="captioner: any name, and the token"' if browser else "Bearer"
        headers = {"WWW-Authenticate": challenge}
        raise RequestError(401, "unauthorized", "send the server's token", headers)
