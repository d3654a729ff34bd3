"""Documents to objects: lists are taken apart, and what is no Kubernetes object is named for what it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from selfhost.lint.compose import compose_object
from selfhost.lint.model import Object, Skipped
from selfhost.lint.nodes import Map, Seq
from selfhost.lint.read import Document
from selfhost.lint.types import Where

# Objects made of files that are none: Prometheus' own rule files, dashboards as Grafana exports them, adapter rules.
RULE_FILE, DASHBOARD_FILE, ADAPTER_FILE = "rule file", "dashboard", "adapter rules"

_KUSTOMIZE = "a kustomization: lint what `kubectl kustomize` prints"
_CHART = "a chart's own file: lint what `helm template` prints"
_PLAN = "a plan of selfhost: lint what `selfhost render` makes of it"
_VALUES = "no Kubernetes object (Helm values?): lint what `helm template` prints"
_TEMPLATE = "a Helm template that is not rendered: lint what `helm template` prints"
# Not in a comment, and nothing that is filled in later (`{{ $labels.pod }}`, KServe's `{{.Name}}`).
_CHART_VALUE = re.compile(
    r"^(?![ \t]*#).*\{\{-?[^}\n]*(\.Values\.|\.Release\.|\.Chart\.|include \")", re.MULTILINE
)
_MOST_NESTED = 5  # lists of lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a document held."""

    objects: tuple[Object, ...] = ()
    skipped: Skipped | None = None


def is_template(text: str) -> bool:
    """The text is a Helm or Go template rather than YAML."""
    return "{{" in text and any(
        mark in text for mark in (".Values", ".Release", "include ", "{{-", "template ")
    )


def is_chart_template(text: str) -> bool:
    """A template of a chart, be it YAML as it stands: `gpu: {{ .Values.gpus }}` reads as a mapping."""
    return "{{" in text and _CHART_VALUE.search(text) is not None


def template_skipped(file: str) -> Skipped:
    """What is said of a template."""
    return Skipped(file=file, line=1, why=_TEMPLATE)


def objects_of(file: str, document: Document) -> Read:
    """The objects of a document, or why it has none."""
    body = document.body
    if body is None:
        return Read()
    if isinstance(body, Seq):
        found = tuple(item for _, each in body.maps() for item in _objects(file, each, 0))
        return Read(objects=found) if found else _skip(file, document, "a list of things that are no objects")
    if not isinstance(body, Map):
        return _skip(file, document, "text, no object")
    if "kind" not in body or "apiVersion" not in body:
        return _other(file, document, body)
    if (body.text("apiVersion") or "").startswith("kustomize.config.k8s.io"):
        return _skip(file, document, _KUSTOMIZE)
    return Read(objects=tuple(_objects(file, body, 0)))


def _objects(file: str, body: Map, depth: int) -> Iterator[Object]:
    kind = body.text("kind") or ""
    if kind.endswith("List") and isinstance(body.get("items"), Seq) and depth < _MOST_NESTED:
        for _, item in body.seq("items").maps():
            yield from _objects(file, item, depth + 1)
        return
    if kind and body.text("apiVersion"):
        yield _object(file, body, kind)


def _object(file: str, body: Map, kind: str) -> Object:
    metadata = body.map("metadata")
    name = metadata.text("name") or metadata.text("generateName") or ""
    namespace = metadata.text("namespace") or ""
    shown = "/".join(part for part in (kind, namespace, name) if part)
    return Object(
        kind=kind,
        api_version=body.text("apiVersion") or "",
        name=name,
        namespace=namespace,
        labels=metadata.map("labels"),
        annotations=metadata.map("annotations"),
        body=body,
        where=Where(file=file, line=body.line(), object=shown),
    )


def _other(file: str, document: Document, body: Map) -> Read:
    """A mapping that is no object: a file of rules or a dashboard is read all the same."""
    kind = _metrics_file(body)
    if kind:
        where = Where(file=file, line=document.line)
        made = Object(
            kind=kind, api_version="", name=body.text("title") or "", namespace="", labels=Map(), annotations=Map(),
            body=body, where=where,
        )  # fmt: skip
        return Read(objects=(made,))
    name = file.rpartition("/")[2]
    if name in ("kustomization.yaml", "kustomization.yml", "Kustomization"):
        return _skip(file, document, _KUSTOMIZE)
    services = body.map("services")
    if services and any(
        "image" in each or "build" in each for each in services.values() if isinstance(each, Map)
    ):
        return Read(objects=(compose_object(file, body, document.line),))
    if (body.text("schema") or "").startswith("selfhost/plan/"):
        return _skip(file, document, _PLAN)
    if name in ("Chart.yaml", "Chart.lock") or {"apiVersion", "name", "version"} <= set(body):
        return _skip(file, document, _CHART)
    return _skip(file, document, _VALUES)


def _metrics_file(body: Map) -> str:
    if any("rules" in group for _, group in body.seq("groups").maps()):
        return RULE_FILE
    if body.seq("panels") and ("title" in body or "templating" in body):
        return DASHBOARD_FILE
    rules = [*body.seq("rules").maps(), *body.map("rules").seq("custom").maps()]
    return ADAPTER_FILE if any("seriesQuery" in rule for _, rule in rules) else ""


def _skip(file: str, document: Document, why: str) -> Read:
    return Read(skipped=Skipped(file=file, line=document.line, why=why))
