"""Tar members as bytes: plain files and folders in POSIX form, the same for every Python, user, clock and file system.

Python's own writer changes details between releases; here a header is decided by name, length and time alone, so that
places in an archive are known before it is written, and a reader can ask for exactly the header it expects.
"""

from __future__ import annotations

from typing import Literal

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)  # two empty blocks end an archive

_LARGEST_OCTAL_SIZE = 8**11  # what eleven octal digits hold: 8 GiB
_NAME_BYTES = 100
_PAX_NAME = "././@PaxHeader"
Kind = Literal[b"0", b"5", b"x"]


def file_header(path: str, size_bytes: int, *, mtime: int = 0, mode: int = 0o444) -> bytes:
    """What stands before a file's content.

    A name beyond ASCII or 100 bytes, and a length from 8 GiB on, stand in an extended header before it (POSIX.1-2001,
    pax, "Extended header").

    Args:
        path: relative, with slashes.
        size_bytes: length of the content.
        mtime: seconds since 1970.
        mode: permission bits.
    """
    return _extended(path, size_bytes, mtime) + _block(path, size_bytes, b"0", mtime, mode)


def folder_header(path: str, *, mtime: int = 0) -> bytes:
    """A folder; `path` without a slash at its end."""
    name = f"{path}/"
    return _extended(name, 0, mtime) + _block(name, 0, b"5", mtime, 0o755)


def padding_bytes(size_bytes: int) -> int:
    """How many zero bytes follow a content of this length."""
    return -size_bytes % BLOCK_BYTES


def _extended(path: str, size_bytes: int, mtime: int) -> bytes:
    records = b""
    if not path.isascii() or len(path) > _NAME_BYTES:
        records += _record("path", path)
    if size_bytes >= _LARGEST_OCTAL_SIZE:
        records += _record("size", str(size_bytes))
    if not records:
        return b""
    head = _block(_PAX_NAME, len(records), b"x", mtime, 0o644)
    return head + records + bytes(padding_bytes(len(records)))


def _record(key: str, value: str) -> bytes:
    """A length, a blank, key=value and a line feed, where the length counts its own digits."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while length != len(str(length)) + len(rest):
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _block(path: str, size_bytes: int, kind: Kind, mtime: int, mode: int) -> bytes:
    size = size_bytes if size_bytes < _LARGEST_OCTAL_SIZE else 0
    fields = (
        (path.encode("ascii", "replace")[:_NAME_BYTES], _NAME_BYTES),
        (_octal(mode, 7), 8),
        (_octal(0, 7), 8),  # owner and group: root
        (_octal(0, 7), 8),
        (_octal(size, 11), 12),
        (_octal(mtime, 11), 12),
        (b" " * 8, 8),  # the checksum counts itself as blanks
        (kind, 1),
        (b"", 100),
        (b"ustar\x0000", 8),
        (b"", 32),
        (b"", 32),
        (_octal(0, 7), 8),
        (_octal(0, 7), 8),
        (b"", 155),
        (b"", 12),
    )
    block = b"".join(value.ljust(width, b"\0") for value, width in fields)
    return block[:148] + _octal(sum(block), 6) + b"\0 " + block[156:]


def _octal(value: int, digits: int) -> bytes:
    return f"{value:0{digits}o}".encode()
