"""Images by URL, for the hosts that a server allows and from nowhere else.

A server that fetches what callers name can be turned against the network it stands in (server-side
request forgery). So a host must be on the list; every address that it resolves to must be public;
the connection goes to the address that was checked, and not to what the name says a moment later;
and each redirect passes the same again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from captioner.serve.http_errors import Refusal

MOST_REDIRECTS = 3
SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")


class Fetcher:
    """Fetches from `hosts`, where `*.example.org` is every host below; at most so many bytes."""

    def __init__(self, hosts: Sequence[str], *, max_bytes: int, seconds: float = SECONDS) -> None:
        self.hosts = [host.lower().rstrip(".") for host in hosts]
        self.max_bytes, self.seconds = max_bytes, seconds

    async def get(self, url: str) -> bytes:
        """The body of a successful answer; raises Refusal for anything else."""
        try:
            return await asyncio.wait_for(self._follow(url), self.seconds)
        except asyncio.TimeoutError:
            raise _refuse(f"took more than {self.seconds:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError):
            raise _refuse("could not be fetched") from None

    async def _follow(self, url: str) -> bytes:
        for _ in range(1 + MOST_REDIRECTS):
            self._check(url)
            async with (
                httpcore.AsyncConnectionPool(network_backend=_Public(), retries=0) as pool,
                pool.stream(
                    "GET", url, headers={"Accept": "image/*", "User-Agent": "captioner"}
                ) as answer,
            ):
                if answer.status in (301, 302, 303, 307, 308):
                    headers = {k.lower(): v for k, v in answer.headers}
                    url = urljoin(url, headers.get(b"location", b"").decode("latin-1"))
                    continue
                if answer.status != 200:
                    raise _refuse(f"answered {answer.status}")
                return await self._body(answer)
        raise _refuse(f"was redirected more than {MOST_REDIRECTS} times")

    async def _body(self, answer: httpcore.Response) -> bytes:
        found = bytearray()
        async for chunk in answer.aiter_stream():
            found += chunk
            if len(found) > self.max_bytes:
                raise _refuse(f"has more than {self.max_bytes:,} bytes")
        return bytes(found)

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise _refuse("is not valid") from None
        if parts.scheme not in _PORTS or port not in (None, _PORTS[parts.scheme]):
            raise _refuse("must be http or https, on its own port")
        if parts.username or parts.password:
            raise _refuse("must not hold a password")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise _refuse("is not valid")
        if not any(_matches(host, pattern) for pattern in self.hosts):
            raise _refuse("is of a host that this server does not fetch from; send the bytes")


class _Public(httpcore.AsyncNetworkBackend):
    """Connects to public addresses alone, and to the very ones that it has looked at."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        addresses = await resolve(host, port)
        if not addresses or not all(map(is_public, addresses)):
            raise _refuse("leads to an address that is not public")
        return await self._inner.connect_tcp(addresses[0], port, **options)

    async def connect_unix_socket(self, path: str, **options: Any) -> httpcore.AsyncNetworkStream:
        raise _refuse("must be http or https")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host; raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(address[0] for *_, address in found))


def is_public(address: str) -> bool:
    """Whether an address, and any that is wrapped in it, is one of the open Internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return all(a.is_global and not a.is_multicast and not a.is_reserved for a in unwrapped(found))


def unwrapped(address: Any) -> Iterable[Any]:
    """The address itself, or the IPv4 addresses that a translator would make of it."""
    if address.version == 4:
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _LOCAL_NAT64:
        return [ipaddress.ip_address("0.0.0.0")]  # a network's own prefix: never public
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    inner = [address.sixtofour] if address.sixtofour else list(address.teredo or ())
    return [address, *inner]


def _matches(host: str, pattern: str) -> bool:
    return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _refuse(what: str) -> Refusal:
    return Refusal(422, "bad_url", f"image: the URL {what}")
