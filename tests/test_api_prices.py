"""API prices: our rows are sourced, genai-prices agrees with them, and volumes cost what was published."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from selfhost.api_prices import (
    ApiPrice,
    Rates,
    Tier,
    Window,
    api_models,
    cost_of,
    price_of,
    stale_prices,
)
from selfhost.api_prices import genai as extra
from selfhost.api_prices.rows import own_models, own_prices
from selfhost.catalog.price_types import first_day
from selfhost.errors import UsageError

WHEN = datetime(2026, 11, 9, 12, tzinfo=UTC)
OWN = own_prices()
WITH_EXTRA = pytest.mark.skipif(
    not extra.available(), reason="genai-prices is not installed (extra `prices`)"
)


def a_price(rates: Rates, **changes: object) -> ApiPrice:
    plain = ApiPrice(
        provider="p", model="m", currency="USD", rates=rates, tiers=(), windows=(), batch=None, batch_tiers=(),
        date="2026-08-31", source="https://example.org", confidence="high", origin="test", note=None,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("price", OWN.values(), ids=[".".join(key) for key in OWN])
def test_every_row_is_whole(price: ApiPrice) -> None:
    assert re.match(r"https://[^ ]+$", price.source)
    assert first_day(price.date) <= date(2026, 11, 27)
    assert price.currency in ("USD", "CNY")
    assert price.confidence in ("high", "medium", "low")
    assert price.confidence == "high" or price.note or price.provider == "siliconflow-cn"
    every = [price.rates, *(tier.rates for tier in price.tiers), *(window.rates for window in price.windows)]
    for rates in every:
        assert 0 < rates.input <= rates.output
        assert rates.cached_input is None or 0 < rates.cached_input < rates.input
        assert rates.cache_write is None or rates.cache_write >= rates.input
    starts = [tier.above_tokens for tier in price.tiers]
    assert starts == sorted(starts)
    for window in price.windows:
        assert 0 <= window.start < window.end <= 48
    if price.batch is not None:
        assert price.batch.input < price.rates.input
        assert price.batch.output < price.rates.output


def test_closed_and_hosted_models_and_the_providers_of_china() -> None:
    models = own_models().values()
    assert len(models) >= 50
    assert {"closed", "hosted-open"} == {model.kind for model in models}
    providers = {model.provider for model in models}
    assert providers >= {
        "alibaba-cn",
        "baidu",
        "volcengine",
        "zhipuai",
        "moonshotai-cn",
        "siliconflow-cn",
        "tencent",
    }
    assert providers >= {"openai", "anthropic", "google", "mistral", "deepseek", "x-ai", "groq", "together"}
    for model in models:
        assert model.weights is None or re.fullmatch(r"[\w.-]+/[\w.-]+", model.weights)
        assert model.kind == "hosted-open" or model.weights is None


def test_what_could_not_be_verified_says_so_and_has_no_price() -> None:
    unpriced = [model for model in own_models().values() if model.unpriced]
    assert {(model.provider, model.model) for model in unpriced} >= {("baidu", "ernie-5.1")}
    for model in unpriced:
        assert price_of(model.provider, model.model, when=WHEN) is None


def test_found_by_usual_names_and_words() -> None:
    for name in ("zhipu", "zhipuai", "ZhipuAI", "bigmodel"):
        found = price_of(name, "glm-5.3", when=WHEN)
        assert found is not None
        assert (found.currency, found.rates.input, found.rates.output) == ("CNY", 8, 28)
    assert price_of("dashscope", "qwen3-max", when=WHEN) is not None
    assert price_of("openai", "no-such-model", when=WHEN) is None
    assert price_of("nobody", "gpt-5", when=WHEN) is None
    hosted = api_models("openai/gpt-oss-120b hosted-open")
    assert {model.provider for model in hosted} >= {"groq", "cerebras", "novita", "together"}
    assert api_models("no such model anywhere") == ()


class TestCost:
    """The published workload of ohms-razor, reports/latest-tokens.md of 2026-08-31: 6.3 G tokens in, 3.15 G out."""

    IN, OUT = 6.3e9, 3.15e9

    @pytest.mark.parametrize(
        ("rates", "expected"),
        [
            (Rates(input=0.03, output=0.17), 724),
            (Rates(input=0.15, cached_input=0.03, output=0.5), 1915),
            (Rates(input=0.22, cached_input=0.007, output=0.66), 2391),
            (Rates(input=3.0, cached_input=0.3, output=15.0), 52542),
        ],
        ids=["gpt-oss-120b", "glm-5.3-flash", "deepseek-v4-flash off-peak", "kimi-k3"],
    )
    def test_cache_hits(self, rates: Rates, expected: int) -> None:
        assert round(cost_of(a_price(rates), self.IN, 0.8 * self.IN, self.OUT)) == expected

    @pytest.mark.parametrize(
        ("hit", "glm", "deepseek"),
        [
            (0, 2520, 3465),
            (0.25, 2331, 3130),
            (0.5, 2142, 2794),
            (0.75, 1953, 2459),
            (0.8, 1915, 2391),
            (1, 1764, 2123),
        ],
    )
    def test_sensitivity_to_cache_hits(self, hit: float, glm: int, deepseek: int) -> None:
        for rates, expected in (
            (Rates(input=0.15, cached_input=0.03, output=0.5), glm),
            (Rates(input=0.22, cached_input=0.007, output=0.66), deepseek),
        ):
            assert round(cost_of(a_price(rates), self.IN, hit * self.IN, self.OUT)) == expected

    def peaks(self, *, weekdays: bool = False) -> ApiPrice:
        rates = Rates(input=0.22, cached_input=0.007, output=0.66)
        twice = Rates(input=0.44, cached_input=0.014, output=1.32)
        windows = tuple(
            Window(start=start * 2, end=end * 2, rates=twice, weekdays=weekdays)
            for start, end in ((1, 4), (6, 10))
        )
        return a_price(rates, windows=windows)

    def test_peak_hours_around_the_clock(self) -> None:
        assert round(cost_of(self.peaks(), self.IN, 0.8 * self.IN, self.OUT)) == 3089

    def test_peak_hours_by_the_traffic_of_the_day(self) -> None:
        night = [0.0] * 24
        night[12] = 5
        assert round(cost_of(self.peaks(), self.IN, 0.8 * self.IN, self.OUT, 0, night)) == 2391
        peak = [0.0] * 24
        peak[7] = 1
        assert cost_of(self.peaks(), self.IN, 0, 0, 0, peak) == pytest.approx(2 * 0.22 * 6300)

    def test_weekends_are_off_peak(self) -> None:
        daily = cost_of(self.peaks(), self.IN, 0, self.OUT)
        weekly = cost_of(self.peaks(weekdays=True), self.IN, 0, self.OUT)
        base = cost_of(replace(self.peaks(), windows=()), self.IN, 0, self.OUT)
        assert weekly - base == pytest.approx((daily - base) * 5 / 7)

    def test_batches_tiers_and_writes(self) -> None:
        price = a_price(
            Rates(input=2.0, output=10.0, cached_input=0.2, cache_write=2.5),
            tiers=(Tier(above_tokens=200_000, rates=Rates(input=4.0, output=15.0)),),
            batch=Rates(input=1.0, output=5.0),
        )
        assert cost_of(price, 1e6, 0, 1e6) == 12
        assert cost_of(price, 1e6, 0, 1e6, 0.5) == 9
        assert cost_of(price, 1e6, 0, 1e6, 1) == 6
        assert cost_of(price, 1e6, 0, 1e6, prompt_tokens=200_000) == 12
        assert cost_of(price, 1e6, 0, 1e6, prompt_tokens=200_001) == 19
        assert cost_of(price, 1e6, 0, 0, written_tokens=1e6) == 2.5
        assert cost_of(a_price(price.rates), 1e6, 0, 1e6, 1) == 12, "no offer of batches"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((-1.0,), "negative"),
            ((1.0, 2.0), "More tokens are cached"),
            ((1.0, 0.0, -1.0), "negative"),
            ((1.0, 0.0, 1.0, 1.5), "between 0 and 1"),
            ((1.0, 0.0, 1.0, 0.0, [1.0] * 23), "24 weights"),
            ((1.0, 0.0, 1.0, 0.0, [0.0] * 24), "24 weights"),
            ((1.0, 0.0, 1.0, 0.0, [1.0] * 23 + [-1.0]), "24 weights"),
            ((float("nan"),), "negative"),
        ],
    )
    def test_bad_volumes_are_refused(self, arguments: tuple[Any, ...], said: str) -> None:
        with pytest.raises(UsageError, match=said):
            cost_of(a_price(Rates(input=1.0, output=2.0)), *arguments)


def test_the_rates_of_a_time() -> None:
    price = OWN["deepseek", "deepseek-flash"]
    monday, sunday = datetime(2026, 11, 9, 2, 30), datetime(2026, 11, 8, 2, 30)  # noqa: DTZ001 - taken as UTC
    assert price.at(monday).input == 0.3
    assert price.at(sunday).input == 0.15
    assert price.at(monday.replace(hour=4)).input == 0.15
    assert price.at(monday.replace(hour=9, minute=59)).input == 0.3
    long = OWN["google", "gemini-2.5-pro"]
    assert (long.at(WHEN).input, long.at(WHEN, prompt_tokens=200_001).input) == (1.25, 2.5)
    batch = long.batched(prompt_tokens=300_000)
    assert batch is not None
    assert batch.output == 7.5


def test_announced_changes_hold_from_their_day() -> None:
    before = price_of("google", "gemini-4-argon", when=datetime(2026, 11, 30, 23, tzinfo=UTC))
    after = price_of("google", "gemini-4-argon", when=datetime(2026, 12, 1, tzinfo=UTC))
    assert before is not None
    assert after is not None
    assert (before.rates.input, after.rates.input) == (2.0, 4.0)
    assert after.source == before.source


def test_rows_grow_stale() -> None:
    assert not any(price.provider == "openai" for price, _ in stale_prices(date(2026, 11, 27)))
    late = stale_prices(date(2028, 1, 1))
    assert len(late) == len(OWN)
    assert [age for _, age in late] == sorted((age for _, age in late), reverse=True)


@WITH_EXTRA
class TestExtra:
    def test_own_rows_of_shared_providers_agree_with_it(self) -> None:
        shared = 0
        for (provider, model), row in OWN.items():
            other = extra.price(provider, model, WHEN)
            if other is None or row.currency != "USD":
                continue
            shared += 1
            assert (other.rates, other.tiers, other.batch) == (row.rates, row.tiers, row.batch), (
                provider,
                model,
            )
        assert shared >= 35

    def test_hours_become_windows_and_the_time_is_fixed(self) -> None:
        found = extra.price("deepseek", "deepseek-flash", WHEN)
        assert found is not None
        assert [(window.start, window.end) for window in found.windows] == [(2, 8), (12, 20)]
        assert found == extra.price("deepseek", "deepseek-flash", WHEN.replace(hour=2))
        assert all(window.rates.input == 2 * found.rates.input for window in found.windows)

    def test_prices_that_begin_on_a_day(self) -> None:
        before = extra.price("google", "gemini-4-argon", datetime(2026, 11, 30, 23, tzinfo=UTC))
        after = extra.price("google", "gemini-4-argon", datetime(2026, 12, 1, 1, tzinfo=UTC))
        assert before is not None
        assert after is not None
        assert after.rates.input == 2 * before.rates.input

    def test_announced_changes_agree_with_it(self) -> None:
        late = datetime(2027, 1, 2, tzinfo=UTC)
        for model in ("gemini-4-argon", "gemini-3.8-flash"):
            own, other = price_of("google", model, when=late), extra.price("google", model, late)
            assert own is not None
            assert other is not None
            assert (own.rates, own.batch) == (other.rates, other.batch)

    def test_models_that_only_it_has(self) -> None:
        found = price_of("openai", "gpt-4.1", when=WHEN)
        assert found is not None
        assert found.origin == "genai-prices 0.2.3"
        assert (found.rates.input, found.rates.cached_input, found.rates.output) == (2.0, 0.5, 8.0)
        assert found.batch == Rates(
            input=1.0, output=4.0, cached_input=found.batch.cached_input if found.batch else None
        )
        assert len(api_models()) > 1000
        assert extra.price("openai", "whisper-1", WHEN) is None, "not billed by the token"
