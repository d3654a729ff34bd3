"""The HTTP side: small, bounded in connections and in the time that one may take, and deaf to NVML.

Each connection has a thread of its own, carries one request and is closed: a client that is slow costs one slot for as
long as the deadline at most, and one too many is told so at once.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from selfhost import __version__
from selfhost.errors import UsageError
from selfhost.exporter.exporter import Exporter

# Ours: a Prometheus or two, a probe, a fleet view and some people, many times over.
MOST_CONNECTIONS = 64
# Ours: for a request to arrive whole, and for an answer to be taken.
READ_SECONDS, WRITE_SECONDS = 5.0, 10.0
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
_JSON, _PLAIN, _HTML = "application/json", "text/plain; charset=utf-8", "text/html; charset=utf-8"
_INDEX = f"""<!doctype html><html lang="en"><title>selfhost monitor</title><h1>selfhost monitor {__version__}</h1><ul>
<li><a href="metrics">metrics</a>: GPUs, engines and verdicts for Prometheus</li>
<li><a href="api/v1/summary">api/v1/summary</a>: this node in short, as JSON</li>
<li><a href="healthz">healthz</a>, <a href="readyz">readyz</a>: probes</li></ul></html>
"""


def parse_listen(text: str) -> tuple[str, int]:
    """`host:port`, `[address]:port`, `:port` or `port` as host and port; no host is every interface.

    Raises:
        UsageError: no port, or one out of range.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host = ""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not port.isdecimal() or not port.isascii() or int(port) > 65535 or (":" in bare and bare == host):
        raise UsageError(
            f"{text!r} is not an address to listen on.", hint="Write host:port, such as :9835 or [::1]:9835."
        )
    return bare, int(port)


class Server(ThreadingHTTPServer):
    """Serves an exporter.

    Args:
        exporter: what answers.
        host: name or address; empty for every interface, of IPv6 and IPv4.
        port: 0 has the system choose.

    Raises:
        UsageError: the address cannot be listened on.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, exporter: Exporter, host: str, port: int) -> None:
        self.exporter = exporter
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._thread: threading.Thread | None = None
        try:
            self.address_family, address = _address(host, port)
            super().__init__(address, _Handler)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name with a label that DNS cannot have
            reason = getattr(error, "strerror", None) or "it is no name of a host"
            raise UsageError(
                f"{host or '*'}:{port} cannot be listened on: {reason}.",
                hint="Name another address, such as --serve :9836.",
            ) from None

    @property
    def url(self) -> str:
        """Where it is to be found from this machine."""
        host, port = self.socket.getsockname()[:2]
        if host in ("::", "0.0.0.0"):
            host = "localhost"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def server_bind(self) -> None:
        """Bind; for every interface one socket takes IPv4 as well. Asks no name server, as the base class does."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.socket.getsockname()[1]

    def start(self) -> None:
        """Answer, in a thread of its own."""
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="selfhost-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join(1.0)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread, or turn it away."""
        if not self._slots.acquire(blocking=False):
            try:
                request.setblocking(False)
                request.send(_BUSY)
            except OSError:
                pass
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._slots.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection and give its slot back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's trouble."""


class _Timed(io.RawIOBase):
    """A socket's bytes, all of which have to come within one deadline."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    # What a request line that is none is answered in: as HTTP/0.9, the base class's choice, it would get no status.
    default_request_version = "HTTP/1.0"
    server_version = f"selfhost/{__version__}"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Timed(self.connection, READ_SECONDS))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = _PATHS.get(path)
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, _PLAIN, b"no such path; / lists them\n")
            return
        answer(self)

    do_HEAD = do_GET  # noqa: N815 - the base class calls them by these names

    def _refuse(self) -> None:
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, _PLAIN, b"GET and HEAD only\n", Allow="GET, HEAD")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse  # noqa: N815

    def index(self) -> None:
        self._send(HTTPStatus.OK, _HTML, _INDEX.encode())

    def metrics(self) -> None:
        packed = _takes_gzip(self.headers.get("Accept-Encoding", ""))
        body, kind = self.server.exporter.metrics(self.headers.get("Accept"), packed=packed)
        extra = {"Content-Encoding": "gzip"} if packed else {}
        self._send(HTTPStatus.OK, kind, body, Vary="Accept, Accept-Encoding", **extra)

    def healthz(self) -> None:
        self._probe(self.server.exporter.alive())

    def readyz(self) -> None:
        self._probe(self.server.exporter.ready())

    def summary(self) -> None:
        body = self.server.exporter.summary()
        if body is None:
            self._probe(self.server.exporter.ready() or "there is no observation yet")
        else:
            self._send(HTTPStatus.OK, _JSON, body)

    def _probe(self, why: str | None) -> None:
        if why is None:
            self._send(HTTPStatus.OK, _PLAIN, b"ok\n")
        else:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, f"{why}\n".encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes, **headers: str) -> None:
        self.connection.settimeout(WRITE_SECONDS)  # of sendall as a whole (Python's socket module)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self._headers_buffer.append(b"\r\n" + body)  # type: ignore[attr-defined]
            self.flush_headers()
        else:
            self.end_headers()
        self.close_connection = True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses (a request line that is none, one too long), without its HTML."""
        status = HTTPStatus(code)
        if getattr(self, "command", None) is None:
            self.command = "GET"
        self.close_connection = True
        self._send(status, _PLAIN, f"{status.phrase}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """A scrape every few seconds is not worth a line each."""


_PATHS: dict[str, Callable[[_Handler], None]] = {
    "/": _Handler.index,
    "/metrics": _Handler.metrics,
    "/healthz": _Handler.healthz,
    "/readyz": _Handler.readyz,
    "/api/v1/summary": _Handler.summary,
}


def _address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    if not host:
        if socket.has_dualstack_ipv6():
            return socket.AF_INET6, ("::", port)
        return socket.AF_INET, ("", port)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return found[0][0], found[0][4]


def _takes_gzip(header: str) -> bool:
    for part in header.lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
