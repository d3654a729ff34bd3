"""One GPU over time: its handle, its lanes, what was last read of it, and the fault that stands in the way."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_void_p
from dataclasses import replace
from typing import Literal

from selfhost.nvml import codes
from selfhost.nvml.fast import FastLane
from selfhost.nvml.identity import IdentityReader, kept, unknown_identity
from selfhost.nvml.library import Library
from selfhost.nvml.slow import SlowLane
from selfhost.observation import GpuSnapshot, Missing

Lane = Literal["static", "fast", "slow"]
# A lane of one GPU that took longer makes this GPU the last to be asked next time, so that one whose calls hang does
# not stand before the others again. Ours.
LATE_SECONDS = 1.0

GONE = Missing(missing="no longer in NVML's list of GPUs")


class Gpu:
    """A GPU that was seen since the start; it stays when it is lost, with what was last read of it.

    Args:
        index: NVML's index at the time it was first seen.
    """

    def __init__(
        self, library: Library, index: int, driver: tuple[int, ...], monotonic: Callable[[], float]
    ) -> None:
        self._library = library
        self._driver = driver
        self._monotonic = monotonic
        self.handle: c_void_p | None = None
        self.late = False
        self._fast: FastLane | None = None
        self._slow: SlowLane | None = None
        # The lane in which the fault was met: only that lane, read without one, ends it.
        self._fault_lane: Lane | None = None
        self._identified = False
        self._asked_who = False
        self._silent = False
        self.snapshot = GpuSnapshot(identity=unknown_identity(index, Missing(missing="not read yet")))

    @property
    def uuid(self) -> str:
        """`GPU-…`, or `unknown-<index>`."""
        return self.snapshot.identity.uuid

    @property
    def index(self) -> int:
        """The index that NVML last gave it."""
        return self.snapshot.identity.index

    def attach(self, handle: c_void_p, index: int) -> None:
        """It is in NVML's list, under this handle and index; both may change when GPUs come and go."""
        if self.handle is None or self.handle.value != handle.value:
            self.forget()
            self.handle = handle
        if self.index != index:
            self.snapshot = replace(self.snapshot, identity=replace(self.snapshot.identity, index=index))
        if self.snapshot.fault is GONE:
            self.snapshot = replace(self.snapshot, fault=None)
            self._fault_lane = None

    def detach(self, reason: Missing) -> None:
        """NVML gives no handle of it any more."""
        self.forget()
        self.handle = None
        self._fault_lane = None
        self.snapshot = replace(self.snapshot, fault=reason)

    def forget(self) -> None:
        """Decide anew which calls this GPU answers: it was reset, or changed its mode."""
        if self._fast is not None:
            self._fast.close()
        self._fast = self._slow = None

    def begin(self) -> None:
        """A new poll: a GPU that fell silent in the last one is asked again."""
        self._silent = False

    def read(self, lane: Lane, now: float, lanes: frozenset[Lane]) -> bool:
        """Read one lane, unless it already fell silent in this poll or has nothing to be read.

        Returns:
            Whether there is news in `snapshot`.
        """
        if self._silent or self.handle is None:
            return False
        if lane not in lanes and not (lane == "static" and self._must_identify(lanes)):
            return False
        started = self._monotonic()
        calls, failed = self._library.calls, self._library.failed
        try:
            snapshot = self._lane(self.handle, lane, now, slow_due="slow" in lanes)
        except codes.GpuFault as fault:
            self._fail(lane, fault.reason)
        else:
            if self._nothing_answered(
                snapshot, lane, self._library.calls - calls, self._library.failed - failed
            ):
                self._fail(lane, codes.missing(self._library.last_failure))
            else:
                self._succeed(lane, snapshot)
        self.late = self._monotonic() - started > LATE_SECONDS
        return True

    def _must_identify(self, lanes: frozenset[Lane]) -> bool:
        """Whether it is new, or has not said who it is and there is time for it to be asked again."""
        return not self._asked_who or (not self._identified and "slow" in lanes)

    def _nothing_answered(self, snapshot: GpuSnapshot, lane: Lane, calls: int, failed: int) -> bool:
        """Whether calls failed and none gave anything, as when a container has lost its devices (999 on every call).

        A board without a reading is not meant: its calls do not count as failed.
        """
        if not failed or self._library.last_failure in codes.HARMLESS:
            return False
        if failed >= calls:
            return True
        if lane != "fast":
            return False
        fast = snapshot.fast
        readings = (
            fast.memory_used_bytes,
            fast.utilization_ratio,
            fast.temperature_celsius,
            fast.power_watts,
            fast.sm_clock_mhz,
            fast.clock_reasons,
            fast.recovery_action,
        )
        return all(isinstance(reading, Missing) for reading in readings)

    def _lane(self, handle: c_void_p, lane: Lane, now: float, *, slow_due: bool) -> GpuSnapshot:
        identity = self.snapshot.identity
        if lane == "static":
            self._asked_who = True
            reader = IdentityReader(self._library, handle, self._driver)
            identity = kept(identity, reader.read(identity.index))
            self.snapshot = replace(self.snapshot, identity=identity)
            if reader.fault is not None:
                raise codes.GpuFault(reader.fault)
            self.forget()
            self._identified = not self.uuid.startswith("unknown")
            return self.snapshot
        if lane == "fast":
            if self._fast is None:
                self._fast = FastLane(
                    self._library,
                    handle,
                    self._driver,
                    gpm=identity.tensor_activity,
                    monotonic=self._monotonic,
                )
            fast = self._fast.read(self.snapshot.fast, slow_due=slow_due)
            return replace(self.snapshot, fast=fast, fast_at=now)
        if self._slow is None:
            self._slow = SlowLane(
                self._library,
                handle,
                self._driver,
                nvlink_count=identity.nvlink_count,
                monotonic=self._monotonic,
            )
        slow = self._slow.read()
        if self.snapshot.slow_at is not None and slow.mig_enabled != self.snapshot.slow.mig_enabled:
            # MIG takes readings away and gives them back.
            self.forget()
        return replace(self.snapshot, slow=slow, slow_at=now)

    def _fail(self, lane: Lane, reason: Missing) -> None:
        self._silent = True
        self._fault_lane = lane
        self.snapshot = replace(self.snapshot, fault=reason)

    def _succeed(self, lane: Lane, snapshot: GpuSnapshot) -> None:
        if snapshot.fault is not None and self._fault_lane in (lane, None):
            snapshot = replace(snapshot, fault=None)
            self._fault_lane = None
            # What it said while it was failing is no ground for never asking again.
            self.forget()
        self.snapshot = snapshot
