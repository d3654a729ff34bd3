"""Metrics that autoscalers, alerts and dashboards ask for: names that engines emit, labels they have, one series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from selfhost.lint.metric_names import Verdict, engine_of, judge
from selfhost.lint.model import Engine, Lot, Query
from selfhost.lint.nodes import Map, Seq, Value, text_of
from selfhost.lint.promql import Selector, parse
from selfhost.lint.types import Found, Rule, Severity

_READ = (
    "vLLM 0.5.5-0.33.0, SGLang 0.4.0-0.5.23, TGI 2.0.4-3.3.7, llama.cpp and Triton: sources read 2026-11-26"
)
_TITLES = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "tgi": "TGI",
    "llamacpp": "llama.cpp",
    "triton": "Triton",
    "ollama": "Ollama",
}
_WHO = {"keda": "the scaler", "hpa": "the autoscaler", "rule": "the rule", "adapter": "the adapter"}
_MONITORS = (
    "ServiceMonitor",
    "PodMonitor",
    "VMServiceScrape",
    "VMPodScrape",
    "PodMonitoring",
    "ScrapeConfig",
)
# `a|b|gauge` of Google's custom metrics adapter: the middle is the name.
_GOOGLE = "prometheus.googleapis.com|"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A metric that a query names."""

    query: Query
    name: str
    selector: Selector | None
    spare: bool


def _named(lot: Lot) -> Iterator[_Named]:
    recorded = {name for item in lot.objects for name in _recorded(item.body)}
    for query in lot.queries:
        if query.kind == "hpa":
            name = query.text.strip()
            yield _Named(query=query, name=_google(name), selector=None, spare=False)
            continue
        read = parse(query.text)
        for selector in read.selectors:
            if selector.metric is not None and selector.metric not in recorded:
                yield _Named(query=query, name=selector.metric, selector=selector, spare=read.alternatives)


def _google(name: str) -> str:
    return name.split("|")[1] if name.startswith(_GOOGLE) and name.count("|") == 2 else name


def _recorded(body: Map) -> Iterator[str]:
    """Names that recording rules make."""
    for holder in (body.map("spec"), body):
        for _, group in holder.seq("groups").maps():
            for _, rule in group.seq("rules").maps():
                name = rule.text("record")
                if name:
                    yield name


def _versions(lot: Lot, engine: str) -> tuple[str, ...]:
    """Releases of an engine in the lot, none where one of them is not known."""
    found = [each.version for _, _, each in lot.engines() if each.name == engine]
    return tuple(each for each in found if each) if all(found) else ()


def _judged(lot: Lot) -> Iterator[tuple[_Named, Verdict, int]]:
    """Each faulty name once an object, with the number of places."""
    places: dict[tuple[int, str], list[tuple[_Named, Verdict]]] = {}
    for named in _named(lot):
        engine = engine_of(named.name)
        if engine is None:
            continue
        verdict = judge(named.name, _versions(lot, engine))
        if verdict is None or _quiet(lot, named, verdict):
            continue
        places.setdefault((id(named.query.owner), named.name), []).append((named, verdict))
    for found in places.values():
        yield (*found[0], len(found))


def _quiet(lot: Lot, named: _Named, verdict: Verdict) -> bool:
    kind = named.query.kind
    if named.spare and verdict.kind in ("gone", "later"):
        return True  # `new or old` serves both releases
    if kind == "hpa":
        # An adapter names what it makes of a series as it likes.
        renames = any(each.kind == "adapter" for each in lot.queries)
        return verdict.kind == "form" or (renames and verdict.kind in ("colon", "never"))
    return False


def _colon_severity(query: Query) -> Severity:
    """An adapter whose rules are elsewhere may have given an HPA's metric its name."""
    return "note" if query.kind == "hpa" else "warning"


def _severity(query: Query) -> Severity:
    return "warning" if query.kind.startswith("dashboard") else "error"


