"""The list of engines: cache, queue, tokens a second, and below each one sentence on what binds it or is wrong."""

from __future__ import annotations

from selfhost.live import words
from selfhost.live.glyphs import Glyphs, bar, spark
from selfhost.live.layout import DIM, LEVEL_STYLES, LOUD, Cell, Column, Row
from selfhost.live.panels.gpus import Made
from selfhost.live.rates import engine_rates
from selfhost.live.seen import EngineLine, Seen
from selfhost.observation import Missing, number

SPARK = 12
COLUMNS = (
    Column(head="  engine", width=16, grow=True, most=44),
    Column(head="KV", width=4, right=True),
    Column(head="", width=8, rank=7, sortable=False),
    Column(head="run", width=4, right=True),
    Column(head="wait", width=4, right=True),
    Column(head="tok/s in", width=8, rank=2, right=True),
    Column(head="out", width=5, rank=1, right=True),
    Column(head="last", width=SPARK, rank=8, sortable=False),
    Column(head="TTFT", width=6, rank=3, right=True),
    Column(head="preempted", width=9, rank=5, right=True),
    Column(head="GPUs", width=6, rank=4),
    Column(head="version", width=12, rank=9),
    Column(head="address", width=22, rank=10, grow=True, most=40),
)


def rows(seen: Seen, glyphs: Glyphs) -> Made:
    """Rows of every engine."""
    return [(_values(line), [_row(line, glyphs)]) for line in seen.engines]


def gpus_text(line: EngineLine) -> str:
    """GPUs by index: `0-3`."""
    return words.MISSING if isinstance(line.gpus, Missing) else words.ranges(line.gpus) or "none"


def _row(line: EngineLine, glyphs: Glyphs) -> Row:
    engine, found = line.engine, line.rates
    level = line.level or "skipped"
    kv = number(engine.kv_usage_ratio)
    generated = [_between(line, place) for place in range(max(1, len(line.past) - SPARK), len(line.past))]
    top = max([value for value in generated if value is not None], default=0.0)
    cells = (
        (f"{glyphs.level(level)} {engine.name}", LEVEL_STYLES[level] if level != "skipped" else "bold"),
        (words.shown(engine.kv_usage_ratio, words.percent), "bold"),
        (bar(kv, 8, glyphs), "blue"),
        (words.shown(engine.running, words.count), ""),
        (words.shown(engine.waiting, words.count), ""),
        (words.shown(found.prompt, words.count), ""),
        (words.shown(found.generation, words.count), "bold"),
        (spark(generated, SPARK, top, glyphs), "cyan"),
        (words.shown(found.first_token_seconds, words.seconds), ""),
        (words.shown(engine.preemptions, words.count), ""),
        (gpus_text(line), ""),
        (words.shown(engine.version, str), ""),
        (engine.url, DIM),
    )
    return Row(
        key=f"engine/{engine.url}",
        cells=tuple(Cell(text=text, style=DIM if text == words.MISSING else style) for text, style in cells),
        under=(_verdict(line, glyphs),),
        searched="\n".join(
            [engine.url, engine.engine, words.shown(engine.model, str), *map(str, engine.pids)]
        ),
    )


def _verdict(line: EngineLine, glyphs: Glyphs) -> Cell:
    level, sentence = line.told, line.verdict
    if not sentence:
        answered = number(line.engine.health_status)
        sentence = "no verdict" if answered is None else f"its health path answers {answered}; no verdict"
    word = f"{words.LEVEL_WORDS[level]}: " if level in ("critical", "warn", "unknown") else ""
    style = LOUD if level == "critical" else LEVEL_STYLES[level] if word and level else DIM
    return Cell(text=f"  {glyphs.branch} {word}{sentence}", style=style)


def _between(line: EngineLine, place: int) -> float | None:
    return number(engine_rates(line.past[place - 1 : place + 1], window=float("inf")).generation)


def _values(line: EngineLine) -> tuple[float | str | None, ...]:
    engine, found = line.engine, line.rates
    return (
        engine.name,
        number(engine.kv_usage_ratio),
        None,
        number(engine.running),
        number(engine.waiting),
        number(found.prompt),
        number(found.generation),
        None,
        number(found.first_token_seconds),
        number(engine.preemptions),
        gpus_text(line),
        number(engine.version),
        engine.url,
    )
