"""Malicious requests: each kind of bad input, and fuzzed files and requests.

The variable FUZZ_SECONDS sets the duration of each of the two fuzzing tests; default: 10.
"""

from __future__ import annotations

import base64
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from bad_inputs import Kind, kinds
from tiny_vqa import QUESTIONS

pytest.importorskip("gradio")
from serving import start_process

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("FUZZ_SECONDS", "10"))
SLOWEST = 5.0
Q = QUESTIONS[0]


@pytest.fixture(scope="module")
def server(vqa_checkpoint: str) -> Iterator[SimpleNamespace]:
    with start_process("--no-page", "--checkpoint", vqa_checkpoint) as running:
        yield running


@pytest.fixture(scope="module")
def files() -> list[Kind]:
    """All bad inputs that are the bytes of a file."""
    return [kind for kind in kinds() if isinstance(kind.content, bytes)]


def form(kind: Kind) -> dict[str, object]:
    """Return a form that contains the file under its own name."""
    name = os.fsencode(kind.name).replace(b"\n", b"%0A").replace(b'"', b"%22")
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="' + name + b'"\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    return {"content": head + kind.content + b"\r\n--x--\r\n", "headers": headers}


def test_each_bad_input_has_the_expected_status(server, files) -> None:
    wrong = {}
    for kind in files:
        start = time.perf_counter()
        answer = server.client.post("/v1/caption", **form(kind))
        took = time.perf_counter() - start
        status = answer.status_code
        expected = {
            "caption": {200},
            "error": {415 if kind.error == "ImageFormatError" else 422},
            "either": {200, 415, 422},
        }[kind.expect]
        if status not in expected or took > SLOWEST:
            wrong[kind.name] = (status, round(took, 1), answer.text[:200])
    assert wrong == {}
    assert server.client.get("/readyz").status_code == 200


def test_equal_pixels_have_equal_captions(server, files) -> None:
    def caption(data: bytes) -> str:
        return server.client.post("/v1/caption", content=data).json()["caption"]

    alike = [kind for kind in files if kind.name.startswith("exif-")]
    assert len({caption(kind.content) for kind in alike}) == min(1, len(alike))


def test_bad_inputs_are_rejected_by_the_other_apis(server, files) -> None:
    for kind in files[::4]:
        encoded = base64.b64encode(kind.content).decode()
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}
        chat = {"messages": [{"role": "user", "content": [image]}]}
        requests = (
            ("/v1/chat/completions", {"json": chat}),
            ("/v1/vqa", {"json": {"image": encoded, "question": Q}}),
            ("/hf/", {"content": kind.content, "headers": {"content-type": "image/jpeg"}}),
        )
        statuses = [server.client.post(path, **how).status_code for path, how in requests]
        assert max(statuses) < 500, (kind.name, statuses)


def test_body_of_100_megabytes_is_not_stored(server) -> None:
    before = memory(server)
    uri = b'{"image": "data:image/png;base64,' + b"A" * 10**8 + b'"}'
    headers = {"content-type": "application/json"}
    assert server.client.post("/v1/caption", content=uri, headers=headers).status_code == 413
    assert memory(server) < before + 100e6


def test_killed_model_process_is_replaced(server, files) -> None:
    good = next(kind.content for kind in files if kind.expect == "caption")
    caption = server.client.post("/v1/caption", content=good).json()["caption"]
    workers = [
        child
        for child in psutil.Process(server.process.pid).children()
        if any("spawn_main" in word for word in child.cmdline())
    ]
    assert workers
    for worker in workers:
        worker.kill()
    for _ in range(len(workers) + 1):
        assert server.client.post("/v1/caption", content=good).json()["caption"] == caption


def test_fuzzed_files_cause_no_server_error(server, files) -> None:
    """Flip bits, truncate and splice files; small ones, so that many are tried."""
    whole = [k.content for k in files if k.expect == "caption" and 20 < len(k.content) < 50_000]
    statuses: Counter[int] = Counter()
    end = time.monotonic() + SECONDS

    def client(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end:
            answer = server.client.post("/v1/caption", content=mutate(whole, chance))
            statuses[answer.status_code] += 1

    before = memory(server)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client, range(4)))
    assert set(statuses) <= {200, 415, 422}, statuses
    assert min(statuses[200], statuses[422]) > 0
    assert memory(server) < before + 400e6


def mutate(whole: list[bytes], chance: random.Random) -> bytes:
    """Return one of the files with an error in it."""
    data = bytearray(chance.choice(whole))
    what = chance.choice(("flip", "cut", "splice"))
    if what == "cut":
        return bytes(data[: chance.randrange(len(data))])
    if what == "splice":
        other = chance.choice(whole)
        return bytes(data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :])
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


@pytest.mark.slow
def test_requests_generated_from_openapi_cause_no_server_error(server, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    command = shutil.which("schemathesis", path=Path(sys.executable).parent)
    checks = "not_a_server_error,content_type_conformance,status_code_conformance"
    checks += ",response_schema_conformance"
    words = ["run", f"{server.url}/openapi.json", "--checks", checks, "--no-color", "--seed", "1"]
    words += ["--max-time", str(max(10, int(SECONDS))), "--exclude-path", "/readyz"]
    ended = subprocess.run([command, *words], capture_output=True, text=True, cwd=tmp_path)
    log = "\n".join(line for line in server.log.splitlines() if not line.startswith("{"))
    assert ended.returncode == 0, ended.stdout[-5000:] + log[-5000:]


def memory(server: SimpleNamespace) -> float:
    """Return the resident bytes of the server, without its child processes."""
    return psutil.Process(server.process.pid).memory_info().rss
