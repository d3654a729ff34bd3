"""The one-shot table of `selfhost monitor`: the answer, what is wrong, GPUs, engines, processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._monitor_memory import show_memory
from selfhost.cli._output import Align, headline, next_step, say, table, width
from selfhost.health.types import Check, Health
from selfhost.live import rates, words
from selfhost.live.glyphs import UNICODE
from selfhost.live.seen import EngineLine, GpuLine, ProcessLine, Seen
from selfhost.observation import MigInstance, Missing, NodeSnapshot, Observation, number

if TYPE_CHECKING:
    from selfhost.plan import Plan

# A screen is for reading; --json has all of them.
MOST_PROCESSES, MOST_FINDINGS, LONGEST_FINDING = 16, 8, 400
Columns = tuple[tuple[str, Align], ...]
GPU_COLUMNS: Columns = (
    ("gpu", "right"), ("util", "right"), ("GiB", "right"), ("power W", "right"), ("temp left", "right"),
    ("MHz", "right"), ("tensor", "right"), ("clocks held by", "left"),
)  # fmt: skip


def troubles(observation: Observation, named: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """What does not answer, worst first, as parts of a sentence; empty where everything does.

    Args:
        observation: what was seen.
        named: addresses of engines that the user named; those must answer.
    """
    node = observation.node
    found = []
    if node.nvml.fault is not None:
        found.append(f"NVML cannot be used: {words.why(node.nvml.fault)}")
    elif node.nvml.stuck_seconds > 0:
        found.append(
            f"{node.nvml.stuck_call or 'NVML'} has not returned for {words.age(node.nvml.stuck_seconds)}"
        )
    found += _gpu_troubles(node)
    silent = [engine for engine in observation.engines if isinstance(engine.health_status, Missing)
              and isinstance(engine.running, Missing) and engine.url in named]  # fmt: skip
    if silent:
        engines = "engine does" if len(silent) == 1 else "engines do"
        found.append(f"{len(silent)} of {len(observation.engines)} {engines} not answer")
    return tuple(found)


def _gpu_troubles(node: NodeSnapshot) -> list[str]:
    if not node.gpus:
        return [] if node.nvml.fault or node.nvml.stuck_seconds > 0 else ["NVML counts no GPU"]
    sentences = {
        "LOST": ("is lost", "are lost"),
        "RESET REQUIRED": ("needs a reset", "need a reset"),
        "NO ANSWER": ("does not answer", "do not answer"),
    }
    found = []
    for word, (one, many) in sentences.items():
        gone = [gpu for gpu in node.gpus if gpu.fault is not None and words.fault_word(gpu.fault) == word]
        # Where NVML as a whole does not answer, its GPUs do not either: said once.
        if gone and not (word == "NO ANSWER" and len(gone) == len(node.gpus) and node.nvml.stuck_seconds > 0):
            found.append(f"{len(gone)} of {len(node.gpus)} GPUs {one if len(gone) == 1 else many}")
    return found


def answer(
    observation: Observation, named: frozenset[str] = frozenset(), health: Health | None = None
) -> str:
    """The first line: what there is, whether it answers, and how much is wrong besides."""
    found = troubles(observation, named)
    gpus, engines = len(observation.node.gpus), len(observation.engines)
    there = [_plural(gpus, "GPU")] if gpus else []
    there += [_plural(engines, "engine")] if engines else []
    if not found:
        says = "all answer" if gpus + engines > 1 else "it answers"
        return f"{', '.join(there)}: {says}{_besides(health)}."
    sentence = "; ".join(found)
    rest = f" {', '.join(there)} seen." if there and observation.node.nvml.fault is not None else ""
    return f"{sentence[:1].upper()}{sentence[1:]}.{rest}"


def _besides(health: Health | None) -> str:
    """`, 1 critical finding and 2 warnings`: what answers is not well for that."""
    levels = [check.level for check in health.checks] if health else []
    parts = [_plural(levels.count("critical"), "critical finding")] if "critical" in levels else []
    parts += [_plural(levels.count("warn"), "warning")] if "warn" in levels else []
    return f", {' and '.join(parts)}" if parts else ""


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def show(
    seen: Seen, named: frozenset[str], *, plan: Plan | None = None, recorded: Path | None = None
) -> None:
    """Print everything for a person; with a plan, what it predicted of the memory."""
    observation = seen.observation
    node = observation.node
    found = troubles(observation, named)
    good = not found and (seen.health is None or seen.health.verdict not in ("critical", "warn"))
    headline(UNICODE.plain(answer(observation, named, seen.health)), good=good)
    driver = words.shown(node.driver_version, str)
    cuda = words.shown(node.cuda_version, str)
    kinds = words.kinds(line.gpu.identity.name for line in seen.gpus)
    facts = [node.host, f"driver {driver}", f"CUDA {cuda}", kinds, words.clock(observation.at)]
    say(UNICODE.plain(" · ".join(_cut(fact, width()) for fact in facts if fact)))
    _findings(seen.health)
    if seen.gpus:
        click.echo()
        _gpus(seen, node)
    if seen.engines:
        click.echo()
        _engines(seen.engines)
    if seen.processes:
        click.echo()
        _processes(seen.processes)
    if plan is not None:
        show_memory(observation, plan)
    if recorded is not None:
        click.echo(f"\nWritten to {recorded}.")
    next_step("selfhost health", "every check, and what to do" if good else "what is wrong, and what to do")


def _findings(health: Health | None) -> None:
    bad = (
        [check for check in health.checks if check.level in ("critical", "warn", "unknown")] if health else []
    )
    if not bad:
        return
    click.echo()
    table(
        (("level", "left"), ("finding", "left"), ("what to do", "left")),
        [_finding(check) for check in bad[:MOST_FINDINGS]],
        wrap=1,
    )
    if len(bad) > MOST_FINDINGS:
        click.echo(f"  … and {len(bad) - MOST_FINDINGS} more")


def _finding(check: Check) -> tuple[str, str, str]:
    return (
        words.LEVEL_WORDS[check.level],
        _cut(UNICODE.plain(check.message), LONGEST_FINDING),
        words.ACTIONS[check.action] or words.MISSING,
    )


def _gpus(seen: Seen, node: NodeSnapshot) -> None:
    rows: list[tuple[str, ...]] = []
    for line in seen.gpus:
        rows.append(_gpu(line, node))
        rows += [_mig(instance, line) for instance in line.gpu.slow.mig if line.gpu.fault is None]
    # Tensor activity is a difference of two samples, and older boards do not tell it.
    kept = [at for at, (head, _) in enumerate(GPU_COLUMNS) if head != "tensor" or _any_known(rows, at)]
    table([GPU_COLUMNS[at] for at in kept], [[row[at] for at in kept] for row in rows])


def _any_known(rows: Sequence[tuple[str, ...]], at: int) -> bool:
    return any(row[at] not in ("", words.MISSING) for row in rows)


def _gpu(line: GpuLine, node: NodeSnapshot) -> tuple[str, ...]:
    gpu, fast = line.gpu, line.gpu.fast
    index = str(gpu.identity.index)
    if gpu.fault is not None:
        loud = f"{words.fault_word(gpu.fault)}: {words.why(gpu.fault)}"
        return (index, *(words.MISSING,) * 6, UNICODE.plain(loud))
    return (
        index,
        words.shown(fast.utilization_ratio, words.percent),
        words.memory_text(gpu, node),
        words.power_text(gpu),
        words.temperature_text(gpu),
        words.shown(fast.sm_clock_mhz, str),
        words.shown(fast.tensor_activity_ratio, words.percent),
        words.shown(fast.clock_reasons, words.clock_reasons),
    )


def _mig(instance: MigInstance, line: GpuLine) -> tuple[str, ...]:
    used = words.shown(instance.memory_used_bytes, words.gibs)
    total = words.shown(instance.memory_total_bytes, words.gibs)
    holder = "/".join(filter(None, (instance.namespace, instance.pod)))
    profile = words.shown(instance.profile, str)
    return (
        f"{line.gpu.identity.index}:{instance.gpu_instance}",
        "",
        f"{used}/{total}",
        "",
        "",
        "",
        "",
        UNICODE.plain(f"MIG {profile} {holder}".rstrip()),
    )


def _engines(engines: Sequence[EngineLine]) -> None:
    columns: Columns = (
        ("engine", "left"), ("KV", "right"), ("run", "right"), ("wait", "right"), ("GPUs", "left"),
        ("what binds it", "left"),
    )  # fmt: skip
    timed = any(not isinstance(line.rates.generation, Missing) for line in engines)
    rows = []
    for line in engines:
        engine, found = line.engine, line.rates
        rated = (_rates(found),) if timed else ()
        rows.append(
            (
                _cut(UNICODE.plain(engine.name), max(16, width() - 46)),
                words.shown(engine.kv_usage_ratio, words.percent),
                words.shown(engine.running, words.count),
                words.shown(engine.waiting, words.count),
                *rated,
                words.MISSING if isinstance(line.gpus, Missing) else words.ranges(line.gpus) or "none",
                UNICODE.plain(_verdict(line)),
            )
        )
    added: Columns = (("tok/s in/out", "right"),) if timed else ()
    table((*columns[:4], *added, *columns[4:]), rows)


def _cut(text: str, most: int) -> str:
    """A name that leaves room for what stands beside it; --json has all of it."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _rates(found: rates.EngineRates) -> str:
    return f"{words.shown(found.prompt, words.count)}/{words.shown(found.generation, words.count)}"


