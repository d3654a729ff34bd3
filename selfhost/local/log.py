"""What the engine of a server of this machine has printed, and goes on to print."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from selfhost.errors import UsageError
from selfhost.local.processes import alive as is_alive
from selfhost.local.store import Store
from selfhost.local.types import Running

_PAUSE_SECONDS = 0.25  # Ours: a file tells nobody that it has grown; people read no faster
_LONGEST_LINE = 64 << 10


def lines_of(
    name: str,
    tail: int,
    *,
    follow: bool = False,
    alive: Callable[[], bool] | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[str]:
    """The last lines of a log, and those that come.

    Args:
        name: of the server.
        tail: how many of what is there.
        follow: go on until the server has ended.
        alive: whether it still runs; its watcher tells by default.
        sleep: waits between two looks.

    Raises:
        UsageError: it keeps no log here, as containers and units do.
    """
    store = Store(name)
    running = alive or (lambda: _is_watched(store))
    try:
        file = store.log.open(encoding="utf-8", errors="replace")
    except OSError:
        raise UsageError(
            f"{name} has no log of its own here.", hint="`docker compose logs` or `journalctl -u` have it."
        ) from None
    with file:
        yield from (line.rstrip("\n") for line in deque(file, maxlen=tail))
        rest = ""
        while follow:
            lives = running()  # before the file, so that its last lines are read
            while piece := file.readline(_LONGEST_LINE):
                rest += piece
                if rest.endswith("\n") or len(rest) >= _LONGEST_LINE:
                    yield rest.rstrip("\n")
                    rest = ""
            if not lives:
                break
            sleep(_PAUSE_SECONDS)
        if rest:
            yield rest


def _is_watched(store: Store) -> bool:
    running = store.read(Running)
    return running is not None and is_alive(running.watcher)
