"""Texts that name metrics: KEDA triggers, HPA metrics, alert and recording rules, dashboards, adapter rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.lint.model import Object, Query
from selfhost.lint.nodes import Map, Seq, Span, Value
from selfhost.lint.objects import ADAPTER_FILE, DASHBOARD_FILE, RULE_FILE
from selfhost.lint.read import read

_RULES = frozenset(("PrometheusRule", "VMRule", RULE_FILE))
_HPA_SOURCES = ("pods", "object", "external")
_NO_QUERIES = frozenset(("CustomResourceDefinition", "HTTPRoute", "Ingress", "NetworkPolicy"))
_QUERY = re.compile(r"(query|expr|promql)$", re.IGNORECASE)
_OURS = re.compile(r"\b(vllm|sglang|llamacpp)[:_]|\b(tgi|nv)_")
_LONGEST = 5_000_000  # characters of a ConfigMap's entry that are looked into
_DEEPEST = 60


def queries_of(item: Object) -> tuple[Query, ...]:
    """Every text of an object that names metrics."""
    spec = item.body.map("spec")
    if item.kind in ("ScaledObject", "ScaledJob"):
        return tuple(_keda(item, spec))
    if item.kind == "HorizontalPodAutoscaler":
        return tuple(_hpa(item, spec))
    if item.kind in _RULES:
        groups = item.body if item.kind == RULE_FILE else spec
        return tuple(_rules(item, groups, "" if item.kind == RULE_FILE else "spec.", 0))
    if item.kind == "ConfigMap":
        return tuple(_config_map(item))
    if item.kind == DASHBOARD_FILE:
        return tuple(_dashboard(item, item.body, "", 0, 0))
    if item.kind == ADAPTER_FILE:
        return tuple(_adapter(item, item.body, "", 0))
    if item.kind == "GrafanaDashboard":
        return tuple(_embedded(item, spec, "json", "spec.json"))
    if "." in item.api_version.partition("/")[0] and item.kind not in _NO_QUERIES:
        kind = "dashboard" if "Dashboard" in item.kind else "keda"
        return tuple(_anywhere(item, spec, "spec", kind, 0))
    return ()


def _anywhere(item: Object, value: Value, path: str, kind: str, depth: int) -> Iterator[Query]:
    """Queries in objects of operators: autoscaling of KServe and OME, dashboards of Perses."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Seq):
        for index, below in enumerate(value):
            yield from _anywhere(item, below, f"{path}[{index}]", kind, depth + 1)
    elif isinstance(value, Map):
        for key, below in value.items():
            if isinstance(below, Map | Seq):
                yield from _anywhere(item, below, f"{path}.{key}", kind, depth + 1)
            elif isinstance(below, str) and _QUERY.search(key) and _OURS.search(below):
                yield from _one(item, value, key, kind=kind, path=path)


def _target(reference: Map, default: str) -> str | None:
    name = reference.text("name")
    return f"{reference.text('kind') or default}/{name}" if name else None


def _one(
    item: Object, holder: Map, key: str, *, kind: str, path: str, offset: int = 0, target: str | None = None
) -> Iterator[Query]:
    text = holder.get(key)
    if not isinstance(text, str) or not text.strip():
        return
    span = holder.values_at.get(key, holder.span)
    line = span.line + offset
    yield Query(
        kind=kind, text=text, where=item.at(line, f"{path}.{key}" if path else key), owner=item,
        span=None if offset else span, target=target,
    )  # fmt: skip


def _keda(item: Object, spec: Map) -> Iterator[Query]:
    target = _target(spec.map("scaleTargetRef"), "Deployment")
    for index, trigger in spec.seq("triggers").maps():
        if (trigger.text("type") or "prometheus") == "prometheus":
            path = f"spec.triggers[{index}].metadata"
            yield from _one(item, trigger.map("metadata"), "query", kind="keda", path=path, target=target)


def _hpa(item: Object, spec: Map) -> Iterator[Query]:
    target = _target(spec.map("scaleTargetRef"), "Deployment")
    for index, metric in spec.seq("metrics").maps():
        for source in _HPA_SOURCES:
            path = f"spec.metrics[{index}].{source}.metric"
            holder = metric.map(source).map("metric")
            yield from _one(item, holder, "name", kind="hpa", path=path, target=target)


def _rules(item: Object, holder: Map, path: str, offset: int) -> Iterator[Query]:
    for at, group in holder.seq("groups").maps():
        for index, rule in group.seq("rules").maps():
            place = f"{path}groups[{at}].rules[{index}]"
            yield from _one(item, rule, "expr", kind="rule", path=place, offset=offset)


def _adapter(item: Object, holder: Map, path: str, offset: int) -> Iterator[Query]:
    for rules in (holder.seq("rules"), holder.map("rules").seq("custom"), holder.seq("externalRules")):
        for index, rule in rules.maps():
            for key in ("seriesQuery", "metricsQuery"):
                yield from _one(item, rule, key, kind="adapter", path=f"{path}rules[{index}]", offset=offset)


def _config_map(item: Object) -> Iterator[Query]:
    data = item.body.map("data")
    for key, text in data.items():
        if isinstance(text, str) and ("expr" in text or "seriesQuery" in text):
            yield from _embedded(item, data, key, f"data.{key}")


def _embedded(item: Object, holder: Map, key: str, path: str) -> Iterator[Query]:
    """A dashboard, rules or adapter rules as the text of a scalar."""
    text = holder.get(key)
    if not isinstance(text, str) or len(text) > _LONGEST:
        return
    span = holder.values_at.get(key, holder.span)
    # A block's text starts on the line below its `|`; a quoted text of one line has its own line alone.
    offset = span.line if span.end_line > span.line else 0
    documents, _ = read(item.where.file, text)
    for document in documents:
        body = document.body
        if isinstance(body, Map):
            for query in _of_text(item, body, path, offset):
                yield query if offset else _on_line(query, item, span)


def _of_text(item: Object, body: Map, path: str, offset: int) -> Iterator[Query]:
    yield from _rules(item, body, f"{path}.", offset)
    yield from _adapter(item, body, f"{path}.", offset)
    if body.seq("panels") or body.seq("rows") or body.map("dashboard"):
        yield from _dashboard(item, body, path, offset, 0)


def _on_line(query: Query, item: Object, span: Span) -> Query:
    return Query(
        kind=query.kind, text=query.text, where=item.at(span.line, query.where.path), owner=item, target=query.target
    )  # fmt: skip


def _dashboard(item: Object, value: Value, path: str, offset: int, depth: int) -> Iterator[Query]:
    """Every `expr` of a dashboard, and the queries of its variables."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Seq):
        for index, below in enumerate(value):
            yield from _dashboard(item, below, f"{path}[{index}]", offset, depth + 1)
    elif isinstance(value, Map):
        yield from _one(item, value, "expr", kind="dashboard", path=path, offset=offset)
        if isinstance(value.get("query"), str) and str(value["query"]).startswith(
            ("label_values(", "query_result(")
        ):
            yield from _one(item, value, "query", kind="dashboard-variable", path=path, offset=offset)
        for key, below in value.items():
            if isinstance(below, Map | Seq):
                yield from _dashboard(item, below, f"{path}.{key}" if path else key, offset, depth + 1)
