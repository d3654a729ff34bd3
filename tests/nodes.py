"""A node with eight H100s as plain observations: one hot, one lost, one divided by MIG, two engines; nothing random."""

from __future__ import annotations

import math
from dataclasses import replace

from selfhost.health.types import Action, Check, Health, Level
from selfhost.observation import (
    BootTotals,
    EngineSnapshot,
    FastReadings,
    GpuIdentity,
    GpuProcess,
    GpuSnapshot,
    LatencySum,
    MigInstance,
    Missing,
    NodeSnapshot,
    NvLink,
    NvmlState,
    Observation,
    RemappedRows,
    SlowReadings,
)
from selfhost.observation.node import SCHEMA
from selfhost.units import GIB

START = 1_795_687_200.0  # 2026-11-26 10:00:00 UTC
STEP = 2.0
HOT, LOST, DIVIDED = 2, 5, 7
NOT_SUPPORTED = Missing(missing="not supported by this board", code=3)
IS_LOST = Missing(missing="the GPU is lost", code=15)


def uuid(index: int) -> str:
    return f"GPU-{index:x}f3a1c9e-0000-4000-8000-00000000000{index}"


def identity(index: int) -> GpuIdentity:
    return GpuIdentity(
        index=index, uuid=uuid(index), pci_address=f"00000000:{0x18 + index:02x}:00.0", name="NVIDIA H100 80GB HBM3",
        serial=f"165432100000{index}", minor=index, vbios="96.00.89.00.01", architecture="Hopper",
        compute_capability="9.0", memory_total_bytes=int(79.65 * GIB), pcie_max_generation=5, pcie_max_width=16,
        pcie_device_generation=5, sm_clock_max_mhz=1980, power_limit_default_watts=700.0,
        margin_shutdown_celsius=-8, margin_slowdown_celsius=-2, margin_memory_max_celsius=0, margin_gpu_max_celsius=0,
        nvlink_count=18, tensor_activity=True,
    )  # fmt: skip


def processes(index: int) -> tuple[GpuProcess, ...]:
    if index == HOT + 1:
        return (GpuProcess(pid=9001, memory_bytes=3 * GIB, name="python3 日本語のノートブック"),)
    return (
        GpuProcess(
            pid=4100 + index, memory_bytes=int(68.2 * GIB), name="VLLM::Worker_TP0", pod_uid="3c1b",
            container_id="c0ffee" * 10 + "abcd",
            pod=f"llama-70b-{'0' if index < 4 else '1'}", namespace="llm", container="vllm",
        ),
    )  # fmt: skip


def gpu(index: int, tick: int) -> GpuSnapshot:
    wave = 0.5 + 0.5 * math.sin(tick / 3 + index)
    at = START + STEP * tick
    hot = index == HOT
    fast = FastReadings(
        memory_used_bytes=int(68.2 * GIB), memory_free_bytes=int(10.8 * GIB), memory_reserved_bytes=int(0.65 * GIB),
        utilization_ratio=round(0.55 + 0.45 * wave, 2), memory_busy_ratio=round(0.3 + 0.3 * wave, 2),
        temperature_celsius=93 if hot else 55 + index, memory_temperature_celsius=88 if hot else 60,
        power_watts=round(300 + 350 * wave, 1), energy_joules=1e9 + 1000 * tick, sm_clock_mhz=1095 if hot else 1980,
        memory_clock_mhz=2619, clock_reasons=0x60 if hot else 0x4 if wave > 0.8 else 0x0, recovery_action=0,
        sm_activity_ratio=round(0.5 + 0.4 * wave, 2), tensor_activity_ratio=round(0.1 + 0.4 * wave, 2),
        memory_activity_ratio=round(0.2 + 0.5 * wave, 2), nvlink_sent_bytes=int(4.1e10 * tick * (1 + index)),
        nvlink_received_bytes=int(4.0e10 * tick * (1 + index)), pcie_sent_bytes=int(2.5e9 * tick),
        pcie_received_bytes=int(1.2e9 * tick),
        held_down=BootTotals(power_cap_seconds=120.0 + tick, thermal_seconds=41.0 + 2 * tick if hot else 0.0,
                             power_brake_seconds=0.0),
    )  # fmt: skip
    slow = SlowReadings(
        power_limit_watts=700.0, fan_ratio=NOT_SUPPORTED, encoder_ratio=0.0, decoder_ratio=0.0,
        margin_celsius=-3 if hot else 32 - index, performance_state=0, pcie_generation=5, pcie_width=16,
        pcie_replays=0, persistence=True, ecc_enabled=True, ecc_pending=True, unrepairable_memory=False,
        remapped=RemappedRows(corrected=0, uncorrected=0, pending=False, failed=False, banks_without_spares=0),
        retired_pages=NOT_SUPPORTED, inforom_valid=True, mig_enabled=False, mig_pending=False,
        nvlinks=tuple(NvLink(index=link, active=True, crc_errors=0, replay_errors=0, recovery_errors=0)
                      for link in range(18)),
        processes=processes(index),
    )  # fmt: skip
    made = GpuSnapshot(identity=identity(index), fast_at=at, slow_at=at, fast=fast, slow=slow)
    if index == DIVIDED:
        return divided(made)
    if index == LOST and tick >= 6:
        before = START + STEP * 5
        return replace(gpu(index, 5), fault=IS_LOST, fast_at=before, slow_at=before)
    return made


