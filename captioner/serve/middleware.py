"""What every request passes first: who asks, how large, how many at a time, until when.

An ASGI middleware, so that it sees a body while it is still being read, and can end a request that
takes too long or whose caller has gone.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from captioner.errors import CaptionerError
from captioner.serve.engine import Engine, NotReady
from captioner.serve.http_errors import Refusal, refusal, response

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN = ("/healthz", "/readyz")
"""Paths that need no token."""
WORK = ("/v1/", "/hf/")
"""Where a POST is work for the model."""
UPLOADS = "/gradio_api/upload"
"""Where the page sends files, several at a time."""
UPLOADED = 16
"""How many times the size of a request that may be."""
GONE = 499
"""Of a request whose caller has gone, in the log alone."""
LINGER = 2.0
"""For so many seconds, what a refused caller still sends is read, or it would miss the answer."""


class Gate:
    """Refuses what may not pass, bounds what may, and tells of both."""

    def __init__(self, app: App, engine: Engine) -> None:
        self.app, self.engine, self.settings = app, engine, engine.settings

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        call = Call(scope, receive, send)
        try:
            await self._pass(call)
        except CaptionerError as error:
            call.verdict = call.verdict or refusal(error)
        except Exception:
            if call.verdict is None:
                call.verdict = Refusal(500, "error", "an error of the server; see its log")
                raise
        finally:
            if call.verdict is not None:
                await self._tell(call)
            self._record(call)

    async def _pass(self, call: Call) -> None:
        """Hand the request on; raises Refusal, and what `Engine.slot` raises."""
        path, method = call.scope["path"], call.scope["method"]
        if self.settings.token is not None and path not in OPEN:
            self._check_token(
                call.headers.get("authorization", ""), browser=not path.startswith(WORK)
            )
        limit = self.settings.max_body
        call.bound(limit * UPLOADED if path.startswith(UPLOADS) else limit)
        if method == "POST" and path.startswith(WORK):
            with self.engine.slot():
                await self._within(call, self._deadline(call.headers))
        else:
            await self._until_the_end(call)

    async def _until_the_end(self, call: Call) -> None:
        """Hand on what may last, such as a page's stream of events, for as long as the server."""
        work = asyncio.ensure_future(self.app(call.scope, call.receive, call.send))
        closing = asyncio.ensure_future(self.engine.closing.wait())
        try:
            await asyncio.wait({work, closing}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        finally:
            for task in (work, closing):
                task.cancel()
            await asyncio.gather(work, closing, return_exceptions=True)
        if call.status is None:
            raise NotReady("being stopped")
        if not call.complete:
            await call.send({"type": "http.response.body"})

    async def _within(self, call: Call, seconds: float) -> None:
        """Hand it on for so long, and for as long as the caller is there."""
        work = asyncio.ensure_future(self.app(call.scope, call.receive, call.send))
        gone = asyncio.ensure_future(call.gone())
        try:
            await asyncio.wait({work, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if gone.done():
                call.verdict = Refusal(GONE, "gone", "the caller has gone")
            elif call.body_read:
                call.verdict = Refusal(504, "deadline", f"not done within {seconds:g} s")
            else:
                call.verdict = Refusal(408, "slow_body", f"the body took more than {seconds:g} s")
        finally:
            for task in (work, gone):
                task.cancel()
            # What the app says now is of no interest: the verdict has been spoken.
            await asyncio.gather(work, gone, return_exceptions=True)

    def _check_token(self, header: str, *, browser: bool) -> None:
        scheme, _, shown = header.encode("latin-1").decode("utf-8", "replace").partition(" ")
        if scheme.lower() == "basic":
            with suppress(ValueError):
                shown = base64.b64decode(shown).decode().partition(":")[2]
        known = self.settings.token.encode()
        if scheme.lower() not in ("bearer", "basic") or not hmac.compare_digest(
            shown.strip().encode("utf-8", "replace"), known
        ):
            challenge = 'Basic realm="captioner: any name, and the token"' if browser else "Bearer"
            headers = {"WWW-Authenticate": challenge}
            raise Refusal(401, "unauthorized", "show the server's token", headers)

    def _deadline(self, headers: dict[str, str]) -> float:
        """The server's, or less where the caller asks for less."""
        asked = headers.get("x-request-timeout")
        if asked is None:
            return self.settings.deadline
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", asked, re.ASCII):
            raise Refusal(400, "bad_request", "X-Request-Timeout: expected seconds, such as 2.5")
        return min(self.settings.deadline, float(asked))

    async def _tell(self, call: Call) -> None:
        """Answer with the verdict, where no answer has begun."""
        self.engine.telemetry.reject(call.verdict.reason)
        if call.status is not None or call.verdict.status == GONE:
            return
        if not call.body_read:
            call.verdict.headers["Connection"] = "close"
        answer = response(call.verdict, call.scope["path"])
        call.deaf = False
        await answer(call.scope, call.receive, call.send)
        if not call.body_read:
            with suppress(Exception):
                await asyncio.wait_for(call.discard(), LINGER)

    def _record(self, call: Call) -> None:
        route = getattr(call.scope.get("route"), "path", "")
        status = call.status or (call.verdict.status if call.verdict else GONE)
        if not route and call.scope["path"].startswith(WORK):
            route = "refused"
        if route:
            facts = {"id": call.id, "method": call.scope["method"], "bytes": call.size}
            if call.verdict is not None:
                facts["reason"] = call.verdict.reason
            self.engine.telemetry.request(route=route, status=status, since=call.since, **facts)


class Call:
    """One request on its way: what has come of its body, and of its answer."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        asked = self.headers.get("x-request-id", "")
        self.id = asked if re.fullmatch(r"[\w.-]{1,64}", asked, re.ASCII) else uuid.uuid4().hex
        self.since = time.perf_counter()
        self.verdict: Refusal | None = None
        self.status: int | None = None
        self.size, self.limit = 0, 0
        self.body_read, self.deaf, self.complete = False, True, False
        self._ended, self._left = asyncio.Event(), asyncio.Event()

    def bound(self, limit: int) -> None:
        """So many bytes of body may come; raises Refusal where more are announced."""
        self.limit = limit
        announced = self.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """As ASGI's; raises Refusal where the body is too large."""
        if self.body_read:
            await self.gone()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._left.set()
            self._ended.set()
            return message
        self.size += len(message.get("body", b""))
        if self.size > self.limit:
            self.verdict = self._too_large()
            raise self.verdict
        if not message.get("more_body", False):
            self.body_read = True
            self._ended.set()
        return message

    async def send(self, message: Message) -> None:
        """As ASGI's; what comes after a verdict is dropped, unless it is the verdict."""
        if self.verdict is not None and self.deaf:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", []))
            message = {**message, "headers": [*headers, (b"x-request-id", self.id.encode())]}
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)

    async def gone(self) -> None:
        """Returns once the caller has gone."""
        await self._ended.wait()
        while not self._left.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._left.set()

    async def discard(self) -> None:
        """Read what is left of the body."""
        while (message := await self._receive())["type"] == "http.request":
            if not message.get("more_body", False):
                return

    def _too_large(self) -> Refusal:
        return Refusal(413, "too_large", f"the body has more than {self.limit:,} bytes")
