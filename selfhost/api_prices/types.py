"""What an API charges: rates per million tokens, dearer tiers of long prompts, hours of the day, batches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Kind = Literal["closed", "hosted-open"]
HALF_HOURS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices per million tokens, in the currency of the `ApiPrice` they belong to.

    Args:
        input: of prompt tokens that are not in the provider's cache.
        output: of generated tokens, reasoning included.
        cached_input: of prompt tokens that are; None where the provider has no such price and bills `input`.
        cache_write: of prompt tokens that are put there; None where that costs nothing on top.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Rates of every token of a request whose prompt has more than `above_tokens`."""

    above_tokens: int
    rates: Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Rates at certain hours of the day.

    Args:
        start, end: half hours of the UTC day (0 to 48), `start` before `end`.
        rates: what holds then.
        weekdays: only from Monday to Friday; public holidays are not known here.
    """

    start: int
    end: int
    rates: Rates
    weekdays: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPrice:
    """The price of one model of one provider, as of a day.

    Args:
        provider, model: as the provider's interface calls them.
        currency: USD or CNY.
        rates: outside of `windows`, for prompts below every tier.
        tiers: by rising `above_tokens`.
        windows: hours with other rates.
        batch: of requests that may wait (a day, as a rule); None without such an offer.
        batch_tiers: tiers of `batch`.
        date: day on which the price was read, or held: YYYY-MM-DD or YYYY-MM.
        source: page with it.
        confidence: high from the provider's own page, medium from somebody who copied it, low where not confirmed.
        origin: `catalogue`, or the package and version it is from.
        note: a sentence for the user, None for none.
    """

    provider: str
    model: str
    currency: str
    rates: Rates
    tiers: tuple[Tier, ...]
    windows: tuple[Window, ...]
    batch: Rates | None
    batch_tiers: tuple[Tier, ...]
    date: str
    source: str
    confidence: Literal["high", "medium", "low"]
    origin: str
    note: str | None

    def at(self, when: datetime, *, prompt_tokens: int = 0) -> Rates:
        """The rates of one request.

        Args:
            when: its time; without a time zone it is UTC.
            prompt_tokens: of its prompt.
        """
        utc = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        half = utc.hour * 2 + utc.minute // 30
        for window in self.windows:
            if window.start <= half < window.end and not (window.weekdays and utc.weekday() > 4):
                return window.rates
        return _tiered(self.rates, self.tiers, prompt_tokens)

    def batched(self, *, prompt_tokens: int = 0) -> Rates | None:
        """The rates of one request in a batch, None without such an offer."""
        return None if self.batch is None else _tiered(self.batch, self.batch_tiers, prompt_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiModel:
    """A model that an API offers.

    Args:
        provider, model: as `price_of` takes them.
        name: for people.
        kind: closed, or open weights that somebody hosts.
        weights: the Hub repository of the same weights, None for closed ones and where it is not known.
        context_tokens: longest prompt and answer together, None where it is not known.
        origin: `catalogue`, or the package and version it is from.
        unpriced: why no price is known, None where one is.
    """

    provider: str
    model: str
    name: str
    kind: Kind
    weights: str | None
    context_tokens: int | None
    origin: str
    unpriced: str | None = None


def _tiered(rates: Rates, tiers: tuple[Tier, ...], prompt_tokens: int) -> Rates:
    for tier in tiers:
        if prompt_tokens > tier.above_tokens:
            rates = tier.rates
    return rates
