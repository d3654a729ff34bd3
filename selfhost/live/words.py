"""Readings in words: what a number, a missing reading or a bit mask is called, the same in every view."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from math import isfinite
from typing import TypeVar

from selfhost.health.types import Action, Level
from selfhost.observation import GpuSnapshot, Missing, NodeSnapshot, Reading, number
from selfhost.observation.reading import GPU_IS_LOST, RESET_REQUIRED
from selfhost.units import GIB

T = TypeVar("T")

# nvmlDeviceGetCurrentClocksEventReasons, nvml.h r615 (read 2026-11-21). Shortest useful words.
CLOCK_REASONS: dict[int, str] = {
    0x1: "idle",
    0x2: "set clocks",
    0x4: "power cap",
    0x8: "HW slowdown",
    0x10: "sync boost",
    0x20: "SW thermal",
    0x40: "HW thermal",
    0x80: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}
# Reasons that stand for trouble; the rest are how GPUs work.
TROUBLED_REASONS = 0x8 | 0x20 | 0x40 | 0x80 | 0x200 | 0x400
_WORST_FIRST = (0x40, 0x80, 0x8, 0x20, 0x400, 0x200, 0x4, 0x10, 0x2, 0x100, 0x1)

LEVEL_WORDS: dict[Level, str] = {
    "critical": "CRITICAL",
    "warn": "WARN",
    "unknown": "unknown",
    "ok": "ok",
    "skipped": "skipped",
}
MISSING = "–"


def clock_reasons(mask: int) -> str:
    """What holds the clocks down, worst first; empty where nothing does. Bits without a name show as hexadecimal."""
    names = [CLOCK_REASONS[bit] for bit in _WORST_FIRST if mask & bit]
    rest = mask & ~sum(CLOCK_REASONS)
    return ", ".join([*names, hex(rest)] if rest else names)


def shown(reading: Reading[T], form: Callable[[T], str], missing: str = MISSING) -> str:
    """A reading as `form` writes it, or the sign for a missing one."""
    return missing if isinstance(reading, Missing) else form(reading)


def why(reading: Missing) -> str:
    """Why a reading is missing, with NVML's code where it gave one."""
    return reading.missing if reading.code is None else f"{reading.missing} (NVML {reading.code})"


def percent(ratio: float) -> str:
    """A share of 0 to 1 as a percentage."""
    return f"{100 * ratio:.0f}%" if isfinite(ratio) else MISSING


def gibs(size_bytes: int | float) -> str:
    """Bytes as GiB with one decimal."""
    return f"{size_bytes / GIB:.1f}"


def count(value: float) -> str:
    """A number in at most five signs: 812, 9.4, 12.3k, 4.1M."""
    if not isfinite(value):
        return MISSING
    for factor, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 0.9995:
            scaled = value / factor
            return f"{scaled:.0f}{unit}" if abs(scaled) >= 99.95 else f"{scaled:.1f}{unit}"
    return f"{value:.0f}" if value == int(value) or abs(value) >= 99.5 else f"{value:.1f}"


def byte_rate(bytes_per_second: float) -> str:
    """A rate in at most five signs and its unit: 12.3G, 812M, 0 (bytes a second, powers of ten as links count them)."""
    return count(bytes_per_second)


def seconds(value: float) -> str:
    """A latency: 84 ms, 1.32 s, 41 s."""
    if not isfinite(value):
        return MISSING
    if value < 1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def clock(at: float) -> str:
    """A moment as this machine's time of day."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):  # a recording may hold any number
        return "--:--:--"


def age(length: float) -> str:
    """A length of time in its two largest units: 41 s, 3 min 5 s, 2 h 10 min, 4 d 3 h."""
    if not isfinite(length):
        return MISSING
    whole = max(0, int(length))
    for size, unit, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit} {rest} {small}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def fault_word(fault: Missing) -> str:
    """One loud word for a GPU that gives no readings."""
    return {GPU_IS_LOST: "LOST", RESET_REQUIRED: "RESET REQUIRED"}.get(fault.code or 0, "NO ANSWER")


def short_name(name: str) -> str:
    """A product name without the words that all of them have."""
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ").replace(" Generation", "")


def memory(gpu: GpuSnapshot, node: NodeSnapshot) -> tuple[float, float, bool] | None:
    """Used and total bytes of a GPU and whether they are the system's, or None where they are not known.

    A board that shares its memory with the processor has no figure of its own (GB10): main memory stands in.
    """
    used, total = number(gpu.fast.memory_used_bytes), number(gpu.identity.memory_total_bytes)
    if used is not None and total is not None:
        return used, total, False
    whole, free = node.system_memory_total_bytes, node.system_memory_available_bytes
    if gpu.identity.unified_memory and whole is not None and free is not None:
        return whole - free, whole, True
    return None


def memory_text(gpu: GpuSnapshot, node: NodeSnapshot) -> str:
    """`68.0/79.6` GiB; `sys 41/119` where it is main memory; the total alone where only that is known."""
    found = memory(gpu, node)
    if found is None:
        used = shown(gpu.fast.memory_used_bytes, gibs)
        total = shown(gpu.identity.memory_total_bytes, gibs)
        return MISSING if used == total == MISSING else f"{used}/{total}"
    used_bytes, total_bytes, system = found
    if system:
        return f"sys {used_bytes / GIB:.0f}/{total_bytes / GIB:.0f}"
    return f"{gibs(used_bytes)}/{gibs(total_bytes)}"


def power_text(gpu: GpuSnapshot) -> str:
    """`612/700` watts, drawn and allowed."""
    drawn, limit = number(gpu.fast.power_watts), number(gpu.slow.power_limit_watts)
    if drawn is None:
        return MISSING
    return f"{drawn:.0f}" if limit is None else f"{drawn:.0f}/{limit:.0f}"


def temperature_text(gpu: GpuSnapshot, degree: str = "°") -> str:
    """`64° +23`: the temperature, and the degrees to go until the board slows down, where it tells."""
    degrees, margin = number(gpu.fast.temperature_celsius), number(gpu.slow.margin_celsius)
    if degrees is None:
        return MISSING
    return f"{degrees}{degree}" if margin is None else f"{degrees}{degree} {margin:+d}"


# Health's stable vocabulary of actions, as a person says them.
ACTIONS: dict[Action, str] = {
    "none": "",
    "fix_configuration": "fix the configuration",
    "check_application": "check the application",
    "restart_engine": "restart the engine",
    "reset_gpu": "reset the GPU",
    "reboot_node": "reboot the node",
    "inspect_hardware": "inspect the hardware",
}


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers, neighbours together: 0-3, 5."""
    parts: list[list[int]] = []
    for value in sorted(set(numbers)):
        if parts and value == parts[-1][1] + 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def kinds(names: Iterable[str]) -> str:
    """How many of which: `8 × H100 80GB HBM3`, `2 × L4, 1 × A100-SXM4-80GB`."""
    counted: dict[str, int] = {}
    for name in names:
        counted[short_name(name)] = counted.get(short_name(name), 0) + 1
    return ", ".join(f"{many} × {name}" for name, many in counted.items())
