"""A forward proxy on loopback: CONNECT for https, whole addresses for http, and what went through it."""

from __future__ import annotations

import base64
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_PIECE_BYTES = 1 << 16
_HOP = {
    "connection",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
}


@dataclass(slots=True, kw_only=True)
class FakeProxy:
    """State of the proxy.

    Args:
        credentials: `USER:PASSWORD` that it asks for (407 without), None for none.
        refuse: this status instead of passing anything on.
        asked: method and target of every request.
        passed_bytes: towards the clients.
        url: for HTTP_PROXY and HTTPS_PROXY, with the credentials in it.
    """

    credentials: str | None = None
    refuse: int | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    passed_bytes: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def environ(self) -> dict[str, str]:
        """An environment in which every request goes through this proxy."""
        return {"HTTP_PROXY": self.url, "HTTPS_PROXY": self.url, "ALL_PROXY": self.url, "NO_PROXY": ""}

    def count(self, amount: int) -> None:
        """Note bytes that went towards a client."""
        with self.lock:
            self.passed_bytes += amount


@contextmanager
def serve_proxy(**state: Any) -> Iterator[FakeProxy]:
    """Run a proxy until the block ends; it passes on to loopback addresses alone."""
    proxy = FakeProxy(**state)

    class Handler(_Handler):
        fake = proxy

    server = _Server(("127.0.0.1", 0), Handler)
    who = f"{proxy.credentials}@" if proxy.credentials else ""
    proxy.url = f"http://{who}127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet: clients hang up on purpose here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeProxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        if not self._allowed(host):
            return
        with socket.create_connection((host, int(port)), timeout=10) as far:
            self.send_response(200, "Connection established")
            self.end_headers()
            self._tunnel(far)
        self.close_connection = True

    def do_HEAD(self) -> None:
        self._pass_on()

    def do_GET(self) -> None:
        self._pass_on()

    def _allowed(self, host: str | None) -> bool:
        self.fake.asked.append((self.command, self.path))
        wanted = self.fake.credentials
        given = self.headers.get("Proxy-Authorization", "")
        status = self.fake.refuse
        if wanted and given != f"Basic {base64.b64encode(wanted.encode()).decode()}":
            status = 407
        elif host not in ("127.0.0.1", "localhost"):
            status = status or 502
        if status is None:
            return True
        self.send_response(status)
        self.send_header("Proxy-Authenticate", 'Basic realm="tests"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _pass_on(self) -> None:
        parts = urlsplit(self.path)
        if not self._allowed(parts.hostname):
            return
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        headers = {key: value for key, value in self.headers.items() if key.lower() not in _HOP}
        far = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=30)
        try:
            far.request(self.command, target, headers=headers)
            answer = far.getresponse()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in _HOP:
                    self.send_header(key, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while piece := answer.read(_PIECE_BYTES):
                self.wfile.write(piece)
                self.fake.count(len(piece))
        finally:
            far.close()
            self.close_connection = True

    def _tunnel(self, far: socket.socket) -> None:
        near = self.connection
        while True:
            ready, _, _ = select.select([near, far], [], [], 30)
            if not ready:
                return
            for source in ready:
                data = source.recv(_PIECE_BYTES)
                if not data:
                    return
                (far if source is near else near).sendall(data)
                if source is far:
                    self.fake.count(len(data))
