"""Every file of the chart, made of templates/kubernetes/, templates/helm/ and the types of the view."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from selfhost import __version__
from selfhost.assets import asset_dir
from selfhost.manifests.chart import schema as schemas
from selfhost.manifests.chart.default import OPTIONS, default_plan
from selfhost.manifests.chart.lines import Node, emit
from selfhost.manifests.chart.shapes import shape_of
from selfhost.manifests.chart.together import conditions
from selfhost.manifests.chart.trace import Use, trace
from selfhost.manifests.chart.translate import NAMESPACE, translate
from selfhost.manifests.chart.values import Table, over, to_yaml, tree, without
from selfhost.manifests.environment import environment, note, quote
from selfhost.manifests.kubernetes import View as Objects
from selfhost.manifests.requests import SCRIPT, SCRIPT_FILE
from selfhost.manifests.zipapp import ARCHIVE_FILE, pull_archive

if TYPE_CHECKING:
    from selfhost.manifests.helm import View

NAME = "selfhost"
MARK = "Written by selfhost render"
_OBJECTS = "kubernetes"
_HEAD = f"{_OBJECTS}/_head.j2"  # says "render again"; the chart's files say it in their own way
# templates/helm/ -> the chart's templates/
_OWN = {"_archive.yaml.j2": "35-configmap-selfhost.yaml", "_test.yaml.j2": "tests/request.yaml"}
_AS_THEY_ARE = {"_helpers.tpl": "_helpers.tpl", "_checks.tpl": "00-checks.yaml"}


@cache
def _templates() -> Mapping[str, tuple[Node, ...]]:
    """Templates of objects, by their names in the chart."""
    from selfhost.manifests.helm import View

    jinja, made = environment(), {}
    for path in sorted((asset_dir("templates") / _OBJECTS).glob("[0-9]*.yaml.j2")):
        made[path.name.removesuffix(".j2")] = translate(
            jinja, f"{_OBJECTS}/{path.name}", Objects, skip=(_HEAD,)
        )
    for name, file in _OWN.items():
        made[file] = translate(jinja, f"helm/{name}", View)
    return {name: nodes for name, nodes in made.items() if nodes}


@cache
def _notes() -> tuple[Node, ...]:
    from selfhost.manifests.helm import View

    return translate(environment(), "helm/_notes.txt.j2", View, prose=True)


@cache
def uses() -> Mapping[tuple[str, ...], tuple[Use, ...]]:
    """Where each value ends up."""
    return trace(_templates(), prose={"NOTES.txt": _notes()})


@cache
def values_schema() -> Mapping[str, Any]:
    """The schema of the values, as JSON."""
    from selfhost.manifests.helm import View

    made = schemas.schema(
        shape_of(View),
        uses(),
        title="Values of the chart selfhost: a plan, as `selfhost render --target helm` writes it",
        comment=f"{MARK}; the types of the view and the templates decide it.",
        together=(),
    )
    return {**made, "allOf": conditions(made["properties"])}


def default_view() -> View:
    """What the chart installs where nobody gives it values."""
    from selfhost.manifests.helm import values_view

    return values_view(default_plan(), OPTIONS)


@cache
def default_values() -> Table:
    """The chart's own values: the namespace is the release's."""
    return without(tree(default_view(), uses()), (NAMESPACE,))


def values_text(view: View) -> str:
    """The values file of a view, to be given to the chart with `-f`: null where the chart's own value has to go."""
    lines = (
        f"{MARK}; change the plan and render again, or edit: the chart's schema checks it.",
        *view.kubernetes.headline,
    )
    values = over(tree(view, uses()), default_values())
    return "".join(f"# {note(line)}\n" for line in lines) + to_yaml(values)


@cache
def chart_files() -> Mapping[str, bytes]:
    """Path in the chart -> content. Equal sources give equal bytes."""
    texts = {
        "Chart.yaml": _chart(),
        ".helmignore": f"# {MARK}: what is no part of a packed chart.\n.git/\n.DS_Store\n*.orig\n*.tgz\n",
        "values.yaml": _default_text(),
        "values.schema.json": schemas.to_text(dict(values_schema())),
        "README.md": _readme(),
    }
    for name, nodes in _templates().items():
        head = f"{{{{- /* {MARK}, from the template that `selfhost render` fills in. */}}}}\n"
        texts[f"templates/{name}"] = head + emit(nodes)
    texts["templates/NOTES.txt"] = f"{{{{- /* {MARK} */ -}}}}\n" + emit(_notes(), prose=True)
    for name, file in _AS_THEY_ARE.items():
        texts[f"templates/{file}"] = (asset_dir("templates") / "helm" / name).read_text(encoding="utf-8")
    texts[SCRIPT_FILE] = SCRIPT
    made = {name: text.encode() for name, text in texts.items()}
    return made | {f"files/{ARCHIVE_FILE}": pull_archive()}


def _default_text() -> str:
    view = default_view()
    lines = (
        f"{MARK}: the values of a small plan, which the chart installs where it is given no others.",
        "`selfhost render plan.json --target helm -o DIR` writes those of any other plan; give them with -f.",
        *view.kubernetes.headline,
    )
    return "".join(f"# {note(line)}\n" for line in lines) + to_yaml(default_values())


def _chart() -> str:
    plan = default_plan()
    words = f"One inference server for one model, sized and explained by selfhost; {plan.model.id} by default"
    return "\n".join(
        (
            f"# {MARK}",
            "apiVersion: v2",
            f"name: {NAME}",
            f"description: {quote(words)}",
            "type: application",
            f"version: {quote(__version__)}",
            f"appVersion: {quote(plan.engine.version)} # the default's engine; a plan names its own",
            'kubeVersion: ">=1.29.0-0"',
            f"sources: [{quote(f'https://huggingface.co/{plan.model.id}')}]",
            'keywords: ["llm", "inference", "vllm", "gpu"]',
            "annotations:",
            f"  selfhost/version: {quote(__version__)}",
            "  selfhost/pod-security: restricted",
            "",
        )
    )


def _readme() -> str:
    from selfhost.manifests.chart.readme import readme

    return readme(values_schema(), default_plan())
