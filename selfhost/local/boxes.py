"""A plan on this machine by Compose or by systemd: what the targets of those names render, started and stopped."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from selfhost.cluster.values import printable
from selfhost.deploy.types import Cause, Event, Tell
from selfhost.errors import SelfhostError, UnsupportedError
from selfhost.hush import hushed
from selfhost.local.command import hash_of_plan, key_stamp, sealed, start_seconds
from selfhost.local.endpoint import healthy
from selfhost.local.store import Store
from selfhost.local.types import Phase, Seen, Settings, Wanted
from selfhost.manifests.box import stop_seconds
from selfhost.plan import Plan

if TYPE_CHECKING:
    from selfhost.local.wait import Outcome
    from selfhost.manifests import Manifests, RenderOptions

_KEY_NAME = "api-key"
_FOLDERS = {"compose": "compose", "systemd": "units"}
_PAUSE_SECONDS, _TELL_SECONDS = 1.0, 10.0
_QUICK_SECONDS = 30.0
_FETCH_SECONDS = 6 * 3600.0  # ours: an image of 10 GB over a slow line
# Where systemd looks for units of the administrator (systemd.unit(5)), and what the units themselves name.
UNITS = Path("/etc/systemd/system")
KEYS = Path("/etc/selfhost")
PROGRAMS = Path("/opt/selfhost")
STATE, CACHE = Path("/var/lib/selfhost"), Path("/var/cache/selfhost")
# systemd's words for a unit's state (systemctl(1)).
_STATES = {"active": "running", "activating": "running", "reloading": "running", "failed": "failed"}
# Compose as a part of Docker or Podman, or a program of its own.
_TOOLS = (("docker", "compose"), ("podman", "compose"), ("podman-compose",), ("docker-compose",))


class BoxError(SelfhostError):
    """Compose or systemd did not do what it was told."""

    exit_code = 5


def compose_tool() -> tuple[str, ...]:
    """The words that Compose is called with, of the first that is here and whose engine answers.

    Raises:
        UnsupportedError: there is none.
    """
    for words in _TOOLS:
        alone = len(words) == 1
        if (
            shutil.which(words[0])
            and _answers((*words, "version"))
            and (alone or _answers((words[0], "info")))
        ):
            return words
    raise UnsupportedError(
        "No Docker or Podman with Compose answers on this machine.",
        hint="Start its service, or leave --with compose out.",
    )


def _answers(words: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False, timeout=_QUICK_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def wanted(plan: Plan, settings: Settings, *, run: str, created: str) -> Wanted:
    """What to start.

    Raises:
        UnsupportedError: no Compose or systemd here, or no right to use it, or another port than the plan's.
    """
    if settings.port not in (None, plan.engine.port):
        raise UnsupportedError(
            f"The rendered files listen at {plan.engine.port}.",
            hint="--port goes with a process: leave --with out.",
        )
    units: tuple[str, ...] = ()
    tool: tuple[str, ...] = ()
    texts = [
        f"{one.name}\n{one.text}" for one in _rendered(plan, settings).documents if one.name != "plan.json"
    ]
    if settings.way == "compose":
        tool = compose_tool()
    else:
        units = _units(plan)
    found = Wanted(
        run=run,
        name=plan.name,
        way=settings.way,
        host=settings.host,
        port=plan.engine.port,
        health_path=plan.engine.health_path,
        plan_hash=hash_of_plan(plan),
        hash="",
        created=created,
        start_seconds=start_seconds(plan, settings) + plan.clocks.download_deadline_seconds.value,
        stop_seconds=stop_seconds(plan)[0],
        key_file=None if settings.key_file is None else str(settings.key_file.resolve()),
        key_stamp=key_stamp(settings.key_file),
        files=hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16],
        units=units,
        tool=tool,
    )
    return sealed(found)


def _units(plan: Plan) -> tuple[str, ...]:
    if shutil.which("systemctl") is None:
        raise UnsupportedError("There is no systemd on this machine.", hint="Leave --with systemd out.")
    if os.geteuid() != 0:
        raise UnsupportedError("Units of the machine are installed by root.", hint="Run it with sudo.")
    fetch = (f"{plan.name}-download.service",) if plan.weights.kind == "hub" else ()
    return (*fetch, f"{plan.name}.service")


def render_options(plan: Plan, settings: Settings) -> RenderOptions:
    """What the files are rendered with: what was asked for, and what this machine knows."""
    made = settings.options
    made = replace(made, box=replace(made.box, bind=settings.host))
    if settings.way == "systemd" and settings.python and made.box.engine_bin is None:
        made = replace(made, box=replace(made.box, engine_bin=str(Path(settings.python).parent / "vllm")))
    if settings.key_file is not None:
        made = replace(made, access=replace(made.access, api_key_secret=_KEY_NAME))
    if plan.weights.kind != "hub" and made.weights.uri is None:  # the directory that the plan was made of
        made = replace(
            made, weights=replace(made.weights, uri=f"hostpath:{Path(plan.model.source).resolve()}")
        )
    return made


def _rendered(plan: Plan, settings: Settings) -> Manifests:
    from selfhost.manifests import render

    return render(plan, target=settings.way, options=render_options(plan, settings))


def start(store: Store, wanted: Wanted, plan: Plan, settings: Settings, key: str | None) -> None:
    """Start what was rendered.

    Raises:
        BoxError: it is refused; the sentence is the tool's own last line.
    """
    from selfhost.manifests import write_manifests

    folder = store.folder / _FOLDERS[wanted.way]
    write_manifests(_rendered(plan, settings), folder)
    if wanted.way == "compose":
        if key is not None:
            _secret(folder / "secrets" / _KEY_NAME, plan, key)
        _call((*_compose(store, wanted), "up", "--detach", "--remove-orphans"), seconds=_FETCH_SECONDS)
        return
    for unit in wanted.units:
        shutil.copyfile(folder / unit, UNITS / unit)
    archive = folder / "selfhost.pyz"
    if archive.is_file():
        (PROGRAMS / plan.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive, PROGRAMS / plan.name / archive.name)
    if key is not None:
        _secret(KEYS / plan.name / _KEY_NAME, plan, key)
    _call(("systemctl", "daemon-reload"))
    # It does not wait for the start, which is looked at here; the download is started by what requires it.
    _call(("systemctl", "start", "--no-block", wanted.units[-1]))


def _secret(path: Path, plan: Plan, key: str) -> None:
    """The key as the engine's file has it, for the reader alone: what Compose and systemd take it from."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = plan.engine.key.file_text.replace("{key}", key) if plan.engine.key is not None else key
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{text}\n")


