"""A scenario file's tables -> assumptions, what builds the options of them, and published numbers to hold against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from selfhost.cost.published import Claim, claim_of
from selfhost.cost.reading import Table, spread_of
from selfhost.cost.types import (
    HOURS_PER_MONTH,
    MONTHS,
    MOST_MONTHS,
    SECONDS_PER_HOUR,
    Assumption,
    Kind,
    Line,
    Option,
    Scenario,
    Tokens,
    Unit,
    Volume,
)
from selfhost.errors import UsageError

SCHEMA = "selfhost/scenario/v1"
CURRENCIES = ("USD", "CNY", "EUR")
# Key of a line -> what the amount is per, and which tokens it is for.
AMOUNTS: dict[str, tuple[Unit, Tokens]] = {
    "upfront": ("once", "all"),
    "per_month": ("month", "all"),
    "per_year": ("year", "all"),
    "per_hour": ("hour", "all"),
    "per_kwh": ("kwh", "all"),
    "per_million_tokens": ("million tokens", "all"),
    "per_million_input": ("million tokens", "input"),
    "per_million_cached": ("million tokens", "cached"),
    "per_million_output": ("million tokens", "output"),
    "per_thousand_requests": ("thousand requests", "all"),
    "residual": ("residual", "all"),
    "residual_share": ("residual share", "all"),
}
# Of which part of the volume such a line is.
_PRICED: dict[Tokens, tuple[str, ...]] = {
    "all": ("input_tokens", "output_tokens"),
    "input": ("input_tokens",),
    "uncached": ("input_tokens",),
    "cached": ("input_tokens",),
    "output": ("output_tokens",),
}
_UNITS: dict[str, str] = {"once": "", "residual": "", "residual share": "ratio"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioFile:
    """A scenario that was read.

    Args:
        title, source, date, note: of the file, for people; None where it does not say.
        assumptions: every amount in it.
        claims: published numbers.
    """

    title: str
    source: str | None
    date: str | None
    note: str | None
    assumptions: tuple[Assumption, ...]
    claims: tuple[Claim, ...]
    template: Scenario
    volume_keys: tuple[str, ...]
    utilization: float | None

    def build(self, values: Mapping[str, float]) -> Scenario:
        """The scenario with these values in place of its amounts."""
        options = tuple(
            replace(
                option,
                lines=tuple(
                    replace(line, amount=values[f"{option.name}: {line.name}"]) for line in option.lines
                ),
            )
            for option in self.template.options
        )
        return replace(
            self.template,
            options=options,
            discount_rate=values["discount rate"],
            volume=self._volume(values),
        )

    def _volume(self, values: Mapping[str, float]) -> Volume | None:
        if self.template.volume is not None:
            given = {key: values[f"volume: {key}"] for key in self.volume_keys}
            return replace(self.template.volume, **given)
        if self.utilization is None:
            return None
        limited = [one.capacity_output_tokens_per_second for one in self.template.options]
        capacity = next((one for one in limited if one is not None), None)
        if capacity is None:
            return None
        hours = self.template.run_hours_per_month
        return Volume(output_tokens=self.utilization * capacity * SECONDS_PER_HOUR * hours)


def scenario_of(data: object) -> ScenarioFile:
    """Read the tables of a scenario file.

    Raises:
        UsageError: names the table and the key that is wrong.
    """
    top = Table(data, "The scenario")
    schema = top.text("schema", SCHEMA)
    if schema != SCHEMA:
        raise UsageError(f"The scenario is {str(schema)[:60]!r}, this selfhost reads {SCHEMA!r}.")
    title = top.text("title", "Scenario") or "Scenario"
    source, date, note = top.text("source"), top.text("date"), top.text("note")
    currency = top.one_of("currency", CURRENCIES, "USD")
    months, calendar, running = _times(top)
    rate = spread_of(top.take("discount_rate") or 0.0, "The scenario: discount_rate", most=1.0)
    assumptions = [_assumption("discount rate", rate, "ratio a year")]
    utilization = top.number("utilization", least=1e-9, most=1.0)
    volume, spreads = _volume(top, months, calendar)
    assumptions += [_assumption(f"volume: {key}", one, key) for key, one in spreads.items()]
    options = []
    for table in top.tables("option"):
        option, found = _option(table, currency)
        options.append(option)
        assumptions += found
    if not options:
        raise UsageError("The scenario has no [[option]].", hint="docs/cost.md shows one.")
    if volume is not None and not (volume.tokens or volume.requests):
        raise UsageError("The scenario: the volume is zero.", hint="Leave it out where only time counts.")
    _counted(options, volume, tuple(spreads), utilization)
    growth = top.number("growth_per_year", 0.0, least=-0.99, most=100.0) or 0.0
    claims = tuple(
        claim_of(table, tuple(option.name for option in options)) for table in top.tables("published")
    )
    top.end()
    scenario = Scenario(
        options=tuple(options), months=months, currency=currency, volume=volume, hours_per_month=calendar,
        run_hours_per_month=running, growth_per_year=growth,
    )  # fmt: skip
    return ScenarioFile(
        title=title, source=source, date=date, note=note, assumptions=tuple(assumptions), claims=claims,
        template=scenario, volume_keys=tuple(spreads), utilization=utilization,
    )  # fmt: skip


def _counted(
    options: list[Option], volume: Volume | None, given: tuple[str, ...], utilization: float | None
) -> None:
    """Refuse a price of what nobody counted: it would come to nothing, and win."""
    if utilization is not None:
        if volume is not None:
            raise UsageError("The scenario: give utilization or [volume], not both.")
        if all(one.capacity_output_tokens_per_second is None for one in options):
            raise UsageError(
                "The scenario: utilization is of a capacity, and no option has one.",
                hint="Give an option capacity_output_tokens_per_second, or give a [volume].",
            )
        given = ("output_tokens",)
    for option in options:
        for line in option.lines:
            needed = {"thousand requests": ("requests",), "million tokens": _PRICED[line.tokens]}.get(
                line.unit, ()
            )
            if needed and not set(needed) & set(given):
                raise UsageError(
                    f"Option {option.name!r}, line {line.name!r} is priced by what the volume does not say: "
                    f"{' or '.join(needed)}.",
                    hint="Say it in [volume], 0 where there is none.",
                )


def _times(top: Table) -> tuple[int, float, float]:
    """Horizon in months, hours of a month of the calendar, and hours of it that machines run."""
    years, months = top.number("years", least=1 / MONTHS), top.whole("months", least=1)
    if years is not None and months is not None:
        raise UsageError("The scenario: give years or months, not both.")
    span = months or round((3.0 if years is None else years) * MONTHS)
    if span > MOST_MONTHS:
        raise UsageError(f"The scenario: {span} months are more than {MOST_MONTHS}.")
    monthly = top.number("hours_per_month", least=1.0, most=744.0)
    yearly = top.number("hours_per_year", least=12.0, most=8784.0)
    if monthly is not None and yearly is not None:
        raise UsageError("The scenario: give hours_per_month or hours_per_year, not both.")
    calendar = monthly or (HOURS_PER_MONTH if yearly is None else yearly / MONTHS)
    daily = top.number("run_hours_per_day", least=1e-6, most=24.0)
    running = top.number("run_hours_per_month", least=1e-6, most=744.0)
    if daily is not None and running is not None:
        raise UsageError("The scenario: give run_hours_per_day or run_hours_per_month, not both.")
    if daily is not None:
        running = daily * calendar / 24.0
    if running is not None and running > calendar * (1 + 1e-9):
        raise UsageError(f"The scenario: machines run {running:g} hours in a month of {calendar:g}.")
    return span, calendar, calendar if running is None else running


def _volume(
    top: Table, months: int, calendar: float
) -> tuple[Volume | None, dict[str, tuple[float, float, float]]]:
    if not top.has("volume"):
        return None, {}
    table = Table(top.take("volume"), "The scenario: volume")
    per = table.one_of("per", ("month", "day", "year", "total"), "month")
    factor = {"month": 1.0, "day": calendar / 24.0, "year": 1 / MONTHS, "total": 1 / months}[per]
    spreads: dict[str, tuple[float, float, float]] = {}
    for key in ("input_tokens", "output_tokens", "requests"):
        if table.has(key):
            low, middle, high = spread_of(table.take(key), f"{table.where}: {key}")
            spreads[key] = (low * factor, middle * factor, high * factor)
    if table.has("cached_share"):
        spreads["cached_share"] = spread_of(
            table.take("cached_share"), f"{table.where}: cached_share", most=1.0
        )
    table.end()
    return Volume(**{key: middle for key, (_, middle, _) in spreads.items()}), spreads


def _option(table: Table, currency: str) -> tuple[Option, list[Assumption]]:
    name = table.text("name")
    if name is None:
        raise UsageError(f"{table.where} has no name.")
    table.where = f"Option {name!r}"
    kind = table.one_of("kind", ("buy", "rent", "api", "other"), "other")
    capacity = table.number("capacity_output_tokens_per_second", least=1e-9)
    gpus, share = table.whole("gpus", least=1), table.number("input_share", most=1.0)
    years = table.number("write_off_years", least=0.1, most=50.0)
    lines: list[Line] = []
    found: list[Assumption] = []
    unknown: list[str] = []
    tables = table.tables("line")
    cached = any(one.has("per_million_cached") for one in tables)
    for number, each in enumerate(tables, 1):
        line, assumption = _line(each, number, name, currency, cached_priced=cached)
        if line is None:
            unknown.append(assumption.key.removeprefix(f"{name}: "))
            continue
        lines.append(line)
        found.append(assumption)
    table.end()
    if not tables:
        raise UsageError(f"{table.where} has no line, so that nothing says what it costs.")
    option = Option(
        name=name, kind=cast(Kind, kind), lines=tuple(lines), capacity_output_tokens_per_second=capacity, gpus=gpus,
        input_share=share, write_off_years=years, unknown=tuple(unknown),
    )  # fmt: skip
    return option, found


def _line(
    table: Table, number: int, option: str, currency: str, *, cached_priced: bool
) -> tuple[Line | None, Assumption]:
    name = table.text("name", f"line {number}") or ""
    table.where = f"Option {option!r}, line {name!r}"
    given = [key for key in AMOUNTS if table.has(key)]
    if len(given) != 1:
        close = None if given else table.like(AMOUNTS)
        raise UsageError(
            f"{table.where} needs exactly one amount, and has {' and '.join(given) or 'none'}.",
            hint=f"Is {close[0][:60]!r} meant to be {close[1]}?"
            if close
            else f"One of {', '.join(AMOUNTS)}.",
        )
    unit, tokens = AMOUNTS[given[0]]
    if tokens == "input" and cached_priced:
        tokens = "uncached"
    value = table.take(given[0])
    unknown = value == "unknown"
    most = 1.0 if unit == "residual share" else 1e18
    spread = (0.0, 0.0, 0.0) if unknown else spread_of(value, f"{table.where}: {given[0]}", most=most)
    times = (table.number("times", 1.0) or 0.0) * _peak(table)
    busy, idle = _power(table, unit)
    first = table.whole("at_month" if unit == "once" else "from_month", 0 if unit == "once" else 1)
    last = None if unit == "once" else table.whole("until_month", least=1)
    if last is not None and last < (first or 0):
        raise UsageError(f"{table.where}: until_month {last} comes before from_month {first}.")
    line = Line(
        name=name, unit=unit, amount=spread[1], times=times, from_month=first or 0, until_month=last,
        income=table.flag("income"), tokens=tokens, idle_kw=idle, busy_kw=busy, only_busy=table.flag("only_busy"),
    )  # fmt: skip
    per = _UNITS.get(unit, f"/{unit.replace('kwh', 'kWh')}")
    assumption = _assumption(
        f"{option}: {name}",
        spread,
        per if per == "ratio" else f"{currency}{per}",
        currency=None if per == "ratio" else currency,
        source=table.text("source"),
        date=table.text("date"),
        note=table.text("note"),
    )
    table.end()
    return None if unknown else line, assumption


def _peak(table: Table) -> float:
    """What hours of a day at another price make of the price of a day."""
    if not table.has("peak"):
        return 1.0
    peak = Table(table.take("peak"), f"{table.where}: peak")
    hours, factor = peak.number("hours_per_day", most=24.0), peak.number("factor")
    peak.end()
    if hours is None or factor is None:
        raise UsageError(f"{peak.where} needs hours_per_day and factor.")
    return 1.0 + (factor - 1.0) * hours / 24.0


def _power(table: Table, unit: Unit) -> tuple[float, float]:
    """kW at full load and at none, with PUE; both the same where nothing is said of idling."""
    if unit != "kwh":
        return 0.0, 0.0
    full = table.number("kw")
    if full is None:
        raise UsageError(f"{table.where} needs kw, the power that its price per kWh is for.")
    pue = table.number("pue", 1.0, least=1.0, most=10.0) or 1.0
    load = table.number("load", 1.0, most=1.0)
    busy = full * pue * (1.0 if load is None else load)
    idle = table.number("idle_kw")
    return busy, busy if idle is None else idle * pue


def _assumption(
    key: str,
    spread: tuple[float, float, float],
    unit: str,
    *,
    currency: str | None = None,
    source: str | None = None,
    date: str | None = None,
    note: str | None = None,
) -> Assumption:
    low, typical, high = spread
    return Assumption(
        key=key,
        low=low,
        typical=typical,
        high=high,
        unit=unit,
        currency=currency,
        source=source,
        date=date,
        note=note,
    )
