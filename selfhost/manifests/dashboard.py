"""The Grafana dashboard as data: nodes, GPUs, engines, and the two beside each other.

Titles, units and queries of our own metrics follow from their rows in selfhost/metrics.py; the engine's metrics are
those of its release in the plan. Nothing here knows a name that neither of them has.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from selfhost.manifests.engine_metrics import MORE_LABELS, EngineMetrics
from selfhost.manifests.grafana import SCHEMA_VERSION, Panel, Query, Row, laid_out, source, variable
from selfhost.metrics import METRICS, Metric

MARK = "Written by selfhost render; change the plan and render again instead of editing."
_NODE = 'cluster=~"$cluster", node=~"$node"'
_GPU = f'{_NODE}, gpu=~"$gpu"'
_ENGINE = 'cluster=~"$cluster", namespace=~"$namespace"'
_RATE = "$__rate_interval"
_UID = 40  # characters that Grafana allows
_POD = "{{namespace}}/{{pod}}"
_BY_NAME = {metric.name: metric for metric in METRICS}
# What a name ends in -> Grafana's unit; the first that fits.
_UNITS = (
    ("_ratio", "percentunit"), ("_bytes", "bytes"), ("_celsius", "celsius"), ("_watts", "watt"), ("_hertz", "hertz"),
    ("_seconds", "s"), ("_joules", "joule"),
)  # fmt: skip
_LEVELS = ((0, "ok", "green"), (1, "warn", "yellow"), (2, "critical", "red"), (3, "unknown", "purple"))
_UP = ((0, "down", "red"), (1, "up", "green"))
_WEDGED = ((0, "works", "green"), (1, "wedged", "red"))
_SOURCE: dict[str, Any] = {
    "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0,
    "current": {}, "options": [], "refresh": 1, "regex": "", "multi": False, "includeAll": False,
}  # fmt: skip


def dashboard(*, name: str, engine: EngineMetrics) -> dict[str, Any]:
    """The dashboard of GPUs and engines, as Grafana imports it.

    Args:
        name: of the deployment, for title and uid.
        engine: names that the engine's release emits.
    """
    return _board(
        uid=f"selfhost-{name}",
        title=f"selfhost: GPUs and engines ({name})",
        tags=["selfhost", "gpu", "llm"],
        annotations=[_xid_marks()],
        variables=_variables(engine),
        rows=_rows(engine),
    )


def engine_dashboard(*, name: str, engine: EngineMetrics) -> dict[str, Any]:
    """The dashboard of an engine by its own metrics alone, where no monitor of selfhost watches the nodes.

    Args:
        name: of the deployment, for title and uid.
        engine: names that the engine's release emits.
    """
    first = engine.running or engine.waiting
    asked = [] if first is None else [
        ("cluster", f"label_values({first}, cluster)"),
        ("namespace", f'label_values({first}{{cluster=~"$cluster"}}, namespace)'),
    ]  # fmt: skip
    return _board(
        uid=f"selfhost-engine-{name}",
        title=f"selfhost: engine ({name})",
        tags=["selfhost", "llm"],
        annotations=[],
        variables=[_SOURCE, *(variable(label, query) for label, query in asked)],
        rows=(Row(title="Engine", panels=tuple(_own(engine))),),
    )


def _board(
    *,
    uid: str,
    title: str,
    tags: list[str],
    annotations: list[dict[str, Any]],
    variables: list[dict[str, Any]],
    rows: tuple[Row, ...],
) -> dict[str, Any]:
    return {
        "description": MARK,
        "uid": uid if len(uid) <= _UID else f"{uid[: _UID - 9]}-{sha256(uid.encode()).hexdigest()[:8]}",
        "title": title,
        "tags": tags,
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": annotations},
        "templating": {"list": variables},
        "panels": laid_out(rows),
    }


def _rows(engine: EngineMetrics) -> tuple[Row, ...]:
    rows = (
        Row(title="Node health", panels=_health()),
        Row(title="GPUs: work", panels=_work()),
        Row(title="GPUs: limits and faults", panels=_faults()),
        Row(title="Engines", panels=tuple(_engines(engine))),
        Row(title="Engine and GPU", panels=tuple(_joined(engine))),
    )
    return tuple(row for row in rows if row.panels)


def _of(
    name: str, *, by: str = "{{node}} gpu {{gpu}}", title: str | None = None, only: str = "", **more: Any
) -> Panel:
    """A panel of one of our metrics: its help, its unit, and its rate where it counts.

    Args:
        name: of the metric.
        by: legend.
        title: heading; the metric's help if absent.
        only: further label matchers.
        more: fields of the panel.
    """
    metric = _BY_NAME[name]
    shown = {"title": title or metric.help.rstrip("."), "help": metric.help, "unit": _unit(metric)} | more
    return Panel(queries=(Query(expr=_expr(metric, only), legend=by),), **shown)


def _expr(metric: Metric, only: str = "") -> str:
    scope = {"gpu": _GPU, "engine": _NODE, "node": _NODE}[metric.scope]
    selector = f"{metric.name}{{{scope}{', ' if only else ''}{only}}}"
    return f"rate({selector}[{_RATE}])" if metric.kind == "counter" else selector


def _unit(metric: Metric) -> str:
    base = metric.name.removesuffix("_total").removesuffix("_max")
    unit = next((unit for end, unit in _UNITS if base.endswith(end)), "short")
    if (
        metric.kind == "counter"
    ):  # shown as a rate: seconds in a second are a share, joules in a second are watts
        return {"bytes": "Bps", "s": "percentunit", "joule": "watt"}.get(unit, unit)
    return unit


def _health() -> tuple[Panel, ...]:
    node, expected = "{{node}}", _BY_NAME["selfhost_gpus_expected"]
    gpus = _of("selfhost_gpus", by="{{node}} seen", title="GPUs seen and expected", width=6)
    return (
        _of("selfhost_health_level", by=node, kind="state-timeline", words=_LEVELS, width=24, height=6),
        Panel(
            title="Checks that are not ok", kind="table", width=12, height=8, words=_LEVELS,
            help="One line for each check, worst first; `selfhost health` on the node says what to do.",
            queries=(
                Query(expr=f"sort_desc({_expr(_BY_NAME['selfhost_check_level'])} > 0)", legend="{{code}}"),
            ),
        ),
        Panel(
            title=gpus.title, help=gpus.help, width=6, height=8,
            queries=(*gpus.queries, Query(expr=_expr(expected), legend="{{node}} expected")),
        ),
        _of("selfhost_nvml_poll_age_seconds", by=node, title="Age of the readings", width=6, height=8),
    )  # fmt: skip


def _work() -> tuple[Panel, ...]:
    used, limit = _BY_NAME["selfhost_gpu_power_watts"], _BY_NAME["selfhost_gpu_power_limit_watts"]
    gpu = "{{node}} gpu {{gpu}}"
    return (
        _of("selfhost_gpu_utilization_ratio", title="Utilization (any kernel at all)", most=1),
        _of("selfhost_gpu_sm_activity_ratio", title="Multiprocessor activity", most=1),
        _of("selfhost_gpu_tensor_activity_ratio", title="Tensor core activity", most=1),
        _of("selfhost_gpu_memory_activity_ratio", title="Memory bandwidth in use", most=1),
        _of("selfhost_gpu_memory_used_bytes", title="Memory in use"),
        Panel(
            title="Power and its limit",
            unit="watt",
            help=used.help,
            queries=(
                Query(expr=_expr(used), legend=gpu),
                Query(expr=_expr(limit), legend=f"{gpu} limit"),
            ),
        ),
        _two("PCIe traffic", "selfhost_gpu_pcie_sent_bytes_total", "selfhost_gpu_pcie_received_bytes_total"),
        _two(
            "NVLink traffic",
            "selfhost_gpu_nvlink_sent_bytes_total",
            "selfhost_gpu_nvlink_received_bytes_total",
        ),
        _of("selfhost_gpu_sm_clock_hertz", title="Multiprocessor clock"),
    )


def _two(title: str, sent: str, received: str) -> Panel:
    queries = [
        Query(expr=_expr(_BY_NAME[name]), legend=f"{{{{node}}}} gpu {{{{gpu}}}} {word}")
        for name, word in ((sent, "sent"), (received, "received"))
    ]
    return Panel(title=title, unit="Bps", queries=tuple(queries), help=_BY_NAME[sent].help)


def _faults() -> tuple[Panel, ...]:
    gpu, xid = "{{node}} gpu {{gpu}}", _BY_NAME["selfhost_gpu_xid_errors_total"]
    links = _BY_NAME["selfhost_gpu_nvlink_up"]
    return (
        _of("selfhost_gpu_up", kind="state-timeline", words=_UP, width=12, title="GPUs that answer"),
        Panel(
            title="Xid errors since the exporter started", kind="table", width=12, help=xid.help,
            queries=(Query(expr=f"{xid.name}{{{_GPU}}} > 0", legend="{{xid}}"),),
        ),
        _of("selfhost_gpu_temperature_celsius"),
        _of("selfhost_gpu_thermal_margin_celsius"),
        _of("selfhost_gpu_clock_held_down_seconds_total", by=f"{gpu} {{{{reason}}}}",
            title="Share of time the clocks are held down, by reason", most=1),
        _of("selfhost_gpu_recovery_action", title="Recovery action that the driver asks for"),
        _of("selfhost_gpu_ecc_errors_total", by=f"{gpu} {{{{kind}}}}", title="ECC errors per second"),
        _of("selfhost_gpu_row_remap_pending", title="Rows that wait to be remapped"),
        _of("selfhost_gpu_pcie_link_generation", title="PCIe generation in use"),
        _of("selfhost_gpu_pcie_replays_total", title="PCIe replays per second"),
        Panel(
            title="NVLinks that are down", kind="table", help=links.help,
            queries=(Query(expr=f"{_expr(links)} == 0", legend="{{link}}"),),
        ),
    )  # fmt: skip


def _engines(engine: EngineMetrics) -> Iterable[Panel]:
    ours = "{{served_model}} {{url}}"
    yield _of("selfhost_engine_up", by=ours, kind="state-timeline", words=_UP, title="Metrics can be read")
    yield _of(
        "selfhost_engine_healthy", by=ours, kind="state-timeline", words=_UP, title="Health path answers 200"
    )
    yield _of("selfhost_engine_wedged", by=ours, kind="state-timeline", words=_WEDGED, title="Wedged")
    yield from _own(engine)


def _own(engine: EngineMetrics) -> Iterable[Panel]:
    """What the engine says of itself."""
    for title, unit, most, names in (
        ("Requests running and waiting", "short", None, ((engine.running, "running"), (engine.waiting, "waiting"))),
        ("KV cache in use", "percentunit", 1, ((engine.kv_usage, ""),)),
        (
            "Tokens per second", "short", None,
            ((engine.generation_tokens, "generated"), (engine.prompt_tokens, "prompt")),
        ),
        ("Requests finished per second", "reqps", None, ((engine.finished, _reason(engine.finished)),)),
        ("Preemptions per second", "short", None, ((engine.preemptions, ""),)),
    ):  # fmt: skip
        queries = tuple(_engine_query(name, word) for name, word in names if name is not None)
        if queries:
            yield Panel(title=title, queries=queries, unit=unit, most=most)
    for title, histogram in (
        ("Time to first token", engine.first_token),
        ("Time between tokens", engine.inter_token),
        ("Time in the queue", engine.queue_time),
        ("Whole request", engine.whole_request),
    ):
        if histogram is not None:
            queries = tuple(
                Query(
                    expr=_quantile(histogram, share, engine.by),
                    legend=f"{{{{{engine.by}}}}} p{share * 100:.0f}",
                )
                for share in (0.5, 0.95)
            )
            yield Panel(title=title, queries=queries, unit="s")
    if engine.prefix_hits is not None and engine.prefix_queries is not None:
        share = f"{_pods(engine.prefix_hits)} / {_pods(engine.prefix_queries)}"
        yield Panel(
            title="Prefix cache hits", queries=(Query(expr=share, legend=_POD),), unit="percentunit", most=1
        )


def _pods(name: str, how: str = "sum", more: str = "") -> str:
    """A metric of the engine for each of its pods: counters as rates."""
    inner = f"{name}{{{_ENGINE}}}"
    return (
        f"{how} by (namespace, pod{more}) ({f'rate({inner}[{_RATE}])' if name.endswith('_total') else inner})"
    )


def _engine_query(name: str, word: str) -> Query:
    how = "max" if name.endswith("_perc") else "sum"  # data-parallel ranks: the fullest cache, all requests
    more = ", finished_reason" if "finished_reason" in word else ""
    return Query(expr=_pods(name, how, more), legend=f"{_POD} {word}".rstrip())


def _reason(finished: str | None) -> str:
    """How the lines of finished requests are called: why they ended, where the engine says so."""
    return "{{finished_reason}}" if "finished_reason" in MORE_LABELS.get(finished or "", ()) else ""


def _quantile(name: str, share: float, by: str) -> str:
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({name}_bucket{{{_ENGINE}}}[{_RATE}])))"


def _gpus_of_pods(name: str, how: str = "avg") -> str:
    """One of our GPU metrics for each pod that was given GPUs."""
    inner = f'{name}{{{_NODE}, namespace=~"$namespace", pod!=""}}'
    return f"{how} by (namespace, pod) ({f'rate({inner}[{_RATE}])' if name.endswith('_total') else inner})"


def _joined(engine: EngineMetrics) -> Iterable[Panel]:
    """What neither side shows alone. GPU and engine meet in the pod that holds the GPU, as the kubelet gave it out."""
    if engine.kv_usage is not None:
        yield Panel(
            title="KV cache against GPU activity", unit="percentunit", most=1, width=12, height=8,
            help="A full cache and idle tensor cores: too little memory. An empty one and busy cores: compute.",
            queries=(
                Query(expr=_pods(engine.kv_usage, "max"), legend=f"{_POD} KV cache"),
                Query(expr=_gpus_of_pods("selfhost_gpu_tensor_activity_ratio"), legend=f"{_POD} tensor cores"),
                Query(expr=_gpus_of_pods("selfhost_gpu_memory_activity_ratio"), legend=f"{_POD} bandwidth"),
            ),
        )  # fmt: skip
    if engine.generation_tokens is not None:
        tokens = _pods(engine.generation_tokens)
        energy = _gpus_of_pods("selfhost_gpu_energy_joules_total", "sum")
        yield Panel(
            title="Generated tokens per joule", width=6, height=8,
            help="Falls when GPUs wait, and when clocks are cut.",
            queries=(Query(expr=f"{tokens} / {energy}", legend=_POD),),
        )  # fmt: skip
        yield Panel(
            title="Tokens generated and watts", width=6, height=8,
            help="Busy GPUs at a low power and without tokens are a wedged engine, or a long prefill.",
            queries=(
                Query(expr=tokens, legend=f"{_POD} tokens per second"),
                Query(expr=_gpus_of_pods("selfhost_gpu_power_watts", "sum"), legend=f"{_POD} W"),
            ),
        )  # fmt: skip
    predicted = _BY_NAME["selfhost_engine_memory_predicted_bytes"]
    actual = _BY_NAME["selfhost_engine_memory_actual_bytes"]
    yield Panel(
        title="Memory as planned and as seen", unit="bytes", width=12, height=8, help=predicted.help,
        queries=(
            Query(expr=_expr(predicted), legend="{{served_model}} {{term}} planned"),
            Query(expr=_expr(actual), legend="{{served_model}} {{term}} seen"),
        ),
    )  # fmt: skip
    yield Panel(
        title="Memory seen, less what was planned", unit="bytes", width=12, height=8,
        help="Above the plan: less room than was counted on. Rising for hours: a leak.",
        queries=(Query(expr=f"{_expr(actual)} - {_expr(predicted)}", legend="{{served_model}} {{term}}"),),
    )  # fmt: skip


def _xid_marks() -> dict[str, Any]:
    """An annotation where the first Xid of a number appears on a GPU."""
    name = _BY_NAME["selfhost_gpu_xid_errors_total"].name
    return {
        "name": "Xid errors",
        "datasource": source(),
        "enable": True,
        "iconColor": "red",
        "expr": f"changes({name}{{{_GPU}}}[1m]) > 0",
        "titleFormat": "Xid {{xid}}",
        "textFormat": "{{node}} gpu {{gpu}}",
        "step": "60s",
    }


def _variables(engine: EngineMetrics) -> list[dict[str, Any]]:
    info, up = _BY_NAME["selfhost_build_info"].name, _BY_NAME["selfhost_gpu_up"].name
    asked = [
        ("cluster", f"label_values({info}, cluster)"),
        ("node", f'label_values({info}{{cluster=~"$cluster"}}, node)'),
        ("gpu", f"label_values({up}{{{_NODE}}}, gpu)"),
    ]
    if engine.running is not None:
        asked.insert(2, ("namespace", f'label_values({engine.running}{{cluster=~"$cluster"}}, namespace)'))
    return [_SOURCE, *(variable(name, query) for name, query in asked)]
