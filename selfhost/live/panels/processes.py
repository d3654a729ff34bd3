"""The list of processes: who holds which GPU, with the names of container, pod or unit."""

from __future__ import annotations

from selfhost.live import words
from selfhost.live.glyphs import Glyphs
from selfhost.live.layout import DIM, Cell, Column, Row
from selfhost.live.panels.gpus import Made, owner
from selfhost.live.seen import ProcessLine, Seen
from selfhost.observation import GpuProcess, number

COLUMNS = (
    Column(head="gpu", width=3, right=True),
    Column(head="pid", width=8, right=True),
    Column(head="GiB", width=6, right=True),
    Column(head="process", width=16, rank=1, grow=True, most=48),
    Column(head="pod or container", width=20, rank=2, grow=True, most=60),
    Column(head="unit", width=12, rank=4, grow=True, most=30),
    Column(head="kind", width=8, rank=3),
    Column(head="MIG", width=3, rank=5, right=True),
)
NOT_VISIBLE = "not visible from here"


def rows(seen: Seen, glyphs: Glyphs) -> Made:
    """Rows of every process, most memory first."""
    lines = sorted(seen.processes, key=lambda line: -(number(line.process.memory_bytes) or 0))
    return [(_values(line), [_row(line)]) for line in lines]


def place(process: GpuProcess) -> str:
    """Where a process runs: pod, container name, or the first digits of the container's id."""
    return owner(process.namespace, process.pod, process.container) or (process.container_id or "")[:12]


def _row(line: ProcessLine) -> Row:
    process = line.process
    memory = words.shown(process.memory_bytes, words.gibs)
    return Row(
        key=line.key,
        cells=(
            Cell(text=str(line.gpu.identity.index)),
            Cell(text=str(process.pid)),
            Cell(text=memory, style=DIM if memory == words.MISSING else ""),
            Cell(text=process.name, style="bold") if process.name else Cell(text=NOT_VISIBLE, style=DIM),
            Cell(text=place(process)),
            Cell(text=process.unit or ""),
            Cell(text=process.kind),
            Cell(text="" if process.mig_instance is None else str(process.mig_instance)),
        ),
        searched="\n".join(
            filter(None, (process.pod_uid, process.container_id, process.container, line.gpu.identity.uuid))
        ),
    )


def _values(line: ProcessLine) -> tuple[float | str | None, ...]:
    process = line.process
    return (
        -line.gpu.identity.index,
        process.pid,
        number(process.memory_bytes),
        process.name,
        place(process) or None,
        process.unit,
        process.kind,
        process.mig_instance,
    )
