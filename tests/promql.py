"""What a PromQL expression asks for: metric names, the labels it uses, and the labels its result has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as pp

from selfhost.manifests.engine_metrics import LABELS, MORE_LABELS, ROLES
from selfhost.metrics import ENGINE_LABELS, GPU_LABELS, METRICS, OWNER_LABELS

# What scraping adds: the job and node by the PodMonitor, cluster by Prometheus' own external labels.
TARGET = frozenset(("cluster", "node", "job", "instance"))
POD = frozenset(("namespace", "pod", "container", "endpoint"))
BUILTIN = {"up": TARGET | POD}
SCOPES = {"gpu": (*GPU_LABELS, *OWNER_LABELS), "engine": ENGINE_LABELS, "node": ()}
OURS = {metric.name: frozenset((*SCOPES[metric.scope], *metric.labels)) | TARGET for metric in METRICS}
HISTOGRAMS = {
    name
    for roles in ROLES.values()
    for name in (roles.first_token, roles.inter_token, roles.queue_time, roles.whole_request)
}
ENDS = ("_bucket", "_sum", "_count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """One metric that is asked for, and the labels it is asked by."""

    name: str
    labels: frozenset[str]
    values: tuple[tuple[str, str], ...]


def filled(expr: str) -> str:
    """A dashboard's expression with its variables filled in, as Grafana does."""
    for name, value in (("$__rate_interval", "5m"), ("$__range", "1h")):
        expr = expr.replace(name, value)
    for name in ("cluster", "node", "gpu", "namespace"):
        expr = expr.replace(f"${name}", ".*")
    assert "$" not in expr, expr
    return expr


def labels_of(name: str, emitted: frozenset[str]) -> frozenset[str]:
    """Labels a metric can have once it is scraped.

    Args:
        name: of a sample.
        emitted: what the engine's release emits, histograms by their bare names.
    """
    if name in OURS:
        return OURS[name]
    if name in BUILTIN:
        return BUILTIN[name]
    bare = next((name.removesuffix(end) for end in ENDS if name.removesuffix(end) in emitted), None)
    histogram = bare is not None and bare != name
    assert histogram or name in emitted, f"{name} is emitted by nothing"
    # A histogram has no series of its bare name.
    assert name not in HISTOGRAMS, name
    assert histogram or not name.endswith("_seconds"), name
    engine = name.partition(":")[0]
    more = {"le"} if name.endswith("_bucket") else set()
    return TARGET | POD | set(LABELS.get(engine, ())) | set(MORE_LABELS.get(name, ())) | more


def nodes(expr: Any) -> Iterator[Any]:
    """Every part of a parsed expression."""
    yield expr
    below = [getattr(expr, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    below += list(getattr(expr, "args", None) or ())
    for part in below:
        if part is not None:
            yield from nodes(part)


def selectors(expr: str) -> list[Selector]:
    """Every metric of an expression."""
    found = [part for part in nodes(pp.parse(expr)) if isinstance(part, pp.VectorSelector)]
    return [
        Selector(
            name=str(part.name),
            labels=frozenset(matcher.name for matcher in part.matchers.matchers),
            values=tuple((matcher.name, matcher.value) for matcher in part.matchers.matchers),
        )
        for part in found
    ]


def check(expr: str, emitted: frozenset[str]) -> frozenset[str]:
    """Assert that every name and label of an expression exists; the labels its result can have."""
    for selector in selectors(expr):
        allowed = labels_of(selector.name, emitted)
        assert selector.labels <= allowed, f"{selector.name} has no {set(selector.labels - allowed)}"
    return _result(pp.parse(expr), emitted)


def _result(expr: Any, emitted: frozenset[str]) -> frozenset[str]:
    if isinstance(expr, pp.VectorSelector):
        return labels_of(str(expr.name), emitted)
    if isinstance(expr, pp.MatrixSelector):
        return _result(expr.vector_selector, emitted)
    if isinstance(expr, pp.AggregateExpr):
        return _aggregated(expr, emitted)
    if isinstance(expr, pp.Call):
        inner = [_result(arg, emitted) for arg in expr.args]
        found = next((labels for labels in inner if labels), frozenset())
        return found - {"le"} if expr.func.name == "histogram_quantile" else found
    if isinstance(expr, pp.BinaryExpr):
        return _binary(expr, emitted)
    if isinstance(expr, (pp.NumberLiteral, pp.StringLiteral)):
        return frozenset()
    return _result(expr.expr, emitted)


def _aggregated(expr: Any, emitted: frozenset[str]) -> frozenset[str]:
    inner = _result(expr.expr, emitted)
    if expr.modifier is None:
        return frozenset() if str(expr.op) not in ("sort", "sort_desc") else inner
    labels = frozenset(expr.modifier.labels)
    assert labels <= inner, f"grouped by {set(labels - inner)}, which is not there"
    return labels if expr.modifier.type == pp.AggModifierType.By else inner - labels


def _binary(expr: Any, emitted: frozenset[str]) -> frozenset[str]:
    left, right = _result(expr.lhs, emitted), _result(expr.rhs, emitted)
    matching = expr.modifier.matching if expr.modifier else None
    if left and right:
        if matching is None:
            assert left == right, (
                f"joins {set(left ^ right)}, which only one side can have: {expr.prettify()}"
            )
        else:
            assert frozenset(matching.labels) <= left & right
    return left or right
