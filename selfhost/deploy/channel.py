"""HTTP to an engine over any connection: a forwarded port or a plain address. Answers come in pieces, with their times.

One connection is kept for all requests, as each forwarded one costs the API server a request; where the engine closes
it, the next request opens another. http.client's timeout starts anew with every byte; here each request has a deadline.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from selfhost.cluster.values import json_object, printable
from selfhost.errors import ClusterError, UsageError

_LARGEST_BYTES = 8 << 20  # ours: a page of metrics of eight data-parallel ranks has some 1 MB
_CONNECT_SECONDS = 10.0


class NoReplyError(Exception):
    """Why there was no answer, one phrase. Stays inside this package."""


class Link(Protocol):
    """What a connection has to do."""

    def settimeout(self, seconds: float | None, /) -> None:
        """How long the next call may take."""

    def sendall(self, data: bytes, /) -> None:
        """Send bytes."""

    def recv_into(self, buffer: Any, /) -> int:
        """Receive bytes; 0 at the end."""

    def close(self) -> None:
        """End it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes of an answer's body. `at`: seconds since the request was sent."""

    at: float
    data: bytes


class Reply:
    """An answer: its status and headers, and its body piece by piece.

    Args:
        status: of HTTP.
        headers: names in lower case.
        pieces: of the body, as they come.
    """

    def __init__(self, status: int, headers: Mapping[str, str], pieces: Iterator[Piece]) -> None:
        self.status, self.headers, self.pieces = status, headers, pieces

    def body(self) -> bytes:
        """What is left of it.

        Raises:
            NoReplyError: it does not come in time, or breaks off.
        """
        return b"".join(piece.data for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer. `seconds`: from the request to its end."""

    status: int
    body: bytes
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        """Its body as an object, an empty one for anything else."""
        return json_object(self.body)


class Channel:
    """Requests to one engine, one after the other. A context manager.

    Args:
        connect: opens a connection in so many seconds.
        host: for the Host header.
        prefix: of every path.
        clock: a monotonic one.
    """

    def __init__(
        self,
        connect: Callable[[float], Link],
        *,
        host: str,
        prefix: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix, self._clock = prefix, clock
        self._connection = _Connection(connect, host, clock)

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection that is kept."""
        self._connection.close()

    @property
    def connections(self) -> int:
        """How many were opened."""
        return self._connection.opened

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float,
    ) -> Iterator[Reply]:
        """One request; its answer has to be read within the block, or the connection ends with it.

        Args:
            method: of HTTP.
            path: below the prefix.
            headers: beside the usual ones.
            body: what is sent.
            seconds: how long it may take, the whole answer included.

        Raises:
            NoReplyError: refused, late, too large, broken off, or not HTTP.
        """
        sent = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "selfhost"} | dict(
            headers or {}
        )
        began = self._clock()
        self._connection.until = began + seconds
        with self._connection.told(seconds):
            response = self._send(method, self._prefix + path, body, sent)
        found = {key.lower(): value for key, value in response.getheaders()}
        try:
            yield Reply(response.status, found, self._pieces(response, began, seconds))
        finally:
            if not response.isclosed():
                self._connection.close()

    def ask(
        self,
        path: str,
        document: Mapping[str, object] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float,
    ) -> Answer:
        """GET, or POST where there is something to send, and the whole answer.

        Raises:
            NoReplyError: see `request`.
        """
        body = None if document is None else json.dumps(document).encode()
        more = {"Content-Type": "application/json"} if body is not None else {}
        began = self._clock()
        with self.request(
            "GET" if body is None else "POST", path, headers=more | dict(headers or {}), body=body,
            seconds=seconds,
        ) as reply:  # fmt: skip
            whole = reply.body()
            return Answer(status=reply.status, body=whole, seconds=self._clock() - began)

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        """Once more where the engine had closed the connection that was kept: it saw nothing of the request."""
        kept = self._connection.sock is not None
        try:
            self._connection.request(method, path, body=body, headers=headers)
            return self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self._connection.close()
            if not kept:
                raise
        self._connection.request(method, path, body=body, headers=headers)
        return self._connection.getresponse()

    def _pieces(self, response: Any, began: float, seconds: float) -> Iterator[Piece]:
        size = 0
        with self._connection.told(seconds):
            while data := response.read1(1 << 16):
                size += len(data)
                if size > _LARGEST_BYTES:
                    raise NoReplyError(f"an answer of more than {_LARGEST_BYTES >> 20} MiB")
                yield Piece(at=self._clock() - began, data=data)
            if response.length:
                raise NoReplyError("the connection ended before the answer did")
            response.read()  # nothing is left; with this http.client knows it too, and keeps the connection


class _Connection(http.client.HTTPConnection):
    """A connection whose reads and writes keep a deadline."""

    def __init__(self, connect: Callable[[float], Link], host: str, clock: Callable[[], float]) -> None:
        super().__init__(host)
        self._open, self.clock = connect, clock
        self.until, self.opened = 0.0, 0

    def connect(self) -> None:
        self.opened += 1
        self.sock = cast(socket.socket, _Socket(self._open(min(_CONNECT_SECONDS, self.left())), self))

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
            TimeoutError: none.
        """
        left = self.until - self.clock()
        if left <= 0.001:
            raise TimeoutError
        return left

    @contextmanager
    def told(self, seconds: float) -> Iterator[None]:
        """Turns what can go wrong into a phrase."""
        try:
            yield
            return
        except TimeoutError:
            reason = f"no whole answer within {seconds:g} s"
        except ConnectionRefusedError:
            reason = "connection refused"
        except ClusterError as error:
            reason = error.message.rstrip(".")
        except (http.client.RemoteDisconnected, http.client.IncompleteRead):
            reason = "the connection ended before the answer did"
        except OSError as error:
            reason = printable((error.strerror or type(error).__name__).lower())
        except (http.client.HTTPException, ValueError) as error:
            reason = f"not an HTTP answer ({type(error).__name__})"
        self.close()
        raise NoReplyError(reason)


class _Socket:
    """The part of a socket that http.client uses. What `makefile` gave can be read after `close`, as with a socket."""

    def __init__(self, link: Link, connection: _Connection) -> None:
        self.link, self.connection = link, connection
        self.readers, self.closing = 0, False

    def makefile(self, mode: str) -> io.BufferedReader:
        self.readers += 1
        return io.BufferedReader(_Reader(self))

    def receive(self, buffer: Any) -> int:
        self.link.settimeout(self.connection.left())
        return self.link.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        self.link.settimeout(self.connection.left())
        self.link.sendall(data)

    def close(self) -> None:
        self.closing = True
        self.end()

    def end(self) -> None:
        if self.closing and self.readers <= 0:
            self.link.close()


class _Reader(io.RawIOBase):
    def __init__(self, owner: _Socket) -> None:
        self.owner = owner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.owner.receive(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.owner.readers -= 1
            self.owner.end()


def plain(url: str) -> Channel:
    """A channel to an address such as http://127.0.0.1:8000.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError("This is no address of an engine.", hint="Give one such as http://127.0.0.1:8000.")
    tls = parts.scheme == "https"
    number = port or (443 if tls else 80)
    name = str(host)

    def connect(seconds: float) -> Link:
        link = socket.create_connection((name, number), timeout=seconds)
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                import ssl

                link = ssl.create_default_context().wrap_socket(link, server_hostname=name)
        except BaseException:
            link.close()
            raise
        return link

    place = f"[{name}]" if ":" in name else name
    prefix = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return Channel(connect, host=f"{place}:{number}", prefix=prefix)
