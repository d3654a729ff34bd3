"""Asks many exporters at once in one thread: sockets and one event loop, each node under a deadline of its own.

A name that has to be looked up is looked up in a thread that nobody waits for: getaddrinfo cannot be given a deadline.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from typing import cast
from urllib.parse import urlsplit

from selfhost.fleet.http import HttpAnswer, NotHttpError
from selfhost.fleet.types import LYING, PATH, SLOW, UNREACHABLE, Answer, NodeAddress

# Ours: names are looked up by this many threads; each may hang as long as the resolver's own timeout.
_RESOLVERS = 16
# The host itself answered that nobody listens there: it is up.
_REFUSED = {errno.ECONNREFUSED: "connection refused: the host is up, and no exporter listens"}
_NO_WAY = {
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no route to its network",
    errno.EHOSTDOWN: "the host is down",
    errno.ETIMEDOUT: "the host does not answer",
}

Done = Callable[[int, Answer], None]


def fetch_all(
    nodes: Iterable[tuple[int, NodeAddress]], *, deadline_seconds: float, parallel: int, done: Done
) -> None:
    """Asks each node for its summary.

    Args:
        nodes: numbered, so that `done` can say which one it was.
        deadline_seconds: for each node, from its first packet to the end of its answer.
        parallel: how many are asked at once.
        done: called with the number and the answer as each comes in.
    """
    asyncio.run(_Asking(deadline_seconds, done).run(nodes, parallel))


class _Asking:
    """One pass over the nodes."""

    def __init__(self, deadline_seconds: float, done: Done) -> None:
        self._deadline_seconds = deadline_seconds
        self._done = done
        self._names = _Names()

    async def run(self, nodes: Iterable[tuple[int, NodeAddress]], parallel: int) -> None:
        """Works through the nodes with `parallel` workers."""
        left = iter(nodes)

        async def work() -> None:
            for number, node in left:
                self._done(number, await self._ask(node))

        try:
            await asyncio.gather(*(work() for _ in range(parallel)))
        finally:
            self._names.close()

    async def _ask(self, node: NodeAddress) -> Answer:
        loop = asyncio.get_running_loop()
        started = loop.time()
        asked = _Exchange(loop)
        timer = loop.call_later(self._deadline_seconds, asked.give_up, self._deadline_seconds)
        try:
            answer = await self._exchange(node, asked)
        except (OSError, ValueError) as error:
            answer = _unreachable(error)
        finally:
            timer.cancel()
            asked.close()
        return replace(answer, seconds=loop.time() - started)

    async def _exchange(self, node: NodeAddress, asked: _Exchange) -> Answer:
        target = urlsplit(node.url)
        secure = target.scheme == "https"
        host, port = target.hostname or "", target.port or (443 if secure else 80)
        asked.request = _request(host, port, node)
        connecting = asyncio.ensure_future(self._connect(host, port, asked, secure=secure))
        asked.connecting = connecting
        try:
            await asyncio.wait((connecting, asked.answer), return_when=asyncio.FIRST_COMPLETED)
            if not asked.answer.done() and connecting.done():
                connecting.result()
            return await asked.answer
        finally:
            if not connecting.done():
                connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)

    async def _connect(self, host: str, port: int, asked: _Exchange, *, secure: bool) -> None:
        loop = asyncio.get_running_loop()
        address = host if _literal(host) else await self._names.find(host, port)
        asked.named = True
        context = self._tls if secure else None
        await loop.create_connection(
            lambda: asked, address, port, ssl=context, server_hostname=host if secure else None
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


class _Exchange(asyncio.Protocol):
    """One request and its answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self.connecting: asyncio.Future[None] | None = None
        self.request = b""
        self.named = False
        self._transport: asyncio.Transport | None = None
        self._http = HttpAnswer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.answer.done():
            self._transport.abort()
        else:
            self._transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        try:
            whole = self._http.feed(data)
        except NotHttpError as error:
            self._settle(Answer(fault=LYING, detail=str(error)))
            return
        if whole:
            self._settle(self._whole())

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer.done():
            return
        try:
            if exc is not None or not self._http.begun:
                raise NotHttpError("the connection ended before an answer came")
            self._http.end()
        except NotHttpError as error:
            fault = LYING if self._http.begun else UNREACHABLE
            self._settle(Answer(fault=fault, detail=str(error)))
        else:
            self._settle(self._whole())

    def give_up(self, after_seconds: float) -> None:
        """The deadline is over."""
        if not self.named:
            words = f"its name was not looked up within {after_seconds:g} s"
            self._settle(Answer(fault=UNREACHABLE, detail=words))
        elif self._transport is None:
            words = f"no connection within {after_seconds:g} s"
            self._settle(Answer(fault=UNREACHABLE, level="critical", detail=words))
        elif self._http.begun:
            words = f"answer not complete after {after_seconds:g} s"
            self._settle(Answer(fault=SLOW, detail=words))
        else:
            words = f"no answer within {after_seconds:g} s, though it took the connection"
            self._settle(Answer(fault=SLOW, detail=words))

    def close(self) -> None:
        """Ends the connection without waiting for the peer."""
        if self._transport is not None:
            self._transport.abort()

    def _whole(self) -> Answer:
        return Answer(status=self._http.status, body=self._http.body, dated=self._http.dated)

    def _settle(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)
        self.close()


