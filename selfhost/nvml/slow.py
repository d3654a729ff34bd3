"""The slow lane of one GPU: what takes NVML long or seldom changes; fields first, then calls for what they lack."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_uint, c_ulonglong
from typing import Any

from selfhost.nvml import codes, tables, values
from selfhost.nvml.fields import Fields
from selfhost.nvml.library import Library
from selfhost.nvml.links import Links
from selfhost.nvml.mig import Mig, with_instances
from selfhost.nvml.processes import Processes, merged
from selfhost.nvml.question import Asked
from selfhost.observation import EccCounts, Missing, Reading, RemappedRows, SlowReadings, known
from selfhost.observation.reading import ABSENT_CODES

# Validating the InfoROM reads the board's flash; its answer outlives this process' patience. Ours, not measured.
INFOROM_SECONDS = 600.0
# A board has at most 64 pages to retire (NVIDIA, Dynamic Page Retirement).
MOST_PAGES = 64

SINGLE = {
    "power_limit_watts": tables.POWER_LIMIT,
    "fan_ratio": tables.FAN,
    "encoder_ratio": tables.ENCODER,
    "decoder_ratio": tables.DECODER,
    "margin_celsius": tables.MARGIN,
    "performance_state": tables.PERFORMANCE_STATE,
    "pcie_generation": tables.PCIE_GENERATION,
    "pcie_width": tables.PCIE_WIDTH,
    "persistence": tables.PERSISTENCE,
    "unrepairable_memory": tables.UNREPAIRABLE,
    "fabric": tables.FABRIC,
}


class SlowLane:
    """Questions of the slow lane, bound to one GPU.

    Args:
        nvlink_count: field 91, from the static lane.
    """

    def __init__(
        self,
        library: Library,
        handle: Any,
        driver: tuple[int, ...],
        *,
        nvlink_count: Reading[int],
        monotonic: Callable[[], float],
    ) -> None:
        def asked(question: Any) -> Asked[Any]:
            return Asked(library, handle, question)

        self._library = library
        self._handle = handle
        self._monotonic = monotonic
        self._fields = Fields(library, handle, tables.SLOW_FIELDS, driver)
        self._single = {name: asked(question) for name, question in SINGLE.items()}
        self._ecc_mode = asked(tables.ECC_MODE)
        self._mig_mode = asked(tables.MIG_MODE)
        self._totals = {name: asked(question) for name, question in tables.ECC_TOTALS.items()}
        self._sram = asked(tables.SRAM)
        self._sram_counter = asked(tables.SRAM_COUNTER)
        self._remapped = asked(tables.REMAPPED)
        self._histogram = asked(tables.REMAPPER_HISTOGRAM)
        self._replays = asked(tables.PCIE_REPLAYS)
        self._retired_pending = asked(tables.RETIRED_PENDING)
        self._links = Links(library, handle, nvlink_count)
        self._mig = Mig(library, handle, driver)
        self._compute = Processes(library, handle, "compute", driver)
        self._graphics = Processes(library, handle, "graphics", driver)
        self._inforom: Reading[bool] | None = None
        self._inforom_at = 0.0

    def read(self) -> SlowReadings:
        """Ask everything once.

        Raises:
            GpuFault: the GPU is gone.
        """
        fields = self._fields.read()
        single: dict[str, Any] = {name: asked.read() for name, asked in self._single.items()}
        ecc_now, ecc_next = _pair(self._ecc_mode.read())
        mig_now, mig_next = _pair(self._mig_mode.read())
        processes = merged(self._compute.read(), self._graphics.read())
        instances, of_instances = self._mig.read() if mig_now is True else ((), ())
        return SlowReadings(
            **single,
            pcie_replays=self._or_asked(fields["pcie_replays"], self._replays),
            ecc_enabled=ecc_now,
            ecc_pending=ecc_next,
            ecc=self._ecc(fields),
            remapped=self._rows(fields),
            retired_pages=self._retired(fields),
            retired_pending=self._or_flag(fields["retired_pending"], self._retired_pending),
            inforom_valid=self._inforom_valid(),
            mig_enabled=mig_now,
            mig_pending=mig_next,
            mig=instances,
            nvlinks=self._links.read(),
            processes=with_instances(processes, of_instances) if instances else processes,
        )

    @staticmethod
    def _or_asked(field: Reading[int], asked: Asked[int]) -> Reading[int]:
        """The field; where the board or driver lacks it, the call of its own."""
        if isinstance(field, Missing):
            return asked.read() if field.absent else field
        return values.count64(field)

    @staticmethod
    def _or_flag(field: Reading[int], asked: Asked[bool]) -> Reading[bool]:
        if isinstance(field, Missing):
            return asked.read() if field.absent else field
        return values.flag(field)

    def _ecc(self, fields: dict[str, Any]) -> EccCounts:
        sram = self._sram.read()
        # The status needs rights that its counter does not.
        uncorrected, exceeded = _pair(sram)
        if isinstance(uncorrected, Missing):
            counted = self._sram_counter.read()
            uncorrected = counted if known(counted) else uncorrected
        totals = {name: self._or_asked(fields[name], asked) for name, asked in self._totals.items()}
        return EccCounts(**totals, sram_uncorrected=uncorrected, sram_threshold_exceeded=exceeded)

    def _rows(self, fields: dict[str, Any]) -> RemappedRows:
        corrected, uncorrected = fields["remapped_corrected"], fields["remapped_uncorrected"]
        pending, failed = fields["remapped_pending"], fields["remapped_failed"]
        if any(
            isinstance(value, Missing) and value.absent for value in (corrected, uncorrected, pending, failed)
        ):
            rows = self._remapped.read()
            corrected, uncorrected, pending, failed = (rows,) * 4 if isinstance(rows, Missing) else rows
        pending, failed = _flag(pending), _flag(failed)
        # Blackwell remaps banks, too, and either waits for the same reset.
        if fields["bank_pending"] == 1:
            pending = True
        spares = self._histogram.read()
        if isinstance(spares, Missing) and known(fields["banks_without_spares"]):
            spares = values.count64(fields["banks_without_spares"])
        return RemappedRows(
            corrected=corrected,
            uncorrected=uncorrected,
            pending=pending,
            failed=failed,
            banks_without_spares=spares,
        )

    def _retired(self, fields: dict[str, Any]) -> Reading[int]:
        """Pages retired for single- and for double-bit errors together."""
        total = 0
        for cause, name in enumerate(("retired_single", "retired_double")):
            pages = fields[name]
            if isinstance(pages, Missing) and pages.absent:
                pages = self._pages(cause)
            if isinstance(pages, Missing):
                return pages
            total += pages
        return total

    def _pages(self, cause: int) -> Reading[int]:
        count = c_uint(MOST_PAGES)
        addresses = (c_ulonglong * MOST_PAGES)()
        code = self._library.call(
            "nvmlDeviceGetRetiredPages", self._handle, c_uint(cause), byref(count), addresses
        )
        if code in (codes.SUCCESS, codes.INSUFFICIENT_SIZE):
            return count.value
        return self._failed(code)

    def _inforom_valid(self) -> Reading[bool]:
        now = self._monotonic()
        if self._inforom is None or now - self._inforom_at >= INFOROM_SECONDS:
            code = self._library.call("nvmlDeviceValidateInforom", self._handle)
            if code in (codes.SUCCESS, codes.CORRUPTED_INFOROM):
                self._inforom = code == codes.SUCCESS
            elif code in ABSENT_CODES:
                self._inforom = codes.missing(code)
            else:
                return self._failed(code)
            self._inforom_at = now
        return self._inforom

    def _failed(self, code: int) -> Missing:
        if code not in ABSENT_CODES:
            self._library.note(code)
        if code in codes.GPU_FAULTS:
            raise codes.GpuFault(codes.missing(code))
        return codes.missing(code)


def _pair(reading: Any) -> tuple[Any, Any]:
    return (reading, reading) if isinstance(reading, Missing) else reading


def _flag(value: Any) -> Reading[bool]:
    return value if isinstance(value, (Missing, bool)) else values.flag(value)
