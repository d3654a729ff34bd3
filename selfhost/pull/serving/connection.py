"""One client: requests read within limits of size and time, answers sent, files handed from the disk to the network.

`os.sendfile` lets the kernel copy a file into the socket. Before each piece the file is held against its state when it
was verified, and the last byte goes only after a last look: who gets a whole answer got verified bytes. A change by a
write that does not touch the file's time, as through a mapping, stays unseen; clients check the hash themselves.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate

from selfhost.pull.serving.answer import HEALTH, Answer, answer, changed, refused
from selfhost.pull.serving.crowd import Crowd
from selfhost.pull.serving.request import END, MAXIMUM_HEAD_BYTES, RefusedError, Request, parse
from selfhost.pull.serving.table import Offer, State, Table
from selfhost.units import GIB, MIB

PIECE_BYTES = 16 << 20
COPY_BYTES = 1 << 20  # where sendfile cannot be used
SLOW_BYTES = 64 << 10  # a client takes at least so much in `Limits.stall_seconds`
LINGER_SECONDS = 1.0
LINGER_BYTES = 256 << 10

_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # sendfile(2): a file system that cannot
_MORE = getattr(socket, "MSG_MORE", 0)

Announce = Callable[[str], None]
SendFile = Callable[[int, int, int, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients may ask of a server.

    Args:
        connections: most that are served at once.
        head_seconds: for the head of a request, from its first byte on.
        idle_seconds: for the first byte of the next request.
        stall_seconds: in which a client has to take 64 KiB of its answer.
        patience_seconds: how long a request waits for another connection to end, before it gets 503.
        retry_seconds: what the 503 asks a client to wait.
        drain_seconds: for answers that are under way when the server ends.
    """

    connections: int = 64
    head_seconds: float = 10.0
    idle_seconds: float = 60.0
    stall_seconds: float = 60.0
    patience_seconds: float = 5.0
    retry_seconds: int = 10
    drain_seconds: float = 5.0


class ChangedError(Exception):
    """A file is not the verified one any more; part of it may have been sent."""


class GoneError(Exception):
    """The client has hung up, or is too slow."""


