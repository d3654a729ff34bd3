"""Bring a plan to a cluster: preflight, diff, apply, wait until it serves, smoke test; or go back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._deploying import (
    Printer,
    Reach,
    cluster_options,
    code_of,
    code_of_findings,
    confirmed,
    interruptible,
    labelled,
    timeout_option,
    where,
    yes_option,
)
from selfhost.cli._options import Grouped, options_of
from selfhost.manifests.options import RenderOptions

if TYPE_CHECKING:
    from selfhost.deploy.settings import Result
    from selfhost.deploy.types import Desired


@click.command(cls=Grouped)
@click.argument("plan", type=click.Path(path_type=Path, allow_dash=True), metavar="PLAN")
@click.option(
    "--target", default="kubernetes", show_default=True, metavar="NAME",
    help="Whose objects: kubernetes, lws, gateway, kserve, hybrid.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Only look whether it would work: the preflight.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would change, by a server-side dry-run; change nothing."
)
@click.option("--set", "changes", multiple=True, metavar="FLAG=VALUE",
              help="Plan again with an engine flag changed, as max-num-seqs=256; may be repeated.")  # fmt: skip
@click.option("--create-namespace", is_flag=True, help="Make the namespace where there is none.")
@click.option("--force-conflicts", is_flag=True, help="Take over fields that other field managers own.")
@click.option("--no-rollback", is_flag=True, help="Leave an upgrade that failed as it is.")
@click.option("--no-smoke-test", is_flag=True, help="Do not send requests once it is ready.")
@click.option("--no-wait", is_flag=True, help="End once everything is applied.")
@click.option("--api-key-file", metavar="FILE", help="File with the key that the smoke test sends.")
@click.option("--keep", type=click.IntRange(1, 100), default=5, show_default=True, metavar="N",
              help="Revisions that are kept on the cluster.")  # fmt: skip
@timeout_option("How long to wait for it; else from the plan's clocks.")
@yes_option
@cluster_options
@options_of(RenderOptions, "options")
def command(
    plan: Path,
    target: str,
    check: bool,
    dry_run: bool,
    changes: tuple[str, ...],
    create_namespace: bool,
    force_conflicts: bool,
    no_rollback: bool,
    no_smoke_test: bool,
    no_wait: bool,
    api_key_file: str | None,
    keep: int,
    timeout: float | None,
    yes: bool,
    reach: Reach,
    options: RenderOptions,
) -> int:
    """Bring PLAN, a plan.json of `selfhost plan`, to a cluster: all of it or nothing.

    It may be ended or killed at any moment: the state is on the cluster, and the same command goes on from it. PLAN may
    be - for standard input.
    """
    from selfhost.deploy.canary import refuse_beside_canary
    from selfhost.deploy.desired import desired
    from selfhost.deploy.run import deploy
    from selfhost.deploy.settings import Settings
    from selfhost.deploy.types import Event
    from selfhost.plan import read_plan

    decided = read_plan(plan)
    if changes:
        from selfhost.cli._planning import now
        from selfhost.deploy.replan import Changes, parse_settings, replan

        decided = replan(decided, Changes(settings=parse_settings(changes)), created=now())
    wanted = desired(decided, target, options)
    printer = Printer(as_json=reach.as_json)
    api = reach.api()
    if check:
        from selfhost.cli.preflight import examined

        code = code_of_findings(examined(api, wanted, printer))
        if reach.as_json:
            facts: dict[str, object] = {"ended": "refused" if code else "unchanged", "exit_code": code}
            printer(Event(type="done", message="nothing was changed", facts=facts))
        return code
    if options.access.expose == "gateway":
        refuse_beside_canary(api, wanted.namespace, wanted.name)
    settings = Settings(
        because="deploy" if not changes else f"deploy with {', '.join(changes)}",
        timeout_seconds=timeout,
        force_conflicts=force_conflicts,
        create_namespace=create_namespace,
        dry_run=dry_run,
        smoke=not no_smoke_test,
        rollback=not no_rollback,
        keep=keep,
        wait=not no_wait,
        api_key_file=api_key_file,
    )
    gone = f"selfhost destroy {wanted.name}{where(wanted.namespace)}"
    with interruptible(printer, f"`selfhost deploy` goes on, `{gone}` removes it."):
        result = deploy(api, wanted, settings, printer, confirmed(printer, yes=yes, as_json=reach.as_json))
    return ended(wanted, result, printer, reach)


def ended(wanted: Desired, result: Result, printer: Printer, reach: Reach) -> int:
    """Print how it ended and what to do next; the exit code."""
    from selfhost.deploy.types import Event

    code = code_of(result)
    if reach.as_json:
        facts: dict[str, object] = {
            "ended": result.ended,
            "revision": None if result.head is None else result.head.number,
            "exit_code": code,
        }
        printer(Event(type="done", message=result.message, facts=facts))
        return code
    printer.flush()
    if result.ended == "dry-run":
        if result.preview is not None and not result.preview.nothing:
            from selfhost.cli._deploy_preview import show

            show(wanted, result.preview)
        labelled("", "Nothing was changed.")
    elif result.ended == "applied":
        labelled("Applied", "it is not waited for, and not tested")
        labelled("Next", f"selfhost status {wanted.name}{where(wanted.namespace)}    says how far it is")
    elif result.ended == "ready":
        service = (
            f"kubectl -n {wanted.namespace} port-forward service/{wanted.name} {wanted.plan.engine.port}"
        )
        labelled("Next", f"selfhost status {wanted.name}{where(wanted.namespace)}, or reach it: {service}")
    elif result.ended == "failed" and result.cause is not None:
        if result.message not in ("", result.cause.sentence):  # the way back failed too
            labelled("Failed", result.message)
        name = f"{wanted.name}{where(wanted.namespace)}"
        way = f"`selfhost destroy {name}` removes it"
        if result.preview is not None and not result.preview.first:
            way = f"`selfhost rollback {name}` goes back"
        labelled("Left", f"as it is, to be looked at; {way}")
    elif result.ended == "rolled-back" and result.head is not None:
        labelled("Serves", f"what served before, as revision {result.head.number}")
    return code
