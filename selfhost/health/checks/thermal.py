"""Heat: how far each GPU and its memory is from the limits that the board itself names."""

from __future__ import annotations

from selfhost.health.checks._family import Finding, Trail, family, unanswered
from selfhost.health.types import LEVELS, Check, Context, History
from selfhost.observation import Missing, known

_GPU = (
    "limits of the board: NVML fields 193 to 196 (degrees to go) from Ada on, temperature thresholds before, the worse "
    "where it answers both; NVSentinel, gpud (read 2026-11-21)"
)
_MEMORY = "NVML field 82 against the board's memory limit; gpud (read 2026-11-21)"
# A sensor that is not there answers 0, or a value beyond what silicon survives (dcgm-exporter drops it too).
_LARGEST_CELSIUS = 200


def _margin(trail: Trail) -> Finding | None:
    margin, identity = trail.gpu.slow.margin_celsius, trail.identity
    assert not isinstance(margin, Missing)
    slowdown, most = identity.margin_slowdown_celsius, identity.margin_gpu_max_celsius
    evidence = f"{margin} °C to go"
    if known(slowdown):
        evidence += f", slowdown below {slowdown}"
    if known(most):
        evidence += f", highest operating temperature at {most}"
    if known(trail.gpu.fast.temperature_celsius):
        evidence += f"; {trail.gpu.fast.temperature_celsius} °C"
    if known(slowdown) and margin < slowdown:
        return Finding(
            level="critical",
            message=f"{trail.gpu.label}: too hot, past its slowdown limit: look at air, coolant and fans",
            evidence=evidence,
            action="inspect_hardware",
        )
    if known(most) and margin <= most:
        return Finding(
            level="warn",
            message=f"{trail.gpu.label}: at its highest operating temperature: look at air, coolant and fans",
            evidence=evidence,
            action="inspect_hardware",
        )
    return None


def _gpu(trail: Trail, context: Context) -> Finding | None:
    identity = trail.identity
    by_limits = _limits(trail)
    if not known(trail.gpu.slow.margin_celsius) or not (
        known(identity.margin_slowdown_celsius) or known(identity.margin_gpu_max_celsius)
    ):
        return by_limits
    hot = [found for found in (_margin(trail), by_limits) if found and found.level in ("critical", "warn")]
    return min(hot, key=lambda found: LEVELS.index(found.level), default=None)


def _limits(trail: Trail) -> Finding | None:
    identity = trail.identity
    now = trail.gpu.fast.temperature_celsius
    if isinstance(now, Missing):
        return unanswered(now, "temperature", trail)
    slowdown, most = identity.slowdown_celsius, identity.gpu_max_celsius
    limits = [
        f"{name} {value} °C"
        for name, value in (
            ("slowdown", slowdown),
            ("highest", most),
            ("shutdown", identity.shutdown_celsius),
        )
        if known(value)
    ]
    if not limits:
        return Finding(level="skipped", message="the board names no temperature limit")
    evidence = f"{now} °C; {', '.join(limits)}"
    over = [value for value in (slowdown, identity.shutdown_celsius) if known(value) and 0 < value <= now]
    if over:
        return Finding(
            level="critical",
            message=f"{trail.gpu.label}: {now} °C, at or past its slowdown limit: look at air, coolant and fans",
            evidence=evidence,
            action="inspect_hardware",
        )
    if known(most) and 0 < most <= now:
        return Finding(
            level="warn",
            message=f"{trail.gpu.label}: {now} °C, at its highest operating temperature: look at air and fans",
            evidence=evidence,
            action="inspect_hardware",
        )
    return None


def _memory(trail: Trail, context: Context) -> Finding | None:
    now, limit = trail.gpu.fast.memory_temperature_celsius, trail.identity.memory_max_celsius
    if isinstance(now, Missing):
        return unanswered(now, "memory temperature", trail)
    if not 0 < now <= _LARGEST_CELSIUS:
        return Finding(level="skipped", message="no sensor for the memory's temperature")
    if isinstance(limit, Missing):
        return Finding(level="skipped", message="the board names no limit for its memory's temperature")
    if now < limit:
        return None
    return Finding(
        level="warn",
        message=f"{trail.gpu.label}: its memory is at {now} °C, its limit {limit} °C: look at air, coolant and fans",
        evidence=f"memory {now} °C, limit {limit} °C",
        action="inspect_hardware",
    )


def thermal(history: History, context: Context) -> list[Check]:
    """GPU and memory temperature."""
    return [
        *family(
            history, context, code="gpu-temperature", source=_GPU, well="within their temperature", rule=_gpu
        ),
        *family(
            history,
            context,
            code="memory-temperature",
            source=_MEMORY,
            well="memory within its temperature",
            rule=_memory,
        ),
    ]


CHECKS = (thermal,)