def _unknown(lot: Lot) -> Iterator[Found]:
    for named, verdict, places in _judged(lot):
        if verdict.kind not in ("never", "form", "colon"):
            continue
        title = _TITLES[verdict.engine]
        told = {
            "never": f"no release of {title} has the metric {named.name}",
            "form": f"{title} has no series {named.name}: of that metric it writes {verdict.instead}",
            "colon": f"{title} writes {verdict.instead}, with a colon; {named.name} is another name",
        }[verdict.kind]
        yield Found(
            where=named.query.where,
            message=told + _times(places),
            fix=f"ask for {verdict.instead}" if verdict.instead else "take a metric that the engine has",
            severity=_severity(named.query) if verdict.kind != "colon" else _colon_severity(named.query),
        )


def _gone(lot: Lot) -> Iterator[Found]:
    for named, verdict, places in _judged(lot):
        if verdict.kind not in ("gone", "later"):
            continue
        title = _TITLES[verdict.engine]
        pinned = _versions(lot, verdict.engine)
        at = f"{title} {pinned[0]}" if pinned else f"today's {title}"
        since = f"gone by {verdict.release}" if verdict.kind == "gone" else f"there since {verdict.release}"
        yield Found(
            where=named.query.where,
            message=f"{at} does not have {named.name} ({since}){_times(places)}",
            fix=f"ask for {verdict.instead}" if verdict.instead else None,
            severity="warning" if not pinned else _severity(named.query),
        )


def _times(places: int) -> str:
    return f", asked for in {places} places" if places > 1 else ""


def _mislabelled(lot: Lot) -> Iterator[Found]:
    """`model` where vLLM and SGLang write `model_name`."""
    added = set(_added_labels(lot))
    if "model" in added or any(each.name == "triton" for _, _, each in lot.engines()):
        return  # Triton's vLLM backend does label its metrics with `model`
    seen: set[tuple[int, str]] = set()
    for named in _named(lot):
        if (
            named.selector is None
            or not named.name.startswith(("vllm:", "sglang:"))
            or engine_of(named.name) is None
        ):
            continue
        labels = {
            each.label
            for each in named.selector.matchers
            if each.operator in ("=", "=~") and each.value != ".*"
        }
        if "model" not in labels or (id(named.query.owner), named.query.where.path) in seen:
            continue
        seen.add((id(named.query.owner), named.query.where.path))
        title = _TITLES[engine_of(named.name) or "vllm"]
        yield Found(
            where=named.query.where,
            message=f"{named.name} is asked for by the label model; {title} writes model_name, so nothing is found",
            fix="select by model_name",
            severity=_severity(named.query),
        )


def _added_labels(lot: Lot) -> Iterator[str]:
    """Labels that monitors of the lot add to what they scrape."""
    for item in lot.of_kind(*_MONITORS):
        spec = item.body.map("spec")
        for key in ("targetLabels", "podTargetLabels"):
            yield from (text for each in spec.seq(key) if (text := text_of(each)))
        yield from _targets(spec, 0)


def _targets(value: Value, depth: int) -> Iterator[str]:
    if depth > 8:
        return
    if isinstance(value, Map):
        if value.text("action") == "labelmap":
            yield "model"  # may make any label
        name = value.text("targetLabel") or value.text("target_label")
        if name:
            yield name
        for below in value.values():
            yield from _targets(below, depth + 1)
    elif isinstance(value, Seq):
        for below in value:
            yield from _targets(below, depth + 1)


def _several(lot: Lot) -> Iterator[Found]:
    for query in lot.queries:
        if query.kind != "keda":
            continue
        read = parse(query.text)
        if not any(engine_of(name) for name in read.names) or not read.several:
            continue
        yield Found(
            where=query.where,
            message="the query gives a series for each replica, and KEDA's Prometheus scaler refuses more than one",
            fix=f"aggregate it: sum({query.text.strip()})"
            if len(query.text) < 120
            else "aggregate it with sum(…)",
        )


