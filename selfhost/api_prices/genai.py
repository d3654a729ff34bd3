"""API prices of genai-prices (Pydantic, MIT; extra `prices`), turned into ours; its data travels with the package.

Only its bundled data is read: nothing here asks the network. Providers are always named, as its model ids are theirs,
and the time is always given, as some prices begin on a day or hold at certain hours.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from selfhost.api_prices.types import HALF_HOURS, ApiModel, ApiPrice, Rates, Tier, Window

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

# Newest day on which a price of release 0.2.3 begins that was not announced ahead.
_DATES = {"0.2.3": "2026-11-09"}
_BATCH = {"processing": "batch"}
# Names of models with open weights, as ids of hosts hold them; what holds none of them is called closed.
_OPEN = (
    "llama", "gpt-oss", "qwen3", "qwen2", "qwen/", "deepseek", "gemma", "mixtral", "mistral-7b", "mistral-nemo",
    "mistral-small", "kimi-k2", "glm-4", "glm-5", "minimax-m", "nemotron", "olmo", "phi-", "ernie-4.5",
)  # fmt: skip


def available() -> bool:
    """Whether the extra `prices` is installed."""
    from importlib.util import find_spec

    return find_spec("genai_prices") is not None


@cache
def origin() -> str:
    """The package with its version."""
    from importlib.metadata import version

    return f"genai-prices {version('genai-prices')}"


@cache
def _providers() -> dict[str, Provider]:
    from genai_prices.data import providers

    return {provider.id: provider for provider in providers}


@cache
def _by_id(provider_id: str) -> dict[str, ModelInfo]:
    return {model.id.lower(): model for model in _providers()[provider_id].models}


def models() -> tuple[ApiModel, ...]:
    """Every model with a price per token."""
    return tuple(
        ApiModel(
            provider=provider.id,
            model=model.id,
            name=model.name or model.id,
            kind="hosted-open" if any(word in model.id.lower() for word in _OPEN) else "closed",
            weights=None,
            context_tokens=model.context_window,
            origin=origin(),
        )
        for provider in _providers().values()
        for model in provider.models
        if not model.deprecated and _priced(model)
    )


def _priced(model: ModelInfo) -> bool:
    first: Any = model.prices[0].prices if isinstance(model.prices, list) and model.prices else model.prices
    return bool(first) and first.input_mtok is not None and first.output_mtok is not None


def price(provider_id: str, model_id: str, when: datetime) -> ApiPrice | None:
    """The price of a model on a day, with its hours.

    Args:
        provider_id: as genai-prices calls it (`openai`, `anthropic`, `google`, `x-ai`).
        model_id: as the provider calls it; a dated snapshot finds its model.
        when: a fixed time, in UTC.
    """
    provider = _providers().get(provider_id)
    if provider is None:
        return None
    model = _by_id(provider_id).get(model_id.lower()) or provider.find_model(model_id)
    if model is None or not _priced(model):
        return None
    midnight = when.replace(hour=0, minute=0, second=0, microsecond=0)
    usual, windows = _day(model, midnight)
    batch = model.get_prices(midnight, _BATCH)
    has_batch = any(variant.when == _BATCH for variant in model.price_variants or ())
    return ApiPrice(
        provider=provider_id,
        model=model.id,
        currency="USD",
        rates=_base(usual),
        tiers=_tiers(usual),
        windows=windows,
        batch=_base(batch) if has_batch else None,
        batch_tiers=_tiers(batch) if has_batch else (),
        date=_DATES.get(origin().rpartition(" ")[2], origin()),
        source=(provider.pricing_urls or ["https://github.com/pydantic/genai-prices"])[0],
        confidence="medium",
        origin=origin(),
        note=model.price_comments,
    )


def _day(model: ModelInfo, midnight: datetime) -> tuple[ModelPrice, tuple[Window, ...]]:
    """The prices that hold at most half hours of a day, and the runs of half hours with other ones."""
    if not isinstance(model.prices, list) or not any(
        hasattr(one.constraint, "start_time") for one in model.prices
    ):
        return model.get_prices(midnight), ()
    halves = [model.get_prices(midnight + timedelta(minutes=30 * half)) for half in range(HALF_HOURS)]
    rates = [_base(one) for one in halves]
    common = Counter(rates).most_common(1)[0][0]
    found: list[Window] = []
    for half, one in enumerate(rates):
        if one == common:
            continue
        if found and found[-1].end == half and found[-1].rates == one:
            found[-1] = Window(start=found[-1].start, end=half + 1, rates=one)
        else:
            found.append(Window(start=half, end=half + 1, rates=one))
    return halves[rates.index(common)], tuple(found)


def _number(value: Any, above: int) -> float | None:
    """A price per million tokens for prompts above so many tokens: a plain number, or the step of a staircase."""
    if value is None:
        return None
    if not hasattr(value, "tiers"):
        return float(value)
    number = float(value.base)
    for tier in value.tiers:
        if above >= tier.start:
            number = float(tier.price)
    return number


def _at(price: ModelPrice, above: int) -> Rates:
    given, answered = _number(price.input_mtok, above), _number(price.output_mtok, above)
    assert given is not None
    assert answered is not None
    return Rates(
        input=given,
        output=answered,
        cached_input=_number(price.cache_read_mtok, above),
        cache_write=_number(price.cache_write_mtok, above),
    )


def _base(price: ModelPrice) -> Rates:
    return _at(price, 0)


def _tiers(price: ModelPrice) -> tuple[Tier, ...]:
    starts = sorted(
        {
            tier.start
            for value in (price.input_mtok, price.output_mtok)
            for tier in getattr(value, "tiers", ())
        }
    )
    return tuple(Tier(above_tokens=start, rates=_at(price, start)) for start in starts)
