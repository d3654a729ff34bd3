"""Autoscaling: thresholds from the plan, one number for each question, metrics that the engine emits, refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import promql_parser as pp
import pytest
import yaml

from selfhost.engines import engine_names, get_engine
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import Manifests, RenderOptions, render
from selfhost.manifests.engine_metrics import engine_metrics
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.manifests.queries import DEPLOYMENT_PODS, Scope, quoted, scope_of
from selfhost.manifests.scaling import behaviour, replicas_of, scaling
from selfhost.plan import Plan
from tests import promql
from tests.plans import plan
from tests.validators import problems

KEDA = ScalingOptions(autoscale="keda", max_replicas=4)
ZERO = ScalingOptions(
    autoscale="keda", max_replicas=4, scale_to_zero=True, wake_query="rate(requests_total[2m])"
)
RELEASES = ("vllm@0.11", "vllm@0.19.1", "vllm@0.32")


def found(manifests: Manifests, kind: str) -> Any:
    objects = [yaml.safe_load(document.text) for document in manifests.documents if document.is_object]
    (one,) = (document for document in objects if document["kind"] == kind)
    return one


def kinds(manifests: Manifests) -> set[str]:
    return {yaml.safe_load(d.text)["kind"] for d in manifests.documents if d.is_object}


def keda(made: Plan, asked: ScalingOptions = KEDA, **more: Any) -> Any:
    return found(render(made, options=RenderOptions(scaling=asked, **more)), "ScaledObject")


def elements(expr: Any) -> bool:
    """Whether an expression gives one element at most: aggregated without labels, or arithmetic of such."""
    if isinstance(expr, pp.AggregateExpr):
        return expr.modifier is None
    if isinstance(expr, pp.BinaryExpr):
        return elements(expr.lhs) and elements(expr.rhs)
    if isinstance(expr, pp.Call):
        return elements(expr.args[0])
    return isinstance(expr, pp.NumberLiteral)


@pytest.mark.parametrize("release", RELEASES)
class TestEveryRelease:
    def test_every_question_has_one_answer(self, release: str) -> None:
        for trigger in keda(plan(engine=release))["spec"]["triggers"]:
            assert elements(pp.parse(trigger["metadata"]["query"])), trigger["metadata"]["query"]

    def test_names_and_labels_are_those_of_the_release(self, release: str) -> None:
        made = plan(engine=release)
        for trigger in keda(made)["spec"]["triggers"]:
            assert promql.check(trigger["metadata"]["query"], frozenset(made.engine.metrics)) == frozenset()
            for selector in promql.selectors(trigger["metadata"]["query"]):
                values = dict(selector.values)
                assert values["model_name"] == made.model.id
                assert values["namespace"] == "llm"

    def test_alerts_are_about_metrics_of_the_release(self, release: str) -> None:
        made = plan(engine=release)
        rule = found(render(made), "PrometheusRule")
        (group,) = rule["spec"]["groups"]
        assert len(group["rules"]) >= 4
        for alert in group["rules"]:
            promql.check(alert["expr"], frozenset(made.engine.metrics))
            assert alert["labels"] == alert["labels"] | {"namespace": "llm", "deployment": made.name}


@pytest.mark.parametrize("name", engine_names())
def test_every_engine_is_scaled_or_refused(name: str) -> None:
    """By its own metrics and labels; an engine that does not say how many requests wait says so."""
    engine = get_engine(name)
    made = plan()
    made = replace(
        made,
        engine=replace(
            made.engine,
            name=name,
            version=engine.default_version,
            metrics=engine.metrics(_version(name)),
        ),
    )
    metrics = engine_metrics(name, made.engine.metrics)
    asked = RenderOptions(scaling=KEDA)
    if metrics.waiting is None:
        with pytest.raises(UnsupportedError, match="metric") as refused:
            scaling(made, asked)
        assert refused.value.hint
        return
    what = scaling(made, asked)
    assert what is not None
    for trigger in what.triggers:
        assert elements(pp.parse(trigger.query.value))
        assert promql.check(trigger.query.value, frozenset(made.engine.metrics)) == frozenset()


def _version(name: str) -> Any:
    from selfhost.engines import parse_engine

    return parse_engine(name)


def test_two_deployments_of_a_model_do_not_mix() -> None:
    import re

    scope = scope_of(plan(), "llm")
    assert re.fullmatch(scope.pods, "qwen3-32b-7d4b9c6f5d-x2x9z")
    for other in (
        "qwen3-32b-fp8-7d4b9c6f5d-x2x9z",
        "qwen3-32b-0",
        "qwen3-32b-0-1",
        "qwen3-32b-download-1a2b3c4d-x2x9z",
    ):
        assert not re.fullmatch(scope.pods, other)
    assert DEPLOYMENT_PODS in scope.pods


def test_groups_of_pods_are_asked_for_by_their_leaders() -> None:
    import re

    manifests = render(plan(), target="lws", options=RenderOptions(scaling=KEDA))
    scaled = found(manifests, "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["kind"] == "LeaderWorkerSet"
    (selector, *_) = promql.selectors(scaled["spec"]["triggers"][0]["metadata"]["query"])
    pattern = dict(selector.values)["pod"]
    assert re.fullmatch(pattern, "qwen3-32b-0")
    assert not re.fullmatch(pattern, "qwen3-32b-0-1")


def test_any_name_stays_in_its_quotes() -> None:
    nasty = 'a"} or vector(1) \\ \n {x="'
    scope = Scope(namespace="llm", pods="x", model=nasty, ranks=())
    (selector,) = promql.selectors(scope.total("vllm:num_requests_waiting"))
    assert dict(selector.values)["model_name"] == nasty
    assert quoted("plain") == "plain"


def test_a_pod_that_is_scraped_twice_counts_once_and_ranks_add_up() -> None:
    assert scope_of(plan(), "llm").total("m").startswith("sum(max by (pod, engine) (m{")


def test_thresholds_come_from_the_plan() -> None:
    made = plan()
    assert int(made.memory.max_concurrency or 0) == 18
    triggers = {t["name"]: t["metadata"] for t in keda(made)["spec"]["triggers"]}
    assert triggers["in-flight"]["threshold"] == "14"  # 80 % of 18
    assert triggers["waiting"]["threshold"] == "4"
    few = replace(made, memory=replace(made.memory, max_num_seqs=10))
    assert keda(few)["spec"]["triggers"][0]["metadata"]["threshold"] == "8"
    one = replace(made, memory=replace(made.memory, max_concurrency=None, concurrency=1))
    assert [t["metadata"]["threshold"] for t in keda(one)["spec"]["triggers"]] == ["1", "1"]
    asked = replace(KEDA, target_requests=100)
    assert [t["metadata"]["threshold"] for t in keda(made, asked)["spec"]["triggers"]] == ["100", "25"]


def test_a_replica_that_loads_for_long_does_not_flap() -> None:
    made = plan()
    load = made.clocks.load_seconds.value
    rules = keda(made)["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert rules["scaleDown"]["stabilizationWindowSeconds"] == load
    assert {policy["periodSeconds"] for policy in rules["scaleUp"]["policies"]} == {1800}
    # Kubernetes refuses longer ones.
    slow = replace(
        made, clocks=replace(made.clocks, load_seconds=replace(made.clocks.load_seconds, value=9000))
    )
    assert behaviour(slow).down_window.value == 3600
    assert "limit" in behaviour(slow).down_window.because


def test_a_broken_scrape_is_no_empty_queue() -> None:
    assert {t["metadata"]["ignoreNullValues"] for t in keda(plan())["spec"]["triggers"]} == {"false"}
    assert {t["metadata"]["ignoreNullValues"] for t in keda(plan(), ZERO)["spec"]["triggers"]} == {"true"}


def test_zero_replicas_only_on_request_and_said() -> None:
    assert keda(plan())["spec"]["minReplicaCount"] == 1
    manifests = render(plan(), options=RenderOptions(scaling=ZERO))
    scaled = found(manifests, "ScaledObject")
    assert scaled["spec"]["minReplicaCount"] == 0
    assert scaled["spec"]["cooldownPeriod"] == plan().clocks.load_seconds.value
    wake = scaled["spec"]["triggers"][-1]["metadata"]
    assert wake["query"] == "clamp_max(sum(rate(requests_total[2m])), 1)"
    assert elements(pp.parse(wake["query"]))
    readme = next(d.text for d in manifests.documents if d.name == "README.md")
    assert "SCALED TO ZERO" in readme
    assert "2020 s of loading" in readme
    alerts = {rule["alert"] for rule in found(manifests, "PrometheusRule")["spec"]["groups"][0]["rules"]}
    assert "SelfhostServerAbsent" not in alerts


def test_who_scales_owns_the_number() -> None:
    """A number in the Deployment too would be applied over the autoscaler's."""
    assert found(render(plan(replicas=3)), "Deployment")["spec"]["replicas"] == 3
    for asked in (KEDA, ScalingOptions(autoscale="hpa", max_replicas=4)):
        assert (
            "replicas"
            not in found(render(plan(), options=RenderOptions(scaling=asked)), "Deployment")["spec"]
        )


