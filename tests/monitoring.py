"""A machine without a machine: a reader, engines and a node for the monitor's tests, each as slow as a test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from prometheus_client.parser import text_string_to_metric_families as parse_text

from selfhost.monitor.edges import Edges, Lane, Reader
from selfhost.node import NodeFacts
from selfhost.observation import (
    EngineAddress,
    EngineSnapshot,
    FastReadings,
    GpuIdentity,
    GpuProcess,
    GpuSnapshot,
    Missing,
    Reading,
    SlowReadings,
    XidEvent,
)

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """What NVML says of the node."""

    driver_version: Reading[str] = "580.95.05"
    nvml_version: Reading[str] = "13.580.95.05"
    cuda_version: Reading[str] = "13.0"
    device_count: Reading[int] = 2
    deaf: Missing | None = None


def identity(index: int) -> GpuIdentity:
    return GpuIdentity(
        index=index,
        uuid=f"GPU-{index:08x}-1111-2222-3333-444444444444",
        pci_address=f"00000000:{0x18 + index:02x}:00.0",
        name="NVIDIA H100 80GB HBM3",
        memory_total_bytes=80 * GIB,
    )


@dataclass(slots=True)
class FakeReader:
    """A reader over GPUs that a test sets; `hang` makes the next call of that name wait until it is let go."""

    count: int = 2
    driver: Driver = field(default_factory=Driver)
    gpus: dict[int, GpuSnapshot] = field(default_factory=dict)
    polls: list[frozenset[Lane]] = field(default_factory=list)
    xids: list[XidEvent] = field(default_factory=list)
    hang_at: int | None = None
    let_go: threading.Event = field(default_factory=threading.Event)
    current_call: tuple[str, float] | None = None
    failed_calls: int = 0
    closed: bool = False
    threads: set[int] = field(default_factory=set)

    def node_readings(self) -> Driver:
        self.threads.add(threading.get_ident())
        return self.driver

    def poll(
        self, lanes: frozenset[Lane], publish: Callable[[GpuSnapshot], None] | None
    ) -> tuple[GpuSnapshot, ...]:
        self.threads.add(threading.get_ident())
        self.polls.append(lanes)
        for index in range(self.count):
            if index == self.hang_at:
                self.current_call = ("nvmlDeviceGetTemperature", time.monotonic())
                self.let_go.wait(120)
                self.current_call = None
            before = self.gpus.get(index) or GpuSnapshot(identity=identity(index))
            if before.fault is None:
                before = self._read(before, index, lanes)
            self.gpus[index] = before
            if publish is not None:
                publish(before)
        return tuple(self.gpus[index] for index in range(self.count))

    def _read(self, gpu: GpuSnapshot, index: int, lanes: frozenset[Lane]) -> GpuSnapshot:
        now = time.time()
        fast = FastReadings(
            utilization_ratio=0.5 + index / 100, temperature_celsius=50 + index, memory_used_bytes=GIB
        )
        gpu = replace(gpu, fast=fast, fast_at=now)
        if "slow" in lanes:
            slow = SlowReadings(processes=(GpuProcess(pid=1000 + index, memory_bytes=GIB),))
            gpu = replace(gpu, slow=slow, slow_at=now)
        return gpu

    def drain_events(self, at: float) -> tuple[XidEvent, ...]:
        found, self.xids = tuple(self.xids), []
        return found

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed = True


def facts() -> NodeFacts:
    return NodeFacts(
        host="gpu-3",
        boot_id="b",
        booted_at=1000.0,
        in_container=False,
        kernel_driver_version="580.95.05",
        device_files=(),
        system_memory_total_bytes=64 * GIB,
        system_memory_available_bytes=32 * GIB,
    )


def named(gpus: tuple[GpuSnapshot, ...]) -> tuple[GpuSnapshot, ...]:
    """Each process named after its pid, the GPU given to a pod."""
    found = []
    for gpu in gpus:
        processes = gpu.slow.processes
        assert not isinstance(processes, Missing)
        known = tuple(replace(process, name=f"p{process.pid}") for process in processes)
        found.append(replace(gpu, slow=replace(gpu.slow, processes=known), pod="llm-0", namespace="llm"))
    return tuple(found)


def answer(
    address: EngineAddress, timeout_seconds: float, now: float, previous: EngineSnapshot | None
) -> EngineSnapshot:
    tokens = 0 if previous is None or isinstance(previous.generation_tokens, Missing) else 100
    return EngineSnapshot(
        name=address.url,
        url=address.url,
        engine=address.engine or "vllm",
        at=now,
        pids=address.pids,
        metrics_age_seconds=0.0,
        health_status=200,
        generation_tokens=tokens,
    )


def edges(
    reader: Reader | Missing | Callable[[], Reader | Missing],
    *,
    find: Callable[[tuple[int, ...]], tuple[EngineAddress, ...]] = lambda pids: (),
    scrape: Callable[[EngineAddress, float, float, EngineSnapshot | None], EngineSnapshot] = answer,
) -> Edges:
    return Edges(
        open_nvml=reader if callable(reader) else lambda: reader,
        node_facts=facts,
        kernel_log=lambda now, booted_at: (),
        attribute=named,
        find_engines=find,
        scrape=scrape,
        join=lambda engines, gpus: engines,
    )


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name, as prometheus_client's parser reads them, but for the `_total` that it adds to counters."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parse_text(text):
        for sample in family.samples:
            name = sample.name.removesuffix("_total") if sample.name.startswith("DCGM") else sample.name
            found.setdefault(name, []).append((sample.labels, sample.value))
    return found


def value(text: str, name: str, **labels: str) -> float:
    fitting = [number for own, number in samples(text)[name] if labels.items() <= own.items()]
    assert len(fitting) == 1, (name, labels, fitting)
    return fitting[0]
