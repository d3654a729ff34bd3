"""Everything the monitor asks the machine, as functions that can be given: NVML, /proc, the kernel log, engines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from selfhost.monitor.sources import Sources
from selfhost.observation import (
    EngineAddress,
    EngineSnapshot,
    GpuSnapshot,
    KernelEvent,
    Missing,
    Reading,
    XidEvent,
)

if TYPE_CHECKING:
    from selfhost.node import NodeFacts

Lane = Literal["static", "fast", "slow"]
ALL_LANES: frozenset[Lane] = frozenset(("static", "fast", "slow"))


class DriverReadings(Protocol):
    """What NVML says of the node."""

    @property
    def driver_version(self) -> Reading[str]:
        """Version of the driver."""

    @property
    def nvml_version(self) -> Reading[str]:
        """Version of the library."""

    @property
    def cuda_version(self) -> Reading[str]:
        """Highest CUDA that the driver runs."""

    @property
    def device_count(self) -> Reading[int]:
        """GPUs that NVML counts."""

    @property
    def deaf(self) -> Missing | None:
        """Why Xid events are not heard."""


class Reader(Protocol):
    """NVML once it is initialised. Every call is made in one thread; `current_call` is read from others."""

    @property
    def current_call(self) -> tuple[str, float] | None:
        """Name and monotonic start of the call under way."""

    @property
    def failed_calls(self) -> int:
        """Calls that failed for another reason than an absent reading."""

    def node_readings(self) -> DriverReadings:
        """Versions and the number of GPUs."""

    def poll(
        self, lanes: frozenset[Lane], publish: Callable[[GpuSnapshot], None] | None
    ) -> tuple[GpuSnapshot, ...]:
        """Read every GPU, telling each as soon as it is read."""

    def drain_events(self, at: float) -> tuple[XidEvent, ...]:
        """Xids since the last call, without waiting."""

    def close(self) -> None:
        """Let go of NVML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The machine. No function here raises; what cannot be read comes as a Missing or as nothing.

    Args:
        open_nvml: a reader, or why there is none.
        node_facts: the node apart from its GPUs.
        kernel_log: Xids of the kernel's log, given the time now and the time of the boot.
        attribute: GPUs with the names, containers and pods of their processes filled in.
        find_engines: engines on this node, given the processes on its GPUs; one that the user named under that address.
        scrape: an engine's snapshot, given its address, the seconds it may take, the time and the snapshot before.
        join: engines with the GPUs that their processes hold.
        clock: Unix time.
    """

    open_nvml: Callable[[], Reader | Missing]
    node_facts: Callable[[], NodeFacts]
    kernel_log: Callable[[float, float | None], Reading[tuple[KernelEvent, ...]]]
    attribute: Callable[[tuple[GpuSnapshot, ...]], tuple[GpuSnapshot, ...]]
    find_engines: Callable[[tuple[int, ...]], tuple[EngineAddress, ...]]
    scrape: Callable[[EngineAddress, float, float, EngineSnapshot | None], EngineSnapshot]
    join: Callable[
        [tuple[EngineSnapshot, ...], tuple[GpuSnapshot, ...]],
        tuple[EngineSnapshot, ...],
    ]
    clock: Callable[[], float] = time.time


def machine(sources: Sources) -> Edges:
    """The real ones. Nothing of them is imported before this is called."""
    from selfhost import nvml, probe
    from selfhost.node import (
        ContainerNames,
        PodResources,
        attribute_gpus,
        find_engines,
        node_facts,
        under_names,
    )
    from selfhost.node.kernellog import read_kernel_log

    names = ContainerNames(sources.root)
    pods = PodResources(sources.kubelet_socket)  # looks itself, again and again, whether there is one

    def kernel_log(now: float, booted_at: float | None) -> Reading[tuple[KernelEvent, ...]]:
        if not sources.kernel_log:
            return Missing(missing="the kernel log was not asked for")
        return read_kernel_log(sources.kernel_log_file, now=now, booted_at=booted_at)

    def scrape(
        address: EngineAddress, timeout_seconds: float, now: float, previous: EngineSnapshot | None
    ) -> EngineSnapshot:
        return probe.scrape(
            address, timeout_seconds=timeout_seconds, now=now, previous=previous, canary=sources.canary
        )

    return Edges(
        open_nvml=nvml.open_nvml,
        node_facts=lambda: node_facts(sources.root),
        kernel_log=kernel_log,
        attribute=lambda gpus: attribute_gpus(gpus, sources.root, pods=pods, names=names),
        find_engines=lambda pids: under_names(
            find_engines(pids, sources.root), sources.engines, sources.root
        ),
        scrape=scrape,
        join=probe.join,
    )
