"""Target hybrid: what LiteLLM is told, who may talk to whom, and the rules' own decisions, run with stand-ins."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from selfhost.assets import asset_dir
from selfhost.errors import UsageError
from selfhost.manifests import Manifests, RenderOptions, render
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.proxy import ProxyOptions
from tests.matrices.boxes import hybrid
from tests.plans import plan
from tests.test_manifests import objects

MODEL = "Qwen/Qwen3-32B"


def rendered(options: RenderOptions | None = None) -> Manifests:
    return render(plan(), target="hybrid", options=options or hybrid())


def named(manifests: Manifests, kind: str, name: str = "qwen3-32b-proxy") -> Any:
    (found,) = (one for one in objects(manifests) if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def config(manifests: Manifests) -> Any:
    return yaml.safe_load(named(manifests, "ConfigMap")["data"]["config.yaml"])


def test_the_rules_arrive_as_they_are() -> None:
    """The templates' environment reads the file; nothing in it may look like a template to it."""
    data = named(rendered(), "ConfigMap")["data"]
    assert data["rules.py"] == (asset_dir("templates") / "hybrid" / "rules.py").read_text(encoding="utf-8")
    assert set(data) == {"config.yaml", "rules.py", "rules.json"}


def test_nothing_stands_in_for_what_is_private() -> None:
    told = config(rendered())
    groups = {one["model_name"]: one for one in told["model_list"]}
    assert set(groups) == {MODEL, "private", "closed"}
    assert {name: one["model_info"]["selfhost"] for name, one in groups.items()} == {
        MODEL: "own", "private": "own", "closed": "away",
    }  # fmt: skip
    for way in ("fallbacks", "context_window_fallbacks"):
        assert told["router_settings"][way] == [{MODEL: ["closed"]}]
    assert groups["private"]["litellm_params"] == groups[MODEL]["litellm_params"]


