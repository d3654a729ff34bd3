"""Alerts about GPUs: gone, Xid errors, memory, clocks and links."""

from __future__ import annotations

from collections.abc import Iterable

from selfhost.catalog.xids import XidClass, xids
from selfhost.manifests.rules.types import Alert, Severity

_WHERE = "{{ $labels.node }} gpu {{ $labels.gpu }} ({{ $labels.uuid }})"
# Reasons that mean heat or the supply; the power cap is normal under load (NVML's clocks event reasons, 2026-11-21).
_HEAT = "thermal|sw_thermal|hw_thermal"
_BRAKE = "hw_power_brake"


def gpu_alerts() -> Iterable[Alert]:
    """A GPU that is gone or has failed."""
    yield from _gone()
    yield from _xid()
    yield from _memory()


def limit_alerts() -> Iterable[Alert]:
    """A GPU that works, but slower than it could."""
    yield from _clocks()
    yield from _links()


def _gone() -> Iterable[Alert]:
    yield Alert(
        name="SelfhostGpuLost",
        expr="selfhost_gpu_up == 0",
        wait="1m",
        severity="critical",
        action="reboot_node",
        summary=f"{_WHERE} does not answer.",
        runbook="It fell off the bus (Xid 79), needs a reset, or a call to it hangs; `selfhost health` in the "
        "monitor's pod says which. Engines on this GPU are dead: move them. Reset where that is asked for, else drain "
        "and reboot the node; a second time within days is the hardware's.",
    )
    yield _recovery(
        "Reset",
        (1, 4, 6),
        "critical",
        "reset_gpu",
        "a reset",
        "Drain the GPU's pods (NVLink peers too), then nvidia-smi --gpu-reset, or reboot the node.",
    )
    yield _recovery(
        "Reboot",
        (2, 7),
        "critical",
        "reboot_node",
        "a reboot of the node",
        "Drain the node and reboot it: a reset of the GPU will not do.",
    )
    yield _recovery("Drain", (3, 5), "warning", "reset_gpu", "its peer-to-peer traffic to be drained",
                    "Let jobs that use several GPUs end and start no new ones on it, then reset it.")  # fmt: skip


def _recovery(
    name: str, values: tuple[int, ...], severity: Severity, action: str, asked: str, runbook: str
) -> Alert:
    """NVML field 230; meanings of 0 to 4 by nvml.h, of 5 to 7 by NVML's newest documentation (2026-11-21)."""
    return Alert(
        name=f"SelfhostGpuRecovery{name}",
        expr=" or ".join(f"selfhost_gpu_recovery_action == {value}" for value in values),
        wait="1m",
        severity=severity,
        action=action,
        summary=f"The driver asks for {asked}: {_WHERE}.",
        runbook=runbook,
    )


def _xid() -> Iterable[Alert]:
    """By class of the catalogue; a code that follows from another one is counted with it."""
    texts: tuple[tuple[str, tuple[XidClass, ...], Severity, str, str], ...] = (
        ("Reboot", ("reboot",), "critical", "reboot_node",
         "The GPU or its firmware is gone. Drain the node and reboot it; a second time within days is the hardware's."),
        ("Hardware", ("support",), "critical", "inspect_hardware",
         "Drain the GPU and have board, power and seating inspected; a reboot will not mend it."),
        ("Reset", ("reset",), "critical", "reset_gpu", "Drain the GPU's pods and reset it, or reboot the node."),
        ("Application", ("app",), "warning", "restart_engine",
         "The GPU is well, the engine that ran on it is not: restart it. Again and again on one GPU is the GPU's."),
    )  # fmt: skip
    for name, classes, severity, action, runbook in texts:
        yield _xid_alert(name, f'xid=~"{_codes(*classes)}"', severity, action, runbook)
    yield _xid_alert(
        "Other",
        f'xid!~"{_codes("reboot", "support", "reset", "app", "info")}"',
        "info",
        "inspect_hardware",
        "Nothing to do at once: plan maintenance for the GPU if it comes again. Codes that the catalogue does not know "
        "are counted here too.",
    )


def _codes(*classes: XidClass) -> str:
    return "|".join(str(code) for code, xid in sorted(xids().items()) if xid.severity in classes)


def _xid_alert(name: str, which: str, severity: Severity, action: str, runbook: str) -> Alert:
    series = f"selfhost_gpu_xid_errors_total{{{which}}}"
    return Alert(
        name=f"SelfhostGpuXid{name}",
        # A code's series begins with its first error: no increase would see that one.
        expr=f"increase({series}[1h]) > 0 or ({series} unless {series} offset 1h)",
        wait="0m",
        severity=severity,
        action=action,
        summary=f"Xid {{{{ $labels.xid }}}} within the last hour on {_WHERE}.",
        runbook=runbook,
    )


