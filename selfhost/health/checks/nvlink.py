"""NVLink and the NVSwitch fabric: links up, without errors, and registered."""

from __future__ import annotations

from selfhost.health.checks._family import (
    NOT_HERE,
    Finding,
    Trail,
    family,
    grown,
    switched,
    trails,
    unanswered,
)
from selfhost.health.types import Check, Context, History, Level
from selfhost.observation import FabricState, Missing, NvLink, Reading, known, number

_DOWN = "DCGM 4.6.0 fails on a link that is down; ignored under MIG (read 2026-11-21)"
_ERRORS = "DCGM 4.6.0: any replay or recovery, 100 CRC errors a second; 1 a second warns (read 2026-11-21)"
_FABRIC = "nvmlDeviceGetGpuFabricInfoV, nvml.h r615; gpud, DCGM 4.6.0 (read 2026-11-21)"

CRC_WARN_A_SECOND, CRC_CRITICAL_A_SECOND = 1.0, 100.0
# A fabric manager needs minutes after a boot to register every GPU.
REGISTRATION_SECONDS = 300

# Position of each field in the health mask -> name, the value that means trouble. 0 is "not supported" in each.
_MASK = (
    (0, 0x3, "degraded bandwidth", "warn"),
    (2, 0x3, "routes being recovered", "warn"),
    (4, 0x3, "a route is unhealthy", "critical"),
    (6, 0x3, "access timed out while a route was recovered", "warn"),
)
_CONFIGURATION_SHIFT = 8
_CONFIGURATION = {
    2: "system GUID", 3: "chassis serial number", 4: "no partition", 5: "too few NVLinks",
    6: "incompatible firmware", 7: "location", 8: "state of the GPU",
}  # fmt: skip
_TRUE = 1


def _links(trail: Trail) -> Reading[tuple[NvLink, ...]]:
    return trail.gpu.slow.nvlinks


def _under_mig(trail: Trail) -> bool:
    return number(trail.gpu.slow.mig_enabled) is True


def links(history: History, context: Context) -> list[Check]:
    """Whether links are down that were up, or that are up elsewhere on the board or node."""
    others = sum(_active(trail) > 0 for trail in trails(history, context))

    def rule(trail: Trail, context: Context) -> Finding | None:
        return _down(trail, elsewhere=others > 0)

    return family(history, context, code="nvlink-down", source=_DOWN, well="every NVLink is up", rule=rule)


def _active(trail: Trail) -> int:
    found = _links(trail)
    return sum(number(link.active) is True for link in found) if known(found) else 0


def _down(trail: Trail, *, elsewhere: bool) -> Finding | None:
    if _under_mig(trail):
        return Finding(level="skipped", message="NVLink is not used under MIG")
    found = _links(trail)
    if isinstance(found, Missing):
        return unanswered(found, "NVLink", trail)
    told = [link for link in found if known(link.active)]
    if not told:
        failed = [
            link.active
            for link in found
            if isinstance(link.active, Missing) and link.active.code not in NOT_HERE
        ]
        return unanswered(failed[0], "state of the NVLinks", trail) if failed else _none()
    down = [link.index for link in told if not link.active]
    up = len(told) - len(down)
    learnt = trail.baseline.nvlinks_active if trail.baseline else None
    if learnt is not None:
        if up >= learnt:
            return None
        return _fault(trail, down, f"{up} of {learnt} links of the baseline are up")
    if not down:
        return None
    if up == 0 and not elsewhere:
        return Finding(
            level="skipped",
            message="no NVLink is up on any GPU: no bridge is fitted or none is used; only a baseline could tell",
        )
    return _fault(trail, down, f"{up} of {len(told)} links are up")


def _none() -> Finding:
    return Finding(level="skipped", message="no NVLink on this board")


def _fault(trail: Trail, down: list[int], evidence: str) -> Finding:
    named = ", ".join(map(str, down[:18]))
    return Finding(
        level="critical" if _has_switch(trail) else "warn",
        message=f"{trail.gpu.label}: NVLink {named} {'is' if len(down) == 1 else 'are'} down: "
        "tensor parallelism over it is slow or fails",
        evidence=evidence,
        action="reset_gpu",
    )


def _has_switch(trail: Trail) -> bool:
    fabric = trail.gpu.slow.fabric
    return switched(trail.identity) or (known(fabric) and fabric.state != 0)


def _total(links: Reading[tuple[NvLink, ...]], field: str) -> Reading[int]:
    """Sum of a counter over the links that tell it."""
    if isinstance(links, Missing):
        return links
    values = [getattr(link, field) for link in links]
    told = [value for value in values if isinstance(value, int)]
    if told:
        return sum(told)
    return next(
        (value for value in values if isinstance(value, Missing)), Missing(missing="no NVLink", code=3)
    )


