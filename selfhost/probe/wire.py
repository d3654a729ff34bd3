"""HTTP to one engine under one deadline: no answer, however slowly or endlessly it comes, takes longer.

http.client's own timeout starts anew with every byte, so a server that drips would hold a scrape for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from base64 import b64encode
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast
from urllib.parse import unquote, urlsplit

# A vLLM page with eight data-parallel ranks has some 1 MB; ours.
LIMIT_BYTES = 8 * 2**20
_SHORTEST_SECONDS = 0.001
_LEAST_SECONDS = 0.1  # ours


class NoAnswerError(Exception):
    """Why there was no answer, as one phrase. Stays inside this package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An engine's address, taken apart. `shown` is what may be printed: neither credentials nor a query."""

    tls: bool
    host: str
    port: int
    prefix: str
    authorization: str | None
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status and body."""

    status: int
    body: bytes


def parse_target(url: str) -> Target:
    """Read an address such as http://127.0.0.1:8000, with or without a path before the engine's own.

    Raises:
        NoAnswerError: it is none.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise NoAnswerError("not an address") from None
    if parts.scheme not in ("http", "https") or not host:
        raise NoAnswerError("not an http or https address")
    tls = parts.scheme == "https"
    prefix = parts.path.rstrip("/").removesuffix("/metrics").removesuffix("/v1").rstrip("/")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(pair.encode()).decode()
    place = f"[{host}]" if ":" in host else host
    shown = f"{parts.scheme}://{place}" + (f":{port}" if port else "") + prefix
    return Target(
        tls=tls,
        host=host,
        port=port or (443 if tls else 80),
        prefix=prefix,
        authorization=authorization,
        shown=shown,
    )


class _Bounded(io.RawIOBase):
    """Reading side of a socket that gives up at the deadline, whatever trickles in before."""

    def __init__(self, link: _Link) -> None:
        self.link = link

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.link.receive(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.link.readers -= 1
            self.link.end()


class _Link:
    """The part of a socket that http.client uses, under a deadline.

    As with a socket, what `makefile` gave can be read after `close`: http.client closes at once where the server says
    that it will.
    """

    def __init__(self, link: socket.socket, wire: Wire) -> None:
        self.socket, self.wire = link, wire
        self.readers, self.closing = 0, False

    def makefile(self, mode: str) -> io.BufferedReader:
        self.readers += 1
        return io.BufferedReader(_Bounded(self))

    def receive(self, buffer: Any) -> int:
        self.socket.settimeout(self.wire.left())
        return self.socket.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        self.socket.settimeout(self.wire.left())
        self.socket.sendall(data)

    def close(self) -> None:
        self.closing = True
        self.end()

    def end(self) -> None:
        if self.closing and self.readers <= 0:
            self.socket.close()


class _Connection(http.client.HTTPConnection):
    """A connection whose socket keeps the wire's deadline."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire.target.host, wire.target.port)
        self.wire = wire

    def connect(self) -> None:
        target = self.wire.target
        link = socket.create_connection((target.host, target.port), timeout=self.wire.left())
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if target.tls:
                import ssl

                link = ssl.create_default_context().wrap_socket(link, server_hostname=target.host)
        except BaseException:
            link.close()
            raise
        self.sock = cast(socket.socket, _Link(link, self.wire))


class Wire:
    """Requests to one engine, one after the other, over one connection where the engine keeps it.

    Args:
        target: where to.
        seconds: what all requests together may take.
        api_key: sent as a bearer token, to this target alone; redirects are never followed.
    """

    def __init__(self, target: Target, *, seconds: float, api_key: str | None = None) -> None:
        self.target = target
        self.until = self.end = time.monotonic() + seconds
        self.headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "selfhost"}
        if api_key is not None:
            self.headers["Authorization"] = f"Bearer {api_key}"
        elif target.authorization is not None:
            self.headers["Authorization"] = target.authorization
        self.connection = _Connection(self)

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def left(self) -> float:
        """Seconds until the deadline of the request under way.

        Raises:
            TimeoutError: none are left.
        """
        left = self.until - time.monotonic()
        if left < _SHORTEST_SECONDS:
            raise TimeoutError
        return left

    @property
    def spent(self) -> bool:
        """Whether no time is left in which an engine that is well could answer."""
        return self.end - time.monotonic() < _LEAST_SECONDS

    def request(self, path: str, *, body: bytes | None = None, share: float = 1.0) -> Answer:
        """GET, or POST where there is a body (JSON).

        Args:
            path: below the target's prefix.
            body: what is sent.
            share: of the time that is left, at most this much is for this request.

        Raises:
            NoAnswerError: refused, late, too large, or not HTTP.
        """
        began = time.monotonic()
        self.until = began + max(0.0, self.end - began) * share
        try:
            return self._exchange(path, body)
        except TimeoutError:
            reason = f"no answer within {max(0.0, self.until - began):.1f} s"
        except ConnectionRefusedError:
            reason = "connection refused"
        except socket.gaierror:
            reason = f"no such host: {self.target.host}"
        except (http.client.RemoteDisconnected, http.client.IncompleteRead):
            reason = "the connection ended before the answer did"
        except OSError as error:
            reason = _of_system(error)
        except (http.client.HTTPException, ValueError) as error:
            reason = f"not an HTTP answer ({type(error).__name__})"
        self.connection.close()
        raise NoAnswerError(reason)

    def _exchange(self, path: str, body: bytes | None) -> Answer:
        headers = dict(self.headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.connection.request(
            "GET" if body is None else "POST", self.target.prefix + path, body=body, headers=headers
        )
        with self.connection.getresponse() as answer:
            data = answer.read(LIMIT_BYTES + 1)
        if len(data) > LIMIT_BYTES:
            self.connection.close()
            raise NoAnswerError(f"an answer of more than {LIMIT_BYTES // 2**20} MiB")
        if answer.length:  # Content-Length promised more than came
            raise NoAnswerError("an answer that ended early")
        return Answer(status=answer.status, body=data)


def _of_system(error: OSError) -> str:
    """What the system says; of a certificate (ssl.SSLCertVerificationError) without OpenSSL's own words around it."""
    refused = getattr(error, "verify_message", None)
    if refused:
        return f"its certificate is not trusted: {refused}"
    return (error.strerror or type(error).__name__).lower()
