"""What the threads have seen -> one Observation; what NVML hangs in becomes part of it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from selfhost.monitor.nvml_thread import NvmlView
from selfhost.observation import GpuSnapshot, KernelEvent, Missing, NodeSnapshot, NvmlState, Reading

if TYPE_CHECKING:
    from selfhost.node import NodeFacts

# Ours: a call that takes longer is told of; calls take microseconds, some of them 20 ms.
LATE_SECONDS = 1.0
# A call that hangs is one that outlasts three polls (the watchdog of DCGM and NVSentinel, read 2026-11-21) …
HUNG_POLLS = 3
# … and at least this long: ours, since starting NVML without persistence mode takes seconds.
HUNG_SECONDS = 5.0


def hung_after_seconds(interval_seconds: float) -> float:
    """How long a call may take before the GPUs count as not answering."""
    return max(HUNG_SECONDS, HUNG_POLLS * interval_seconds)


def compose_node(
    view: NvmlView,
    facts: NodeFacts,
    kernel_log: Reading[tuple[KernelEvent, ...]],
    *,
    call: tuple[str, float] | None,
    hung_after: float,
    stale_after: float,
    now: float,
    monotonic: float,
) -> NodeSnapshot:
    """The node as of now.

    Args:
        view: what was read of NVML.
        facts: the node apart from its GPUs.
        kernel_log: its Xids.
        call: the NVML call under way, and its monotonic start.
        hung_after: seconds after which a call under way counts as hung.
        stale_after: seconds after which a GPU's last readings then count no more.
        now: Unix time.
        monotonic: of the same moment.
    """
    state, gpus = nvml_state(
        view, call, hung_after=hung_after, stale_after=stale_after, now=now, monotonic=monotonic
    )
    return NodeSnapshot(
        host=facts.host,
        boot_id=facts.boot_id,
        booted_at=facts.booted_at,
        in_container=facts.in_container,
        host_pids=facts.host_pids,
        driver_version=view.driver_version,
        nvml_version=view.nvml_version,
        cuda_version=view.cuda_version,
        kernel_driver_version=facts.kernel_driver_version,
        device_count=view.device_count,
        nvml=state,
        gpus=gpus,
        xids=view.xids,
        kernel_log=kernel_log,
        device_files=facts.device_files,
        system_memory_total_bytes=facts.system_memory_total_bytes,
        system_memory_available_bytes=facts.system_memory_available_bytes,
    )


def nvml_state(
    view: NvmlView,
    call: tuple[str, float] | None,
    *,
    hung_after: float,
    stale_after: float,
    now: float,
    monotonic: float,
) -> tuple[NvmlState, tuple[GpuSnapshot, ...]]:
    """NVML's own state, and the GPUs: those not read for too long because a call hangs get that as their fault."""
    state = NvmlState(
        fault=view.fault, poll_seconds=view.poll_seconds, failed_calls=view.failed_calls, deaf=view.deaf
    )
    if call is None:
        return state, view.gpus
    name, began = call
    lasted = monotonic - began
    if lasted < min(LATE_SECONDS, hung_after):
        return state, view.gpus
    state = replace(state, stuck_seconds=lasted, stuck_call=name)
    if lasted < hung_after:
        return state, view.gpus
    fault = Missing(missing=f"{name} has not returned for {lasted:.0f} s")
    oldest = now - stale_after
    gpus = tuple(
        gpu if gpu.fault or (gpu.fast_at or 0.0) >= oldest else replace(gpu, fault=fault) for gpu in view.gpus
    )
    return replace(state, fault=fault), gpus
