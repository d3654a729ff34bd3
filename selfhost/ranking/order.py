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
    "gpus": lambda option: (),
    "cost": lambda option: _known(_cost(option)),
    "capital": lambda option: _known(_capital(option)),
    "latency": lambda option: (option.estimate.tpot_ms.typical, option.estimate.ttft_ms.typical),
    "throughput": lambda option: (-option.estimate.output_tokens_per_second.typical,),
    "room": lambda option: (-option.spare,),
}


def key_of(option: Option, rank: Rank) -> tuple[object, ...]:
    """What options are sorted by, smallest first; ties go to fewer and smaller GPUs, as in `RANKING`."""
    gpu, gpus = option.gpu, option.gpus
    return (
        *_KEYS[rank](option),
        gpus,
        gpu.reported_bytes * gpus,
        gpu.bandwidth_bytes_per_second * gpus,
        gpu.id,
        not option.published,  # weights that the engine makes itself before such as have to be published
        option.quantization or "",
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
    ranked = sorted(options, key=lambda option: key_of(option, rank))
    if not each_gpu:
        return tuple(ranked)
    first: dict[str, Option] = {}
    for option in ranked:
        first.setdefault(option.gpu.id, option)
    return tuple(first.values())


def why_not_first(option: Option, first: Option, rank: Rank) -> str:
    """By how much it is behind the first, in a few words; empty for the first itself."""
    if option is first:
        return ""
    if rank == "cost":
        return _dearer(_cost(option), _cost(first), "a token")
    if rank == "capital":
        return _dearer(_capital(option), _capital(first), "to buy")
    if rank == "latency":
        return _slower(option, first)
    if rank == "throughput":
        best, mine = (one.estimate.output_tokens_per_second.typical for one in (first, option))
        return _percent(best, mine, "{} % fewer tokens/s") or _more_gpus(option, first)
    if rank == "room":
        fewer = round(first.spare - option.spare)
        return f"room for {fewer:,} fewer" if fewer > 0 else _more_gpus(option, first)
    return _more_gpus(option, first)


def _percent(larger: float, smaller: float, words: str) -> str:
    """How much the second is below the first, as a part of the first; empty where it rounds to nothing."""
    share = 0 if larger <= 0 else round((larger - smaller) / larger * 100)
    return words.format(share) if share > 0 else ""


def _dearer(mine: float | None, best: float | None, per: str) -> str:
    if mine is None:
        return "no known price"
    share = round((mine / best - 1) * 100) if best else 0
    if share > 999:
        return f"{mine / (best or 1):,.0f} × as much {per}"
    return f"{share:+,} % {per}" if share > 0 else f"as much {per}"


def _slower(option: Option, first: Option) -> str:
    mine, best = option.estimate, first.estimate
    share = round((mine.tpot_ms.typical / best.tpot_ms.typical - 1) * 100)
    if share > 999:
        return f"{mine.tpot_ms.typical / best.tpot_ms.typical:,.0f} × as slow"
    if share > 0:
        return f"{share:+,} % a token"
    later = mine.ttft_ms.typical - best.ttft_ms.typical
    return f"first {later:,.0f} ms later" if later >= 1 else _more_gpus(option, first)


def _more_gpus(option: Option, first: Option) -> str:
    more = option.gpus - first.gpus
    if more > 0:
        return f"{more} GPU{'s' if more > 1 else ''} more"
    extra = option.gpu.reported_bytes - first.gpu.reported_bytes
    if extra > 0:
        return "larger GPUs"
    if option.gpu.bandwidth_bytes_per_second > first.gpu.bandwidth_bytes_per_second:
        return "faster memory"
    return "alike"
