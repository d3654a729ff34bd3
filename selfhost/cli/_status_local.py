"""`selfhost status --local`: the servers of this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from selfhost.cli._deploying import NOT_HEALTHY, labelled
from selfhost.cli._output import emit_json, headline, next_step, table
from selfhost.deploy.pod_words import age
from selfhost.errors import SelfhostError
from selfhost.units import gib

if TYPE_CHECKING:
    from selfhost.local.types import Seen


def show_local(name: str | None, *, as_json: bool) -> int:
    """Servers of this machine, or the one of that name; the exit code.

    Raises:
        SelfhostError: none is called so.
    """
    from selfhost.local.status import status

    found = status(name)
    if name is not None and not found:
        raise SelfhostError(
            f"There is no server {name} on this machine.", hint="`selfhost status --local` lists them."
        )
    wrong = [one for one in found if one.phase == "failed" or one.leftover]
    code = NOT_HEALTHY if name is not None and (wrong or found[0].phase != "ready") else 0
    if as_json:
        emit_json("status-local", {"servers": [_facts(one) for one in found]})
        return code
    if not found:
        headline("No server of `selfhost up --local` on this machine.")
        next_step("selfhost up --local MODEL", "starts one")
        return 0
    headline(f"{len(found)} server{'' if len(found) == 1 else 's'} on this machine.", good=not wrong)
    click.echo()
    table(
        (
            ("name", "left"), ("model", "left"), ("by", "left"), ("state", "left"), ("GiB", "right"),
            ("age", "right"), ("address", "left"),
        ),
        [_cells(one, time.time()) for one in found],
        wrap=1,
    )  # fmt: skip
    for one in found:
        if one.cause is not None:
            click.echo()
            labelled("Cause", f"{one.name}: {one.cause.sentence}")
            for line in one.cause.evidence[:4]:
                labelled("", f"| {line}")
            if one.cause.hint:
                labelled("Way out", one.cause.hint)
        if one.leftover:
            pids = ", ".join(map(str, one.leftover))
            labelled("Note", f"{one.name}: processes {pids} run on without what watched over them.")
    return code


def _cells(one: Seen, now: float) -> tuple[str, ...]:
    return (
        one.name,
        one.model or "-",
        one.way,
        one.phase,
        "-" if one.memory_bytes is None else gib(one.memory_bytes),
        age(None if one.since is None else now - one.since),
        one.address,
    )


def _facts(one: Seen) -> dict[str, object]:
    cause = one.cause
    return {
        "name": one.name,
        "model": one.model or None,
        "by": one.way,
        "state": one.phase,
        "address": one.address,
        "since": one.since,
        "memory_bytes": one.memory_bytes,
        "planned_bytes": one.planned_bytes,
        "cause": None
        if cause is None
        else {"code": cause.code, "sentence": cause.sentence, "hint": cause.hint},
        "leftover_pids": list(one.leftover),
    }
