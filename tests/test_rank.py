"""Ranking: each order by its own numbers, unknown prices last, goals and loads that drop placements, and the search."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from selfhost.catalog.gpus import find_gpu
from selfhost.catalog.prices import PriceError, Prices, load_prices
from selfhost.engines import parse_engine
from selfhost.errors import UsageError
from selfhost.hub import load_model
from selfhost.model.parse import parse_model
from selfhost.model.spec import ModelSpec
from selfhost.ranking import (
    RANKS,
    Found,
    Load,
    Option,
    Question,
    Rank,
    behind_first,
    order,
    search,
    why_not_first,
)
from selfhost.ranking.costs import Pricing
from selfhost.sizing import budget_for
from selfhost.throughput.estimate import estimate
from selfhost.throughput.types import Range, Traffic
from selfhost.workload import Split, Workload


def model(name: str) -> ModelSpec:
    return parse_model(load_model(f"catalog:{name}"))


QWEN = model("Qwen/Qwen3-32B")
NAMES = ("h100-sxm-80gb", "h200-sxm-141gb", "l40s-48gb", "l4-24gb", "a100-sxm-80gb", "b200-sxm-180gb")
KINDS = tuple(map(find_gpu, NAMES))
VLLM = parse_engine("vllm")
AT_ONCE = Load(traffic=Traffic(prompt_tokens=1024, output_tokens=256, concurrency=16))


def pricing(prices: Prices | None = None, **more: str) -> Pricing:
    words = {"tier": "specialty", "term": "on-demand", "currency": "USD", **more}
    return Pricing(prices or load_prices(), **words)  # type: ignore[arg-type]


def ask(load: Load = AT_ONCE, **more: object) -> Found:
    fields: dict[str, object] = {
        "spec": QWEN, "gpus": KINDS, "engines": (VLLM,), "quantizations": (None,), "load": load,
        "workload": Workload(max_model_len=4096, concurrency=load.traffic.concurrency or 1), "pricing": pricing(),
    }  # fmt: skip
    return search(Question(**(fields | more)))  # type: ignore[arg-type]


FOUND = ask(quantizations=(None, "fp8", "w4a16"))


def test_every_count_of_every_kind_is_an_option_with_speed_and_cost() -> None:
    shapes = {(option.gpu.id, option.split.gpus) for option in FOUND.options}
    assert {(gpu, count) for gpu in ("h100-sxm-80gb", "h200-sxm-141gb") for count in (1, 2, 4, 8)} <= shapes
    assert FOUND.tried == len(KINDS) * 4 * 3
    for option in FOUND.options:
        assert option.budget.fits
        assert option.estimate.tpot_ms.low < option.estimate.tpot_ms.typical < option.estimate.tpot_ms.high
        assert option.cost is not None


def test_numbers_are_those_of_size_and_estimate() -> None:
    for option in FOUND.options[::7]:
        parts = (QWEN, option.workload, option.split, option.gpu, option.engine)
        whole = budget_for(*parts)
        assert replace(whole, terms=(), max_context_tokens=None) == option.budget
        found = estimate(*parts, AT_ONCE.traffic, replicas=option.replicas)
        assert replace(found, provenance=()) == option.estimate


def value(option: Option, rank: Rank) -> float:
    """What an order sorts by, worst as the largest."""
    cost = option.cost
    assert cost is not None
    speed = option.estimate
    return {
        "gpus": float(option.gpus),
        "cost": cost.per_million_output_tokens.typical if cost.per_million_output_tokens else float("inf"),
        "capital": cost.capital.typical if cost.capital else float("inf"),
        "latency": speed.tpot_ms.typical,
        "throughput": -speed.output_tokens_per_second.typical,
        "room": -(speed.concurrency_admitted - math.ceil(speed.running - 1e-3)),
    }[rank]


@pytest.mark.parametrize("rank", RANKS)
def test_each_order_goes_by_its_own_number(rank: Rank) -> None:
    every = order(FOUND.options, rank, each_gpu=False)
    assert len(every) == len(FOUND.options)
    values = [value(option, rank) for option in every]
    assert values == sorted(values)
    best = order(FOUND.options, rank, each_gpu=True)
    assert len(best) == len({option.gpu.id for option in best})
    assert best[0] is every[0]
    assert why_not_first(best[0], best[0], rank) == behind_first(best[0], best[0], rank) == ""
    for option in best[1:]:
        assert why_not_first(option, best[0], rank)
        assert len(behind_first(option, best[0], rank)) <= 13


def test_the_cost_of_a_token_is_rent_over_speed() -> None:
    for option in FOUND.options:
        cost, speed = option.cost, option.estimate.output_tokens_per_second
        assert cost is not None
        if cost.per_hour is None:
            assert cost.per_million_output_tokens is None
            continue
        token = cost.per_million_output_tokens
        assert token is not None
        assert token.typical == pytest.approx(cost.per_hour.typical / 3600 / speed.typical * 1e6)
        assert token.low <= token.typical <= token.high
        figure = load_prices().gpu_rental(option.gpu.id, "specialty", "on-demand")
        assert figure is not None
        assert cost.per_hour.typical == pytest.approx(figure.typical * option.gpus)


def test_a_gpu_without_a_price_is_unknown_and_last() -> None:
    known = load_prices().figures
    poorer = Prices(figures={key: row for key, row in known.items() if ".h200-sxm-141gb" not in key})
    found = ask(pricing=pricing(poorer))
    ranks: tuple[Rank, ...] = ("cost", "capital")
    for rank in ranks:
        ranked = order(found.options, rank, each_gpu=True)
        last = ranked[-1]
        assert last.gpu.id == "h200-sxm-141gb"
        assert last.cost is not None
        assert last.cost.per_hour is last.cost.per_million_output_tokens is last.cost.capital is None
        assert why_not_first(last, ranked[0], rank) == "no price is known"
        assert behind_first(last, ranked[0], rank) == "no price"


def test_whole_nodes_are_bought_of_gpus_on_boards_and_cards_one_by_one() -> None:
    found = {(option.gpu.id, option.gpus): option for option in ask().options if option.cost}
    one, eight = found["h200-sxm-141gb", 1].cost, found["h200-sxm-141gb", 8].cost
    assert one is not None
    assert eight is not None
    assert one.capital == eight.capital
    two, four = found["l40s-48gb", 2].cost, found["l40s-48gb", 4].cost
    assert two is not None
    assert four is not None
    assert two.capital is not None
    assert four.capital is not None
    assert two.capital.typical < four.capital.typical < 2.5 * two.capital.typical


def test_other_money_and_unknown_money() -> None:
    dollars = {option.gpu.id: option.cost for option in ask(gpus=KINDS[:1]).options}
    euros = {
        option.gpu.id: option.cost for option in ask(gpus=KINDS[:1], pricing=pricing(currency="eur")).options
    }
    rate = load_prices().fx("USD", "EUR").typical
    for gpu_id, cost in dollars.items():
        other = euros[gpu_id]
        assert cost is not None
        assert other is not None
        assert cost.per_hour is not None
        assert other.per_hour is not None
        assert other.currency == "EUR"
        assert other.per_hour.typical == pytest.approx(cost.per_hour.typical * rate)
    with pytest.raises(PriceError, match="DOGE"):
        pricing(currency="DOGE")


@pytest.mark.parametrize(("ttft", "tpot"), [(None, 20.0), (400.0, None), (300.0, 25.0)])
def test_goals_drop_what_misses_them_and_say_by_how_much(ttft: float | None, tpot: float | None) -> None:
    found = ask(replace(AT_ONCE, ttft_goal_ms=ttft, tpot_goal_ms=tpot))
    for option in found.options:
        assert ttft is None or option.estimate.ttft_ms.typical <= ttft
        assert tpot is None or option.estimate.tpot_ms.typical <= tpot
    dropped = {miss.gpu_id: miss.because for miss in found.missed}
    assert {option.gpu.id for option in found.options} | dropped.keys() == {gpu.id for gpu in KINDS}
    assert "l4-24gb" in dropped
    assert "too slow: T" in dropped["l4-24gb"]
    assert (
        f"{ttft or tpot:,.0f} are wanted" in dropped["l4-24gb"]
        or f"{tpot:,.0f} are wanted" in dropped["l4-24gb"]
    )


def test_arrivals_take_as_few_replicas_as_keep_up() -> None:
    load = Load(traffic=Traffic(prompt_tokens=2048, output_tokens=512, request_rate=12.0), tpot_goal_ms=60)
    found = ask(load, gpus=KINDS[:2])
    several = [option for option in found.options if option.replicas > 1]
    assert several
    for option in found.options:
        assert not option.estimate.saturated
        assert option.estimate.gpus == option.gpus
        if option.replicas > 1:
            parts = (QWEN, option.workload, option.split, option.gpu, option.engine, load.traffic)
            fewer = estimate(*parts, replicas=option.replicas - 1)
            assert fewer.saturated or fewer.tpot_ms.typical > 60


def test_replicas_share_what_one_cannot_hold() -> None:
    crowd = Load(traffic=Traffic(prompt_tokens=1024, output_tokens=256, concurrency=64))
    load = Workload(max_model_len=16384, concurrency=64)
    (gpu,) = KINDS[:1]
    found = ask(crowd, gpus=(gpu,), workload=load)
    singles = {option.split.gpus: option for option in found.options}
    assert singles[1].replicas > singles[2].replicas > 1
    assert singles[1].workload.concurrency * singles[1].replicas >= 64
    fixed = ask(crowd, gpus=(gpu,), workload=load, replicas=1)
    assert {option.split.gpus for option in fixed.options} == {8}
    assert {option.replicas for option in fixed.options} == {1}


def test_an_engine_s_limit_is_one_of_each_replica() -> None:
    load = Load(traffic=Traffic(prompt_tokens=1024, output_tokens=256, concurrency=200))
    knobs = Workload(max_model_len=4096, concurrency=200, max_num_seqs=64)
    found = ask(load, workload=knobs, gpus=KINDS[:1])
    assert {option.replicas for option in found.options if option.split.gpus > 1} == {4}
    assert all(option.workload.concurrency <= 64 for option in found.options)


def test_a_format_that_has_to_be_published_is_told_apart() -> None:
    made = {option.quantization: option.published for option in FOUND.options}
    assert made == {None: True, "fp8": True, "w4a16": False}


def test_engines_differ_and_each_option_names_its_own() -> None:
    found = ask(engines=(VLLM, parse_engine("sglang"), parse_engine("llamacpp")), gpus=KINDS[:2])
    assert {option.engine.engine for option in found.options} == {"vllm", "sglang"}
    none = ask(engines=(parse_engine("llamacpp"),), gpus=KINDS[:2])
    assert not none.options
    assert all("GGUF" in miss.because for miss in none.missed)


def test_what_does_not_fit_says_how_much_is_missing() -> None:
    found = search(
        Question(
            spec=model("deepseek-ai/DeepSeek-V3"), gpus=KINDS[2:4], engines=(VLLM,), quantizations=(None,),
            workload=Workload(max_model_len=4096), load=AT_ONCE,
        )
    )  # fmt: skip
    assert not found.options
    assert [miss.gpu_id for miss in found.missed] == ["l40s-48gb", "l4-24gb"]
    assert all(miss.short_bytes and "weights" in miss.because for miss in found.missed)


def test_a_split_that_was_named_is_the_only_one() -> None:
    found = ask(split=Split(tensor=4))
    assert {option.split for option in found.options} == {Split(tensor=4)}
    assert found.tried == len(KINDS)


@pytest.mark.parametrize("goal", [0.0, -1.0, float("nan"), float("inf")])
def test_a_goal_is_a_number_of_milliseconds(goal: float) -> None:
    with pytest.raises(UsageError, match="--tpot-goal must be more than 0"):
        replace(AT_ONCE, tpot_goal_ms=goal)


def test_prices_of_one_s_own_come_first(tmp_path: Path) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text("gpu_rental:\n  l4-24gb:\n    specialty:\n      on-demand: 0.01\n", encoding="utf-8")
    found = ask(pricing=pricing(load_prices(own)))
    best = order(found.options, "cost", each_gpu=True)[0]
    assert best.gpu.id == "l4-24gb"
    assert best.cost is not None
    assert best.cost.per_hour == Range(low=0.01 * best.gpus, typical=0.01 * best.gpus, high=0.01 * best.gpus)


def test_equal_room_and_equal_speed_go_to_the_fewest_and_smallest_gpus() -> None:
    found = ask(Load(traffic=Traffic(prompt_tokens=1024, output_tokens=256, request_rate=7.0)))
    for rank in ("room", "throughput"):
        ranked = order(found.options, rank, each_gpu=False)
        first = ranked[0]
        for option in ranked[1:]:
            if behind_first(option, first, rank) == "as good":
                assert (option.gpus, option.gpu.reported_bytes) >= (first.gpus, first.gpu.reported_bytes)
        assert all(isinstance(option.spare, int) for option in ranked)
    speeds = [option.estimate.output_tokens_per_second.typical for option in found.options]
    assert max(speeds) == pytest.approx(7 * 256)
    cheapest = [option.gpus for option in order(found.options, "throughput", each_gpu=False)]
    assert cheapest == sorted(cheapest)  # all keep up


def test_a_gpu_that_is_a_whole_machine_needs_none_around_it() -> None:
    spark = find_gpu("gb10-128gb")
    price = load_prices().gpu_purchase(spark.id)
    assert price is not None
    for option in ask(gpus=(spark,)).options:
        assert option.cost is not None
        assert option.cost.capital is not None
        network = 1.125 if option.gpus > 1 else 1.0
        assert option.cost.capital.typical == pytest.approx(price.typical * option.gpus * network, rel=0.02)


@pytest.mark.parametrize("rank", RANKS)
def test_the_best_of_each_kind_is_the_first_of_it_among_all(rank: Rank) -> None:
    first: dict[str, Option] = {}
    for option in order(FOUND.options, rank, each_gpu=False):
        first.setdefault(option.gpu.id, option)
    assert order(reversed(FOUND.options), rank, each_gpu=True) == tuple(first.values())
