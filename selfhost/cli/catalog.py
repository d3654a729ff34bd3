"""Show the prices behind costs with their sources and dates, and check which of them are stale."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._options import complete_gpu, json_option
from selfhost.cli._output import emit_json, facts, headline, next_step, say, table
from selfhost.errors import SelfhostError, UsageError

if TYPE_CHECKING:
    from selfhost.api_prices import ApiModel, ApiPrice
    from selfhost.catalog.prices import Figure, Prices

_prices_option = click.option(
    "--prices", "own", type=click.Path(path_type=Path), metavar="FILE",
    help="Own prices before the catalogue's: YAML, TOML or JSON.",
)  # fmt: skip
_as_of_option = click.option(
    "--as-of", metavar="DATE", help="Day to count from, YYYY-MM-DD.  [default: today]"
)


@click.group()
def command() -> None:
    """Prices of GPUs, servers, power, people and APIs: each within bounds, dated and with the page it is from."""


@command.command(short_help="List the rows that are stale.")
@_as_of_option
@click.option("--strict", is_flag=True, help="Leave with exit code 1 where a row is stale.")
@_prices_option
@json_option
def check(as_of: str | None, strict: bool, own: Path | None, as_json: bool) -> int:
    """List the prices that are older than their kind stays fresh, the longest overdue first.

    A date that names a month or a year counts from its first day. Own prices of --prices are never stale. Exit code 0
    also where rows are stale, unless --strict asks for 1.
    """
    from selfhost.api_prices import FRESH_DAYS, stale_prices
    from selfhost.api_prices.rows import own_prices
    from selfhost.catalog.prices import load_prices

    day = _day(as_of)
    prices = load_prices(own)
    rows = [
        (one.figure.key, one.figure.date, one.age_days, one.fresh_days, one.figure.source)
        for one in prices.stale(day)
    ]
    rows += [
        (f"api.{price.provider}.{price.model}", price.date, age, FRESH_DAYS, price.source)
        for price, age in stale_prices(day)
    ]
    rows.sort(key=lambda row: (row[3] - row[2], row[0]))
    total = len(prices.rows()) + len(own_prices())
    if as_json:
        names = ("key", "date", "age_days", "fresh_days", "source")
        stale = [dict(zip(names, row, strict=True)) for row in rows]
        emit_json("catalog-check", {"as_of": day.isoformat(), "rows": total, "stale": stale})
    else:
        _show_stale(rows, total, day)
    return 1 if strict and rows else 0


def _show_stale(rows: list[tuple[str, str, int, int, str | None]], total: int, day: date) -> None:
    if not rows:
        headline(f"All {total} prices are fresh on {day}.", good=True)
        return
    headline(f"{len(rows)} of {total} prices are stale on {day}.", good=False)
    click.echo()
    table(
        (("price of", "left"), ("date", "left"), ("days old", "right"), ("fresh for", "right")),
        [(key, seen, str(age), str(fresh)) for key, seen, age, fresh, _ in rows],
        wrap=0,
    )
    next_step("selfhost cost … --prices FILE", "own prices before the catalogue's")


@command.command(short_help="Show prices with their sources and dates.")
@click.argument("query", required=False, metavar="[GPU]", shell_complete=complete_gpu)
@click.option("--currency", metavar="CODE", help="USD, CNY or EUR.  [default: as published]")
@_prices_option
@json_option
def prices(query: str | None, currency: str | None, own: Path | None, as_json: bool) -> None:
    """Show every price of a GPU, of a kind (`electricity`, `fx`), or of a country (`CN`); all without one.

    low and high are the extremes of the published prices that count, typical is their median. A GPU that nobody gave a
    price for is unknown.
    """
    from selfhost.catalog.prices import load_prices

    loaded = load_prices(own)
    chosen, unknown = _chosen(loaded, query)
    if currency is not None:
        chosen = [loaded.convert(figure, currency) for figure in chosen]
    if as_json:
        emit_json("catalog-prices", {"prices": [_facts(figure) for figure in chosen], "unknown": unknown})
        return
    if query is None:
        headline(f"{len(chosen)} prices; {len(unknown)} GPUs have no price to buy at, new or used.")
    elif not chosen:
        headline(f"No price of {unknown[0]} is known.", good=False)
        next_step("selfhost cost … --prices FILE", "give it one of your own")
        return
    else:
        bought = "; its price to buy is unknown" if unknown else ""
        headline(f"{len(chosen)} price{'s' if len(chosen) > 1 else ''} of {query}{bought}.")
    _show_prices(chosen, numbered=query is not None)


def _chosen(loaded: Prices, query: str | None) -> tuple[list[Figure], list[str]]:
    """The rows a query means, and the GPUs in question whose price to buy is not known."""
    from selfhost.catalog.gpus import find_gpu, gpu_ids
    from selfhost.catalog.prices import KINDS
    from selfhost.errors import UnknownGpuError

    def unpriced(gpu_id: str) -> bool:
        return all(loaded.gpu_purchase(gpu_id, condition) is None for condition in ("new", "used"))

    if query is None:
        return list(loaded.rows()), [gpu_id for gpu_id in gpu_ids() if unpriced(gpu_id)]
    parts = [(figure, figure.key.split(".")) for figure in loaded.rows()]
    if query in KINDS:
        return [figure for figure, keys in parts if keys[0] == query], []
    by_country = [
        figure for figure, keys in parts if keys[-1] == query.upper() and "country" in KINDS[keys[0]].keys
    ]
    if by_country:
        place = loaded.colocation(query)  # the world's, where the country has none of its own
        return by_country + [one for one in (place,) if one is not None and one not in by_country], []
    try:
        gpu = find_gpu(query)
    except UnknownGpuError as error:
        hint = f"{error.hint or ''} Kinds: {', '.join(KINDS)}.".strip()
        raise UnknownGpuError(error.message, hint=hint) from None
    return [figure for figure, keys in parts if keys[1] == gpu.id], [gpu.id] if unpriced(gpu.id) else []


def _show_prices(chosen: list[Figure], *, numbered: bool) -> None:
    sources = list(dict.fromkeys(figure.source for figure in chosen if figure.source)) if numbered else []
    units = [figure.unit.partition(" ")[0] for figure in chosen]
    money = units[0].partition("/")[0] if "/" in units[0] else ""
    if not all(unit.startswith(f"{money}/") for unit in units):
        money = ""
    click.echo()
    table(
        (
            ("price of", "left"),
            ("low", "right"),
            ("typical", "right"),
            ("high", "right"),
            (f"{money} per" if money else "per", "left"),
            ("date", "left"),
            ("sure", "left"),
            *((("from", "right"),) if numbered else ()),
        ),
        [
            (
                _short(figure.key) if numbered else figure.key,
                *(_number(value) for value in (figure.low, figure.typical, figure.high)),
                unit.removeprefix(f"{money}/"),
                figure.date,
                figure.confidence,
                *((str(sources.index(figure.source) + 1) if figure.source else "–",) if numbered else ()),
            )
            for figure, unit in zip(chosen, units, strict=True)
        ],
        wrap=0,
    )
    if not numbered:
        next_step("selfhost catalog prices h100-sxm-80gb", "one GPU with its sources")
        return
    if sources:
        click.echo("\nFrom:")
        facts({str(number): source for number, source in enumerate(sources, 1)})
    for note in dict.fromkeys(figure.note for figure in chosen if figure.note):
        say(f"Note: {note}")


def _short(key: str) -> str:
    """A row's name without the GPU that was asked for: `rent specialty on-demand`."""
    kind, *rest = key.split(".")
    verbs = {"gpu_purchase": "buy", "gpu_rental": "rent", "server_purchase": "server of"}
    return " ".join((verbs[kind], *rest[1:])) if kind in verbs else key


