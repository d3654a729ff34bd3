"""Start a plan on this machine, or go on from what is there: look, ask, stop what is in its place, start, wait, try."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from selfhost.deploy.types import Cause, Event, Tell
from selfhost.local import boxes, checks
from selfhost.local.command import name_distribution, wanted_process
from selfhost.local.engine_python import EnginePython
from selfhost.local.status import look, mark_ready
from selfhost.local.stop import stop
from selfhost.local.store import HOME, Store
from selfhost.local.types import RUN_VARIABLE, Ended, Running, Seen, Settings, Wanted
from selfhost.local.wait import wait
from selfhost.plan import Plan

# What an engine gets of the caller's environment: where programs and devices are; no tokens, no other plan.
_PASSED = (
    "PATH",
    "LANG",
    "TMPDIR",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "XDG_RUNTIME_DIR",
)
_PASSED_FAMILIES = ("LC_", "NVIDIA_", "ROCR_", "HIP_")

Confirm = Callable[[tuple[str, ...]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of it.

    Args:
        ended: in a word.
        seen: the server as it is now; None where none was started.
        cause: why it failed.
        message: one sentence.
    """

    ended: Literal["ready", "failed", "superseded", "dry-run", "unchanged"]
    seen: Seen | None = None
    cause: Cause | None = None
    message: str = ""


def up(
    plan: Plan,
    settings: Settings,
    tell: Tell,
    confirm: Confirm,
    *,
    python: EnginePython | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> Result:
    """Bring this machine to what the plan says, and wait until it serves.

    Args:
        plan: the decision.
        settings: how to go about it.
        tell: hears what happens.
        confirm: asked with what would change before a server that runs is replaced.
        python: interpreter of the engine's environment, of a process.
        sleep: of the machine.

    Raises:
        SelfhostError: a plan that this machine cannot run, or a state that cannot be written.
    """
    key = None if settings.key_file is None else checks.key_of(settings.key_file)
    store = Store(plan.name)
    wanted = _wanted(plan, settings, python, store)
    if settings.dry_run:
        return _dry_run(store, wanted, plan, tell)
    with store.lock(sleep=sleep):
        now, seen = store.read(Wanted), None
        if now is not None:
            seen = look(store, now)
        started = not (now is not None and seen is not None and _same(now, wanted, seen))
        if started:
            refused = _clear_the_way(store, wanted, plan, now, seen, tell, confirm)
            if refused is not None:
                return refused
            _start(store, wanted, plan, settings, python, key)
            tell(
                Event(
                    type="apply",
                    message=f"{plan.name} started",
                    facts={"way": wanted.way, "address": wanted.address},
                )
            )
        else:
            assert now is not None
            wanted = replace(now, start_seconds=wanted.start_seconds)
    return _await(store, wanted, plan, settings, key, tell, started=started, sleep=sleep)


def _wanted(plan: Plan, settings: Settings, python: EnginePython | None, store: Store) -> Wanted:
    run, created = secrets.token_hex(16), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if settings.way != "process":
        return boxes.wanted(plan, settings, run=run, created=created)
    assert python is not None
    return wanted_process(plan, settings, python, store.folder, run=run, created=created)


def _same(now: Wanted, wanted: Wanted, seen: Seen) -> bool:
    """Whether what runs is what is wanted."""
    return now.hash == wanted.hash and seen.phase in ("starting", "ready", "unhealthy")


def _dry_run(store: Store, wanted: Wanted, plan: Plan, tell: Tell) -> Result:
    now = store.read(Wanted) if store.folder.is_dir() else None
    seen = None if now is None else look(store, now)
    if now is not None and seen is not None and _same(now, wanted, seen):
        words = f"{plan.name} is {seen.phase} already"
    else:
        changes = () if now is None else difference(store, plan, now, wanted)
        for line in changes:
            tell(Event(type="preview", message=line))
        words = f"{plan.name} would be {'replaced' if _runs(seen) else 'started'} at {wanted.address}"
        if wanted.words:
            tell(Event(type="preview", message=" ".join(wanted.words), facts={"words": list(wanted.words)}))
        cause = None if _runs(seen) else _hindrance(store, wanted, plan)
        if cause is not None:
            tell_cause(tell, cause)
            return Result(ended="failed", seen=seen, cause=cause, message=cause.sentence)
    tell(Event(type="done", message=words))
    return Result(ended="dry-run", seen=seen, message=words)


def _runs(seen: Seen | None) -> bool:
    return seen is not None and (seen.phase in ("starting", "ready", "unhealthy") or bool(seen.leftover))


def _clear_the_way(
    store: Store,
    wanted: Wanted,
    plan: Plan,
    now: Wanted | None,
    seen: Seen | None,
    tell: Tell,
    confirm: Confirm,
) -> Result | None:
    """Stop what stands in its place, and look whether there is room; the result where it ends here."""
    if now is not None and seen is not None:
        if _runs(seen) and seen.phase != "failed":
            changes = difference(store, plan, now, wanted)
            for line in changes:
                tell(Event(type="preview", message=line))
            if not confirm(changes):
                return Result(ended="unchanged", seen=seen, message="nothing was changed")
            tell(Event(type="note", message=f"{plan.name} is drained and stopped first"))
        elif seen.cause is not None:
            tell(Event(type="note", message=f"the last start failed: {seen.cause.sentence}"))
        stop(store, now)
    cause = _hindrance(store, wanted, plan)
    if cause is None:
        return None
    tell_cause(tell, cause)
    return Result(ended="failed", cause=cause, message=cause.sentence)


def _hindrance(store: Store, wanted: Wanted, plan: Plan) -> Cause | None:
    if wanted.way == "systemd":
        return checks.port_in_use(wanted)
    folder = store.weights if wanted.way == "process" else store.folder
    return checks.port_in_use(wanted) or checks.no_memory(plan) or checks.no_disk(plan, folder)


def difference(store: Store, plan: Plan, now: Wanted, wanted: Wanted) -> tuple[str, ...]:
    """What would be other than it is, a line each."""
    from selfhost.diff import compare_plans

    before = store.plan()
    lines = []
    if before is not None:
        changes = compare_plans(before, plan)[0]
        lines += [f"{one.what}: {one.old or 'none'} -> {one.new or 'none'}" for one in changes]
    pairs = (
        (what, getattr(now, what), getattr(wanted, what)) for what in ("way", "host", "port", "key_file")
    )
    lines += [f"{what.replace('_', ' ')}: {old} -> {new}" for what, old, new in pairs if old != new]
    if now.key_stamp != wanted.key_stamp and now.key_file == wanted.key_file:
        lines.append("the key in its file")
    if not lines and now.words[:1] != wanted.words[:1]:
        lines.append(f"program: {now.words[0]} -> {wanted.words[0]}")
    return tuple(lines)


def _start(
    store: Store, wanted: Wanted, plan: Plan, settings: Settings, python: EnginePython | None, key: str | None
) -> None:
    """Write down what is wanted, then start what reads it: a command that is killed in between started nothing."""
    store.make()
    store.forget(Running)
    store.forget(Ended)
    store.write_plan(plan)
    store.write(wanted)
    if wanted.way != "process":
        boxes.start(store, wanted, plan, settings, key)
        return
    assert python is not None
    store.log.unlink(missing_ok=True)
    (store.folder / HOME).mkdir(exist_ok=True)
    name_distribution(store.folder, python)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.startswith(_PASSED_FAMILIES)
    }
    environment |= {RUN_VARIABLE: wanted.run, "PYTHONPATH": _package_path(), "PYTHONUNBUFFERED": "1"}
    variable = plan.engine.key.variable if plan.engine.key is not None else None
    if key is not None and variable is not None:
        environment[variable] = key
    words = [sys.executable, "-m", "selfhost.local.supervise", str(store.folder)]
    to_log = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    os.posix_spawn(  # not waited for: it outlives this command
        sys.executable,
        words,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(store.log), to_log, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    )