def _errors(trail: Trail, context: Context) -> list[Finding] | Finding:
    if _under_mig(trail):
        return Finding(level="skipped", message="NVLink is not used under MIG")
    names = ("replay_errors", "recovery_errors", "crc_errors")
    totals = {name: _total(_links(trail), name) for name in names}
    missing = [total for total in totals.values() if isinstance(total, Missing)]
    if len(missing) == len(totals):
        return unanswered(missing[0], "NVLink error counters", trail)
    if not any(number(total) for total in totals.values()):
        return []
    growth = {name: grown([(at, _total(slow.nvlinks, name)) for at, slow in trail.slow]) for name in names}
    if all(value is None for value in growth.values()):
        return Finding(
            level="skipped", message="whether NVLink errors go on needs two readings", wants_history=True
        )
    return [
        finding
        for name in names
        if (rise := growth[name]) is not None and (finding := _growth(trail, name, *rise)) is not None
    ]


def _growth(trail: Trail, name: str, errors: float, seconds: float) -> Finding | None:
    if errors <= 0 or seconds <= 0:
        return None
    rate = errors / seconds
    level: Level = "critical"
    if name == "crc_errors":
        if rate < CRC_WARN_A_SECOND:
            return None
        level = "critical" if rate >= CRC_CRITICAL_A_SECOND else "warn"
    kind = name.removesuffix("_errors")
    return Finding(
        level=level,
        message=f"{trail.gpu.label}: {kind if kind != 'crc' else 'CRC'} errors on its NVLinks: a cable, board or link "
        "is going",
        evidence=f"{errors:.0f} more in {seconds:.0f} s ({rate:.1f} a second)",
        action="reset_gpu" if level == "critical" else "inspect_hardware",
    )


def fabric(history: History, context: Context) -> list[Check]:
    """Whether GPUs of NVSwitch systems are registered with their fabric."""
    booted_at = history[-1].node.booted_at

    def rule(trail: Trail, context: Context) -> list[Finding] | Finding | None:
        state = trail.gpu.slow.fabric
        if isinstance(state, Missing):
            return unanswered(state, "NVSwitch fabric", trail)
        if state.state == 0 or (state.state == 1 and not switched(trail.identity)):
            return Finding(level="skipped", message="no NVSwitch fabric on this board")
        return _fabric(trail, state, None if booted_at is None else context.now - booted_at)

    return family(
        history, context, code="fabric", source=_FABRIC, well="registered with the NVSwitch fabric", rule=rule
    )


def _fabric(trail: Trail, fabric: FabricState, up_seconds: float | None) -> list[Finding] | Finding | None:
    mask, summary = number(fabric.health_mask), number(fabric.summary)
    evidence = f"fabric state {fabric.state}, status {fabric.status}"
    evidence += "" if summary is None else f", summary {summary}"
    evidence += "" if mask is None else f", health mask {mask:#x}"
    if fabric.state == 2:
        if up_seconds is not None and up_seconds <= REGISTRATION_SECONDS:
            return Finding(
                level="ok",
                message=f"{trail.gpu.label}: registers with the fabric, after a boot",
                evidence=evidence,
            )
        return _fabric_fault(
            trail, "warn", "still not registered with the fabric: look at the fabric manager", evidence
        )
    if fabric.state != 3:
        return _fabric_fault(
            trail,
            "critical",
            "not registered with the fabric: CUDA fails until the fabric manager runs",
            evidence,
        )
    if fabric.status != 0:
        return _fabric_fault(trail, "critical", "its registration with the fabric failed", evidence)
    found = [
        _fabric_fault(trail, level, sentence, evidence) for level, sentence in decode_mask(mask or 0)
    ]  # fmt: skip
    if summary == 2 and not any(finding.level == "critical" for finding in found):
        found.insert(0, _fabric_fault(trail, "critical", "the fabric calls it unhealthy", evidence))
    if summary == 3 and not found:
        found.append(_fabric_fault(trail, "warn", "its fabric has limited capacity", evidence))
    return found


def decode_mask(mask: int) -> list[tuple[Level, str]]:
    """What a fabric health mask says is wrong.

    Args:
        mask: healthMask of nvmlGpuFabricInfoV, version 2 and later (nvml.h r615).
    """
    found: list[tuple[Level, str]] = []
    for shift, bits, sentence, level in _MASK:
        if (mask >> shift) & bits == _TRUE:
            found.append(("critical" if level == "critical" else "warn", f"fabric: {sentence}"))
    wrong = (mask >> _CONFIGURATION_SHIFT) & 0xF
    if wrong > 1:
        found.append(
            ("critical", f"fabric wrongly configured: {_CONFIGURATION.get(wrong, f'reason {wrong}')}")
        )
    return found


def _fabric_fault(trail: Trail, level: Level, sentence: str, evidence: str) -> Finding:
    return Finding(
        level=level,
        message=f"{trail.gpu.label}: {sentence}",
        evidence=evidence,
        action="fix_configuration" if "manager" in sentence or "configured" in sentence else "reset_gpu",
    )


def nvlink_errors(history: History, context: Context) -> list[Check]:
    """Whether NVLink error counters grow."""
    return family(
        history,
        context,
        code="nvlink-errors",
        source=_ERRORS,
        well="NVLink error counters stand still",
        rule=_errors,
    )


CHECKS = (links, nvlink_errors, fabric)
