"""SHA-256 and git blob ids of files, read in pieces; OpenSSL does the sums while the interpreter is free."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PIECE_BYTES = 1 << 20

Count = Callable[[int], None]


class Digest:
    """The hashes of one content, fed in order."""

    def __init__(self, size_bytes: int, *, with_git: bool) -> None:
        """Start with a length.

        Args:
            size_bytes: length of the whole content; git puts it in front of what it hashes (gitformat-loose(5)).
            with_git: also work out the git blob id.
        """
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False) if with_git else None

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)

    @property
    def hashes(self) -> Hashes:
        """What has been fed so far."""
        return Hashes(
            sha256=self._sha256.hexdigest(), git_oid=self._git.hexdigest() if self._git is not None else None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes:
    """Hashes of one content; `git_oid` None where it was not asked for."""

    sha256: str
    git_oid: str | None

    def match(self, etag: str) -> bool:
        """Whether the content is the one that the Hub knows under this hash: SHA-256, or else a git blob id."""
        return etag == (self.sha256 if len(etag) == 64 else self.git_oid)


def hash_file(path: Path, *, with_git: bool = False, count: Count | None = None) -> tuple[int, Hashes]:
    """Length and hashes of a file.

    Args:
        path: the file; links are followed.
        with_git: also work out the git blob id.
        count: told how many bytes were read, piece by piece.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        digest = Digest(size, with_git=with_git)
        read = feed(stream.fileno(), digest, size, count=count)
        return read, digest.hashes


def feed(descriptor: int, digest: Digest, size_bytes: int, *, count: Count | None = None) -> int:
    """Hash bytes of an open file from its start.

    Returns:
        How many bytes there were, at most `size_bytes`.
    """
    buffer = bytearray(PIECE_BYTES)
    view = memoryview(buffer)
    done = 0
    while done < size_bytes:
        got = os.preadv(descriptor, [view[: min(PIECE_BYTES, size_bytes - done)]], done)
        if got == 0:
            break
        digest.update(view[:got])
        done += got
        if count is not None:
            count(got)
    return done
