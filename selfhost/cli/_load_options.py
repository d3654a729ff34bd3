"""Options of load, goals, money and place that several commands take, each declared once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from selfhost.cli._cost_deployment import DECIMAL
from selfhost.cli._options import AT_LEAST, COUNT, RATIO, NamedPath
from selfhost.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

PROMPT_TOKENS, OUTPUT_TOKENS = 1024, 256  # of a request, where nobody says
MOST_YEARS = 5  # Ours: hardware is written off within five years, and no price lasts longer
_FILE = NamedPath(path_type=Path)
_USUAL_NAMES = {"UK": "GB", "EL": "GR"}  # ISO 3166-1 has GB and GR; Eurostat and people write the others


class _Milliseconds(click.FloatRange):
    """A time more than 0; `nan` and `inf`, which pass every range, are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        time = float(super().convert(value, param, ctx))
        if not math.isfinite(time):
            self.fail(f"{value} is not a number of milliseconds.", param, ctx)
        return time


class _Share(click.FloatRange):
    """A share from 0 to 1; `nan`, which passes every range, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        share = float(super().convert(value, param, ctx))
        if math.isnan(share):
            self.fail("nan is not a share between 0 and 1.", param, ctx)
        return share


_MILLISECONDS = _Milliseconds(min=0, min_open=True)
SHARE = _Share(0, 1)


def _all(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Several options as one decorator, in this order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def length_options(*, default: bool = True, instead: str = "") -> Callable[[F], F]:
    """`--prompt-tokens` and `--output-tokens`.

    Args:
        default: give the usual lengths where nothing is typed, instead of None.
        instead: what stands for a length that is not typed, before the usual one.
    """
    return _all(
        [
            click.option(
                flag, type=COUNT, default=usual if default else None, metavar="N",
                help=f"{of}  [default: {instead}{usual}]",
            )
            for flag, usual, of in (
                ("--prompt-tokens", PROMPT_TOKENS, "Of a request."),
                ("--output-tokens", OUTPUT_TOKENS, "Of its answer."),
            )
        ]
    )  # fmt: skip


def goal_options(*, of: str = "") -> Callable[[F], F]:
    """`--ttft-goal` and `--tpot-goal`; `of` begins the sentence where they are of full load."""
    verbs = {"--ttft-goal": "the first token", "--tpot-goal": "each further token"}
    wanted = {
        "--ttft-goal": "Longest time to the first token that is wanted.",
        "--tpot-goal": "Longest time per output token that is wanted.",
    }
    return _all(
        [
            click.option(
                flag, type=_MILLISECONDS, metavar="MS",
                help=f"{of} keeps {verbs[flag]} within this." if of else wanted[flag],
            )
            for flag in verbs
        ]
    )  # fmt: skip


def speed_options(*, default: bool = True) -> Callable[[F], F]:
    """Load and goals that a speed is estimated under; None for what is not typed where `default` is false."""
    return _all(
        [
            length_options(default=default),
            click.option(
                "--request-rate", type=float, metavar="R",
                help="Requests a second, arriving at random, instead of --concurrency.",
            ),
            click.option(
                "--prefix-hit-ratio", type=float, default=0.0 if default else None, metavar="R",
                help="Share of the prompts that the prefix cache holds (0-1).  [default: 0]",
            ),
            click.option(
                "--acceptance", type=float, metavar="R", help="Share of drafted tokens that is accepted (0-1)."
            ),
            goal_options(),
        ]
    )  # fmt: skip


def volume_options(*, utilization: str = "") -> Callable[[F], F]:
    """The four ways to say a volume, and what a cache holds of it.

    Args:
        utilization: what holds where none of the four is typed.
    """
    return _all(
        [
            click.option(
                "--tokens-per-month", type=DECIMAL, metavar="N",
                help="Volume: prompts and answers, as 200M or 1.5B.",
            ),
            click.option("--requests-per-month", type=DECIMAL, metavar="N", help="Volume: requests."),
            click.option(
                "--request-rate", type=DECIMAL, metavar="R", help="Volume: requests a second, on average."
            ),
            click.option(
                "--utilization", type=RATIO, metavar="R",
                help=f"Volume: share of what the copies can answer with.{utilization}",
            ),
            click.option(
                "--cached-share", type=SHARE, default=0.0, metavar="R",
                help="Share of prompt tokens that a cache holds, here and at the API.  [default: 0]",
            ),
        ]
    )  # fmt: skip


def _years(context: click.Context, param: click.Parameter, value: int) -> int:
    if value > MOST_YEARS:
        raise UsageError(f"--years must be between 1 and {MOST_YEARS}, not {value}.")
    return value


def _country(context: click.Context, param: click.Parameter, value: str) -> str:
    if len(value) != 2 or not (value.isascii() and value.isalpha()):
        raise UsageError(
            f"--country {value[:40]!r} is no country.", hint="Two letters, such as US, CN or DE."
        )
    return _USUAL_NAMES.get(value.upper(), value.upper())


def _currency(context: click.Context, param: click.Parameter, value: str) -> str:
    from selfhost.catalog.prices import currency_of

    return currency_of(value)


def way_options(function: F) -> F:
    """What is compared besides buying."""
    return _all(
        [
            click.option(
                "--rent", multiple=True, metavar="TIER[:TERM]|all",
                help="Compare with renting: hyperscaler, specialty, marketplace, serverless; on-demand, 1y, 3y, spot.",
            ),
            click.option("--api", multiple=True, metavar="PROVIDER/MODEL", help="Compare with an API."),
        ]
    )(function)  # fmt: skip


def place_options(*, currency: str = "Of the result") -> Callable[[F], F]:
    """Country, currency, horizon, where machines stand, and own prices.

    Args:
        currency: what the currency is of.
    """
    return _all(
        [
            click.option(
                "--country", default="US", show_default=True, metavar="CC", callback=_country,
                help="Where machines and people are.",
            ),
            click.option(
                "--currency", default="USD", show_default=True, metavar="C", callback=_currency,
                help=f"{currency}: USD, CNY or EUR.",
            ),
            click.option(
                "--years", type=AT_LEAST[1], default=3, metavar="N", callback=_years,
                help=f"Horizon, 1 to {MOST_YEARS}.  [default: 3]",
            ),
            click.option(
                "--hosted", type=click.Choice(["colocation", "office"]), default="colocation", show_default=True,
                help="Where owned machines stand.",
            ),
            click.option("--prices", type=_FILE, metavar="FILE", help="Own prices before the catalogue's."),
        ]
    )  # fmt: skip
