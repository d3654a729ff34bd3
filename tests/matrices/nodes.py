"""Replicas on several nodes, pods that only read prompts, and adapters."""

from __future__ import annotations

from selfhost.manifests import RenderOptions
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.workload import Split, Workload
from tests.matrices import Case
from tests.plans import plan

WAY = AccessOptions(
    expose="gateway", host="llm.example.org", gateway="public/gateways", api_key_secret="llm-key"
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPLITS = {
    "stages": Split(tensor=8, pipeline=2),
    "four": Split(tensor=8, pipeline=4),
    "half-nodes": Split(tensor=4, pipeline=3),
    "ranks": Split(tensor=8, data=2),
}


def cases() -> dict[str, Case]:
    """By what differs."""
    found = {
        f"lws-{name}": Case(plan=plan(split=split), target="lws", options=RenderOptions())
        for name, split in SPLITS.items()
    }
    stages = plan(split=SPLITS["stages"])
    found["lws-ray"] = Case(plan=stages, target="lws", options=RenderOptions(nodes=NodeOptions(ray=True)))
    found["lws-four-each"] = Case(
        plan=plan(split=Split(tensor=4, pipeline=2)),
        target="lws",
        options=RenderOptions(nodes=NodeOptions(gpus_per_node=4)),
    )
    found["lws-scaled"] = Case(
        plan=stages,
        target="lws",
        options=RenderOptions(access=WAY, scaling=ScalingOptions(autoscale="keda", max_replicas=2)),
    )
    found["lws-claims"] = Case(
        plan=plan(split=SPLITS["stages"], replicas=2), target="lws", options=RenderOptions()
    )
    for count in (1, 3):
        found[f"prefill-{count}"] = Case(
            plan=plan(replicas=2),
            target="gateway",
            options=RenderOptions(access=WAY, nodes=NodeOptions(prefill_replicas=count)),
        )
    load = Workload(max_model_len=16384, concurrency=16, max_loras=2)
    adapters = NodeOptions(lora=(f"sql=team/sql-lora@{COMMIT}", "law=/lora/law"))
    for target in ("kubernetes", "lws", "gateway", "helm", "kserve"):
        found[f"adapters-{target}"] = Case(
            plan=plan(workload=load), target=target, options=RenderOptions(nodes=adapters)
        )
    return found
