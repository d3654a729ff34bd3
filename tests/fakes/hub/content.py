"""What a file of the fake Hub holds: bytes, a file on disk, or random bytes of any length that nobody stores."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TypeAlias

# Random files repeat with this period. It is prime, so that no offset a client could get wrong (a multiple of its
# buffer, its part, a page) finds equal bytes.
PERIOD_BYTES = 16_777_213
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Random:
    """Random bytes, the same for the same seed, of which any range is at hand at once."""

    size: int
    seed: int = 0

    @property
    def shift(self) -> int:
        """Where in the period the file starts."""
        return self.seed * 2_654_435_761 % PERIOD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink:
    """A symbolic link in git: a blob that holds its target."""

    target: str


Content: TypeAlias = bytes | Path | Random | Symlink


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive bytes inside an open file."""

    descriptor: int
    offset: int
    count: int


def size_of(content: Content) -> int:
    """Length in bytes."""
    if isinstance(content, bytes):
        return len(content)
    if isinstance(content, Random):
        return content.size
    if isinstance(content, Symlink):
        return len(content.target.encode())
    return content.stat().st_size


def read(content: Content, begin: int, end: int) -> bytes:
    """Bytes from `begin` to before `end`, fewer where the content ends."""
    if isinstance(content, Symlink):
        content = content.target.encode()
    if isinstance(content, bytes):
        return content[begin:end]
    with runs(content, begin, end) as parts:
        return b"".join(os.pread(part.descriptor, part.count, part.offset) for part in parts)


@contextmanager
def runs(content: Path | Random, begin: int, end: int) -> Iterator[Iterator[Run]]:
    """The pieces of open files, at most 1 MiB each, that make up a range; fit for `os.sendfile`."""
    if isinstance(content, Random):
        yield _random_runs(content, begin, min(end, content.size))
        return
    descriptor = os.open(content, os.O_RDONLY | os.O_CLOEXEC)
    try:
        stop = min(end, os.fstat(descriptor).st_size)
        yield (
            Run(descriptor=descriptor, offset=at, count=min(_READ_BYTES, stop - at))
            for at in range(begin, stop, _READ_BYTES)
        )
    finally:
        os.close(descriptor)


def _random_runs(content: Random, begin: int, end: int) -> Iterator[Run]:
    descriptor = _period()
    while begin < end:
        offset = (content.shift + begin) % PERIOD_BYTES
        count = min(_READ_BYTES, PERIOD_BYTES - offset, end - begin)
        yield Run(descriptor=descriptor, offset=offset, count=count)
        begin += count


@cache
def _period() -> int:
    """One period of random bytes in a file without a name, shared by all random files of this process."""
    descriptor = os.memfd_create("fake-hub")
    os.truncate(descriptor, PERIOD_BYTES)
    data = random.Random(PERIOD_BYTES).randbytes(PERIOD_BYTES)
    os.pwrite(descriptor, data, 0)
    return descriptor


def sha256_of(content: Content) -> str:
    """SHA-256 of the content, kept for the next time it is asked for."""
    return _sha256(content, _stamp(content))


def git_oid_of(content: Content) -> str:
    """The id under which git stores the content itself."""
    return _git_oid(content, _stamp(content))


def pointer_of(content: Content) -> bytes:
    """The text that git stores in place of a file in LFS (github.com/git-lfs/git-lfs, docs/spec.md)."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256_of(content)}\nsize {size_of(content)}\n"
    return text.encode()


def _stamp(content: Content) -> tuple[int, int]:
    """What tells that a file on disk has changed."""
    if not isinstance(content, Path):
        return (0, 0)
    found = content.stat()
    return (found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(content: Content, stamp: tuple[int, int]) -> str:
    return _digest(content, hashlib.sha256())


@lru_cache(maxsize=4096)
def _git_oid(content: Content, stamp: tuple[int, int]) -> str:
    return _digest(content, hashlib.sha1(b"blob %d\0" % size_of(content), usedforsecurity=False))


def _digest(content: Content, digest: hashlib._Hash) -> str:
    if isinstance(content, bytes | Symlink):
        digest.update(read(content, 0, size_of(content)))
        return digest.hexdigest()
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    with runs(content, 0, size_of(content)) as parts:
        for part in parts:
            count = os.preadv(part.descriptor, [view[: part.count]], part.offset)
            digest.update(view[:count])
    return digest.hexdigest()
