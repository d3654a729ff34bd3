"""Target kserve: the object starts exactly the plan, and survives what KServe makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from selfhost.engines import Argument, EnvVar
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import Manifests, RenderOptions, render
from selfhost.manifests.kserve import PRESET
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.kserve import KserveOptions
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.manifests.options.weights import WeightOptions
from selfhost.manifests.peers import templated
from selfhost.plan import Plan
from selfhost.workload import Split
from tests.charts_of_peers import executed
from tests.matrix import LOADER
from tests.plans import plan
from tests.validators import problems

LLM = RenderOptions(surge=True, access_mode="ReadWriteMany", kserve=KserveOptions(kind="LLMInferenceService"))
KEDA = ScalingOptions(autoscale="keda", max_replicas=3)
CASES: dict[str, tuple[Plan, RenderOptions]] = {
    "single": (plan(replicas=2), RenderOptions()),
    "llm": (plan(), LLM),
    "nodes": (plan(split=Split(tensor=8, pipeline=2)), RenderOptions()),
}
# Of its Services, InferencePools and Deployments, by which KServe finds pods (pkg/constants/constants.go).
OWN_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/part-of", "app.kubernetes.io/component")


@cache
def rendered(case: str) -> Manifests:
    made, options = CASES[case]
    return render(made, target="kserve", options=options)


@lru_cache(maxsize=64)
def objects(manifests: Manifests) -> tuple[Any, ...]:
    """Its objects; not to be changed."""
    texts = [document.text for document in manifests.documents if document.is_object]
    return tuple(yaml.load(text, LOADER) for text in texts)


def kind(manifests: Manifests, name: str) -> Any:
    (found,) = (document for document in objects(manifests) if document["kind"] == name)
    return found


def unescaped(words: list[str]) -> list[str]:
    """Words as the engine gets them: through Go's templates where KServe has them, and Kubernetes' expansion."""
    return [executed(word).replace("$$", "$") for word in words]


@pytest.mark.parametrize("case", CASES)
class TestEveryCase:
    def test_object_and_readme_equal_their_golden_files(
        self, case: str, golden: Callable[[str, str], str]
    ) -> None:
        for document in rendered(case).documents:
            if document.name == "README.md" or document.name[:2] in ("45", "50"):
                assert document.text == golden(f"kserve/{case}/{document.name}", document.text)

    def test_is_valid(self, case: str) -> None:
        assert [problem for document in objects(rendered(case)) for problem in problems(document)] == []

    def test_makes_no_workload_and_no_service_of_its_own(self, case: str) -> None:
        assert not {"Deployment", "Service", "Ingress"} & {item["kind"] for item in objects(rendered(case))}

    def test_readme_says_what_is_lost(self, case: str) -> None:
        (readme,) = (one.text for one in rendered(case).documents if one.name == "README.md")
        assert "What KServe cannot say" in readme


class TestInferenceService:
    def test_is_a_deployment_whose_replicas_stay(self) -> None:
        found = kind(rendered("single"), "InferenceService")
        notes, predictor = found["metadata"]["annotations"], found["spec"]["predictor"]
        assert notes["serving.kserve.io/deploymentMode"] == "Standard"
        assert notes["serving.kserve.io/autoscalerClass"] == "none"
        assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 2)
        assert predictor["deploymentStrategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}

    def test_is_not_ready_before_its_only_pod(self) -> None:
        """A Deployment that may miss its only pod is available at once, and KServe repeats that as Ready."""
        (alone,) = [
            found["spec"]["predictor"]["deploymentStrategy"]
            for found in objects(render(plan(), target="kserve"))
            if found["kind"] == "InferenceService"
        ]
        assert alone == {"type": "Recreate"}

    def test_readme_waits_for_the_pods_themselves(self) -> None:
        """The Deployment's own progress deadline is KServe's 600 s, at which `rollout status` ends with an error."""
        (readme,) = (one.text for one in rendered("single").documents if one.name == "README.md")
        assert "rollout status" not in readme
        assert "--for=jsonpath='{.status.readyReplicas}'=2 deployment/" in readme

    def test_waits_longer_for_an_answer_than_kserve(self) -> None:
        assert kind(rendered("single"), "InferenceService")["spec"]["predictor"]["timeout"] > 60

    def test_first_container_is_the_one_that_kserve_looks_for(self) -> None:
        predictor = kind(rendered("single"), "InferenceService")["spec"]["predictor"]
        assert [one["name"] for one in predictor["containers"]] == ["kserve-container"]
        assert predictor["annotations"]["kubectl.kubernetes.io/default-container"] == "kserve-container"

    def test_starts_exactly_the_plan(self) -> None:
        made, _ = CASES["single"]
        (container,) = kind(rendered("single"), "InferenceService")["spec"]["predictor"]["containers"]
        assert container["command"] == list(made.engine.command)
        assert container["args"] == [word.text for word in made.engine.args]
        assert {one["name"]: one["value"] for one in container["env"]} == {
            one.name: one.value for one in made.engine.env
        }
        assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": 15}}

    def test_what_stands_beside_selects_its_pods(self) -> None:
        labels = kind(rendered("single"), "InferenceService")["spec"]["predictor"]["labels"].items()
        for name in ("PodDisruptionBudget", "PodMonitor"):
            assert kind(rendered("single"), name)["spec"]["selector"]["matchLabels"].items() <= labels

    def test_scaling_is_ours(self) -> None:
        options = RenderOptions(access_mode="ReadWriteMany", scaling=KEDA)
        manifests = render(plan(), target="kserve", options=options)
        found = kind(manifests, "InferenceService")
        assert found["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
        scaled = kind(manifests, "ScaledObject")["spec"]
        assert scaled["scaleTargetRef"]["name"] == "qwen3-32b-predictor"
        assert all('pod=~"qwen3-32b-predictor-' in one["metadata"]["query"] for one in scaled["triggers"])

    def test_route_leads_to_kserves_service(self) -> None:
        access = AccessOptions(expose="gateway", host="llm.example.org", gateway="public/gateways")
        route = kind(render(plan(), target="kserve", options=RenderOptions(access=access)), "HTTPRoute")
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        assert (backend["name"], backend["port"]) == ("qwen3-32b-predictor", 80)


class TestLlmInferenceService:
    def test_kserves_labels_stay_kserves(self) -> None:
        for case in ("llm", "nodes"):
            found = kind(rendered(case), "LLMInferenceService")
            assert not set(OWN_LABELS) & set(found["spec"]["labels"])
            assert found["spec"]["labels"] == {"selfhost/instance": "qwen3-32b"}
            policy, _ = (one for one in objects(rendered(case)) if one["kind"] == "NetworkPolicy")
            assert policy["spec"]["podSelector"]["matchLabels"] == found["spec"]["labels"]

    def test_nothing_is_fetched_twice(self) -> None:
        spec = kind(rendered("llm"), "LLMInferenceService")["spec"]
        assert spec["storageInitializer"] == {"enabled": False}
        assert spec["model"] == {"uri": "hf://Qwen/Qwen3-32B", "name": "Qwen/Qwen3-32B"}

    def test_weights_of_a_claim_are_named_as_such(self) -> None:
        image = f"registry.example/models/qwen:1@sha256:{'ab' * 32}"
        for uri, wanted in (("pvc:models#qwen", "pvc://models/qwen"), (f"oci://{image}", f"oci://{image}")):
            options = replace(LLM, weights=WeightOptions(uri=uri))
            spec = kind(render(plan(), target="kserve", options=options), "LLMInferenceService")["spec"]
            assert spec["model"]["uri"] == wanted

    def test_ends_by_the_handler_that_the_preset_has(self) -> None:
        (container,) = kind(rendered("llm"), "LLMInferenceService")["spec"]["template"]["containers"]
        assert container["name"] == "main"
        assert container["lifecycle"]["preStop"] == {"exec": {"command": ["/bin/sleep", "15"]}}

    def test_engine_moves_to_the_port_of_kserves_service(self) -> None:
        made = plan(engine="sglang")
        (container,) = kind(render(made, target="kserve", options=LLM), "LLMInferenceService")["spec"][
            "template"
        ]["containers"]
        assert "--port=8000" in container["args"]
        assert container["ports"][0] == {"name": "http", "containerPort": 8000, "protocol": "TCP"}
        others = [word.text for word in made.engine.args if word.flag != "--port"]
        assert [word for word in unescaped(container["args"]) if word != "--port=8000"] == others

    def test_volumes_replace_the_presets(self) -> None:
        template = kind(rendered("llm"), "LLMInferenceService")["spec"]["template"]
        volumes = {one["name"]: one for one in template["volumes"]}
        assert volumes["dshm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "4Gi"}
        assert set(volumes) == {"weights", "dshm", "home", "tmp-dir"}

    @pytest.mark.parametrize(
        ("router", "wanted"),
        [("none", None), ("route", {"route": {}}), ("scheduler", {"route": {}, "scheduler": {}})],
    )
    def test_router(self, router: str, wanted: Any) -> None:
        options = replace(LLM, kserve=KserveOptions(kind="LLMInferenceService", router=router))
        spec = kind(render(plan(), target="kserve", options=options), "LLMInferenceService")["spec"]
        assert spec.get("router") == wanted

    def test_scaled_replicas_are_nobody_elses(self) -> None:
        manifests = render(plan(), target="kserve", options=replace(LLM, scaling=KEDA))
        assert "replicas" not in kind(manifests, "LLMInferenceService")["spec"]
        assert kind(manifests, "ScaledObject")["spec"]["scaleTargetRef"]["name"] == "qwen3-32b-kserve"

    @given(st.text(max_size=40))
    def test_any_text_comes_out_of_a_go_template_as_itself(self, text: str) -> None:
        assert executed(templated(text)) == text

    @settings(max_examples=12, deadline=None)
    @given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=30))
    def test_any_argument_and_variable_arrives_as_itself(self, text: str) -> None:
        made = plan()
        word = Argument(flag="--chat-template", value=text, because="any")
        variable = EnvVar(name="ANY", value=text, because="any")
        engine = replace(made.engine, args=(*made.engine.args, word), env=(*made.engine.env, variable))
        found = render(replace(made, engine=engine), target="kserve", options=LLM)
        (container,) = kind(found, "LLMInferenceService")["spec"]["template"]["containers"]
        assert unescaped(container["args"])[-1] == f"--chat-template={text}"
        assert unescaped([container["env"][-1]["value"]]) == [text]


class TestSeveralNodes:
    def test_is_an_llminferenceservice_with_the_preset_that_kserve_lacks(self) -> None:
        assert kind(rendered("nodes"), "LLMInferenceServiceConfig")["metadata"]["name"] == PRESET
        assert kind(rendered("nodes"), "LLMInferenceService")["spec"]["parallelism"] == {"pipeline": 2}

    def test_leader_serves_and_workers_follow(self) -> None:
        made, _ = CASES["nodes"]
        spec = kind(rendered("nodes"), "LLMInferenceService")["spec"]
        planned = [word.text for word in made.engine.args]
        for pod in (spec["template"], spec["worker"]):
            (container,) = pod["containers"]
            assert container["args"][: len(planned)] == planned
            assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
        assert "--headless" in spec["worker"]["containers"][0]["args"]
        assert "startupProbe" in spec["template"]["containers"][0]
        assert "startupProbe" not in spec["worker"]["containers"][0]

    def test_pods_of_a_group_may_talk(self) -> None:
        policy, _ = (one for one in objects(rendered("nodes")) if one["kind"] == "NetworkPolicy")
        group = {"podSelector": {"matchLabels": {"selfhost/instance": "qwen3-32b"}}}
        for direction, side in (("ingress", "from"), ("egress", "to")):
            assert group in [peer for rule in policy["spec"][direction] for peer in rule[side]]

    def test_scaling_scales_groups(self) -> None:
        made, _ = CASES["nodes"]
        target = kind(render(made, target="kserve", options=RenderOptions(scaling=KEDA)), "ScaledObject")
        assert target["spec"]["scaleTargetRef"] == {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "name": "qwen3-32b-kserve-mn",
        }


class TestRefusals:
    def test_update_that_waits_for_ever(self) -> None:
        options = RenderOptions(kserve=KserveOptions(kind="LLMInferenceService"))
        with pytest.raises(UnsupportedError, match="no strategy") as error:
            render(plan(), target="kserve", options=options)
        assert "--surge" in str(error.value.hint)
        render(plan(replicas=4), target="kserve", options=options)  # a quarter of four may be missing

    def test_several_nodes_as_an_inferenceservice(self) -> None:
        options = RenderOptions(kserve=KserveOptions(kind="InferenceService"))
        with pytest.raises(UnsupportedError, match="several nodes"):
            render(CASES["nodes"][0], target="kserve", options=options)

    def test_port_that_kserves_service_does_not_reach(self) -> None:
        made = plan()
        unmoved = replace(made, engine=replace(made.engine, port=11434))
        with pytest.raises(UnsupportedError, match="8000 alone") as error:
            render(unmoved, target="kserve", options=LLM)
        assert "InferenceService" in str(error.value.hint)

    @pytest.mark.parametrize(
        "options",
        [
            RenderOptions(
                access=AccessOptions(expose="ingress", host="llm.example.org"), gateway_namespace="gateway"
            ),
            RenderOptions(kserve=KserveOptions(router="route")),
            RenderOptions(nodes=NodeOptions(prefill_replicas=1)),
        ],
        ids=["ingress", "router", "prefill"],
    )
    def test_option_without_a_place(self, options: RenderOptions) -> None:
        with pytest.raises(UsageError) as error:
            render(plan(), target="kserve", options=options)
        assert error.value.hint

    @pytest.mark.parametrize("values", [{"kind": "Pod"}, {"router": "mesh"}])
    def test_word_that_is_not_known(self, values: dict[str, str]) -> None:
        with pytest.raises(UsageError) as error:
            KserveOptions(**values)
        assert error.value.hint
