"""The GPUs themselves: as many as there were, none lost, none that the driver wants reset."""

from __future__ import annotations

from dataclasses import fields

from selfhost.health.checks._family import NOT_HERE, Finding, Trail, family, unanswered
from selfhost.health.types import Action, Check, Context, History, Level
from selfhost.observation import GpuProcess, GpuSnapshot, Missing
from selfhost.observation.reading import GPU_IS_LOST, RESET_REQUIRED

_COUNT = "baseline of this node; gpud, Meta GCM and AzNHC compare with a configured count (read 2026-11-21)"
_LOST = "nvml.h r615 error codes 15 and 16 (read 2026-11-21); NVSentinel"
_READINGS = "nvml.h r615 error codes (read 2026-11-21)"
_RECOVERY = "NVML field 230, nvml.h r615; DCGM 4.6.0 diagnostics gpu_recovery_state (read 2026-11-21)"

# NVML field 230 -> level, what to do, sentence. 5 to 7 came after DCGM 4.6.
_ACTIONS: dict[int, tuple[Level, Action, str]] = {
    1: ("critical", "reset_gpu", "the driver asks for a reset of this GPU: drain it, then nvidia-smi --gpu-reset"),
    2: ("critical", "reboot_node", "the driver asks for a reboot of the node: drain it first"),
    3: ("warn", "reset_gpu", "the driver asks to drain peer-to-peer traffic of this GPU: plan a window"),
    4: ("critical", "reset_gpu", "the driver asks to drain this GPU and reset it; running work may go on until then"),
    5: ("critical", "reset_gpu", "the driver asks to recover the IMEX domain of this GPU"),
    6: ("critical", "reset_gpu", "the driver asks for a reset of this GPU's bus"),
    7: ("critical", "reboot_node", "the driver asks for a reboot of the whole system"),
}  # fmt: skip

# NVML_ERROR_INSUFFICIENT_POWER and NVML_ERROR_CORRUPTED_INFOROM: faults of the board, whichever call tells of them.
_NO_POWER, _INFOROM = 8, 14
# nvmlReturn_t of a GPU as a whole -> level, what to do, sentence.
_FAULTS: dict[int, tuple[Level, Action, str]] = {
    GPU_IS_LOST: ("critical", "reboot_node", "fell off the bus (lost): only a reboot of the node brings it back"),
    RESET_REQUIRED: ("critical", "reset_gpu", "must be reset before it does anything again"),
    _NO_POWER: ("critical", "inspect_hardware", "has not enough power: an auxiliary cable is missing or loose"),
    11: ("warn", "reboot_node", "gives no readings: an interrupt of it is not handled"),
    _INFOROM: ("warn", "inspect_hardware", "gives no readings: its InfoROM is corrupt"),
    17: ("warn", "reboot_node", "gives no readings: the operating system refused the driver's request"),
    20: ("warn", "none", "gives no readings: out of memory"),
}  # fmt: skip


def count(history: History, context: Context) -> list[Check]:
    """Whether as many GPUs answer as the baseline has, and the same ones."""
    node = history[-1].node
    baseline = context.baseline
    if baseline is None:
        return [
            Check(
                code="gpu-count",
                level="skipped",
                message=f"{len(node.gpus)} GPUs seen; how many there should be is not known without a baseline "
                "(selfhost health --learn)",
                source=_COUNT,
            )
        ]
    if node.nvml.fault is not None and not node.gpus:
        return [Check(code="gpu-count", level="skipped", message="NVML cannot be used", source=_COUNT)]
    answering = {gpu.identity.uuid for gpu in node.gpus if gpu.fault is None}
    gone = [gpu for gpu in baseline.gpus if gpu.uuid not in answering]
    fresh = answering - {gpu.uuid for gpu in baseline.gpus}
    evidence = f"{len(answering)} of {len(baseline.gpus)} GPUs answer"
    if gone:
        evidence += "; missing: " + ", ".join(f"{gpu.uuid} at {gpu.pci_address}" for gpu in gone[:8])
    if len(answering) < len(baseline.gpus):
        return [
            Check(
                code="gpu-count",
                level="critical",
                message=f"{len(baseline.gpus) - len(answering)} of {len(baseline.gpus)} GPUs "
                f"{'is' if len(baseline.gpus) - len(answering) == 1 else 'are'} missing",
                evidence=evidence,
                action="reboot_node",
                source=_COUNT,
            )
        ]
    if gone or fresh:
        return [
            Check(
                code="gpu-count",
                level="warn",
                message="other GPUs than the baseline has: learn a new one where they were exchanged on purpose",
                evidence=evidence + (f"; new: {', '.join(sorted(fresh)[:8])}" if fresh else ""),
                action="fix_configuration",
                source=_COUNT,
            )
        ]
    message = f"all {len(baseline.gpus)} GPUs of the baseline answer"
    return [Check(code="gpu-count", level="ok", message=message, evidence=evidence, source=_COUNT)]


