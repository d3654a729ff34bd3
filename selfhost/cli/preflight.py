"""Say whether a plan would run on a cluster, before anything is changed: rights, GPUs, storage, quota."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._deploying import Printer, Reach, cluster_options, code_of_findings, labelled
from selfhost.cli._options import Grouped, json_option, options_of
from selfhost.cli._output import emit_json, headline, next_step
from selfhost.manifests.options import RenderOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from selfhost.cluster import Api
    from selfhost.deploy.types import Desired, Finding

# By itself the command may look at everything: nothing is deployed in the same breath.
_MOST_REQUESTS = 60
_MARKS = {"error": "ERROR", "warning": "WARN", "unknown": "?"}


@click.command(cls=Grouped)
@click.argument("plan", type=click.Path(path_type=Path, allow_dash=True), metavar="PLAN")
@click.option(
    "--target", default="kubernetes", show_default=True, metavar="NAME",
    help="Whose objects: kubernetes, lws, gateway, kserve, hybrid.",
)  # fmt: skip
@click.option(
    "--request",
    is_flag=True,
    help="Write the roles that are missing, as YAML for an administrator, instead of the findings.",
)
@options_of(RenderOptions, "options")
@cluster_options
@json_option
def command(
    plan: Path, target: str, request: bool, options: RenderOptions, reach: Reach, as_json: bool
) -> int:
    """Look whether PLAN, a plan.json of `selfhost plan`, would run on the cluster. Nothing is changed.

    Takes the options of `selfhost render`. Ends with 4 where GPUs are missing, with 5 where something else would fail;
    what may not be looked at is said to be unknown. PLAN may be - for standard input.
    """
    from selfhost.deploy.desired import desired
    from selfhost.deploy.preflight import findings_of, gather
    from selfhost.plan import read_plan

    wanted = desired(read_plan(plan), target, options)
    api = reach.api()
    as_json = as_json or reach.as_json
    before = _before(api, wanted)
    facts = gather(api, wanted, most=_MOST_REQUESTS)
    findings = findings_of(facts, wanted, before=before)
    asked = ""
    if request:
        from selfhost.deploy.preflight.gather import subject_of
        from selfhost.deploy.preflight.request import request as written

        asked = written(
            facts.rights.refused, namespace=wanted.namespace, name=wanted.name, subject=subject_of(api)
        )
    code = code_of_findings(findings)
    if as_json:
        emit_json("preflight", _facts(wanted, findings, code, facts.requests, asked if request else None))
        return 0 if request else code
    if request:
        if asked:
            click.echo(asked, nl=False)
        else:
            click.echo("No right is missing: there is nothing to ask for.", err=True)
        return 0
    _show(wanted, findings, code)
    return code


def examined(api: Api, wanted: Desired, printer: Printer) -> tuple[Finding, ...]:
    """The preflight as `selfhost deploy --check` prints it: an event for each finding.

    Args:
        api: the cluster.
        wanted: what is to be deployed.
        printer: takes the events.

    Returns:
        The findings.
    """
    from selfhost.deploy.preflight import examine
    from selfhost.deploy.types import Event

    findings = examine(api, wanted, before=_before(api, wanted), most=_MOST_REQUESTS)
    for one in findings:
        facts = {"code": one.code, "level": one.level, "hint": one.hint, "evidence": list(one.evidence)}
        printer(Event(type="preflight", message=one.message, facts=facts))
    printer.flush()
    return findings


def _before(api: Api, wanted: Desired) -> Desired | None:
    """What was deployed last under that name; None where nothing was, or it may not be read."""
    from selfhost.deploy import revisions
    from selfhost.errors import SelfhostError

    try:
        found = revisions.heads(api, wanted.namespace, wanted.name)
        last = next((head for head in found if head.state == "deployed"), None)
        return None if last is None else revisions.load(api, last).desired
    except SelfhostError:
        return None  # the rights are looked at by a check, and said there


def _facts(
    wanted: Desired, findings: Sequence[Finding], code: int, requests: int, asked: str | None
) -> dict[str, object]:
    return {
        "name": wanted.name,
        "namespace": wanted.namespace,
        "target": wanted.target,
        "passed": code == 0,
        "exit_code": code,
        "requests": requests,
        "findings": [
            {
                "code": one.code,
                "level": one.level,
                "message": one.message,
                "hint": one.hint,
                "evidence": list(one.evidence),
            }
            for one in findings
        ],
        "request": asked,
    }


def _show(wanted: Desired, findings: Sequence[Finding], code: int) -> None:
    counts = {level: sum(one.level == level for one in findings) for level in ("error", "warning", "unknown")}
    told = ", ".join(
        f"{count} {noun}{'s' if count != 1 and noun != 'unknown' else ''}"
        for noun, count in (
            ("error", counts["error"]), ("warning", counts["warning"]), ("unknown", counts["unknown"])
        )
        if count
    )  # fmt: skip
    where = f"in namespace {wanted.namespace}"
    if counts["error"]:
        headline(f"{wanted.name} would not run {where}: {told}.", good=False)
    else:
        rest = f" ({told})" if told else ""
        headline(f"{wanted.name} can be deployed {where}{rest}.", good=True)
    click.echo()
    fine = [one.message.rstrip(".") for one in findings if one.level == "ok"]
    if fine:
        labelled("ok", " · ".join(fine))
    for level, mark in _MARKS.items():
        for one in findings:
            if one.level == level:
                labelled(mark, one.message)
                for line in one.evidence:
                    labelled("", f"| {line}")
                if one.hint:
                    labelled("", f"-> {one.hint}")
    if not counts["error"]:
        next_step("selfhost deploy PLAN", "the same options; shows what would change and asks")
    elif any(one.code == "rights" and one.level == "error" for one in findings):
        next_step("selfhost preflight PLAN --request > role.yaml", "for an administrator")
