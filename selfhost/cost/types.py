"""What is compared: options made of named lines of money, a volume, and the conventions they are counted by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date as Date  # noqa: N812 - `date` is a field's name
from typing import Literal

# What a line's amount is per. `kwh` needs the power of the machines; `residual` is money back at the end, `residual
# share` a share of what was paid once.
Unit = Literal[
    "once",
    "month",
    "year",
    "hour",
    "kwh",
    "million tokens",
    "thousand requests",
    "residual",
    "residual share",
]
Tokens = Literal["all", "input", "uncached", "cached", "output"]
Kind = Literal["buy", "rent", "api", "other"]

MONTHS = 12
# 8,760 hours are 365 days; a twelfth are the 730 hours of a month that cloud providers count with (AWS Pricing
# Calculator, 2026-11). Sources that take 8,766 (365.25 days) differ by 0.07 %.
HOURS_PER_MONTH = 730.0
MOST_MONTHS = 600  # fifty years: beyond it nothing is a calculation
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One named amount of money of an option.

    Args:
        name: for people.
        unit: what `amount` is per.
        amount: never negative; `income` says that it comes in.
        times: how many of it: GPUs, servers, people.
        from_month, until_month: first and last month that it is paid in; month 0 is the day of the decision, which
            `once` is paid on by default.
        income: money that comes in instead of going out.
        tokens: which tokens a line of `million tokens` is for.
        idle_kw, busy_kw: power of one at no load and at full load, all with PUE; for lines of `kwh`.
        only_busy: of an `hour` that is billed while it works only.
    """

    name: str
    unit: Unit
    amount: float
    times: float = 1.0
    from_month: int = 1
    until_month: int | None = None
    income: bool = False
    tokens: Tokens = "all"
    idle_kw: float = 0.0
    busy_kw: float = 0.0
    only_busy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What is served in a month.

    Args:
        input_tokens: of prompts, cached ones among them.
        output_tokens: of answers.
        cached_share: of the prompt tokens, billed or computed as cached (0-1).
        requests: None where nobody counts them.
    """

    input_tokens: float = 0.0
    output_tokens: float = 0.0
    cached_share: float = 0.0
    requests: float | None = None

    @property
    def tokens(self) -> float:
        """Of prompts and answers together."""
        return self.input_tokens + self.output_tokens

    def scaled(self, factor: float) -> Volume:
        """So many times as much of the same mix."""
        return Volume(
            input_tokens=self.input_tokens * factor,
            output_tokens=self.output_tokens * factor,
            cached_share=self.cached_share,
            requests=None if self.requests is None else self.requests * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to serve the volume.

    Args:
        name: unique in its scenario.
        kind: buy, rent, api or other.
        lines: all money.
        capacity_output_tokens_per_second: the most that it answers with; None where it takes any volume.
        gpus: that it holds, None where it holds none.
        input_share: share of what it costs that is laid on prompt tokens; None lays the same on every token.
        write_off_years: over which what was paid once is written off, for a monthly figure beside the cash.
        unknown: prices that nobody knows: the option then has no totals.
        notes: sentences for the user.
    """

    name: str
    kind: Kind
    lines: tuple[Line, ...]
    capacity_output_tokens_per_second: float | None = None
    gpus: int | None = None
    input_share: float | None = None
    write_off_years: float | None = None
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Options that are compared over the same months.

    Args:
        options: at least one.
        months: horizon.
        currency: of every amount.
        discount_rate: a year (0.08 is 8 %).
        volume: in the first month; None where only time counts.
        hours_per_month: of the calendar.
        run_hours_per_month: that machines run, where lines are per hour.
        growth_per_year: of the volume (0.5 is half as much again).
    """

    options: tuple[Option, ...]
    months: int
    currency: str
    discount_rate: float = 0.0
    volume: Volume | None = None
    hours_per_month: float = HOURS_PER_MONTH
    run_hours_per_month: float = HOURS_PER_MONTH
    growth_per_year: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One number that the result rests on, within bounds.

    Args:
        key: its name, by which a file overrides it.
        low, typical, high: in `unit`.
        unit: such as `USD/GPU` or `ratio`.
        currency: of the amount, None where it is none.
        source: page, file or a sentence that begins with `Ours:`.
        date: when that was so.
        note: a sentence, None for none.
        joint: whether it moves with all others where bounds of a result are asked for, and not in a tornado alone.
        fresh_until: last day, YYYY-MM-DD, on which its kind of price is fresh; None for what does not age.
    """

    key: str
    low: float
    typical: float
    high: float
    unit: str
    currency: str | None = None
    source: str | None = None
    date: str | None = None
    note: str | None = None
    joint: bool = True
    fresh_until: str | None = None

    @property
    def varies(self) -> bool:
        """Whether anything but the typical value is possible."""
        return self.low != self.high

    def is_stale(self, today: Date) -> bool:
        """Whether its price is older than its kind stays fresh."""
        return self.fresh_until is not None and today.isoformat() > self.fresh_until


# From one value per assumption to what is compared.
Build = Callable[[Mapping[str, float]], Scenario]
