"""Show what a deployment's containers write, with the engine's important lines marked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from selfhost.cli._deploying import DEFAULT_NAMESPACE, Reach, cluster_options, labelled, namespace_option
from selfhost.cli._output import colours
from selfhost.errors import ClusterError, SelfhostError, UsageError

if TYPE_CHECKING:
    from selfhost.deploy.engine_log import Mark
    from selfhost.deploy.logs import Written
    from selfhost.deploy.types import Cause

LOG_SCHEMA = "selfhost/log/v1"
# A sign before the line, and its colour on a terminal.
_MARKS: dict[Mark, tuple[str, dict[str, object]]] = {
    "error": ("!", {"fg": "red", "bold": True}),
    "warning": ("~", {"fg": "yellow"}),
    "memory": ("#", {"fg": "cyan"}),
    "progress": (">", {"bold": True}),
    "ready": ("*", {"fg": "green", "bold": True}),
}


@click.command()
@click.argument("name", metavar="NAME")
@click.option(
    "-f", "--follow", "following", is_flag=True, help="Go on as lines come, until every container has ended."
)
@click.option("-p", "--previous", is_flag=True, help="Of the run before the last restart.")
@click.option("--download", is_flag=True, help="Of what fetches the weights, instead of the servers.")
@click.option(
    "--tail",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    metavar="N",
    help="Lines of each container.",
)
@click.option("--all", "every", is_flag=True, help="Every container: init containers and the download too.")
@click.option("--local", is_flag=True, help="Of a server of this machine, of `selfhost up --local`.")
@namespace_option
@cluster_options
def command(
    name: str,
    following: bool,
    previous: bool,
    download: bool,
    tail: int,
    every: bool,
    local: bool,
    namespace: str,
    reach: Reach,
) -> int:
    """Show what the containers of a deployment write; where one has failed, the cause comes last.

    Before a line: ! an error, ~ a warning, # memory, > how far the start has come, * it serves; on a terminal colours
    say it. Keys and tokens are left out. With several pods each line names its own.
    """
    from selfhost.deploy.logs import follow, known_of, read, sources, why

    if following and previous:
        raise UsageError(
            "--follow and --previous contradict each other.", hint="A run that is over writes no more."
        )
    if local:
        return _of_this_machine(name, tail, following=following, as_json=reach.as_json)
    api = reach.api()
    seen = known_of(api, namespace, name)
    engine = seen.plan.engine.name if seen.plan is not None else "vllm"
    wanted = sources(seen.pods, engine=engine, previous=previous, download=download, every=every)
    if not wanted:
        raise _nothing(name, namespace, bool(seen.pods), previous=previous, download=download)
    several = len({one.ref.pod for one in wanted}) > 1 or len(wanted) > 1
    lines = follow(api, namespace, wanted, tail) if following else read(api, namespace, wanted, tail)
    for one in lines:
        _show(one, several=several, as_json=reach.as_json)
    cause = why(api, seen if not following else known_of(api, namespace, name))
    if cause is not None:
        _show_cause(cause, as_json=reach.as_json)
    return 0


def _of_this_machine(name: str, tail: int, *, following: bool, as_json: bool) -> int:
    """The log of a server of `selfhost up --local`, and why it has failed, where it has."""
    from selfhost.deploy.logs import Source, Written
    from selfhost.deploy.types import LogRef
    from selfhost.local.log import lines_of
    from selfhost.local.status import status
    from selfhost.local.store import Store

    found = status(name)
    if not found:
        raise SelfhostError(
            f"There is no server {name} on this machine.", hint="`selfhost status --local` lists them."
        )
    plan = Store(name).plan()
    engine = "vllm" if plan is None else plan.engine.name
    source = Source(ref=LogRef(pod=name, container="engine"), engine=engine)
    for line in lines_of(name, tail, follow=following):
        _show(Written(source=source, line=line), several=False, as_json=as_json)
    if found[0].cause is not None:
        _show_cause(found[0].cause, as_json=as_json)
    return 0


def _show(one: Written, *, several: bool, as_json: bool) -> None:
    from selfhost.cluster.values import printable
    from selfhost.deploy.engine_log import important
    from selfhost.hush import hushed

    # bars of a terminal write a line over and over: the last state counts
    said = hushed(printable((one.line.rpartition("\r")[2] or one.line).replace("\t", "    ")))
    mark = important(one.line, one.source.engine)
    if as_json:
        _object(
            type="line" if not one.missing else "missing",
            pod=one.source.ref.pod,
            container=one.source.ref.container,
            mark=mark,
            message=said if not one.missing else one.missing,
        )
        return
    before = f"{one.source.ref.pod}/{one.source.ref.container} " if several else ""
    if one.missing:
        click.echo(f"{before}{one.missing}", err=True)
        return
    sign, style = _MARKS[mark] if mark is not None else (" ", {})
    if sys.stdout.isatty() and colours():
        click.echo(click.style(before, dim=True) + (click.style(said, **style) if style else said))  # type: ignore[arg-type]
    else:
        click.echo(f"{before}{sign} {said}".rstrip())


def _show_cause(cause: Cause, *, as_json: bool) -> None:
    if as_json:
        _object(
            type="cause",
            code=cause.code,
            message=cause.sentence,
            hint=cause.hint,
            evidence=list(cause.evidence),
            pod=cause.pod,
            node=cause.node,
        )
        return
    click.echo()
    labelled("Cause", cause.sentence)
    for line in cause.evidence:
        labelled("", f"| {line}")
    if cause.hint:
        labelled("Next", cause.hint)


def _object(**facts: object) -> None:
    import json

    click.echo(json.dumps({"schema": LOG_SCHEMA, **facts}, allow_nan=False))


def _nothing(name: str, namespace: str, there: bool, *, previous: bool, download: bool) -> ClusterError:
    where = "" if namespace == DEFAULT_NAMESPACE else f" -n {namespace}"
    if there and previous:
        return ClusterError(f"No container of {name} was started again.", hint=f"selfhost logs {name}{where}")
    if there:
        what = "download's pod is there any more" if download else "server's pod is there"
        return ClusterError(f"No {what} in {namespace}.", hint=f"selfhost logs {name}{where} --all")
    return ClusterError(
        f"No pod of a deployment {name} is in the namespace {namespace}.",
        hint=f"selfhost status{where} lists what is there.",
    )
