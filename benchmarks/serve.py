"""Benchmark of the server: `python benchmarks/serve.py [--images DIR] [--overload SECONDS]`.

The script starts a `serve.py` process and requests captions of JPEG files over the loopback
interface:

* single: one client, one request at a time (closed loop);
* concurrent: 32 clients, each with one request at a time (closed loop);
* half load: requests with random (Poisson) arrivals, at half of the concurrent rate (open loop);
* overload: the same at twice the concurrent rate; also reports the server's memory and repeats
  `single`.

The server selects its backend as always, which is ONNX Runtime on a CPU; `-- --backend torch`
measures torch.

The bytes of each request differ, because the server caches images by their bytes. Clients and
server share the machine, so all rates include the cost of the clients.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 32
local = threading.local()
numbers = itertools.count()


def main() -> None:
    """Run all phases and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--images",
        type=Path,
        default=ROOT / "examples",
        help="Folder of JPEG files. Default: examples.",
    )
    parser.add_argument(
        "--seconds", type=float, default=20, help="Seconds of each phase. Default: 20."
    )
    parser.add_argument(
        "--overload", type=float, default=60, help="Seconds of the overload. Default: 60."
    )
    parser.add_argument("flags", nargs="*", help="Flags of serve.py, after --.")
    args = parser.parse_args()
    paths = sorted(args.images.glob("*.jpg"))[:512]
    photos = [path.read_bytes() for path in paths]
    with start_server(args.flags) as (address, process):
        client = Client(address, photos)
        for _ in range(20):
            client.send()
        first = run_closed_loop(client, 1, args.seconds)
        concurrent = run_closed_loop(client, CLIENTS, args.seconds)
        second = run_closed_loop(client, 1, args.seconds)
        rate = statistics.median([first.rate, second.rate])
        latency = statistics.median(first.latencies + second.latencies)
        half = run_open_loop(client, concurrent.rate / 2, args.seconds)
        print(f"one at a time: {rate:.1f} /s, median {1000 * latency:.0f} ms, p95 {first.p95}")
        ratio = concurrent.rate / rate
        print(f"{CLIENTS} clients: {concurrent.rate:.1f} /s, ratio {ratio:.2f}, {concurrent}")
        print(f"half load: p95 ratio {half.quantile(0.95) / latency:.2f}, {half}")
        before = measure_memory(process)
        sizes = [before]
        overload = run_open_loop(
            client,
            2 * concurrent.rate,
            args.overload,
            each_second=lambda: sizes.append(measure_memory(process)),
        )
        after = run_closed_loop(client, 1, args.seconds / 2)
        quarter = max(1, len(sizes) // 4)
        early = statistics.median(sizes[quarter : 2 * quarter])
        late = statistics.median(sizes[-quarter:])
        print(f"overload, {args.overload:g} s: {overload}")
        print(
            f"  memory: {before:.0f} MB before, {early:.0f} early, {late:.0f} late,"
            f" {max(sizes):.0f} maximum"
        )
        ratio = statistics.median(after.latencies) / latency
        print(f"  then one at a time: median ratio {ratio:.2f}")


class Measurement:
    """The result of a phase: latencies of the responses with status 200, and all statuses."""

    def __init__(self, responses: list[tuple[int, float]], seconds: float) -> None:
        self.latencies = [latency for status, latency in responses if status == 200]
        self.statuses = Counter(status for status, _ in responses)
        self.rate = len(self.latencies) / seconds

    def quantile(self, share: float) -> float:
        """Return a quantile of the latencies in seconds."""
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]

    @property
    def p95(self) -> str:
        """The 95th percentile of the latency, for the table."""
        return f"{1000 * self.quantile(0.95):.0f} ms"

    def __str__(self) -> str:
        median = 1000 * statistics.median(self.latencies)
        return f"median {median:.0f} ms, p95 {self.p95}, statuses {dict(self.statuses)}"


class Client:
    """Requests captions of images that the server has not seen."""

    def __init__(self, address: str, photos: list[bytes]) -> None:
        self.host, self.photos = address.removeprefix("http://"), photos

    def send(self) -> tuple[int, float]:
        """Send one request; return the status and the latency in seconds."""
        number = next(numbers)
        # Bytes after the end of a JPEG are not part of the image.
        body = self.photos[number % len(self.photos)] + f"{number} {random.random()}".encode()
        start = time.perf_counter()
        for _ in range(2):
            try:
                connection = local.__dict__.setdefault(
                    self.host, http.client.HTTPConnection(self.host, timeout=60)
                )
                connection.request("POST", "/v1/caption", body, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
                if answer.will_close:
                    connection.close()
                return answer.status, time.perf_counter() - start
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                problem = error
        return (-1 if isinstance(problem, OSError) else -2), time.perf_counter() - start


def run_closed_loop(client: Client, count: int, seconds: float) -> Measurement:
    """Run `count` clients, each of which waits for a response before its next request."""
    end = time.perf_counter() + seconds

    def send_requests(_: int) -> list[tuple[int, float]]:
        responses = []
        while time.perf_counter() < end:
            responses.append(client.send())
        return responses

    with ThreadPoolExecutor(count) as pool:
        start = time.perf_counter()
        responses = list(itertools.chain(*pool.map(send_requests, range(count))))
    return Measurement(responses, time.perf_counter() - start)


def run_open_loop(
    client: Client,
    rate: float,
    seconds: float,
    *,
    each_second: Callable[[], None] | None = None,
) -> Measurement:
    """Send requests with Poisson arrivals at a rate per second, without waiting for responses."""
    generator, pending = random.Random(0), []
    with ThreadPoolExecutor(256) as pool:
        start = now = time.perf_counter()
        last_call = start
        while now - start < seconds:
            pending.append(pool.submit(client.send))
            now += generator.expovariate(rate)
            time.sleep(max(0.0, now - time.perf_counter()))
            if each_second is not None and now - last_call > 1:
                last_call = now
                each_second()
        responses = [future.result() for future in pending]
    return Measurement(responses, time.perf_counter() - start)


def measure_memory(process: psutil.Process) -> float:
    """Return the resident memory of the server and its child processes in MB."""
    processes = [process, *process.children(recursive=True)]
    return sum(p.memory_info().rss for p in processes) / 1e6


@contextmanager
def start_server(flags: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    """Start a server; yield its address and its process once it is ready."""
    words = [sys.executable, str(ROOT / "serve.py"), "--no-page", "--port", "0", *flags]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(words, **options) as process:
        try:
            address = process.stdout.readline().strip()
            host = address.removeprefix("http://")
            status = 0
            while status != 200:
                time.sleep(0.1)
                connection = http.client.HTTPConnection(host, timeout=10)
                connection.request("GET", "/readyz")
                status = connection.getresponse().status
                connection.close()
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
