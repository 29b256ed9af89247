"""Fetch images and recordings by URL, only from the hosts that the server allows.

A server that fetches URLs of its clients can be abused to reach its internal network (server-side
request forgery). Therefore the host must be on the list; all addresses that it resolves to must be
public; the connection goes to the checked address, so that a second name resolution cannot change
it; and each redirect is checked in the same way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from captioner.serve.http_errors import RequestError

MAX_REDIRECTS = 3
SECONDS = 10.0
"""The longest time for a download, redirects included."""
_HEADERS = (("Accept", "image/*, audio/*"), ("User-Agent", "captioner"))
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Fetcher:
    """Downloads from allowed hosts; `*.example.org` matches all subdomains."""

    def __init__(self, hosts: Sequence[str], *, max_bytes: int, seconds: float = SECONDS) -> None:
        self.hosts = [host.lower().rstrip(".") for host in hosts]
        self.max_bytes, self.seconds = max_bytes, seconds

    async def get(self, url: str) -> bytes:
        """Return the body of a URL; raises RequestError if it is not allowed or fails."""
        try:
            return await asyncio.wait_for(self._follow_redirects(url), self.seconds)
        except asyncio.TimeoutError:
            raise _url_error(f"took more than {self.seconds:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError):
            raise _url_error("could not be fetched") from None

    async def _follow_redirects(self, url: str) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            self._check(url)
            async with (
                httpcore.AsyncConnectionPool(network_backend=_PublicBackend(), retries=0) as pool,
                pool.stream("GET", url, headers=_HEADERS) as response,
            ):
                if response.status in (301, 302, 303, 307, 308):
                    headers = {k.lower(): v for k, v in response.headers}
                    url = urljoin(url, headers.get(b"location", b"").decode("latin-1"))
                    continue
                if response.status != 200:
                    raise _url_error(f"returned status {response.status}")
                return await self._read_body(response)
        raise _url_error(f"was redirected more than {MAX_REDIRECTS} times")

    async def _read_body(self, response: httpcore.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self.max_bytes:
                raise _url_error(f"has more than {self.max_bytes:,} bytes")
        return bytes(body)

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise _url_error("is not valid") from None
        if parts.scheme not in _PORTS or port not in (None, _PORTS[parts.scheme]):
            raise _url_error("must be http or https, on the default port")
        if parts.username or parts.password:
            raise _url_error("must not contain a user name or a password")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise _url_error("is not valid")
        if not any(_matches(host, pattern) for pattern in self.hosts):
            raise _url_error("is of a host that this server does not fetch from; send the bytes")


class _PublicBackend(httpcore.AsyncNetworkBackend):
    """Resolves a host, checks that all its addresses are public, and connects to the first."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        addresses = await resolve(host, port)
        if not addresses or not all(map(is_public, addresses)):
            raise _url_error("leads to an address that is not public")
        return await self._inner.connect_tcp(addresses[0], port, *args, **options)

    async def connect_unix_socket(self, *_: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        raise _url_error("must be http or https")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


async def resolve(host: str, port: int) -> list[str]:
    """Return all addresses of a host; raises OSError."""
    loop = asyncio.get_running_loop()
    entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in entries))


def is_public(address: str) -> bool:
    """Return whether an address, and any address embedded in it, is on the public Internet."""
    embedded = embedded_addresses(ipaddress.ip_address(address.partition("%")[0]))
    return all(a.is_global and not a.is_multicast and not a.is_reserved for a in embedded)


def embedded_addresses(address: Address) -> list[Address]:
    """Return an address, or the IPv4 addresses that a gateway would translate it to."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _LOCAL_NAT64:
        return [ipaddress.IPv4Address("0.0.0.0")]  # a network's own prefix: never public
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    inner = [address.sixtofour] if address.sixtofour else list(address.teredo or ())
    return [address, *inner]


def _matches(host: str, pattern: str) -> bool:
    return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _url_error(problem: str) -> RequestError:
    return RequestError(422, "bad_url", f"the URL {problem}")
