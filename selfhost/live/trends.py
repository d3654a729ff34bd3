"""Small histories of one GPU: a line a reading, in two columns where there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from selfhost.live import words
from selfhost.live.glyphs import Glyphs, spark
from selfhost.live.layout import DIM, Cell, fitted, line
from selfhost.live.rates import traffic
from selfhost.live.seen import GpuLine
from selfhost.observation import GpuSnapshot, Reading, number

if TYPE_CHECKING:
    from rich.text import Text

NAME, VALUE = 8, 11
TWO_COLUMNS = 76


def trends(gpu: GpuLine, width: int, glyphs: Glyphs) -> list[Text]:
    """Lines of `width` cells; the most telling come first, so that a short screen may cut the rest."""
    columns = 2 if width >= TWO_COLUMNS else 1
    each = (width - 4 * (columns - 1)) // columns
    # One value more than is shown: traffic is a difference.
    past = gpu.past[-(each + 1) :]
    made = [_cells(*one, each, glyphs) for one in _charts(gpu, past)]
    lines = []
    for start in range(0, len(made), columns):
        pair = made[start : start + columns]
        cells = [cell for chart in pair for cell in (*chart, Cell(text=" " * 4))]
        lines.append(line(cells, width, glyphs))
    return lines


Chart = tuple[str, list[float | None], float, str]


def _cells(
    name: str, values: list[float | None], top: float, value: str, width: int, glyphs: Glyphs
) -> tuple[Cell, ...]:
    room = max(0, width - NAME - VALUE - 2)
    return (
        Cell(text=f"{fitted(name, NAME, glyphs)} ", style=DIM),
        Cell(text=spark(values, room, top, glyphs), style="cyan"),
        Cell(text=f" {fitted(value, VALUE, glyphs, right=True)}", style="bold"),
    )


def _charts(gpu: GpuLine, past: Sequence[GpuSnapshot]) -> list[Chart]:
    now = gpu.gpu
    total = number(now.identity.memory_total_bytes)
    limit, clock = number(now.slow.power_limit_watts), number(now.identity.sm_clock_max_mhz)

    def values(read: Callable[[GpuSnapshot], Reading[float]]) -> list[float | None]:
        return [None if one.fault else number(read(one)) for one in past]

    def share(name: str, read: Callable[[GpuSnapshot], Reading[float]]) -> Chart:
        return name, values(read), 1.0, words.shown(read(now), words.percent)

    def amount(
        name: str, read: Callable[[GpuSnapshot], Reading[float]], top: float | None, text: str
    ) -> Chart:
        found = values(read)
        highest = max([value for value in found if value is not None], default=1.0)
        return name, found, top or highest or 1.0, text

    charts = [
        share("util", lambda one: one.fast.utilization_ratio),
        amount("power", lambda one: one.fast.power_watts, limit,
               words.shown(now.fast.power_watts, lambda watts: f"{watts:.0f} W")),
        amount("memory", lambda one: one.fast.memory_used_bytes, total,
               words.shown(now.fast.memory_used_bytes, lambda size: f"{words.gibs(size)} GiB")),
        amount("temp", lambda one: one.fast.temperature_celsius, 100.0,
               words.shown(now.fast.temperature_celsius, lambda degrees: f"{degrees} °C")),
        share("tensor", lambda one: one.fast.tensor_activity_ratio),
        share("DRAM", lambda one: one.fast.memory_activity_ratio),
        _traffic("PCIe", past, 0),
        _traffic("NVLink", past, 1),
        amount("SM clock", lambda one: one.fast.sm_clock_mhz, clock,
               words.shown(now.fast.sm_clock_mhz, lambda mhz: f"{mhz} MHz")),
        share("memory%", lambda one: one.fast.memory_busy_ratio),
    ]  # fmt: skip
    return charts[:-1] if len(charts) % 2 else charts


def _traffic(name: str, past: Sequence[GpuSnapshot], which: int) -> Chart:
    """Both directions together; the direction stands in the list and in the detail."""
    found: list[float | None] = []
    for place in range(len(past)):
        both = traffic(past[max(0, place - 1) : place + 1])[which]
        received, sent = number(both.received), number(both.sent)
        found.append(None if past[place].fault or received is None or sent is None else received + sent)
    top = max([value for value in found if value is not None], default=1.0)
    last = found[-1] if found else None
    return name, found, top or 1.0, words.MISSING if last is None else f"{words.byte_rate(last)}B/s"
