"""Evidence -> numbers taken from published runs, where one is of the very configuration and load; else why not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from selfhost.catalog.measured import Measurement, measurements
from selfhost.errors import UnsupportedError
from selfhost.throughput.evidence import Evidence, estimated
from selfhost.throughput.runs import NUMBERS, Asked, about, is_release, load_words, numbers_of
from selfhost.throughput.types import Estimate, Provenance, Range, Traffic

if TYPE_CHECKING:
    from selfhost.engines import EngineVersion

# Ours: one run says this much of the next. Repeats on one page (gpt-oss-120b and -20b on an A100, GLM-4.5-Air on four,
# vLLM 0.11.0 and SGLang 0.5.4, GPUStack performance lab, 2026-01) lie up to 7 % from their middle, most of them 3 %,
# and times to the first token wait for other requests besides. No run is published again with another release: twice.
_SCATTER = {"output_tokens_per_second": 0.10, "tpot_ms": 0.10, "ttft_ms": 0.20}
_OTHER_RELEASE = 2.0


def from_measurements(asked: Asked, found: Estimate, near: tuple[Evidence, ...]) -> Estimate:
    """The estimate with every number that was measured taken from the runs that cover the load.

    A run whose lengths are not quite those asked for is scaled by what the roofline says of the one and of the other.
    The range is that of the runs, and the scatter of a single one around it.

    Args:
        asked: the deployment and load.
        found: its estimate by the roofline.
        near: its evidence.

    Raises:
        UnsupportedError: no run covers the load; the sentence says what was measured nearby.
    """
    covering = [one for one in near if one.covers and one.estimated is not None]
    if not covering:
        raise _nothing(asked, near)
    ranges: dict[str, Range] = {}
    provenance: list[Provenance] = []
    for name in NUMBERS:
        runs = [one for one in covering if name in numbers_of(one.run)]
        if runs:
            ranges[name] = _range(name, asked, found, runs)
            provenance.append(provenance_of(name, (one.run for one in runs), asked=asked.engine))
    notes = list(found.notes)
    if missing := [name for name in NUMBERS if name not in ranges]:
        notes.append(f"No run of this load published {' or '.join(missing)}: that is the roofline's.")
    notes.append("Admission, the curve, the knee, goals and what binds are the roofline's.")
    speed = ranges.get("output_tokens_per_second", found.output_tokens_per_second)
    return replace(
        found,
        ttft_ms=ranges.get("ttft_ms", found.ttft_ms),
        tpot_ms=ranges.get("tpot_ms", found.tpot_ms),
        output_tokens_per_second=speed,
        requests_per_second=speed.typical / asked.traffic.output_tokens,
        notes=tuple(notes),
        provenance=(*provenance, *(one for one in found.provenance if one.number not in ranges)),
    )


def _range(name: str, asked: Asked, found: Estimate, runs: list[Evidence]) -> Range:
    lows, middles, highs = [], [], []
    for one in runs:
        # By the release that is asked for on both sides, so that lengths alone are carried over.
        there = estimated(replace(one.own, engine=asked.engine))
        value = numbers_of(one.run)[name] * getattr(found, name).typical / getattr(there, name).typical
        spread = 1 + _SCATTER[name] * (_OTHER_RELEASE if "engine_version" in one.differs else 1.0)
        lows.append(value / spread)
        middles.append(math.log(value))
        highs.append(value * spread)
    return Range(low=min(lows), typical=math.exp(sum(middles) / len(middles)), high=max(highs))


def provenance_of(
    name: str, runs: Iterable[Measurement], *, asked: EngineVersion | None = None
) -> Provenance:
    """Where a number of runs comes from.

    Args:
        name: the number.
        runs: that it is from.
        asked: a release that they are carried over to; None where they stand for themselves.
    """
    some = tuple(runs)
    because = "; ".join(about(run) for run in some)
    if asked is not None and any(not is_release(run, asked) for run in some):
        because += f"; carried over to {asked} as it is, with twice the range"
    return Provenance(
        number=name,
        kind="measured",
        because=because,
        sources=tuple(dict.fromkeys(run.url for run in some)),
        date=max(run.date for run in some),
    )


def _nothing(asked: Asked, near: tuple[Evidence, ...]) -> UnsupportedError:
    traffic = asked.traffic
    load = load_words(traffic.prompt_tokens, traffic.output_tokens, traffic.concurrency, traffic.request_rate)
    return UnsupportedError(
        f"No published run of {asked.spec.id} with {asked.engine.engine} on {asked.gpus} × {asked.gpu.name} is of "
        f"this format and load ({load}).",
        hint=f"{_nearest(asked, near)} Leave out --provider measured for the roofline.",
    )


def _nearest(asked: Asked, near: tuple[Evidence, ...]) -> str:
    """A sentence about the run that comes nearest."""
    if near:
        other = ", ".join(name.replace("_", " ") for name in near[0].differs)
        return f"Nearest is {about(near[0].run)}, which differs in {other}."
    of_model = [run for run in measurements() if run.model.lower() == asked.spec.id.lower()]
    on_gpu = [run for run in measurements() if run.gpu == asked.gpu.id]
    for some, where in (
        ([run for run in of_model if run.gpu == asked.gpu.id], " on this GPU"),
        (of_model, ", none of them on this GPU"),
    ):
        if some:
            one = min(some, key=lambda run: (run.engine != asked.engine.engine, _apart(run, asked.traffic)))
            count = "1 run of this model is" if len(some) == 1 else f"{len(some)} runs of this model are"
            return f"{count} known{where}; nearest is {about(one)}."
    if on_gpu:
        models = ", ".join(sorted({run.model for run in on_gpu}))
        return f"On this GPU runs are known of {models}."
    return "Nothing is known that was measured on this GPU."


def _apart(run: Measurement, traffic: Traffic) -> float:
    clients = (run.concurrency or 1) / (traffic.concurrency or 1)
    return abs(math.log(clients)) + abs(math.log(run.prompt_tokens / traffic.prompt_tokens))
