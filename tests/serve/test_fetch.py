"""Images by URL: only from allowed hosts at public addresses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("gradio")
from captioner.serve import fetch
from captioner.serve.fetch import Fetcher, is_public
from captioner.serve.http_errors import RequestError

# fmt: off
PRIVATE = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.9.9.9", "169.254.169.254",
    "172.16.0.1", "192.168.1.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::",
    "2002:a00:1::", "2002:a9fe:a9fe::", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
]
PUBLIC = [
    "8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]
# fmt: on


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://other.org/a.jpg",
        "http://good.org.evil.org/a.jpg",
        "http://evilgood.org/a.jpg",
        "http://sub.good.org/a.jpg",
        "http://below.org/a.jpg",
        "http://good.org:8080/a.jpg",
        "http://user:word@good.org/a.jpg",
        "http://good.org@evil.org/a.jpg",
        "https://good.org:80/a.jpg",
        "ftp://good.org/a.jpg",
        "http:///a.jpg",
        "http://[::1]/a.jpg",
        "http://[good.org/a.jpg",
        "http://good.org:99999/a.jpg",
        "http://good.org/a b.jpg",
        "http://good.org/\r\nX: y",
        "http://2130706433/",
    ],
)
def test_disallowed_urls_are_rejected_without_name_resolution(url: str, monkeypatch) -> None:
    def fail_on_lookup(*_: object) -> None:
        raise AssertionError("fail_on_lookup up")

    monkeypatch.setattr(fetch, "resolve", fail_on_lookup)
    with pytest.raises(RequestError):
        asyncio.run(Fetcher(["good.org", "*.below.org"], max_bytes=100).get(url))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        body = b"x" * (1000 if self.path == "/large" else 10)
        self.send_response(404 if self.path == "/missing" else 200)
        self.end_headers()
        if self.path == "/slow":
            threading.Event().wait(3)
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host(monkeypatch) -> Iterator[list[str]]:
    """A local server with the name good.org; the list of names that were resolved."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port, lookups = server.server_port, []

        async def resolve(name: str, _: int) -> list[str]:
            lookups.append(name)
            return {"good.org": ["127.0.0.1"], "inner.org": ["127.0.0.2"]}[name]

        class Backend(fetch.httpcore.AnyIOBackend):
            async def connect_tcp(self, host: str, _: int, **options: object) -> object:
                return await super().connect_tcp(host, port, **options)

        monkeypatch.setattr(fetch, "resolve", resolve)
        monkeypatch.setattr(fetch.httpcore, "AnyIOBackend", Backend)
        monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
        yield lookups
        server.shutdown()


def get(path: str, **options: float) -> bytes:
    fetcher = Fetcher(["good.org", "inner.org"], **{"max_bytes": 100, "seconds": 10} | options)
    return asyncio.run(fetcher.get(f"http://good.org{path}"))


def test_allowed_host_is_fetched(host: list[str]) -> None:
    assert get("/fine") == b"x" * 10
    assert get("/to//fine") == b"x" * 10


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/large", "more than 100 bytes"),
        ("/missing", "returned status 404"),
        ("/to/http://other.org/", "host"),
        ("/to/http://inner.org/", "not public"),
        ("/to/file:///etc/passwd", "http or https"),
        ("/to//to//to//to//to//fine", "redirected more than 3"),
        ("/slow", "took more than 1 s"),
    ],
)
def test_downloads_are_limited_and_redirects_are_checked(
    host: list[str], path: str, what: str
) -> None:
    with pytest.raises(RequestError, match=what):
        get(path, seconds=1)


def test_connection_uses_the_checked_address(host: list[str]) -> None:
    get("/fine")
    assert host == ["good.org"]  # looked up once, by name; connected to by address


def test_no_host_is_allowed_by_default() -> None:
    with pytest.raises(RequestError, match="does not fetch"):
        asyncio.run(Fetcher([], max_bytes=100).get("http://good.org/"))