def lost(history: History, context: Context) -> list[Check]:
    """Whether a GPU as a whole stopped answering."""
    node = history[-1].node
    gpus = node.gpus
    if not gpus:
        return [Check(code="gpu-lost", level="skipped", message="no GPU is known", source=_LOST)]
    checks = [
        _lost(gpu, fault, hanging=node.nvml.stuck_call is not None)
        for gpu in gpus
        if (fault := gpu.fault or _whole(gpu)) is not None
    ]
    if len(checks) < len(gpus):
        fine = len(gpus) - len(checks)
        whole = f"all {len(gpus)} GPUs answer" if not checks else f"{fine} of {len(gpus)} GPUs answer"
        checks.append(Check(code="gpu-lost", level="ok", message=whole, source=_LOST))
    return checks


def _whole(gpu: GpuSnapshot) -> Missing | None:
    """A reading that failed in a way that is not the reading's own: the GPU is lost, or must be reset."""
    readings = (getattr(part, field.name) for part in (gpu.fast, gpu.slow) for field in fields(part))
    return next(
        (
            reading
            for reading in readings
            if isinstance(reading, Missing) and reading.code in (GPU_IS_LOST, RESET_REQUIRED)
        ),
        None,
    )


def _lost(gpu: GpuSnapshot, fault: Missing, *, hanging: bool) -> Check:
    level, action, sentence = _FAULTS.get(
        -1 if fault.code is None else fault.code,
        ("unknown", "none", f"gives no readings: {fault.missing}"),
    )
    if fault.code is None and not hanging:
        # It was seen since the start and is not in NVML's list any more, without a word of why.
        level, action, sentence = "critical", "reboot_node", f"is gone: {fault.missing}"
    if fault.code == 999:
        sentence += (
            " (in a container: the devices may have been taken away, as after systemctl daemon-reload)"
        )
    holders = sorted({process.pod or process.name or f"pid {process.pid}" for process in _processes(gpu)})
    unseen = gpu.identity.uuid.startswith("unknown-")  # it was lost before it could be asked who it is
    who = "" if unseen else f"{gpu.identity.uuid} at {gpu.identity.pci_address}, {gpu.identity.name}: "
    evidence = f"{who}{fault.missing}"
    if fault.code is not None:
        evidence += f" (NVML code {fault.code})"
    if holders:
        evidence += f"; had on it: {', '.join(holders[:4])}"
    return Check(
        code="gpu-reset-required" if fault.code == RESET_REQUIRED else "gpu-lost",
        level=level,
        gpu=gpu.identity.index,
        message=f"{gpu.label}: {sentence}",
        evidence=evidence,
        action=action,
        source=_LOST,
    )


def _processes(gpu: GpuSnapshot) -> tuple[GpuProcess, ...]:
    processes = gpu.slow.processes
    return () if isinstance(processes, Missing) else processes


def _failed(trail: Trail, context: Context) -> Finding | None:
    """Readings that the board has and that failed, whether or not a rule needs them."""
    failed: dict[int, list[str]] = {}
    for part in (trail.identity, trail.gpu.fast, trail.gpu.slow):
        for field in fields(part):
            reading = getattr(part, field.name)
            if isinstance(reading, Missing) and reading.code is not None and reading.code not in NOT_HERE:
                failed.setdefault(reading.code, []).append(field.name)
    failed.pop(GPU_IS_LOST, None)
    failed.pop(RESET_REQUIRED, None)
    if not failed:
        return None
    names = "; ".join(f"{code}: {', '.join(sorted(some)[:6])}" for code, some in sorted(failed.items()))
    power, inforom = failed.get(_NO_POWER), failed.get(_INFOROM)
    if power or inforom:
        return Finding(
            level="critical" if power else "warn",
            message=f"{trail.gpu.label}: {'its external power is missing' if power else 'its InfoROM is corrupt'}",
            evidence=f"NVML code {names}",
            action="inspect_hardware",
        )
    many = sum(map(len, failed.values()))
    right = " (no right to read them: run as root)" if set(failed) == {4} else ""
    return Finding(
        level="unknown",
        message=f"{trail.gpu.label}: {many} reading{'' if many == 1 else 's'} failed that the board has{right}",
        evidence=f"NVML code {names}",
        action="fix_configuration" if right else "none",
    )


def readings(history: History, context: Context) -> list[Check]:
    """Whether what the boards have can be read."""
    return family(
        history,
        context,
        code="gpu-readings",
        source=_READINGS,
        well="every reading that they have",
        rule=_failed,
    )


def _recovery(trail: Trail, context: Context) -> Finding | None:
    action = trail.gpu.fast.recovery_action
    if isinstance(action, Missing):
        return unanswered(action, "recovery action", trail)
    if action == 0:
        return None
    level, todo, sentence = _ACTIONS.get(
        action,
        (
            "warn",
            "inspect_hardware",
            f"the driver asks for recovery action {action}, which is not known here",
        ),
    )
    return Finding(
        level=level,
        message=f"{trail.gpu.label}: {sentence}",
        evidence=f"NVML field 230 is {action}",
        action=todo,
    )


def recovery(history: History, context: Context) -> list[Check]:
    """What the driver itself asks for: the one reading to look at first."""
    return family(
        history,
        context,
        code="gpu-recovery",
        source=_RECOVERY,
        well="the driver asks for no recovery",
        rule=_recovery,
    )


CHECKS = (count, lost, readings, recovery)
