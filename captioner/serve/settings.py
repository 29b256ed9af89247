"""What a server allows, each with its default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Of `serve.py`; sizes in bytes, times in seconds."""

    lanes: int = 1
    """Passes of the model at a time."""
    max_batch: int = 16
    """Requests that share a pass of the model."""
    max_wait: float = 0.005
    """For how long a batch waits for those that are on their way to it."""
    max_alone: float = 0.03
    """For how long one request waits for another while some lane is at work."""
    max_requests: int = 64
    """Requests at a time, those in work included; 429 beyond."""
    deadline: float = 30.0
    """Of a request; 504 after it."""
    max_body: int = 20 * 2**20
    """Of a request; 413 beyond."""
    max_pixels: int = 60_000_000
    """Of an image; 422 beyond."""
    readers: int = 2
    """Processes that decode images."""
    reader_memory: int = 2 * 2**30
    """Address space of each."""
    reader_seconds: float = 5.0
    """For one image."""
    max_known: int = 128
    """Images that are remembered, for further questions about them."""
    token: str | None = None
    """What callers must show; nothing without."""
    hosts: tuple[str, ...] = ()
    """Names that a caller may know this server by; any without."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may call."""
    fetch: tuple[str, ...] = ()
    """Hosts whose images may be fetched by URL; `*.example.org` is every host below."""
    corrections: Path = Path("corrections")
    """The folder of the captions that people mend on the page."""
