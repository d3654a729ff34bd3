"""The ranked table for people: the best first, what each of the others is behind by, and what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from selfhost.cli._output import Align, emit_json, headline, say, table
from selfhost.cli._placements import SHOWN, Asked, licence_words, notes_of
from selfhost.cli._rank_options import Wish
from selfhost.cli._ranked import ranked_facts
from selfhost.cli._sizing import as_sentence
from selfhost.errors import UnsupportedError
from selfhost.units import gib

if TYPE_CHECKING:
    from selfhost.plan import Plan
    from selfhost.ranking import Found, Load, Option, Rank
    from selfhost.throughput.types import Range

DOES_NOT_FIT = 4


def per_second(rate: float) -> str:
    """`1 request a second`, `2.5 requests a second`."""
    number = f"{rate:,.0f}" if rate >= 1000 else f"{rate:.3g}"
    return f"{number} request{'' if number == '1' else 's'} a second"


def load_words(load: Load) -> str:
    """`32 at once of 1,024 + 256 tokens`."""
    traffic = load.traffic
    sizes = f"{traffic.prompt_tokens:,} + {traffic.output_tokens:,} tokens"
    if traffic.request_rate is not None:
        return f"{per_second(traffic.request_rate)} of {sizes}"
    count = traffic.concurrency or 1
    return f"{count:,} request{'' if count == 1 else 's'} at once of {sizes}"


def show_ranked(
    asked: Asked,
    options: tuple[Option, ...],
    found: Found,
    plan: Plan | None,
    pick: int,
    load: Load,
    wish: Wish,
) -> None:
    """The best, the ranked table, and what is left out."""
    best = options[0]
    headline(f"{_title(wish, best)}: {_best(asked, best, wish)}, for {load_words(load)}.", good=True)
    click.echo()
    rows = list(enumerate(options, start=1))
    shown = rows[:SHOWN] if pick <= SHOWN else [*rows[: SHOWN - 1], rows[pick - 1]]
    table(_columns(wish), [_row(number, option, best, asked, wish) for number, option in shown], wrap=1)
    click.echo()
    say(_legend(wish, best, starred=any(not option.published for _, option in shown)))
    if len(options) > len(shown):
        kinds = "kinds of GPU" if len(asked.gpus) > 1 else "ways"
        say(f"{len(options)} {kinds} carry it, of {found.tried:,} combinations that were tried.")
    click.echo()
    if found.missed:
        say(_left_out(found))
    say(f"Licence: {licence_words(asked.licence)}.")
    for note in () if plan is None else notes_of(asked, plan):
        say(f"Note: {note}")


_SYMBOLS = {"USD": "$", "EUR": "€", "CNY": "¥"}
# What the last column of the table counts.
_BEHIND: dict[Rank, str] = {
    "gpus": "what it takes more",
    "cost": "how much more a token costs",
    "capital": "how much more it costs to buy",
    "latency": "how much longer a token takes",
    "throughput": "how many tokens a second fewer",
    "room": "how many more requests at once the first lets in",
}


def _columns(wish: Wish) -> tuple[tuple[str, Align], ...]:
    money = _SYMBOLS[(wish.currency or "USD").upper()]
    return (
        ("#", "right"), ("GPUs", "left"), ("weights", "left"), ("room", "right"), ("tok/s", "right"),
        ("TTFT s", "right"), *_money_columns(wish, money), ("why not first", "left"),
    )  # fmt: skip


def _money_columns(wish: Wish, money: str) -> tuple[tuple[str, Align], ...]:
    """The rent and its share of a token; the price to buy takes the place of the latter where that is the order."""
    if wish.rank == "capital":
        return ((f"{money}/h", "right"), (f"{money}k", "right"))
    if wish.rank == "latency":
        return (("TPOT ms", "right"), (f"{money}/Mtok", "right"))
    return ((f"{money}/h", "right"), (f"{money}/Mtok", "right"))


def _row(number: int, option: Option, best: Option, asked: Asked, wish: Wish) -> tuple[str, ...]:
    from selfhost.ranking import behind_first

    speed, cost = option.estimate, option.cost
    hour, token, capital = (None, None, None) if cost is None else (
        cost.per_hour, cost.per_million_output_tokens, cost.capital
    )  # fmt: skip
    first = f"{speed.tpot_ms.typical:.1f}" if wish.rank == "latency" else _money(hour)
    second = _money(capital, per=1000) if wish.rank == "capital" else _money(token)
    where = f"{option.gpus} × {option.gpu.name}"
    if option.replicas > 1:
        where += f" in {option.replicas} replicas"
    if wish.search_engines:
        where += f" on {option.engine.engine}"
    return (
        str(number),
        where,
        _weights(option, asked),
        f"{option.room:.1f}×",
        f"{speed.output_tokens_per_second.typical:,.0f}",
        _seconds(speed.ttft_ms),
        first,
        second,
        behind_first(option, best, wish.rank),
    )


def _weights(option: Option, asked: Asked) -> str:
    name = option.quantization or asked.spec.quantization or asked.spec.dtype
    return {"bfloat16": "bf16", "float16": "fp16"}.get(name, name) + ("" if option.published else "*")


def _seconds(found: Range) -> str:
    low, high = found.low / 1e3, found.high / 1e3
    digits = 2 if high < 0.1 else 1 if high < 10 else 0
    return f"{low:.{digits}f}–{high:.{digits}f}" if high < 1000 else "> 1000"


def _money(found: Range | None, *, per: float = 1.0) -> str:
    """Unknown is `?`, never 0."""
    if found is None:
        return "?"
    value = found.typical / per
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _best(asked: Asked, best: Option, wish: Wish) -> str:
    """`2 × H200 SXM 141GB (fp8), $0.61 per million tokens`."""
    speed = best.estimate
    words = f"{best.gpus} × {best.gpu.name} ({_weights(best, asked).rstrip('*')}"
    words += f", {best.engine})" if wish.search_engines else ")"
    if wish.rank == "capital" and best.cost is not None and best.cost.capital is not None:
        words += f", {_symbol(best)}{best.cost.capital.typical:,.0f} to buy"
    elif best.cost is not None and best.cost.per_million_output_tokens is not None:
        words += f", {_symbol(best)}{_money(best.cost.per_million_output_tokens)} per million output tokens"
    return f"{words}, {1000 / speed.tpot_ms.typical:,.0f} tok/s per user"


def _symbol(option: Option) -> str:
    return "" if option.cost is None else _SYMBOLS[option.cost.currency]


_TITLES: dict[Rank, str] = {
    "gpus": "Fewest GPUs",
    "cost": "Best value",
    "capital": "Least to buy",
    "latency": "Quickest",
    "throughput": "Most tokens",
    "room": "Most room",
}


def _title(wish: Wish, best: Option) -> str:
    """What the first row is; where not even its price is known, by price it is nothing."""
    if wish.rank == "cost" and (best.cost is None or best.cost.per_million_output_tokens is None):
        return f"No rent is known, {wish.tier or 'specialty'} {wish.term or 'on-demand'}; the fewest GPUs"
    if wish.rank == "capital" and (best.cost is None or best.cost.capital is None):
        return "No price to buy is known; the fewest GPUs"
    return _TITLES[wish.rank]


def _legend(wish: Wish, best: Option, *, starred: bool) -> str:
    """What the columns mean, and whose prices they are."""
    text = (
        f"Ranked by {_RANKED[wish.rank]}. Room is how many times the requests under way would be let in; TTFT from a "
        "request alone to one of 20 that waits longest."
    )
    if best.cost is not None:
        text += f" Rent: {best.cost.tier}, {best.cost.term}."
        if wish.rank == "capital":
            text += " To buy: in thousands, with the servers around the GPUs."
    text += f" Why not first: {_BEHIND[wish.rank]}."
    if starred:
        text += (
            " * needs weights that are published in this format: give that repository instead of this model."
        )
    return text


_RANKED: dict[Rank, str] = {
    "gpus": "the fewest GPUs",
    "cost": "cost per million output tokens under this load",
    "capital": "what it costs to buy",
    "latency": "time per output token, then to the first",
    "throughput": "output tokens a second",
    "room": "requests at once beside those under way",
}


def show_none(asked: Asked, found: Found, load: Load, wish: Wish, *, as_json: bool) -> int:
    """What every kind of GPU lacks; the exit code of what does not fit.

    Raises:
        UnsupportedError: the engines run it nowhere, so that more memory or GPUs would not help.
    """
    from selfhost.ranking import SLOW

    could = [miss for miss in found.missed if miss.short_bytes is not None or miss.because.startswith(SLOW)]
    if not could:
        because = found.missed[0].because if found.missed else "no kind of GPU was tried"
        raise UnsupportedError(as_sentence(f"{asked.spec.id}: {because}"))
    if as_json:
        emit_json("placements", ranked_facts(asked, (), found, None, 1, None, load, wish))
        return DOES_NOT_FIT
    headline(f"Nothing carries {load_words(load)} of {asked.spec.id}.", good=False)
    click.echo()
    say(_left_out(found))
    return DOES_NOT_FIT


def _left_out(found: Found) -> str:
    """The nearest misses, in one paragraph."""
    parts = []
    for miss in found.missed[:SHOWN]:
        short = miss.because if miss.short_bytes is None else f"short {gib(miss.short_bytes)} GiB a GPU"
        parts.append(f"{miss.split.gpus} × {miss.gpu_id} {short}")
    more = f" · and {len(found.missed) - SHOWN} more" if len(found.missed) > SHOWN else ""
    return f"Refused: {' · '.join(parts)}{more}."
