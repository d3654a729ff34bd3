"""The two servers of the fake Hub, and how bytes go out: by sendfile, so that the clients get the CPU."""

from __future__ import annotations

import fcntl
import io
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from tests.fakes.hub.api import Answer, Asked, answer_api, refuse
from tests.fakes.hub.content import Symlink, read, runs
from tests.fakes.hub.faults import (
    Cut,
    Drip,
    Gzip,
    Loop,
    Origin,
    Part,
    Plan,
    Refuse,
    Stall,
)
from tests.fakes.hub.files import Found, fetch_stored, find, key_of, plan, small
from tests.fakes.hub.state import FakeHub, Seen

_SIOCOUTQ = 0x5411  # bytes that the peer has not acknowledged (tcp(7))
_SILENCE_SECONDS = 60.0
_COMPRESSED = ("json", "text")


@contextmanager
def serve(*, tls: ssl.SSLContext | None = None, port: int = 0, **state: Any) -> Iterator[FakeHub]:
    """Run a fake Hub and its storage until the block ends.

    Args:
        tls: speak https with this certificate.
        port: of the Hub; 0 for any that is free.
        state: of `FakeHub`.

    Raises:
        BaseException: the first fault of the fake itself, if there was one.
    """
    hub = FakeHub(**state)
    scheme = "https" if tls else "http"
    with ExitStack() as stack:
        hub.url = f"{scheme}://127.0.0.1:{stack.enter_context(_running(hub, 'hub', tls, port))}"
        hub.storage_url = f"{scheme}://127.0.0.1:{stack.enter_context(_running(hub, 'storage', tls, 0))}"
        stack.callback(hub.stopping.set)
        yield hub
    if hub.errors:
        raise hub.errors[0]


