"""Stop a server of this machine, and remove what was made for it: never a process or a file of anybody else."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress

from selfhost.errors import OutputError
from selfhost.local import boxes
from selfhost.local.processes import alive, end, of_run
from selfhost.local.store import WEIGHTS, Store
from selfhost.local.types import Running, Wanted

# Ours: a watcher that was just started has not said yet who it is.
_BIRTH_SECONDS, _PAUSE_SECONDS = 5.0, 0.1


def stop(store: Store, wanted: Wanted, *, sleep: Callable[[float], object] = time.sleep) -> bool:
    """Let running requests finish, and end every process of the run.

    Args:
        store: its files.
        wanted: what was started.
        sleep: of the machine.

    Returns:
        Whether anything ran.

    Raises:
        OutputError: something of it cannot be ended.
    """
    if wanted.way != "process":
        return boxes.stop(store, wanted)
    running = store.read(Running)
    waited = 0.0
    while running is None and store.being_born(wanted) and waited < _BIRTH_SECONDS:
        sleep(_PAUSE_SECONDS)
        waited += _PAUSE_SECONDS
        running = store.read(Running)
    # What runs may be of an earlier start than the one that was last written down.
    runs = {wanted.run} | ({running.run} if running is not None else set())
    watcher = running.watcher if running is not None and alive(running.watcher) else None
    ran = False
    for run in runs:
        if of_run(run):
            ran = True
            mine = running if running is not None and running.run == run else None
            first, engine = (watcher, mine.engine) if mine is not None else (None, None)
            if not end(run, first, engine, within_seconds=wanted.stop_seconds, sleep=sleep):
                raise OutputError(
                    f"Processes of {store.name} do not end: {', '.join(str(one.pid) for one in of_run(run))}.",
                    hint="They wait for a device or a disk; try again, or restart the machine.",
                )
    return ran


def down(store: Store, *, with_weights: bool, sleep: Callable[[float], object] = time.sleep) -> bool:
    """Stop a server and remove its files; its weights stay unless told otherwise.

    Args:
        store: its files.
        with_weights: remove weights that were fetched or made for it, too.
        sleep: of the machine.

    Returns:
        Whether there was anything to stop or to remove.
    """
    if not store.folder.is_dir():
        return False
    with store.lock(sleep=sleep):
        wanted = store.read(Wanted)
        ran = stop(store, wanted, sleep=sleep) if wanted is not None else False
        if wanted is not None and wanted.way != "process":
            boxes.remove(store, wanted, with_weights=with_weights)
        removed = _remove(store, with_weights=with_weights)
    return ran or removed or wanted is not None


def _remove(store: Store, *, with_weights: bool) -> bool:
    """Everything that was made, the locks last; the folder goes with its last file."""
    removed, locks = False, []
    with os.scandir(store.folder) as found:
        entries = tuple(found)
    for entry in entries:
        if entry.name == WEIGHTS and not with_weights:
            continue
        if entry.name.endswith(".lock"):
            locks.append(entry.path)
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
        removed = True
    for path in locks:
        with suppress(OSError):
            os.unlink(path)
    with suppress(OSError):  # weights that were kept
        store.folder.rmdir()
    return removed