def test_the_most_replicas_decide_the_volume_and_are_said() -> None:
    manifests = render(plan(), options=RenderOptions(scaling=KEDA))
    assert found(manifests, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "at most 8 x H100 SXM 80GB" in next(d.text for d in manifests.documents if d.name == "README.md")
    with pytest.raises(UsageError, match="ReadWriteOnce"):
        render(plan(), options=RenderOptions(scaling=KEDA, access_mode="ReadWriteOnce"))


def test_a_disruption_budget_needs_two_that_are_always_there() -> None:
    def guarded(replicas: int, asked: ScalingOptions) -> bool:
        return "PodDisruptionBudget" in kinds(
            render(plan(replicas=replicas), options=RenderOptions(scaling=asked))
        )

    assert not guarded(1, KEDA)
    assert not guarded(1, ZERO)
    assert not guarded(2, ZERO)
    assert guarded(2, KEDA)
    assert guarded(1, replace(KEDA, min_replicas=2))
    assert not guarded(2, replace(KEDA, min_replicas=1))


def test_replicas_are_spread_as_soon_as_there_can_be_two() -> None:
    def keys(made: Plan, asked: ScalingOptions) -> list[str]:
        pod = found(render(made, options=RenderOptions(scaling=asked)), "Deployment")["spec"]["template"][
            "spec"
        ]
        return [rule["topologyKey"] for rule in pod.get("topologySpreadConstraints", [])]

    assert keys(plan(), ScalingOptions()) == []
    assert keys(plan(), KEDA) == ["kubernetes.io/hostname"]
    assert keys(plan(replicas=2), ScalingOptions(spread="zone")) == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]


