"""What families of checks share: each GPU's readings over the history, and findings gathered into checks.

A family's rule looks at one GPU and returns what it found, nothing for "well". GPUs that are well, or that the check
does not apply to, are told of together; faults and unanswered checks one by one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from selfhost.health.baseline import Baseline, GpuBaseline
from selfhost.health.types import Action, Check, Context, History, Level
from selfhost.observation import (
    FastReadings,
    GpuIdentity,
    GpuSnapshot,
    Missing,
    Reading,
    SlowReadings,
    known,
)
from selfhost.observation.reading import ABSENT_CODES, NOT_READ

# Besides "not supported" and "no such function": an id or struct version that this driver does not know yet, or not any
# more (nvml.h r615: invalid argument, not found, argument version mismatch, deprecated), a counter without a sample.
NOT_HERE = ABSENT_CODES | {2, 6, 21, 25, 26}
# Consumer and workstation boards, whose users choose persistence mode and ECC as they like. Ours.
_DESKTOP = re.compile(
    r"GeForce|TITAN|Quadro|RTX A\d|RTX \d{4}|Workstation|Laptop|\bGB10\b|Thor|Orin|\bT[1-9]\d{2,3}\b",
    re.IGNORECASE,
)
# Boards that NVIDIA builds into NVSwitch systems. `GH200` is none of them, though it ends like `H200`. Ours.
_SWITCHED = re.compile(r"\bSXM|-SXM|HBM3|\bH20\b|\bH200\b(?! NVL)|\bB[123]00\b|\bGB[23]00\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """One GPU that answers, over the history: its latest snapshot, and each lane's readings, oldest first."""

    gpu: GpuSnapshot
    fast: tuple[tuple[float, FastReadings], ...]
    slow: tuple[tuple[float, SlowReadings], ...]
    baseline: GpuBaseline | None

    @property
    def identity(self) -> GpuIdentity:
        """Who it is."""
        return self.gpu.identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule has to say of one GPU; the fields are those of a Check."""

    level: Level
    message: str
    evidence: str = ""
    action: Action = "none"
    wants_history: bool = False


Rule = Callable[[Trail, Context], "Finding | list[Finding] | None"]


def trails(history: History, context: Context) -> list[Trail]:
    """The GPUs that answer now, each with its readings; an observation that repeats a reading counts once."""
    last = next(iter(tuple(_LAST)), None)
    # Some thirty families ask for the same history in turn; comparing it by value would cost what is saved.
    if last is None or last[0] is not history or last[1] is not context.baseline:
        last = (history, context.baseline, _trails(history, context))
        _LAST.append(last)
    return last[2]


# Only the latest; a deque, so that threads replace it in one step.
_LAST: deque[tuple[History, Baseline | None, list[Trail]]] = deque(maxlen=1)


def _trails(history: History, context: Context) -> list[Trail]:
    by_uuid: dict[str, list[GpuSnapshot]] = {}
    for observation in history:
        for gpu in observation.node.gpus:
            if gpu.fault is None:
                by_uuid.setdefault(gpu.identity.uuid, []).append(gpu)
    found = []
    for latest in history[-1].node.gpus:
        if latest.fault is not None:
            continue
        seen = by_uuid[latest.identity.uuid]
        fast = {gpu.fast_at: gpu.fast for gpu in seen if gpu.fast_at is not None}
        slow = {gpu.slow_at: gpu.slow for gpu in seen if gpu.slow_at is not None}
        found.append(
            Trail(
                gpu=latest,
                fast=tuple(sorted(fast.items(), key=lambda pair: pair[0])),
                slow=tuple(sorted(slow.items(), key=lambda pair: pair[0])),
                baseline=context.baseline.gpu(latest.identity.uuid) if context.baseline else None,
            )
        )
    return found


def family(
    history: History, context: Context, *, code: str, source: str, well: str, rule: Rule
) -> list[Check]:
    """Run a rule over every GPU that answers.

    Args:
        history: observations, oldest first.
        context: what else is known.
        code: of the checks.
        source: of the rule.
        well: what is said of the GPUs with which nothing is wrong, such as `no rows wait for a reset`.
        rule: see above.
    """
    gpus = trails(history, context)
    if not gpus:
        return [Check(code=code, level="skipped", message="no GPU answers", source=source)]
    checks: list[Check] = []
    apart: dict[tuple[Level, str, bool], list[int]] = {}
    fine: list[int] = []
    for trail in gpus:
        result = rule(trail, context)
        findings = [result] if isinstance(result, Finding) else list(result or ())
        if not findings:
            fine.append(trail.identity.index)
        for finding in findings:
            if finding.level in ("skipped", "unknown") and not finding.evidence:
                key = (finding.level, finding.message, finding.wants_history)
                apart.setdefault(key, []).append(trail.identity.index)
            else:
                checks.append(as_check(finding, code=code, source=source, gpu=trail.identity.index))
    if fine:
        message = f"{whom(fine, len(gpus))}: {well}"
        checks.append(Check(code=code, level="ok", message=message, source=source))
    for (level, reason, waits), indices in apart.items():
        message = f"{whom(indices, len(gpus))}: {reason}"
        one = indices[0] if level == "unknown" and len(indices) == 1 else None
        checks.append(
            Check(code=code, level=level, gpu=one, message=message, source=source, wants_history=waits)
        )
    return checks


def as_check(finding: Finding, *, code: str, source: str, gpu: int | None) -> Check:
    """A finding as a check."""
    return Check(
        code=code,
        level=finding.level,
        gpu=gpu,
        message=finding.message,
        evidence=finding.evidence,
        action=finding.action,
        source=source,
        wants_history=finding.wants_history,
    )


def whom(indices: list[int], of: int) -> str:
    """`all 8 GPUs`, `gpu 3`, `gpus 0, 1 and 5`."""
    if len(indices) == of and of > 1:
        return f"all {of} GPUs"
    if len(indices) == 1:
        return f"gpu {indices[0]}"
    return f"gpus {', '.join(map(str, indices[:-1]))} and {indices[-1]}"


def unanswered(reading: Missing, what: str, trail: Trail | None = None) -> Finding:
    """Why a check could not be made: skipped where the board or driver has no such reading, else unknown."""
    if reading == NOT_READ:
        started = trail is not None and bool(trail.slow)
        return Finding(
            level="skipped" if started else "unknown",
            message=f"{what} {'is' if started else 'was'} not read{'' if started else ' in time'}",
        )
    if reading.code in NOT_HERE:
        return Finding(level="skipped", message=f"no {what}: {reading.missing}")
    return Finding(
        level="unknown",
        message=f"{what} could not be read: {reading.missing}"
        + (f" ({reading.code})" if reading.code is not None else ""),
    )


def here(reading: Reading[object]) -> bool:
    """Whether a reading exists on this board and driver, whether or not it could be read just now."""
    return not isinstance(reading, Missing) or not (reading.code in NOT_HERE or reading == NOT_READ)


def data_centre(identity: GpuIdentity) -> bool:
    """Whether it is a board for servers, by its name."""
    return not identity.unified_memory and _DESKTOP.search(identity.name) is None


def switched(identity: GpuIdentity) -> bool:
    """Whether the board is one that NVIDIA builds into systems with NVSwitch, by its name."""
    return _SWITCHED.search(identity.name) is not None


def busy(trail: Trail) -> bool:
    """Whether the GPU works now: kernels ran in the last sample period."""
    ratio = trail.gpu.fast.utilization_ratio
    return known(ratio) and ratio > 0


def window(trail: Trail) -> float:
    """Seconds between the first and the last fast reading."""
    return trail.fast[-1][0] - trail.fast[0][0] if len(trail.fast) > 1 else 0.0


def grown(
    pairs: list[tuple[float, Reading[int]]] | list[tuple[float, Reading[float]]],
) -> tuple[float, float] | None:
    """How much a counter grew, and over how many seconds; None with fewer than two readings.

    A counter that fell was set back (a reset of the GPU, another driver): only what came since counts.
    """
    values = [(at, float(value)) for at, value in pairs if known(value)]
    for place in range(len(values) - 1, 0, -1):
        if values[place][1] < values[place - 1][1]:
            values = values[place:]
            break
    if len(values) < 2:
        return None
    return values[-1][1] - values[0][1], values[-1][0] - values[0][0]
