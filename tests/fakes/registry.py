"""A container registry on loopback: manifests by tag, anonymous tokens, and its faults.

OCI distribution specification 1.1, `/v2/NAME/manifests/REFERENCE`; tokens as distribution.github.io describes them.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
SINGLE = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(slots=True, kw_only=True)
class FakeRegistry:
    """State of the server; tests change it between requests."""

    images: dict[str, bytes] = field(default_factory=dict)  # "name:tag" -> index
    token: str | None = "anonymous-token"  # asked for first; None lets everybody in
    private: bool = False  # no token helps
    basic: bool = False  # asks for name and password
    silent: bool = False  # does not name the digest
    nonsense: str | None = None  # named instead of the digest
    status: int | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)
    host: str = ""

    def add(self, name: str, tag: str) -> str:
        """Publish an image; its digest."""
        self.images[f"{name}:{tag}"] = json.dumps(
            {"schemaVersion": 2, "mediaType": INDEX, "name": name}
        ).encode()
        return self.digest(name, tag)

    def digest(self, name: str, tag: str) -> str:
        return f"sha256:{hashlib.sha256(self.images[f'{name}:{tag}']).hexdigest()}"


@contextmanager
def serve(**state: Any) -> Iterator[FakeRegistry]:
    """Run a registry until the block ends."""
    registry = FakeRegistry(**state)

    class Handler(_Handler):
        fake = registry

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeRegistry

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        fake = self.fake
        fake.requests.append((self.command, self.path))
        parts = urlsplit(self.path)
        if parts.path == "/token":
            asked = parse_qs(parts.query)
            known = asked.get("service") == ["registry.test"] and asked.get("scope", [""])[0].endswith(
                ":pull"
            )
            self._send(200 if known else 400, json.dumps({"token": fake.token}).encode())
            return
        if fake.status is not None:
            self._send(fake.status, b"{}")
            return
        name, _, reference = parts.path.removeprefix("/v2/").partition("/manifests/")
        if fake.basic:
            self._send(401, b"{}", {"WWW-Authenticate": 'Basic realm="registry"'})
            return
        if fake.token is not None and (
            fake.private or self.headers.get("Authorization") != f"Bearer {fake.token}"
        ):
            challenge = f'Bearer realm="http://{fake.host}/token",service="registry.test",scope="repository:{name}:pull"'
            self._send(401, b"{}", {"WWW-Authenticate": challenge})
            return
        manifest = fake.images.get(f"{name}:{reference}")
        # A client that does not ask for indexes gets the manifest of one platform, with a digest of its own.
        if manifest is None or INDEX not in self.headers.get("Accept", ""):
            self._send(404, b"{}")
            return
        headers = {"Content-Type": INDEX}
        if not fake.silent:
            headers["Docker-Content-Digest"] = fake.nonsense or fake.digest(name, reference)
        self._send(200, manifest, headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
