"""Results that are there whole or not at all: written beside their place under another name, and moved there last."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import TypeVar

from selfhost.errors import OutputError, SelfhostError
from selfhost.pull.lockfile import sync_directory
from selfhost.units import size_text

T = TypeVar("T")
R = TypeVar("R")

MOST_WORKERS = 4  # threads that hash; each holds one piece in memory
_NEW_SECONDS = 10.0  # a folder this young may be one that its process has not locked yet
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Abandoned(Exception):  # noqa: N818 -- no error of its own: another part of the same work failed
    """The work ends because another part of it failed."""


@contextmanager
def stage(out: Path, *, need_bytes: int = 0) -> Iterator[Path]:
    """An empty folder beside `out` that is gone afterwards, whatever happens.

    Folders that a killed process left are cleared away; a living process holds a lock on its own.

    Args:
        out: where the result will stand.
        need_bytes: how much will be written, checked against the free space first.

    Raises:
        OutputError: it cannot be made, or the disk has too little room, or the block met an OSError.
    """
    folder: Path | None = None
    descriptor = -1
    try:
        parent = out.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{out.name[:100]}.selfhost-"
        _clear(parent, prefix)
        _check_room(parent, out, need_bytes)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except OSError as error:
        raise write_error(error, out) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def publish(made: Path, out: Path) -> None:
    """Move a finished file or folder from its stage to its place; what stood there before goes into the stage.

    Raises:
        OSError: it cannot be moved.
    """
    if made.is_dir() and out.is_dir():
        # rename(2) puts a folder over an empty one only, so the place is empty for a moment.
        out.rename(made.with_name("before"))
    made.replace(out)
    sync_directory(out.absolute().parent)


def write_error(error: OSError, out: Path) -> SelfhostError:
    """What a failed write means to a user, where nothing of it stays."""
    if error.errno in _FULL:
        return OutputError(
            f"The disk of {out} is full.", hint="make room or name another disk; nothing was left behind."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return OutputError(
            f"Cannot write {out}: {error.strerror}.", hint="choose a place that you may write."
        )
    where = f" ({error.filename})" if error.filename and str(error.filename) != str(out) else ""
    return OutputError(f"Cannot write {out}: {error.strerror or error}{where}.")


def each(items: Sequence[T], work: Callable[[T, Event], R], *, workers: int | None = None) -> list[R]:
    """`work` on every item in a few threads, results in order; the first error ends the others and is raised.

    Args:
        items: what to work on; long items first end sooner.
        work: is given an item and an event that is set when it should give up, by raising `Abandoned`.
        workers: threads; None takes one for each processor, at most `MOST_WORKERS`.
    """
    stop = Event()
    count = workers or min(MOST_WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=max(1, min(count, len(items)))) as pool:
        futures = [pool.submit(work, item, stop) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise
    return [future.result() for future in futures]


def _check_room(parent: Path, out: Path, need_bytes: int) -> None:
    free = shutil.disk_usage(parent).free
    if need_bytes > free:
        raise OutputError(
            f"{out} takes {size_text(need_bytes)}, and its disk has {size_text(free)} left.",
            hint="make room or name another disk.",
        )


def _clear(parent: Path, prefix: str) -> None:
    """Remove stages whose process is gone."""
    for path in parent.iterdir():
        if not path.name.startswith(prefix):
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(descriptor).st_mtime > _NEW_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(descriptor)
