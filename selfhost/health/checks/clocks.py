"""What holds the clocks down, for how much of the time, and clocks that are low without a reason."""

from __future__ import annotations

from selfhost.health.checks._family import Finding, Trail, family, grown, trails, unanswered, whom, window
from selfhost.health.types import Action, Check, Context, History, Level
from selfhost.observation import BootTotals, Missing, Reading, known

_REASONS = (
    "nvmlClocksEventReasons, nvml.h r615; two polls and 0.6 a minute over 10 minutes: gpud 4a8de33, "
    "hw-slowdown/component.go (read 2026-11-21)"
)
_HELD = "NVML fields 75, 77, 79 and 269 to 271; DCGM 4.6.0 warns on any thermal time (read 2026-11-21); 10 % is ours"
_STUCK = "NVIDIA health-validation checks clocks (read 2026-11-21); below half while 90 % busy is ours"
_CAP = "nvmlClocksEventReasonSwPowerCap, nvml.h r615 (read 2026-11-21): normal under load"

IDLE, POWER_CAP, HW_SLOWDOWN, HW_THERMAL, POWER_BRAKE = 0x1, 0x4, 0x8, 0x40, 0x80
# Of no weight: idle, set clocks, power cap, sync boost, display.
HARMLESS = IDLE | 0x2 | POWER_CAP | 0x10 | 0x100
# Bit -> level once it stands in two polls, what to do, sentence.
BITS: dict[int, tuple[Level, Action, str]] = {
    POWER_BRAKE: ("critical", "inspect_hardware", "slowed by rack or power supply (power brake); no reboot helps"),
    HW_THERMAL: ("critical", "inspect_hardware", "slowed by its hardware for heat: look at air, coolant and fans"),
    HW_SLOWDOWN: ("warn", "inspect_hardware", "slowed by its hardware to half its clocks or less"),
    0x20: ("warn", "inspect_hardware", "slowed for heat: GPU or memory over its highest operating temperature"),
    0x200: ("warn", "inspect_hardware", "slowed by the board's limit"),
    0x400: ("warn", "inspect_hardware", "slowed by the reliability limit of its voltage"),
}  # fmt: skip
_KNOWN = HARMLESS | sum(BITS)

POLLS = 2
EVENTS_A_MINUTE, EVENT_WINDOW_SECONDS = 0.6, 600.0
HELD_SHARE = 0.10
# A share of less than this many seconds says nothing.
_SHORTEST_SECONDS = 0.5
LOW_CLOCK, HIGH_UTILIZATION = 0.5, 0.9


def _masks(trail: Trail) -> list[tuple[float, int]]:
    return [(at, fast.clock_reasons) for at, fast in trail.fast if known(fast.clock_reasons)]


def _standing(masks: list[tuple[float, int]], bit: int) -> int:
    """For how many polls up to now a bit was set without a break."""
    count = 0
    for _, mask in reversed(masks):
        if not mask & bit:
            break
        count += 1
    return count


def _reasons(trail: Trail, context: Context) -> list[Finding] | Finding:
    now = trail.gpu.fast.clock_reasons
    if isinstance(now, Missing):
        return unanswered(now, "clock event reasons", trail)
    masks = _masks(trail) or [(context.now, now)]
    found: list[Finding] = []
    for bit, (level, action, sentence) in BITS.items():
        if bit == HW_SLOWDOWN and now & (HW_THERMAL | POWER_BRAKE):
            continue  # the same slowdown, with its cause named
        polls = _standing(masks, bit)
        if polls >= POLLS:
            found.append(
                Finding(
                    level=level,
                    message=f"{trail.gpu.label}: {sentence}",
                    evidence=f"clock event reasons {now:#x} in {polls} polls in a row" + _clocks(trail),
                    action=action,
                )
            )
        elif polls:
            found.append(
                Finding(
                    level="unknown",
                    message=f"{trail.gpu.label}: {sentence}, in one poll so far; a second one decides",
                    evidence=f"clock event reasons {now:#x}" + _clocks(trail),
                    wants_history=True,
                )
            )
    return found + _flapping(trail, masks) + _strange(trail, now)


def _flapping(trail: Trail, masks: list[tuple[float, int]]) -> list[Finding]:
    """Hardware slowdowns that come and go; one in a minute counts once, however often the GPU is polled."""
    recent = [(at, mask) for at, mask in masks if at >= masks[-1][0] - EVENT_WINDOW_SECONDS]
    seconds = recent[-1][0] - recent[0][0]
    bits = HW_SLOWDOWN | HW_THERMAL | POWER_BRAKE
    minutes = len({int((at - recent[0][0]) / 60) for at, mask in recent if mask & bits})
    if seconds < EVENT_WINDOW_SECONDS * 0.95 or minutes / (seconds / 60) < EVENTS_A_MINUTE:
        return []
    return [
        Finding(
            level="critical",
            message=f"{trail.gpu.label}: slowed by its hardware again and again: look at power and cooling",
            evidence=f"in {minutes} of the last {seconds / 60:.0f} minutes, limit {EVENTS_A_MINUTE:.0%} of them",
            action="inspect_hardware",
        )
    ]


def _strange(trail: Trail, mask: int) -> list[Finding]:
    unknown = mask & ~_KNOWN
    if not unknown:
        return []
    return [
        Finding(
            level="ok",
            message=f"{trail.gpu.label}: names a reason for its clocks that is not known here: {unknown:#x}",
            evidence=f"clock event reasons {mask:#x}",
        )
    ]


