"""Say how deployments are: replicas, GPUs, trouble; of one also drift, version, memory, health and causes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from selfhost.cli._deploying import DEFAULT_NAMESPACE, NOT_HEALTHY, Reach, cluster_options, namespace_option
from selfhost.cli._options import json_option
from selfhost.cli._output import emit_json
from selfhost.errors import UsageError

if TYPE_CHECKING:
    from selfhost.cluster import Api


@click.command()
@click.argument("name", required=False, metavar="NAME")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of every namespace.")
@click.option("--watch", is_flag=True, help="Go on, and print what changes.")
@click.option("--no-monitors", is_flag=True, help="Do not ask engines and the nodes' monitors.")
@click.option("--local", is_flag=True, help="Servers of this machine, of `selfhost up --local`.")
@namespace_option
@cluster_options
@json_option
def command(
    name: str | None,
    everywhere: bool,
    watch: bool,
    no_monitors: bool,
    local: bool,
    namespace: str,
    reach: Reach,
    as_json: bool,
) -> int:
    """Say how the deployments of a namespace are; with NAME all that is known of that one. Nothing is changed.

    With NAME it ends with 5 where that one is not healthy, or is not as it was deployed: a server-side dry-run of its
    objects shows who changed what. Without NAME it ends with 0.
    """
    as_json = as_json or reach.as_json
    if local:
        from selfhost.cli._status_local import show_local

        return show_local(name, as_json=as_json)
    if everywhere and name:
        raise UsageError("--all-namespaces and NAME contradict each other.", hint="Name its --namespace.")
    api = reach.api()
    where = "" if everywhere else namespace
    if watch:
        from selfhost.cli._status_watch import follow

        return follow(api, where, name or "", as_json=as_json)
    if name:
        return _one(api, namespace, name, monitors=not no_monitors, as_json=as_json)
    return _all(api, where, as_json=as_json)


def _all(api: Api, namespace: str, *, as_json: bool) -> int:
    from selfhost.deploy.overview import overview

    rows = overview(api, namespace)
    if as_json:
        from selfhost.cli._status_json import facts_of

        emit_json("status", facts_of(rows))
        return 0
    from selfhost.cli._status_output import show_rows

    place = f" in the namespace {namespace}" if namespace else ""
    show_rows(rows, now=time.time(), everywhere=not namespace, place=place)
    if not rows:
        from selfhost.cli._output import next_step

        other = "selfhost status --all-namespaces" if namespace else "selfhost deploy plan.json"
        next_step(other, "looks everywhere" if namespace else "makes one")
    elif any(not (row.well or row.paused) for row in rows):
        from selfhost.cli._output import next_step

        row = next(row for row in rows if not (row.well or row.paused))
        words = "" if row.namespace == DEFAULT_NAMESPACE else f" -n {row.namespace}"
        next_step(f"selfhost status {row.name}{words}", "says why")
    return 0


def _one(api: Api, namespace: str, name: str, *, monitors: bool, as_json: bool) -> int:
    from selfhost.deploy.status import status

    found = status(api, namespace, name, monitors=monitors)
    if as_json:
        from selfhost.cli._status_json import facts_of

        emit_json("status", facts_of((found.row,), found))
    else:
        from selfhost.cli._status_output import show_one

        show_one(found, now=time.time())
    return 0 if found.healthy and not found.drifted else NOT_HEALTHY
