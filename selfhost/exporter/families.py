"""An observation -> metric families of prometheus_client, by the table of selfhost.metrics. Pure.

A reading that is missing has no series. A GPU with a fault has its identity, `up` 0 and nothing that was read before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from selfhost import __version__
from selfhost.health import Check, Level
from selfhost.metrics import (
    CLOCK_REASONS,
    ECC_KINDS,
    ENGINE_METRICS,
    GPU_METRICS,
    HELD_DOWN_REASONS,
    METRICS,
    NVLINK_KINDS,
    Metric,
)
from selfhost.observation import EngineSnapshot, GpuSnapshot, Missing, Observation, Reading, known

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

LEVEL_NUMBERS: Mapping[Level, int] = {"ok": 0, "warn": 1, "critical": 2, "unknown": 3}
_WORST_FIRST: tuple[Level, ...] = ("critical", "warn", "unknown", "ok")
_TABLE = {metric.name: metric for metric in METRICS}
# Of whose series the labels never change, so that an alert on them goes on when a pod does not.
_WITHOUT_OWNER = frozenset(("selfhost_gpu_up", "selfhost_gpu_info"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineExtra:
    """What the checks know of an engine besides its snapshot.

    Args:
        wedged: None where it could not be judged.
        predicted, actual: bytes of each term of the memory plan on the fullest GPU.
    """

    wedged: bool | None = None
    predicted: tuple[tuple[str, int], ...] = ()
    actual: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is exported besides the observation.

    Args:
        checks: the node's checks, None where they could not be run.
        verdict: of the node.
        gpus_expected: what the baseline says.
        xids: Xids counted since the start, by UUID and code.
        engines: by address.
        engine_fresh_seconds: how old metrics may be for the engine to count as up.
    """

    checks: tuple[Check, ...] | None = None
    verdict: Level = "unknown"
    gpus_expected: int | None = None
    xids: Mapping[tuple[str, int], int]
    engines: Mapping[str, EngineExtra]
    engine_fresh_seconds: float


