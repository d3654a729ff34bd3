"""How boards and processes are set: persistence, ECC, MIG, debugging; and memory that nobody holds."""

from __future__ import annotations

import re

from selfhost.health.checks._family import Finding, Trail, busy, data_centre, family, unanswered
from selfhost.health.types import Check, Context, History
from selfhost.observation import Missing, known
from selfhost.units import MIB

_PERSISTENCE = "DCGM 4.6.0 diagnostics persistence_mode; AzNHC (read 2026-11-21)"
_ECC = "Meta GCM, AzNHC (read 2026-11-21)"
_MIG = "nvmlDeviceGetMigMode, current and pending, nvml.h r615 (read 2026-11-21)"
_VARIABLES = "DCGM 4.6.0 diagnostics env_variables (read 2026-11-21)"
_ORPHAN = "Meta GCM: 15 MiB with no process (read 2026-11-21)"

ORPHAN_BYTES = 15 * MIB
# Their memory is a NUMA node of the CPU: what is in use may be page cache.
_COHERENT = re.compile(r"\bG[HB]\d{2,3}\b")


def _persistence(trail: Trail, context: Context) -> Finding | None:
    on = trail.gpu.slow.persistence
    if isinstance(on, Missing):
        return unanswered(on, "persistence mode", trail)
    if on:
        return None
    if not data_centre(trail.identity):
        return Finding(level="skipped", message="persistence mode is off, as is usual outside servers")
    return Finding(
        level="warn",
        message=f"{trail.gpu.label}: persistence mode is off, so an idle GPU is started again for each use",
        evidence="persistence_mode is disabled; systemctl enable --now nvidia-persistenced",
        action="fix_configuration",
    )


def _ecc(trail: Trail, context: Context) -> Finding | None:
    on, pending = trail.gpu.slow.ecc_enabled, trail.gpu.slow.ecc_pending
    if isinstance(on, Missing):
        return unanswered(on, "ECC mode", trail)
    if known(pending) and pending != on:
        return Finding(
            level="warn",
            message=f"{trail.gpu.label}: ECC goes {'on' if pending else 'off'} at the next reset: plan a window",
            evidence=f"ECC {'on' if on else 'off'}, pending {'on' if pending else 'off'}",
            action="reset_gpu",
        )
    learnt = trail.baseline.ecc_enabled if trail.baseline else None
    if on or learnt is False:
        return None
    if learnt is None and not data_centre(trail.identity):
        return Finding(level="skipped", message="ECC is off, as is usual outside servers")
    return Finding(
        level="warn",
        message=f"{trail.gpu.label}: ECC is off, so a flipped bit changes answers without a trace",
        evidence="ECC off" + ("; on when the baseline was learnt" if learnt else ""),
        action="fix_configuration",
    )


def _mig(trail: Trail, context: Context) -> Finding | None:
    on, pending = trail.gpu.slow.mig_enabled, trail.gpu.slow.mig_pending
    if isinstance(on, Missing):
        return unanswered(on, "MIG mode", trail)
    if known(pending) and pending != on:
        return Finding(
            level="warn",
            message=f"{trail.gpu.label}: MIG goes {'on' if pending else 'off'} at the next reset: plan a window",
            evidence=f"MIG {'on' if on else 'off'}, pending {'on' if pending else 'off'}",
            action="reset_gpu",
        )
    learnt = trail.baseline.mig_enabled if trail.baseline else None
    if learnt is not None and learnt != on:
        return Finding(
            level="warn",
            message=f"{trail.gpu.label}: MIG is {'on' if on else 'off'}, and was {'on' if learnt else 'off'} when "
            "the baseline was learnt",
            evidence=f"MIG {'on' if on else 'off'}",
            action="fix_configuration",
        )
    return None


def _orphaned(trail: Trail, context: Context) -> Finding | None:
    fast, identity = trail.gpu.fast, trail.identity
    used, processes = fast.memory_used_bytes, trail.gpu.slow.processes
    if identity.unified_memory or _COHERENT.search(identity.name):
        return Finding(level="skipped", message="its memory is the system's, which other things use too")
    if isinstance(used, Missing):
        return unanswered(used, "memory in use", trail)
    if isinstance(processes, Missing):
        return unanswered(processes, "list of processes", trail)
    idle = (trail.baseline.idle_memory_bytes if trail.baseline else None) or 0
    if processes or used - idle <= ORPHAN_BYTES:
        return None
    if blind := _blind(trail):
        return Finding(level="skipped", message=blind)
    return Finding(
        level="warn",
        message=f"{trail.gpu.label}: {used // MIB:,} MiB are in use and no process holds them: "
        "restart the container that had it, else reset it",
        evidence=f"{used} bytes without the driver's reserve, no process, limit {ORPHAN_BYTES // MIB} MiB"
        + (f" above {idle} bytes of the baseline" if idle else ""),
        action="reset_gpu",
    )


def _blind(trail: Trail) -> str | None:
    """Why an empty list of processes proves nothing."""
    fast, slow = trail.gpu.fast, trail.gpu.slow
    if isinstance(fast.memory_reserved_bytes, Missing):
        return "the driver does not tell its own reserve apart"
    if slow.mig or (known(slow.mig_enabled) and slow.mig_enabled):
        return "under MIG memory belongs to instances"
    if busy(trail):
        return "busy though no process is listed: processes are not visible from here"
    return None


def _debugging(trail: Trail, context: Context) -> list[Finding] | Finding:
    processes = trail.gpu.slow.processes
    if isinstance(processes, Missing):
        return unanswered(processes, "list of processes", trail)
    if not any(process.name for process in processes):
        return Finding(level="skipped", message="no process can be seen from here")
    return [
        Finding(
            level="warn",
            message=f"{trail.gpu.label}: {process.pod or process.name} runs with {', '.join(process.debugging)} set, "
            "which slows it or makes it wait",
            evidence=f"environment of pid {process.pid}",
            action="fix_configuration",
        )
        for process in processes
        if process.debugging
    ]


def orphans(history: History, context: Context) -> list[Check]:
    """Whether memory is in use on a GPU that no process holds."""
    node = history[-1].node
    if node.in_container and not node.host_pids:
        message = "processes of other containers are not visible from this one"
        return [Check(code="memory-orphaned", level="skipped", message=message, source=_ORPHAN)]
    return family(
        history,
        context,
        code="memory-orphaned",
        source=_ORPHAN,
        well="no memory without a process",
        rule=_orphaned,
    )


def modes(history: History, context: Context) -> list[Check]:
    """Persistence, ECC, MIG, and variables that debug."""
    rules = (
        ("persistence", _PERSISTENCE, "persistence mode is on", _persistence),
        ("ecc-mode", _ECC, "ECC as it should be", _ecc),
        ("mig-mode", _MIG, "MIG as it should be", _mig),
        ("debug-variables", _VARIABLES, "no process runs with CUDA's debugging variables", _debugging),
    )
    return [
        check
        for code, source, well, rule in rules
        for check in family(history, context, code=code, source=source, well=well, rule=rule)
    ]


CHECKS = (modes, orphans)
