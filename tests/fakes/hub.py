"""A Hub on loopback: the wire protocol of huggingface.co for models, and its faults.

Protocol as huggingface_hub 2.4 speaks it (hf_api.py, file_download.py, utils/_http.py): `/api/models/X[/revision/R]`,
`/X/resolve/R/FILE` with Range, ETag and X-Repo-Commit, 307 for renamed repositories, X-Error-Code for refusals.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
NOT_FOUND = {
    "RepoNotFound": "Repository not found",
    "RevisionNotFound": "Invalid rev id",
    "EntryNotFound": "Entry",
}


@dataclass(slots=True, kw_only=True)
class Repo:
    """One repository of the fake Hub."""

    files: dict[str, bytes]
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    gated: bool = False
    token: str | None = None  # private: 401 without it
    card: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class FakeHub:
    """State of the server; tests change it between requests."""

    repos: dict[str, Repo] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[int, Mapping[str, str], bytes]] = field(
        default_factory=list
    )  # sent first, whatever is asked
    ranges: bool = True
    truncate: str | None = None  # file whose body breaks off
    stall: str | None = None  # path part that gets no answer
    drip: str | None = None  # path part that gets a byte at a time
    accepted_token: str | None = None
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    sent_bytes: int = 0
    url: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)

    def environ(self, **more: str) -> dict[str, str]:
        """An environment that points at this server."""
        return {"HF_ENDPOINT": self.url, **more}

    def paths(self) -> list[str]:
        """Paths that were asked for, without queries."""
        return [urlsplit(path).path for path, _ in self.requests]


def safetensors(
    tensors: Mapping[str, tuple[str, tuple[int, ...], int]], *, metadata: Mapping[str, str] | None = None
) -> bytes:
    """A safetensors file: name -> (dtype, shape, bytes), data all zero."""
    table: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape, size) in tensors.items():
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + bytes(offset)


@contextmanager
def serve(**state: Any) -> Iterator[FakeHub]:
    """Run a fake Hub until the block ends."""
    hub = FakeHub(**state)

    class Handler(_Handler):
        fake = hub

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet: clients hang up on purpose here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeHub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.fake
        hub.requests.append((self.path, dict(self.headers.items())))
        if hub.stall and hub.stall in self.path:
            hub.stopping.wait(30)
            self.close_connection = True
            return
        if hub.answers:
            status, headers, body = hub.answers.pop(0)
            self._send(status, headers, body)
            return
        path = unquote(urlsplit(self.path).path).strip("/")
        sent = self.headers.get("Authorization")
        if sent and hub.accepted_token is not None and sent != f"Bearer {hub.accepted_token}":
            self._send(401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b"{}")
            return
        if path.startswith("api/models/"):
            self._model(path.removeprefix("api/models/"))
        else:
            self._file(path)

    def _model(self, path: str) -> None:
        name, _, revision = path.partition("/revision/")
        target = self.fake.renamed.get(name)
        if target:
            query = urlsplit(self.path).query
            tail = f"/revision/{revision}" if revision else ""
            self._send(307, {"Location": f"/api/models/{target}{tail}?{query}"}, b"")
            return
        repo = self.fake.repos.get(name)
        if repo is None or (repo.token and self.headers.get("Authorization") != f"Bearer {repo.token}"):
            self._refuse(401 if not self.headers.get("Authorization") else 404, "RepoNotFound")
            return
        commit = repo.revisions.get(revision or "main") or (
            revision if revision in repo.revisions.values() else None
        )
        if commit is None:
            self._refuse(404, "RevisionNotFound")
            return
        body = {
            "id": name,
            "sha": commit,
            "gated": "manual" if repo.gated else False,
            "siblings": [{"rfilename": file, "size": len(data)} for file, data in repo.files.items()],
            "cardData": repo.card,
        }
        self._send(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _file(self, path: str) -> None:
        name, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        repo = self.fake.repos.get(name)
        if repo is None:
            self._refuse(404, "RepoNotFound")
            return
        commit = repo.revisions.get(revision) or (revision if revision in repo.revisions.values() else None)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
            return
        if repo.gated and self.headers.get("Authorization") is None:
            self._refuse(401, "GatedRepo")
            return
        if repo.gated:
            self._refuse(403, "GatedRepo")
            return
        data = repo.files.get(file)
        if data is None:
            self._refuse(404, "EntryNotFound")
            return
        headers = {"ETag": '"abc"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if wanted and self.fake.ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or len(data)), len(data) - 1)
            if begin >= len(data):
                self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
                return
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
            self._send(206, headers, data[begin : end + 1], broken=self.fake.truncate == file)
        else:
            self._send(200, headers, data, broken=self.fake.truncate == file)

    def _refuse(self, status: int, code: str) -> None:
        message = NOT_FOUND.get(code, "Access to this model is restricted")
        self._send(status, {"X-Error-Code": code, "X-Error-Message": message}, b'{"error":"refused"}')

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, *, broken: bool = False) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            if self.fake.drip and self.fake.drip in self.path:
                for number in range(len(body)):
                    if self.fake.stopping.wait(0.05):
                        return
                    self.wfile.write(body[number : number + 1])
                return
            if broken:
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            for start in range(0, len(body), 1 << 16):
                self.wfile.write(body[start : start + (1 << 16)])
                self.fake.sent_bytes += len(body[start : start + (1 << 16)])
        except OSError:
            self.close_connection = True  # the client has read enough
