"""A client that does nothing by itself: no redirect followed, nothing tried again, every byte as it came."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """An answer, its body as far as it came, and whether it broke off."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    broken: bool

    def json(self) -> Any:
        return json.loads(self.body)


def ask(url: str, method: str = "GET", *, timeout: float = 10, **headers: str) -> Got:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers={key.replace("_", "-"): v for key, v in headers.items()})
        answer = connection.getresponse()
        try:
            body, broken = answer.read(), False
        except http.client.IncompleteRead as error:
            body, broken = error.partial, True
        return Got(
            status=answer.status,
            headers={key.title(): value for key, value in answer.getheaders()},
            body=body,
            broken=broken,
        )
    finally:
        connection.close()


def raw(url: str) -> tuple[bytes, bool]:
    """Every byte of an answer, and whether the connection ended with a reset."""
    parts = urlsplit(url)
    data = b""
    with socket.create_connection((parts.hostname, parts.port)) as peer:
        peer.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        try:
            while piece := peer.recv(1 << 16):
                data += piece
        except ConnectionResetError:
            return data, True
    return data, False
