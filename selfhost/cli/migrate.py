"""Translate TGI's flags, environment, metrics and alerts to vLLM or SGLang, naming what has no equivalent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._options import DEFAULT_ENGINE, json_option
from selfhost.cli._output import emit_json, folded, headline, next_step, width
from selfhost.errors import SelfhostError, UsageError

if TYPE_CHECKING:
    from selfhost.migrate import Change, Migrated, Migration, Unmatched

_PROGRAMS = ("text-generation-launcher", "docker", "podman", "nerdctl")
_UNMATCHED = 5


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...|-")
@click.option(
    "--to", "engine", default=DEFAULT_ENGINE, show_default=True, metavar="E@V",
    help="vllm or sglang, with a version if not the default release.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
    help="Write the one YAML or dashboard file migrated; comments stay. - writes to standard output.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit code 5 where something has no equivalent.")
@json_option
def command(files: tuple[str, ...], engine: str, output: Path | None, strict: bool, as_json: bool) -> int:
    """Read what runs Text Generation Inference and say what runs the same on vLLM or SGLang.

    FILE is a script with a command line of text-generation-launcher or `docker run`, YAML of Kubernetes, KServe or
    Compose, Prometheus rules, a Grafana dashboard, an HPA or KEDA object, or a plan.json for TGI; - reads one from
    standard input. A command line itself stands behind --. Keys and tokens are never printed.
    """
    from selfhost.lint.files import gather
    from selfhost.migrate import migrate, target

    version = target(engine)
    if output is not None and as_json and str(output) == "-":
        raise UsageError("-o - and --json both write to standard output.", hint="Name a file behind -o.")
    words = files if files[0].rpartition("/")[2] in _PROGRAMS or "=" in files[0].partition("/")[0] else ()
    if words and not Path(files[0]).is_file():
        done = migrate((), version, words)
    else:
        stdin = None if sys.stdin is None else sys.stdin.buffer
        texts, unread = gather(files, stdin)
        if unread:
            raise SelfhostError(f"{unread[0].file}:{unread[0].line}: {unread[0].message}.")
        done = migrate(texts, version)
    if output is not None:
        _write(done, output)
    if as_json:
        emit_json("migrate", _facts(done.migration))
    elif output is None or str(output) != "-":
        _show(done.migration)
    for lost in done.left if output is not None else ():
        click.echo(f"Left as it was: {lost.where} {lost.what}: {lost.because}; {lost.instead}.", err=True)
    if output is not None and not as_json and str(output) != "-":
        next_step(f"selfhost lint {output}", "judge what was written")
    return _UNMATCHED if strict and (done.migration.unmatched or (output and done.left)) else 0


def _write(done: Migrated, output: Path) -> None:
    if len(done.texts) != 1:
        raise UsageError("-o writes one file, from one file.", hint="Name one FILE, or leave -o out.")
    content = done.texts[0].content
    if str(output) == "-":
        click.echo(content, nl=False)
        return
    try:
        output.write_bytes(content.encode())
    except OSError as error:
        raise SelfhostError(f"{output} cannot be written: {error.strerror}.") from error


def _facts(migration: Migration) -> dict[str, object]:
    from dataclasses import asdict

    facts = asdict(migration)
    for server in facts["servers"]:
        server["env"] = [{"name": name, "value": value} for name, value in server["env"]]
    return facts


def _show(migration: Migration) -> None:
    lost = len(migration.unmatched)
    what = "Everything has an equivalent" if not lost else f"{lost} without an equivalent, named below"
    headline(f"TGI to {migration.to}: {what}.", good=not lost)
    for line in migration.plan:
        click.echo(f"\nPlan the same load anew:\n  {line}")
    for server in migration.servers:
        click.echo(f"\n{server.where or 'The new command line'}")
        click.echo(f"  {_printable(server.line)}")
    _changes("Arguments", migration.arguments)
    _changes("Environment", migration.environment)
    _changes("Image, port, paths, clocks", migration.serving)
    _changes("Queries", migration.queries)
    _changes("Metrics", migration.metrics)
    _changes("Clients", migration.endpoints)
    _lost(migration.unmatched)


def _changes(title: str, changes: tuple[Change, ...]) -> None:
    if changes:
        click.echo(f"\n{title}")
    for change in changes:
        same = change.old == change.new
        sign = "=" if same else "+" if change.old is None else "-" if change.new is None else "~"
        whole = change.old or "" if same else " -> ".join(part for part in (change.old, change.new) if part)
        for index, line in enumerate(folded(_printable(whole), width() - 4)):
            click.echo(f"  {sign if index == 0 else ' '} {line}")
        for line in folded(change.because, width() - 6):
            click.echo(f"      {line}")


def _lost(unmatched: tuple[Unmatched, ...]) -> None:
    if unmatched:
        click.echo("\nNo equivalent")
    for lost in unmatched:
        place = f"{lost.where}  " if lost.where else ""
        for index, line in enumerate(folded(_printable(f"{place}{lost.what}"), width() - 4)):
            click.echo(f"  {'!' if index == 0 else ' '} {line}")
        for text in (lost.because, f"Instead: {lost.instead}."):
            for line in folded(text, width() - 6):
                click.echo(f"      {line}")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