def _number(value: float) -> str:
    for least, by, sign in ((1e6, 1e6, "M"), (1e5, 1e3, "k")):
        if value >= least:
            return f"{value / by:.4g}{sign}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _facts(figure: Figure) -> dict[str, object]:
    given = asdict(figure)
    return {"key": given.pop("key"), **given, "seen": [asdict(one) for one in figure.seen]}


@command.command(short_help="Show what model APIs charge.")
@click.argument("query", nargs=-1, metavar="[WORDS]...")
@json_option
def api(query: tuple[str, ...], as_json: bool) -> None:
    """Show what APIs charge per million tokens; WORDS keep the models whose provider, id or weights hold them all.

    Without genai-prices (extra `prices`), the models of the catalogue alone.
    """
    from selfhost.api_prices import api_models, genai, price_of

    now = datetime.now(UTC)
    found = [
        (model, price_of(model.provider, model.model, when=now)) for model in api_models(" ".join(query))
    ]
    if not found:
        more = "" if genai.available() else "; the extra selfhost[prices] knows more"
        raise SelfhostError(
            f"No model API holds {' '.join(query)[:80]!r}.",
            hint=f"`selfhost catalog api` lists those that are known{more}.",
        )
    if as_json:
        emit_json("catalog-api", {"models": [_api_facts(model, price) for model, price in found]})
        return
    headline(f"{len(found)} model{'s' if len(found) > 1 else ''}, per million tokens.")
    click.echo()
    table(
        (
            ("provider/model", "left"),
            ("input", "right"),
            ("cached", "right"),
            ("output", "right"),
            ("in", "left"),
            ("date", "left"),
        ),
        [_api_row(model, price) for model, price in found],
        wrap=0,
    )
    if len(found) == 1:
        click.echo()
        for sentence in _remarks(*found[0]):
            say(sentence)
    elif any(price is not None and (price.tiers or price.windows) for _, price in found):
        click.echo()
        say("* other prices for long prompts or at some hours; words that leave one model tell them.")