def test_no_prompt_no_report_no_secret() -> None:
    manifests = rendered(hybrid(access=AccessOptions(api_key_secret="own-key")))
    told = config(manifests)
    assert told["litellm_settings"]["turn_off_message_logging"] is True
    assert told["litellm_settings"]["telemetry"] is False
    keys = [one["litellm_params"]["api_key"] for one in told["model_list"]]
    assert keys == ["os.environ/OWN_API_KEY", "os.environ/OWN_API_KEY", "os.environ/FALLBACK_API_KEY"]
    (container,) = named(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    env = {item["name"]: item for item in container["env"]}
    wanted = {"LITELLM_MASTER_KEY": "proxy-key", "FALLBACK_API_KEY": "fallback-key", "OWN_API_KEY": "own-key"}
    for name, secret in wanted.items():
        assert env[name]["valueFrom"]["secretKeyRef"] == {"name": secret, "key": "api-key"}
    assert not {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"} & set(env)


def test_only_the_proxy_asks_the_model_and_only_it_reaches_the_internet() -> None:
    gateway = AccessOptions(
        expose="gateway", host="llm.example.org", gateway="public/gateways", client_cidrs=("10.0.0.0/8",)
    )
    manifests = rendered(hybrid(access=gateway))
    proxy = named(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    server = named(manifests, "NetworkPolicy", "qwen3-32b")["spec"]
    (rule,) = server["ingress"]
    kinds = [
        peer.get("podSelector", {}).get("matchLabels") or peer.get("namespaceSelector")
        for peer in rule["from"]
    ]
    assert kinds[0].items() <= proxy.items()
    assert kinds[1:] == [{"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}]
    assert not any(
        "cidr" in str(peer) and "0.0.0.0/0" in str(peer) for rule in server["egress"] for peer in rule["to"]
    )
    own = named(manifests, "NetworkPolicy")["spec"]
    reached = [peer["ipBlock"]["cidr"] for rule in own["egress"] for peer in rule["to"] if "ipBlock" in peer]
    assert "0.0.0.0/0" in reached
    asked = [peer for rule in own["ingress"] for peer in rule["from"]]
    assert {"ipBlock": {"cidr": "10.0.0.0/8"}} in asked
    route = next(one for one in objects(manifests) if one["kind"] == "HTTPRoute")
    assert route["spec"]["rules"][0]["backendRefs"][0]["name"] == "qwen3-32b-proxy"


def test_without_a_closed_model_nothing_leaves() -> None:
    manifests = rendered(RenderOptions())
    told = config(manifests)
    assert [one["model_info"]["selfhost"] for one in told["model_list"]] == ["own", "own"]
    assert "fallbacks" not in told["router_settings"]
    policy = named(manifests, "NetworkPolicy")["spec"]
    assert "0.0.0.0/0" not in str(policy["egress"])
    assert "fallback-key" not in str(named(manifests, "Deployment"))


def test_a_budget_is_shared_by_the_pods() -> None:
    told = config(
        rendered(hybrid(budget="100", budget_period="7d", fallback_price="1.25,10", proxy_replicas=4))
    )
    params = next(one for one in told["model_list"] if one["model_name"] == "closed")["litellm_params"]
    assert params["max_budget"] == 25.0
    assert params["budget_duration"] == "7d"
    assert (params["input_cost_per_token"], params["output_cost_per_token"]) == (0.00000125, 0.00001)


def test_one_pod_has_no_budget_of_disruption() -> None:
    kinds = [one["kind"] for one in objects(rendered(hybrid(proxy_replicas=1)))]
    assert "PodDisruptionBudget" not in kinds
    assert named(rendered(), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_other_rules_start_the_pods_again() -> None:
    def mark(options: RenderOptions) -> str:
        template = named(rendered(options), "Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["selfhost/content"])

    assert mark(hybrid()) == mark(hybrid())
    assert mark(hybrid()) != mark(hybrid(route_by="header"))


@pytest.mark.parametrize(
    "values",
    [
        {"fallback_model": "gpt-5.6"}, {"fallback_model": "openai/a b"}, {"fallback_base": "http://plain.example"},
        {"fallback_base": "https://user:word@host"}, {"fallback_price": "1"}, {"budget": "0"}, {"budget": "-1"},
        {"budget_period": "1d"}, {"budget": "1", "budget_period": "soon"}, {"route_by": "chance"},
        {"simple_tokens": 5}, {"complex_words": ("x",)}, {"route_by": "simple", "complex_words": ("",)},
        {"proxy_retries": 99}, {"cooldown": 0}, {"proxy_replicas": 0}, {"proxy_key_secret": "A"},
        {"proxy_key_secret": "one", "fallback_key_secret": "one"}, {"fallback_model": None, "budget": "1"},
        {"fallback_model": None, "route_by": "simple"},
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--"):
        ProxyOptions(**{"fallback_model": "openai/gpt-5.6-luna", **values})


class RefusedError(Exception):
    """What stands in for FastAPI's exception."""

    def __init__(self, *, status_code: int, detail: str) -> None:
        self.status_code = status_code
        super().__init__(detail)


@pytest.fixture
def rules(tmp_path: Path) -> Iterator[Any]:
    """The rules with their settings, and stand-ins for the three names that they import."""
    manifests = rendered(hybrid(route_by="simple", simple_tokens=20, complex_words=("Prove",)))
    for name, text in named(manifests, "ConfigMap")["data"].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    given: dict[str, dict[str, Any]] = {
        "fastapi": {"HTTPException": RefusedError, "Request": object},
        "litellm": {}, "litellm.integrations": {}, "litellm.proxy": {},
        "litellm.integrations.custom_logger": {"CustomLogger": object},
        "litellm.proxy._types": {"UserAPIKeyAuth": dict},
    }  # fmt: skip
    kept = {name: sys.modules.get(name) for name in given}
    for name, values in given.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        sys.modules[name] = module
    try:
        spec = importlib.util.spec_from_file_location("rules_under_test", tmp_path / "rules.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        for name, old in kept.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def test_what_is_simple_stays(rules: Any) -> None:
    assert rules.choose(said("Hello"), {}) == MODEL
    assert rules.choose(said("PROVE it"), {}) == "closed"
    assert rules.choose(said("x" * 100), {}) == "closed"
    assert rules.choose(said("Hello", tools=[{"type": "function"}]), {}) == "closed"
    with pytest.raises(RefusedError):
        rules.choose(said("Hello") | {"model": "other"}, {})


@pytest.mark.parametrize(
    ("data", "headers", "private"),
    [
        ({}, {}, False),
        ({"model": "private"}, {}, True),
        ({}, {"x-selfhost-private": "true"}, True),
        ({}, {"x-selfhost-private": ""}, True),
        ({}, {"x-selfhost-private": " False "}, False),
        ({"metadata": {"private": True}}, {}, True),
        ({"metadata": {"private": False}}, {}, False),
        ({"metadata": '{"private": 1}'}, {}, True),
        ({"metadata": "{not json"}, {}, True),
        ({"metadata": {"tags": "a, Private"}}, {}, True),
        ({"tags": ["private"]}, {}, True),
        ({}, {"x-litellm-tags": "private,b"}, True),
    ],
)
def test_marks(rules: Any, data: dict[str, Any], headers: dict[str, str], private: bool) -> None:
    assert rules.is_private(said("Hello") | data, headers) is private


def test_what_no_rule_saw_reaches_no_deployment_outside(rules: Any) -> None:
    import asyncio

    own, away = {"model_info": {"selfhost": "own"}}, {"model_info": {"selfhost": "away"}}

    def left(metadata: Any) -> Any:
        kwargs = None if metadata is None else {"metadata": metadata}
        return asyncio.run(rules.rules.async_filter_deployments("closed", [own, away, {}], None, kwargs))

    for metadata in (None, {}, {"selfhost_verdict": "stays"}, {"selfhost_verdict": "leaves"}, "text"):
        assert left(metadata) == [own]
    request = said("PROVE it", metadata={"selfhost_verdict": "x"}, fallbacks=["closed"])
    judged = SimpleNamespace(
        metadata={rules._MARKED: False}
    )  # by the check of the key, on the body as it came
    data = asyncio.run(rules.rules.async_pre_call_hook(judged, None, request, "acompletion"))
    assert left(data["metadata"]) == [own, away, {}]
    assert "fallbacks" not in data
    unjudged = SimpleNamespace(metadata={})
    kept = asyncio.run(rules.rules.async_pre_call_hook(unjudged, None, said("PROVE it"), "acompletion"))
    assert left(kept["metadata"]) == [own]
