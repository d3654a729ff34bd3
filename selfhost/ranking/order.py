"""The orders of options, each with its rule in words, and what the others have against the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from selfhost.place import RANKING
from selfhost.ranking.types import Option, Rank

RANKINGS: dict[Rank, str] = {
    "gpus": RANKING,
    "cost": "rent for a million output tokens under the load; GPUs without a known rent last; then the fewest GPUs",
    "capital": "price to buy the GPUs and the servers around them; unknown prices last; then the fewest GPUs",
    "latency": "time per output token under the load, then time to the first token; then the fewest GPUs",
    "throughput": "output tokens a second under the load, most first; then the fewest GPUs",
    "room": "requests at once that would be let in beside those under way, most first; then the fewest GPUs",
}


def _cost(option: Option) -> float | None:
    found = option.cost and option.cost.per_million_output_tokens
    return found.typical if found else None


def _capital(option: Option) -> float | None:
    found = option.cost and option.cost.capital
    return found.typical if found else None


def _known(value: float | None) -> tuple[float, ...]:
    return (math.inf,) if value is None else (value,)


_KEYS: dict[Rank, Callable[[Option], tuple[float, ...]]] = {
    "gpus": lambda option: (option.gpus,),
    "cost": lambda option: _known(_cost(option)),
    "capital": lambda option: _known(_capital(option)),
    "latency": lambda option: (option.estimate.tpot_ms.typical, option.estimate.ttft_ms.typical),
    # Rounded, as several replicas that answer the same load do so but for the last digit of a sum.
    "throughput": lambda option: (-round(option.estimate.output_tokens_per_second.typical, 6),),
    "room": lambda option: (-option.spare,),
}


def key_of(option: Option, rank: Rank) -> tuple[object, ...]:
    """What options are sorted by, smallest first; ties go to fewer and smaller GPUs, as in `RANKING`."""
    return (*_KEYS[rank](option), *_ties(option))


def _ties(option: Option) -> tuple[object, ...]:
    gpu, gpus = option.gpu, option.gpus
    return (
        gpus,
        gpu.reported_bytes * gpus,
        gpu.bandwidth_bytes_per_second * gpus,
        gpu.id,
        not option.published,  # weights that the engine makes itself before such as have to be published
        option.quantization or "",
        option.estimate.tpot_ms.high,  # an engine that was measured before one that another stands in for
        str(option.engine),
        option.replicas,
    )


def order(options: Iterable[Option], rank: Rank, *, each_gpu: bool) -> tuple[Option, ...]:
    """The options, best first.

    Args:
        options: what a search found.
        rank: what counts.
        each_gpu: keep the best of each kind of GPU alone, as a table of kinds has it.
    """
    if not each_gpu:
        return tuple(sorted(options, key=lambda option: key_of(option, rank)))
    value, first = _KEYS[rank], dict[str, tuple[tuple[float, ...], Option]]()
    for option in options:
        own = value(option)
        best = first.get(option.gpu.id)
        # Ties are looked at where there are some: their key takes ten times as long as the value.
        if best is None or own < best[0] or (own == best[0] and _ties(option) < _ties(best[1])):
            first[option.gpu.id] = own, option
    return tuple(sorted((option for _, option in first.values()), key=lambda option: key_of(option, rank)))


def why_not_first(option: Option, first: Option, rank: Rank) -> str:
    """By how much it is behind the first, in a clause; empty for the first itself."""
    if option is first:
        return ""
    behind = _behind(option, first, rank)
    if behind is None:
        return _more_gpus(option, first)
    if math.isinf(behind):
        return "no price is known"
    if rank == "room":
        return f"room for {behind:,.0f} requests fewer"
    if rank == "latency" and not _share_slower(option, first):
        return f"the first token comes {behind:,.0f} ms later"
    return _CLAUSES[rank].format(f"{behind:,.0%}".replace("%", " %"))


def behind_first(option: Option, first: Option, rank: Rank) -> str:
    """The same in a cell of a table."""
    if option is first:
        return ""
    behind = _behind(option, first, rank)
    if behind is None:
        return _more_gpus(option, first)
    if math.isinf(behind):
        return "no price"
    if rank == "room":
        return f"−{behind:,.0f}"
    if rank == "latency" and not _share_slower(option, first):
        return f"+{behind:,.0f} ms TTFT"
    return ("−" if rank == "throughput" else "+") + f"{behind:,.0%}".replace("%", " %")


_CLAUSES: dict[Rank, str] = {
    "cost": "costs {} more a token",
    "capital": "costs {} more to buy",
    "latency": "takes {} longer a token",
    "throughput": "gives {} fewer tokens a second",
}


def _behind(option: Option, first: Option, rank: Rank) -> float | None:
    """How much worse it is, as a share of the first's value; None where it is as good, infinite without a price.

    Of room it is a number of requests, of a latency that differs in the first token alone milliseconds.
    """
    if rank == "room":
        return _if_some(first.spare - option.spare, 0.5)
    if rank in ("cost", "capital"):
        of = _cost if rank == "cost" else _capital
        mine, best = of(option), of(first)
        return math.inf if mine is None else None if not best else _if_some(mine / best - 1, 0.005)
    if rank == "throughput":
        speeds = [one.estimate.output_tokens_per_second.typical for one in (option, first)]
        return _if_some(1 - speeds[0] / speeds[1], 0.005)
    if rank == "latency":
        return _share_slower(option, first) or _if_some(
            option.estimate.ttft_ms.typical - first.estimate.ttft_ms.typical, 0.5
        )
    return None


def _share_slower(option: Option, first: Option) -> float | None:
    return _if_some(option.estimate.tpot_ms.typical / first.estimate.tpot_ms.typical - 1, 0.005)


def _if_some(value: float, least: float) -> float | None:
    """None for what would be printed as nothing."""
    return value if value >= least else None


def _more_gpus(option: Option, first: Option) -> str:
    more = option.gpus - first.gpus
    if more > 0:
        return f"{more} GPU{'s' if more > 1 else ''} more"
    if option.gpu.reported_bytes > first.gpu.reported_bytes:
        return "larger GPUs"
    if option.gpu.bandwidth_bytes_per_second > first.gpu.bandwidth_bytes_per_second:
        return "faster memory"
    return "as good"