def _compose(store: Store, wanted: Wanted) -> tuple[str, ...]:
    file = store.folder / _FOLDERS["compose"] / "compose.yaml"
    return (*wanted.tool, "--project-name", f"selfhost-{store.name}", "--file", str(file))


def _call(words: tuple[str, ...], *, seconds: float = _QUICK_SECONDS * 4) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BoxError(f"{words[0]} does not come to an end within {seconds:,.0f} s.") from None
    except OSError as error:
        raise BoxError(f"{words[0]} cannot be run: {(error.strerror or 'error').lower()}.") from None
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        last = printable(hushed(said[-1].strip())) if said else f"status {done.returncode}"
        raise BoxError(f"{' '.join(words[:2])} did not do it: {last.rstrip('.')}.")
    return done.stdout


def look(store: Store, wanted: Wanted, *, model: str, planned_bytes: int | None) -> Seen:
    """One server as it is now."""
    cause = None
    state = _state(store, wanted)
    phase: Phase = "stopped"
    if state == "running":
        phase = "ready" if healthy(wanted.address, wanted.health_path) else "starting"
    elif state == "failed":
        phase = "failed"
        cause = Cause(
            code="service",
            sentence=f"The {'containers' if wanted.way == 'compose' else 'services'} of {store.name} have failed.",
            hint=log_command(store, wanted),
            final=True,
        )
    return Seen(
        name=store.name, way=wanted.way, phase=phase, address=wanted.address, model=model,
        planned_bytes=planned_bytes, cause=cause, plan_hash=wanted.plan_hash, log="",
    )  # fmt: skip