class Families:
    """Families in the table's order, made when the first sample comes."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def add(self, name: str, labels: dict[str, str], value: float) -> None:
        """One sample; `name` has to stand in the table."""
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = _family(_TABLE[name])
        family.add_sample(name, labels, value)

    def collect(self) -> list[Family]:
        """All that have samples."""
        return [self._families[name] for name in _TABLE if name in self._families]


def _family(metric: Metric) -> Family:
    from prometheus_client.core import Metric as Family

    base = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    base = base.removesuffix("_info") if metric.kind == "info" else base
    return Family(base, metric.help, metric.kind)


def families(observation: Observation, judged: Judged) -> list[Family]:
    """Everything but the ages, which are of the moment of a scrape."""
    out = Families()
    for gpu in observation.node.gpus:
        _gpu(out, gpu, judged)
    for engine in observation.engines:
        _engine(out, engine, judged)
    _node(out, observation, judged)
    return out.collect()


def gpu_labels(gpu: GpuSnapshot) -> dict[str, str]:
    """What names a GPU, whatever becomes of it."""
    who = gpu.identity
    return {"gpu": str(who.index), "uuid": who.uuid, "pci_address": who.pci_address, "model": who.name}


def owner_labels(namespace: str | None, pod: str | None, container: str | None) -> dict[str, str]:
    """Whose it is, as far as that is known."""
    named = {"namespace": namespace, "pod": pod, "container": container}
    return {name: value for name, value in named.items() if value}


@cache
def getter(path: str) -> Any:
    """Reads a dotted path."""
    return attrgetter(path)


def read(thing: object, path: str) -> float | None:
    """The number at a path; None where it is missing or not a number. True is 1."""
    value = getter(path)(thing)
    if isinstance(value, (bool, int, float)):
        return float(value)
    return None


def _gpu(out: Families, gpu: GpuSnapshot, judged: Judged) -> None:
    named = gpu_labels(gpu)
    owned = named | owner_labels(gpu.namespace, gpu.pod, gpu.container)
    out.add("selfhost_gpu_up", named, float(gpu.fault is None))
    facts = {name: getattr(gpu.identity, name) for name in _TABLE["selfhost_gpu_info"].labels}
    told = {name: value for name, value in facts.items() if known(value)}
    out.add("selfhost_gpu_info", named | told, 1)
    for metric in GPU_METRICS:
        if metric.path is None or not (gpu.fault is None or metric.path.startswith("identity.")):
            continue
        value = read(gpu, metric.path)
        if value is not None:
            out.add(metric.name, owned, value * metric.factor)
    for (uuid, xid), count in judged.xids.items():
        if uuid == gpu.identity.uuid:
            out.add("selfhost_gpu_xid_errors_total", named | {"xid": str(xid)}, count)
    if gpu.fault is None:
        _clocks(out, gpu, owned)
        _errors(out, gpu, owned)
        _parts(out, gpu, named)


def _clocks(out: Families, gpu: GpuSnapshot, labels: dict[str, str]) -> None:
    mask = gpu.fast.clock_reasons
    if known(mask):
        names = dict(CLOCK_REASONS)
        # A bit that a newer driver sets is shown as it is.
        names |= {1 << bit: hex(1 << bit) for bit in range(64) if mask >> bit & 1 and 1 << bit not in names}
        for bit, name in names.items():
            out.add("selfhost_gpu_clock_reason_active", labels | {"reason": name}, float(bool(mask & bit)))
    for name, field in HELD_DOWN_REASONS.items():
        _add(
            out,
            "selfhost_gpu_clock_held_down_seconds_total",
            labels | {"reason": name},
            getattr(gpu.fast.held_down, field),
        )


def _errors(out: Families, gpu: GpuSnapshot, labels: dict[str, str]) -> None:
    for kind, field in ECC_KINDS.items():
        _add(out, "selfhost_gpu_ecc_errors_total", labels | {"kind": kind}, getattr(gpu.slow.ecc, field))
    for link in gpu.slow.nvlinks if known(gpu.slow.nvlinks) else ():
        number = labels | {"link": str(link.index)}
        _add(out, "selfhost_gpu_nvlink_up", number, link.active)
        for kind, field in NVLINK_KINDS.items():
            _add(out, "selfhost_gpu_nvlink_errors_total", number | {"kind": kind}, getattr(link, field))


def _parts(out: Families, gpu: GpuSnapshot, named: dict[str, str]) -> None:
    """MIG instances and processes, each with its own owner."""
    for mig in gpu.slow.mig:
        labels = named | {
            "mig_uuid": mig.uuid,
            "profile": mig.profile if known(mig.profile) else "",
            "instance": f"{mig.gpu_instance}/{mig.compute_instance}",
        }
        labels |= owner_labels(mig.namespace, mig.pod, mig.container)
        _add(out, "selfhost_gpu_mig_memory_total_bytes", labels, mig.memory_total_bytes)
        _add(out, "selfhost_gpu_mig_memory_used_bytes", labels, mig.memory_used_bytes)
    memory: dict[tuple[tuple[str, str], ...], int] = {}
    for process in gpu.slow.processes if known(gpu.slow.processes) else ():
        if not known(process.memory_bytes):
            continue
        labels = named | {"pid": str(process.pid), "process": process.name or ""}
        labels |= owner_labels(process.namespace, process.pod, process.container)
        # A process with a compute and a graphics context is listed twice, with the same memory.
        key = tuple(labels.items())
        memory[key] = max(memory.get(key, 0), process.memory_bytes)
    for key, size in memory.items():
        out.add("selfhost_gpu_process_memory_bytes", dict(key), size)


def _engine(out: Families, engine: EngineSnapshot, judged: Judged) -> None:
    labels = {"engine": engine.engine, "url": engine.url}
    if known(engine.model):
        labels["served_model"] = engine.model
    up = known(engine.metrics_age_seconds) and engine.metrics_age_seconds <= judged.engine_fresh_seconds
    extra = judged.engines.get(engine.url, EngineExtra())
    out.add("selfhost_engine_up", labels, float(up))
    out.add("selfhost_engine_healthy", labels, float(engine.health_status == 200))
    if known(engine.gpu_uuids):
        out.add("selfhost_engine_gpus", labels, len(engine.gpu_uuids))
    if extra.wedged is not None:
        out.add("selfhost_engine_wedged", labels, float(extra.wedged))
    for metric in ENGINE_METRICS if up else ():
        if metric.path is not None and (value := read(engine, metric.path)) is not None:
            out.add(metric.name, labels, value * metric.factor)
    for term, size in extra.predicted:
        out.add("selfhost_engine_memory_predicted_bytes", labels | {"term": term}, size)
    for term, size in extra.actual:
        out.add("selfhost_engine_memory_actual_bytes", labels | {"term": term}, size)


def _node(out: Families, observation: Observation, judged: Judged) -> None:
    node = observation.node
    out.add("selfhost_build_info", {"version": __version__}, 1)
    versions = {name: getattr(node, name) for name in _TABLE["selfhost_driver_info"].labels}
    told = {name: value for name, value in versions.items() if known(value)}
    if told:
        out.add("selfhost_driver_info", told, 1)
    out.add("selfhost_nvml_up", {}, float(node.nvml.fault is None))
    if node.nvml.poll_seconds is not None:
        out.add("selfhost_nvml_poll_seconds", {}, node.nvml.poll_seconds)
    out.add("selfhost_nvml_failed_calls_total", {}, node.nvml.failed_calls)
    _add(out, "selfhost_gpus", {}, node.device_count)
    if judged.gpus_expected is not None:
        out.add("selfhost_gpus_expected", {}, judged.gpus_expected)
    for (code, gpu), level in _worst(judged.checks or ()).items():
        out.add("selfhost_check_level", {"code": code, "gpu": gpu}, LEVEL_NUMBERS[level])
    out.add("selfhost_health_level", {}, LEVEL_NUMBERS[judged.verdict])


def _worst(checks: Iterable[Check]) -> dict[tuple[str, str], Level]:
    """One level for each code and GPU: several engines or links share a code, and a series can stand only once."""
    found: dict[tuple[str, str], Level] = {}
    for check in checks:
        if check.level == "skipped":
            continue
        key = (check.code, "" if check.gpu is None else str(check.gpu))
        if key not in found or _WORST_FIRST.index(check.level) < _WORST_FIRST.index(found[key]):
            found[key] = check.level
    return found


def _add(out: Families, name: str, labels: dict[str, str], reading: Reading[Any]) -> None:
    if not isinstance(reading, Missing):
        out.add(name, labels, float(reading))
