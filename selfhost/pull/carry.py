"""Verified files on their way out: hashed once more as they are read, and without what only concerns this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit

from selfhost.errors import VerifyError
from selfhost.pull.hashing import PIECE_BYTES, Count
from selfhost.pull.stage import Abandoned
from selfhost.pull.types import LOCK_NAME, Lock, LockedFile, Snapshot

Put = Callable[[bytes | memoryview], None]


def public(lock: Lock) -> Lock:
    """The lock as others may see it: a mirror's address may carry a name and a password, which stay here."""
    parts = urlsplit(lock.endpoint)
    host = parts.netloc.rpartition("@")[2]
    return replace(lock, endpoint=urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")))


def copy_checked(
    snapshot: Snapshot,
    file: LockedFile,
    put: Put,
    stop: Event,
    *,
    report: Count | None = None,
    hashed: bool = False,
) -> None:
    """Give a file's bytes on, and refuse it at the end where they are not the ones of the lock.

    Args:
        snapshot: where the file is.
        file: what it has to be.
        put: takes the bytes.
        stop: set when the work should end.
        report: told how many bytes went by.
        hashed: the caller compares the hash, so that it is not worked out twice.

    Raises:
        VerifyError: length or hash differ, or the file cannot be read.
        Abandoned: `stop` was set.
    """
    digest = None if hashed else hashlib.sha256()
    left = file.size_bytes
    view = memoryview(bytearray(PIECE_BYTES))
    try:
        source = snapshot.path(file).open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(snapshot, file, error) from None
    with source:
        while True:
            try:
                got = source.readinto(view[: min(PIECE_BYTES, left + 1)])
            except OSError as error:
                raise _unreadable(snapshot, file, error) from None
            if stop.is_set():
                raise Abandoned
            if not got or got > left:
                break
            if digest is not None:
                digest.update(view[:got])
            put(view[:got])
            left -= got
            if report is not None:
                report(got)
    if got or left or (digest is not None and digest.hexdigest() != file.sha256):
        raise changed(snapshot, file)


def changed(snapshot: Snapshot, file: LockedFile) -> VerifyError:
    """The error for a file that was verified and is another one now."""
    return VerifyError(
        f"{snapshot.path(file)} is no longer what {LOCK_NAME} says.", hint="pull the model again."
    )


def _unreadable(snapshot: Snapshot, file: LockedFile, error: OSError) -> VerifyError:
    return VerifyError(f"{snapshot.path(file)} cannot be read: {error.strerror or error}.")


def write_all(out: BinaryIO, data: bytes | memoryview) -> None:
    """Write every byte to an unbuffered file."""
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]
