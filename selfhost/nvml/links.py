"""NVLink: which links of a GPU are up, and their error counters; by fields in one call, else link by link."""

from __future__ import annotations

from typing import Any

from selfhost.nvml import codes, values
from selfhost.nvml.fields import Fields
from selfhost.nvml.library import Library
from selfhost.nvml.question import Asked
from selfhost.observation import Missing, NvLink, Reading

# NVML_NVLINK_MAX_LINKS of r615.
MOST_LINKS = 36
STATE = "nvmlDeviceGetNvLinkState"
COUNTER = "nvmlDeviceGetNvLinkErrorCounter"
# Reading → its field, and for the counters the nvmlNvLinkErrorCounter_t of the older call.
FIELDS = {"active": 165, "crc": 163, "replay": 161, "recovery": 162}
COUNTERS = {"crc": 2, "replay": 0, "recovery": 1}

# Where a reading of a link comes from: a field's name, or a question of its own.
Source = str | Asked[Any]


class Links:
    """The links of one GPU.

    Args:
        count: NVML field 91; where it is absent, links are asked one by one until there is no further one.
    """

    __slots__ = ("_counted", "_fields", "_handle", "_library", "_links", "_none")

    def __init__(self, library: Library, handle: Any, count: Reading[int]) -> None:
        self._library = library
        self._handle = handle
        self._counted = not isinstance(count, Missing)
        known = 0 if isinstance(count, Missing) else min(count, MOST_LINKS)
        self._fields = Fields(
            library,
            handle,
            {f"{name}{link}": (field, link) for link in range(known) for name, field in FIELDS.items()},
            (),
        )
        self._links: list[list[Source]] | None = None
        self._none: Reading[tuple[NvLink, ...]] = ()

    def read(self) -> Reading[tuple[NvLink, ...]]:
        """Every link, or why there is none to read; an empty tuple where the board says that it has no link.

        Raises:
            GpuFault: the GPU is gone.
        """
        fields = self._fields.read()
        links = self._links
        if links is None:
            links = self._sources(fields) if self._counted else self._found()
        if not links:
            return self._none
        return tuple(self._link(link, sources, fields) for link, sources in enumerate(links))

    def _sources(self, fields: dict[str, Any]) -> list[list[Source]]:
        """Fields where the driver has them, calls for what it lacks; decided at the first reading."""
        links: list[list[Source]] = [[] for _ in range(len(fields) // len(FIELDS))]
        for link, sources in enumerate(links):
            for name in FIELDS:
                value = fields[f"{name}{link}"]
                absent = isinstance(value, Missing) and value.absent
                sources.append(self._asked(name, link) if absent else f"{name}{link}")
        self._links = links
        return links

    def _found(self) -> list[list[Source]]:
        """Links up to the first that is not there; found anew where one of them failed for another reason."""
        links: list[list[Source]] = []
        for link in range(MOST_LINKS):
            active = self._asked("active", link).read()
            if isinstance(active, Missing):
                self._none = active
                if active.absent or active.code == codes.INVALID_ARGUMENT:
                    self._links = links
                return links
            links.append([self._asked(name, link) for name in FIELDS])
        self._links = links
        return links

    def _asked(self, name: str, link: int) -> Asked[Any]:
        if name == "active":
            return Asked(self._library, self._handle, values.uint(STATE, convert=values.flag, inputs=(link,)))
        return Asked(self._library, self._handle, values.ulong(COUNTER, inputs=(link, COUNTERS[name])))

    @staticmethod
    def _link(link: int, sources: list[Source], fields: dict[str, Any]) -> NvLink:
        active, crc, replay, recovery = [
            fields[source] if isinstance(source, str) else source.read() for source in sources
        ]
        if not isinstance(active, (bool, Missing)):
            active = values.flag(active)
        return NvLink(
            index=link, active=active, crc_errors=crc, replay_errors=replay, recovery_errors=recovery
        )
