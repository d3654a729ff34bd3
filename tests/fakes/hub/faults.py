"""What can go wrong on the way: each fault changes how one answer is sent, and several may meet in one answer.

`Refuse`, `Loop` and a `Stall` without a byte come in place of the answer. All others change an answer that carries a
body, and only those count against `times`.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from tests.fakes.hub.content import Content, read, size_of

Origin: TypeAlias = Literal["hub", "storage"]
Ending: TypeAlias = Literal["keep", "close", "reset", "silence"]
MAXIMUM_GZIP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A range of some content."""

    content: Content
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one answer is sent.

    Args:
        status: of the answer.
        headers: without the length.
        content: what it is a part of.
        begin: first byte of the part.
        parts: the bytes that are sent.
        declared: the Content-Length, None for a chunked body.
        piece_bytes: so many bytes at once, None as many as fit.
        pause_seconds: between pieces.
        ending: what becomes of the connection.
        head_bytes: break off inside the headers after so many bytes.
    """

    status: int
    headers: Mapping[str, str]
    content: Content
    begin: int
    parts: tuple[Part, ...]
    declared: int | None
    piece_bytes: int | None = None
    pause_seconds: float = 0.0
    ending: Ending = "keep"
    head_bytes: int | None = None

    @property
    def total(self) -> int:
        """Bytes that are sent."""
        return sum(part.end - part.begin for part in self.parts)

    def first(self, count: int) -> tuple[Part, ...]:
        """The parts that hold the first bytes."""
        kept = []
        for part in self.parts:
            taken = min(count, part.end - part.begin)
            if taken > 0:
                kept.append(replace(part, end=part.begin + taken))
            count -= taken
        return tuple(kept)


def whole(data: bytes) -> tuple[Part, ...]:
    """All of some bytes."""
    return (Part(content=data, begin=0, end=len(data)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Another answer altogether: a status, headers and a short body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b'{"error":"refused"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A redirect to the very same address; wants `times=None`."""

    status: int = 302


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Silence on an open connection, at once or (with `after_bytes`) in the middle of a body."""

    after_bytes: int | None = None

    def change(self, plan: Plan) -> Plan:
        return replace(plan, parts=plan.first(self.after_bytes or 0), ending="silence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The connection ends after so many bytes of the body, or of the headers, politely or with a reset."""

    after_bytes: int
    in_headers: bool = False
    reset: bool = False

    def change(self, plan: Plan) -> Plan:
        ending: Ending = "reset" if self.reset else "close"
        if self.in_headers:
            return replace(plan, head_bytes=self.after_bytes, parts=(), ending=ending)
        return replace(plan, parts=plan.first(self.after_bytes), ending=ending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One wrong bit in the byte at this offset of the file; an answer without that byte is left alone."""

    at: int

    def change(self, plan: Plan) -> Plan:
        parts: list[Part] = []
        for part in plan.parts:
            if part.content is not plan.content or not part.begin <= self.at < part.end:
                parts.append(part)
                continue
            wrong = bytes([read(part.content, self.at, self.at + 1)[0] ^ 1])
            parts += [
                replace(part, end=self.at),
                *whole(wrong),
                replace(part, begin=self.at + 1),
            ]
        return replace(plan, parts=tuple(parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """A Content-Length that is off by so many bytes: above zero the body ends early, below zero it goes on after."""

    off: int

    def change(self, plan: Plan) -> Plan:
        return replace(plan, declared=max(0, plan.total + self.off), ending="close")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shorter:
    """A body that is shorter than the file by so many bytes, with a Content-Length that agrees with the body."""

    by: int

    def change(self, plan: Plan) -> Plan:
        left = max(0, plan.total - self.by)
        return replace(plan, parts=plan.first(left), declared=left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip:
    """One byte every so many seconds."""

    seconds: float

    def change(self, plan: Plan) -> Plan:
        return replace(plan, piece_bytes=1, pause_seconds=self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """So many bytes a second on each connection."""

    bytes_per_second: int

    def change(self, plan: Plan) -> Plan:
        pieces_per_second = 50
        size = max(1, self.bytes_per_second // pieces_per_second)
        return replace(plan, piece_bytes=size, pause_seconds=size / self.bytes_per_second)


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoreRange:
    """200 and the whole file, whatever range was asked for."""

    def change(self, plan: Plan) -> Plan:
        size = size_of(plan.content)
        headers = {key: value for key, value in plan.headers.items() if key != "Content-Range"}
        parts = (Part(content=plan.content, begin=0, end=size),)
        return replace(plan, status=200, headers=headers, begin=0, parts=parts, declared=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongRange:
    """A Content-Range that tells of other bytes than were asked for, or of a file of another length.

    Args:
        shift: added to the first and last byte in the header.
        total: added to the file's length in the header.
        move: the body comes from there too.
    """

    shift: int = 0
    total: int = 0
    move: bool = False

    def change(self, plan: Plan) -> Plan:
        if "Content-Range" not in plan.headers:
            return plan
        size, begin = size_of(plan.content), max(0, plan.begin + self.shift)
        end = begin + plan.total
        headers = {**plan.headers, "Content-Range": f"bytes {begin}-{end - 1}/{size + self.total}"}
        if not self.move:
            return replace(plan, headers=headers)
        end = min(end, size)
        return replace(
            plan,
            headers=headers,
            declared=end - begin,
            parts=(Part(content=plan.content, begin=begin, end=end),),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gzip:
    """A compressed body, chunked and so without a length, asked for or not."""

    def change(self, plan: Plan) -> Plan:
        if plan.total > MAXIMUM_GZIP_BYTES:
            return plan
        plain = b"".join(read(part.content, part.begin, part.end) for part in plan.parts)
        headers = {**plan.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        if "ETag" in headers:
            headers["ETag"] = f"W/{headers['ETag']}"  # other bytes than the file's own
        return replace(plan, headers=headers, parts=whole(gzip.compress(plain, mtime=0)), declared=None)


BodyKind: TypeAlias = (
    Cut | Drip | Flip | Gzip | IgnoreRange | Length | Shorter | Stall | Throttle | WrongRange
)  # fmt: skip
Kind: TypeAlias = BodyKind | Loop | Refuse


@dataclass(slots=True, kw_only=True)
class Fault:
    """Where and how often something goes wrong.

    Args:
        kind: what.
        path: part of the request's path; for storage that of the file, `/ORG/NAME/resolve/COMMIT/FILE`.
        times: how often, None always.
        skip: the first so many matching requests are served well.
        on: only there; None on both servers.
        method: only this one; None any.
        hits: how often it happened.
    """

    kind: Kind
    path: str = ""
    times: int | None = 1
    skip: int = 0
    on: Origin | None = None
    method: str | None = None
    hits: int = 0

    @property
    def early(self) -> bool:
        """It comes in place of the answer."""
        return isinstance(self.kind, Loop | Refuse) or (
            isinstance(self.kind, Stall) and self.kind.after_bytes is None
        )

    def take(self, *, origin: Origin, method: str, path: str) -> bool:
        """Whether it happens to this request; counts it when it does."""
        if (self.on or origin) != origin or (self.method or method) != method or self.path not in path:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


def too_many(seconds: int, *, retry_after: bool = True, rate_limit: bool = True) -> Refuse:
    """429 as the Hub says it: Retry-After and the draft RateLimit headers (huggingface_hub 2.4, utils/_http.py)."""
    headers = {"X-Error-Message": "We had to rate limit you."}
    if retry_after:
        headers["Retry-After"] = str(seconds)
    if rate_limit:
        headers["RateLimit"] = f'"resolvers";r=0;t={seconds}'
        headers["RateLimit-Policy"] = '"fixed window";"resolvers";q=3000;w=300'
    return Refuse(status=429, headers=headers, body=b'{"error":"We had to rate limit you."}')


def expired() -> Refuse:
    """What storage says to a link whose time is over; wants `on="storage"`."""
    return Refuse(
        status=403,
        headers={"Content-Type": "application/xml"},
        body=b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code>'
        b"<Message>Request has expired</Message></Error>",
    )
