"""Memory of an engine term by term: what plan.json predicted, what was seen, and the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from selfhost.live.glyphs import UNICODE
from selfhost.observation import EngineSnapshot, Missing, Observation
from selfhost.strict import encode
from selfhost.units import gib

if TYPE_CHECKING:
    from selfhost.health.memory_plan import MemoryTerm
    from selfhost.plan import Plan


def _terms(observation: Observation, plan: Plan) -> list[tuple[EngineSnapshot, tuple[MemoryTerm, ...]]]:
    from selfhost.health.memory_plan import memory_terms

    gpus = observation.node.gpus
    return [(engine, memory_terms(plan, engine, gpus)) for engine in observation.engines]


def memory_facts(observation: Observation, plan: Plan) -> list[dict[str, object]]:
    """For --json: an object per engine, with its terms."""
    return [
        {
            "engine": engine.name,
            "url": engine.url,
            "terms": [
                {
                    "name": term.name,
                    "predicted_bytes": term.predicted_bytes,
                    "actual_bytes": encode(term.actual),
                    "error_bytes": term.error_bytes,
                    "error_ratio": term.error_ratio,
                    "because": term.because,
                }
                for term in terms
            ],
        }
        for engine, terms in _terms(observation, plan)
    ]


def show_memory(observation: Observation, plan: Plan) -> None:
    """Print a table per engine; of a plan without an engine a sentence."""
    from selfhost.cli._output import table

    found = _terms(observation, plan)
    if not found:
        click.echo("\nNo engine was found that the plan could be compared with.")
    for engine, terms in found:
        click.echo("\n" + UNICODE.plain(f"Memory of {engine.name}, on the fullest of its GPUs"))
        table(
            (
                ("term", "left"),
                ("plan GiB", "right"),
                ("seen GiB", "right"),
                ("error", "right"),
                ("because", "left"),
            ),
            [_row(term) for term in terms],
        )


def _row(term: MemoryTerm) -> tuple[str, ...]:
    error = "–"
    if term.error_ratio is not None:
        error = f"{100 * term.error_ratio:+.1f} %"
    return (
        term.name,
        "–" if term.predicted_bytes is None else gib(term.predicted_bytes),
        "–" if isinstance(term.actual, Missing) else gib(term.actual),
        error,
        UNICODE.plain(term.actual.missing if isinstance(term.actual, Missing) else term.because),
    )
