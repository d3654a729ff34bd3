"""One revision at a time in a directory: pulls of the same share it, a pull of another is refused."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selfhost.errors import OutputError
from selfhost.pull.part import disk_error
from selfhost.pull.places import Directory, Place, enter
from selfhost.pull.types import WORK_NAME

_NAME = "pulling"
_MOST_BYTES = 512
_TRIES = 100  # others hold it against us for a moment only, while they begin or end
_WAIT_SECONDS = 0.05

Alone = Callable[[], bool]


@contextmanager
def claimed(place: Place, model: str) -> Iterator[Alone]:
    """Hold a directory for one revision of a model; the kernel lets go when the process ends, however it ends.

    Without it two pulls of two revisions would replace each other's files, and the first to end would state as
    verified what the other is changing. The Hub's cache keeps revisions apart and needs none.

    Args:
        place: the destination.
        model: `ORG/NAME@COMMIT`.

    Yields:
        Says whether no other pull is here, and then keeps all others out; to be asked last.

    Raises:
        OutputError: another pull is bringing something else there; or the directory cannot be written.
    """
    if not isinstance(place, Directory):
        yield lambda: True
        return
    try:
        place.root.mkdir(parents=True, exist_ok=True)
        path = enter(place.root, Path(WORK_NAME)) / _NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o664)
    except OSError as error:
        raise disk_error(error, place.root) from None
    try:
        try:
            other = _claim(descriptor, model)
        except OSError as error:
            raise disk_error(error, path) from None
        if other is not None:
            raise OutputError(
                f"Another pull is bringing {other} into {place.root}.",
                hint="wait until it ends, or name another --dir.",
            )
        yield lambda: _locked(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _claim(descriptor: int, model: str) -> str | None:
    """What another pull has claimed, None where the claim is ours."""
    for _ in range(_TRIES):
        first = _locked(descriptor, fcntl.LOCK_EX)
        if first:
            with suppress(OSError):  # a full disk says so where it matters
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, model.encode(), 0)
        # One lock is given up before the other is got, so what the file says is read after.
        if _locked(descriptor, fcntl.LOCK_SH):
            other = os.pread(descriptor, _MOST_BYTES, 0).decode(errors="replace")
            return other if other and other != model else None
        time.sleep(_WAIT_SECONDS)
    return None


def _locked(descriptor: int, kind: int) -> bool:
    """Whether a lock was got; always on a file system without flock(2)."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
