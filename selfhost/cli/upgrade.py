"""Change a running deployment: model revision, engine or flags; memory, GPUs and downtime are shown first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from selfhost.cli._day_two import Rollout, carried_out, name_argument, rollout_options
from selfhost.cli._deploying import (
    Printer,
    Reach,
    agreed,
    cluster_options,
    confirmed,
    interruptible,
    labelled,
    namespace_option,
    where,
)
from selfhost.cli._options import AT_LEAST, Grouped
from selfhost.cli._overrides import overridden, override_options
from selfhost.errors import UsageError

if TYPE_CHECKING:
    from selfhost.cluster import Api
    from selfhost.deploy.replan import Changes
    from selfhost.deploy.types import Desired, Head
    from selfhost.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class _Canary:
    """What is to become of a canary."""

    begin: bool
    weight: int | None
    promote: bool
    abort: bool

    @property
    def asked(self) -> bool:
        return self.begin or self.promote or self.abort or self.weight is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Now:
    """The deployment as it is, and how it is spoken to."""

    api: Api
    printer: Printer
    reach: Reach
    rollout: Rollout
    found: tuple[Head, ...]
    before: Desired

    @property
    def again(self) -> str:
        return f"selfhost upgrade {self.before.name}{where(self.before.namespace)}"


@click.command(cls=Grouped)
@name_argument
@click.argument("plan", type=click.Path(path_type=Path, allow_dash=True), required=False, metavar="[PLAN]")
@click.option("--set", "changes", multiple=True, metavar="FLAG=VALUE",
              help="Change a flag of the engine, as max-num-seqs=256; may be repeated.")  # fmt: skip
@click.option("--engine", metavar="E@V", help="Another release, as vllm@0.33.0 or @0.33.0.")
@click.option("--revision", metavar="COMMIT", help="Another revision of the model.")
@click.option("--quant", metavar="S", help="Quantize the weights otherwise while they load.")
@click.option("--replicas", type=AT_LEAST[1], metavar="N", help="Copies; of the canary with --canary.")
@click.option("--image", metavar="IMAGE", help="Image instead of the published one.")
@click.option(
    "--surge/--no-surge",
    default=None,
    help="New pods beside the old ones, or after them; else by what is free.",
)
@click.option(
    "--canary", is_flag=True, help="A second deployment of it beside the first, for a share of the requests."
)
@click.option(
    "--weight", type=click.IntRange(0, 100), metavar="PERCENT", help="The canary's share; 10 to begin with."
)
@click.option("--promote", is_flag=True, help="What the canary runs becomes the deployment; the canary goes.")
@click.option("--abort", is_flag=True, help="The canary goes; all requests go where they went before.")
@rollout_options
@namespace_option
@cluster_options
@override_options
def command(
    name: str,
    plan: Path | None,
    changes: tuple[str, ...],
    engine: str | None,
    revision: str | None,
    quant: str | None,
    replicas: int | None,
    image: str | None,
    surge: bool | None,
    canary: bool,
    weight: int | None,
    promote: bool,
    abort: bool,
    rollout: Rollout,
    namespace: str,
    reach: Reach,
    typed: dict[str, Any],
) -> int:
    """Change the deployment NAME to PLAN, or what runs with something changed.

    Target and options stay as they were deployed; options of `selfhost render` change them. Where no GPU is spare the
    old pod is drained first, and the downtime is said before. Exit code 4: it does not fit.
    """
    from selfhost.deploy.replan import Changes, parse_settings
    from selfhost.deploy.rollback import deployed

    asked = Changes(
        settings=parse_settings(changes), engine=engine, revision=revision, replicas=replicas, quantization=quant,
        image=image,
    )  # fmt: skip
    trial = _Canary(begin=canary, weight=weight, promote=promote, abort=abort)
    something = plan is not None or asked.any or bool(typed) or surge is not None
    _refuse_contradiction(name, trial, something=something)
    printer = Printer(as_json=reach.as_json)
    api = reach.api()
    found, last = deployed(api, namespace, name)
    now = _Now(api=api, printer=printer, reach=reach, rollout=rollout, found=found, before=last.desired)
    if trial.promote or trial.abort or (trial.weight is not None and not trial.begin):
        return _on_canary(now, trial)
    given = None
    if plan is not None:
        from selfhost.plan import read_plan

        given = read_plan(plan)
    if trial.begin:
        return _begin_canary(now, given, asked, typed, trial)
    return _upgrade(now, given, asked, typed, surge=surge)


def _refuse_contradiction(name: str, trial: _Canary, *, something: bool) -> None:
    ends = (trial.promote, trial.abort)
    if sum(ends) > 1 or (any(ends) and (trial.begin or trial.weight is not None)):
        raise UsageError(
            "--canary, --promote and --abort exclude each other.", hint="Do one after the other."
        )
    if not something and (trial.begin or not trial.asked):
        raise UsageError(
            f"Nothing of {name} is to be changed.",
            hint="Give a plan, --set FLAG=VALUE, --engine, --revision, --quant, --replicas or --image.",
        )
    if something and not trial.begin and trial.asked:
        raise UsageError(
            "--promote, --abort and --weight take what runs as it is.",
            hint="Change it with --canary, or alone.",
        )


def _upgrade(
    now: _Now, given: Plan | None, asked: Changes, typed: dict[str, Any], *, surge: bool | None
) -> int:
    from selfhost.cli._planning import now as moment
    from selfhost.deploy.canary import refuse_beside_canary
    from selfhost.deploy.upgrade import next_plan, prepare

    before = now.before
    refuse_beside_canary(now.api, before.namespace, before.name)
    plan = next_plan(before, given, asked, created=moment())
    options = overridden(before.options, typed)
    if asked.image is not None:
        options = replace(options, image=None)  # the plan names it from now on
    wanted, room = prepare(now.api, before, plan, options, surge=surge)
    now.printer(room.event())
    return carried_out(
        now.api,
        wanted,
        now.rollout,
        _because("upgrade", given, asked, typed),
        now.printer,
        now.reach,
        now.again,
    )


def _because(word: str, given: Plan | None, asked: Changes, typed: dict[str, Any]) -> str:
    """Kept with the revision."""
    words = [] if given is None else ["another plan"]
    words += [str(asked)] if asked.any else []
    words += [f"--{name.replace('_', '-')}" for name in typed]
    return f"{word}: {', '.join(words)}" if words else word


# -- canary -------------------------------------------------------------------------------------------------------


def _begin_canary(
    now: _Now, given: Plan | None, asked: Changes, typed: dict[str, Any], trial: _Canary
) -> int:
    from selfhost.cli._planning import now as moment
    from selfhost.cli.deploy import ended
    from selfhost.deploy.canary import BECAUSE, WEIGHT, refuse_without_route, share, wanted_canary
    from selfhost.deploy.run import deploy
    from selfhost.deploy.upgrade import next_plan

    before = now.before
    refuse_without_route(before)
    if typed:
        raise UsageError(
            "A canary is deployed with the options of the first.",
            hint="Change them by an upgrade of their own, without --canary.",
        )
    plan = next_plan(before, given, replace(asked, replicas=None), created=moment())
    wanted = wanted_canary(before, plan, asked.replicas or 1)
    weight = WEIGHT if trial.weight is None else trial.weight
    because = _because(f"{BECAUSE}{before.name}", given, asked, {})
    with interruptible(now.printer, f"`{now.again} --canary ...` goes on, `{now.again} --abort` ends it."):
        ask = confirmed(now.printer, yes=now.rollout.yes, as_json=now.reach.as_json)
        settings = replace(now.rollout.settings(because), wait=True)  # nobody is sent to what is not ready
        result = deploy(now.api, wanted, settings, now.printer, ask)
        if result.ended in ("ready", "unchanged"):
            share(now.api, before, wanted, weight, now.printer)
    code = ended(wanted, result, now.printer, now.reach)
    if result.ended in ("ready", "unchanged") and not now.reach.as_json:
        labelled("", f"{now.again} --weight 50, --promote or --abort    goes on with the canary")
    return code


def _on_canary(now: _Now, trial: _Canary) -> int:
    from selfhost.deploy.canary import abort, canary_name, canary_of, live_weight, promote, share
    from selfhost.deploy.rollback import deployed
    from selfhost.deploy.run import deploy
    from selfhost.deploy.types import Event

    before, api = now.before, now.api
    heads = canary_of(api, before.namespace, before.name)
    if not heads:
        raise UsageError(
            f"{before.name} has no canary.", hint=f"Begin one: {now.again} --canary --set FLAG=VALUE."
        )
    name = canary_name(before.name)
    if trial.abort:
        said = live_weight(api, before)
        words = f"{name} goes; it has {'no' if not said else f'{said} % of the'} requests now"
        now.printer(Event(type="preview", message=words, facts={"weight": said}))
        if now.rollout.dry_run or not (now.rollout.yes or agreed("abort?", as_json=now.reach.as_json)):
            return _done(now, "dry-run", "nothing was changed")
        with interruptible(now.printer, f"`{now.again} --abort` goes on."):
            abort(api, before, now.found, now.printer)
        return _done(now, "aborted", f"{name} is gone")
    canary = deployed(api, before.namespace, name)[1].desired
    if trial.weight is not None:
        if now.rollout.dry_run:
            return _done(now, "dry-run", "nothing was changed")
        share(api, before, canary, trial.weight, now.printer)
        return _done(now, "ready", f"{name} has {trial.weight} % of the requests")
    from selfhost.cli.deploy import ended

    with interruptible(now.printer, f"`{now.again} --promote` goes on."):
        ask = confirmed(now.printer, yes=now.rollout.yes, as_json=now.reach.as_json)
        result = promote(
            api, before, canary, now.rollout.settings(f"promote {name}"), now.printer, ask, deploy
        )
    return ended(before, result, now.printer, now.reach)


def _done(now: _Now, how: str, words: str) -> int:
    """The end of what is no rollout."""
    from selfhost.deploy.types import Event

    if now.reach.as_json:
        now.printer(Event(type="done", message=words, facts={"ended": how, "exit_code": 0}))
    else:
        now.printer.flush()
        # a deployment's name keeps its case
        labelled("", f"{words}." if words.startswith(now.before.name) else f"{words[:1].upper()}{words[1:]}.")
    return 0
