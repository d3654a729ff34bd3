"""Keys and ways in: secrets by name alone, the API alone from outside, long enough, and what contradicts itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from selfhost.engines import Key
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import Manifests, RenderOptions, render
from selfhost.manifests.exposure import Backend, exposure
from selfhost.manifests.options.access import AccessOptions
from selfhost.plan import Plan
from tests.plans import plan
from tests.validators import problems

GATEWAY = AccessOptions(expose="gateway", host="llm.example.org", gateway="public/gateways")
INGRESS = AccessOptions(expose="ingress", host="llm.example.org", ingress_class="nginx", tls_secret="llm-tls")


def objects(manifests: Manifests) -> list[Any]:
    return [yaml.safe_load(document.text) for document in manifests.documents if document.is_object]


def found(manifests: Manifests, kind: str) -> Any:
    (one,) = (document for document in objects(manifests) if document["kind"] == kind)
    return one


def made(access: AccessOptions, given: Plan | None = None, **more: Any) -> Manifests:
    return render(given or plan(), options=RenderOptions(access=access, **more))


def readme(manifests: Manifests) -> str:
    return next(document.text for document in manifests.documents if document.name == "README.md")


def pod(manifests: Manifests, kind: str = "Deployment") -> Any:
    return found(manifests, kind)["spec"]["template"]["spec"]


def with_key(key: Key | None) -> Plan:
    given = plan()
    return replace(given, engine=replace(given.engine, key=key))


def test_the_key_comes_from_a_secret() -> None:
    manifests = made(AccessOptions(api_key_secret="llm-key"))
    (server,) = pod(manifests)["containers"]
    (key,) = (item for item in server["env"] if item["name"] == "VLLM_API_KEY")
    assert key["valueFrom"] == {"secretKeyRef": {"name": "llm-key", "key": "api-key"}}
    assert not any("api-key" in word for word in server["args"])
    assert all(item["name"] != "VLLM_API_KEY" for item in pod(manifests, "Job")["containers"][0]["env"])
    assert "create secret generic llm-key --from-literal=api-key=" in readme(manifests)
    assert "Secret" not in {document["kind"] for document in objects(manifests)}


def test_probes_and_metrics_ask_paths_that_need_no_key() -> None:
    (server,) = pod(made(AccessOptions(api_key_secret="llm-key")))["containers"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert not server[name]["httpGet"]["path"].startswith("/v1")


def test_the_key_is_a_file_where_the_engine_has_no_variable() -> None:
    manifests = made(
        AccessOptions(api_key_secret="llm-key"), with_key(Key(file_flag="--api-key-file", source="test"))
    )
    (server,) = pod(manifests)["containers"]
    assert server["args"][-1] == "--api-key-file=/var/run/secrets/selfhost-key/api-key"
    mounts = {mount["name"]: mount for mount in server["volumeMounts"]}
    assert mounts["api-key"] == {
        "name": "api-key", "mountPath": "/var/run/secrets/selfhost-key", "readOnly": True,
    }  # fmt: skip
    volumes = {volume["name"]: volume for volume in pod(manifests)["volumes"]}
    assert volumes["api-key"]["secret"]["secretName"] == "llm-key"
    assert "optional" not in volumes["api-key"]["secret"]
    assert not any(problems(document) for document in objects(manifests))


def test_a_key_inside_a_file_of_arguments_is_said_with_what_stands_around_it() -> None:
    key = Key(
        file_flag="--config", file_name="engine.yaml", file_text="api-key: {key}", separate=True,
        caution="the engine writes it to its log", source="test",
    )  # fmt: skip
    manifests = made(AccessOptions(api_key_secret="llm-key"), with_key(key))
    (server,) = pod(manifests)["containers"]
    assert server["args"][-2:] == ["--config", "/var/run/secrets/selfhost-key/engine.yaml"]
    assert 'engine.yaml="api-key: $(openssl rand -hex 32)"' in readme(manifests)
    assert "the engine writes it to its log" in readme(manifests)


def test_metrics_behind_the_key_are_read_with_it() -> None:
    guarded = with_key(Key(variable="KEY", guards_metrics=True, source="test"))
    monitor = found(made(AccessOptions(api_key_secret="llm-key"), guarded), "PodMonitor")
    assert problems(monitor) == []
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "llm-key", "key": "api-key"}}
    for manifests in (made(AccessOptions(), guarded), made(AccessOptions(api_key_secret="llm-key"))):
        assert "authorization" not in found(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"][0]


def test_the_monitor_refuses_what_it_does_not_make() -> None:
    with pytest.raises(UsageError, match="--api-key-secret has no effect with --target monitor"):
        render(plan(), target="monitor", options=RenderOptions(access=AccessOptions(api_key_secret="k")))


def test_an_engine_that_checks_no_key() -> None:
    with pytest.raises(UnsupportedError, match="checks no key") as error:
        made(AccessOptions(api_key_secret="llm-key"), with_key(None))
    assert error.value.hint is not None
    assert error.value.hint.endswith(": llamacpp, sglang, tgi, vllm.")
    assert "Secret" not in readme(made(AccessOptions(), with_key(None)))


def test_images_are_pulled_with_secrets_by_every_pod() -> None:
    manifests = made(AccessOptions(image_pull_secrets=("one", "two")))
    for kind in ("Deployment", "Job"):
        assert pod(manifests, kind)["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    assert "imagePullSecrets" not in pod(made(AccessOptions()))


class TestRoute:
    def test_leads_from_the_gateway_to_the_service(self) -> None:
        manifests = made(GATEWAY)
        route = found(manifests, "HTTPRoute")
        assert problems(route) == []
        (parent,) = route["spec"]["parentRefs"]
        assert (parent["name"], parent["namespace"], parent["kind"]) == ("public", "gateways", "Gateway")
        assert route["spec"]["hostnames"] == ["llm.example.org"]
        (rule,) = route["spec"]["rules"]
        (backend,) = rule["backendRefs"]
        service = found(manifests, "Service")
        assert backend["name"] == service["metadata"]["name"]
        assert backend["port"] == service["spec"]["ports"][0]["port"]

    def test_lets_the_api_in_and_no_more(self) -> None:
        (rule,) = found(made(GATEWAY), "HTTPRoute")["spec"]["rules"]
        assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/v1"}}]

    def test_waits_for_the_longest_answer(self) -> None:
        (rule,) = found(made(GATEWAY), "HTTPRoute")["spec"]["rules"]
        assert rule["timeouts"] == {"request": "1639s"}  # 16,384 tokens at 10 a second
        (rule,) = found(made(replace(GATEWAY, request_timeout=60)), "HTTPRoute")["spec"]["rules"]
        assert rule["timeouts"] == {"request": "60s"}
        given = plan()
        long = replace(given, memory=replace(given.memory, max_model_len=10_000_000))
        found_exposure = exposure(long, RenderOptions(access=GATEWAY))
        assert found_exposure is not None
        assert found_exposure.timeout.value == 86_400  # five digits are the most that a duration may have

    def test_its_gateway_is_let_in(self) -> None:
        def namespaces(**more: Any) -> list[str]:
            policy = next(d for d in objects(made(**more)) if d["kind"] == "NetworkPolicy")
            peers = policy["spec"]["ingress"][0]["from"]
            selectors = [
                peer["namespaceSelector"]["matchLabels"] for peer in peers if "namespaceSelector" in peer
            ]
            return [labels["kubernetes.io/metadata.name"] for labels in selectors]

        assert namespaces(access=GATEWAY) == ["gateways", "monitoring"]
        assert namespaces(access=GATEWAY, gateway_namespace="envoy-gateway-system") == [
            "envoy-gateway-system",
            "monitoring",
        ]
        assert namespaces(access=replace(GATEWAY, gateway="public")) == ["monitoring"]

    def test_may_lead_to_something_else(self) -> None:
        pool = Backend(group="inference.networking.k8s.io", kind="InferencePool", name="pool", port=None)
        way = exposure(plan(), RenderOptions(access=GATEWAY), backend=pool)
        assert way is not None
        assert way.route is not None
        assert way.route.backend == pool


class TestIngress:
    def test_leads_to_the_service(self) -> None:
        manifests = made(INGRESS, gateway_namespace="ingress-nginx")
        ingress = found(manifests, "Ingress")
        assert all(problems(ingress, version) == [] for version in ("1.29", "1.37"))
        assert ingress["spec"]["ingressClassName"] == "nginx"
        assert ingress["spec"]["tls"] == [{"hosts": ["llm.example.org"], "secretName": "llm-tls"}]
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        assert (path["path"], path["pathType"]) == ("/v1", "Prefix")
        assert path["backend"] == {"service": {"name": "qwen3-32b", "port": {"name": "http"}}}

    def test_streams(self) -> None:
        annotations = found(made(INGRESS, gateway_namespace="x"), "Ingress")["metadata"]["annotations"]
        assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
        assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "1639"
        other = replace(INGRESS, ingress_class="traefik")
        assert "annotations" not in found(made(other, gateway_namespace="x"), "Ingress")["metadata"]

    def test_needs_the_namespace_of_its_controller(self) -> None:
        with pytest.raises(UsageError, match="--gateway-namespace"):
            made(INGRESS)


def test_a_load_balancer_outside_is_let_in_by_its_addresses() -> None:
    asked = replace(INGRESS, client_cidrs=("130.211.0.0/22", "35.191.0.0/16"))
    policy = next(d for d in objects(made(asked)) if d["kind"] == "NetworkPolicy")
    peers = policy["spec"]["ingress"][0]["from"]
    blocks = [peer["ipBlock"]["cidr"] for peer in peers if "ipBlock" in peer]
    assert blocks == ["130.211.0.0/22", "35.191.0.0/16"]


def test_what_an_open_door_means_is_said() -> None:
    assert "OPEN: whoever reaches llm.example.org" in readme(made(GATEWAY))
    assert "OPEN" not in readme(made(replace(GATEWAY, api_key_secret="k")))
    plain = readme(made(replace(INGRESS, tls_secret=None), gateway_namespace="x"))
    assert "NOT ENCRYPTED" in plain
    assert "http://llm.example.org" in plain
    assert "NOT ENCRYPTED" not in readme(made(INGRESS, gateway_namespace="x"))
    assert "OPEN" not in readme(render(plan()))


@pytest.mark.parametrize(
    "options",
    [
        {"api_key_secret": "A"}, {"api_key_secret": "a/b"}, {"image_pull_secrets": ("a", "a")},
        {"image_pull_secrets": ("A",)}, {"client_cidrs": ("10.0.0.1/8",)}, {"client_cidrs": ("x",)},
        {"expose": "nodeport"}, {"host": "x.example"}, {"expose": "gateway"},
        {"expose": "gateway", "host": "x"}, {"expose": "gateway", "gateway": "g"}, {"gateway": "g"},
        {"expose": "gateway", "host": "10.0.0.1", "gateway": "g"}, {"expose": "gateway", "host": "a b", "gateway": "g"},
        {"expose": "gateway", "host": "x", "gateway": "g/"}, {"expose": "gateway", "host": "x", "gateway": "g/A"},
        {"expose": "gateway", "host": "x", "gateway": "g", "tls_secret": "t"}, {"tls_secret": "t"},
        {"expose": "gateway", "host": "x", "gateway": "g", "ingress_class": "nginx"}, {"ingress_class": "nginx"},
        {"expose": "ingress"}, {"expose": "ingress", "host": "x" * 300}, {"request_timeout": 5},
        {"expose": "ingress", "host": "x", "request_timeout": 0}, {"expose": "ingress", "host": "https://x"},
        {"expose": "ingress", "host": "x", "gateway": "g"}, {"expose": "ingress", "host": "X.example"},
        {"expose": "ingress", "host": "x", "request_timeout": 10**6},
    ],
)  # fmt: skip
def test_options_that_contradict_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        AccessOptions(**options)
