"""Many nodes: their exporters read once, sorted by trouble, as a table or JSON."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._monitor_options import Wanted

if TYPE_CHECKING:
    from selfhost.fleet import NodeAddress

# A screen is for reading; --json has all of them, and the worst come first.
MOST_NODES = 200


def many_nodes(wanted: Wanted) -> int:
    """Ask every node and print what they say; 5 where one of them is in trouble or does not answer."""
    from selfhost.fleet import poll, render, to_json
    from selfhost.fleet.poll import DEADLINE_SECONDS, PARALLEL

    results = poll(
        _addresses(wanted),
        deadline_seconds=wanted.timeout or DEADLINE_SECONDS,
        parallel=wanted.parallel or PARALLEL,
    )
    if wanted.as_json:
        from selfhost.cli._output import emit_json

        found = to_json(results, at=time.time())
        emit_json("fleet", {name: value for name, value in found.items() if name != "schema"})
    else:
        from selfhost.cli._output import next_step, width

        for line in render(results, width(), limit=MOST_NODES):
            click.echo(line)
        next_step("selfhost health", "on the node that stands first says what is wrong, and what to do")
    return 5 if any(result.level in ("critical", "unknown") for result in results) else 0


def _addresses(wanted: Wanted) -> tuple[NodeAddress, ...]:
    """From the cluster, from a file of that name, or from the text itself."""
    if wanted.cluster:
        from selfhost.fleet.cluster import nodes_of_cluster

        return nodes_of_cluster(wanted.context, wanted.namespace, direct=wanted.direct)
    from selfhost.fleet import nodes_of_urls

    given = wanted.nodes or ""
    try:
        return nodes_of_urls(Path(given) if Path(given).is_file() else given)
    except (OSError, ValueError):  # a text too long for a path
        return nodes_of_urls(given)
