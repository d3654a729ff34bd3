"""Take a deployment to no replica and give its GPUs back, or bring it back."""

from __future__ import annotations

import click

from selfhost.cli._day_two import Rollout, carried_out, name_argument, rollout_options, where
from selfhost.cli._deploying import (
    Printer,
    Reach,
    agreed,
    cluster_options,
    interruptible,
    labelled,
    namespace_option,
)


@click.command()
@name_argument
@click.option("--resume", is_flag=True, help="Bring it back as it was.")
@rollout_options
@namespace_option
@cluster_options
def command(name: str, resume: bool, rollout: Rollout, namespace: str, reach: Reach) -> int:
    """Take NAME to no replica: its GPUs are free, weights, addresses and revisions stay.

    `selfhost pause NAME --resume`, `selfhost scale NAME N` and `selfhost deploy` bring it back.
    """
    from selfhost.deploy.lock import held
    from selfhost.deploy.rollback import deployed
    from selfhost.deploy.scale import pause, paused
    from selfhost.deploy.types import Event

    printer = Printer(as_json=reach.as_json)
    api = reach.api()
    _, before = deployed(api, namespace, name)
    wanted = before.desired
    back = f"selfhost pause {name} --resume{where(namespace)}"
    if resume:
        return carried_out(api, wanted, rollout, before.because, printer, reach, back)
    objects = paused(wanted)
    gpus = wanted.plan.gpu.count * wanted.plan.replicas
    if not reach.as_json:
        labelled("Pause", f"{name}: nothing serves until it is resumed; {gpus} GPUs are given back")
    if rollout.dry_run:
        for item in objects:
            api.apply(item, dry_run=True, force=True)
        labelled("", "Nothing was changed.")
        return 0
    if not (rollout.yes or agreed("pause?", as_json=reach.as_json)):
        labelled("", "Nothing was changed.")
        return 0
    with (
        interruptible(
            printer, f"`selfhost pause {name}{where(namespace)}` goes on, `{back}` brings it back."
        ),
        held(api, namespace, name, wait_seconds=120.0) as lock,
    ):
        pause(api, wanted, keep=lock.keep, tell=printer)
    facts: dict[str, object] = {"ended": "paused", "revision": before.number, "exit_code": 0}
    printer(Event(type="done", message=f"{name} is paused", facts=facts))
    printer.flush()
    if not reach.as_json:
        labelled("Next", f"{back}    brings it back")
    return 0
