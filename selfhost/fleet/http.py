"""An HTTP/1.1 answer read piece by piece, with bounds: what a node may send is not trusted."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

# Ours: a summary of 8 GPUs is some 2 KiB; what is larger than this is no summary.
LARGEST_BODY_BYTES = 1 << 20
_LARGEST_HEAD_BYTES = 16 << 10
_LONGEST_CHUNK_LINE = 256
# A server writes a body in a few chunks; one that makes thousands of them wants to keep its reader busy.
_MOST_CHUNKS = 2000
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |$)")
_LENGTH = re.compile(rb"\d{1,15}")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?")


class NotHttpError(Exception):
    """The peer does not speak HTTP, or breaks its bounds; the text is a phrase for people."""


class HttpAnswer:
    """Takes bytes as they come. `status`, `body` and `dated` are set once `feed` or `end` says it is whole."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.dated: float | None = None
        self._raw = bytearray()
        self._joined = bytearray()
        self._head_done = False
        self._length: int | None = None
        self._chunked = False
        self._chunks = 0

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return self._head_done or bool(self._raw)

    def feed(self, data: bytes) -> bool:
        """Takes the next bytes.

        Returns:
            Whether the answer is whole.

        Raises:
            NotHttpError: it is not HTTP, or too large.
        """
        self._raw += data
        if not self._head_done and not self._take_head():
            return False
        if self._chunked:
            return self._take_chunks()
        if self._length is not None and len(self._raw) >= self._length:
            self.body = bytes(self._raw[: self._length])
            return True
        self._bound(len(self._raw), LARGEST_BODY_BYTES)
        return False

    def end(self) -> None:
        """The connection has ended.

        Raises:
            NotHttpError: before the answer was whole.
        """
        if not self._head_done or self._chunked or self._length is not None:
            raise NotHttpError("the answer breaks off")
        self.body = bytes(self._raw)

    def _take_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            self._bound(len(self._raw), _LARGEST_HEAD_BYTES)
            if self._raw[:5] not in (b"HTTP/"[: len(self._raw)], b"HTTP/"):
                raise NotHttpError("the answer is not HTTP")
            return False
        lines = bytes(self._raw[:end]).split(b"\r\n")
        del self._raw[: end + 4]
        found = _STATUS.match(lines[0])
        if found is None:
            raise NotHttpError("the answer is not HTTP")
        self.status = int(found[1])
        self._head_done = True
        for line in lines[1:]:
            self._take_header(line)
        self._bound(self._length or 0, LARGEST_BODY_BYTES)
        return True

    def _take_header(self, line: bytes) -> None:
        name, colon, value = line.partition(b":")
        value = value.strip()
        match name.strip().lower() if colon else b"":
            case b"content-length":
                if not _LENGTH.fullmatch(value) or self._length not in (None, int(value)):
                    raise NotHttpError("the answer's length is no number")
                self._length = int(value)
            case b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise NotHttpError("the answer is encoded in a way that was not asked for")
                self._chunked = True
            case b"content-encoding":
                if value.lower() != b"identity":
                    raise NotHttpError("the answer is compressed, which was not asked for")
            case b"date":
                self.dated = _date(value)

    def _take_chunks(self) -> bool:
        """Takes the chunks that are complete off the front, so that no byte is looked at twice."""
        while (line := self._raw.find(b"\r\n", 0, _LONGEST_CHUNK_LINE)) >= 0:
            found = _CHUNK.fullmatch(self._raw[:line])
            if found is None:
                raise NotHttpError("the answer's chunks are not HTTP")
            size = int(found[1], 16)
            self._bound(len(self._joined) + size, LARGEST_BODY_BYTES)
            if size == 0:  # trailers may follow; nothing of them is wanted
                self.body = bytes(self._joined)
                return True
            if len(self._raw) < line + 2 + size + 2:
                return False
            self._chunks += 1
            if self._chunks > _MOST_CHUNKS:
                raise NotHttpError(f"the answer comes in more than {_MOST_CHUNKS} chunks")
            self._joined += self._raw[line + 2 : line + 2 + size]
            del self._raw[: line + 2 + size + 2]
        if len(self._raw) >= _LONGEST_CHUNK_LINE:
            raise NotHttpError("the answer's chunks are not HTTP")
        return False

    def _bound(self, size: int, largest: int) -> None:
        if size > largest:
            raise NotHttpError(f"the answer is larger than {largest >> 10} KiB")


def _date(value: bytes) -> float | None:
    try:
        return parsedate_to_datetime(value.decode("ascii")).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