def _package_path() -> str:
    """Where this very selfhost is imported from."""
    import selfhost

    return str(Path(selfhost.__file__).resolve().parent.parent)


def _await(
    store: Store,
    wanted: Wanted,
    plan: Plan,
    settings: Settings,
    key: str | None,
    tell: Tell,
    *,
    started: bool,
    sleep: Callable[[float], object],
) -> Result:
    if wanted.way == "process":
        outcome = wait(store, wanted, plan, tell, key=key, sleep=sleep)
    else:
        outcome = boxes.wait(store, wanted, plan, tell, key=key, sleep=sleep)
    seen = look(store, wanted)
    if outcome.state == "gone":
        words = f"another command stopped or replaced {plan.name} meanwhile"
        tell(Event(type="note", message=words))
        return Result(ended="superseded", seen=seen, message=words)
    if outcome.state == "failed":
        assert outcome.cause is not None
        tell_cause(tell, outcome.cause)
        return Result(ended="failed", seen=seen, cause=outcome.cause, message=outcome.cause.sentence)
    mark_ready(store, wanted)
    words = f"{plan.name} serves at {wanted.address}"
    words += f", after {outcome.seconds:,.0f} s" if started else ", as it did before"
    tell(
        Event(
            type="ready",
            message=words,
            facts={"address": wanted.address, "seconds": round(outcome.seconds, 1)},
        )
    )
    if settings.smoke:
        from selfhost.local.smoke import smoke

        cause = smoke(wanted, plan, store, key, tell)
        if cause is not None:
            tell_cause(tell, cause)
            return Result(ended="failed", seen=look(store, wanted), cause=cause, message=cause.sentence)
    return Result(ended="ready" if started else "unchanged", seen=look(store, wanted), message=words)


def tell_cause(tell: Tell, cause: Cause) -> None:
    """Say why it failed."""
    facts: dict[str, object] = {"code": cause.code, "hint": cause.hint, "evidence": list(cause.evidence)}
    tell(Event(type="failed", message=cause.sentence, facts=facts))
