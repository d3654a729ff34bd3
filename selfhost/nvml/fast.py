"""The fast lane of one GPU: at most ten NVML calls, eight without GPM and one batch of fields among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfhost.nvml import values
from selfhost.nvml.fields import Fields
from selfhost.nvml.gpm import NO_GPM, Gpm, all_missing
from selfhost.nvml.library import Library
from selfhost.nvml.question import Asked
from selfhost.nvml.tables import (
    CLOCK_REASONS,
    ENERGY,
    FAST_FIELDS,
    MEMORY,
    MEMORY_CLOCK,
    POWER,
    SM_CLOCK,
    TEMPERATURE,
    UTILIZATION,
)
from selfhost.observation import FastReadings, Missing, Reading
from selfhost.observation.gpu import BootTotals

_NO_ACTIVITY = all_missing(NO_GPM)


def _scaled(value: Reading[int], unit: float) -> Reading[float]:
    if isinstance(value, Missing):
        return value
    return value / unit if value < values.BLANK_64 else values.impossible(value)


def _times(value: Reading[int], unit: int) -> Reading[int]:
    if isinstance(value, Missing):
        return value
    return value * unit if value < values.BLANK_64 else values.impossible(value)


class FastLane:
    """Questions of the fast lane, bound to one GPU.

    With GPM's two calls, the memory clock and an energy counter that is no field are read only when the slow lane is
    due: so a tick stays within ten calls even where a node has one GPU and the wait for events is counted too.
    """

    __slots__ = (
        "_clock",
        "_energy",
        "_fields",
        "_gpm",
        "_memory",
        "_memory_clock",
        "_power",
        "_reasons",
        "_temperature",
        "_utilization",
    )

    def __init__(
        self,
        library: Library,
        handle: Any,
        driver: tuple[int, ...],
        *,
        gpm: bool,
        monotonic: Callable[[], float],
    ) -> None:
        def asked(question: Any) -> Asked[Any]:
            return Asked(library, handle, question)

        self._memory = asked(MEMORY)
        self._utilization = asked(UTILIZATION)
        self._temperature = asked(TEMPERATURE)
        self._power = asked(POWER)
        self._clock = asked(SM_CLOCK)
        self._memory_clock = asked(MEMORY_CLOCK)
        self._reasons = asked(CLOCK_REASONS)
        self._energy = asked(ENERGY)
        self._fields = Fields(library, handle, FAST_FIELDS, driver)
        self._gpm = Gpm(library, handle, monotonic) if gpm else None

    def read(self, previous: FastReadings, *, slow_due: bool) -> FastReadings:
        """Ask everything once.

        Args:
            previous: where the memory clock and the energy come from when they are left out.
            slow_due: the slow lane is read in this poll, too.

        Raises:
            GpuFault: the GPU is gone.
        """
        memory = self._memory.read()
        _, reserved, free, used = (memory,) * 4 if isinstance(memory, Missing) else memory
        rates = self._utilization.read()
        busy, memory_busy = (rates, rates) if isinstance(rates, Missing) else rates
        temperature = self._temperature.read()
        fields = self._fields.read()
        power = self._power.read()
        if isinstance(power, Missing) and power.absent and not isinstance(fields["power_instant"], Missing):
            power = values.watts(fields["power_instant"])
        spare = self._gpm is None or slow_due
        activity = _NO_ACTIVITY if self._gpm is None else self._gpm.read()
        memory_temperature = fields["memory_temperature"]
        if not isinstance(memory_temperature, Missing):
            memory_temperature = values.memory_celsius(memory_temperature)
        return FastReadings(
            memory_used_bytes=used,
            memory_free_bytes=free,
            memory_reserved_bytes=reserved,
            utilization_ratio=busy,
            memory_busy_ratio=memory_busy,
            temperature_celsius=temperature,
            memory_temperature_celsius=memory_temperature,
            power_watts=power,
            energy_joules=self._joules(fields["energy"], previous.energy_joules, spare=spare),
            sm_clock_mhz=self._clock.read(),
            memory_clock_mhz=self._memory_clock.read() if spare else previous.memory_clock_mhz,
            clock_reasons=self._reasons.read(),
            recovery_action=fields["recovery_action"],
            **activity,
            nvlink_sent_bytes=_times(fields["nvlink_sent"], 1024),
            nvlink_received_bytes=_times(fields["nvlink_received"], 1024),
            pcie_sent_bytes=_times(fields["pcie_sent"], 1),
            pcie_received_bytes=_times(fields["pcie_received"], 1),
            held_down=_held_down(fields),
        )

    def _joules(self, field: Reading[int], previous: Reading[float], *, spare: bool) -> Reading[float]:
        """Energy from its field, else from its call where there is room for it."""
        if not isinstance(field, Missing) or not field.absent or self._energy.absent is not None:
            return _scaled(field, 1000)
        return _scaled(self._energy.read(), 1000) if spare else previous

    def close(self) -> None:
        """Give GPM's samples back."""
        if self._gpm is not None:
            self._gpm.close()


def _held_down(fields: dict[str, Any]) -> BootTotals:
    """Seconds from the nanosecond counters."""
    return BootTotals(
        power_cap_seconds=_scaled(fields["power_cap"], 1e9),
        thermal_seconds=_scaled(fields["thermal"], 1e9),
        sync_boost_seconds=_scaled(fields["sync_boost"], 1e9),
        board_limit_seconds=_scaled(fields["board_limit"], 1e9),
        low_utilization_seconds=_scaled(fields["low_utilization"], 1e9),
        reliability_seconds=_scaled(fields["reliability"], 1e9),
        sw_thermal_seconds=_scaled(fields["sw_thermal"], 1e9),
        hw_thermal_seconds=_scaled(fields["hw_thermal"], 1e9),
        power_brake_seconds=_scaled(fields["power_brake"], 1e9),
    )
