"""The middleware: access control, size limit, concurrency limit, deadline."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from PIL import Image

pytest.importorskip("gradio")
from serving import FakeCaptioner, start_in_thread, wait_for

JPEG = {"content-type": "image/jpeg"}
LIMIT = 10_000
TOKEN = "öpen sesame"


def png(red: int = 1) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server() -> Iterator[SimpleNamespace]:
    toy = FakeCaptioner()
    with start_in_thread(toy, max_body=LIMIT, max_requests=3, deadline=3.0) as running:
        running.toy = toy
        yield running


@pytest.fixture
def ask(server):
    """A function that posts an image to be captioned."""
    return lambda body=None, **headers: server.client.post(
        "/v1/caption", content=body or png(), headers=JPEG | headers
    )


@pytest.fixture
def unblocked(server) -> Iterator[threading.Event]:
    """An event that blocks the model until it is set."""
    server.toy.unblocked.clear()
    yield server.toy.unblocked
    server.toy.unblocked.set()
    wait_for(lambda: server.engine.active == 0)


def metric(server: SimpleNamespace, name: str) -> float:
    for line in server.client.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    return 0.0


def test_content_length_above_the_limit_is_rejected(server) -> None:
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.putrequest("POST", "/v1/caption")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    answer = connection.getresponse()  # before any of the body is sent
    assert (answer.status, json.load(answer)["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("path", ["/v1/caption", "/v1/vqa", "/v1/chat/completions", "/hf/"])
def test_oversized_body_is_rejected_while_it_is_received(server, path: str) -> None:
    def parts() -> Iterator[bytes]:
        # The form is valid so far; an invalid one could be rejected before it is too large.
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        for _ in range(50):
            yield bytes(1000)

    kinds = ("image/jpeg", "application/json", "multipart/form-data; boundary=x")
    for kind in kinds[1:2] if "chat" in path else kinds:
        answer = server.client.post(path, content=parts(), headers={"content-type": kind})
        assert answer.status_code == 413
        assert "10,000" in answer.text


@pytest.mark.parametrize("length", ["1000000", "-5", "abc", "1 0"])
def test_wrong_content_length_causes_no_server_error(server, length: str) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        head = f"POST /v1/caption HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        raw.sendall(head.encode() + png())
        raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(1000)
    assert not answer or b" 4" in answer.split(b"\r\n")[0]


def test_requests_above_the_limit_get_status_429(server, ask, unblocked) -> None:
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(ask, png(n)) for n in range(3)]
        wait_for(lambda: server.engine.active == 3)
        before = metric(server, 'captioner_rejections_total{reason="queue_full"}')
        refused = ask()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert metric(server, 'captioner_rejections_total{reason="queue_full"}') == before + 1
        assert server.client.get("/healthz").status_code == 200
        unblocked.set()
        assert [w.result().status_code for w in waiting] == [200] * 3
    assert ask().status_code == 200


def test_requests_are_cancelled_at_the_deadline(server, ask, unblocked) -> None:
    server.toy.batches.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, png(1))
        wait_for(lambda: server.toy.batches)
        late = ask(png(2), **{"x-request-timeout": "0.2"})
        assert late.status_code == 504
        assert first.result().status_code == 504  # by the server's own deadline
    wait_for(lambda: server.engine.active == 0)
    unblocked.set()
    assert ask(png(3)).json()["caption"] == "red 3 0"
    assert server.toy.batches == [("caption", 1), ("caption", 1)]


@pytest.mark.parametrize("seconds", ["x", "-1", "nan", "1e5", "٣"])
def test_invalid_request_timeout_is_rejected(ask, seconds: str) -> None:
    assert ask(**{"x-request-timeout": seconds.encode()}).status_code == 400


def test_slow_body_gets_status_408(server) -> None:
    def send_slowly() -> Iterator[bytes]:
        yield png()[:10]
        time.sleep(1)
        yield png()[10:]

    headers = JPEG | {"x-request-timeout": "0.2"}
    answer = server.client.post("/v1/caption", content=send_slowly(), headers=headers)
    assert answer.status_code == 408


def test_requests_of_disconnected_clients_are_cancelled(server, ask, unblocked) -> None:
    server.toy.batches.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, png(1))
        wait_for(lambda: server.toy.batches)
        host = server.url.removeprefix("http://")
        gone = http.client.HTTPConnection(host, timeout=10)
        gone.request("POST", "/v1/caption", png(2), JPEG)
        wait_for(lambda: len(server.engine._scheduler.jobs) == 1)
        gone.close()
        wait_for(lambda: server.engine.active == 1)
        unblocked.set()
        assert first.result().status_code == 200
    assert server.toy.batches == [("caption", 1)]


def test_stream_ends_when_the_client_disconnects(server, unblocked) -> None:
    server.toy.batches.clear()
    unblocked.set()
    host = server.url.removeprefix("http://")
    gone = http.client.HTTPConnection(host, timeout=10)
    gone.request("POST", "/v1/caption?stream=true", png(2), JPEG)
    answer = gone.getresponse()
    assert answer.status == 200
    answer.close()
    gone.close()
    wait_for(lambda: server.engine.active == 0)


def test_valid_request_ids_are_kept(ask) -> None:
    assert ask(**{"x-request-id": "a.b-1"}).headers["x-request-id"] == "a.b-1"
    for bad in ("", "x" * 65, "a b", '"'):
        assert len(ask(**{"x-request-id": bad}).headers["x-request-id"]) == 32


def test_metrics_include_queue_batches_and_stages(server, ask) -> None:
    assert ask().status_code == 200
    text = server.client.get("/metrics").text
    for name in (
        'captioner_requests_total{route="/v1/caption",status="200"}',
        'captioner_batch_size_bucket{kind="caption",le="16.0"}',
        'captioner_stage_seconds_count{stage="read"}',
        'captioner_stage_seconds_count{stage="wait"}',
        'captioner_stage_seconds_count{stage="model"}',
        "captioner_queue_depth",
    ):
        assert name in text


@pytest.fixture(scope="module")
def protected() -> Iterator[SimpleNamespace]:
    settings = {"token": TOKEN, "hosts": ("127.0.0.1",), "cors": ("https://a.org",)}
    with start_in_thread(FakeCaptioner(), **settings) as running:
        yield running


def basic(word: str, name: str = "me") -> str:
    return "Basic " + base64.b64encode(f"{name}:{word}".encode()).decode()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        ("Basic öpen", 401),
        ("Basic =", 401),
        (basic("wrong"), 401),
        (basic("", TOKEN), 401),
        (f"Digest {TOKEN}", 401),
        (f"Bearer {TOKEN}", 200),
        (basic(TOKEN), 200),
        (basic(TOKEN, ""), 200),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/docs", "/openapi.json"])
def test_token_is_required(protected, header: str | None, status: int, path: str) -> None:
    headers = {} if header is None else {"authorization": header.encode()}
    answer = protected.client.get(path, headers=headers)
    assert answer.status_code == status
    if status == 401:
        scheme = "Bearer" if path.startswith("/v1") else "Basic"
        assert answer.headers["www-authenticate"].startswith(scheme)


def test_health_needs_no_token(protected) -> None:
    assert protected.client.get("/healthz").status_code == 200
    assert protected.client.get("/readyz").json() == {"status": "ready"}


def test_other_host_names_are_rejected(protected) -> None:
    assert protected.client.get("/healthz", headers={"host": "evil.org"}).status_code == 400


def test_only_listed_origins_are_allowed(protected) -> None:
    asking = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    for origin, allowed in (("https://a.org", True), ("https://b.org", False)):
        answer = protected.client.options("/v1/caption", headers={"origin": origin} | asking)
        assert (answer.headers.get("access-control-allow-origin") == origin) == allowed
