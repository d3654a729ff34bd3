"""The GPUs of this machine: which kinds the catalogue knows, and which of them nobody uses."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.catalog.gpus import find_gpu
from selfhost.errors import UnknownGpuError
from selfhost.observation import GpuSnapshot, known
from selfhost.units import GIB

_LOOK_SECONDS = 10.0
# Ours: less than this is a display or a monitor; an engine takes many times as much.
_IDLE_BYTES = GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU of this machine.

    Args:
        gpu_id: of the catalogue.
        uuid: of the driver.
        free: nobody uses it.
    """

    gpu_id: str
    uuid: str
    free: bool


def devices() -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """NVIDIA's GPUs that are here and that the catalogue knows, and the names of those that it does not know."""
    from selfhost.monitor import Sources, observe_once

    seen = observe_once(Sources(discover_engines=False, kernel_log=False), deadline_seconds=_LOOK_SECONDS)
    found, strange = [], []
    for gpu in seen.node.gpus:
        name = gpu.identity.name
        if not known(name):
            continue
        try:
            card = find_gpu(name)
        except UnknownGpuError:
            strange.append(name)
            continue
        found.append(Device(gpu_id=card.id, uuid=gpu.identity.uuid, free=_is_free(gpu)))
    return tuple(found), tuple(strange)


def _is_free(gpu: GpuSnapshot) -> bool:
    used = gpu.fast.memory_used_bytes
    return gpu.fault is None and not (known(used) and used > _IDLE_BYTES)
