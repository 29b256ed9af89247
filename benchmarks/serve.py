"""The server under load: `python benchmarks/serve.py [--images DIR] [--overload SECONDS]`.

Clients of this process ask a `serve.py` of its own, over loopback, for captions of JPEG files:

* alone: one request at a time;
* crowd: 32 clients, each with its next request as soon as it is answered;
* half: requests that come by chance (Poisson) at half of the crowd's rate;
* overload: the same at twice its rate, for so many seconds, with the server's memory; then alone
  again.

Each request's bytes are new to the server, which remembers pictures by their bytes. Clients and
server share the machine, so all rates include the clients' cost.
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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 32
local = threading.local()
numbers = itertools.count()


def main() -> None:
    """Run all four and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, default=ROOT / "examples", help="a folder of JPEGs")
    parser.add_argument("--seconds", type=float, default=20, help="of each phase; default: 20")
    parser.add_argument("--overload", type=float, default=60, help="seconds; default: 60")
    parser.add_argument("flags", nargs="*", help="of serve.py, after --")
    args = parser.parse_args()
    paths = sorted(args.images.glob("*.jpg"))[:512]
    photos = [path.read_bytes() for path in paths]
    with server(args.flags) as (address, process):
        ask = Asking(address, photos)
        for _ in range(20):
            ask()
        alone = closed(ask, 1, args.seconds)
        crowd = closed(ask, CLIENTS, args.seconds)
        again = closed(ask, 1, args.seconds)
        single = statistics.median([alone.rate, again.rate])
        calm = statistics.median(alone.latencies + again.latencies)
        half = opened(ask, crowd.rate / 2, args.seconds)
        print(f"one at a time: {single:.1f} /s, median {1000 * calm:.0f} ms, p95 {alone.p95}")
        print(f"{CLIENTS} clients: {crowd.rate:.1f} /s, ratio {crowd.rate / single:.2f}, {crowd}")
        print(f"half of it: p95 ratio {half.quantile(0.95) / calm:.2f}, {half}")
        before = memory(process)
        sizes = [before]
        over = opened(
            ask, 2 * crowd.rate, args.overload, watch=lambda: sizes.append(memory(process))
        )
        after = closed(ask, 1, args.seconds / 2)
        quarter = max(1, len(sizes) // 4)
        early, late = (
            statistics.median(sizes[quarter : 2 * quarter]),
            statistics.median(sizes[-quarter:]),
        )
        print(f"twice of it, {args.overload:g} s: {over}")
        print(
            f"  memory: {before:.0f} MB before, {early:.0f} early, {late:.0f} late,"
            f" {max(sizes):.0f} at most"
        )
        print(f"  then one at a time: median ratio {statistics.median(after.latencies) / calm:.2f}")


class Outcome:
    """What came of a phase: latencies of what was answered with 200, and all statuses."""

    def __init__(self, found: list[tuple[int, float]], seconds: float) -> None:
        self.latencies = [latency for status, latency in found if status == 200]
        self.statuses = Counter(status for status, _ in found)
        self.rate = len(self.latencies) / seconds

    def quantile(self, share: float) -> float:
        """Of the latencies, in seconds."""
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]

    @property
    def p95(self) -> str:
        return f"{1000 * self.quantile(0.95):.0f} ms"

    def __str__(self) -> str:
        median = 1000 * statistics.median(self.latencies)
        return f"median {median:.0f} ms, p95 {self.p95}, statuses {dict(self.statuses)}"


class Asking:
    """One request of a new picture; the status and how long it took."""

    def __init__(self, address: str, photos: list[bytes]) -> None:
        self.host, self.photos = address.removeprefix("http://"), photos

    def __call__(self) -> tuple[int, float]:
        number = next(numbers)
        # What follows a JPEG's end is not part of the picture.
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


def closed(ask: Asking, clients: int, seconds: float) -> Outcome:
    """So many clients, each with one request at a time."""
    end = time.perf_counter() + seconds

    def client(_: int) -> list[tuple[int, float]]:
        found = []
        while time.perf_counter() < end:
            found.append(ask())
        return found

    with ThreadPoolExecutor(clients) as pool:
        start = time.perf_counter()
        found = [outcome for each in pool.map(client, range(clients)) for outcome in each]
    return Outcome(found, time.perf_counter() - start)


def opened(ask: Asking, rate: float, seconds: float, *, watch=None) -> Outcome:
    """Requests that come by chance, so many a second, whatever becomes of those before."""
    chance, waiting = random.Random(0), []
    with ThreadPoolExecutor(256) as pool:
        start = now = time.perf_counter()
        watched = start
        while now - start < seconds:
            waiting.append(pool.submit(ask))
            now += chance.expovariate(rate)
            time.sleep(max(0.0, now - time.perf_counter()))
            if watch is not None and now - watched > 1:
                watched = now
                watch()
        found = [future.result() for future in waiting]
    return Outcome(found, time.perf_counter() - start)


def memory(process: psutil.Process) -> float:
    """Resident MB of the server and its workers."""
    everyone = [process, *process.children(recursive=True)]
    return sum(p.memory_info().rss for p in everyone) / 1e6


@contextmanager
def server(flags: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    """A server that is ready; its address and its process."""
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
