"""Requests of the node simulator to an API server, over http.client: it shares nothing with what it helps to test."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
TRIES = 40  # an API server that is started again is away for some seconds
WATCH_SECONDS = 300


class RefusalError(Exception):
    """What the server said that was no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Client:
    """An API server by its address and a token; each thread has a connection of its own."""

    def __init__(self, address: str, token: str = "") -> None:
        parts = urlsplit(address)
        assert parts.hostname, address
        self.host, self.port, self.tls = parts.hostname, parts.port, parts.scheme == "https"
        self.prefix = parts.path.rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.closed = threading.Event()
        self._own = threading.local()
        self._open: set[http.client.HTTPConnection] = set()

    @classmethod
    def of_kubeconfig(cls, path: Path) -> Client:
        """The current context of a kubeconfig that holds a token."""
        import yaml

        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        context = next(
            one["context"] for one in config["contexts"] if one["name"] == config["current-context"]
        )
        cluster = next(one["cluster"] for one in config["clusters"] if one["name"] == context["cluster"])
        user = next(one["user"] for one in config["users"] if one["name"] == context["user"])
        return cls(cluster["server"], user.get("token", ""))

    def connection(self) -> http.client.HTTPConnection:
        """A new one."""
        made: http.client.HTTPConnection
        if self.tls:
            context = ssl._create_unverified_context()  # the tests' own server
            made = http.client.HTTPSConnection(self.host, self.port, timeout=30, context=context)
        else:
            made = http.client.HTTPConnection(self.host, self.port, timeout=30)
        self._open.add(made)
        return made

    def ask(self, method: str, path: str, document: Object | None = None, kind: str = "") -> Object:
        """One request; again while the server is away or says that it is busy.

        Raises:
            RefusalError: the server refuses.
            ConnectionError: it is away for good, or this client is closed.
        """
        body = None if document is None else json.dumps(document)
        headers = self.headers | {"Content-Type": kind or "application/json", "Accept": "application/json"}
        for attempt in range(TRIES):
            if self.closed.is_set():
                break
            connection = getattr(self._own, "connection", None) or self.connection()
            self._own.connection = connection
            try:
                connection.request(method, f"{self.prefix}{path}", body=body, headers=headers)
                reply = connection.getresponse()
                text = reply.read()
            except (OSError, http.client.HTTPException):
                self._drop(connection)
                self.closed.wait(min(0.5, 0.02 * 2**attempt))
                continue
            if reply.status in (429, 502, 503, 504):
                self.closed.wait(min(0.5, 0.02 * 2**attempt))
                continue
            said = _read(text)
            if reply.status >= 300:
                raise RefusalError(reply.status, str(said.get("message", "")))
            return said
        raise ConnectionError(f"{method} {path}: the server does not answer")

    def try_ask(
        self, method: str, path: str, document: Object | None = None, kind: str = ""
    ) -> Object | None:
        """The same; None where the object is gone, is there already, or has changed."""
        try:
            return self.ask(method, path, document, kind)
        except RefusalError as answer:
            if answer.status in (404, 409):
                return None
            raise

    def follow(self, path: str) -> Iterator[tuple[str, Object]]:
        """List, then watch, for ever: ("SYNC", {}) after each list, whose objects come as ("ADDED", object)."""
        version = ""
        while not self.closed.is_set():
            try:
                if not version:
                    listed = self.ask("GET", path)
                    yield "LISTED", listed
                    version = listed["metadata"]["resourceVersion"]
                for kind, item in self._watch(path, version):
                    if kind == "ERROR":
                        version = ""
                        break
                    version = item["metadata"].get("resourceVersion", version)
                    if kind != "BOOKMARK":
                        yield kind, item
            except RefusalError as answer:
                if answer.status == 410:
                    version = ""
                self.closed.wait(0.1)
            except (OSError, http.client.HTTPException, ValueError):
                self.closed.wait(0.1)

    def _watch(self, path: str, version: str) -> Iterator[tuple[str, Object]]:
        connection = self.connection()
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
        try:
            connection.request(
                "GET", f"{self.prefix}{path}?{query}", headers=self.headers | {"Accept": "application/json"}
            )
            if connection.sock is not None:
                connection.sock.settimeout(WATCH_SECONDS + 30)
            reply = connection.getresponse()
            if reply.status != 200:
                raise RefusalError(reply.status, reply.read().decode(errors="replace"))
            while line := reply.readline():
                found = json.loads(line)
                yield found["type"], found["object"]
        finally:
            self._drop(connection)

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        self._open.discard(connection)
        if getattr(self._own, "connection", None) is connection:
            self._own.connection = None
        connection.close()

    def close(self) -> None:
        """End every connection; no other thread may be at one any more."""
        self.hang_up()
        for connection in tuple(self._open):
            self._drop(connection)

    def hang_up(self) -> None:
        """Whoever waits for an answer gets none, and asks no more."""
        self.closed.set()
        for connection in tuple(self._open):
            held = connection.sock
            if held is not None:
                with suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)


def _read(text: bytes) -> Object:
    try:
        found = json.loads(text)
    except ValueError:
        return {"message": text.decode(errors="replace")}
    return found if isinstance(found, dict) else {}
