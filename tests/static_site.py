"""Build the web page and serve a site of static files, as a plain web host does."""

from __future__ import annotations

import functools
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WEB = Path(__file__).resolve().parents[1] / "web"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def build_page(folder: Path) -> str:
    """Build the page into a folder; return what prevents it, or an empty string."""
    if shutil.which("npm") is None:
        return "npm is missing"
    if not (WEB / "node_modules").is_dir():
        install = ["npm", "ci", "--no-audit", "--no-fund", "--fetch-retries=0"]
        done = subprocess.run(install, cwd=WEB, capture_output=True, text=True)
        if done.returncode:
            return f"npm ci fails: {done.stderr.strip()[-200:]}"
    command = ["npx", "vite", "build", "--outDir", str(folder), "--emptyOutDir"]
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return ""


class StaticSite:
    """A server of a folder; tests can damage or hide its files."""

    def __init__(self, folder: Path) -> None:
        self.cut: dict[str, int] = {}
        """Number of bytes after which a file ends, by the end of its path."""
        self.missing: set[str] = set()
        """Ends of the paths of files that are not there."""
        self.headers: dict[str, str] = {}
        """Headers of each response."""
        handler = functools.partial(_Handler, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.site = self
        self.server.handle_error = lambda *_: None  # a closed page ends its downloads
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        site, path = self.server.site, self.path.partition("?")[0]
        if any(path.endswith(name) for name in site.missing):
            self.send_error(404)
            return
        cuts = [length for name, length in site.cut.items() if path.endswith(name)]
        if cuts:
            data = Path(self.translate_path(self.path)).read_bytes()[: cuts[0]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        super().do_GET()

    def end_headers(self) -> None:
        for name, value in self.server.site.headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_site(folder: Path) -> Iterator[StaticSite]:
    """Serve a folder until the block ends."""
    site = StaticSite(folder)
    thread = threading.Thread(target=site.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        stop_site(site)
        thread.join()


def stop_site(site: StaticSite) -> None:
    """Stop a server: its address no longer accepts connections."""
    site.server.shutdown()
    site.server.server_close()
