"""Write the manifests of a plan, every derived value with its reason."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from selfhost.assets import targets
from selfhost.cli._options import Grouped, json_option, options_of
from selfhost.cli._output import emit_json, headline, next_step, table
from selfhost.manifests.options import RenderOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from selfhost.manifests import Document

_FILES = {
    "plan.json": "the plan itself",
    "README.md": "what to do before and after",
    "dashboard.json": "the dashboard, for Grafana's import",
    "prometheus-rules.yaml": "the rules, for a Prometheus without the operator",
    "prometheus-adapter.yaml": "rules for prometheus-adapter, which the HPA needs",
    "values.yaml": "the plan as values of the chart, each with its reason",
    "inferencepool-values.yaml": "values of the pool's chart",
    "patch-deployment.yaml": "what the chart has no key for",
    "compose.yaml": "the services: server, download, and what prepares volumes",
}
_FOLDERS = {"chart": "the Helm chart, the same for every plan"}
_CHART, _COMPOSE = "chart/Chart.yaml", "compose.yaml"


def _complete_target(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in targets() if name.startswith(incomplete)]


@click.command(cls=Grouped)
@click.argument("plan", type=click.Path(path_type=Path, allow_dash=True), metavar="PLAN")
@click.option(
    "--target", default="kubernetes", show_default=True, metavar="NAME",
    help=f"What to render for: {', '.join(targets())}.", shell_complete=_complete_target,
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR",
    help="Directory to write; new, empty, or of an earlier rendering.",
)  # fmt: skip
@options_of(RenderOptions, "options")
@json_option
def command(plan: Path, target: str, output: Path, options: RenderOptions, as_json: bool) -> None:
    """Write the manifests of PLAN, a plan.json of `selfhost plan`, into a directory: all of them or none.

    The engine's arguments come from the plan alone; the options say what only the cluster knows. PLAN may be - for
    standard input.
    """
    from selfhost.manifests import render, write_manifests
    from selfhost.plan import read_plan

    decided = read_plan(plan)
    manifests = render(decided, target=target, options=options)
    paths = write_manifests(manifests, output)
    if as_json:
        emit_json("render", {"target": target, "name": decided.name, "files": [str(path) for path in paths]})
        return
    objects = sum(document.is_object for document in manifests.documents)
    if objects:
        noun = "object" if objects == 1 else "objects"
        headline(f"{decided.name}: {objects} {noun} for {target} in {output}, in the order they are applied.")
    else:
        headline(f"{decided.name}: files for {target} in {output}.")
    click.echo()
    table((("file", "left"), ("what it is", "left")), _rows(manifests.documents, target))
    names = {document.name for document in manifests.documents}
    where, afterwards = shlex.quote(str(output)), f"{output / 'README.md'} says what to do before and after"
    if "kustomization.yaml" in names:
        next_step(f"kubectl apply -k {where}", afterwards)
    elif _CHART in names:
        chart, values = (shlex.quote(str(output / name)) for name in ("chart", "values.yaml"))
        name = shlex.quote(decided.name)
        space = shlex.quote(options.namespace)
        next_step(f"helm upgrade --install {name} {chart} -f {values} -n {space}", afterwards)
    elif _COMPOSE in names:
        next_step(f"docker compose -f {shlex.quote(str(output / _COMPOSE))} up --detach", afterwards)
    else:
        next_step(f"less {shlex.quote(str(output / 'README.md'))}", "how it is installed")


def _rows(documents: Sequence[Document], target: str) -> list[tuple[str, str]]:
    """A row for each file; those of a folder share one."""
    rows: dict[str, str] = {}
    for document in documents:
        folder, slash, _ = document.name.partition("/")
        rows[folder + slash] = _FOLDERS.get(folder, "") if slash else _what(document, target)
    return list(rows.items())


def _what(document: Document, target: str) -> str:
    """The kind of an object, or what another file is for."""
    import re

    if document.name.endswith(".pyz"):
        return (
            "selfhost monitor, or a part of it" if target == "monitor" else "selfhost pull, for the download"
        )
    if document.name.endswith(".service"):
        return "unit of the download" if document.name.endswith("-download.service") else "unit of the server"
    if kind := re.search(r"^kind: (\w+)", document.text, re.MULTILINE):
        return kind[1]
    return _FILES.get(document.name, "")