def log_command(store: Store, wanted: Wanted) -> str:
    """The command that shows its log."""
    if wanted.way == "compose":
        return " ".join((*_compose(store, wanted), "logs"))
    return f"journalctl --unit {wanted.units[-1]}"


def _state(store: Store, wanted: Wanted) -> str:
    """`running`, `failed` or `stopped`."""
    if wanted.way == "compose":
        try:
            rows = _call((*_compose(store, wanted), "ps", "--all", "--format", "{{.State}} {{.ExitCode}}"))
        except BoxError:
            return "stopped"
        states = [line.split() for line in rows.splitlines() if line.strip()]
        if any(
            words[0] in ("restarting", "dead") or (words[0] == "exited" and words[-1] != "0")
            for words in states
        ):
            return "failed"
        return "running" if any(words[0] in ("running", "created") for words in states) else "stopped"
    with suppress(BoxError):
        said = _call(("systemctl", "show", "--property", "ActiveState", "--value", wanted.units[-1])).strip()
        return _STATES.get(said, "stopped")
    return "stopped"


def wait(
    store: Store,
    wanted: Wanted,
    plan: Plan,
    tell: Tell,
    *,
    key: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Outcome:
    """Look until it answers, has failed, or takes too long."""
    from selfhost.local.wait import Outcome

    began = clock()
    told = began - _TELL_SECONDS
    while True:
        now = clock()
        kept = store.read(Wanted)
        if kept is None or kept.run != wanted.run:
            return Outcome(state="gone", seconds=now - began)
        seen = look(store, wanted, model=plan.model.id, planned_bytes=None)
        if seen.phase == "ready":
            return Outcome(state="ready", seconds=now - began)
        if seen.phase == "failed":
            return Outcome(state="failed", seconds=now - began, cause=seen.cause)
        if now - began >= wanted.start_seconds:
            cause = Cause(
                code="start-timeout",
                sentence=f"{store.name} is not ready after {wanted.start_seconds:,} s.",
                hint=log_command(store, wanted),
            )
            return Outcome(state="failed", seconds=now - began, cause=cause)
        if now - told >= _TELL_SECONDS:
            tell(Event(type="progress", message="starting", facts={"seconds": round(now - began, 1)}))
            told = now
        sleep(_PAUSE_SECONDS)


def stop(store: Store, wanted: Wanted) -> bool:
    """Let running requests finish, and stop it; whether anything ran."""
    ran = _state(store, wanted) != "stopped"
    if wanted.way == "compose":
        if wanted.tool and (store.folder / _FOLDERS["compose"] / "compose.yaml").is_file():
            words = (*_compose(store, wanted), "down", "--timeout", str(wanted.stop_seconds))
            _call(words, seconds=wanted.stop_seconds + 4 * _QUICK_SECONDS)
        return ran
    for unit in reversed(wanted.units):
        if (UNITS / unit).exists():
            _call(("systemctl", "stop", unit), seconds=wanted.stop_seconds + 4 * _QUICK_SECONDS)
    return ran


def remove(store: Store, wanted: Wanted, *, with_weights: bool) -> None:
    """Remove what was installed outside the server's folder; the volume of weights where that is asked for."""
    if wanted.way == "compose":
        if with_weights and (store.folder / _FOLDERS["compose"] / "compose.yaml").is_file():
            _call((*_compose(store, wanted), "down", "--volumes"), seconds=8 * _QUICK_SECONDS)
        return
    name = store.name
    for unit in wanted.units:
        (UNITS / unit).unlink(missing_ok=True)
    (KEYS / name / _KEY_NAME).unlink(missing_ok=True)
    with suppress(OSError):
        (KEYS / name).rmdir()
    shutil.rmtree(PROGRAMS / name, ignore_errors=True)
    with suppress(BoxError):
        _call(("systemctl", "daemon-reload"))
        _call(("systemctl", "reset-failed", *wanted.units))
    if with_weights:
        for folder in (
            STATE,
            CACHE,
        ):  # what DynamicUser= keeps lies behind links into private/ (systemd.exec(5))
            for place in (folder / name, folder.parent / "private" / "selfhost" / name):
                if place.is_symlink():
                    place.unlink()
                else:
                    shutil.rmtree(place, ignore_errors=True)
