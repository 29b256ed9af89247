"""Run the application in uvicorn: finish accepted requests on SIGTERM and exit with status 0."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from captioner.serve.engine import Engine

SHUTDOWN_SECONDS = 5
"""Maximum time that open connections (such as a page's) last after all requests are answered."""


class GracefulServer(uvicorn.Server):
    """A uvicorn server that reports "not ready" while it finishes the accepted requests.

    `announce` is called with the server's URL once it listens.
    """

    def __init__(
        self, config: uvicorn.Config, engine: Engine, announce: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self.engine, self.announce = engine, announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then announce the URL."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            self.announce(f"http://{host}:{port}")
            self._watch = asyncio.create_task(self._exit_on_failure())

    async def _exit_on_failure(self) -> None:
        """Stop the server if the model cannot be loaded."""
        while self.engine.captioner is None:
            if self.engine.failure is not None:
                self.should_exit = True
                return
            await asyncio.sleep(0.05)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the open pages, which uvicorn would wait for, then shut down."""
        self.engine.closing.set()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Finish the accepted requests on the first SIGTERM; stop at once on other signals."""
        if sig == signal.SIGTERM and not self.engine.draining:
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop)
        else:
            super().handle_exit(sig, frame)

    async def _drain(self) -> None:
        await self.engine.drain()
        self.should_exit = True


def run_server(app: FastAPI, *, host: str, port: int, announce: Callable[[str], None]) -> int:
    """Serve the application of `create_app` until a signal; return the exit status.

    Port 0 takes any free port; `announce` is called with the server's URL once it listens.

    Raises:
        Exception: The error that prevented the model from loading.
        KeyboardInterrupt: The server was stopped by SIGINT.
    """
    engine: Engine = app.state.engine
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
    )
    server = GracefulServer(config, engine, announce)
    # uvicorn raises a signal again after it has handled it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run()
    if engine.failure is not None:
        raise engine.failure
    return 0 if server.started else 1