def test_the_hpa_asks_for_what_the_adapter_serves() -> None:
    asked = ScalingOptions(autoscale="hpa", max_replicas=4, min_replicas=2)
    manifests = render(plan(), options=RenderOptions(scaling=asked))
    hpa = found(manifests, "HorizontalPodAutoscaler")
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (2, 4)
    names = {metric["pods"]["metric"]["name"] for metric in hpa["spec"]["metrics"]}
    text = next(d.text for d in manifests.documents if d.name == "prometheus-adapter.yaml")
    rules = yaml.safe_load(text)["rules"]["custom"]
    assert {rule["name"]["as"] for rule in rules} == names
    emitted = frozenset(plan().engine.metrics)
    for rule in rules:
        query = (
            rule["metricsQuery"]
            .replace("<<.LabelMatchers>>", 'namespace="llm"')
            .replace("<<.GroupBy>>", "pod")
        )
        assert promql.check(query, emitted) == {"pod"}
        assert promql.check(rule["seriesQuery"], emitted)
    assert "ScaledObject" not in kinds(manifests)
    assert "prometheus-adapter.yaml" not in {d.name for d in render(plan()).documents}


def test_prometheus_is_the_operators_unless_named() -> None:
    first = keda(plan(), monitoring_namespace="observability")["spec"]["triggers"][0]["metadata"]
    assert first["serverAddress"] == "http://prometheus-operated.observability.svc:9090"
    asked = replace(KEDA, prometheus_url="https://thanos:9091", trigger_authentication="thanos")
    trigger = keda(plan(), asked)["spec"]["triggers"][0]
    assert trigger["metadata"]["serverAddress"] == "https://thanos:9091"
    assert trigger["metadata"]["authModes"] == "bearer"
    assert trigger["authenticationRef"] == {"name": "thanos"}


