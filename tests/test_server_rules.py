"""Alerts and dashboard of one server, by its engine's own metrics: names, and promtool's word on when they fire."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.engines import engine_names, get_engine, parse_engine
from selfhost.errors import UnsupportedError
from selfhost.health.types import Action
from selfhost.manifests import RenderOptions
from selfhost.manifests.engine_metrics import engine_metrics
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.manifests.watching import Watching, watching
from selfhost.plan import Plan
from tests import promql
from tests.plans import plan
from tests.test_prometheus_rules import PROMTOOL, case, promtool

LABELS = 'namespace="llm",pod="qwen3-32b-7d4b9c6f5d-x2x9z"'
ENGINE = LABELS + ',model_name="Qwen/Qwen3-32B",engine="0"'
UP = f'up{{job="llm/qwen3-32b",{LABELS}}}'
RUNNING, TOKENS = f"vllm:num_requests_running{{{ENGINE}}}", f"vllm:generation_tokens_total{{{ENGINE}}}"
WAITING = f"vllm:num_requests_waiting{{{ENGINE}}}"
CACHE, PUT_BACK = f"vllm:kv_cache_usage_perc{{{ENGINE}}}", f"vllm:num_preemptions_total{{{ENGINE}}}"
OTHER = ENGINE.replace("qwen3-32b-7d4b9c6f5d", "qwen3-32b-fp8-7d4b9c6f5d")


def of_engine(name: str) -> Plan:
    made = plan()
    engine = get_engine(name)
    version = parse_engine(name)
    changed = replace(made.engine, name=name, version=version.text, metrics=engine.metrics(version))
    return replace(made, engine=changed)


def watched(made: Plan, **options: Any) -> Watching:
    return watching(made, RenderOptions(scaling=ScalingOptions(**options)))


@pytest.mark.parametrize("name", [name for name in engine_names() if of_engine(name).engine.metrics])
class TestEveryEngine:
    def test_alerts_ask_for_what_it_emits(self, name: str) -> None:
        made = of_engine(name)
        (group,) = watched(made).groups
        for alert in group.alerts:
            promql.check(alert.expr, frozenset(made.engine.metrics))
            assert alert.action in Action.__args__  # type: ignore[attr-defined]
            assert alert.summary
            assert alert.runbook

    def test_panels_ask_for_what_it_emits(self, name: str) -> None:
        made = of_engine(name)
        if engine_metrics(name, made.engine.metrics).running is None:
            with pytest.raises(UnsupportedError, match="no metrics"):
                watched(made, dashboard=True)
            return
        text = watched(made, dashboard=True).dashboard
        assert text is not None
        board = json.loads(text)
        queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
        assert queries
        for query in queries:
            promql.check(promql.filled(query), frozenset(made.engine.metrics))
        assert not any("selfhost_" in query for query in queries)  # no monitor is needed


def test_two_dashboards_do_not_take_each_others_place() -> None:
    def uid(name: str) -> str:
        text = watched(replace(plan(), name=name), dashboard=True).dashboard
        return str(json.loads(text or "")["uid"])

    long = "a" * 39
    assert len({uid(long + "b"), uid(long + "c"), uid("short")}) == 3
    assert all(len(uid(name)) <= 40 for name in (long + "b", "short"))


def test_without_the_operator_there_is_nothing_for_it() -> None:
    none = watching(plan(), RenderOptions(pod_monitor=False))
    assert (none.pod_monitor, none.groups, none.dashboard) == (False, (), None)
    assert watched(plan(), rules=False).groups == ()
    assert watched(plan(), rules=False).pod_monitor


def test_tokens_that_are_counted_at_the_end_are_waited_for() -> None:
    def window(name: str) -> str:
        (group,) = watched(of_engine(name)).groups
        return next(alert.expr for alert in group.alerts if alert.name == "SelfhostServerStalled")

    assert "[600s]" in window("vllm")
    assert "[1639s]" in window("sglang")  # the longest request, at 10 tokens a second


# What is seen, after how many minutes, and whether the alert fires then.
SERIES: list[tuple[str, int, dict[str, str], bool]] = [
    ("SelfhostServerAbsent", 60, {"other": "1x100"}, True),
    ("SelfhostServerAbsent", 60, {UP: "1x100"}, False),
    ("SelfhostServerAbsent", 30, {UP: "1x5 _x100"}, False),  # a rollout
    ("SelfhostServerDown", 10, {UP: "0x100"}, False),  # it loads
    ("SelfhostServerDown", 50, {UP: "0x100"}, True),
    ("SelfhostServerDown", 50, {UP: "1x100"}, False),
    ("SelfhostServerStalled", 30, {RUNNING: "3x100", TOKENS: "500x100"}, True),
    ("SelfhostServerStalled", 30, {RUNNING: "3x100", TOKENS: "500+9x100"}, False),
    ("SelfhostServerStalled", 30, {RUNNING: "0x100", TOKENS: "500x100"}, False),
    ("SelfhostServerQueue", 30, {WAITING: "9x100"}, True),
    ("SelfhostServerQueue", 30, {WAITING: "3x100"}, False),
    ("SelfhostServerQueue", 30, {WAITING: "0 9 9 0 9 0x100"}, False),
    (
        "SelfhostServerQueue",
        30,
        {f"vllm:num_requests_waiting{{{OTHER}}}": "99x100"},
        False,
    ),  # somebody else's
    ("SelfhostServerCacheFull", 30, {CACHE: "0.99x100", PUT_BACK: "0+2x100"}, True),
    ("SelfhostServerCacheFull", 30, {CACHE: "0.99x100", PUT_BACK: "7x100"}, False),
    ("SelfhostServerCacheFull", 30, {CACHE: "0.6x100", PUT_BACK: "0+2x100"}, False),
]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed; PROMTOOL names it")
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    groups = [
        {
            "name": group.name,
            "rules": [{"alert": one.name, "expr": one.expr, "for": one.wait} for one in group.alerts],
        }
        for group in watched(plan()).groups
    ]
    assert {one["alert"] for group in groups for one in group["rules"]} == {  # type: ignore[index]
        name for name, _, _, fires in SERIES if fires
    }
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    path = tmp_path / "test.yaml"
    tests = [case(*one) for one in SERIES]
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}), encoding="utf-8")
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
