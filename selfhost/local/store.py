"""Where the servers of this machine are kept: a folder for each, files that are whole or absent, one lock each."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar, cast

from selfhost import strict
from selfhost.errors import OutputError, PlanFormatError, SelfhostError, UsageError
from selfhost.local.processes import of_run
from selfhost.local.types import Ended, Running, Wanted
from selfhost.plan import Plan, read_plan, to_json
from selfhost.plan.check import NAME

T = TypeVar("T", Wanted, Running, Ended)

PLAN, WANTED, RUNNING, ENDED, LOG = "plan.json", "wanted.json", "running.json", "ended.json", "engine.log"
WEIGHTS, HOME = "weights", "home"
_FILES = {Wanted: WANTED, Running: RUNNING, Ended: ENDED}
_UP_LOCK, _WATCHER_LOCK = "up.lock", "watcher.lock"
# Ours: who holds the lock does it for the seconds of a start or a stop.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 120.0, 0.1


def root() -> Path:
    """The folder of all of them (XDG Base Directory Specification 0.8: XDG_STATE_HOME)."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "selfhost" / "local"


def names() -> tuple[str, ...]:
    """Of everything that is or was running, and of weights that were kept."""
    try:
        found = [entry.name for entry in os.scandir(root()) if entry.is_dir() and NAME.fullmatch(entry.name)]
    except OSError:
        return ()
    return tuple(sorted(found))


class Store:
    """The files of one server."""

    def __init__(self, name: str) -> None:
        """Nothing is made yet.

        Raises:
            UsageError: it is no name of a deployment.
        """
        if NAME.fullmatch(name) is None:
            raise UsageError(
                f"{name[:80]!a} is no name of a deployment.", hint="`selfhost status --local` lists them."
            )
        self.name = name
        self.folder = root() / name

    @property
    def log(self) -> Path:
        """What the engine prints."""
        return self.folder / LOG

    @property
    def weights(self) -> Path:
        """Weights that were fetched or made for it."""
        return self.folder / WEIGHTS

    def make(self) -> None:
        """Make the folder, for this user alone.

        Raises:
            OutputError: it cannot be made.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be made: {(error.strerror or 'error').lower()}.",
                hint="Set XDG_STATE_HOME to a directory that can be written.",
            ) from None

    def read(self, kind: type[T]) -> T | None:
        """One of the files; None where there is none, or one that cannot be read."""
        return read_file(self.folder, kind)

    def write(self, value: Wanted | Running | Ended) -> None:
        """Put one of the files in its place, whole."""
        write_file(self.folder, value)

    def plan(self) -> Plan | None:
        """The plan that it runs by."""
        path = self.folder / PLAN
        try:
            return read_plan(path) if path.is_file() else None
        except SelfhostError:
            return None

    def write_plan(self, plan: Plan) -> None:
        """Keep the plan."""
        replace_file(self.folder / PLAN, to_json(plan))

    def forget(self, kind: type[Wanted] | type[Running] | type[Ended]) -> None:
        """Remove one of the files."""
        (self.folder / _FILES[kind]).unlink(missing_ok=True)

    @contextmanager
    def lock(self, *, sleep: Callable[[float], object] = time.sleep) -> Iterator[None]:
        """Change it alone: `up` and `down` of one name wait for each other; a killed one lets go by itself.

        Raises:
            OutputError: another one does not come to an end.
        """
        waited, held = 0.0, None
        while True:
            self.make()
            with suppress(FileNotFoundError):  # `down` took the folder away between the two lines
                held = held_lock(self.folder / _UP_LOCK)
            if held is not None:
                break
            if waited >= _PATIENCE_SECONDS:
                raise OutputError(
                    f"Another command has been at work on {self.name} for {int(waited)} s.",
                    hint="Let it end, or stop it, then try again.",
                )
            sleep(_PAUSE_SECONDS)
            waited += _PAUSE_SECONDS
        try:
            yield
        finally:
            os.close(held)

    def being_born(self, wanted: Wanted) -> bool:
        """Whether a watcher was started that has not said yet who it is: a Python takes a moment to begin."""
        if (self.folder / RUNNING).exists():
            return False
        return bool(of_run(wanted.run))


def watch_lock(folder: Path) -> int | None:
    """The lock that a watcher holds as long as it lives; None where another one does."""
    return held_lock(folder / _WATCHER_LOCK)


def held_lock(path: Path) -> int | None:
    """An open file that is locked for this process alone, None while another holds it.

    The lock goes with the process, however that ends. A file that was removed meanwhile is no lock: then it is
    tried again with the one that is there now.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        with suppress(OSError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)


def read_file(folder: Path, kind: type[T]) -> T | None:
    """A file of a server's folder, None where there is none or it is not as it should be."""

    def refuse(sentence: str) -> SelfhostError:
        return PlanFormatError(sentence)

    try:
        data = strict.parse((folder / _FILES[kind]).read_text(encoding="utf-8"), refuse)
        return cast("T", strict.decode(kind, data, "", refuse))
    except (OSError, ValueError, SelfhostError):
        return None


def write_file(folder: Path, value: Wanted | Running | Ended) -> None:
    """Write a file of a server's folder, whole or not at all."""
    replace_file(folder / _FILES[type(value)], json.dumps(strict.encode(value), indent=2) + "\n")


def replace_file(path: Path, text: str) -> None:
    """Write beside the file and put it in its place.

    Raises:
        OutputError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise OutputError(f"{path} cannot be written: {(error.strerror or 'error').lower()}.") from None
