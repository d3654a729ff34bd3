"""Wait until an engine of this machine serves; end with the cause where it has died or takes too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from selfhost.deploy.engine_log import progress
from selfhost.deploy.types import Cause, Event, Tell
from selfhost.local.blame import blame, tail
from selfhost.local.endpoint import healthy, models
from selfhost.local.processes import alive
from selfhost.local.store import Store
from selfhost.local.types import Ended, Running, Wanted
from selfhost.plan import Plan

# Ours: a start takes seconds at least, and a look costs a request to this machine.
_PAUSE_SECONDS = 0.25
_TELL_SECONDS = 5.0
# Ours: between a watcher's being started and its first word lies the start of a Python.
_WATCHER_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the wait ended. `gone`: somebody stopped it or put another in its place."""

    state: Literal["ready", "failed", "gone"]
    seconds: float
    cause: Cause | None = None


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
    """Look until it answers.

    Args:
        store: its files.
        wanted: the start that is waited for.
        plan: what it was started by.
        tell: hears how far it is.
        key: that it asks for, None where it asks for none.
        clock: a clock that only goes forward, in seconds.
        sleep: of the machine.
    """
    began = told = clock()
    words = ""
    while True:
        now = clock()
        state, cause = _look(store, wanted, plan, key, now - began)
        if state != "waiting":
            return Outcome(state=state, seconds=now - began, cause=cause)
        if now - began >= wanted.start_seconds:
            return Outcome(state="failed", seconds=now - began, cause=_late(store, wanted))
        said, facts = stage(store, plan)
        if said != words or now - told >= _TELL_SECONDS:
            if said != words:
                tell(Event(type="progress", message=said, facts=facts | {"seconds": round(now - began, 1)}))
            words, told = said, now
        sleep(_PAUSE_SECONDS)


def _look(
    store: Store, wanted: Wanted, plan: Plan, key: str | None, waited: float
) -> tuple[Literal["ready", "failed", "gone", "waiting"], Cause | None]:
    now = store.read(Wanted)
    if now is None or now.run != wanted.run:
        return "gone", None
    ended, running = store.read(Ended), store.read(Running)
    if ended is not None and ended.run == wanted.run:
        if ended.asked:
            return "gone", None
        return "failed", blame(ended, tail(store.log), plan, store.name)
    running = running if running is not None and running.run == wanted.run else None
    if running is None:
        return ("failed", _no_watcher(store)) if waited > _WATCHER_SECONDS else ("waiting", None)
    if not alive(running.watcher):
        ended = store.read(Ended)  # it may have noted the end between the two looks
        if ended is None or ended.run != wanted.run:
            return "failed", blame(None, tail(store.log), plan, store.name)
        return "waiting", None
    if (
        running.engine is not None
        and healthy(wanted.address, wanted.health_path)
        and _is_it(wanted, plan, key)
    ):
        return "ready", None
    return "waiting", None


def _is_it(wanted: Wanted, plan: Plan, key: str | None) -> bool:
    """Whether what answers serves this plan's model: the port may have gone to another a moment ago."""
    named = models(wanted.address, key=key)
    meant = {one.value for one in plan.engine.args} | {plan.model.id}
    return not named or bool(meant.intersection(named))


def stage(store: Store, plan: Plan) -> tuple[str, dict[str, object]]:
    """How far the engine is by its log, in a phrase."""
    found = progress(tail(store.log), plan.engine.name)
    if found is None:
        return "starting", {"stage": "starting"}
    facts: dict[str, object] = {
        "stage": found.stage,
        "done": found.done,
        "total": found.total,
        "unit": found.unit,
    }
    return (f"{found.stage}: {found.detail}" if found.detail else found.stage), facts


def _no_watcher(store: Store) -> Cause:
    return Cause(
        code="not-started",
        sentence="What watches over the engine did not start.",
        evidence=tail(store.log)[-3:],
        hint=f"the log is {store.log}",
        final=True,
    )


def _late(store: Store, wanted: Wanted) -> Cause:
    last = tuple(line for line in tail(store.log) if line.strip())[-1:]
    return Cause(
        code="start-timeout",
        sentence=f"{store.name} is not ready after {wanted.start_seconds:,} s.",
        evidence=last,
        hint=f"run the same command again to go on waiting, or selfhost down {store.name}",
    )