def divided(made: GpuSnapshot) -> GpuSnapshot:
    """With MIG the GPU as a whole has no utilization and no PCIe traffic."""
    instances = (
        MigInstance(
            uuid="MIG-77aa0000-0000-4000-8000-000000000001", gpu_instance=1, compute_instance=0, profile="3g.40gb",
            memory_total_bytes=int(39.5 * GIB), memory_used_bytes=int(31.2 * GIB), namespace="llm", pod="embedder-0",
            container="vllm",
        ),
        MigInstance(
            uuid="MIG-77aa0000-0000-4000-8000-000000000002", gpu_instance=2, compute_instance=0, profile="3g.40gb",
            memory_total_bytes=int(39.5 * GIB), memory_used_bytes=int(0.1 * GIB),
        ),
    )  # fmt: skip
    worker = GpuProcess(
        pid=5200, memory_bytes=NOT_SUPPORTED, name=None, mig_instance=1, namespace="llm", pod="embedder-0"
    )
    fast = replace(
        made.fast, utilization_ratio=NOT_SUPPORTED, memory_busy_ratio=NOT_SUPPORTED, pcie_sent_bytes=NOT_SUPPORTED,
        pcie_received_bytes=NOT_SUPPORTED, memory_used_bytes=int(31.3 * GIB),
    )  # fmt: skip
    slow = replace(made.slow, mig_enabled=True, mig_pending=True, mig=instances, processes=(worker,))
    return replace(made, fast=fast, slow=slow)


def engine(number: int, tick: int) -> EngineSnapshot:
    first = 4 * number
    stuck = number == 1
    done = 3 if stuck else tick
    return EngineSnapshot(
        name=f"llama-70b-{number}", url=f"http://10.0.0.{10 + number}:8000", engine="vllm", at=START + STEP * tick,
        version="0.32.0", model="meta-llama/Llama-3.3-70B-Instruct",
        pids=tuple(4100 + index for index in range(first, first + 4)),
        gpu_uuids=tuple(uuid(index) for index in range(first, first + 4)), health_status=200, metrics_age_seconds=0.0,
        running=12 if stuck else 31, waiting=12 if stuck else 4, kv_usage_ratio=0.41 if stuck else 0.87,
        preemptions=0 if stuck else tick, prompt_tokens=90_000 + 18_400 * done, generation_tokens=40_000 + 2_420 * done,
        requests_finished=100 + 7 * done, sleeping=False,
        first_token=LatencySum(seconds=40.0 + 3.1 * done, count=100 + 9 * done),
    )  # fmt: skip


def observation(tick: int) -> Observation:
    """The node at a tick; GPU 5 is lost from the sixth on, the second engine stands still from the third on."""
    return Observation(
        schema=SCHEMA,
        at=START + STEP * tick,
        node=NodeSnapshot(
            host="gpu-node-7", boot_id="b007", booted_at=START - 864_000, driver_version="580.95.05",
            nvml_version="13.580.95.05", cuda_version="13.0", kernel_driver_version="580.95.05", device_count=8,
            nvml=NvmlState(poll_seconds=0.012), gpus=tuple(gpu(index, tick) for index in range(8)),
            kernel_log=Missing(missing="no kernel log in this container"),
            system_memory_total_bytes=2048 * GIB, system_memory_available_bytes=1800 * GIB,
        ),
        engines=(engine(0, tick), engine(1, tick)),
        engines_looked_for=True,
    )  # fmt: skip


def history(ticks: int = 20) -> tuple[Observation, ...]:
    """Observations two seconds apart."""
    return tuple(observation(tick) for tick in range(ticks))


def healthy(ticks: int = 20, gpus: int = 8) -> tuple[Observation, ...]:
    """The same node, with nothing wrong: no GPU hot, lost or divided, and the first engine alone."""

    def well(seen: Observation, tick: int) -> Observation:
        ticking = [replace(gpu(0, tick), identity=identity(index), slow=replace(gpu(0, tick).slow,
                   processes=processes(0 if index < 4 else 4))) for index in range(gpus)]  # fmt: skip
        node = replace(seen.node, gpus=tuple(ticking), device_count=gpus)
        return replace(seen, node=node, engines=seen.engines[:1])

    return tuple(well(observation(tick), tick) for tick in range(ticks))


def judged() -> Health:
    """A verdict that does not depend on the checks there are: what a view shows of it."""
    engine = "http://10.0.0.1"
    made: tuple[tuple[str, Level, int | None, str | None, str, Action], ...] = (
        ("gpu-lost", "critical", LOST, None, "gpu 5 (GPU-5f3a1c9e…): fell off the bus (Xid 79)", "reboot_node"),
        ("engine-wedged", "critical", None, f"{engine}1:8000",
         "llama-70b-1: wedged for 36 s: 12 waiting, 0 tokens, GPUs 98 % busy at 118 W", "restart_engine"),
        ("gpu-temperature", "warn", HOT, None, "gpu 2 (GPU-2f3a1c9e…): 3 °C past its slowdown limit",
         "inspect_hardware"),
        ("kernel-log", "unknown", None, None, "no kernel log in this container", "none"),
        ("engine-bound", "ok", None, f"{engine}0:8000", "llama-70b-0: bound by memory bandwidth (DRAM 61 %)", "none"),
        ("driver", "ok", None, None, "driver and library are of one version", "none"),
        ("gpu-count", "skipped", None, None, "no baseline was learnt", "none"),
    )  # fmt: skip
    checks = tuple(
        Check(code=code, level=level, gpu=index, engine=url, message=message, action=action, source="a test",
              evidence=f"evidence of {code}")
        for code, level, index, url, message, action in made
    )  # fmt: skip
    return Health(verdict="critical", checks=checks, host="gpu-node-7")
