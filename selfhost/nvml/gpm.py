"""How busy SMs, tensor cores, memory and PCIe really are, from two GPM samples (Hopper and later): no sleep, ever.

NVML compares two samples taken at least 100 ms apart. The sample of the last poll is kept for this one, so the ratios
are those of the time between the polls, and the first poll has none.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_void_p
from struct import Struct
from typing import Any

from selfhost.nvml import codes
from selfhost.nvml.library import Library
from selfhost.nvml.structs import GPM_V1, GpmMetrics
from selfhost.observation import Missing, Reading
from selfhost.observation.reading import ABSENT_CODES

# Field of FastReadings -> NVML_GPM_METRIC_SM_UTIL, ANY_TENSOR_UTIL, DRAM_BW_UTIL and GRAPHICS_UTIL in percent,
# PCIE_TX_PER_SEC and PCIE_RX_PER_SEC in MiB/s. The number of metrics costs no call.
METRICS = {
    "sm_activity_ratio": 2,
    "tensor_activity_ratio": 5,
    "memory_activity_ratio": 10,
    "graphics_activity_ratio": 1,
    "pcie_sent_bytes_per_second": 20,
    "pcie_received_bytes_per_second": 21,
}
# Least time between two samples (nvml.h, nvmlGpmMetricsGet).
SHORTEST_SECONDS = 0.1
# Of nvmlGpmMetric_t: the return code and the value; the metric and its description are passed over.
METRIC = Struct("=4xId24x")
ANSWERS = slice(GpmMetrics.metrics.offset, GpmMetrics.metrics.offset + METRIC.size * len(METRICS))
TWO_SAMPLES = Missing(missing="needs two samples: known from the next poll on")
NO_GPM = Missing(missing="needs GPM, which this board lacks (Hopper and later)", code=3)

Activity = dict[str, Reading[float]]


def all_missing(reason: Missing) -> Activity:
    """The same reason for every metric."""
    return dict.fromkeys(METRICS, reason)


def rate(failed: int, mebibytes: float) -> Reading[float]:
    """One metric's answer, bytes a second."""
    if failed:
        return codes.missing(failed)
    if not 0 <= mebibytes < float("inf"):
        return Missing(missing=f"NVML gave an impossible value ({mebibytes} MiB/s)")
    return mebibytes * 2**20


def ratio(failed: int, percent: float) -> Reading[float]:
    """One metric's answer."""
    if failed:
        return codes.missing(failed)
    # Not a number compares false with everything.
    return (
        percent / 100
        if 0 <= percent <= 100
        else Missing(missing=f"NVML gave an impossible value ({percent} %)")
    )


_READERS = tuple((field, rate if metric in (20, 21) else ratio) for field, metric in METRICS.items())


class Gpm:
    """Two samples of one GPU, taken in turn."""

    __slots__ = (
        "_absent",
        "_answers",
        "_compared",
        "_handle",
        "_last",
        "_library",
        "_metrics",
        "_monotonic",
        "_sampled_at",
        "_samples",
    )

    def __init__(self, library: Library, handle: Any, monotonic: Callable[[], float]) -> None:
        self._library = library
        self._handle = handle
        self._monotonic = monotonic
        self._samples: list[c_void_p] = []
        self._sampled_at: float | None = None
        self._absent: Missing | None = None
        self._last = all_missing(TWO_SAMPLES)
        self._metrics = GpmMetrics(version=GPM_V1, count=len(METRICS))
        for entry, metric in zip(self._metrics.metrics, METRICS.values(), strict=False):
            entry.metric = metric
        self._answers = memoryview(self._metrics).cast("B")[ANSWERS]
        self._compared = (byref(self._metrics),)
        for _ in range(2):
            sample = c_void_p()
            code = library.call("nvmlGpmSampleAlloc", byref(sample))
            if code:
                self._absent = codes.missing(code)
                return
            self._samples.append(sample)

    def read(self) -> Activity:
        """Every metric since the last call, by its field.

        Raises:
            GpuFault: the GPU is gone.
        """
        if self._absent is not None:
            return all_missing(self._absent)
        now = self._monotonic()
        if self._sampled_at is not None and now - self._sampled_at < SHORTEST_SECONDS:
            return self._last
        earlier, later = self._samples
        code = self._library.call("nvmlGpmSampleGet", self._handle, later)
        if code:
            self._sampled_at = None
            return self._failed(code)
        self._samples = [later, earlier]
        first = self._sampled_at is None
        self._sampled_at = now
        self._last = all_missing(TWO_SAMPLES) if first else self._compare(earlier, later)
        return self._last

    def _compare(self, earlier: c_void_p, later: c_void_p) -> Activity:
        metrics = self._metrics
        metrics.sample1 = earlier
        metrics.sample2 = later
        code = self._library.call("nvmlGpmMetricsGet", *self._compared)
        if code:
            return self._failed(code)
        answers = METRIC.iter_unpack(self._answers)
        return {
            field: read(failed, value)
            for (field, read), (failed, value) in zip(_READERS, answers, strict=True)
        }

    def _failed(self, code: int) -> Activity:
        reason = codes.missing(code)
        if code in ABSENT_CODES:
            self._absent = reason
        else:
            self._library.note(code)
            if code in codes.GPU_FAULTS:
                raise codes.GpuFault(reason)
        return all_missing(reason)

    def close(self) -> None:
        """Give the samples back."""
        for sample in self._samples:
            self._library.call("nvmlGpmSampleFree", sample)
        self._samples = []
