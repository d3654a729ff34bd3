"""Take a deployment to no replica and give its GPUs back, or bring it back."""

from __future__ import annotations

import click

from selfhost.cli._day_two import Rollout, carried_out, name_argument, rollout_options
from selfhost.cli._deploying import (
    Printer,
    Reach,
    agreed,
    cluster_options,
    interruptible,
    labelled,
    namespace_option,
    where,
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
    from selfhost.deploy.canary import refuse_beside_canary
    from selfhost.deploy.lock import held
    from selfhost.deploy.rollback import deployed
    from selfhost.deploy.scale import pause, paused
    from selfhost.deploy.types import Event

    printer = Printer(as_json=reach.as_json)
    api = reach.api()
    _, before = deployed(api, namespace, name)
    refuse_beside_canary(api, namespace, name)
    wanted = before.desired
    back = f"selfhost pause {name} --resume{where(namespace)}"
    if resume:
        return carried_out(api, wanted, rollout, before.because, printer, reach, back)
    objects = paused(wanted)
    gpus = wanted.plan.gpu.count * wanted.plan.replicas
    back_go = "1 GPU is given back" if gpus == 1 else f"{gpus} GPUs are given back"
    words = f"{name}: nothing serves until it is resumed; {back_go}"
    if reach.as_json:
        printer(Event(type="preview", message=words))
    else:
        labelled("Pause", words)
    if rollout.dry_run:
        for item in objects:
            api.apply(item, dry_run=True, force=True)
    if rollout.dry_run or not (rollout.yes or agreed("pause?", as_json=reach.as_json)):
        if reach.as_json:
            facts: dict[str, object] = {"ended": "dry-run", "revision": before.number, "exit_code": 0}
            printer(Event(type="done", message="nothing was changed", facts=facts))
        else:
            labelled("", "Nothing was changed.")
        return 0
    with (
        interruptible(
            printer, f"`selfhost pause {name}{where(namespace)}` goes on, `{back}` brings it back."
        ),
        held(api, namespace, name, wait_seconds=120.0) as lock,
    ):
        pause(api, wanted, keep=lock.keep, tell=printer)
    facts = {"ended": "paused", "revision": before.number, "exit_code": 0}
    printer(Event(type="done", message=f"{name} is paused", facts=facts))
    printer.flush()
    if not reach.as_json:
        labelled("Next", f"{back}    brings it back")
    return 0