def _clocks(trail: Trail) -> str:
    now, most = trail.gpu.fast.sm_clock_mhz, trail.identity.sm_clock_max_mhz
    return f"; SM clock {now} of {most} MHz" if known(now) and known(most) else ""


_Total = tuple[str, str, Level]
# Field of BootTotals -> for people, and the level past the share; of heat and power brake anything at all is a warning.
_TOTALS: tuple[_Total, ...] = (
    ("power_brake_seconds", "the power brake", "critical"),
    ("hw_thermal_seconds", "heat (hardware)", "critical"),
    ("thermal_seconds", "heat", "critical"),
    ("sw_thermal_seconds", "heat (driver)", "warn"),
    ("board_limit_seconds", "the board's limit", "warn"),
    ("reliability_seconds", "the reliability limit", "warn"),
)
_ANY_COUNTS = frozenset(
    ("power_brake_seconds", "hw_thermal_seconds", "thermal_seconds", "sw_thermal_seconds")
)


def _total(totals: BootTotals, name: str) -> Reading[float]:
    value: Reading[float] = getattr(totals, name)
    return value


def _held(trail: Trail, context: Context) -> list[Finding] | Finding:
    totals = [_total(trail.gpu.fast.held_down, name) for name, _, _ in _TOTALS]
    missing = [total for total in totals if isinstance(total, Missing)]
    if len(missing) == len(totals):
        return unanswered(missing[0], "time that clocks were held down", trail)
    if window(trail) < _SHORTEST_SECONDS:
        # One that was never held down since the driver was loaded is not worth a second look.
        ever = any(known(total) and total > 0 for total in totals)
        message = "how long clocks are held down needs two readings"
        return Finding(level="skipped", message=message, wants_history=ever)
    found: list[Finding] = []
    for name, cause, most in _TOTALS:
        growth = grown([(at, _total(fast.held_down, name)) for at, fast in trail.fast])
        if growth is None or growth[0] <= 0 or growth[1] < _SHORTEST_SECONDS:
            continue
        share = growth[0] / growth[1]
        if name == "thermal_seconds" and found and "heat" in found[-1].message:
            continue  # the same time, with its kind named
        if share <= HELD_SHARE and name not in _ANY_COUNTS:
            continue
        found.append(
            Finding(
                level=most if share > HELD_SHARE else "warn",
                message=f"{trail.gpu.label}: clocks held down for {min(share, 1):.0%} of the time by {cause}",
                evidence=f"{growth[0]:.2f} s of {growth[1]:.1f} s, limit {HELD_SHARE:.0%}",
                action="inspect_hardware",
            )
        )
    return found


def _low(trail: Trail, context: Context) -> Finding | None:
    most = trail.identity.sm_clock_max_mhz
    now = trail.gpu.fast.sm_clock_mhz
    for reading in (now, most, trail.gpu.fast.utilization_ratio):
        if isinstance(reading, Missing):
            return unanswered(reading, "clock under load", trail)
    assert not isinstance(most, Missing)
    polls = 0
    for _, fast in reversed(trail.fast):
        clock, load, mask = fast.sm_clock_mhz, fast.utilization_ratio, fast.clock_reasons
        explained = known(mask) and bool(mask & (IDLE | 0x2 | POWER_CAP | sum(BITS)))
        if not (known(clock) and known(load)) or load <= HIGH_UTILIZATION or explained:
            break
        if clock >= LOW_CLOCK * most:
            break
        polls += 1
    if not polls:
        return None
    sentence = f"{trail.gpu.label}: runs at {now} of {most} MHz under load, and gives no reason"
    load = trail.gpu.fast.utilization_ratio
    evidence = f"SM clock {now} MHz, highest {most} MHz"
    evidence += f", {load:.0%} busy, {polls} polls" if known(load) else ""
    if polls < POLLS:
        return Finding(
            level="unknown",
            message=f"{sentence}, in one poll so far",
            evidence=evidence,
            wants_history=True,
        )
    return Finding(level="warn", message=sentence, evidence=evidence, action="reset_gpu")


def power_cap(history: History, context: Context) -> list[Check]:
    """How much of the time GPUs were at their power limit: normal under load, and told as such."""
    shares: dict[int, float] = {}
    asked = False
    for trail in trails(history, context):
        masks = _masks(trail)
        asked = asked or bool(masks)
        if masks and any(mask & POWER_CAP for _, mask in masks):
            shares[trail.identity.index] = sum(bool(mask & POWER_CAP) for _, mask in masks) / len(masks)
    if not asked:
        message = "no GPU tells its clock event reasons"
        return [Check(code="power-cap", level="skipped", message=message, source=_CAP)]
    if not shares:
        return [
            Check(code="power-cap", level="ok", message="no GPU is at its power limit", source=_CAP)
        ]  # fmt: skip
    return [
        Check(
            code="power-cap",
            level="ok",
            message=f"{whom(list(shares), len(history[-1].node.gpus))} at the power limit, as is normal under load",
            evidence=", ".join(f"gpu {index}: {share:.0%} of the polls" for index, share in shares.items()),
            source=_CAP,
        )
    ]


def clocks(history: History, context: Context) -> list[Check]:
    """Reasons, durations, and low clocks without a reason."""
    rules = (
        ("clock-slowdown", _REASONS, "nothing holds the clocks down but load", _reasons),
        ("clock-held-down", _HELD, "clocks not held down by heat, power brake or board", _held),
        ("clock-low", _STUCK, "no clock is low under load without a reason", _low),
    )
    return [
        check
        for code, source, well, rule in rules
        for check in family(history, context, code=code, source=source, well=well, rule=rule)
    ]


CHECKS = (clocks, power_cap)
