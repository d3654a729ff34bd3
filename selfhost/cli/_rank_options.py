"""Options that rank placements by speed or cost, and the load they are ranked under, as one value."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from selfhost.catalog.price_types import TERMS, TIERS
from selfhost.cli._load_options import OUTPUT_TOKENS, PROMPT_TOKENS, speed_options
from selfhost.errors import UsageError
from selfhost.workload import Workload

if TYPE_CHECKING:
    from selfhost.catalog.price_types import Term, Tier
    from selfhost.ranking.types import Load, Rank
    from selfhost.throughput.types import Traffic

F = TypeVar("F", bound=Callable[..., Any])

_RANKS = ("gpus", "cost", "capital", "latency", "throughput", "room")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was typed of these options; None is what was not."""

    rank_by: Rank | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    request_rate: float | None = None
    prefix_hit_ratio: float | None = None
    acceptance: float | None = None
    ttft_goal: float | None = None
    tpot_goal: float | None = None
    search_quant: bool | None = None
    search_engines: bool | None = None
    tier: Tier | None = None
    term: Term | None = None
    currency: str | None = None
    assumptions: Path | None = None

    @property
    def asked(self) -> bool:
        """Whether any was typed."""
        return bool(self.typed)

    @property
    def typed(self) -> tuple[str, ...]:
        """Names of those that were typed."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)

    @property
    def rank(self) -> Rank:
        """What counts; the fewest GPUs unless something else was named."""
        return self.rank_by or "gpus"

    def load(self, workload: Workload, *, clients: bool) -> Load:
        """The traffic and its goals.

        Args:
            workload: its concurrency is that of the traffic, where no rate was typed.
            clients: whether `--concurrency` was typed.

        Raises:
            UsageError: numbers out of range, two kinds of load, or requests that are longer than the context.
        """
        from selfhost.ranking.types import Load
        from selfhost.throughput.types import Traffic

        if clients and self.request_rate is not None:
            raise UsageError(
                "--concurrency and --request-rate are two kinds of load.", hint="Leave one of them out."
            )
        traffic = Traffic(
            prompt_tokens=self.prompt_tokens or PROMPT_TOKENS,
            output_tokens=self.output_tokens or OUTPUT_TOKENS,
            concurrency=workload.concurrency if self.request_rate is None else None,
            request_rate=self.request_rate,
            prefix_hit_ratio=self.prefix_hit_ratio or 0.0,
            acceptance=self.acceptance,
        )
        agrees(traffic, workload)
        return Load(traffic=traffic, ttft_goal_ms=self.ttft_goal, tpot_goal_ms=self.tpot_goal)


def agrees(traffic: Traffic, workload: Workload) -> None:
    """Refuse a traffic that contradicts the engine's knobs.

    Raises:
        UsageError: requests beyond --context, accepted drafts where none are made, hits of a cache that is off.
    """
    longest, needed = workload.max_model_len, traffic.prompt_tokens + traffic.output_tokens
    if longest is not None and longest < needed:
        raise UsageError(
            f"Prompts of {traffic.prompt_tokens:,} and answers of {traffic.output_tokens:,} tokens are longer than "
            f"--context {longest:,}.",
            hint="Give a longer --context, or fewer --prompt-tokens.",
        )
    if traffic.acceptance is not None and not workload.speculative_tokens:
        raise UsageError(
            "--acceptance is of drafted tokens, and none are drafted.", hint="Add --speculative-tokens N."
        )
    if traffic.prefix_hit_ratio > 0 and not workload.prefix_caching:
        raise UsageError(
            "--prefix-hit-ratio is of the prefix cache, and --no-prefix-caching turns it off.",
            hint="Leave one out.",
        )


def _choice(flag: str, values: tuple[str, ...], help_text: str) -> Callable[[F], F]:
    return click.option(flag, type=click.Choice(values), help=help_text)


_OPTIONS: tuple[Callable[[F], F], ...] = (
    _choice("--rank-by", _RANKS, "What counts; cost is that of a million output tokens.  [default: gpus]"),
    speed_options(default=False),
    click.option(
        "--search-quant", is_flag=True, default=None, help="Try the usual weight formats besides its own."
    ),
    click.option("--search-engines", is_flag=True, default=None, help="Try every engine."),
    _choice("--tier", TIERS, "Kind of provider that GPUs are rented from.  [default: specialty]"),
    _choice("--term", TERMS, "For how long they are rented.  [default: on-demand]"),
    click.option("--currency", metavar="CODE", help="USD, CNY or EUR.  [default: USD]"),
    click.option(
        "--assumptions", type=click.Path(path_type=Path), metavar="FILE",
        help="Your own prices, before those of the catalogue.",
    ),
)  # fmt: skip


def rank_options(function: F) -> F:
    """Give a command the options above, and what was typed of them as its argument `wish`."""

    @functools.wraps(function)
    def gather(**given: Any) -> Any:
        wish = Wish(**{field.name: given.pop(field.name) for field in fields(Wish)})
        return function(**given, wish=wish)

    wrapped: Any = gather
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return cast(F, wrapped)
