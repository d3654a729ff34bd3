"""Prices of model APIs: our own dated rows, and genai-prices where the extra `prices` is installed."""

from __future__ import annotations

from datetime import UTC, datetime

from selfhost.api_prices.cost import cost_of
from selfhost.api_prices.rows import own_models, own_prices
from selfhost.api_prices.types import ApiModel, ApiPrice, Rates, Tier, Window

__all__ = ["ApiModel", "ApiPrice", "Rates", "Tier", "Window", "api_models", "cost_of", "price_of"]

# Names that people and other tools give to a provider.
_PROVIDERS = {
    "dashscope": "alibaba-cn", "aliyun": "alibaba-cn", "bailian": "alibaba-cn", "qianfan": "baidu",
    "doubao": "volcengine", "bytedance": "volcengine", "hunyuan": "tencent", "zhipu": "zhipuai", "bigmodel": "zhipuai", "z.ai": "zai",
    "moonshot": "moonshotai", "xai": "x-ai", "claude": "anthropic", "gemini": "google",
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
    return tuple(found)


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
    row = own_prices().get((provider, model.lower()))
    if row is not None:
        return row
    from selfhost.api_prices import genai

    if not genai.available():
        return None
    return genai.price(
        provider, model, when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    )


def _holds(model: ApiModel, words: list[str]) -> bool:
    text = " ".join((model.provider, model.model, model.name, model.weights or "", model.kind)).lower()
    return all(word in text for word in words)