def _api_row(model: ApiModel, price: ApiPrice | None) -> tuple[str, ...]:
    if price is None:
        return (f"{model.provider}/{model.model}", "–", "–", "–", "", "unknown")
    rates = price.rates
    cached = "–" if rates.cached_input is None else _number(rates.cached_input)
    more = "*" if price.tiers or price.windows else ""
    return (
        f"{model.provider}/{model.model}", _number(rates.input) + more, cached, _number(rates.output) + more,
        price.currency, price.date,
    )  # fmt: skip


def _remarks(model: ApiModel, price: ApiPrice | None) -> list[str]:
    if price is None:
        return [model.unpriced or "Its price is not known."]
    said = [
        f"Prompts above {tier.above_tokens:,} tokens: {_number(tier.rates.input)} and {_number(tier.rates.output)}."
        for tier in price.tiers
    ]
    said += [
        f"From {window.start / 2:g} to {window.end / 2:g} h UTC{', Monday to Friday' if window.weekdays else ''}: "
        f"{_number(window.rates.input)} and {_number(window.rates.output)}."
        for window in price.windows
    ]
    if price.batch is not None:
        said.append(f"In batches: {_number(price.batch.input)} and {_number(price.batch.output)}.")
    return [
        *said,
        *([price.note] if price.note else []),
        f"Source: {price.source} ({price.confidence} confidence).",
    ]


def _api_facts(model: ApiModel, price: ApiPrice | None) -> dict[str, object]:
    if price is None:
        return {**asdict(model), "price": None}
    given = asdict(price)
    for name in ("provider", "model", "origin"):
        del given[name]
    given["windows"] = [
        {
            "start_hour": window.start / 2,
            "end_hour": window.end / 2,
            "weekdays": window.weekdays,
            "rates": asdict(window.rates),
        }
        for window in price.windows
    ]
    return {**asdict(model), "price": given}


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--as-of {text[:40]!r} is no date.", hint="Write YYYY-MM-DD.") from None
