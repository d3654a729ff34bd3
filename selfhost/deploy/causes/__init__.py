"""Snapshot -> causes, the most certain first. A module here is a family, a cause is a function that is there.

A public function of a module `(scene) -> Cause | Iterable[Cause] | None` is a cause: its name with dashes is the
code, its docstring says when it is named, what follows `Way out:` is what to do; docs/failures.md is made of it.
A module's RANK says how near to the root its causes are: modules are asked in that order, and what has the rank of
a symptom is named only where nothing before explains it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from selfhost.deploy.causes._scene import Scene, look
from selfhost.deploy.causes._words import refusal
from selfhost.deploy.types import Cause, LogRef, Snapshot

Finder = Callable[[Scene], "Cause | Iterable[Cause] | None"]
SYMPTOM = 900  # from this rank on: named where no root cause is
_MOST_LOGS = 8  # Ours: of many replicas that fail the same way a few tell why


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A cause that can be named.

    Args:
        code: as in `Cause`.
        family: the module's first line.
        says: when it is named.
        way_out: what to do.
        rank: how near to the root.
        find: looks for it.
    """

    code: str
    family: str
    says: str
    way_out: str
    rank: int
    find: Finder


@cache
def known() -> tuple[Known, ...]:
    """Every cause, in the order in which they are looked for."""
    found: list[Known] = []
    for module in iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        family = import_module(f"{__name__}.{module.name}")
        for name, value in vars(family).items():
            if inspect.isfunction(value) and value.__module__ == family.__name__ and not name.startswith("_"):
                says, _, way = inspect.cleandoc(value.__doc__ or "").partition("Way out:")
                found.append(
                    Known(
                        code=name.replace("_", "-"),
                        family=(family.__doc__ or "").splitlines()[0].rstrip("."),
                        says=" ".join(says.split()),
                        way_out=" ".join(way.split()),
                        rank=family.RANK,
                        find=cast(Finder, value),
                    )
                )
    return tuple(sorted(found, key=lambda one: one.rank))


def explain(snapshot: Snapshot) -> tuple[Cause, ...]:
    """Why a deployment does not get ready: the most certain and most specific first, empty where nothing is wrong.

    Args:
        snapshot: what is known of it.
    """
    scene = look(snapshot)
    found: list[Cause] = []
    explained: set[str] = set()
    for one in known():
        if one.rank >= SYMPTOM and found:
            break
        for cause in _of(one.find(scene)):
            if cause.pod and cause.pod in explained:
                continue  # nearer to the root is a cause of the same pod
            if not any(cause.code == other.code for other in found):
                found.append(_clean(cause))
        explained |= {cause.pod for cause in found if cause.pod}
    return tuple(found)


def wanted_logs(snapshot: Snapshot) -> tuple[LogRef, ...]:
    """The logs that an explanation would read: of runs that failed first, then of what runs and is not ready."""
    failed: list[LogRef] = []
    running: list[LogRef] = []
    for pod in look(snapshot).pods:
        for box in pod.boxes:
            if box.failed:
                failed.append(LogRef(pod=pod.name, container=box.name, previous=box.state != "terminated"))
            if box.state == "running" and not box.ready:
                running.append(LogRef(pod=pod.name, container=box.name))
    return (*failed, *running)[:_MOST_LOGS]


def _of(answer: Cause | Iterable[Cause] | None) -> tuple[Cause, ...]:
    if answer is None:
        return ()
    return (answer,) if isinstance(answer, Cause) else tuple(answer)


def _clean(cause: Cause) -> Cause:
    """Nothing that anybody could log in with, and nothing that moves a cursor: all of it is printed."""
    from selfhost.cluster.values import printable
    from selfhost.hush import hushed

    evidence = tuple(dict.fromkeys(hushed(printable(line)) for line in cause.evidence if line))
    return replace(
        cause,
        sentence=hushed(printable(cause.sentence)),
        hint=hushed(printable(cause.hint)),
        evidence=evidence,
    )


__all__ = ["SYMPTOM", "Known", "explain", "known", "refusal", "wanted_logs"]
