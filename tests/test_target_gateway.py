"""Target gateway: a pool that finds the pods, a picker that may see them, a route to the pool, two kinds of pods."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import Manifests, RenderOptions, render
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.weights import WeightOptions
from selfhost.plan import Plan
from selfhost.workload import Workload
from tests.plans import plan
from tests.test_manifests import kind, kinds, objects
from tests.validators import problems

WAY = AccessOptions(expose="gateway", gateway="public/gateways", host="llm.example")


def rendered(made: Plan | None = None, *, access: AccessOptions = WAY, **nodes: Any) -> Manifests:
    options = RenderOptions(access=access, nodes=NodeOptions(**nodes))
    return render(made or plan(replicas=2), target="gateway", options=options)


def named(manifests: Manifests, kind_: str, name: str) -> Any:
    (found,) = (one for one in objects(manifests) if one["kind"] == kind_ and one["metadata"]["name"] == name)
    return found


def pod_labels(manifests: Manifests, name: str) -> Any:
    return named(manifests, "Deployment", name)["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("readers", [None, 3])
def test_every_object_is_valid(readers: int | None) -> None:
    found = objects(rendered(prefill_replicas=readers))
    assert {one["kind"]: problems(one) for one in found if problems(one)} == {}
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names))


def test_the_pool_has_the_servers_and_nothing_else() -> None:
    manifests = rendered()
    pool = kind(manifests, "InferencePool")
    chosen = pool["spec"]["selector"]["matchLabels"].items()
    assert chosen <= pod_labels(manifests, "qwen3-32b")
    assert not chosen <= pod_labels(manifests, "qwen3-32b-picker")
    assert pool["spec"]["targetPorts"] == [{"number": 8000}]
    picker = named(manifests, "Service", pool["spec"]["endpointPickerRef"]["name"])
    ports = {port["name"]: port["port"] for port in picker["spec"]["ports"]}
    assert ports["grpc"] == pool["spec"]["endpointPickerRef"]["port"]["number"]
    assert picker["spec"]["selector"].items() <= pod_labels(manifests, "qwen3-32b-picker")


def test_the_route_goes_to_the_pool() -> None:
    (rule,) = kind(rendered(), "HTTPRoute")["spec"]["rules"]
    assert rule["backendRefs"] == [
        {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "qwen3-32b", "weight": 1}
    ]


def test_the_picker_sees_what_it_needs_and_changes_nothing() -> None:
    manifests = rendered()
    role, binding = kind(manifests, "Role"), kind(manifests, "RoleBinding")
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "qwen3-32b-picker", "namespace": "llm"}]
    spec = named(manifests, "Deployment", "qwen3-32b-picker")["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is True
    assert (
        named(manifests, "Deployment", "qwen3-32b")["spec"]["template"]["spec"][
            "automountServiceAccountToken"
        ]
        is False
    )
    (picker,) = spec["containers"]
    assert "--pool-name=qwen3-32b" in picker["args"]
    assert picker["readinessProbe"]["grpc"]["port"] == 9003
    config = yaml.safe_load(named(manifests, "ConfigMap", "qwen3-32b-picker")["data"]["picker.yaml"])
    plugins = {plugin["type"] for plugin in config["plugins"]}
    used = {one["pluginRef"] for profile in config["schedulingProfiles"] for one in profile["plugins"]}
    assert used <= plugins


def test_the_server_lets_the_picker_read_its_metrics() -> None:
    manifests = rendered()
    labels = named(manifests, "Deployment", "qwen3-32b-picker")["spec"]["selector"]["matchLabels"]
    rules = named(manifests, "NetworkPolicy", "qwen3-32b")["spec"]["ingress"]
    assert any({"podSelector": {"matchLabels": labels}} in rule["from"] for rule in rules)


def test_prompts_are_read_by_pods_of_their_own() -> None:
    manifests = rendered(prefill_replicas=3)
    prefill, decode = (
        named(manifests, "Deployment", "qwen3-32b-prefill"),
        named(manifests, "Deployment", "qwen3-32b"),
    )
    assert (prefill["spec"]["replicas"], decode["spec"]["replicas"]) == (3, 2)
    roles = [
        dict(pod_labels(manifests, name))["llm-d.ai/role"] for name in ("qwen3-32b-prefill", "qwen3-32b")
    ]
    assert roles == ["prefill", "decode"]
    pool = kind(manifests, "InferencePool")["spec"]["selector"]["matchLabels"].items()
    assert all(pool <= pod_labels(manifests, name) for name in ("qwen3-32b-prefill", "qwen3-32b"))
    for deployment in (prefill, decode):
        (server,) = deployment["spec"]["template"]["spec"]["containers"]
        (word,) = (word for word in server["args"] if word.startswith("--kv-transfer-config="))
        assert json.loads(word.partition("=")[2])["kv_connector"] == "NixlConnector"
        assert {item["name"] for item in server["env"]} >= {
            "VLLM_NIXL_SIDE_CHANNEL_HOST",
            "VLLM_NIXL_SIDE_CHANNEL_PORT",
        }
    selectors = [one["spec"]["selector"]["matchLabels"] for one in (prefill, decode)]
    assert not selectors[0].items() <= pod_labels(manifests, "qwen3-32b")
    assert not selectors[1].items() <= pod_labels(manifests, "qwen3-32b-prefill")


def test_the_policy_is_for_both_kinds_of_pods() -> None:
    manifests = rendered(prefill_replicas=1)
    guarded = named(manifests, "NetworkPolicy", "qwen3-32b")["spec"]["podSelector"]["matchLabels"].items()
    assert all(guarded <= pod_labels(manifests, name) for name in ("qwen3-32b-prefill", "qwen3-32b"))
    assert not guarded <= pod_labels(manifests, "qwen3-32b-picker")


def test_the_sidecar_has_the_pod_s_port_and_the_server_another() -> None:
    spec = named(rendered(prefill_replicas=1), "Deployment", "qwen3-32b")["spec"]["template"]["spec"]
    sidecar = next(one for one in spec["initContainers"] if one["name"] == "routing")
    (server,) = spec["containers"]
    assert sidecar["restartPolicy"] == "Always"
    assert [port["containerPort"] for port in sidecar["ports"]] == [8000]
    assert [port["containerPort"] for port in server["ports"]] == [8200]
    assert "--port=8200" in server["args"]
    assert "--vllm-port=8200" in sidecar["args"]
    assert server["readinessProbe"]["httpGet"]["port"] == "engine"


def test_adapters_and_places_of_weights_reach_both_kinds_of_pods() -> None:
    made = plan(replicas=2, workload=Workload(max_model_len=16384, concurrency=16, max_loras=1))
    nodes = NodeOptions(prefill_replicas=1, lora=("law=/lora/law",))
    options = RenderOptions(access=WAY, nodes=nodes, weights=WeightOptions(uri="pvc:models#qwen"))
    manifests = render(made, target="gateway", options=options)
    for name in ("qwen3-32b-prefill", "qwen3-32b"):
        (server,) = named(manifests, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert server["args"][0] == "/weights/qwen"
        assert "law=/weights/lora/law" in server["args"]


def test_what_is_not_said_is_assumed_aloud() -> None:
    manifests = rendered(access=AccessOptions())
    route = kind(manifests, "HTTPRoute")["spec"]
    assert route["hostnames"] == ["qwen3-32b.internal"]
    assert route["parentRefs"][0]["name"] == "inference-gateway"
    readme = next(document.text for document in manifests.documents if document.name == "README.md")
    assert "ASSUMED" in readme


def test_a_plain_ingress_is_a_choice() -> None:
    access = AccessOptions(expose="ingress", ingress_class="nginx", host="llm.example")
    options = RenderOptions(access=access, gateway_namespace="ingress-nginx")
    found = kinds(render(plan(), target="gateway", options=options))
    assert "Ingress" in found
    assert not {"InferencePool", "HTTPRoute", "Role"} & set(found)


def test_what_cannot_be_is_refused_with_a_way_out() -> None:
    with pytest.raises(UnsupportedError, match="too old"):
        rendered(plan(engine="vllm@0.11"), prefill_replicas=1)
    access = AccessOptions(expose="ingress", ingress_class="nginx", host="llm.example")
    options = RenderOptions(access=access, gateway_namespace="x", nodes=NodeOptions(prefill_replicas=1))
    with pytest.raises(UsageError, match="endpoint picker"):
        render(plan(), target="gateway", options=options)


@pytest.mark.parametrize(
    ("changes", "told"),
    [({}, ("qwen3-32b-picker",)), ({"prefill_replicas": 1}, ("qwen3-32b-picker", "qwen3-32b-prefill"))],
)
def test_readme_waits_for_every_deployment_and_names_what_is_there(
    changes: dict[str, Any], told: tuple[str, ...]
) -> None:
    readme = next(one.text for one in rendered(**changes).documents if one.name == "README.md")
    made = [one["metadata"]["name"] for one in objects(rendered(**changes)) if one["kind"] == "Deployment"]
    assert sorted(made) == sorted(("qwen3-32b", *told))
    assert all(f"rollout status deployment/{name} " in readme for name in made)


def test_readme_of_an_ingress_asks_for_no_pool() -> None:
    way = AccessOptions(expose="ingress", host="llm.example")
    options = RenderOptions(access=way, gateway_namespace="ingress-nginx")
    documents = render(plan(), target="gateway", options=options).documents
    readme = next(one.text for one in documents if one.name == "README.md")
    assert "inferencepool" not in readme
    assert "get ingress" in readme
