"""What is kept of a server that runs on this machine: what is wanted, what was started, how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from selfhost.deploy.types import Cause
from selfhost.manifests.options import RenderOptions

SCHEMA = "selfhost/local/v1"
RUN_VARIABLE = (
    "SELFHOST_LOCAL_RUN"  # in the environment of every process of a run: what tells them from all others
)

Way = Literal["process", "compose", "systemd"]
Phase = Literal["stopped", "starting", "ready", "unhealthy", "stopping", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A variable of the engine's environment; never a secret."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A server as it is to run: written before anything is started, and read by what starts it.

    Args:
        schema: of this file.
        run: random, of this start alone.
        name: of the deployment.
        way: by what it runs.
        words: the engine's program and arguments, of a process.
        env: its environment without secrets.
        host: where it listens.
        port: likewise.
        health_path: answers 200 once it serves.
        plan_hash: of the plan.
        hash: of everything that makes a difference: two of the same are the same server.
        created: UTC time in ISO 8601.
        start_seconds: how long it may take to be ready.
        stop_seconds: how long it may take to end.
        key_file: file with the API key, None where nobody is asked for one; the key itself is kept nowhere.
        key_stamp: when that file was changed last, so that a new key is noticed.
        files: hash of the rendered files, of Compose or systemd.
        units: of systemd, in the order in which they start.
        tool: the words before Compose's own, as `docker compose`.
    """

    schema: str = SCHEMA
    run: str
    name: str
    way: Way
    words: tuple[str, ...] = ()
    env: tuple[Setting, ...] = ()
    host: str
    port: int
    health_path: str
    plan_hash: str
    hash: str
    created: str
    start_seconds: int
    stop_seconds: int
    key_file: str | None = None
    key_stamp: str = ""
    files: str = ""
    units: tuple[str, ...] = ()
    tool: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """How this machine calls it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process, and what tells it from a later one with the same number.

    Args:
        pid: its number.
        ticks: when it began, in clock ticks since the machine started (proc_pid_stat(5), field 22).
        boot: which start of the machine that was.
    """

    pid: int
    ticks: int
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What was started; written by what watches over it."""

    schema: str = SCHEMA
    run: str
    watcher: Process
    engine: Process | None
    started: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How it ended.

    Args:
        schema: of this file.
        run: which start it was.
        code: exit status; None where a signal ended it or it never began.
        signal: that ended it.
        at: Unix time, seconds.
        asked: whether it had been told to end.
        words: why it never began.
    """

    schema: str = SCHEMA
    run: str
    code: int | None
    signal: int | None
    at: float
    asked: bool
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to go about it.

    Args:
        timeout_seconds: for the start; None takes the plan's own.
        smoke: try the endpoint once it is ready.
        host: where to listen.
        port: None takes the plan's.
        key_file: file with the key that clients have to send.
        way: by what it runs.
        cache: the Hub's cache that holds the weights, of a process; None for the server's own.
        python: interpreter of the engine's environment, for a service of systemd.
        env: more variables of the engine, of a process: which GPUs it may see.
        options: what the files of Compose or systemd are rendered with.
        dry_run: say what would be done, and do nothing.
    """

    timeout_seconds: float | None = None
    smoke: bool = True
    host: str = "127.0.0.1"
    port: int | None = None
    key_file: Path | None = None
    way: Way = "process"
    cache: Path | None = None
    python: str = ""
    env: tuple[Setting, ...] = ()
    options: RenderOptions = field(default_factory=RenderOptions)
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A server of this machine as it is now.

    Args:
        name: of the deployment.
        way: by what it runs.
        phase: in a word.
        address: where it answers.
        model: what it serves.
        since: Unix time at which it was started; None where it was not.
        memory_bytes: of all its processes, shared pages divided; None where nobody knows.
        planned_bytes: what the plan allows it.
        cause: why it failed.
        log: path of its log.
        plan_hash: of its plan.
        leftover: processes that run on without what watched over them.
    """

    name: str
    way: Way
    phase: Phase
    address: str
    model: str
    since: float | None = None
    memory_bytes: int | None = None
    planned_bytes: int | None = None
    cause: Cause | None = None
    log: str = ""
    plan_hash: str = ""
    leftover: tuple[int, ...] = field(default=())
