"""What watches over an engine: started apart from the command, it starts the engine, and notes how it ended.

Run as `python -m selfhost.local.supervise FOLDER`. The engine gets its environment and the API key from this process's;
no file holds the key. It is not started again when it dies: the next `selfhost up` says why, and starts it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from selfhost.local.processes import of_run, send, this
from selfhost.local.store import LOG, read_file, watch_lock, write_file
from selfhost.local.types import RUN_VARIABLE, Ended, Process, Running, Wanted

BUSY = 75  # another one watches over it (EX_TEMPFAIL of sysexits.h)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(folder: Path) -> int:
    """Start the engine that the folder's wanted.json names, and stay until it has ended."""
    lock = watch_lock(folder)
    wanted = read_file(folder, Wanted)
    run = os.environ.get(RUN_VARIABLE)
    if lock is None or wanted is None or wanted.run != run:
        return BUSY
    me = this(os.getpid())
    assert me is not None
    asked: list[int] = []
    engine: list[subprocess.Popen[bytes]] = []

    def told(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for one in engine:
            with suppress(OSError):
                one.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    started = time.time()
    write_file(folder, Running(run=wanted.run, watcher=me, engine=None, started=started))
    try:
        child = _start(wanted, folder)
    except OSError as error:
        words = f"{wanted.words[0]} cannot be started: {(error.strerror or 'error').lower()}"
        _note(folder, wanted, None, asked=bool(asked), words=words)
        return 1
    engine.append(child)
    if asked:  # told between the handler's being there and the engine's
        child.send_signal(signal.SIGTERM)
    write_file(folder, Running(run=wanted.run, watcher=me, engine=_process(child), started=started))
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    # What it left behind goes with it: it holds memory, and nobody reads its answers.
    for one in of_run(wanted.run):
        if one.pid not in (me.pid, child.pid):
            send(one, signal.SIGKILL)
    code = child.wait()
    _note(folder, wanted, code, asked=bool(asked))
    return 0


def _start(wanted: Wanted, folder: Path) -> subprocess.Popen[bytes]:
    # PYTHONPATH is this process's own: where selfhost is imported from.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = kept | {one.name: one.value for one in wanted.env}
    with open(folder / LOG, "ab") as log:
        return subprocess.Popen(
            list(wanted.words),
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=_die_with_me(os.getpid()),  # noqa: PLW1509 - there is one thread here
        )


def _die_with_me(parent: int) -> Callable[[], None]:
    """What the engine does before it begins: it ends when this process is killed, so that nobody is left unwatched."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)

    def tied() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tied


def _process(child: subprocess.Popen[bytes]) -> Process | None:
    return this(child.pid)


def _note(folder: Path, wanted: Wanted, code: int | None, *, asked: bool, words: str = "") -> None:
    with suppress(Exception):  # the folder may be gone by now: `down` takes it away
        write_file(
            folder,
            Ended(
                run=wanted.run,
                code=code if code is not None and code >= 0 else None,
                signal=-code if code is not None and code < 0 else None,
                at=time.time(),
                asked=asked,
                words=words,
            ),
        )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
