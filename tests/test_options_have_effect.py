"""No option is forgotten in silence: on every target it changes what is written, or it is refused with a way out."""

from __future__ import annotations

from dataclasses import Field, fields, replace
from functools import cache
from typing import Any

import pytest

from selfhost.errors import SelfhostError, UsageError
from selfhost.manifests import RenderOptions, render, targets
from tests.plans import plan

INGRESS = {"expose": "ingress", "host": "llm.example.org", "gateway_namespace": "ingress"}
GATEWAY = {"expose": "gateway", "host": "llm.example.org", "gateway": "public/gateways"}
S3 = {"uri": "s3://bucket/prefix", "s3_secret": "s3"}
KEDA = {"autoscale": "keda", "max_replicas": 6}
ZERO = {**KEDA, "scale_to_zero": True, "wake_query": "sum(up)"}
PROXY = {"https_proxy": "http://proxy.example:3128"}
# Field -> what it is set to, and what has to be set with it; fields that are switched need none of it.
VALUES: dict[str, Any] = {
    "namespace": "other", "image": "registry.example/vllm:v0.32.0", "pull_image": "registry.example/pull:1",
    "storage_class": "fast", "token_secret": "other", "hub_endpoint": "https://hub.example.org",
    "gateway_namespace": "gateways", "monitoring_namespace": "watch", "pod_security": "baseline",
    "monitor_image": "registry.example/monitor:1", "monitor_namespace": "gpus", "runtime_class": "nvidia",
    "api_server": "10.0.0.0/24", "uri": "pvc:claim", "s3_secret": "other", "s3_endpoint": "https://s3.example.org",
    "s3_image": "registry.example/aws:1", "or_gpus": ("h200-sxm-141gb",), "gpu_resource": "nvidia.com/gpu.shared",
    "mig_strategy": "single", "prefill_replicas": 2, "picker_image": "registry.example/picker:1",
    "sidecar_image": "registry.example/sidecar:1", "lora": ("one=/adapters/one",), "api_key_secret": "key",
    "image_pull_secrets": ("pull",), "expose": "gateway", "host": "other.example.org", "tls_secret": "tls",
    "ingress_class": "nginx", "gateway": "other/gateways", "client_cidrs": ("10.0.0.0/8",), "request_timeout": 777,
    "dns_namespaces": ("openshift-dns",), "http_proxy": "http://proxy.example:80",
    "https_proxy": "http://proxy.example:80", "proxy_secret": "proxy", "proxy_ports": ("3129",),
    "no_proxy": ("inside.example",), "cluster_cidrs": ("10.1.0.0/16",), "ca_config_map": "ca", "autoscale": "hpa",
    "max_replicas": 5, "min_replicas": 3, "target_requests": 7, "wake_query": "sum(down)",
    "prometheus_url": "http://prometheus.example:9090", "trigger_authentication": "bearer", "spread": "zone",
    "priority_class": "high", "kind": "LLMInferenceService", "router": "none", "bind": "0.0.0.0",
    "gpu_devices": ("1", "2"), "engine_bin": "/opt/vllm/bin/vllm",
}  # fmt: skip
WITH: dict[str, dict[str, Any]] = {
    "s3_secret": S3, "s3_endpoint": S3, "s3_image": S3, "or_gpus": {"dra": True}, "host": INGRESS,
    "tls_secret": INGRESS, "ingress_class": INGRESS, "gateway": GATEWAY, "request_timeout": GATEWAY,
    "expose": {"host": "llm.example.org", "gateway": "public/gateways"}, "picker_image": GATEWAY,
    "sidecar_image": {**GATEWAY, "prefill_replicas": 2},
    "proxy_secret": {"proxy_ports": ("3128",)}, "proxy_ports": {"proxy_secret": "proxy"},
    "no_proxy": PROXY, "cluster_cidrs": PROXY, "proxy_server": PROXY, "autoscale": KEDA, "max_replicas": KEDA,
    "min_replicas": KEDA, "target_requests": KEDA, "scale_to_zero": {**KEDA, "wake_query": "sum(up)"},
    "wake_query": ZERO,
    "prometheus_url": KEDA, "trigger_authentication": KEDA, "router": {"kind": "LLMInferenceService", "surge": True},
    "kind": {"surge": True},
}  # fmt: skip
# What this plan, whose replicas fit a node each, does not depend on; and what is its default already.
INDIFFERENT = frozenset(("gpus_per_node", "access_mode"))


def leaves() -> dict[str, tuple[str | None, Field[Any]]]:
    """Name of every field that is an option -> the group it is in, and itself."""
    found: dict[str, tuple[str | None, Field[Any]]] = {}
    for item in fields(RenderOptions):
        if item.metadata:
            found[item.name] = (None, item)
        elif item.name != "proxy":  # of target hybrid alone, which has tests of its own
            group: Any = item.default_factory
            found |= {inner.name: (item.name, inner) for inner in fields(group)}
    return found


LEAVES = leaves()


def options(values: dict[str, Any]) -> RenderOptions:
    made, groups = RenderOptions(), dict[str, dict[str, Any]]()
    for name, value in values.items():
        groups.setdefault(LEAVES[name][0] or "", {})[name] = value
    inside = {group: replace(getattr(made, group), **given) for group, given in groups.items() if group}
    return replace(made, **inside, **groups.get("", {}))


@cache
def written(
    target: str, replicas: int, name: str, *, given: bool
) -> tuple[tuple[str, str], ...] | SelfhostError:
    """What is written, or why nothing is: with what the option needs beside it, and with itself where `given`."""
    values = dict(WITH.get(name, {}))
    if given:
        field = LEAVES[name][1]
        switched = field.metadata["kind"] in ("flag", "off_flag")
        values[name] = (not field.default) if switched else VALUES[name]
    try:
        made = render(plan(replicas=replicas), target=target, options=options(values))
    except SelfhostError as error:
        return error
    return tuple((document.name, str(document.text)) for document in made.documents)


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("name", sorted(LEAVES.keys() - INDIFFERENT))
def test_an_option_has_an_effect_or_is_refused(name: str, target: str) -> None:
    replicas = 1 if target in ("compose", "systemd") else 2
    found = written(target, replicas, name, given=True)
    if isinstance(found, UsageError) and found.hint is None:
        assert str(found).endswith(("other.", "known.")), found
    assert found != written(target, replicas, name, given=False)


@pytest.mark.parametrize(
    ("values", "target", "sentence"),
    [
        ({"ray": True}, "kubernetes", "--ray has no effect with --target kubernetes."),
        ({"ray": True}, "lws", "--ray joins several nodes, and one holds the 2 GPUs of a replica."),
        ({"kernel_log": True}, "lws", "--kernel-log has no effect with --target lws."),
        ({"prefill_replicas": 2}, "helm", "--prefill-replicas has no effect with --target helm."),
        ({"surge": True}, "monitor", "--surge has no effect with --target monitor."),
        ({"picker_image": "r/p:1"}, "llm-d", "--picker-image has no effect with --target llm-d."),
        (
            {"picker_image": "r/p:1", **INGRESS},
            "gateway",
            "--picker-image has no effect with --expose ingress, which asks",
        ),
        ({"sidecar_image": "r/s:1"}, "gateway", "--sidecar-image has no effect without --prefill-replicas."),
    ],
)
def test_what_has_no_effect_is_said_in_a_sentence(values: dict[str, Any], target: str, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        render(plan(replicas=2), target=target, options=options(values))
    assert str(error.value).startswith(sentence)
    assert error.value.hint
