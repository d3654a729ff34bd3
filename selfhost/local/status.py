"""What runs on this machine: each server that `selfhost up --local` started, as it is now."""

from __future__ import annotations

from selfhost.local import boxes
from selfhost.local.blame import blame, tail
from selfhost.local.endpoint import healthy
from selfhost.local.processes import alive, memory_bytes, of_run
from selfhost.local.store import Store, names
from selfhost.local.types import Ended, Phase, Running, Seen, Wanted
from selfhost.plan import Plan

_READY_MARK = "ready"  # a file: it has been ready once in this run


def status(name: str | None = None) -> tuple[Seen, ...]:
    """Every server of this machine, or the one of that name, where there is one.

    Args:
        name: None for all.
    """
    found = []
    for one in names():
        if name in (None, one):
            store = Store(one)
            wanted = store.read(Wanted)
            if wanted is not None:
                found.append(look(store, wanted))
    return tuple(found)


def look(store: Store, wanted: Wanted) -> Seen:
    """One server as it is now."""
    plan = store.plan()
    model = "" if plan is None else plan.model.id
    planned = None if plan is None else plan.pod.memory_bytes.value
    if wanted.way != "process":
        return boxes.look(store, wanted, model=model, planned_bytes=planned)
    running, ended = store.read(Running), store.read(Ended)
    running = running if running is not None and running.run == wanted.run else None
    ended = ended if ended is not None and ended.run == wanted.run else None
    processes = of_run(wanted.run)
    watched = running is not None and alive(running.watcher)
    phase = _phase(store, wanted, running, ended, watched=watched, any_left=bool(processes))
    engine = tuple(one for one in processes if running is None or one.pid != running.watcher.pid)
    cause = None
    if phase == "failed" and plan is not None:
        cause = blame(ended, tail(store.log), plan, store.name)
    return Seen(
        name=store.name,
        way=wanted.way,
        phase=phase,
        address=wanted.address,
        model=model,
        since=None if running is None or not watched else running.started,
        memory_bytes=memory_bytes(engine) if watched else None,
        planned_bytes=planned,
        cause=cause,
        log=str(store.log),
        plan_hash=wanted.plan_hash,
        leftover=() if watched else tuple(one.pid for one in processes),
    )


def _phase(
    store: Store,
    wanted: Wanted,
    running: Running | None,
    ended: Ended | None,
    *,
    watched: bool,
    any_left: bool,
) -> Phase:
    if watched and ended is None:
        if healthy(wanted.address, wanted.health_path):
            return "ready"
        return "unhealthy" if was_ready(store, wanted) else "starting"
    if ended is not None:
        return "stopped" if ended.asked else "failed"
    if store.being_born(wanted):
        return "starting"
    if running is not None or any_left:
        return "failed"
    return "stopped"


def was_ready(store: Store, wanted: Wanted) -> bool:
    """Whether it has been ready once since this start."""
    try:
        return (store.folder / _READY_MARK).read_text(encoding="ascii") == wanted.run
    except OSError:
        return False


def mark_ready(store: Store, wanted: Wanted) -> None:
    """Note that it has been ready."""
    (store.folder / _READY_MARK).write_text(wanted.run, encoding="ascii")


def plan_of(name: str) -> Plan | None:
    """The plan that a server of this machine runs by."""
    return Store(name).plan()