@contextmanager
def _running(hub: FakeHub, origin: Origin, tls: ssl.SSLContext | None, port: int) -> Iterator[int]:
    class Handler(_Handler):
        pass

    Handler.fake, Handler.origin = hub, origin
    server = _Server(("127.0.0.1", port), Handler)
    server.hub, server.origin, server.tls = hub, origin, tls
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    hub: FakeHub
    origin: Origin
    tls: ssl.SSLContext | None

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.connections: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls is not None:
            # The handshake is the handler thread's: a client that never finishes it holds nobody else.
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self.hub.lock:
            self.connections.add(connection)
        self.hub.connected(self.origin, 1)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self.hub.lock:
            self.connections.discard(request)
        self.hub.connected(self.origin, -1)
        try:
            lingers = request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        except OSError:
            lingers = bytes(8)
        if struct.unpack("ii", lingers)[0]:
            request.close()  # without the polite end: this resets
        else:
            super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every connection that is still open."""
        with self.hub.lock:
            left = tuple(self.connections)
        for connection in left:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up on purpose here; anything else is a fault of this fake."""
        import sys

        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.hub.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fake: FakeHub
    origin: Origin

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.fake
        seen = Seen(
            origin=self.origin,
            method=self.command,
            path=self.path,
            headers=dict(self.headers.items()),
            at=hub.clock(),
        )
        hub.record(seen)
        form = (
            self.rfile.read(int(self.headers.get("Content-Length") or 0)) if self.command == "POST" else b""
        )
        place = self._place()
        early = hub.take(early=True, origin=self.origin, method=self.command, path=place)
        if hub.stall and hub.stall in place:
            early.append(Stall())
        if early:
            self._instead(early[0], seen)
            return
        if self.origin == "hub" and hub.answers:
            status, headers, body = hub.answers.pop(0)
            self._send(small(Answer(status=status, headers=headers, body=body)), seen)
            return
        found = self._found(form)
        if isinstance(found, Found):
            seen.file = found.file
            chosen = plan(
                found,
                wanted=self.headers.get("Range"),
                condition=self.headers.get("If-Range"),
                ranges=hub.ranges,
            )
        else:
            chosen = small(found)
        self._send(self._changed(chosen, place), seen)

    def _place(self) -> str:
        """The path that faults are matched with: of a file in the storage the one that it has on the Hub."""
        parts = urlsplit(self.path)
        key = key_of(parts.query) if self.origin == "storage" else None
        return f"/{key[0]}/resolve/{key[1]}/{key[2]}" if key else unquote(parts.path)

    def _found(self, form: bytes) -> Found | Answer:
        hub = self.fake
        path, _, query = self.path.partition("?")
        sent = self.headers.get("Authorization")
        if self.origin == "storage":
            return fetch_stored(hub, path, query, authorized=sent is not None)
        if sent and hub.accepted_token is not None and sent != f"Bearer {hub.accepted_token}":
            return refuse(401, None, message="Invalid credentials in Authorization header")
        token = sent.removeprefix("Bearer ") if sent else None
        asked = Asked(hub=hub, path=path, query=query, token=token, form=form)
        file = find(asked)
        if file is not None:
            return file
        return answer_api(asked)

    def _instead(self, kind: object, seen: Seen) -> None:
        """An answer that takes the place of the real one."""
        if isinstance(kind, Refuse):
            self._send(small(Answer(status=kind.status, headers=kind.headers, body=kind.body)), seen)
        elif isinstance(kind, Loop):
            self._send(small(Answer(status=kind.status, headers={"Location": self.path})), seen)
        else:
            self.fake.stopping.wait(_SILENCE_SECONDS)
            self.close_connection = True

    def _changed(self, chosen: Plan, place: str) -> Plan:
        """The plan with the faults that happen to it."""
        hub = self.fake
        if self.command == "HEAD" or chosen.status not in (200, 206) or not chosen.total:
            return chosen
        kind = str(chosen.headers.get("Content-Type", "text/plain"))
        accepts = "gzip" in self.headers.get("Accept-Encoding", "")
        if hub.gzip and accepts and chosen.status == 200 and any(part in kind for part in _COMPRESSED):
            chosen = Gzip().change(chosen)
        if hub.truncate and place.endswith(f"/{hub.truncate}"):
            chosen = Cut(after_bytes=chosen.total // 2).change(chosen)
        if hub.drip and hub.drip in place:
            chosen = Drip(seconds=0.05).change(chosen)
        for fault in hub.take(early=False, origin=self.origin, method=self.command, path=place):
            if not isinstance(fault, Loop | Refuse):
                chosen = fault.change(chosen)
        return chosen

    def _send(self, chosen: Plan, seen: Seen) -> None:
        seen.status = chosen.status
        head = self._head(chosen)
        try:
            if chosen.head_bytes is not None:
                self.connection.sendall(head[: chosen.head_bytes])
            elif self.command == "HEAD":
                self.connection.sendall(head)
                return
            else:
                self.connection.sendall(head)
                self._body(chosen, seen)
            self._end(chosen)
        except OSError:
            self.close_connection = True  # the client has read enough
            self._forget_unread(seen)

    def _head(self, chosen: Plan) -> bytes:
        """Status line and headers; `send_response` writes them into a buffer of this handler."""
        self.send_response(chosen.status)
        for key, value in chosen.headers.items():
            self.send_header(key, value)
        if chosen.declared is None:
            self.send_header("Transfer-Encoding", "chunked")
        elif "Content-Length" not in chosen.headers:
            self.send_header("Content-Length", str(chosen.declared))
        buffer = io.BytesIO()
        real, self.wfile = self.wfile, cast("Any", buffer)
        try:
            self.end_headers()
        finally:
            self.wfile = real
        return buffer.getvalue()

    def _body(self, chosen: Plan, seen: Seen) -> None:
        for part in chosen.parts:
            for piece in _pieces(part, chosen.piece_bytes):
                if chosen.pause_seconds and self.fake.stopping.wait(chosen.pause_seconds):
                    raise ConnectionAbortedError
                size = piece.end - piece.begin
                if chosen.declared is None:
                    self.connection.sendall(b"%x\r\n" % size)
                self._part(piece, seen)
                if chosen.declared is None:
                    self.connection.sendall(b"\r\n")
        if chosen.declared is None and chosen.ending == "keep":
            self.connection.sendall(b"0\r\n\r\n")

    def _part(self, part: Part, seen: Seen) -> None:
        """Send a range; every byte that the kernel took is counted."""
        content = part.content
        if isinstance(content, bytes | Symlink):
            view = memoryview(read(content, part.begin, part.end))
            while view:
                with self._counted(seen, min(len(view), 1 << 20)) as taken:
                    taken.append(self.connection.send(view[: 1 << 20]))
                view = view[taken[0] :]
            return
        with runs(content, part.begin, part.end) as pieces:
            for run in pieces:
                offset, left = run.offset, run.count
                while left:
                    with self._counted(seen, left) as taken:
                        taken.append(self._some(run.descriptor, offset, left))
                    if not taken[0]:
                        raise ConnectionAbortedError  # the file on disk became shorter
                    offset, left = offset + taken[0], left - taken[0]

    @contextmanager
    def _counted(self, seen: Seen, amount: int) -> Iterator[list[int]]:
        """Count bytes before they go, so that a client that has them finds them counted, and correct it after."""
        taken: list[int] = []
        self.fake.count(seen, amount)
        try:
            yield taken
        finally:
            self.fake.count(seen, sum(taken) - amount)

    def _some(self, descriptor: int, offset: int, count: int) -> int:
        if isinstance(self.connection, ssl.SSLSocket):
            data = os.pread(descriptor, count, offset)
            self.connection.sendall(data)
            return len(data)
        return os.sendfile(self.connection.fileno(), descriptor, offset, count)

    def _end(self, chosen: Plan) -> None:
        if chosen.ending == "keep":
            return
        self.close_connection = True
        if chosen.ending == "silence":
            self.fake.stopping.wait(_SILENCE_SECONDS)
        elif chosen.ending == "reset":
            until = time.monotonic() + 5
            while self._unread() and time.monotonic() < until:
                time.sleep(0.001)  # a reset throws away what is still on its way
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _unread(self) -> int:
        try:
            return int(struct.unpack("i", fcntl.ioctl(self.connection, _SIOCOUTQ, bytes(4)))[0])
        except OSError:
            return 0

    def _forget_unread(self, seen: Seen) -> None:
        """Bytes that the kernel took and the client never got were not transferred."""
        self.fake.count(seen, -min(self._unread(), seen.sent_bytes))


def _pieces(part: Part, size: int | None) -> Iterator[Part]:
    if size is None:
        yield part
        return
    for begin in range(part.begin, part.end, size):
        yield replace(part, begin=begin, end=min(begin + size, part.end))
