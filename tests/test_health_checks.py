"""Checks of GPUs and node: each rule is right about a node that is well, and finds the one thing that is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from selfhost.health import Baseline, Check, Context, GpuBaseline, Level, assess
from selfhost.health.checks import checkers
from selfhost.health.checks.nvlink import decode_mask
from selfhost.observation import (
    BootTotals,
    DeviceFile,
    EccCounts,
    FabricState,
    GpuProcess,
    Missing,
    NvmlState,
    Observation,
    RemappedRows,
)
from tests.health_samples import ABSENT, NOW, REFUSED, fast, gpu, judge, links, node, polls, seen

MIB = 1 << 20
ROWS = RemappedRows(corrected=1, uncorrected=0, pending=False, failed=False, banks_without_spares=0)
ECC = EccCounts(
    volatile_corrected=2, volatile_uncorrected=0, sram_uncorrected=0, sram_threshold_exceeded=False
)
IDLE = {"utilization_ratio": 0.0, "clock_reasons": 0x1, "sm_clock_mhz": 345, "power_watts": 71.0}


def held(**seconds: float) -> BootTotals:
    return replace(fast().held_down, **seconds)


def one(**changes: Any) -> tuple[Observation, ...]:
    return seen(node(gpu(**changes)))


def baseline(*indices: int, **changes: Any) -> Baseline:
    gpus = tuple(
        GpuBaseline(
            uuid=gpu(index).identity.uuid,
            index=index,
            name="NVIDIA H100 80GB HBM3",
            pci_address=gpu(index).identity.pci_address,
            **changes,
        )
        for index in indices
    )
    return Baseline(
        schema="selfhost/baseline/v1", host="gpu-3", learnt_at=NOW - 9, driver="580.95.05", gpus=gpus
    )


WELL = seen(node(gpu(0), gpu(1)), node(gpu(0), gpu(1)))

_Fault = tuple[tuple[Observation, ...], str, Level, str]
_RECOVERIES: tuple[tuple[int, Level, str], ...] = (
    (1, "critical", "reset_gpu"), (2, "critical", "reboot_node"), (3, "warn", "reset_gpu"),
    (4, "critical", "reset_gpu"), (5, "critical", "reset_gpu"), (6, "critical", "reset_gpu"),
    (7, "critical", "reboot_node"), (99, "warn", "inspect_hardware"),
)  # fmt: skip
RECOVERY: dict[str, _Fault] = {
    f"recovery action {action}": (one(quick={"recovery_action": action}), "gpu-recovery", level, todo)
    for action, level, todo in _RECOVERIES
}
# Name -> history, code of the check, its level, its action.
FAULTS: dict[str, _Fault] = {
    "lost": (one(fault=Missing(missing="GPU is lost", code=15)), "gpu-lost", "critical", "reboot_node"),
    "reset required": (
        one(fault=Missing(missing="reset required", code=16)), "gpu-reset-required", "critical", "reset_gpu",
    ),
    "one reading says reset required": (
        one(quick={"temperature_celsius": Missing(missing="reset required", code=16)}),
        "gpu-reset-required", "critical", "reset_gpu",
    ),
    "insufficient power": (one(fault=Missing(missing="power", code=8)), "gpu-lost", "critical", "inspect_hardware"),
    "gone from the list": (one(fault=Missing(missing="no longer listed")), "gpu-lost", "critical", "reboot_node"),
    "unknown handle": (one(fault=REFUSED), "gpu-lost", "unknown", "none"),
    "a reading says that power is missing": (
        one(quick={"power_watts": Missing(missing="no external power", code=8)}),
        "gpu-readings", "critical", "inspect_hardware",
    ),
    "a reading says that the inforom is corrupt": (
        one(rare={"ecc_enabled": Missing(missing="corrupt", code=14)}), "gpu-readings", "warn", "inspect_hardware",
    ),
    "a reading fails": (one(quick={"power_watts": REFUSED}), "gpu-readings", "unknown", "none"),
    "no right": (
        one(rare={"processes": Missing(missing="no permission", code=4)}),
        "gpu-readings", "unknown", "fix_configuration",
    ),
    **RECOVERY,
    "remap failed": (
        one(rare={"remapped": replace(ROWS, failed=True)}), "memory-remap-failed", "critical", "inspect_hardware",
    ),
    "remap pending": (one(rare={"remapped": replace(ROWS, pending=True)}), "memory-remap-pending", "warn", "reset_gpu"),
    "512 rows": (
        one(rare={"remapped": replace(ROWS, uncorrected=512)}), "memory-remapped-rows", "warn", "inspect_hardware",
    ),
    "no spare rows": (
        one(rare={"remapped": replace(ROWS, banks_without_spares=1)}),
        "memory-remapped-rows", "warn", "inspect_hardware",
    ),
    "unrepairable": (one(rare={"unrepairable_memory": True}), "memory-unrepairable", "critical", "inspect_hardware"),
    "uncorrected ecc": (
        one(rare={"ecc": replace(ECC, volatile_uncorrected=1)}), "ecc-uncorrected", "critical", "reset_gpu",
    ),
    "sram": (one(rare={"ecc": replace(ECC, sram_uncorrected=1)}), "ecc-sram", "critical", "reset_gpu"),
    "sram threshold": (
        one(rare={"ecc": replace(ECC, sram_threshold_exceeded=True)}), "ecc-sram", "critical", "inspect_hardware",
    ),
    "corrected ecc": (
        one(rare={"ecc": replace(ECC, volatile_corrected=20_000_000)}), "ecc-corrected", "warn", "inspect_hardware",
    ),
    "corrected ecc, fast": (
        polls(2, rare={"ecc": lambda n: replace(ECC, volatile_corrected=1000 * n)}),
        "ecc-corrected", "warn", "inspect_hardware",
    ),
    "pages pending": (one(rare={"retired_pending": True}), "memory-retired-pages", "warn", "reset_gpu"),
    "ten pages": (one(rare={"retired_pages": 10}), "memory-retired-pages", "warn", "inspect_hardware"),
    "63 pages": (one(rare={"retired_pages": 63}), "memory-retired-pages", "critical", "inspect_hardware"),
    "inforom": (one(rare={"inforom_valid": False}), "inforom", "warn", "inspect_hardware"),
    "margin past slowdown": (one(rare={"margin_celsius": -3}), "gpu-temperature", "critical", "inspect_hardware"),
    "margin at its end": (one(rare={"margin_celsius": 0}), "gpu-temperature", "warn", "inspect_hardware"),
    "past slowdown, whatever is to go": (
        one(quick={"temperature_celsius": 89}), "gpu-temperature", "critical", "inspect_hardware",
    ),
    "at its end, and past slowdown": (
        one(rare={"margin_celsius": 0}, quick={"temperature_celsius": 89}),
        "gpu-temperature", "critical", "inspect_hardware",
    ),
    "lost, as the count says": (
        seen(node(device_count=Missing(missing="lost", code=15))), "nvml", "critical", "reboot_node",
    ),
    "old board past slowdown": (
        one(rare={"margin_celsius": ABSENT}, quick={"temperature_celsius": 89}),
        "gpu-temperature", "critical", "inspect_hardware",
    ),
    "old board hot": (
        one(rare={"margin_celsius": ABSENT}, quick={"temperature_celsius": 87}),
        "gpu-temperature", "warn", "inspect_hardware",
    ),
    "memory hot": (
        one(quick={"memory_temperature_celsius": 95}), "memory-temperature", "warn", "inspect_hardware",
    ),
    "hw thermal, once": (one(quick={"clock_reasons": 0x48}), "clock-slowdown", "unknown", "none"),
    "hw thermal": (polls(2, quick={"clock_reasons": 0x48}), "clock-slowdown", "critical", "inspect_hardware"),
    "power brake": (polls(2, quick={"clock_reasons": 0x80}), "clock-slowdown", "critical", "inspect_hardware"),
    "hw slowdown": (polls(2, quick={"clock_reasons": 0x8}), "clock-slowdown", "warn", "inspect_hardware"),
    "sw thermal": (polls(2, quick={"clock_reasons": 0x20}), "clock-slowdown", "warn", "inspect_hardware"),
    "board limit": (polls(2, quick={"clock_reasons": 0x200}), "clock-slowdown", "warn", "inspect_hardware"),
    "reliability": (polls(2, quick={"clock_reasons": 0x400}), "clock-slowdown", "warn", "inspect_hardware"),
    "slowdowns again and again": (
        polls(13, every=60.0, quick={"clock_reasons": lambda n: 0x8 if n % 3 else 0}),
        "clock-slowdown", "critical", "inspect_hardware",
    ),
    "held down by heat": (
        polls(2, quick={"held_down": lambda n: held(hw_thermal_seconds=0.5 * n)}),
        "clock-held-down", "critical", "inspect_hardware",
    ),
    "held down a little": (
        polls(2, quick={"held_down": lambda n: held(thermal_seconds=0.1 * n)}),
        "clock-held-down", "warn", "inspect_hardware",
    ),
    "held down by the driver": (
        polls(2, quick={"held_down": lambda n: held(sw_thermal_seconds=1.5 * n)}),
        "clock-held-down", "warn", "inspect_hardware",
    ),
    "held down by the board": (
        polls(2, quick={"held_down": lambda n: held(board_limit_seconds=0.5 * n)}),
        "clock-held-down", "warn", "inspect_hardware",
    ),
    "clock low, once": (one(quick={"sm_clock_mhz": 345, "clock_reasons": 0}), "clock-low", "unknown", "none"),
    "clock low": (polls(2, quick={"sm_clock_mhz": 345, "clock_reasons": 0}), "clock-low", "warn", "reset_gpu"),
    "narrow link": (one(rare={"pcie_width": 8}), "pcie-link", "warn", "inspect_hardware"),
    "slow link, twice": (polls(2, rare={"pcie_generation": 1}), "pcie-link", "unknown", "none"),
    "slow link": (polls(3, rare={"pcie_generation": 1}), "pcie-link", "critical", "inspect_hardware"),
    "replays": (
        polls(2, every=60.0, rare={"pcie_replays": lambda n: 3 + 32 * n}), "pcie-replays", "warn", "inspect_hardware",
    ),
    "nvlink down": (one(rare={"nvlinks": links(down=(7,))}), "nvlink-down", "critical", "reset_gpu"),
    "bridge down": (
        one(who={"name": "NVIDIA A40"}, rare={"nvlinks": links(4, down=(3,)), "fabric": ABSENT}),
        "nvlink-down", "warn", "reset_gpu",
    ),
    "nvlink replays": (
        polls(2, rare={"nvlinks": lambda n: links(replay_errors=n)}), "nvlink-errors", "critical", "reset_gpu",
    ),
    "nvlink recoveries": (
        polls(2, rare={"nvlinks": lambda n: links(recovery_errors=n)}), "nvlink-errors", "critical", "reset_gpu",
    ),
    "a few crc errors": (
        polls(2, rare={"nvlinks": lambda n: links(crc_errors=n)}), "nvlink-errors", "warn", "inspect_hardware",
    ),
    "many crc errors": (
        polls(2, rare={"nvlinks": lambda n: links(crc_errors=12 * n)}), "nvlink-errors", "critical", "reset_gpu",
    ),
    "fabric not started": (
        one(rare={"fabric": FabricState(state=1, status=0)}), "fabric", "critical", "fix_configuration",
    ),
    "fabric in progress for long": (
        one(rare={"fabric": FabricState(state=2, status=0)}), "fabric", "warn", "fix_configuration",
    ),
    "fabric failed": (one(rare={"fabric": FabricState(state=3, status=999)}), "fabric", "critical", "reset_gpu"),
    "fabric unhealthy": (
        one(rare={"fabric": FabricState(state=3, status=0, summary=2)}), "fabric", "critical", "reset_gpu",
    ),
    "fabric limited": (
        one(rare={"fabric": FabricState(state=3, status=0, summary=3)}), "fabric", "warn", "reset_gpu",
    ),
    "fabric bandwidth": (
        one(rare={"fabric": FabricState(state=3, status=0, health_mask=0x1)}), "fabric", "warn", "reset_gpu",
    ),
    "fabric configuration": (
        one(rare={"fabric": FabricState(state=3, status=0, health_mask=0x500)}),
        "fabric", "critical", "fix_configuration",
    ),
    "persistence": (one(rare={"persistence": False}), "persistence", "warn", "fix_configuration"),
    "ecc off": (
        one(rare={"ecc_enabled": False, "ecc_pending": False}), "ecc-mode", "warn", "fix_configuration",
    ),
    "ecc pending": (one(rare={"ecc_pending": False}), "ecc-mode", "warn", "reset_gpu"),
    "mig pending": (one(rare={"mig_pending": True}), "mig-mode", "warn", "reset_gpu"),
    "debugging": (
        one(rare={"processes": (GpuProcess(pid=4, name="vllm", debugging=("CUDA_PROFILE",)),)}),
        "debug-variables", "warn", "fix_configuration",
    ),
    "orphan": (
        one(quick={**IDLE, "memory_used_bytes": 16 * MIB}, rare={"processes": ()}),
        "memory-orphaned", "warn", "reset_gpu",
    ),
    "not loaded": (
        seen(node(nvml=NvmlState(fault=Missing(missing="driver not loaded", code=9)))),
        "nvml", "critical", "fix_configuration",
    ),
    "no library": (
        seen(node(nvml=NvmlState(fault=Missing(missing="no library", code=12)), kernel_driver_version=ABSENT)),
        "nvml", "unknown", "fix_configuration",
    ),
    "mismatch": (
        seen(node(nvml=NvmlState(fault=Missing(missing="mismatch", code=18)))), "nvml", "critical", "reboot_node",
    ),
    "zero in a container": (
        seen(node(kernel_driver_version=ABSENT, in_container=True)), "nvml", "unknown", "fix_configuration",
    ),
    "zero with the module loaded": (seen(node()), "nvml", "critical", "reboot_node"),
    "zero with device files": (
        seen(node(kernel_driver_version=ABSENT, device_files=(DeviceFile(path="/dev/nvidia0", usable=True),))),
        "nvml", "critical", "reboot_node",
    ),
    "slow": (seen(node(gpu(), nvml=NvmlState(poll_seconds=2.5))), "nvml-slow", "warn", "none"),
    "late": (
        seen(node(gpu(), nvml=NvmlState(poll_seconds=0.1, stuck_seconds=1.2, stuck_call="nvmlX"))),
        "nvml-slow", "warn", "none",
    ),
    "stuck": (
        seen(node(gpu(), nvml=NvmlState(poll_seconds=0.1, stuck_seconds=9.0, stuck_call="nvmlX"))),
        "nvml-slow", "critical", "reboot_node",
    ),
    "other module": (seen(node(gpu(), kernel_driver_version="575.51.02")), "driver", "warn", "reboot_node"),
    "old driver for its cuda": (
        seen(node(gpu(), driver_version="570.86.10", kernel_driver_version="570.86.10")),
        "driver", "warn", "fix_configuration",
    ),
    "no rights": (
        seen(node(gpu(), device_files=(DeviceFile(path="/dev/nvidia0", usable=False),))),
        "permissions", "critical", "fix_configuration",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found(name: str) -> None:
    history, code, level, action = FAULTS[name]
    worst = judge(history)[code][0]
    assert (worst.level, worst.action) == (level, action), worst
    assert worst.message
    assert worst.source


@pytest.mark.parametrize("name", FAULTS)
def test_a_finding_that_waits_says_so_and_is_not_a_fault_yet(name: str) -> None:
    history, code, level, _ = FAULTS[name]
    waits = [check for check in judge(history)[code] if check.wants_history]
    assert all(check.level in ("unknown", "skipped") for check in waits)
    if ", once" in name or ", twice" in name:
        assert level == "unknown"
        assert waits


def test_a_node_that_is_well() -> None:
    health = assess(WELL, Context(now=NOW))
    assert health.verdict == "ok", [check for check in health.checks if check.level not in ("ok", "skipped")]
    assert not any(check.wants_history for check in health.checks)
    codes = [check.code for check in health.checks if check.level == "ok" and check.engine is None]
    assert len(codes) == len(set(codes)), "what is well is told once for all GPUs"
    assert all(check.gpu is None for check in health.checks if check.level in ("ok", "skipped"))
    assert all(check.source for check in health.checks)


@pytest.mark.parametrize("code", sorted({code for _, code, _, _ in FAULTS.values()} - {"gpu-reset-required"}))
def test_every_rule_is_also_content(code: str) -> None:
    found = {**judge(seen(node(gpu(), device_files=(DeviceFile(path="/dev/nvidia0", usable=True),))))}
    found["clock-held-down"] = judge(polls(2))["clock-held-down"]
    found["pcie-replays"] = judge(polls(2, rare={"pcie_replays": 3}))["pcie-replays"]
    found["memory-retired-pages"] = judge(one())["memory-retired-pages"]
    assert [check.level for check in found[code]] == ["ok"], found[code]


def test_what_a_board_lacks_is_skipped_and_not_a_fault() -> None:
    def bare(missing: Missing) -> tuple[Observation, ...]:
        from dataclasses import fields

        whole = gpu()
        quick: dict[str, Any] = {f.name: missing for f in fields(whole.fast) if f.name != "held_down"}
        rare: dict[str, Any] = {
            f.name: missing for f in fields(whole.slow) if f.name not in ("ecc", "remapped", "mig")
        }
        rare["ecc"] = EccCounts(**{f.name: missing for f in fields(whole.slow.ecc)})
        rare["remapped"] = RemappedRows(**{f.name: missing for f in fields(whole.slow.remapped)})
        quick["held_down"] = BootTotals(**{f.name: missing for f in fields(whole.fast.held_down)})
        return one(quick=quick, rare=rare)

    for code in (3, 13, 2, 25, 26):
        health = assess(bare(Missing(missing="not supported", code=code)), Context(now=NOW))
        assert health.verdict == "ok", (code, health.checks[0])
    refused = assess(bare(REFUSED), Context(now=NOW))
    assert refused.verdict == "unknown"
    assert not any(check.level in ("critical", "warn") for check in refused.checks)


def test_a_reading_that_never_came_is_unknown() -> None:
    late = replace(gpu(), slow_at=None, slow=type(gpu().slow)())
    found = judge(seen(node(late)))
    assert found["memory-remap-failed"][0].level == "unknown"
    assert "in time" in found["memory-remap-failed"][0].message


class TestCount:
    def test_without_a_baseline_it_is_skipped(self) -> None:
        assert judge(one())["gpu-count"][0].level == "skipped"

    def test_as_many_as_learnt(self) -> None:
        assert judge(WELL, baseline=baseline(0, 1))["gpu-count"][0].level == "ok"

    def test_fewer(self) -> None:
        check = judge(one(), baseline=baseline(0, 1))["gpu-count"][0]
        assert check.level == "critical"
        assert gpu(1).identity.uuid in check.evidence

    def test_a_lost_one_is_missing_too(self) -> None:
        dead = gpu(1, fault=Missing(missing="lost", code=15))
        assert judge(seen(node(gpu(), dead)), baseline=baseline(0, 1))["gpu-count"][0].level == "critical"

    def test_another_board(self) -> None:
        assert judge(seen(node(gpu(2))), baseline=baseline(0))["gpu-count"][0].level == "warn"

    def test_none_where_there_were_some(self) -> None:
        history = seen(node(kernel_driver_version=ABSENT, in_container=True))
        assert judge(history, baseline=baseline(0))["nvml"][0].level == "critical"


class TestBaseline:
    def test_links_of_the_baseline_decide(self) -> None:
        half = one(rare={"nvlinks": links(down=tuple(range(9, 18)))})
        assert judge(half, baseline=baseline(0, nvlinks_active=9))["nvlink-down"][0].level == "ok"
        assert judge(half, baseline=baseline(0, nvlinks_active=10))["nvlink-down"][0].level == "critical"

    def test_a_slot_that_got_slower(self) -> None:
        slower = one(who={"pcie_max_width": 8}, rare={"pcie_width": 8})
        assert judge(slower)["pcie-link"][0].level == "ok"
        assert judge(slower, baseline=baseline(0, pcie_width=16))["pcie-link"][0].level == "warn"

    def test_ecc_that_was_off_when_learnt_is_as_it_should_be(self) -> None:
        off = one(rare={"ecc_enabled": False, "ecc_pending": False})
        assert judge(off, baseline=baseline(0, ecc_enabled=False))["ecc-mode"][0].level == "ok"

    def test_mig_that_changed(self) -> None:
        assert judge(one(), baseline=baseline(0, mig_enabled=True))["mig-mode"][0].level == "warn"

    def test_memory_that_is_always_in_use(self) -> None:
        idle = one(quick={**IDLE, "memory_used_bytes": 40 * MIB}, rare={"processes": ()})
        assert (
            judge(idle, baseline=baseline(0, idle_memory_bytes=30 * MIB))["memory-orphaned"][0].level == "ok"
        )


SILENT: dict[str, tuple[tuple[Observation, ...], str]] = {
    "links rest at idle": (one(quick=IDLE, rare={"pcie_generation": 1, "performance_state": 8}), "pcie-link"),
    "links rest at idle in P0": (
        polls(3, quick=IDLE, rare={"pcie_generation": 1, "performance_state": 0}), "pcie-link",
    ),
    "nvlinks under mig": (
        one(rare={"nvlinks": links(down=(1,)), "mig_enabled": True, "mig_pending": True}), "nvlink-down",
    ),
    "no bridge": (
        one(who={"name": "NVIDIA H100 PCIe"}, rare={"nvlinks": links(down=tuple(range(18))), "fabric": ABSENT}),
        "nvlink-down",
    ),
    "no fabric on this board": (
        one(who={"name": "NVIDIA GH200 480GB"}, rare={"fabric": FabricState(state=1, status=0)}), "fabric",
    ),
    "desktop without persistence": (
        one(who={"name": "NVIDIA GeForce RTX 4090"}, rare={"persistence": False}), "persistence",
    ),
    "desktop without ecc": (
        one(who={"name": "NVIDIA RTX A6000"}, rare={"ecc_enabled": False, "ecc_pending": False}), "ecc-mode",
    ),
    "memory sensor of 0": (one(quick={"memory_temperature_celsius": 0}), "memory-temperature"),
    "memory sensor of 255": (one(quick={"memory_temperature_celsius": 255}), "memory-temperature"),
    "busy without a process": (one(rare={"processes": ()}), "memory-orphaned"),
    "unified memory": (
        one(who={"name": "NVIDIA GB10", "unified_memory": True}, quick=IDLE, rare={"processes": ()}), "memory-orphaned",
    ),
    "in a container": (
        seen(node(gpu(quick=IDLE, rare={"processes": ()}), in_container=True)), "memory-orphaned",
    ),
    "reserve not told apart": (
        one(quick={**IDLE, "memory_reserved_bytes": ABSENT}, rare={"processes": ()}), "memory-orphaned",
    ),
    "no device files": (one(), "permissions"),
    "one reading": (one(), "clock-held-down"),
}  # fmt: skip


@pytest.mark.parametrize("name", SILENT)
def test_where_it_does_not_apply_it_is_skipped_with_a_reason(name: str) -> None:
    history, code = SILENT[name]
    check = judge(history)[code][0]
    assert check.level == "skipped", check
    assert len(check.message) > 8


def test_only_a_gpu_whose_clocks_were_ever_held_down_is_looked_at_twice() -> None:
    assert not judge(one())["clock-held-down"][0].wants_history
    before = judge(one(quick={"held_down": held(hw_thermal_seconds=4.0)}))["clock-held-down"][0]
    assert (before.level, before.wants_history) == ("skipped", True)


def test_a_container_that_sees_the_host_s_processes_can_tell_orphans() -> None:
    orphan = gpu(quick={**IDLE, "memory_used_bytes": 16 * MIB}, rare={"processes": ()})
    assert judge(seen(node(orphan, in_container=True, host_pids=True)))["memory-orphaned"][0].level == "warn"


def test_power_cap_is_told_and_no_fault() -> None:
    found = judge(polls(4, quick={"clock_reasons": lambda n: 0x4 if n else 0x0}))
    assert found["power-cap"][0].level == "ok"
    assert "75%" in found["power-cap"][0].evidence
    assert found["clock-slowdown"][0].level == "ok"


def test_unknown_clock_bits_are_shown_in_hex() -> None:
    found = judge(polls(2, quick={"clock_reasons": 0x1004}))["clock-slowdown"]
    assert [check.level for check in found] == ["ok"]
    assert "0x1000" in found[0].message


def test_a_flash_of_a_slowdown_that_went_away_is_nothing() -> None:
    history = polls(3, quick={"clock_reasons": lambda n: 0x48 if n == 1 else 0x4})
    assert judge(history)["clock-slowdown"][0].level == "ok"


def test_a_counter_that_was_set_back_starts_anew() -> None:
    history = polls(3, rare={"nvlinks": lambda n: links(replay_errors=(9, 2, 2)[n])})
    assert judge(history)["nvlink-errors"][0].level == "ok"


def test_the_same_reading_twice_is_one_poll() -> None:
    stale = node(gpu(quick={"clock_reasons": 0x80}))
    assert judge(seen(stale, stale))["clock-slowdown"][0].level == "unknown"


def test_fabric_mask() -> None:
    assert decode_mask(0x0) == []  # nothing supported
    assert decode_mask(0xAA) == []  # every two-bit field says false
    assert decode_mask(0x1AA) == []  # 1 in the configuration field: none is wrong
    assert decode_mask(0x10) == [("critical", "fabric: a route is unhealthy")]
    assert [level for level, _ in decode_mask(0x605)] == ["warn", "warn", "critical"]
    assert "incompatible firmware" in decode_mask(0x600)[0][1]


def test_serving_is_told_what_it_may_go_on_with() -> None:
    mismatch, code, _, _ = FAULTS["mismatch"]
    assert "running engines go on; do not restart them before the reboot" in judge(mismatch)[code][0].message
    pending, code, _, _ = FAULTS["remap pending"]
    assert "plan a window" in judge(pending)[code][0].message


def test_ok_is_told_once_for_eight_gpus_and_faults_one_by_one() -> None:
    gpus = [gpu(index) for index in range(8)]
    gpus[5] = gpu(5, rare={"inforom_valid": False})
    found = judge(seen(node(*gpus)))
    assert found["ecc-uncorrected"][0].message.startswith("all 8 GPUs")
    assert [(check.level, check.gpu) for check in found["inforom"]] == [("warn", 5), ("ok", None)]


def test_every_module_of_checks_is_found() -> None:
    names = {checker.__module__.rpartition(".")[2] for checker in checkers()}
    assert {"clocks", "gpus", "memory", "modes", "node", "nvlink", "pcie", "thermal", "xids"} <= names
    assert not any(name.startswith("_") for name in names)


def test_codes_are_words() -> None:
    seen_codes = {
        check.code for history, *_ in FAULTS.values() for check in assess(history, Context(now=NOW)).checks
    }
    assert all(code.replace("-", "").isalnum() and code.islower() for code in seen_codes)


def test_plan_that_needs_a_newer_driver() -> None:
    from tests.plans import plan

    history = seen(
        node(gpu(), driver_version="570.86.10", kernel_driver_version="570.86.10", cuda_version="12.8")
    )
    assert judge(history)["driver"][0].level == "ok"
    check: Check = judge(history, plan=plan())["driver"][0]
    assert (check.level, check.action) == ("critical", "fix_configuration")
    assert judge(WELL, plan=plan())["driver"][0].level == "ok"
