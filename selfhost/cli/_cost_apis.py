"""APIs to compare with: those that are named, or the ones that people usually weigh against their own model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfhost.cost.assumed import Offer
from selfhost.errors import UsageError

if TYPE_CHECKING:
    from selfhost.api_prices import ApiModel, ApiPrice

# Ours: one mid-size model of each of three vendors; hosts of the same weights come before them.
USUAL = ("openai/gpt-6.1-terra", "anthropic/claude-sonnet-5-5", "deepseek/deepseek-flash")
_MOST_HOSTS = 3
_MILLION = 1e6


def offers(
    named: tuple[str, ...], model: str, *, usual: bool, prompt_tokens: int, batch_share: float
) -> tuple[Offer, ...]:
    """Prices of APIs for requests like these, hours of the day and batches weighed.

    Args:
        named: `provider/model` each.
        model: whose hosts are looked for.
        usual: take the hosts of the model and the usual closed ones besides.
        prompt_tokens: of one request, for prices that rise with it.
        batch_share: of the traffic that may wait.

    Raises:
        UsageError: an API that nobody has a price for.
    """
    from selfhost.api_prices import api_models

    found = list(named)
    if usual:
        hosts = [
            one for one in api_models() if (one.weights or "").lower() == model.lower() and not one.unpriced
        ]
        found += [f"{one.provider}/{one.model}" for one in hosts[:_MOST_HOSTS]]
        found += USUAL
    return tuple(_offer(one, prompt_tokens, batch_share) for one in dict.fromkeys(found))


def _offer(name: str, prompt_tokens: int, batch_share: float) -> Offer:
    from datetime import datetime, timedelta

    from selfhost.api_prices import FRESH_DAYS, price_of
    from selfhost.catalog.price_types import first_day
    from selfhost.cli._planning import now

    provider, _, model = name.partition("/")
    if not provider or not model:
        raise UsageError(f"--api {name[:80]!r} is not PROVIDER/MODEL.", hint="Such as openai/gpt-6.1-terra.")
    known = _model(provider, model)
    if known is not None and known.unpriced:
        return Offer(
            name=name, hosted_open=known.kind == "hosted-open", currency="USD", input=0.0, cached=None, output=0.0,
            source=None, date=None, unpriced=known.unpriced,
        )  # fmt: skip
    price = price_of(provider, model, when=datetime.fromisoformat(now()))
    if price is None:
        raise UsageError(f"No price is known of {name[:80]}.", hint=_hint(provider, model))
    fresh, cached, output = (
        _of(price, prompt_tokens, batch_share, into=into, cached=held, out=out)
        for into, held, out in ((1, 0, 0), (1, 1, 0), (0, 0, 1))
    )
    return Offer(
        name=name,
        hosted_open=known is not None and known.kind == "hosted-open",
        currency=price.currency,
        input=fresh,
        cached=None if cached == fresh else cached,
        output=output,
        source=price.source,
        date=price.date,
        note=_note(name, price, batch_share),
        fresh_until=(first_day(price.date) + timedelta(days=FRESH_DAYS)).isoformat(),
    )


def _of(
    price: ApiPrice, prompt_tokens: int, batch_share: float, *, into: int, cached: int, out: int
) -> float:
    from selfhost.api_prices import cost_of

    return cost_of(
        price, into * _MILLION, cached * _MILLION, out * _MILLION, batch_share, prompt_tokens=prompt_tokens
    )


def _model(provider: str, model: str) -> ApiModel | None:
    from selfhost.api_prices import api_models

    of = [one for one in api_models() if one.model.lower() == model.lower()]
    return next((one for one in of if one.provider == provider.lower()), of[0] if of else None)


def _note(name: str, price: ApiPrice, batch_share: float) -> str | None:
    parts = []
    if price.windows:
        parts.append("its hours of the day are weighed for traffic around the clock")
    if batch_share:
        has = price.batch is not None
        parts.append(f"{batch_share:.0%} of it in batches" if has else "it has no price for batches")
    return f"{name}: {', '.join(parts)}." if parts else None


def _hint(provider: str, model: str) -> str:
    import difflib

    from selfhost.api_prices import api_models, genai

    every = [one for one in api_models() if not one.unpriced]
    of = [one for one in every if one.provider == provider.lower()] or every
    names = {one.model.rpartition("/")[2].lower(): f"{one.provider}/{one.model}" for one in of}
    close = difflib.get_close_matches(model.rpartition("/")[2].lower(), names, n=3, cutoff=0.4)
    shown = [names[one] for one in close] or [f"{one.provider}/{one.model}" for one in of][:3]
    more = "" if genai.available() else "; the extra selfhost[prices] knows more"
    return f"Known are {', '.join(shown)} and others{more}."
