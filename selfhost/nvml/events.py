"""Xid events as NVML delivers them, taken without waiting. NVML keeps no history: what happens before is not told."""

from __future__ import annotations

from ctypes import byref, c_uint, c_ulonglong, c_void_p
from typing import Any

from selfhost.nvml import codes, tables
from selfhost.nvml.library import Library
from selfhost.nvml.question import Asked
from selfhost.nvml.structs import EventData
from selfhost.observation import Missing, XidEvent, known

# nvmlEventTypeXidCriticalError, nvmlEventTypeGpuRecoveryAction (nvml.h r615).
XID = 0x8
RECOVERY_ACTION = 0x8000
# The Xid by which the kernel log announces what the second event type announces.
RECOVERY_XID = 154
NO_INSTANCE = 0xFFFFFFFF
WAIT = ("nvmlEventSetWait_v2", "nvmlEventSetWait")
# Most events taken in one go, so that a storm of them cannot hold up the poll. Ours.
MOST = 1000


class Events:
    """One event set over all GPUs."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._set = c_void_p()
        code = library.call("nvmlEventSetCreate", byref(self._set))
        self.missing: Missing | None = codes.missing(code) if code else None
        # Handle's address → why this GPU's events are not heard; and how the last wait failed.
        self._unheard: dict[int, Missing] = {}
        self._failed: Missing | None = None
        # Handle's address → the GPU's UUID, also of one that is lost: its last events may still come.
        self._uuids: dict[int, str] = {}
        self._asked: set[int] = set()
        self._data = EventData()

    @property
    def deaf(self) -> Missing | None:
        """Why Xids are not heard, of a GPU or at all; None while they are."""
        return self.missing or self._failed or next(iter(self._unheard.values()), None)

    def register(self, handle: c_void_p, uuid: str) -> None:
        """Listen to a GPU, for those of the two types that it says it has; once per handle."""
        address = handle.value or 0
        if self.missing is not None:
            return
        self._uuids[address] = uuid
        if address in self._asked:
            return
        self._asked.add(address)
        try:
            offered = Asked(self._library, handle, tables.EVENT_TYPES).read()
        except codes.GpuFault:
            # The poll will say so; it is asked again when it comes back.
            self._asked.discard(address)
            return
        wanted = XID | RECOVERY_ACTION
        if known(offered):
            wanted &= offered
        for types in (wanted, XID):
            if not types:
                continue
            self._unheard.pop(address, None)
            code = self._library.call("nvmlDeviceRegisterEvents", handle, c_ulonglong(types), self._set)
            if code in codes.GPU_FAULTS:
                self._asked.discard(address)
            elif code:
                self._unheard[address] = codes.missing(code)
            if code == codes.SUCCESS or types == XID:
                return

    def drain(self, at: float) -> tuple[XidEvent, ...]:
        """Every event that waits, at most a thousand; never waits itself.

        Args:
            at: Unix time given to the events, as NVML gives them none.
        """
        if self.missing is not None or not self._uuids:
            return ()
        found: list[XidEvent] = []
        for _ in range(MOST):
            data = self._data
            data.gpu_instance = NO_INSTANCE
            code = self._library.first(WAIT, self._set, byref(data), c_uint(0))
            if code:
                self._ended(code)
                break
            event = self._event(data, at)
            if event is not None and not (event.xid == RECOVERY_XID and event in found):
                found.append(event)
        return tuple(found)

    def _event(self, data: Any, at: float) -> XidEvent | None:
        if data.type == XID:
            xid = int(data.data)
        elif data.type == RECOVERY_ACTION:
            xid = RECOVERY_XID
        else:
            return None
        instance = None if data.gpu_instance == NO_INSTANCE else int(data.gpu_instance)
        return XidEvent(at=at, xid=xid, uuid=self._uuid(data.device), gpu_instance=instance)

    def _uuid(self, address: int | None) -> str | None:
        """UUID of the event's GPU; a handle that is not one of ours, such as a MIG device's, is asked for it."""
        if (address or 0) in self._uuids:
            return self._uuids[address or 0]
        if not address:
            return None
        try:
            uuid = Asked(self._library, c_void_p(address), tables.UUID).read()
        except codes.GpuFault:
            return None
        return uuid if known(uuid) else None

    def _ended(self, code: int) -> None:
        """A timeout is how a quiet set answers. An absent function ends listening; anything else is counted."""
        self._failed = None
        if code == codes.TIMEOUT:
            return
        if code in (3, 13):
            self.missing = codes.missing(code)
            return
        self._library.note(code)
        self._failed = codes.missing(code)

    def close(self) -> None:
        """Give the set back."""
        if self.missing is None:
            self._library.call("nvmlEventSetFree", self._set)
            self.missing = Missing(missing="closed")
