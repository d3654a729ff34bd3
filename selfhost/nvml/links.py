"""NVLink: which links of a GPU are up, and their error counters; by fields in one call, else link by link."""

from __future__ import annotations

from typing import Any

from selfhost.nvml import values
from selfhost.nvml.fields import Fields
from selfhost.nvml.library import Library
from selfhost.nvml.question import Asked
from selfhost.observation import Missing, NvLink, Reading

# NVML_NVLINK_MAX_LINKS of r615.
MOST_LINKS = 36
STATE = "nvmlDeviceGetNvLinkState"
COUNTER = "nvmlDeviceGetNvLinkErrorCounter"
# Reading → its field, and the nvmlNvLinkErrorCounter_t of the call that is older.
COUNTERS = {"replay": (161, 0), "recovery": (162, 1), "crc": (163, 2)}
STATE_FIELD = 165


class Links:
    """The links of one GPU.

    Args:
        count: NVML field 91; where it is absent, links are asked one by one until there is no further one.
    """

    __slots__ = ("_calls", "_count", "_fields", "_handle", "_library")

    def __init__(self, library: Library, handle: Any, count: Reading[int]) -> None:
        self._library = library
        self._handle = handle
        self._count = count
        self._calls: dict[tuple[str, int], Asked[int]] = {}
        known = 0 if isinstance(count, Missing) else min(count, MOST_LINKS)
        wanted = {f"active{link}": (STATE_FIELD, link) for link in range(known)}
        for name, (field, _) in COUNTERS.items():
            wanted |= {f"{name}{link}": (field, link) for link in range(known)}
        self._fields = Fields(library, handle, wanted, ()) if wanted else None

    def read(self) -> Reading[tuple[NvLink, ...]]:
        """Every link, or why there is none to read; an empty tuple where the board says that it has no link.

        Raises:
            GpuFault: the GPU is gone.
        """
        if isinstance(self._count, Missing):
            return self._counted()
        fields = self._fields.read() if self._fields else {}
        return tuple(self._link(link, fields) for link in range(min(self._count, MOST_LINKS)))

    def _counted(self) -> Reading[tuple[NvLink, ...]]:
        """Links up to the first that is not there."""
        found: list[NvLink] = []
        for link in range(MOST_LINKS):
            active = self._state(link)
            if isinstance(active, Missing):
                if not found:
                    return active
                break
            found.append(self._link(link, {f"active{link}": active}))
        return tuple(found)

    def _link(self, link: int, fields: dict[str, Any]) -> NvLink:
        active = fields.get(f"active{link}")
        if active is None or (isinstance(active, Missing) and active.absent):
            active = self._state(link)
        elif not isinstance(active, Missing):
            active = values.flag(int(active))
        counters = {}
        for name, (_, counter) in COUNTERS.items():
            value = fields.get(f"{name}{link}")
            if value is None or (isinstance(value, Missing) and value.absent):
                value = self._asked(COUNTER, link, counter).read()
            counters[name] = value
        return NvLink(
            index=link,
            active=active,
            crc_errors=counters["crc"],
            replay_errors=counters["replay"],
            recovery_errors=counters["recovery"],
        )

    def _state(self, link: int) -> Reading[bool]:
        active = self._asked(STATE, link).read()
        return active if isinstance(active, Missing) else values.flag(active)

    def _asked(self, symbol: str, *inputs: int) -> Asked[int]:
        key = (symbol, inputs[0] * 8 + (inputs[1] if len(inputs) > 1 else 7))
        if key not in self._calls:
            question = (
                values.uint(symbol, inputs=inputs) if symbol == STATE else values.ulong(symbol, inputs=inputs)
            )
            self._calls[key] = Asked(self._library, self._handle, question)
        return self._calls[key]
