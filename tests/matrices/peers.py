"""KServe, llm-d and production-stack: what stands beside their workloads, and KServe's objects themselves."""

from __future__ import annotations

from selfhost.engines import parse_image
from selfhost.manifests import AccessMode, RenderOptions
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.kserve import KserveOptions
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.manifests.options.weights import WeightOptions
from selfhost.workload import Split
from tests.matrices import Case, fitting
from tests.plans import plan

DIGEST = "@sha256:" + "ab" * 32
TARGETS = ("kserve", "llm-d", "production-stack")
SHARED: AccessMode = "ReadWriteMany"
GATEWAY = AccessOptions(expose="gateway", host="llm.example.org", gateway="public/gateways")
OPTIONS: dict[str, RenderOptions] = {
    "default": RenderOptions(),
    "claim": RenderOptions(weights=WeightOptions(uri="pvc:models#qwen")),
    "nfs": RenderOptions(weights=WeightOptions(uri="nfs://files.example/models#qwen")),
    "surge": RenderOptions(surge=True, access_mode=SHARED),
    "keda": RenderOptions(
        access_mode=SHARED, scaling=ScalingOptions(autoscale="keda", max_replicas=4, spread="zone")
    ),
    "hpa": RenderOptions(access_mode=SHARED, scaling=ScalingOptions(autoscale="hpa", max_replicas=4)),
    "gateway": RenderOptions(access=GATEWAY),
    "key": RenderOptions(
        access=AccessOptions(api_key_secret="keys", image_pull_secrets=("registry",)),
        scaling=ScalingOptions(priority_class="serving"),
    ),
    "namespace": RenderOptions(namespace="models", gateway_namespace="gateway", pod_monitor=False),
}
IMAGE = RenderOptions(weights=WeightOptions(uri=f"oci://registry.example/models/qwen:1{DIGEST}"))


def cases() -> dict[str, Case]:
    """Each target with each option, one replica on two GPUs and two replicas on one; and what only one target has."""
    found = {}
    for target in TARGETS:
        for name, options in OPTIONS.items():
            found[f"{target}-{name}"] = Case(plan=plan(), target=target, options=options)
        found[f"{target}-replicas"] = Case(
            plan=plan(replicas=2, gpu="h200-sxm-141gb", tensor=1), target=target
        )
        found[f"{target}-amd"] = Case(plan=plan(gpu="mi300x-192gb", tensor=1), target=target)
        found[f"{target}-stages"] = Case(plan=fitting("l4-24gb", tensor=2, pipeline=2), target=target)
        found[f"{target}-digest"] = Case(
            plan=plan(image=parse_image(f"vllm/vllm-openai:v0.32.0{DIGEST}")), target=target
        )
        found[f"{target}-image-volume"] = Case(plan=plan(), target=target, options=IMAGE, since="1.33")
    apart = RenderOptions(nodes=NodeOptions(prefill_replicas=2))
    found["llm-d-prefill"] = Case(plan=plan(replicas=2), target="llm-d", options=apart)
    return found | _kserve()


def _kserve() -> dict[str, Case]:
    found = {}
    for router in ("none", "route", "scheduler"):
        asked = KserveOptions(kind="LLMInferenceService", router=router)
        found[f"kserve-llm-{router}"] = Case(
            plan=plan(),
            target="kserve",
            options=RenderOptions(surge=True, access_mode=SHARED, kserve=asked),
        )
    wide = plan(split=Split(tensor=8, pipeline=2))
    for name, options in {
        "nodes": RenderOptions(),
        "nodes-keda": RenderOptions(scaling=ScalingOptions(autoscale="keda", max_replicas=3)),
        "nodes-gateway": RenderOptions(access=GATEWAY),
    }.items():
        found[f"kserve-{name}"] = Case(plan=wide, target="kserve", options=options)
    found["kserve-nodes-small"] = Case(
        plan=fitting("l4-24gb", tensor=4, pipeline=2),
        target="kserve",
        options=RenderOptions(nodes=NodeOptions(gpus_per_node=4)),
    )
    return found
