"""Target production-stack: values that the chart knows to the last key, and that give the plan's own arguments."""

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
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.manifests.production_stack import CHART, CHART_VARIABLES, ROUTER_TAG
from selfhost.workload import Split, Workload
from tests.charts_of_peers import problems
from tests.matrix import CASES, LOADER, rendered
from tests.plans import plan
from tests.validators import problems as object_problems

OURS = sorted(name for name, case in CASES.items() if case.target == "production-stack")
# Kubernetes' own fields in what the chart passes on or prints whole (templates/_helpers.tpl, deployment-router.yaml),
# and a key of its template that its schema leaves out; scripts/check_peer_charts.py sees them arrive.
KNOWN = frozenset(
    [f"servingEngineSpec.containerSecurityContext.{key}" for key in
     ("allowPrivilegeEscalation", "readOnlyRootFilesystem", "runAsUser", "capabilities", "seccompProfile")]
    + [f"{part}.{probe}.timeoutSeconds" for part in ("servingEngineSpec", "routerSpec")
       for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    + ["routerSpec.resources.requests.ephemeral-storage", "routerSpec.resources.limits.cpu",
       "routerSpec.resources.limits.ephemeral-storage",
       "servingEngineSpec.modelSpec[].vllmConfig.prometheusMultiprocDir"]
)  # fmt: skip


def file(manifests: Manifests, name: str) -> str:
    (text,) = (document.text for document in manifests.documents if document.name == name)
    return text


@lru_cache(maxsize=64)
def _read(text: str) -> Any:
    return yaml.load(text, LOADER)


def values(manifests: Manifests) -> Any:
    """Values of a chart; not to be changed."""
    return _read(file(manifests, "values.yaml"))


def model(manifests: Manifests) -> Any:
    (found,) = values(manifests)["servingEngineSpec"]["modelSpec"]
    return found


@cache
def plain() -> Manifests:
    return render(plan(replicas=2), target="production-stack")


def started(manifests: Manifests) -> set[tuple[str, str]]:
    """Flags and values that the chart's template writes, beside host and prefix caching, which it always does."""
    spec, engine = model(manifests), values(manifests)["servingEngineSpec"]
    config = spec["vllmConfig"]
    found = {("", spec["modelURL"]), ("--port", str(engine["containerPort"]))}
    found.add(("--tensor-parallel-size", str(config["tensorParallelSize"])))
    if "maxModelLen" in config:
        found.add(("--max-model-len", str(config["maxModelLen"])))
    if "modelRevision" in spec:
        found.add(("--revision", spec["modelRevision"]))
    if not config["enablePrefixCaching"]:
        found.add(("--no-enable-prefix-caching", ""))
    return found | {(name, value) for name, _, value in (word.partition("=") for word in config["extraArgs"])}


def planned(manifests_of: Any) -> set[tuple[str, str]]:
    return {(word.flag or "", word.value or "") for word in manifests_of.engine.args}


@pytest.mark.parametrize("name", OURS)
class TestEveryCase:
    def test_every_key_is_one_that_the_chart_knows(self, name: str) -> None:
        assert problems(CHART, values(rendered(name)), known=KNOWN) == []

    def test_shared_memory_is_there(self, name: str) -> None:
        """The chart makes it for this key alone, spelled so."""
        spec = model(rendered(name))
        assert spec["vllmConfig"]["tensorParallelSize"] == CASES[name].plan.split.tensor
        assert spec["shmSize"].endswith("Gi")
        assert not any(mount["mountPath"] == "/dev/shm" for mount in spec["extraVolumeMounts"])

    def test_no_variable_is_there_twice(self, name: str) -> None:
        names = [one["name"] for one in model(rendered(name))["env"]]
        assert len(set(names)) == len(names)
        assert not set(names) & CHART_VARIABLES

    def test_gpus_are_not_doubled_by_an_update(self, name: str) -> None:
        strategy = values(rendered(name))["servingEngineSpec"]["strategy"]["rollingUpdate"]
        assert strategy["maxSurge"] == (1 if CASES[name].options.surge else 0)

    def test_patch_says_how_a_pod_ends(self, name: str) -> None:
        patch = yaml.safe_load(file(rendered(name), "patch-deployment.yaml"))["spec"]
        pod, clocks = patch["template"]["spec"], CASES[name].plan.clocks
        assert pod["terminationGracePeriodSeconds"] == clocks.grace_seconds.value
        assert pod["enableServiceLinks"] is False
        assert patch["progressDeadlineSeconds"] == clocks.progress_deadline_seconds.value
        (container,) = pod["containers"]
        assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": clocks.pre_stop_seconds.value}}


@pytest.mark.parametrize(
    "made",
    [
        plan(),
        plan(
            workload=Workload(max_model_len=8192, prefix_caching=False, max_num_seqs=64, enforce_eager=True)
        ),
        plan(model={"origin": "catalogue", "revision": None}),
        plan(engine="vllm@0.11"),
    ],
    ids=["plain", "workload", "unpinned", "old"],
)
def test_arguments_are_the_plans(made: Any) -> None:
    assert started(render(made, target="production-stack")) == planned(made)


def test_values_patch_and_readme_equal_their_golden_files(golden: Callable[[str, str], str]) -> None:
    for name in ("values.yaml", "patch-deployment.yaml", "README.md"):
        text = file(plain(), name)
        assert text == golden(f"production-stack/replicas/{name}", text)


def test_readme_is_loud_about_what_is_lost() -> None:
    readme = file(plain(), "README.md")
    for word in ("cannot say how a pod ends", "terminationGracePeriodSeconds", "model_name", "root"):
        assert word in readme
    assert "https://" not in readme
    assert "oci://" not in readme


def test_router_is_pinned_and_restricted() -> None:
    router = values(plain())["routerSpec"]
    assert router["tag"] == ROUTER_TAG != "latest"
    assert router["securityContext"]["runAsNonRoot"] is True
    assert router["containerSecurityContext"]["capabilities"] == {"drop": ["ALL"]}
    start = router["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 300


def test_key_is_the_charts_variable() -> None:
    options = RenderOptions(access=AccessOptions(api_key_secret="keys"))
    found = values(render(plan(), target="production-stack", options=options))
    assert found["servingEngineSpec"]["vllmApiKey"] == {"secretName": "keys", "secretKey": "api-key"}


def test_ingress_is_the_charts_and_a_route_is_ours() -> None:
    ingress = RenderOptions(
        access=AccessOptions(expose="ingress", host="llm.example.org", tls_secret="tls"),
        gateway_namespace="ingress-nginx",
    )
    made = render(plan(), target="production-stack", options=ingress)
    assert not any("kind: Ingress" in document.text for document in made.documents if document.is_object)
    assert values(made)["routerSpec"]["ingress"]["hosts"][0]["host"] == "llm.example.org"
    gateway = RenderOptions(
        access=AccessOptions(expose="gateway", host="llm.example.org", gateway="public/gateways")
    )
    route = yaml.safe_load(
        file(render(plan(), target="production-stack", options=gateway), "65-httproute.yaml")
    )
    assert route["spec"]["rules"][0]["backendRefs"][0]["name"] == "qwen3-32b-router-service"


def test_scaling_is_ours_and_finds_something() -> None:
    options = RenderOptions(
        access_mode="ReadWriteMany", scaling=ScalingOptions(autoscale="keda", max_replicas=3)
    )
    made = render(plan(), target="production-stack", options=options)
    assert "keda" not in model(made)
    scaled = yaml.safe_load(file(made, "75-scaledobject.yaml"))
    assert object_problems(scaled) == []
    assert scaled["spec"]["scaleTargetRef"]["name"] == "qwen3-32b-llm-deployment-vllm"
    for trigger in scaled["spec"]["triggers"]:
        query = trigger["metadata"]["query"]
        assert query.startswith("sum(")
        assert 'model_name="Qwen/Qwen3-32B"' in query


@settings(max_examples=12, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=30))
def test_any_text_arrives_as_itself(text: str) -> None:
    made = plan()
    word = Argument(flag="--chat-template", value=text, because="any")
    variable = EnvVar(name="ANY", value=text, because="any")
    engine = replace(made.engine, args=(*made.engine.args, word), env=(*made.engine.env, variable))
    found = model(render(replace(made, engine=engine), target="production-stack"))
    assert found["vllmConfig"]["extraArgs"][-1].replace("$$", "$") == f"--chat-template={text}"
    assert found["env"][-1]["value"].replace("$$", "$") == text


@pytest.mark.parametrize("engine", sorted(set(engine_names()) - {"vllm"}))
def test_other_engines_are_refused(engine: str) -> None:
    made = plan()
    with pytest.raises(UnsupportedError, match=engine) as error:
        render(replace(made, engine=replace(made.engine, name=engine)), target="production-stack")
    assert "--target kubernetes" in str(error.value.hint)


def test_other_commands_are_refused() -> None:
    made = plan()
    other = replace(made, engine=replace(made.engine, command=("python3", "-m", "server")))
    with pytest.raises(UnsupportedError, match="python3 -m server"):
        render(other, target="production-stack")


def test_several_nodes_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="several nodes"):
        render(plan(split=Split(tensor=8, pipeline=2)), target="production-stack")


def test_two_pull_secrets_are_refused() -> None:
    options = RenderOptions(access=AccessOptions(image_pull_secrets=("one", "two")))
    with pytest.raises(UnsupportedError) as error:
        render(plan(), target="production-stack", options=options)
    assert error.value.hint


def test_option_without_a_place_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        render(
            plan(), target="production-stack", options=RenderOptions(nodes=NodeOptions(prefill_replicas=1))
        )
    assert error.value.hint
