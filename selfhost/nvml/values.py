"""Numbers as NVML hands them over, made into readings: units, and the values that cannot be true.

NVML and what stands between (vGPU, DCGM's recordings, old drivers) fill in all ones or DCGM's blanks (0x7FFFFFF0 and
0x7FFFFFFFFFFFFFF0 upwards, dcgm_structs.h 4.6.0) where there is no value. Such a number is Missing, never shown.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_uint, c_ulonglong
from typing import Any

from selfhost.nvml.question import Question, Way
from selfhost.observation import Missing, Reading

BLANK_32 = 0x7FFFFFF0
BLANK_64 = 0x7FFFFFFFFFFFFFF0
# No sensor of these boards goes beyond; dcgm-exporter discards what is above, too (read 2026-11-21).
HOTTEST_CELSIUS = 200
COLDEST_CELSIUS = -60


def impossible(value: object) -> Missing:
    """A Missing for an answer that cannot be true."""
    return Missing(missing=f"NVML gave an impossible value ({value})")


def count32(value: int) -> Reading[int]:
    """A 32-bit number that is no placeholder."""
    return value if value < BLANK_32 else impossible(value)


def count64(value: int) -> Reading[int]:
    """A 64-bit number that is no placeholder."""
    return value if value < BLANK_64 else impossible(value)


def celsius(value: int) -> Reading[int]:
    """A temperature of the GPU, or one of its limits."""
    return value if COLDEST_CELSIUS < value <= HOTTEST_CELSIUS else impossible(value)


def memory_celsius(value: int) -> Reading[int]:
    """A temperature of the memory; boards without the sensor answer 0."""
    return value if 0 < value <= HOTTEST_CELSIUS else impossible(value)


def margin_celsius(value: int) -> Reading[int]:
    """Degrees to go, which may be negative."""
    return value if -HOTTEST_CELSIUS <= value <= HOTTEST_CELSIUS else impossible(value)


def percent(value: int) -> Reading[float]:
    """A ratio from percent."""
    return value / 100 if value <= 100 else impossible(f"{value} %")


def fan_percent(value: int) -> Reading[float]:
    """A ratio from percent of the fan's intended speed, which NVML says may pass 100."""
    return value / 100 if value <= 200 else impossible(f"{value} %")


def watts(value: int) -> Reading[float]:
    """Watts from milliwatts."""
    return value / 1000 if value < BLANK_32 else impossible(value)


def flag(value: int) -> Reading[bool]:
    """An nvmlEnableState_t, or another 0 or 1."""
    return bool(value) if value in (0, 1) else impossible(value)


def _u32(convert: Callable[[int], Reading[Any]]) -> Callable[[Any], Reading[Any]]:
    return lambda output: convert(output.value)


def uint(
    *symbols: str, convert: Callable[[int], Reading[Any]] = count32, inputs: tuple[int, ...] = ()
) -> Question[Any]:
    """A question that functions of one signature answer with an unsigned int, newest function first."""
    return Question(tuple(Way(symbol, (c_uint,), _u32(convert), inputs=inputs) for symbol in symbols))


def ulong(
    *symbols: str, convert: Callable[[int], Reading[Any]] = count64, inputs: tuple[int, ...] = ()
) -> Question[Any]:
    """The same with an unsigned long long."""
    return Question(tuple(Way(symbol, (c_ulonglong,), _u32(convert), inputs=inputs) for symbol in symbols))


def text(symbol: str, length: int) -> Question[str]:
    """A question that is answered with a string of at most so many bytes."""
    from ctypes import c_char

    def decode(output: Any) -> Reading[str]:
        value: str = output.value.decode("utf-8", "replace").strip()
        return value or Missing(missing="NVML gave an empty string")

    return Question((Way(symbol, (c_char * length,), decode, length=length),))
