"""Measure the page of `captioner web` in headless Chromium: `python benchmarks/web.py`.

- First caption: from opening the page in a new browser to the caption, with all files loaded from
  a server on this machine.
- Later captions: from choosing a file to its caption.
- Texts: how many captions equal those of the Python package.

It needs the built page (`make page`), playwright and Chromium.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import captioner  # noqa: E402
from captioner.export.website import write_site  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
LIMIT = 120_000
"""Milliseconds until a caption counts as missing."""


class QuietHandler(SimpleHTTPRequestHandler):
    """A handler of static files without a log."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="bundled", metavar="DIR")
    text = "Flickr8k; the images are the first of its development split"
    parser.add_argument("--data", default="../shared/flickr8k", metavar="DIR", help=text)
    parser.add_argument("--images", type=int, default=40, metavar="N")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="new browsers")
    args = parser.parse_args()
    names = (Path(args.data) / "Flickr8k_text" / "Flickr_8k.devImages.txt").read_text().split()
    paths = [str(Path(args.data, "Flicker8k_Dataset", name)) for name in names[: args.images]]
    model = captioner.load(args.checkpoint)
    expected = [result.text for result in model.caption(paths)]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        write_site(Path(folder) / "site", args.checkpoint)
        with serve_folder(Path(folder) / "site") as address:
            first, later = [], []
            for _ in range(args.repeats):
                browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                page = browser.new_page()
                start = time.perf_counter()
                page.goto(address)
                caption_file(page, paths[0])
                first.append(time.perf_counter() - start)
                times, texts = time_captions(page, paths)
                later += times
                browser.close()
        report("first caption, loading included", first)
        report("later captions", later)
        compare(paths, texts, expected)


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Yield the address of a server of static files."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def time_captions(page: Page, paths: list[str]) -> tuple[list[float], list[str]]:
    """Return the seconds from choosing each file to its caption, and the captions."""
    times, texts = [], []
    for path in paths:
        start = time.perf_counter()
        texts.append(caption_file(page, path))
        times.append(time.perf_counter() - start)
    return times, texts


def caption_file(page: Page, path: str) -> str:
    """Choose a file on the page and return its caption."""
    page.set_input_files("#file", path)
    # A locator would look for the caption every half second only.
    script = "() => document.querySelector('#caption .best')?.innerText"
    return page.wait_for_function(script, polling=10, timeout=LIMIT).json_value()


def compare(paths: list[str], texts: list[str], expected: list[str]) -> None:
    """Print how many texts are equal, and the others."""
    rows = list(zip(paths, texts, expected, strict=True))
    equal = sum(text == other for _, text, other in rows)
    print(f"{'captions equal to those of Python':36} {equal} of {len(rows)}")
    for path, text, other in rows:
        if text != other:
            print(f"    {Path(path).name}: {text!r}; Python: {other!r}")


def report(name: str, seconds: list[float]) -> None:
    """Print the median and the range of times."""
    low, high = min(seconds), max(seconds)
    print(f"{name:36} {statistics.median(seconds):.2f} s ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
