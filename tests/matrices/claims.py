"""Accelerators beyond whole NVIDIA and AMD GPUs: Intel, Gaudi, CPU, claims (DRA), time-slicing, MIG strategies."""

from __future__ import annotations

from selfhost.catalog.gpus import main_memory
from selfhost.engines import Image
from selfhost.manifests import RenderOptions
from selfhost.manifests.options.gpus import GpuOptions
from selfhost.plan import Plan
from selfhost.units import GIB
from selfhost.workload import Split, Workload
from tests.matrices import Case, fitting
from tests.plans import budget, plan

GAUDI = Image(repository="registry.example/vllm-gaudi", tag="0.16.0")
DRA = "1.34"


def on_cpu(machine: str = "amd64") -> Plan:
    """A small model in 32 GiB of main memory."""
    card = main_memory(32 * GIB, machine=machine)
    small = budget(card, Split(), weights_bytes=8 * GIB, kv_needed_bytes=8 * GIB)
    return plan(
        budget=small,
        split=Split(),
        workload=Workload(max_model_len=4096, concurrency=4),
        gpu=card.id,
        card=card,
    )


def cases() -> dict[str, Case]:
    """One of each way, and lists of alternatives."""
    found = {
        "intel": Case(plan=fitting("arc-pro-b60-24gb")),
        "gaudi": Case(plan=fitting("gaudi3-128gb", tensor=8, image=GAUDI)),
        "cpu": Case(plan=on_cpu()),
        "cpu-arm": Case(plan=on_cpu("arm64")),
    }
    claimed = {
        "nvidia": fitting("h100-sxm-80gb", tensor=2),
        "mig": fitting("h100-sxm-80gb:3g.40gb"),
        "amd": fitting("mi300x-192gb"),
        "intel": fitting("arc-pro-b60-24gb", tensor=2),
        "gaudi": fitting("gaudi2-96gb", image=GAUDI),
    }
    for name, made in claimed.items():
        found[f"dra-{name}"] = Case(plan=made, options=_options(dra=True), since=DRA)
    for name, others in (("one", ("h200-sxm-141gb",)), ("two", ("h200-sxm-141gb", "b200-sxm-180gb"))):
        found[f"dra-else-{name}"] = Case(
            plan=claimed["nvidia"], options=_options(dra=True, or_gpus=others), since=DRA
        )
    found["time-sliced"] = Case(
        plan=fitting("l4-24gb"), options=_options(gpu_resource="nvidia.com/gpu.shared")
    )
    for strategy in ("single", "mixed"):
        found[f"mig-{strategy}"] = Case(plan=claimed["mig"], options=_options(mig_strategy=strategy))
    return found


def _options(**changes: object) -> RenderOptions:
    return RenderOptions(gpus=GpuOptions(**changes))  # type: ignore[arg-type]
