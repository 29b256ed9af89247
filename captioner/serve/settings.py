"""Limits and access rules of a server, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Settings of a server; sizes are in bytes, times in seconds."""

    workers: int = 1
    """Model workers; each runs one batch at a time."""
    max_batch: int = 16
    """Maximum number of requests in a batch."""
    max_wait: float = 0.005
    """Maximum time a batch waits for requests that are still being received or decoded."""
    max_single_wait: float = 0.03
    """Maximum time a single request waits for a second one while another worker is busy."""
    max_requests: int = 64
    """Maximum number of requests in progress; further ones are rejected with status 429."""
    deadline: float = 30.0
    """The longest time for a request; after it, the status is 504."""
    max_body: int = 20 * 2**20
    """The largest request body; a larger one is rejected with status 413."""
    max_pixels: int = 60_000_000
    """Maximum number of pixels of an image; a larger one is rejected with status 422."""
    max_audio_seconds: float = 60.0
    """The longest recording in seconds; a longer one is rejected with status 422."""
    image_decoders: int = 2
    """Worker processes that decode images and recordings."""
    decoder_memory: int = 2 * 2**30
    """Address space of each decoder."""
    decoder_seconds: float = 5.0
    """The longest time to decode one file."""
    image_cache_size: int = 128
    """Decoded and encoded images and recordings that are kept for further questions about them."""
    token: str | None = None
    """The token that clients must send; None accepts every client."""
    hosts: tuple[str, ...] = ()
    """Accepted values of the Host header; empty accepts all."""
    cors: tuple[str, ...] = ()
    """Origins whose web pages may send requests."""
    fetch: tuple[str, ...] = ()
    """Hosts whose images may be fetched by URL; `*.example.org` matches all subdomains."""
    corrections: Path = Path("corrections")
    """The folder for captions that users correct on the page."""
