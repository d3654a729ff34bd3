"""Change how many replicas of a deployment serve."""

from __future__ import annotations

import click

from selfhost.cli._day_two import Rollout, carried_out, name_argument, rollout_options
from selfhost.cli._deploying import Printer, Reach, cluster_options, namespace_option, where


@click.command()
@name_argument
@click.argument("replicas", type=click.INT, metavar="N")
@rollout_options
@namespace_option
@cluster_options
def command(name: str, replicas: int, rollout: Rollout, namespace: str, reach: Reach) -> int:
    """Change how many replicas of NAME serve to N, as a revision of its own.

    Exit code 4: the GPUs for them are not free. A deployment that was paused comes back.
    """
    from selfhost.deploy.canary import refuse_beside_canary
    from selfhost.deploy.rollback import deployed
    from selfhost.deploy.scale import scaled

    printer = Printer(as_json=reach.as_json)
    api = reach.api()
    _, before = deployed(api, namespace, name)
    refuse_beside_canary(api, namespace, name)
    wanted = scaled(before.desired, replicas)
    again = f"selfhost scale {name} {replicas}{where(namespace)}"
    return carried_out(api, wanted, rollout, f"scale to {replicas}", printer, reach, again)
