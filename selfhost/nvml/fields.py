"""Readings that have a field id, many in one nvmlDeviceGetFieldValues; each has its own return code and value type."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import byref, c_int
from struct import Struct, pack, unpack
from typing import Any

from selfhost.nvml import codes
from selfhost.nvml.library import Library
from selfhost.nvml.structs import FieldValue
from selfhost.observation import Missing, Reading
from selfhost.observation.reading import ABSENT_CODES, FUNCTION_NOT_FOUND

FUNCTION = "nvmlDeviceGetFieldValues"
# Of nvmlFieldValue_t: type, code, and the union as eight bytes; field, scope, timestamp and latency are passed over.
ENTRY = Struct("=24xIIQ")
# Scope of an NVLink counter that sums over the links (nvml.h; UINT_MAX).
ALL_LINKS = 0xFFFFFFFF

UNSIGNED_64 = frozenset((2, 3))
# Between CUDA 13.0 and 13.0 Update 1 (driver 580 TRD2) the ids 251 to 273 changed places, so an older driver answers
# something else under them (https://docs.nvidia.com/deploy/nvml-api/known-issues.html, read 2026-11-21).
RENUMBERED = range(251, 274)
# Driver of CUDA 13.0 Update 1: 580.82.07, as of its release notes
# (https://docs.nvidia.com/cuda/archive/13.0.1/cuda-toolkit-release-notes/, read 2026-11-26).
RENUMBERED_SINCE = (580, 82)
TOO_OLD_FOR_FIELD = Missing(
    missing="this driver gives the field's number another meaning (before 580.82)", code=FUNCTION_NOT_FOUND
)
UNKNOWN_FIELD = Missing(missing="the driver is older than this field", code=FUNCTION_NOT_FOUND)


def driver_numbers(version: Reading[str]) -> tuple[int, ...]:
    """A driver's version as numbers, empty where it is not known."""
    if isinstance(version, Missing):
        return ()
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def value_of(kind: int, raw: int) -> int | float:
    """The number in the union, by nvmlValueType_t: 0 double, 1 uint, 2 ulong, 3 ull, 4 sll, 5 int, 6 ushort."""
    if kind in UNSIGNED_64:
        return raw
    if kind == 1:
        return raw & 0xFFFFFFFF
    if kind == 0:
        return float(unpack("=d", pack("=Q", raw))[0])
    if kind == 4:
        return raw - (1 << 64) if raw >> 63 else raw
    if kind == 5:
        low = raw & 0xFFFFFFFF
        return low - (1 << 32) if low >> 31 else low
    return raw & 0xFFFF if kind == 6 else raw


class Fields:
    """A set of fields of one GPU, asked in one call. Those that the board or driver lacks leave the set.

    Args:
        wanted: name → field id and scope.
        driver: the driver's version as numbers; without one, renumbered fields are not asked.
    """

    __slots__ = (
        "_absent",
        "_arguments",
        "_array",
        "_function",
        "_handle",
        "_library",
        "_names",
        "_wanted",
        "values",
    )

    def __init__(
        self, library: Library, handle: Any, wanted: Mapping[str, tuple[int, int]], driver: tuple[int, ...]
    ) -> None:
        self._library = library
        self._handle = handle
        self._function = library.function(FUNCTION)
        self._wanted = dict(wanted)
        self._absent: dict[str, Missing] = {}
        if driver < RENUMBERED_SINCE:
            self._absent = {
                name: TOO_OLD_FOR_FIELD for name, (field, _) in wanted.items() if field in RENUMBERED
            }
        if self._function is None:
            self._absent = dict.fromkeys(wanted, codes.missing(FUNCTION_NOT_FOUND))
        self.values: dict[str, Any] = dict(self._absent)
        self._prepare()

    def _prepare(self) -> None:
        self._names = [name for name in self._wanted if name not in self._absent]
        self._array = (FieldValue * len(self._names))()
        for entry, name in zip(self._array, self._names, strict=True):
            entry.field, entry.scope = self._wanted[name]
        self._arguments = (self._handle, c_int(len(self._names)), self._array)

    def read(self) -> dict[str, Any]:
        """Ask; name → number or Missing. The dictionary is filled anew by the next call.

        Raises:
            GpuFault: the call or one of its values says that the whole GPU is gone.
        """
        values = self.values
        if not self._names:
            return values
        code = self._library.run(FUNCTION, self._function, self._arguments)
        if code:
            return self._all_failed(code)
        absent = len(self._absent)
        for name, (kind, failed, raw) in zip(self._names, ENTRY.iter_unpack(self._array), strict=True):
            if failed:
                values[name] = self._failed(name, failed)
            elif kind == 3:
                values[name] = raw
            else:
                values[name] = raw & 0xFFFFFFFF if kind == 1 else value_of(kind, raw)
        if len(self._absent) != absent:
            self._prepare()
        return values

    def _failed(self, name: str, code: int) -> Missing:
        if code in codes.GPU_FAULTS:
            self._library.note(code)
            raise codes.GpuFault(codes.missing(code))
        if code in ABSENT_CODES:
            self._absent[name] = codes.missing(code)
            return self._absent[name]
        if code == codes.INVALID_ARGUMENT:
            # What a driver says to a number that it does not know yet.
            self._absent[name] = UNKNOWN_FIELD
            return UNKNOWN_FIELD
        if code != codes.NO_DATA:
            self._library.note(code)
        return codes.missing(code)

    def _refused(self) -> bool:
        """Whether one field alone spoils the call, which then goes on without it: ask each by itself, once."""
        refused = False
        for entry, name in zip(self._array, self._names, strict=True):
            code = self._library.run(FUNCTION, self._function, (self._handle, c_int(1), byref(entry)))
            if code == codes.INVALID_ARGUMENT:
                self._absent[name] = self.values[name] = UNKNOWN_FIELD
                refused = True
        self._prepare()
        return refused

    def _all_failed(self, code: int) -> dict[str, Any]:
        if code in codes.GPU_FAULTS:
            self._library.note(code)
            raise codes.GpuFault(codes.missing(code))
        if code == codes.INVALID_ARGUMENT and self._refused():
            return self.read()
        reason = codes.missing(code)
        for name in self._names:
            self.values[name] = reason
        if code in ABSENT_CODES:
            self._absent = {**dict.fromkeys(self._wanted, reason), **self._absent}
            self._prepare()
        else:
            self._library.note(code)
        return self.values
