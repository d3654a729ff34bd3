"""Published runs near an estimate as `selfhost estimate` prints them, and where each of its numbers comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from selfhost.cli._output import Align, say, table

if TYPE_CHECKING:
    from selfhost.throughput.evidence import Evidence
    from selfhost.throughput.runs import Asked
    from selfhost.throughput.types import Estimate, Provenance, Range

_SHOWN = 5  # Ours: a table that leaves the answer on the same screen; --json has all of them
_COLUMNS: tuple[tuple[str, Align], ...] = (
    ("at once", "right"), ("tokens", "left"), ("TTFT ms", "left"), ("TPOT ms", "left"), ("tokens/s", "left"),
    ("release", "left"),
)  # fmt: skip
_SEEN = (
    "engine_version",
    "prompt_tokens",
    "output_tokens",
    "concurrency",
    "request_rate",
)  # in the table itself
# Numbers that are another one in a different unit, and those that are the model's own whatever was measured.
_DERIVED = {
    "output_tokens_per_second_per_gpu": "divided by the GPUs",
    "requests_per_second": "divided by the tokens of an answer",
}
_MODELLED = ("running", "curve", "knee_concurrency", "goals", "simulation")


def evidence_near(asked: Asked) -> tuple[Evidence, ...]:
    """Published runs near what is asked; models are those of the catalogue."""
    from functools import cache

    from selfhost.cli._sizing import understand
    from selfhost.throughput.evidence import evidence_for

    return evidence_for(asked, cache(understand))


def as_measurements(near: tuple[Evidence, ...]) -> list[dict[str, object]]:
    """The `measurements` of `selfhost/estimate/v1`."""
    return [_as_measurement(one) for one in near]


def _as_measurement(one: Evidence) -> dict[str, object]:
    from selfhost.throughput.from_runs import provenance_of
    from selfhost.throughput.runs import NUMBERS, numbers_of

    run = one.run
    told = numbers_of(run)
    return {
        "id": run.id,
        "model": run.model,
        "precision": run.precision,
        "quantization": run.quantization,
        "kv_dtype": run.kv_dtype,
        "enforce_eager": run.enforce_eager,
        "max_num_seqs": run.max_num_seqs,
        "gpu": run.gpu,
        "gpus": run.gpus,
        "split": asdict(one.own.split),
        "replicas": run.replicas,
        "engine": {"name": run.engine, "version": run.version},
        "prompt_tokens": run.prompt_tokens,
        "output_tokens": run.output_tokens,
        "concurrency": run.concurrency,
        "request_rate": run.request_rate,
        "requests": run.requests,
        "dataset": run.dataset,
        "mode": run.mode,
        "measured": {name: told.get(name) for name in NUMBERS},
        "estimated": None
        if one.estimated is None
        else {name: asdict(getattr(one.estimated, name)) for name in NUMBERS},
        "differs": list(one.differs),
        "covers": one.covers,
        "source": run.title,
        "url": run.url,
        "date": run.date,
        "provenance": [asdict(provenance_of(name, (run,))) for name in told],
    }


def all_provenance(
    found: Estimate, modelled: Estimate, told: Mapping[str, object]
) -> list[dict[str, object]]:
    """Where each number comes from, those too that follow from others.

    Args:
        found: the estimate.
        modelled: the same before measurements took the place of some of its numbers.
        told: the object they stand in; what it has null has no provenance.
    """
    by_name = {one.number: one for one in found.provenance}
    speed = by_name["output_tokens_per_second"]
    derived: list[Provenance] = [
        replace(speed, number=name, because=f"output_tokens_per_second {how}: {speed.because}")
        for name, how in _DERIVED.items()
    ]
    model = next(one for one in modelled.provenance if one.number == "output_tokens_per_second")
    derived += [replace(model, number=name) for name in _MODELLED if told.get(name) is not None]
    return [asdict(one) for one in (*found.provenance, *derived)]


def show_measurements(near: tuple[Evidence, ...], *, taken: bool) -> None:
    """Print the nearest runs, each with its estimate in brackets, and where they were published.

    Args:
        near: the runs.
        taken: the numbers above are theirs already.
    """
    if not near:
        return
    shown = near[:_SHOWN]
    click.echo()
    say("Measured near this load; in brackets what the roofline says of that very run:")
    table(_COLUMNS, [_row(one) for one in shown], wrap=5)
    if len(near) > len(shown):
        say(f"And {len(near) - len(shown)} more (--json).")
    besides = dict.fromkeys(name for one in shown for name in one.differs if name not in _SEEN)
    if besides:
        say(f"Other than here, with some of them: {', '.join(besides).replace('_', ' ')}.")
    for title in dict.fromkeys(one.run.title for one in shown):
        of_it = [one.run for one in shown if one.run.title == title]
        say(f"Published in {title}, {max(run.date for run in of_it)}:")
        for url in dict.fromkeys(run.url for run in of_it):
            click.echo(f"  {url}")
    if near[0].covers and not taken:
        say("One is of this very load: --provider measured takes its numbers.")


def _row(one: Evidence) -> tuple[str, ...]:
    run, said = one.run, one.estimated
    count = f"{run.concurrency:,}" if run.concurrency is not None else f"{run.request_rate:g}/s"
    first, token, speed = (
        (said.ttft_ms, said.tpot_ms, said.output_tokens_per_second)
        if said is not None
        else (None, None, None)
    )
    return (
        count,
        f"{run.prompt_tokens:,.0f} + {run.output_tokens:,.0f}",
        _pair(run.ttft_ms, first, 0),
        _pair(run.tpot_ms, token, 1),
        _pair(run.output_tokens_per_second, speed, 0),
        f"{run.engine} {run.version}",
    )


def _pair(measured: float | None, estimated: Range | None, digits: int) -> str:
    if measured is None:
        return "–"
    return f"{measured:,.{digits}f}" + (f" ({estimated.typical:,.{digits}f})" if estimated else "")
