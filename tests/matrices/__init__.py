"""Families of the matrix: each module here has `cases() -> dict[str, Case]`, and tests/matrix.py puts them together.

`refused() -> dict[str, Case]`, where a module has it, is what has to be refused with a way out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from selfhost.catalog.gpus import find_gpu
from selfhost.manifests import RenderOptions
from selfhost.plan import Plan
from selfhost.units import GIB
from selfhost.workload import Split
from tests.plans import budget, plan


@dataclass(frozen=True, kw_only=True)
class Case:
    """One rendering: what is planned, for what, and what the cluster decides.

    Args:
        plan: the decision.
        target: a folder of templates/.
        options: what the cluster decides.
        since: oldest release of Kubernetes that has what was asked for, as DRA or image volumes.
        unrestricted: why Pod Security *restricted* does not admit its pods; empty where it does.
        beyond: checks of checkov that fail because of what was asked for, beside the two named exceptions.
    """

    plan: Plan
    target: str = "kubernetes"
    options: RenderOptions = field(default_factory=RenderOptions)
    since: str = "1.29"
    unrestricted: str = ""
    beyond: frozenset[str] = frozenset()


# What an engine that does not take the usual model is given: TGI has no class for it, the others read GGUF alone.
_GGUF = {"id": "/models/qwen3-32b-q4_k_m", "origin": "gguf", "revision": None}
MODELS: dict[str, dict[str, Any]] = {
    "tgi": {"model_id": "meta-llama/Meta-Llama-3.1-8B"},
    "llamacpp": _GGUF,
    "ollama": _GGUF,
}
# What the linter's own sizing finds room for on one GPU that has less than the usual model needs.
SMALL, ENOUGH_BYTES = "Qwen/Qwen3-0.6B", 75 * GIB
# These divide a model by layers.
BY_LAYERS = ("llamacpp", "ollama")


def fitting(gpu: str, *, tensor: int = 1, pipeline: int = 1, engine: str = "vllm", **changes: Any) -> Plan:
    """A plan of tests/plans.py with weights that any GPU has room for: 1 GiB on each, and as much cache."""
    name = engine.partition("@")[0]
    if name in BY_LAYERS:
        tensor, pipeline = 1, tensor * pipeline
    card, split = find_gpu(gpu), Split(tensor=tensor, pipeline=pipeline)
    ranks = tensor * pipeline
    small = budget(card, split, weights_bytes=ranks * GIB, kv_needed_bytes=ranks * GIB)
    usual = {"model_id": SMALL} if card.memory_bytes < ENOUGH_BYTES else {}
    model = MODELS.get(name, usual) | changes.pop("model", {})
    return plan(gpu=card.id, split=split, budget=small, engine=engine, model=model, **changes)