def _memory() -> Iterable[Alert]:
    yield Alert(
        name="SelfhostGpuRowRemapFailed",
        expr="selfhost_gpu_row_remap_failed == 1",
        wait="1m",
        severity="critical",
        action="inspect_hardware",
        summary=f"A row of memory could not be replaced: {_WHERE}.",
        runbook="The spares of a bank are used up. Drain the GPU; the board is to be exchanged.",
    )
    yield Alert(
        name="SelfhostGpuRowRemapPending",
        expr="selfhost_gpu_row_remap_pending == 1",
        wait="10m",
        severity="warning",
        action="reset_gpu",
        summary=f"A row of memory waits to be replaced: {_WHERE}.",
        runbook="Serving can go on. Plan a window: drain the GPU and reset it, which remaps the row.",
    )
    yield Alert(
        name="SelfhostGpuUncorrectedEcc",
        expr='selfhost_gpu_ecc_errors_total{kind="uncorrected"} > 0',
        wait="1m",
        severity="critical",
        action="reset_gpu",
        summary=f"{{{{ $value }}}} ECC errors that could not be corrected on {_WHERE}.",
        runbook="An engine that read the cell has ended or is wrong: restart it. Drain the GPU and reset it. Again "
        "after that: have it inspected.",
    )


def _clocks() -> Iterable[Alert]:
    held = "selfhost_gpu_clock_held_down_seconds_total"
    yield Alert(
        name="SelfhostGpuThermal",
        expr=f'max without (reason) (rate({held}{{reason=~"{_HEAT}"}}[5m])) > 0.1',  # a tenth of the time: ours
        wait="10m",
        severity="warning",
        action="inspect_hardware",
        summary=f"Heat holds the clocks down {{{{ $value | humanizePercentage }}}} of the time: {_WHERE}.",
        runbook="Look at inlet temperature, fans and filters, and at neighbours that are as hot. Requests get slower, "
        "and with tensor parallelism those of all GPUs of the engine do.",
    )
    yield Alert(
        name="SelfhostGpuThermalMargin",
        expr="selfhost_gpu_thermal_margin_celsius <= 0",
        wait="5m",
        severity="warning",
        action="inspect_hardware",
        summary=f"{_WHERE} is at its temperature limit ({{{{ $value }}}} degrees to go).",
        runbook="Its clocks are about to be cut, and some degrees further the board switches itself off. Look at inlet "
        "temperature, fans and filters.",
    )
    yield Alert(
        name="SelfhostGpuPowerBrake",
        expr=f'rate({held}{{reason="{_BRAKE}"}}[5m]) > 0.01',  # any that lasts; ours
        wait="5m",
        severity="critical",
        action="inspect_hardware",
        summary=f"The power supply brakes {_WHERE}, {{{{ $value | humanizePercentage }}}} of the time.",
        runbook="The rack or a power supply asks for less load; a reboot will not help. Look at the supplies, their "
        "redundancy and the rack's limit.",
    )


def _links() -> Iterable[Alert]:
    busy = "selfhost_gpu_utilization_ratio > 0.1"  # links fall to generation 1 when idle, by design
    yield Alert(
        name="SelfhostGpuPcieLink",
        expr="(selfhost_gpu_pcie_link_generation < selfhost_gpu_pcie_link_generation_max"
        f" or selfhost_gpu_pcie_link_lanes < selfhost_gpu_pcie_link_lanes_max) and {busy}",
        wait="10m",
        severity="warning",
        action="inspect_hardware",
        summary=f"PCIe runs below its best under load: {_WHERE}.",
        runbook="Loading weights and moving KV cache get slower. Reseat the board or riser at the next window; look at "
        "replays and at the firmware's settings of the slot.",
    )
    yield Alert(
        name="SelfhostGpuPcieReplays",
        expr="rate(selfhost_gpu_pcie_replays_total[5m]) * 60 > 31",
        wait="10m",
        severity="warning",
        action="inspect_hardware",
        summary=f"{{{{ $value | humanize }}}} PCIe replays a minute on {_WHERE}.",
        runbook="More than DCGM's limit for 16 lanes of generation 5 (31 a minute; on slower links less is too much "
        "already): a bad contact or riser.",
    )
    yield Alert(
        name="SelfhostGpuNvlinkDown",
        expr="selfhost_gpu_nvlink_up == 0 unless on (cluster, node, uuid) selfhost_gpu_mig_enabled == 1",
        wait="5m",
        severity="critical",
        action="inspect_hardware",
        summary=f"NVLink {{{{ $labels.link }}}} is down: {_WHERE}.",
        runbook="Tensor parallelism falls back to PCIe or fails. Look at the fabric manager and at Xid 74 and 144 to "
        "150; reset the GPUs that share the link; if it stays down, have bridge or baseboard inspected.",
    )
    yield Alert(
        name="SelfhostGpuNvlinkErrors",
        expr='increase(selfhost_gpu_nvlink_errors_total{kind=~"replay|recovery"}[15m]) > 0',
        wait="0m",
        severity="warning",
        action="inspect_hardware",
        summary=f"NVLink {{{{ $labels.link }}}} repeats or recovers ({{{{ $labels.kind }}}}): {_WHERE}.",
        runbook="DCGM calls one such error a fault. Single ones can be waited for; a steady flow is the link's.",
    )
