"""Target llm-d: values that the chart's schema takes, whose pod is exactly the plan's, and a pool that selects it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from selfhost.engines import Argument, EnvVar, engine_names
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import Manifests, RenderOptions, render
from selfhost.manifests.llm_d import CHART, CHART_VERSION, ENGINES
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.plan import Plan
from selfhost.workload import Split
from tests.charts_of_peers import executed, problems
from tests.matrices import fitting
from tests.matrix import CASES, LOADER, rendered
from tests.plans import plan

OURS = sorted(name for name, case in CASES.items() if case.target == "llm-d")


def file(manifests: Manifests, name: str) -> str:
    (text,) = (document.text for document in manifests.documents if document.name == name)
    return text


@lru_cache(maxsize=64)
def _read(text: str) -> Any:
    return yaml.load(text, LOADER)


def values(manifests: Manifests) -> Any:
    """Values of a chart; not to be changed."""
    return _read(file(manifests, "values.yaml"))


@cache
def plain() -> Manifests:
    return render(plan(replicas=2), target="llm-d")


def container(manifests: Manifests) -> Any:
    (found,) = values(manifests)["decode"]["containers"]
    return found


@pytest.mark.parametrize("name", OURS)
class TestEveryCase:
    def test_values_are_what_the_chart_takes(self, name: str) -> None:
        assert problems(CHART, values(rendered(name))) == []

    def test_starts_exactly_the_plan(self, name: str) -> None:
        case, found = CASES[name], container(rendered(name))
        assert found["modelCommand"] == "custom"
        assert found["mountModelVolume"] is False
        assert found["command"] == list(case.plan.engine.command)
        flags = {word.flag for word in case.plan.engine.args if word.flag and word.flag != "--revision"}
        assert flags <= {word.partition("=")[0] for word in found["args"]}

    def test_has_what_the_charts_own_pods_lack(self, name: str) -> None:
        extra, pod = container(rendered(name))["extraConfig"], values(rendered(name))["decode"]
        assert {"startupProbe", "readinessProbe", "livenessProbe", "lifecycle"} <= set(extra)
        assert extra["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["extraConfig"]["securityContext"]["runAsNonRoot"] is True
        assert pod["extraConfig"]["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert any(
            volume.get("emptyDir", {}).get("medium") == "Memory" and volume["emptyDir"]["sizeLimit"]
            for volume in pod["volumes"]
        )

    def test_selector_has_nothing_that_changes_with_a_release(self, name: str) -> None:
        labels = values(rendered(name))["modelArtifacts"]["labels"]
        assert "app.kubernetes.io/version" not in labels

    def test_pool_selects_the_pods(self, name: str) -> None:
        pool = yaml.safe_load(file(rendered(name), "inferencepool-values.yaml"))["inferencePool"]
        assert (
            pool["modelServers"]["matchLabels"].items()
            <= values(rendered(name))["modelArtifacts"]["labels"].items()
        )
        assert pool["targetPorts"] == [{"number": CASES[name].plan.engine.port}]


def test_values_and_readme_equal_their_golden_files(golden: Callable[[str, str], str]) -> None:
    for name in ("values.yaml", "inferencepool-values.yaml", "README.md"):
        text = file(plain(), name)
        assert text == golden(f"llm-d/replicas/{name}", text)


def test_readme_names_the_charts_version_and_what_is_lost() -> None:
    readme = file(plain(), "README.md")
    assert f"{CHART} {CHART_VERSION}" in readme
    assert "progressDeadlineSeconds" in readme
    assert "oci://" not in readme
    assert "https://" not in readme


def test_clocks_are_the_plans() -> None:
    made, extra = plan(), container(plain())["extraConfig"]
    start = extra["startupProbe"]
    assert start["failureThreshold"] * start["periodSeconds"] >= made.clocks.load_seconds.value
    assert extra["lifecycle"]["preStop"] == {"sleep": {"seconds": made.clocks.pre_stop_seconds.value}}
    assert values(plain())["decode"]["terminationGracePeriodSeconds"] == made.clocks.grace_seconds.value
    assert values(plain())["decode"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_accelerators_are_counted_whole() -> None:
    stages = render(fitting("l4-24gb", tensor=2, pipeline=2), target="llm-d")
    for which in ("requests", "limits"):
        assert container(stages)["resources"][which]["nvidia.com/gpu"] == "4"
    assert "accelerator-warning" in file(stages, "README.md")
    amd = values(render(plan(gpu="mi300x-192gb", tensor=1), target="llm-d"))
    assert amd["accelerator"] == {"type": "amd", "resources": {"amd": "amd.com/gpu"}}


def test_route_leads_to_the_pool_and_scaling_to_the_charts_deployment() -> None:
    options = RenderOptions(
        access_mode="ReadWriteMany",
        access=AccessOptions(expose="gateway", host="llm.example.org", gateway="public/gateways"),
        scaling=ScalingOptions(autoscale="keda", max_replicas=3),
    )
    made = render(plan(), target="llm-d", options=options)
    found = {one["kind"]: one for one in (yaml.safe_load(d.text) for d in made.documents if d.is_object)}
    (backend,) = found["HTTPRoute"]["spec"]["rules"][0]["backendRefs"]
    assert (backend["kind"], backend["name"]) == ("InferencePool", "qwen3-32b-pool")
    assert found["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == "qwen3-32b-decode"
    assert "helm upgrade" in file(made, "README.md")


def test_prefill_apart_from_decode() -> None:
    made = render(
        plan(replicas=2), target="llm-d", options=RenderOptions(nodes=NodeOptions(prefill_replicas=3))
    )
    found = values(made)
    assert problems(CHART, found) == []
    reading, writing = found["prefill"], found["decode"]
    assert (reading["create"], reading["replicas"], writing["replicas"]) == (True, 3, 2)
    for role in (reading, writing):
        (server,) = role["containers"]
        assert any("NixlConnector" in word for word in server["args"])
        assert server["resources"]["limits"]["nvidia.com/gpu"] == "2"
        assert {"startupProbe", "lifecycle"} <= set(server["extraConfig"])
    assert [one["name"] for one in writing["initContainers"]] == ["weights", "routing"]
    assert [one["name"] for one in reading["initContainers"]] == ["weights"]
    assert found["routing"]["proxy"]["enabled"] is False
    pool = yaml.safe_load(file(made, "inferencepool-values.yaml"))
    picker = pool["inferenceExtension"]
    assert picker["pluginsConfigFile"] in picker["pluginsCustomConfig"]
    assert "prefill-filter" in picker["pluginsCustomConfig"][picker["pluginsConfigFile"]]
    labels = found["modelArtifacts"]["labels"]
    assert pool["inferencePool"]["modelServers"]["matchLabels"].items() <= labels.items()
    budget = yaml.safe_load(file(made, "70-poddisruptionbudget.yaml"))
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


@settings(max_examples=12, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=30))
def test_any_text_arrives_as_itself(text: str) -> None:
    """The chart reads variables as templates and arguments as they are."""
    made = plan()
    word = Argument(flag="--chat-template", value=text, because="any")
    variable = EnvVar(name="ANY", value=text, because="any")
    engine = replace(made.engine, args=(*made.engine.args, word), env=(*made.engine.env, variable))
    found = container(render(replace(made, engine=engine), target="llm-d"))
    assert found["args"][-1].replace("$$", "$") == f"--chat-template={text}"
    assert executed(found["env"][-1]["value"]).replace("$$", "$") == text


@pytest.mark.parametrize("engine", sorted(set(engine_names()) - set(ENGINES)))
def test_other_engines_are_refused(engine: str) -> None:
    made = plan()
    other: Plan = replace(made, engine=replace(made.engine, name=engine))
    with pytest.raises(UnsupportedError, match=engine) as error:
        render(other, target="llm-d")
    assert "--target kubernetes" in str(error.value.hint)


def test_several_nodes_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="several nodes") as error:
        render(plan(split=Split(tensor=8, pipeline=2)), target="llm-d")
    assert "--target lws" in str(error.value.hint)


@pytest.mark.parametrize(
    "options",
    [
        RenderOptions(
            access=AccessOptions(expose="ingress", host="llm.example.org"), gateway_namespace="gateway"
        ),
    ],
    ids=["ingress"],
)
def test_option_without_a_place_is_refused(options: RenderOptions) -> None:
    with pytest.raises(UsageError) as error:
        render(plan(), target="llm-d", options=options)
    assert error.value.hint
