"""Work on a second core: numbers that a forked process computes while this one goes on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

Columns = Sequence[Sequence[float]]


def _can_fork() -> bool:
    """Whether there is a second core, and a fork is safe: on Linux, in a process of one thread."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1 and threading.active_count() == 1


@contextmanager
def beside(work: Callable[[], Columns]) -> Iterator[Callable[[], Columns]]:
    """Begin a work beside what the block does.

    Args:
        work: columns of numbers, computed from what is known now and without any effect.

    Yields:
        What waits for the columns. Where there is no second core, or the other process was killed, it computes them.
    """
    if not _can_fork():
        yield work
        return
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(work, reading, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        try:
            yield lambda: _columns(pipe.read()) or work()
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)  # it has ended, unless the block did not wait for it
            os.waitpid(child, 0)


def _answer(work: Callable[[], Columns], reading: int, writing: int) -> None:
    """What the other process does: it ends here, whatever happens, without anything of its parent's clean-up."""
    try:
        os.close(reading)
        columns = [array("d", column) for column in work()]
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(array("q", [len(columns), *map(len, columns)]).tobytes())
            pipe.writelines(column.tobytes() for column in columns)
    finally:
        os._exit(0)


def _columns(data: bytes) -> list[list[float]]:
    """What was written; nothing where that is not whole."""
    counts = array("q", data[:8]) if len(data) >= 8 else array("q", [0])
    head = 8 * (1 + counts[0])
    lengths = array("q", data[8:head])
    values = array("d")
    if len(data) != head + 8 * sum(lengths):
        return []
    values.frombytes(data[head:])
    columns: list[list[float]] = []
    at = 0
    for length in lengths:
        columns.append(values[at : at + length].tolist())
        at += length
    return columns
