"""What a volume of tokens costs at an API: cache hits, batches and hours of the day weighed."""

from __future__ import annotations

from collections.abc import Sequence

from selfhost.api_prices.types import HALF_HOURS, ApiPrice, Rates, _tiered
from selfhost.errors import UsageError

MILLION = 1_000_000


def cost_of(
    price: ApiPrice,
    input_tokens: float,
    cached_tokens: float = 0.0,
    output_tokens: float = 0.0,
    batch_ratio: float = 0.0,
    when_by_hour: Sequence[float] | None = None,
    *,
    prompt_tokens: int = 0,
    written_tokens: float = 0.0,
) -> float:
    """Money for a volume of tokens, in the currency of the price.

    A cached token costs the full input price where the provider has no other, and what would be batched the usual price
    where there are no batches. Formula: fresh × input + cached × cached input + written × (cache write − input) +
    output × output, per million; peak hours weigh with the share of the traffic that falls into them.

    Args:
        price: of the model.
        input_tokens: all prompt tokens, those in the cache included.
        cached_tokens: of them, those that the provider's cache holds.
        output_tokens: generated, reasoning included.
        batch_ratio: share of the traffic that may wait for a batch (0-1).
        when_by_hour: 24 weights of the UTC hours; None for traffic around the clock, every day of the week.
        prompt_tokens: of one request on average, for prices that rise with it.
        written_tokens: prompt tokens that are put into the provider's cache, out of those that it does not hold yet.

    Raises:
        UsageError: a negative number, more cached than there is, or weights that are not 24.
    """
    for name, value in (
        ("input_tokens", input_tokens),
        ("cached_tokens", cached_tokens),
        ("output_tokens", output_tokens),
        ("written_tokens", written_tokens),
    ):
        if not value >= 0:
            raise UsageError(f"{name} must not be negative, and is {value:g}.")
    if cached_tokens + written_tokens > input_tokens:
        raise UsageError(
            "More tokens are cached than there are in the prompts.", hint="input_tokens counts them all."
        )
    if not 0 <= batch_ratio <= 1:
        raise UsageError(f"batch_ratio must be between 0 and 1, not {batch_ratio:g}.")
    fresh = input_tokens - cached_tokens
    volume = (fresh, cached_tokens, output_tokens, written_tokens)
    usual = _tiered(price.rates, price.tiers, prompt_tokens)
    shares = _window_shares(price, when_by_hour)
    live = _money(usual, volume) * (1 - sum(shares))
    live += sum(
        _money(window.rates, volume) * share for window, share in zip(price.windows, shares, strict=True)
    )
    batched = price.batched(prompt_tokens=prompt_tokens)
    if not batch_ratio or batched is None:
        return live
    return live * (1 - batch_ratio) + _money(batched, volume) * batch_ratio


def _money(rates: Rates, volume: tuple[float, float, float, float]) -> float:
    fresh, cached, output, written = volume
    cached_rate = rates.input if rates.cached_input is None else rates.cached_input
    more = 0.0 if rates.cache_write is None else rates.cache_write - rates.input
    return (fresh * rates.input + cached * cached_rate + written * more + output * rates.output) / MILLION


def _window_shares(price: ApiPrice, when_by_hour: Sequence[float] | None) -> tuple[float, ...]:
    """Share of the traffic in each window: its half hours by weight, five days of seven where those count."""
    weights = [1.0] * 24 if when_by_hour is None else list(when_by_hour)
    if len(weights) != 24 or min(weights) < 0 or not sum(weights) > 0:
        raise UsageError("when_by_hour must be 24 weights, none negative and one above zero.")
    halves = [weights[half // 2] / (2 * sum(weights)) for half in range(HALF_HOURS)]
    return tuple(
        sum(halves[window.start : window.end]) * (5 / 7 if window.weekdays else 1.0)
        for window in price.windows
    )
