"""Go back to an earlier revision of a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from selfhost.cli._day_two import Rollout, carried_out, name_argument, rollout_options
from selfhost.cli._deploying import Printer, Reach, cluster_options, namespace_option, where

if TYPE_CHECKING:
    from selfhost.deploy.types import Head


@click.command()
@name_argument
@click.argument("revision", type=click.INT, required=False, metavar="[REV]")
@click.option("--list", "listed", is_flag=True, help="Print the revisions that are kept.")
@rollout_options
@namespace_option
@cluster_options
def command(
    name: str, revision: int | None, listed: bool, rollout: Rollout, namespace: str, reach: Reach
) -> int:
    """Bring back what revision REV of NAME was, or the one that served before the present one.

    Everything is on the cluster: no files are needed. What comes back is a revision of its own, `rollback to REV`.
    """
    from selfhost.deploy import revisions
    from selfhost.deploy.canary import refuse_beside_canary
    from selfhost.deploy.rollback import choose, nothing_there, wanted_of

    printer = Printer(as_json=reach.as_json)
    api = reach.api()
    found = revisions.heads(api, namespace, name)
    if not found:
        raise nothing_there(api, namespace, name)
    if listed:
        _list(found, as_json=reach.as_json)
        return 0
    if found[0].state != "pending":  # a promotion that broke off may be taken back
        refuse_beside_canary(api, namespace, name)
    head = choose(found, revision)
    wanted = wanted_of(api, found, head, printer)
    again = f"selfhost rollback {name} {head.number}{where(namespace)}"
    return carried_out(api, wanted, rollout, f"rollback to {head.number}", printer, reach, again)


def _list(found: tuple[Head, ...], *, as_json: bool) -> None:
    from selfhost.cli._output import Align, emit_json, table

    if as_json:
        facts = [
            {
                "revision": head.number, "state": head.state, "created": head.created, "by": head.by,
                "because": head.because, "model": head.model, "target": head.target, "hash": head.hash,
            }
            for head in found
        ]  # fmt: skip
        emit_json("revisions", {"name": found[0].name, "namespace": found[0].namespace, "revisions": facts})
        return
    columns: tuple[tuple[str, Align], ...] = (
        ("revision", "right"), ("state", "left"), ("created", "left"), ("by", "left"), ("because", "left"),
    )  # fmt: skip
    rows = [(str(head.number), head.state, head.created, head.by, head.because) for head in found]
    table(columns, rows)