class _Names:
    """Looks names up in a few daemon threads, so that a resolver that hangs holds nobody up."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[str, int, asyncio.Future[str]] | None] = queue.SimpleQueue()
        self._threads = 0
        self._known: dict[tuple[str, int], asyncio.Future[str]] = {}

    async def find(self, host: str, port: int) -> str:
        """The first address of a name.

        Raises:
            OSError: there is none.
        """
        loop = asyncio.get_running_loop()
        found = self._known.get((host, port))
        if found is None:
            found = self._known[host, port] = loop.create_future()
            self._queue.put((host, port, found))
            if self._threads < _RESOLVERS:
                self._threads += 1
                threading.Thread(target=self._work, args=(loop,), name="selfhost-names", daemon=True).start()
        # Shielded: one node that gives up must not cancel the look-up for another.
        return await asyncio.shield(found)

    def close(self) -> None:
        """Lets the threads end; those that hang are left to themselves."""
        for _ in range(self._threads):
            self._queue.put(None)
        for found in self._known.values():
            found.cancel()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (task := self._queue.get()) is not None:
            host, port, found = task
            try:
                address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
                settle = _Settle(found, address, None)
            except (OSError, UnicodeError) as error:
                settle = _Settle(found, "", OSError(f"its name has no address: {_plain(error)}"))
            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:  # the pass is over
                return


class _Settle:
    """Hands a result to the loop's thread."""

    def __init__(self, found: asyncio.Future[str], address: str, error: OSError | None) -> None:
        self._found, self._address, self._error = found, address, error

    def __call__(self) -> None:
        if self._found.done():
            return
        if self._error is not None:
            self._found.set_exception(self._error)
            self._found.exception()  # seen, also if every node that waited has given up
        else:
            self._found.set_result(self._address)


def _request(host: str, port: int, node: NodeAddress) -> bytes:
    named = f"[{host}]" if ":" in host else host
    lines = [f"GET {PATH} HTTP/1.1", f"Host: {named}:{port}", "Accept: application/json", "Connection: close"]
    if node.authorization:
        lines.append(f"Authorization: {node.authorization}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _unreachable(error: OSError | ValueError) -> Answer:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Answer(fault=UNREACHABLE, detail=f"its certificate is not trusted ({error.verify_message})")
    if isinstance(error, ssl.SSLError):
        return Answer(fault=UNREACHABLE, detail="it does not speak TLS as asked for")
    number = error.errno if isinstance(error, OSError) else None
    if number in _REFUSED:
        return Answer(fault=UNREACHABLE, detail=_REFUSED[number])
    if number in _NO_WAY:
        return Answer(fault=UNREACHABLE, level="critical", detail=_NO_WAY[number])
    return Answer(fault=UNREACHABLE, detail=_plain(error))


def _plain(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return "".join(character for character in text if character.isprintable())[:120] or type(error).__name__
