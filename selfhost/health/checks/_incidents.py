"""Xids of NVML and of the kernel log as one list for each GPU, and what belongs to one incident put together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from selfhost.catalog.xids import CLASSES, FOLLOWERS, xid
from selfhost.observation import KernelEvent, Missing, NodeSnapshot

# Xids of one GPU within this time are one incident: the root and its echoes. As NVSentinel groups them; ours.
ECHO_SECONDS = 60.0
# The boot's time is in whole seconds, so a line of its first moments may seem to be from before it.
_BOOT_SLACK_SECONDS = 1.0
_ADDRESS = re.compile(
    r"(?:PCI:)?(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})(?:\.[0-9a-f])?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One Xid. `where` is what the source calls the GPU; `seen_by` is `NVML` or `the kernel log`."""

    at: float
    code: int
    where: str
    seen_by: str
    pid: int | None = None
    process: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Xids of one GPU that belong together; `root` is the one to act on."""

    root: Occurrence
    events: tuple[Occurrence, ...]

    def count(self, code: int) -> int:
        """How often a code stands in it."""
        return sum(event.code == code for event in self.events)


def pci_key(address: str) -> tuple[int, int, int] | None:
    """Domain, bus and device, however the address is written (`0000:18:00`, `00000000:18:00.0`, `PCI:0000:18:00`)."""
    found = _ADDRESS.fullmatch(address.strip())
    return (int(found[1] or "0", 16), int(found[2], 16), int(found[3], 16)) if found else None


def occurrences(node: NodeSnapshot) -> dict[int | None, list[Occurrence]]:
    """Xids since the boot by the index of their GPU, None for GPUs that are not known; oldest first.

    What NVML tells and the kernel log too counts once, as the log has it: it knows the process.
    """
    since = (node.booted_at or 0.0) - _BOOT_SLACK_SECONDS
    places = {pci_key(gpu.identity.pci_address): gpu.identity.index for gpu in node.gpus}
    names = {gpu.identity.uuid: gpu.identity.index for gpu in node.gpus}
    found: dict[int | None, list[Occurrence]] = {}
    log: tuple[KernelEvent, ...] = () if isinstance(node.kernel_log, Missing) else node.kernel_log
    for line in log:
        if line.kind != "xid" or line.at < since:
            continue
        gpu = places.get(pci_key(line.pci_address)) if pci_key(line.pci_address) else None
        found.setdefault(gpu, []).append(
            Occurrence(
                at=line.at,
                code=line.code,
                where=line.pci_address,
                seen_by="the kernel log",
                pid=line.pid,
                process=line.process,
                detail=line.detail,
            )
        )
    for event in node.xids:
        gpu = names.get(event.uuid) if event.uuid is not None else None
        mine = found.setdefault(gpu, [])
        if event.at < since or any(
            line.code == event.xid and line.seen_by != "NVML" and abs(line.at - event.at) <= ECHO_SECONDS
            for line in mine
        ):
            continue
        mine.append(Occurrence(at=event.at, code=event.xid, where=event.uuid or "", seen_by="NVML"))
    return {gpu: sorted(mine, key=lambda event: event.at) for gpu, mine in found.items() if mine}


def incidents(events: list[Occurrence]) -> list[Incident]:
    """Events of one GPU, oldest first, cut where more than a minute passed without any."""
    groups: list[list[Occurrence]] = []
    for event in events:
        if groups and event.at - groups[-1][-1].at <= ECHO_SECONDS:
            groups[-1].append(event)
        else:
            groups.append([event])
    return [Incident(root=min(group, key=_rank), events=tuple(group)) for group in groups]


def _rank(event: Occurrence) -> tuple[bool, int, float]:
    """Codes that only follow from others last, then by severity, then the first."""
    return event.code in FOLLOWERS, CLASSES.index(xid(event.code).severity), event.at