def _unserved(lot: Lot) -> Iterator[Found]:
    """A monitor or scaler for an engine that serves no metrics, or serves them only when told to."""
    for _, container, engine in lot.engines():
        if engine.name not in _SWITCHES:
            continue
        flag, variable, prefix = _SWITCHES[engine.name]
        wanted = next((each for each in _named(lot) if engine_of(each.name) == engine.name), None)
        if wanted is None or not engine.complete or container.env_from:
            continue
        if _on(engine, flag) or any(each.name == variable for each in container.variables):
            continue
        yield Found(
            where=container.where,
            message=f"{wanted.name} is asked for by {wanted.query.owner.where.object or 'a query'}, "
            f"but {_TITLES[engine.name]} serves {prefix}… only with --{flag}",
            fix=f"add --{flag}",
        )


# Engine -> option that switches its metrics on, its variable, and the beginning of their names.
_SWITCHES = {
    "sglang": ("enable-metrics", "", "sglang:"),
    "llamacpp": ("metrics", "LLAMA_ARG_ENDPOINT_METRICS", "llamacpp:"),
}


def _on(engine: Engine, flag: str) -> bool:
    return engine.flag(flag) is not None


def _silenced(lot: Lot) -> Iterator[Found]:
    """vLLM with --disable-log-stats writes no metrics of its own."""
    for _, container, engine in lot.engines():
        if engine.name != "vllm" or engine.flag("disable-log-stats") is None:
            continue
        wanted = next((each for each in _named(lot) if engine_of(each.name) == "vllm"), None)
        if wanted is not None:
            yield Found(
                where=container.where,
                message=f"--disable-log-stats switches off {wanted.name}, which "
                f"{wanted.query.owner.where.object or 'a query'} asks for",
            )


RULES = (
    Rule(
        code="SH020",
        title="A metric that does not exist",
        severity="error",
        reason="A query for a name that the engine never writes finds nothing: no scaling, no alert.",
        fix="Ask for a metric that the engine has, spelt as on its metrics page.",
        sources=(_READ, "deployment facts of 2026-11-21 (llm-d-planner's names)"),
        check=_unknown,
    ),
    Rule(
        code="SH021",
        title="A metric that this release does not have",
        severity="error",
        reason="Engines rename metrics between releases; a query for the old name finds nothing and says so nowhere.",
        fix="Ask for the name that the pinned release writes.",
        sources=(_READ, "kubeai, aibrix#2057, gateway-api-inference-extension#1905, LLMKube#1373"),
        check=_gone,
    ),
    Rule(
        code="SH022",
        title="A label that the engine does not write",
        severity="error",
        reason="vLLM and SGLang label with model_name: a selector on model matches nothing unless relabelling adds it.",
        fix="Select by model_name.",
        sources=(
            "vLLM 0.32.0 v1/metrics/loggers.py, labelnames",
            "deployment facts of 2026-11-21 (production-stack's trigger)",
        ),
        check=_mislabelled,
    ),
    Rule(
        code="SH023",
        title="A KEDA query of several series",
        severity="error",
        reason="With two replicas the query has two elements; KEDA's Prometheus scaler takes one and fails otherwise.",
        fix="Aggregate the query with sum() or max().",
        sources=(
            "https://keda.sh/docs/2.20/scalers/prometheus/ (the query must return one element), 2026-11-21",
        ),
        check=_several,
    ),
    Rule(
        code="SH024",
        title="Metrics that are not switched on",
        severity="error",
        reason="SGLang and llama.cpp serve /metrics only when told to; what asks for them finds nothing.",
        fix="Switch the engine's metrics on.",
        sources=(
            "SGLang 0.5.23 srt/server_args.py --enable-metrics",
            "llama.cpp common/arg.cpp --metrics, 2026-11-26",
        ),
        check=_unserved,
    ),
    Rule(
        code="SH025",
        title="Metrics switched off",
        severity="error",
        reason="--disable-log-stats also stops vLLM's metrics, so autoscalers and alerts on them find nothing.",
        fix="Take --disable-log-stats out.",
        sources=("vLLM 0.32.0 v1/metrics/loggers.py, StatLoggerManager is made only with log_stats",),
        check=_silenced,
    ),
)
