"""Which GPUs an engine runs on: as the user named them, by its processes, or because nothing else is possible."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from selfhost.observation import EngineSnapshot, GpuProcess, GpuSnapshot, Missing, Reading, known

_NUMBER = re.compile(r"\d+")
_HINT = "name them: --engine URL=0,1"


def join(engines: Sequence[EngineSnapshot], gpus: Sequence[GpuSnapshot]) -> tuple[EngineSnapshot, ...]:
    """Fill `gpu_uuids` of every engine, in the order of the GPUs; a Missing says why it cannot be done.

    Args:
        engines: as `scrape` made them: `gpu_uuids` holds the GPUs as the user named them, if any were.
        gpus: of this node.
    """
    return tuple(replace(engine, gpu_uuids=_gpus_of(engine, engines, gpus)) for engine in engines)


def _gpus_of(
    engine: EngineSnapshot, engines: Sequence[EngineSnapshot], gpus: Sequence[GpuSnapshot]
) -> Reading[tuple[str, ...]]:
    if not gpus:
        return Missing(missing="no GPU can be seen from here")
    if known(engine.gpu_uuids) and engine.gpu_uuids:
        return _named(engine.gpu_uuids, gpus)
    own = tuple(gpu.identity.uuid for gpu in gpus if _pids(gpu) & set(engine.pids))
    if own:
        return own
    return _only(engine, engines, gpus)


def _pids(gpu: GpuSnapshot) -> set[int]:
    processes = gpu.slow.processes
    return {process.pid for process in processes} if known(processes) else set()


def _named(names: tuple[str, ...], gpus: Sequence[GpuSnapshot]) -> Reading[tuple[str, ...]]:
    """Indices, UUIDs (of a MIG instance too) or PCI addresses as UUIDs of GPUs."""
    found: set[str] = set()
    for name in names:
        match = next((gpu.identity.uuid for gpu in gpus if _is(gpu, name.strip())), None)
        if match is None:
            return Missing(missing=f"there is no GPU {name.strip()[:60]!r} on this node")
        found.add(match)
    return tuple(gpu.identity.uuid for gpu in gpus if gpu.identity.uuid in found)


def _is(gpu: GpuSnapshot, name: str) -> bool:
    identity = gpu.identity
    if name.isdecimal():
        return identity.index == int(name)
    spellings = {identity.uuid.lower(), identity.pci_address.lower()}
    return name.lower() in spellings | {instance.uuid.lower() for instance in gpu.slow.mig}


def _only(
    engine: EngineSnapshot, engines: Sequence[EngineSnapshot], gpus: Sequence[GpuSnapshot]
) -> Reading[tuple[str, ...]]:
    """One engine on this node, and GPUs that can be nobody else's."""
    if len(engines) > 1:
        return Missing(missing=f"{len(engines)} engines and no process of this one on a GPU: {_HINT}")
    if not engine.pids and not _is_here(engine.url):
        return Missing(missing=f"it may run on another machine: {_HINT}")
    if len(gpus) == 1 and not _strangers(engine, gpus[0]):
        return (gpus[0].identity.uuid,)
    used = [gpu for gpu in gpus if _possible(engine, gpu)]
    owners = {_owner(process) for gpu in used for process in _possible(engine, gpu)}
    if len(owners) == 1:
        return tuple(gpu.identity.uuid for gpu in used)
    if owners:
        return Missing(missing=f"processes of {len(owners)} owners on the GPUs: {_HINT}")
    return Missing(missing=f"no process of this engine on any of {len(gpus)} GPUs: {_HINT}")


def _possible(engine: EngineSnapshot, gpu: GpuSnapshot) -> list[GpuProcess]:
    """Processes that may be the engine's. One that /proc shows, and that is not among the engine's own, is not."""
    processes = gpu.slow.processes
    if not known(processes):
        return []
    return [
        process
        for process in processes
        if process.kind == "compute" and not (engine.pids and process.name is not None)
    ]


def _strangers(engine: EngineSnapshot, gpu: GpuSnapshot) -> bool:
    """Whether the GPU has processes, and all of them are certainly others'."""
    return bool(_pids(gpu)) and not _possible(engine, gpu)


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _owner(process: GpuProcess) -> tuple[str | None, ...]:
    """Whose a process is: container, pod, unit and program; the ranks of one engine differ in a number."""
    return (process.container_id, process.pod_uid, process.unit, _NUMBER.sub("", process.name or ""))
