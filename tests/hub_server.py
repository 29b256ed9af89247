"""A server on this machine with the endpoints of the Hugging Face Hub that its client calls.

It keeps repositories in memory. Large files (`LARGE`) are redirected to another address when they
are downloaded, and uploaded with the LFS protocol, as the Hub does without Xet.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".onnx", ".model", ".bin")
TOKEN = "hf_abc"


@dataclass
class Repository:
    """A repository with one commit per branch that is current, and all earlier ones."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(
        self, files: Mapping[str, bytes], branch: str = "main", deleted: Collection[str] = ()
    ) -> str:
        """Delete files, and add or replace others; return the new commit."""
        content = self.commits.get(self.branches.get(branch, ""), {})
        content = {k: v for k, v in content.items() if k not in deleted} | dict(files)
        sha = hashlib.sha1(repr((len(self.commits), sorted(content))).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = content, sha
        return sha

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the main branch."""
        return self.commits[self.branches["main"]]


class Hub(ThreadingHTTPServer):
    """The state of the server, and faults that the tests switch on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        """Content of uploaded large files."""
        self.requests: list[tuple[str, str]] = []
        self.status = 0
        """Answer all requests with this status."""
        self.delay = 0.0
        """Seconds before each answer."""
        self.truncate = ""
        """A file of which only a part is sent."""
        self.pushes: list[dict[str, Any]] = []
        """The header of each commit that was uploaded."""
        self.threads = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.threads.start()

    @property
    def url(self) -> str:
        """The address, as HF_ENDPOINT has it."""
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, source: Path | Mapping[str, bytes], **options: bool) -> Repository:
        """Create a repository with the files of a folder, or with those that are given."""
        if isinstance(source, Path):
            paths = [path for path in source.rglob("*") if path.is_file()]
            source = {p.relative_to(source).as_posix(): p.read_bytes() for p in paths}
        repository = self.repositories[name] = Repository(**options)
        repository.commit(source)
        return repository

    def downloads(self) -> list[str]:
        """Return the files that were downloaded, and forget all requests."""
        paths = [path for method, path in self.requests if method == "GET" and "/resolve/" in path]
        self.requests.clear()
        return sorted(path.split("/resolve/")[1].partition("/")[2] for path in paths)


@contextmanager
def run_hub() -> Iterator[Hub]:
    """Run a server while the block runs."""
    hub = Hub()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def _is_large(path: str) -> bool:
    return path.endswith(LARGE)


