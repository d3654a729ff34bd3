"""The list of GPUs: one line each, MIG instances under theirs, a lost GPU as a loud line of words."""

from __future__ import annotations

from selfhost.live import words
from selfhost.live.glyphs import Glyphs, bar, spark
from selfhost.live.layout import DIM, LEVEL_STYLES, LOUD, Cell, Column, Row
from selfhost.live.rates import Traffic
from selfhost.live.seen import GpuLine, Seen
from selfhost.observation import MigInstance, Missing, NodeSnapshot, Reading, number

SPARK = 12
COLUMNS = (
    Column(head=" gpu", width=4),
    Column(head="name", width=14, rank=7, grow=True, most=26),
    Column(head="util", width=4, right=True),
    Column(head="last", width=SPARK, rank=9, sortable=False),
    Column(head="GiB", width=11, rank=1, right=True),
    Column(head="", width=8, rank=10, sortable=False),
    Column(head="power W", width=8, rank=2, right=True),
    Column(head="temp", width=7, rank=2, right=True),
    Column(head="MHz", width=4, rank=4, right=True),
    Column(head="tensor", width=6, rank=5, right=True),
    Column(head="DRAM", width=4, rank=6, right=True),
    Column(head="clocks held by", width=14, rank=3, grow=True, most=24),
    Column(head="PCIe in/out", width=11, rank=8, right=True),
    Column(head="NVLink in/out", width=13, rank=9, right=True),
    Column(head="given to", width=16, rank=11, grow=True, most=40),
)
Value = float | str | None
Made = list[tuple[tuple[Value, ...], list[Row]]]


def rows(seen: Seen, glyphs: Glyphs) -> Made:
    """Rows of every GPU, with the values of its columns to sort by."""
    node = seen.observation.node
    return [(_values(line, node), _block(line, node, glyphs)) for line in seen.gpus]


def _block(line: GpuLine, node: NodeSnapshot, glyphs: Glyphs) -> list[Row]:
    gpu, index = line.gpu, line.gpu.identity.index
    symbol = glyphs.level(line.level) if line.level else glyphs.skipped
    searched = "\n".join(
        filter(None, (gpu.identity.uuid, gpu.identity.name, gpu.identity.pci_address, *_holders(line)))
    )
    first = Cell(text=f"{symbol} {index:>2}", style=LEVEL_STYLES.get(line.level or "skipped", ""))
    key = f"gpu/{gpu.identity.uuid}"
    if gpu.fault is not None:
        last = f", last read {words.clock(gpu.fast_at)}" if gpu.fast_at is not None else ""
        name = words.short_name(gpu.identity.name)
        text = f"{words.fault_word(gpu.fault)}: {words.why(gpu.fault)}{last}; {name} {gpu.identity.uuid}"
        return [Row(key=key, cells=(first,), spread=Cell(text=text), style=LOUD, searched=searched)]
    made = [Row(key=key, cells=(first, *_cells(line, node, glyphs)), searched=searched)]
    return made + [_mig(instance, line, glyphs, searched) for instance in gpu.slow.mig]


def _cells(line: GpuLine, node: NodeSnapshot, glyphs: Glyphs) -> tuple[Cell, ...]:
    gpu, fast = line.gpu, line.gpu.fast
    memory = words.memory(gpu, node)
    mask = number(fast.clock_reasons)
    history = [number(one.fast.utilization_ratio) if one.fault is None else None for one in line.past]
    return (
        Cell(text=words.short_name(gpu.identity.name)),
        _cell(words.shown(fast.utilization_ratio, words.percent), "bold"),
        Cell(text=spark(history, SPARK, 1.0, glyphs), style="cyan"),
        _cell(words.memory_text(gpu, node)),
        Cell(text=bar(memory[0] / memory[1] if memory and memory[1] else None, 8, glyphs), style="blue"),
        _cell(words.power_text(gpu)),
        _cell(words.temperature_text(gpu, glyphs.degree)),
        _cell(words.shown(fast.sm_clock_mhz, str)),
        _cell(words.shown(fast.tensor_activity_ratio, words.percent)),
        _cell(words.shown(fast.memory_activity_ratio, words.percent)),
        Cell(text=words.MISSING, style=DIM)
        if mask is None
        else Cell(
            text=words.clock_reasons(mask),
            style="bold yellow" if mask & words.TROUBLED_REASONS else "" if mask & ~1 else DIM,
        ),
        _cell(_pair(line.pcie)),
        _cell(_pair(line.nvlink)),
        Cell(text=owner(gpu.namespace, gpu.pod, gpu.container)),
    )


def _cell(text: str, style: str = "") -> Cell:
    return Cell(text=text, style=DIM if text == words.MISSING else style)


def _pair(traffic: Traffic) -> str:
    received = words.shown(traffic.received, words.byte_rate)
    sent = words.shown(traffic.sent, words.byte_rate)
    return words.MISSING if received == sent == words.MISSING else f"{received}/{sent}"


def owner(namespace: str | None, pod: str | None, container: str | None) -> str:
    """`namespace/pod`, or the container where there is no pod; empty where nobody is known."""
    if pod:
        return f"{namespace}/{pod}" if namespace else pod
    return container or ""


def _holders(line: GpuLine) -> list[str | None]:
    """Everybody who uses a GPU, for the filter."""
    gpu = line.gpu
    found: list[str | None] = [gpu.pod, gpu.namespace, gpu.container]
    for instance in gpu.slow.mig:
        found += [instance.uuid, instance.pod, instance.namespace]
    if not isinstance(gpu.slow.processes, Missing):
        for process in gpu.slow.processes:
            found += [str(process.pid), process.name, process.pod, process.container, process.unit]
    return found


def _mig(instance: MigInstance, line: GpuLine, glyphs: Glyphs, searched: str) -> Row:
    profile = words.shown(instance.profile, str, "MIG")
    used = words.shown(instance.memory_used_bytes, words.gibs)
    total = words.shown(instance.memory_total_bytes, words.gibs)
    holder = owner(instance.namespace, instance.pod, instance.container)
    text = f"{profile} (instance {instance.gpu_instance}/{instance.compute_instance})  {used}/{total} GiB"
    return Row(
        key=f"mig/{instance.uuid}",
        cells=(Cell(text=f"  {glyphs.branch}"),),
        spread=Cell(text=f"{text}  {holder}" if holder else f"{text}  {instance.uuid}"),
        searched=searched,
    )


def _values(line: GpuLine, node: NodeSnapshot) -> tuple[Value, ...]:
    """What each column sorts by."""
    gpu, fast = line.gpu, line.gpu.fast
    memory = words.memory(gpu, node)
    if gpu.fault is not None:
        return (-gpu.identity.index, gpu.identity.name, *(None,) * (len(COLUMNS) - 2))
    return (
        -gpu.identity.index,  # numbers sort from the highest; of indices the lowest is first
        gpu.identity.name,
        number(fast.utilization_ratio),
        None,
        memory[0] if memory else number(fast.memory_used_bytes),
        None,
        number(fast.power_watts),
        number(fast.temperature_celsius),
        number(fast.sm_clock_mhz),
        number(fast.tensor_activity_ratio),
        number(fast.memory_activity_ratio),
        words.shown(fast.clock_reasons, words.clock_reasons) or None,
        _sum(line.pcie.received, line.pcie.sent),
        _sum(line.nvlink.received, line.nvlink.sent),
        owner(gpu.namespace, gpu.pod, gpu.container) or None,
    )


def _sum(*readings: Reading[float]) -> float | None:
    known = [value for reading in readings if (value := number(reading)) is not None]
    return sum(known) if known else None