def _verdict(line: EngineLine) -> str:
    if line.verdict:
        level = line.told
        loud = level if level in ("critical", "warn", "unknown") else None
        return f"{words.LEVEL_WORDS[loud]}: {line.verdict}" if loud else line.verdict
    health, running = line.engine.health_status, line.engine.running
    if isinstance(health, Missing) and isinstance(running, Missing):
        return f"no answer: {health.missing}"
    return words.MISSING


def _processes(lines: Sequence[ProcessLine]) -> None:
    from selfhost.live.panels.processes import NOT_VISIBLE, place

    columns: Columns = (
        ("gpu", "right"), ("pid", "right"), ("GiB", "right"), ("process", "left"), ("pod, container or unit", "left"),
    )  # fmt: skip
    most = sorted(lines, key=lambda line: -(number(line.process.memory_bytes) or 0))
    rows = [
        (
            str(line.gpu.identity.index),
            str(line.process.pid),
            words.shown(line.process.memory_bytes, words.gibs),
            UNICODE.plain(line.process.name or NOT_VISIBLE),
            _cut(
                UNICODE.plain(place(line.process) or line.process.unit or words.MISSING),
                max(16, width() - 36),
            ),
        )
        for line in most[:MOST_PROCESSES]
    ]
    table(columns, rows, wrap=3)
    if len(most) > MOST_PROCESSES:
        click.echo(f"  … and {len(most) - MOST_PROCESSES} more; --json has all of them")