def test_objects_are_what_their_definitions_say() -> None:
    for asked in (KEDA, ZERO, replace(KEDA, trigger_authentication="x")):
        assert problems(keda(plan(), asked)) == []
    broken = keda(plan())
    broken["spec"]["maxReplicas"] = 3
    assert problems(broken) != []


@pytest.mark.parametrize(
    "options",
    [
        {"autoscale": "keda"}, {"max_replicas": 3}, {"min_replicas": 1}, {"autoscale": "vpa", "max_replicas": 2},
        {"autoscale": "keda", "max_replicas": 0}, {"autoscale": "keda", "max_replicas": 2, "min_replicas": 3},
        {"autoscale": "keda", "max_replicas": 10**9}, {"autoscale": "keda", "max_replicas": 2, "scale_to_zero": True},
        {"autoscale": "keda", "max_replicas": 2, "wake_query": "x"},
        {"autoscale": "keda", "max_replicas": 2, "scale_to_zero": True, "wake_query": "a\nb"},
        {"autoscale": "keda", "max_replicas": 2, "scale_to_zero": True, "wake_query": " "},
        {"autoscale": "keda", "max_replicas": 2, "scale_to_zero": True, "wake_query": "x", "min_replicas": 1},
        {"autoscale": "hpa", "max_replicas": 2, "scale_to_zero": True, "wake_query": "x"},
        {"autoscale": "hpa", "max_replicas": 2, "prometheus_url": "http://x:9090"},
        {"autoscale": "keda", "max_replicas": 2, "prometheus_url": "http://user:pw@x:9090"},
        {"autoscale": "keda", "max_replicas": 2, "prometheus_url": "ftp://x"},
        {"prometheus_url": "http://x"}, {"trigger_authentication": "a"}, {"target_requests": 3},
        {"priority_class": "A b"}, {"spread": "rack"}, {"scale_to_zero": True},
        {"autoscale": "keda", "max_replicas": 2, "target_requests": 0},
    ],
)  # fmt: skip
def test_numbers_that_contradict_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ScalingOptions(**options)


def test_a_plan_with_more_replicas_than_the_most() -> None:
    with pytest.raises(UsageError, match="5 replicas") as error:
        render(plan(replicas=5), options=RenderOptions(scaling=KEDA))
    assert "--max-replicas 5" in (error.value.hint or "")
    assert replicas_of(plan(replicas=2), RenderOptions(scaling=KEDA)).least == 2
    assert replicas_of(plan(replicas=2), RenderOptions()).scaled is False


def test_an_engine_that_says_nothing_is_not_scaled_and_not_watched() -> None:
    made = plan()
    silent = replace(made, engine=replace(made.engine, metrics=()))
    with pytest.raises(UnsupportedError, match="no metric"):
        render(silent, options=RenderOptions(scaling=KEDA))
    with pytest.raises(UnsupportedError, match="no metrics"):
        render(silent, options=RenderOptions(scaling=ScalingOptions(dashboard=True)))
    assert not {"PodMonitor", "PrometheusRule"} & kinds(render(silent))
