"""Options that say what arrives, and how a simulation of it is printed; `selfhost estimate` uses both."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from selfhost.cli._options import COUNT
from selfhost.cli._output import Align, facts, say, table
from selfhost.errors import UsageError

if TYPE_CHECKING:
    from selfhost.throughput.arrivals import Trace
    from selfhost.throughput.simulate import Balance, Simulation, Spread
    from selfhost.throughput.simulated import Simulated

F = TypeVar("F", bound=Callable[..., Any])

_REQUESTS = (
    10_000  # Ours: the 99th percentile then rests on a hundred requests, and the simulation takes a moment
)
_BURSTINESS = (
    2.0  # Ours: bursts that are plain to see; BurstGPT (arXiv:2401.17644, section 3) fits gamma gaps too
)
_COLUMNS: tuple[tuple[str, Align], ...] = (
    ("simulated, ms", "left"), ("mean", "right"), ("p50", "right"), ("p90", "right"), ("p95", "right"),
    ("p99", "right"),
)  # fmt: skip
_OPTIONS = (
    click.option(
        "--trace", metavar="FILE.csv", type=click.Path(path_type=Path),
        help="Simulate these requests: arrival time, prompt and output tokens (docs/estimate.md).",
    ),
    click.option(
        "--arrivals", type=click.Choice(["poisson", "bursty"]), help="Simulate arrivals at --request-rate."
    ),
    click.option(
        "--burstiness", type=float, metavar="CV",
        help="Coefficient of variation of the gaps; 1 is Poisson.  [default: 2 with bursty]",
    ),
    click.option(
        "--requests", type=COUNT, metavar="N",
        help="How many arrive, or the first of a trace.  [default: 10000, or all]",
    ),
    click.option("--seed", type=int, metavar="N", help="Of the random arrivals.  [default: 0]"),
    click.option(
        "--balance", type=click.Choice(["round-robin", "least-loaded"]),
        help="How --dp copies and --replicas share what is simulated.  [default: round-robin]",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """What the options say, None where one was not given."""

    trace: Path | None
    arrivals: str | None
    burstiness: float | None
    requests: int | None
    seed: int | None
    balance: Balance | None


def arrival_options(function: F) -> F:
    """Add the options; the command gets them as `arriving`."""

    @functools.wraps(function)
    def packed(**values: Any) -> Any:
        own = {name: values.pop(name) for name in Arriving.__dataclass_fields__}
        return function(**values, arriving=Arriving(**own))

    found: Any = packed
    for option in reversed(_OPTIONS):
        found = option(found)
    return cast(F, found)


def arriving_trace(
    context: click.Context,
    arriving: Arriving,
    request_rate: float | None,
    prompt_tokens: int,
    output_tokens: int,
) -> Trace | None:
    """The requests to simulate, None where nothing asks for a simulation.

    Raises:
        UsageError: options that contradict each other.
        TraceError: the file has gaps or is no trace.
    """
    given = {
        name: context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        for name in ("concurrency", "prompt_tokens", "output_tokens")
    }
    if arriving.trace is None and arriving.arrivals is None:
        _refuse_alone(arriving)
        return None
    if given["concurrency"]:
        raise UsageError(
            "--concurrency keeps requests under way, and a simulation has them arrive.", hint="Leave it out."
        )
    if arriving.trace is not None:
        return _from_file(arriving, arriving.trace, request_rate, given)
    if request_rate is None:
        raise UsageError("--arrivals needs a rate.", hint="Add --request-rate R, in requests a second.")
    if arriving.arrivals == "poisson" and arriving.burstiness not in (None, 1.0):
        raise UsageError("Poisson arrivals have a burstiness of 1.", hint="Say --arrivals bursty.")
    import random

    from selfhost.throughput.arrivals import at_random

    usual = 1.0 if arriving.arrivals == "poisson" else _BURSTINESS
    return at_random(
        request_rate=request_rate,
        requests=arriving.requests or _REQUESTS,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        chance=random.Random(arriving.seed or 0),
        burstiness=usual if arriving.burstiness is None else arriving.burstiness,
    )


def _refuse_alone(arriving: Arriving) -> None:
    for name in ("burstiness", "requests", "seed", "balance"):
        if getattr(arriving, name) is not None:
            raise UsageError(
                f"--{name} is of a simulation.", hint="Add --arrivals poisson or --trace FILE.csv."
            )


def _from_file(arriving: Arriving, path: Path, request_rate: float | None, given: dict[str, bool]) -> Trace:
    from selfhost.throughput.trace_csv import read_csv

    for flag, wrong in (
        ("--arrivals", arriving.arrivals is not None),
        ("--burstiness", arriving.burstiness is not None),
        ("--seed", arriving.seed is not None),
        ("--prompt-tokens", given["prompt_tokens"]),
        ("--output-tokens", given["output_tokens"]),
    ):
        if wrong:
            raise UsageError(
                f"{flag} and --trace contradict: a trace has its own.", hint=f"Leave {flag} out."
            )
    found = read_csv(path, requests=arriving.requests)
    return found if request_rate is None else found.at_rate(request_rate)


def as_simulation(found: Simulated | None) -> dict[str, object] | None:
    """The `simulation` of `selfhost/estimate/v1`."""
    if found is None:
        return None
    return {
        **asdict(found.typical),
        "clock_spread": found.clock_spread,
        "faster": _ends(found.faster),
        "slower": _ends(found.slower),
    }


def _ends(found: Simulation | None) -> dict[str, object] | None:
    if found is None:
        return None
    kept = ("ttft_ms", "tpot_ms", "end_to_end_ms", "output_tokens_per_second", "meeting_goals_ratio")
    return {
        **{name: value for name, value in asdict(found).items() if name in kept},
        "saturates_at_seconds": found.saturates_at_seconds,
    }


def show_simulation(found: Simulated) -> None:
    """Print a simulation: percentiles, and what became of the queue."""
    one = found.typical
    table(
        _COLUMNS,
        [
            _row(name, spread)
            for name, spread in (
                ("time to first token", one.ttft_ms),
                ("time per output token", one.tpot_ms),
                ("end to end", one.end_to_end_ms),
            )
        ],
    )
    click.echo()
    rows = {
        "requests": f"{one.requests:,} in {one.duration_seconds:,.0f} s: {one.trace}",
        "output tokens/s": f"{one.output_tokens_per_second:,.0f}",
        "under way, waiting": f"{one.running:,.1f}, {one.waiting:,.1f} on average",
        "saturates": _saturation(one),
    }
    if one.meeting_goals_ratio is not None:
        ends = ""
        if found.slower is not None and found.faster is not None:
            slower, faster = found.slower.meeting_goals_ratio or 0.0, found.faster.meeting_goals_ratio or 0.0
            ends = f"  ({min(slower, faster):.1%} to {max(slower, faster):.1%})"
        rows["meet the goals"] = f"{one.meeting_goals_ratio:.1%}{ends}"
    if one.refused:
        rows["refused"] = f"{one.refused:,} are longer than the KV cache of a copy"
    if one.preemptions:
        rows["preempted"] = (
            f"{one.preemptions:,} times the KV cache was full, and a sequence was computed again"
        )
    facts(rows)
    say(f"Simulated by {one.method}.")


def _row(name: str, spread: Spread | None) -> tuple[str, ...]:
    if spread is None:
        return (name, "–", "–", "–", "–", "–")
    digits = 1 if spread.p99 < 100 else 0
    values = (spread.mean, spread.p50, spread.p90, spread.p95, spread.p99)
    return (name, *(f"{value:,.{digits}f}" for value in values))


def _saturation(found: Simulation) -> str:
    if found.saturates_at_seconds is not None:
        return f"after {found.saturates_at_seconds:,.0f} s: from then on requests wait longer than they are served"
    if found.full_at_seconds is not None:
        return f"no, though every place was taken at {found.full_at_seconds:,.0f} s"
    return "no: a place was free for every request"
