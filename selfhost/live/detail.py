"""One item in full: every reading of a GPU, with the reason of each that is missing; an engine; a process; a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from selfhost.health.types import Check
from selfhost.live import words
from selfhost.live.panels.engines import gpus_text
from selfhost.live.panels.processes import NOT_VISIBLE, place
from selfhost.live.rates import Traffic
from selfhost.live.seen import EngineLine, GpuLine, ProcessLine, Seen
from selfhost.observation import GpuProcess, MigInstance, Missing, NodeSnapshot, Reading, known

T = TypeVar("T")
# Name and value; a name alone is the title of a group.
Fact = tuple[str, str]


def detail(seen: Seen, key: str | None) -> tuple[str, list[Fact]]:
    """Title and facts of the row that a key names; nothing where it is gone."""
    kind, _, name = (key or "").partition("/")
    for gpu in seen.gpus:
        uuids = {gpu.gpu.identity.uuid, *(instance.uuid for instance in gpu.gpu.slow.mig)}
        if kind in ("gpu", "mig") and name in uuids:
            return gpu.gpu.label, gpu_facts(gpu, seen.observation.node)
    for engine in seen.engines:
        if kind == "engine" and name == engine.engine.url:
            return f"engine {engine.engine.name}", engine_facts(engine)
    for process in seen.processes:
        if key == process.key:
            return f"process {process.process.pid}", process_facts(process)
    if kind == "check" and seen.health:
        at = int(name.rpartition("/")[2]) if name.rpartition("/")[2].isdigit() else -1
        if 0 <= at < len(seen.health.checks):
            return f"check {seen.health.checks[at].code}", check_facts(seen.health.checks[at])
    return "nothing is selected", [("", "What was selected is gone; Esc goes back.")]


def _say(reading: Reading[T], form: Callable[[T], str] = str) -> str:
    """A reading, or why there is none."""
    return f"{words.MISSING} {words.why(reading)}" if isinstance(reading, Missing) else form(reading)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _gib(value: float) -> str:
    return f"{words.gibs(value)} GiB"


def _with(unit: str, digits: int = 0) -> Callable[[float], str]:
    return lambda value: f"{value:,.{digits}f} {unit}"


def _traffic(found: Traffic) -> str:
    def one(reading: Reading[float]) -> str:
        return _say(reading, lambda value: f"{words.byte_rate(value)}B/s")

    both = (found.received, found.sent)
    if all(isinstance(reading, Missing) for reading in both) and found.received == found.sent:
        return one(found.received)
    return f"in {one(found.received)}, out {one(found.sent)}"


def gpu_facts(line: GpuLine, node: NodeSnapshot) -> list[Fact]:
    """Every reading of one GPU."""
    gpu = line.gpu
    found: list[Fact] = []
    if gpu.fault is not None:
        found += [
            (words.fault_word(gpu.fault), words.why(gpu.fault)),
            ("", "Everything below was read before."),
        ]
    found += _found_of(line.checks)
    found += [*_work(line, node), *_board(line), *_trouble(line), *_identity(line)]
    if gpu.slow.mig:
        found += [("MIG instances", ""), *(_mig(instance) for instance in gpu.slow.mig)]
    found.append(("Processes", ""))
    processes = gpu.slow.processes
    if isinstance(processes, Missing):
        return [*found, ("", _say(processes))]
    return found + ([(str(one.pid), _process(one)) for one in processes] or [("", "none")])


def _found_of(checks: Iterable[Check]) -> list[Fact]:
    bad = [check for check in checks if check.level in ("critical", "warn", "unknown")]
    lines = [(words.LEVEL_WORDS[check.level], _sentence(check)) for check in bad]
    return [("Findings", ""), *lines] if lines else []


def _sentence(check: Check) -> str:
    action = words.ACTIONS[check.action]
    return f"{check.message} → {action}" if action else check.message


def _work(line: GpuLine, node: NodeSnapshot) -> list[Fact]:
    gpu, fast, slow = line.gpu, line.gpu.fast, line.gpu.slow
    reasons = _say(fast.clock_reasons, lambda mask: words.clock_reasons(mask) or "nothing")
    memory = words.memory(gpu, node)
    used = _say(fast.memory_used_bytes, _gib)
    if memory and memory[2]:
        used = f"{_gib(memory[0])} of {_gib(memory[1])} main memory, which the board shares"
    return [
        ("Work", ""),
        ("utilization", _say(fast.utilization_ratio, words.percent)),
        ("SM activity", _say(fast.sm_activity_ratio, words.percent)),
        ("tensor activity", _say(fast.tensor_activity_ratio, words.percent)),
        ("DRAM activity", _say(fast.memory_activity_ratio, words.percent)),
        ("memory busy", _say(fast.memory_busy_ratio, words.percent)),
        ("encoder, decoder", f"{_say(slow.encoder_ratio, words.percent)}, {_say(slow.decoder_ratio, words.percent)}"),
        ("Memory", ""),
        ("used", used),
        ("free", _say(fast.memory_free_bytes, _gib)),
        ("driver's reserve", _say(fast.memory_reserved_bytes, _gib)),
        ("total", _say(gpu.identity.memory_total_bytes, _gib)),
        ("Power and heat", ""),
        ("power", _say(fast.power_watts, _with("W"))),
        ("limit", _say(slow.power_limit_watts, _with("W"))),
        ("energy", _say(fast.energy_joules, lambda joules: f"{joules / 3.6e6:,.2f} kWh since the driver was loaded")),
        ("temperature", _say(fast.temperature_celsius, _with("°C"))),
        ("to slowdown", _say(slow.margin_celsius, _with("°C"))),
        ("memory", _say(fast.memory_temperature_celsius, _with("°C"))),
        ("fan", _say(slow.fan_ratio, words.percent)),
        ("Clocks", ""),
        ("SM", f"{_say(fast.sm_clock_mhz, _with('MHz'))} of {_say(gpu.identity.sm_clock_max_mhz, _with('MHz'))}"),
        ("memory", _say(fast.memory_clock_mhz, _with("MHz"))),
        ("held by", reasons),
        *_held(line),
    ]  # fmt: skip


def _held(line: GpuLine) -> list[Fact]:
    held = line.gpu.fast.held_down
    readings: tuple[tuple[str, Reading[float]], ...] = (
        ("power cap", held.power_cap_seconds),
        ("thermal", held.thermal_seconds),
        ("power brake", held.power_brake_seconds),
    )
    return [
        (f"… by {name}", _say(reading, lambda value: f"{words.age(value)} since the driver was loaded"))
        for name, reading in readings
    ]


def _board(line: GpuLine) -> list[Fact]:
    gpu, slow = line.gpu, line.gpu.slow
    links = _say(
        slow.nvlinks,
        lambda found: f"{sum(1 for link in found if link.active is True)} of {len(found)} up",
    )
    pcie = f"generation {_say(slow.pcie_generation)} of {_say(gpu.identity.pcie_max_generation)}"
    lanes = f"{_say(slow.pcie_width)} of {_say(gpu.identity.pcie_max_width)} lanes"
    return [
        ("Links", ""),
        ("PCIe", f"{pcie}, {lanes}"),
        ("PCIe traffic", _traffic(line.pcie)),
        ("PCIe replays", _say(slow.pcie_replays)),
        ("NVLinks", links),
        ("NVLink traffic", _traffic(line.nvlink)),
        ("fabric", _say(slow.fabric, lambda state: f"state {state.state}, status {state.status}")),
    ]


def _trouble(line: GpuLine) -> list[Fact]:
    fast, slow = line.gpu.fast, line.gpu.slow
    ecc, rows = slow.ecc, slow.remapped
    return [
        ("Errors and modes", ""),
        ("recovery action", _say(fast.recovery_action)),
        ("ECC", f"{_say(slow.ecc_enabled, _on)}, after a reset {_say(slow.ecc_pending, _on)}"),
        ("uncorrected", _errors(ecc.volatile_uncorrected, ecc.aggregate_uncorrected)),
        ("corrected", _errors(ecc.volatile_corrected, ecc.aggregate_corrected)),
        ("remapped rows", f"{_say(rows.uncorrected)} (uncorrected), {_say(rows.corrected)} (corrected)"),
        ("remap pending", _say(rows.pending, _yes)),
        ("remap failed", _say(rows.failed, _yes)),
        ("retired pages", _say(slow.retired_pages)),
        ("persistence", _say(slow.persistence, _on)),
        ("MIG", f"{_say(slow.mig_enabled, _on)}, after a reset {_say(slow.mig_pending, _on)}"),
        ("P-state", _say(slow.performance_state, lambda state: f"P{state}")),
    ]


def _errors(volatile: Reading[int], aggregate: Reading[int]) -> str:
    return f"{_say(volatile)} since the driver was loaded, {_say(aggregate)} in the board's life"


def _on(value: bool) -> str:
    return "on" if value else "off"


def _identity(line: GpuLine) -> list[Fact]:
    gpu = line.gpu
    one = gpu.identity
    holder = "/".join(part for part in (gpu.namespace, gpu.pod, gpu.container) if part)
    return [
        ("Identity", ""),
        ("name", one.name),
        ("UUID", one.uuid),
        ("PCI", one.pci_address),
        ("serial", _say(one.serial)),
        ("device file", _say(one.minor, lambda minor: f"/dev/nvidia{minor}")),
        ("VBIOS", _say(one.vbios)),
        ("architecture", f"{_say(one.architecture)}, compute capability {_say(one.compute_capability)}"),
        ("given to", holder or "nobody that the kubelet told of"),
        ("read", f"{_moment(gpu.fast_at)}; slow readings {_moment(gpu.slow_at)}"),
    ]


def _moment(at: float | None) -> str:
    return "not yet" if at is None else words.clock(at)


def _mig(instance: MigInstance) -> Fact:
    memory = f"{_say(instance.memory_used_bytes, _gib)} of {_say(instance.memory_total_bytes, _gib)}"
    holder = "/".join(part for part in (instance.namespace, instance.pod, instance.container) if part)
    number = f"{instance.gpu_instance}/{instance.compute_instance}"
    return number, f"{_say(instance.profile)}, {memory}, {instance.uuid}{f', {holder}' if holder else ''}"


def _process(one: GpuProcess) -> str:
    parts = [one.name or NOT_VISIBLE, _say(one.memory_bytes, _gib), place(one), one.unit or ""]
    return ", ".join(part for part in parts if part)


def process_facts(line: ProcessLine) -> list[Fact]:
    """Everything known of one process."""
    one = line.process
    rows = {
        "GPU": line.gpu.label,
        "MIG instance": None if one.mig_instance is None else str(one.mig_instance),
        "command": one.name or f"{NOT_VISIBLE}: the pid is of the host's namespace",
        "memory": _say(one.memory_bytes, _gib),
        "kind": one.kind,
        "namespace": one.namespace,
        "pod": one.pod,
        "pod UID": one.pod_uid,
        "container": one.container,
        "container id": one.container_id,
        "unit": one.unit,
    }
    return [(name, value) for name, value in rows.items() if value]


def engine_facts(line: EngineLine) -> list[Fact]:
    """Everything known of one engine."""
    engine, found, cache = line.engine, line.rates, line.engine.cache
    rate = _with("tokens/s", 1)
    hits = words.MISSING
    if known(engine.prefix_hits) and known(engine.prefix_queries) and engine.prefix_queries:
        hits = words.percent(engine.prefix_hits / engine.prefix_queries)
    return [
        ("Verdict", ""),
        *((words.LEVEL_WORDS[check.level], _sentence(check)) for check in line.checks),
        ("Now", ""),
        ("health path", _say(engine.health_status)),
        ("metrics read", _say(engine.metrics_age_seconds, lambda value: f"{words.age(value)} ago")),
        ("KV cache used", _say(engine.kv_usage_ratio, words.percent)),
        ("running", _say(engine.running)),
        ("waiting", _say(engine.waiting)),
        ("prompt", _say(found.prompt, rate)),
        ("generated", _say(found.generation, rate)),
        ("TTFT, mean", _say(found.first_token_seconds, words.seconds)),
        ("preempted", f"{_say(engine.preemptions)} since its start"),
        ("asleep", _say(engine.sleeping, _yes)),
        ("prefix cache hits", hits),
        ("Engine", ""),
        ("kind", engine.engine),
        ("version", _say(engine.version)),
        ("model", _say(engine.model)),
        ("address", engine.url),
        ("processes", ", ".join(map(str, engine.pids)) or "not seen from here"),
        ("GPUs", _say(engine.gpu_uuids, lambda _: gpus_text(line))),
        ("KV cache", f"{_say(cache.gpu_blocks)} blocks of {_say(cache.block_tokens)} tokens"),
        ("memory share", _say(cache.gpu_memory_utilization)),
    ]


def check_facts(check: Check) -> list[Fact]:
    """One check in full."""
    rows = {
        "level": words.LEVEL_WORDS[check.level],
        "gpu": None if check.gpu is None else str(check.gpu),
        "what it says": check.message,
        "evidence": check.evidence,
        "what to do": words.ACTIONS[check.action] or "nothing",
        "source": check.source,
    }
    return [(name, value) for name, value in rows.items() if value]
