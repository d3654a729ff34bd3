"""Prices of model APIs: our own dated rows, and genai-prices where the extra `prices` is installed."""

from __future__ import annotations

from datetime import UTC, date, datetime

from selfhost.api_prices.cost import cost_of
from selfhost.api_prices.rows import own_models, own_price, own_prices
from selfhost.api_prices.types import ApiModel, ApiPrice, Rates, Tier, Window
from selfhost.catalog.price_types import first_day

__all__ = [
    "FRESH_DAYS",
    "ApiModel",
    "ApiPrice",
    "Rates",
    "Tier",
    "Window",
    "api_models",
    "cost_of",
    "price_of",
    "stale_prices",
]

# Ours: the lists of the larger providers changed every two to four months during 2026.
FRESH_DAYS = 120

# Names that people and other tools give to a provider.
_PROVIDERS = {
    "dashscope": "alibaba-cn", "aliyun": "alibaba-cn", "bailian": "alibaba-cn", "qianfan": "baidu",
    "doubao": "volcengine", "bytedance": "volcengine", "hunyuan": "tencent", "zhipu": "zhipuai",
    "bigmodel": "zhipuai", "z.ai": "zai", "moonshot": "moonshotai", "xai": "x-ai", "claude": "anthropic",
    "gemini": "google",
}  # fmt: skip


def api_models(query: str = "") -> tuple[ApiModel, ...]:
    """The models that a query means, our own rows first.

    Args:
        query: words that the provider, the id, the name or the Hub repository of the weights hold; empty for all.
    """
    words = query.lower().split()
    own = own_models()
    found = [model for model in own.values() if _holds(model, words)]
    from selfhost.api_prices import genai

    if genai.available():
        found += [
            model
            for model in genai.models()
            if (model.provider, model.model.lower()) not in own and _holds(model, words)
        ]
    # A whole name means that model alone, not those whose names hold it.
    return tuple([one for one in found if [f"{one.provider}/{one.model}".lower()] == words] or found)


def price_of(provider: str, model: str, *, when: datetime) -> ApiPrice | None:
    """The price of a provider's model, None where it is not known.

    Our own row goes first: genai-prices converts providers that bill in CNY, and cannot say that hours are those of
    weekdays.

    Args:
        provider: its id, or a usual name of it (`dashscope`, `zhipu`).
        model: as the provider calls it, in either case.
        when: a fixed time; without a time zone it is UTC.
    """
    provider = _PROVIDERS.get(provider.lower(), provider.lower())
    utc = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    row = own_price(provider, model.lower(), utc.date())
    if row is not None:
        return row
    from selfhost.api_prices import genai

    return genai.price(provider, model, utc) if genai.available() else None


def stale_prices(as_of: date) -> tuple[tuple[ApiPrice, int], ...]:
    """Our own rows that are older than `FRESH_DAYS`, with their age in days, oldest first."""
    ages = [(price, (as_of - first_day(price.date)).days) for price in own_prices().values()]
    return tuple(
        sorted((one for one in ages if one[1] > FRESH_DAYS), key=lambda one: (-one[1], one[0].provider))
    )


def _holds(model: ApiModel, words: list[str]) -> bool:
    # `provider/model` is what --api takes, and what is shown.
    text = " ".join((f"{model.provider}/{model.model}", model.name, model.weights or "", model.kind)).lower()
    return all(word in text for word in words)