def _describe(path: str, content: bytes) -> dict[str, Any]:
    """Return a file as the listing of a repository has it."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    found: dict[str, Any] = {"type": "file", "path": path, "rfilename": path, "size": len(content)}
    found |= {"oid": blob, "blobId": blob}
    if _is_large(path):
        digest = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 100}
    return found


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        self._dispatch()

    do_HEAD = do_POST = do_PUT = do_GET

    def _dispatch(self) -> None:
        hub, quoted = self.server, urlsplit(self.path).path
        path = unquote(quoted)
        hub.requests.append((self.command, path))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if hub.delay:
            threading.Event().wait(hub.delay)  # Tests replace time.sleep.
        if hub.status:
            self._fail(hub.status, "", "out of order")
        elif self.command == "PUT":
            hub.objects[path.rpartition("/")[2]] = body
            self._send(200, b"")
        elif path.startswith("/cdn/"):
            self._send_file(path.split("/", 3)[3], hub.objects[path.split("/")[2]])
        elif self.command == "POST":
            self._post(path, body)
        else:
            self._get([unquote(word) for word in quoted.strip("/").split("/")])

    def _get(self, words: list[str]) -> None:
        if words[0] == "api":
            name, rest = "/".join(words[2:4]), words[4:]
        else:
            name, rest = "/".join(words[:2]), words[2:]
        repository = self._find(name)
        if repository is None:
            return
        kind, revision, *file = rest or ["revision", "main"]
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        files = repository.commits[commit]
        listing = [_describe(path, content) for path, content in sorted(files.items())]
        if kind == "tree":
            self._send_json(listing)
        elif kind == "revision":
            info = {"id": name, "modelId": name, "sha": commit, "siblings": listing, "tags": []}
            self._send_json(info | {"private": False, "downloads": 0, "likes": 0, "gated": False})
        else:
            self._resolve("/".join(file), files, commit)

    def _find(self, name: str) -> Repository | None:
        """Return a repository that this request may read; otherwise answer with an error."""
        repository = self.server.repositories.get(name)
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not allowed):
            self._fail(404 if allowed else 401, "RepoNotFound", "Repository not found")
        elif repository.gated and not allowed:
            self._fail(401, "GatedRepo", "Access to the model is restricted")
        else:
            return repository
        return None

    def _resolve(self, path: str, files: Mapping[str, bytes], commit: str) -> None:
        if path not in files:
            self._fail(404, "EntryNotFound", "Entry not found")
            return
        content, described = files[path], _describe(path, files[path])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{described["oid"]}"'}
        if not _is_large(path):
            self._send_file(path, content, headers)
            return
        digest = described["lfs"]["oid"]
        self.server.objects[digest] = content
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        # Another host, as that of the Hub's storage is: the client follows redirects within one.
        place = {"Location": f"http://localhost:{self.server.server_port}/cdn/{digest}/{path}"}
        self._send(302, b"", headers | linked | place)

    def _post(self, path: str, body: bytes) -> None:
        hub = self.server
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._fail(401, "", "Invalid username or password.")
            return
        words = path.strip("/").split("/")
        if path == "/api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            sent = json.loads(body)
            name = f"{sent['organization']}/{sent['name']}"
            if name in hub.repositories:
                self._send_json({"url": f"{hub.url}/{name}"}, 409)
                return
            private = sent.get("private") or sent.get("visibility") == "private"
            hub.add(name, {".gitattributes": b""}, private=bool(private))
            self._send_json({"url": f"{hub.url}/{name}", "name": name, "id": name})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for item in objects:
                upload = {"href": f"{hub.url}/lfs/{item['oid']}", "header": {}}
                item["actions"] = {"upload": upload}
            self._send_json({"transfer": "basic", "objects": objects})
        elif words[4] == "branch":
            repository = hub.repositories["/".join(words[2:4])]
            repository.branches["/".join(words[5:])] = repository.branches["main"]
            self._send_json({})
        elif words[4] == "preupload":
            files = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            answers = [{"path": f["path"], "uploadMode": modes[_is_large(f["path"])],
                        "shouldIgnore": False} for f in files]  # fmt: skip
            self._send_json({"files": answers})
        else:
            assert words[4] == "commit", path
            self._commit("/".join(words[2:4]), "/".join(words[5:]), body)

    def _commit(self, name: str, branch: str, body: bytes) -> None:
        hub, files, deleted = self.server, {}, set()
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                hub.pushes.append(value | {"branch": branch})
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                deleted.add(value["path"])
        sha = hub.repositories[name].commit(files, branch, deleted)
        url = f"{hub.url}/{name}/commit/{sha}"
        self._send_json({"success": True, "commitUrl": url, "commitOid": sha})

    def _send_file(self, path: str, content: bytes, headers: Mapping[str, str] = {}) -> None:
        is_cut = self.command == "GET" and self.server.truncate == path
        self._send(200, content[: len(content) // 2] if is_cut else content, headers)

    def _send_json(self, content: Any, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str, message: str) -> None:
        content = json.dumps({"error": message}).encode()
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(status, content, headers | {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def make_public_files(*, shards: int = 0) -> dict[str, bytes]:
    """Return the files of a transformers model, with weights in one file or in several."""
    import numpy as np
    from safetensors.numpy import save

    tensors = {f"layer{i}.weight": np.full((4, 4), i, np.float32) for i in range(4)}
    files = {
        "config.json": b'{"model_type": "blip", "architectures": ["BlipForConditionalGeneration"]}',
        "tokenizer.json": b"{}",
        "preprocessor_config.json": b"{}",
    }
    if not shards:
        return files | {"model.safetensors": save(tensors)}
    places = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors"
              for i, name in enumerate(tensors)}  # fmt: skip
    files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    for file in set(places.values()):
        files[file] = save({k: v for k, v in tensors.items() if places[k] == file})
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files to a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
