"""Bytes of a request's head -> Request, strictly: what is odd is refused, so that no proxy can read it another way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

MAXIMUM_HEAD_BYTES = 16 << 10
MAXIMUM_FIELDS = 64
END = b"\r\n\r\n"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_LINE = re.compile(rf"({_TOKEN}) ([!-~]+) HTTP/([0-9])\.([0-9])", re.ASCII)
_FIELD = re.compile(rf"({_TOKEN}):[ \t]*([ -~\t\x80-\xff]*?)[ \t]*", re.ASCII)
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*")


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        message: why, for the client.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks for.

    Args:
        method: such as GET.
        path: decoded once, without the query.
        query: as sent.
        fields: header fields by lower-case name; those that came more than once joined with commas.
        keep_alive: the connection may serve a further request.
    """

    method: str
    path: str
    query: str
    fields: Mapping[str, str]
    keep_alive: bool


def parse(head: bytes) -> Request:
    """Read the head of a request, without the empty line that ends it.

    Raises:
        RefusedError: 400 or 505.
    """
    lines = head.decode("latin-1").split("\r\n")
    match = _LINE.fullmatch(lines[0])
    if match is None:
        raise RefusedError(400, "This is no HTTP request.")
    method, target, major, minor = match.groups()
    if major != "1":
        raise RefusedError(505, "Only HTTP/1.1 is spoken here.")
    if len(lines) > MAXIMUM_FIELDS + 1:
        raise RefusedError(431, "Too many header fields.")
    fields = _fields(lines[1:])
    if minor != "0" and "host" not in fields:
        raise RefusedError(400, "The Host field is missing.")
    if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
        status = 400 if method in ("GET", "HEAD") else 405
        raise RefusedError(status, "Nothing is taken here; a request has no body.")
    path, query = _target(target)
    options = {option.strip().lower() for option in fields.get("connection", "").split(",")}
    return Request(
        method=method,
        path=path,
        query=query,
        fields=fields,
        keep_alive=minor != "0" and "close" not in options,
    )


def _fields(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise RefusedError(400, "A header field is malformed.")
        name, value = match[1].lower(), match[2]
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _target(target: str) -> tuple[str, str]:
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        target = target[absolute.end() :] or "/"
    path, _, query = target.partition("?")
    if not path.startswith("/") or "#" in target:
        raise RefusedError(400, "The request names no path.")
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise RefusedError(400, "The path is not UTF-8.") from None
    if not decoded.isprintable():
        raise RefusedError(400, "The path holds control characters.")
    return decoded, query


def span(text: str, size_bytes: int) -> tuple[int, int] | None:
    """First byte and length of what a Range field asks for; None where it is to be ignored (RFC 9110, 14.2).

    Several ranges at once are ignored too, and the whole file is sent.

    Raises:
        RefusedError: 416, none of these bytes exists.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        length = min(int(suffix), size_bytes)
        begin = size_bytes - length
    else:
        begin = int(first)
        end = int(last) if last else size_bytes - 1
        if end < begin and last:
            return None
        length = min(end, size_bytes - 1) - begin + 1
    if length <= 0:
        raise RefusedError(416, "None of these bytes exists.")
    return begin, length
