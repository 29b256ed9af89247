"""uvicorn, ended as a service wants it: what has begun is finished first, and the exit is clean."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from captioner.serve.engine import Engine

GRACE = 5
"""Seconds for connections that stay open, as a page's do, once all requests are answered."""


class Server(uvicorn.Server):
    """A server that goes on answering, that it is not ready, while it finishes what it has."""

    def __init__(
        self, config: uvicorn.Config, engine: Engine, announce: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self.engine, self.announce = engine, announce

    async def startup(self, sockets: list | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            self.announce(f"http://{host}:{port}")
            self._watch = asyncio.create_task(self._loaded())

    async def _loaded(self) -> None:
        """Give up where the model cannot be loaded."""
        while self.engine.captioner is None:
            if self.engine.failure is not None:
                self.should_exit = True
                return
            await asyncio.sleep(0.05)

    async def shutdown(self, sockets: list | None = None) -> None:
        """As uvicorn's, which would wait for pages that are open."""
        self.engine.closing.set()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first SIGTERM waits for what has begun; anything else ends at once."""
        if sig == signal.SIGTERM and not self.engine.draining:
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop)
        else:
            super().handle_exit(sig, frame)

    async def _drain(self) -> None:
        await self.engine.drain()
        self.should_exit = True


def serve(app: FastAPI, *, host: str, port: int, announce: Callable[[str], None]) -> int:
    """Serve the application until SIGTERM or SIGINT; returns the exit status.

    The address is announced once it listens. Raises what loading the model raised, and
    KeyboardInterrupt.
    """
    engine: Engine = app.state.engine
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE,
        server_header=False,
    )
    server = Server(config, engine, announce)
    # uvicorn raises a signal again once it has served it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run()
    if engine.failure is not None:
        raise engine.failure
    return 0 if server.started else 1