class Connection:
    """A client's connection, from accept to close."""

    def __init__(
        self,
        plain: socket.socket,
        peer: str,
        *,
        table: Table,
        limits: Limits,
        crowd: Crowd,
        announce: Announce,
        sendfile: SendFile = os.sendfile,
    ) -> None:
        """Take over a socket.

        Args:
            plain: the accepted socket.
            peer: the client's address, for the log.
            table: what is served.
            limits: what the client may ask.
            crowd: the connections beside it; this one is among them.
            announce: told each file that was asked for.
            sendfile: `os.sendfile`.
        """
        self._socket = plain
        self._peer = peer
        self._table = table
        self._limits = limits
        self._crowd = crowd
        self._announce = announce
        self._sendfile = sendfile
        self._received = b""
        self._ending = False

    def hang_up(self) -> None:
        """End the connection once what has arrived is answered; see `Crowd`."""
        self._ending = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def cut(self) -> None:
        """End the connection now."""
        self._ending = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """Serve the client until it is done or refused."""
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._exchange():
                self._crowd.rest(self)
        except (GoneError, OSError):
            pass
        finally:
            self._crowd.leave(self)
            self._socket.close()

    def _exchange(self) -> bool:
        """One request and its answer; whether there may be another."""
        try:
            head = self._head()
            if head is None:
                return False
            request = parse(head)
        except RefusedError as error:
            self._refuse(error)
            return False
        patience = self._limits.patience_seconds
        if request.path != HEALTH and not self._crowd.sit(self, patience_seconds=patience):
            seconds = str(self._limits.retry_seconds)
            busy = RefusedError(503, f"All {self._limits.connections} connections are in use.")
            self._refuse(busy, {"Retry-After": seconds}, method=request.method)
            return False
        return self._answer(request)

    def _answer(self, request: Request) -> bool:
        try:
            found = answer(request, self._table)
        except RefusedError as error:
            self._refuse(error)
            return False
        keep = request.keep_alive and not self._ending and not self._crowd.is_crowded
        if found.offer is None or request.method == "HEAD":
            body = b"" if request.method == "HEAD" else found.body
            self._send(_head(found, close=not keep) + body)
            return keep
        return self._file(found, found.offer, keep) and keep

    def _file(self, found: Answer, offer: Offer, keep: bool) -> bool:
        """Send a file or a part of it; whether all of it went."""
        descriptor = _open(offer)
        if descriptor is None:
            other = changed(offer)
            self._send(_head(other, close=True) + other.body)
            return False
        began, sent, outcome = time.monotonic(), 0, ""
        try:
            self._send(_head(found, close=not keep), more=found.length > 0)
            for got in self._pieces(descriptor, offer, found.begin, found.begin + found.length):
                sent += got
        except ChangedError:
            outcome = "; cut off: it has changed on disk since it was verified"
        except (GoneError, OSError):
            outcome = "; the client left"
            raise
        finally:
            os.close(descriptor)
            self._tell(found, offer, sent, time.monotonic() - began, outcome)
        return not outcome

    def _pieces(self, descriptor: int, offer: Offer, begin: int, end: int) -> Iterator[int]:
        """Send bytes of a file from `begin` up to `end`; gives how many went each time."""
        out = self._socket.fileno()
        offset = begin
        window, taken = time.monotonic(), 0
        while offset < end:
            if State.of(os.fstat(descriptor)) != offer.state:
                raise ChangedError
            length = min(PIECE_BYTES, max(1, end - 1 - offset))  # the last byte by itself
            try:
                got = self._sendfile(out, descriptor, offset, length)
            except BlockingIOError:
                if taken >= SLOW_BYTES:
                    window, taken = time.monotonic(), 0
                self._wait(select.POLLOUT, window + self._limits.stall_seconds)
                continue
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
                data = os.pread(descriptor, min(COPY_BYTES, length), offset)
                self._send(data)
                got = len(data)
            if got == 0:
                raise ChangedError
            offset += got
            taken += got
            yield got

    def _tell(self, found: Answer, offer: Offer, sent: int, seconds: float, outcome: str) -> None:
        part = f" from byte {found.begin:,}" if found.begin or found.length != offer.file.size_bytes else ""
        speed = f" at {sent / seconds / MIB:,.0f} MiB/s" if sent >= GIB // 64 and seconds > 0 else ""
        self._announce(
            f"{self._peer} {offer.repo}@{offer.commit[:8]} {offer.file.path}: "
            f"{sent:,} of {found.length:,} bytes{part}{speed}{outcome}"
        )

    def _refuse(
        self, error: RefusedError, fields: Mapping[str, str] | None = None, *, method: str = ""
    ) -> None:
        """Say no, end the connection, and let the client read it before the socket closes."""
        found = refused(error, fields=fields)
        self._send(_head(found, close=True) + (b"" if method == "HEAD" else found.body))
        self._socket.shutdown(socket.SHUT_WR)
        until = time.monotonic() + LINGER_SECONDS
        drained = 0
        with suppress(GoneError):
            while drained < LINGER_BYTES and (data := self._receive(until)):
                drained += len(data)

    def _head(self) -> bytes | None:
        """The head of the next request, None where the client has none.

        Raises:
            RefusedError: 431, too long; 408, too slow.
        """
        until = time.monotonic() + self._limits.idle_seconds
        begun = False
        while True:
            if self._received and not begun:
                begun = True
                until = time.monotonic() + self._limits.head_seconds
            end = self._received.find(END)
            if end > MAXIMUM_HEAD_BYTES or (end < 0 and len(self._received) > MAXIMUM_HEAD_BYTES):
                raise RefusedError(431, f"The head of a request is longer than {MAXIMUM_HEAD_BYTES:,} bytes.")
            if end >= 0:
                head, self._received = self._received[:end], self._received[end + len(END) :]
                return head
            try:
                data = self._receive(until)
            except GoneError:
                if begun:
                    raise RefusedError(408, "The request did not arrive in time.") from None
                return None
            if not data:
                return None
            self._received += data

    def _receive(self, until: float) -> bytes:
        while True:
            try:
                return self._socket.recv(MAXIMUM_HEAD_BYTES)
            except BlockingIOError:
                self._wait(select.POLLIN, until)

    def _send(self, data: bytes, *, more: bool = False) -> None:
        view = memoryview(data)
        until = time.monotonic() + self._limits.stall_seconds
        while view:
            try:
                view = view[self._socket.send(view, _MORE if more else 0) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, until)

    def _wait(self, event: int, until: float) -> None:
        """Wait until the socket is ready.

        Raises:
            GoneError: it is not in time.
        """
        left = until - time.monotonic()
        ready = select.poll()
        ready.register(self._socket, event)
        if left <= 0 or not ready.poll(left * 1000):
            raise GoneError


def _head(found: Answer, *, close: bool) -> bytes:
    return found.head(close=close, date=formatdate(usegmt=True))


def _open(offer: Offer) -> int | None:
    """The verified file, None where another one or none stands in its place."""
    try:
        descriptor = os.open(offer.target, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if State.of(os.fstat(descriptor)) == offer.state:
        return descriptor
    os.close(descriptor)
    return None
