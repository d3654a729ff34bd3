"""`selfhost cost MODEL`: prices of a deployment against APIs, its assumptions out and in, and bad input."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import selfhost.cli
from selfhost.catalog.prices import load_prices
from tests.conftest import Cli

SCHEMA = json.loads(
    (Path(selfhost.cli.__file__).parent / "schemas" / "cost.json").read_text(encoding="utf-8")
)
API = "groq/qwen/qwen3-32b"
H100 = ("Qwen/Qwen3-32B", "--gpu", "h100-sxm-80gb", "--tp", "2")
WAYS = ("--buy", "--rent", "specialty", "--api", API, "--api", "anthropic/claude-sonnet-5-5")
USUAL = (*H100, *WAYS, "--tokens-per-month", "5B")


def run(cli: Cli, *words: str | Path) -> Any:
    ran = cli("cost", *words, "--json")
    assert (ran.code, ran.err) == (0, "")
    found = ran.json()
    jsonschema.validate(found, SCHEMA)
    return found


def option(found: Any, name: str) -> Any:
    return next(one for one in found["options"] if one["name"] == name)


def pair(found: Any, name: str, against: str) -> Any:
    return next(one for one in found["comparisons"] if (one["option"], one["against"]) == (name, against))


def test_a_board_is_bought_whole_and_gpus_are_rented_singly(cli: Cli) -> None:
    found = run(cli, *USUAL)
    own, rented = option(found, "buy new"), option(found, "rent specialty on-demand")
    assert (own["gpus"], rented["gpus"], found["gpus_in_use"]) == (8, 2, 2)
    assert "bought whole; the other 6 are free" in own["notes"][0]
    server = load_prices().server_purchase("h100-sxm-80gb", 8)
    hour = load_prices().gpu_rental("h100-sxm-80gb", "specialty", "on-demand")
    assert server is not None
    assert hour is not None
    assert own["paid_once"] == pytest.approx(server.typical)
    lines = {line["name"]: line["amount"] for line in rented["lines"]}
    assert lines["GPU-hours"] == pytest.approx(2 * hour.typical * 8760 * 3)


def test_tokens_cost_what_the_option_costs(cli: Cli) -> None:
    found = run(cli, *USUAL)
    volume = found["volume"]
    assert volume["tokens_per_month"] == pytest.approx(5e9)
    assert volume["input_tokens_per_month"] == pytest.approx(4e9)
    for one in found["options"]:
        tokens = volume["tokens_per_month"] * found["months"] / 1e6
        assert one["per_million_tokens"] == pytest.approx(one["total"]["typical"] / tokens, rel=1e-4)
        parts = one["per_million_input_tokens"] * 0.8 + one["per_million_output_tokens"] * 0.2
        assert parts == pytest.approx(one["per_million_tokens"], rel=1e-4)
        assert one["per_hour"] == pytest.approx(one["total"]["typical"] / (8760 * 3), rel=1e-4)
        assert sum(one["cash_flow"]) - one["residual"] == pytest.approx(one["total"]["typical"], rel=1e-4)
        assert one["total"]["low"] <= one["total"]["typical"] <= one["total"]["high"]
    own = option(found, "buy new")
    month = 730 * 3600
    capacity = own["capacity_output_tokens_per_second"] * month
    assert own["utilization"] == pytest.approx(volume["output_tokens_per_month"] / capacity, rel=1e-3)


def test_at_its_break_even_volume_a_deployment_costs_what_the_api_does(cli: Cli) -> None:
    api = "anthropic/claude-sonnet-5-5"
    even = pair(run(cli, *USUAL), "rent specialty on-demand", api)["break_even"]
    assert even["copies"] == 1
    at = (*H100, "--rent", "specialty", "--api", api, "--tokens-per-month", str(even["tokens_per_month"]))
    found = run(cli, *at)
    mine, theirs = option(found, "rent specialty on-demand"), option(found, api)
    assert mine["total"]["typical"] == pytest.approx(theirs["total"]["typical"], rel=1e-3)
    assert mine["utilization"] == pytest.approx(even["utilization"], rel=1e-3)


def test_more_volume_costs_more_and_a_token_of_ones_own_less(cli: Cli) -> None:
    cases = [run(cli, *H100, *WAYS, "--tokens-per-month", f"{billions}B") for billions in (1, 4, 16)]
    for name in ("buy new", "rent specialty on-demand", API):
        totals = [option(case, name)["total"]["typical"] for case in cases]
        assert totals == sorted(totals)
    tokens = [option(case, "buy new")["per_million_tokens"] for case in cases]
    assert tokens == sorted(tokens, reverse=True)
    flat = [option(case, API)["per_million_tokens"] for case in cases]
    assert flat == pytest.approx([flat[0]] * 3)


def test_the_volume_can_be_said_in_four_ways(cli: Cli) -> None:
    words = (*H100, "--api", API)
    tokens = run(cli, *words, "--tokens-per-month", "1280M")
    requests = run(cli, *words, "--requests-per-month", "1M")
    rate = run(cli, *words, "--request-rate", str(1e6 / (730 * 3600)))
    assert tokens["options"][0]["total"] == requests["options"][0]["total"] == rate["options"][0]["total"]
    half = run(cli, *H100, "--buy", "--utilization", "0.5")
    assert half["options"][0]["utilization"] == pytest.approx(0.5)


def test_a_volume_beyond_the_copies_says_how_many_it_takes(cli: Cli) -> None:
    ran = cli("cost", *H100, "--buy", "--tokens-per-month", "60B", "--replicas", "1")
    assert (ran.code, ran.out) == (2, "")
    assert "times what 1 copy of the deployment can answer with" in ran.err
    words = ran.err.split("--replicas ")[1].split(",")[0]
    enough = run(cli, *H100, "--buy", "--tokens-per-month", "60B", "--replicas", words)
    assert enough["copies"] == int(words)
    assert run(cli, *H100, "--buy", "--tokens-per-month", "60B")["copies"] == int(words)
    fewer = cli("cost", *H100, "--buy", "--tokens-per-month", "60B", "--replicas", str(int(words) - 1))
    assert fewer.code == 2


def test_assumptions_go_out_and_come_back(cli: Cli, tmp_path: Path) -> None:
    for end in ("toml", "json"):
        path = tmp_path / f"all.{end}"
        first = run(cli, *USUAL, "--export-assumptions", path)
        assert run(cli, *USUAL, "--assumptions", path) == first
    rows = tomllib.loads((tmp_path / "all.toml").read_text())["assumption"]
    assert set(rows) == {one["name"] for one in first["assumptions"]}
    assert all(row.get("source") for row in rows.values())
    (tmp_path / "own.yaml").write_text(
        "assumption:\n  'server of 8 GPUs, new': {low: 1, typical: 2, high: 3}\n"
    )
    cheap = run(cli, *USUAL, "--assumptions", tmp_path / "own.yaml")
    assert option(cheap, "buy new")["paid_once"] < 25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("assumption: {'server price': 3}", "has no assumption 'server price'"),
        ("assumption: {'server of 8 GPUs, new': -3}", "must not be negative"),
        ("assumption: {'server of 8 GPUs, new': [3, 2]}", "not in order"),
        ("assumption: {'residual value': 1.5}", "is a share and 1.5 is more than 1"),
        ("assumption: {'server of 8 GPUs, new': {typical: 3, currency: CNY}}", "is in USD here, not in CNY"),
        ("assumption: {'speed at full load': 0}", "must be more than 0"),
        ("assumption: {'volume': 0}", "must be more than 0"),
        ("assumption: {'speed at full load': {low: 0, typical: 5, high: 6}}", "must be more than 0"),
        ("assumption: {PUE: 0.5}", "PUE must be at least 1, not 0.5"),
        ("colour: red", "unknown key 'colour'"),
        ("schema: selfhost/plan/v1", "this selfhost reads"),
    ],
)
def test_wrong_assumptions_are_one_clear_error(text: str, message: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    ran = cli("cost", *USUAL, "--assumptions", tmp_path / "own.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_another_currency_is_the_same_money(cli: Cli) -> None:
    dollars, yuan = run(cli, *USUAL), run(cli, *USUAL, "--currency", "cny")
    rate = load_prices().fx("USD", "CNY").typical
    assert yuan["currency"] == "CNY"
    assert yuan["cheapest"] == dollars["cheapest"]
    for one in dollars["options"]:
        other = option(yuan, one["name"])
        assert other["total"]["typical"] == pytest.approx(one["total"]["typical"] * rate, rel=1e-6)
    for one in dollars["comparisons"]:
        other = pair(yuan, one["option"], one["against"])
        mine, theirs = one["payback"]["months"], other["payback"]["months"]
        assert (mine is None) == (theirs is None)
        assert mine is None or theirs == pytest.approx(mine, rel=1e-4)


def test_a_gpu_without_a_price_is_unknown_and_never_free(cli: Cli) -> None:
    assert load_prices().gpu_purchase("a10g-24gb") is None
    words = ("Qwen/Qwen3-8B", "--gpu", "a10g-24gb", "--tokens-per-month", "300M", "--buy", "--api", API)
    found = run(cli, *words)
    own = option(found, "buy new")
    assert own["known"] is False
    assert own["total"] is None
    assert own["unknown"] == ["no new purchase price for A10G"]
    assert found["cheapest"] == API
    text = cli("cost", *words).out
    assert "unknown" in text
    assert "no new purchase price for A10G" in " ".join(text.split())


def test_a_users_own_price_goes_before_the_catalogues(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("gpu_purchase: {a10g-24gb: {new: 2000}}\n")
    words = ("Qwen/Qwen3-8B", "--gpu", "a10g-24gb", "--tokens-per-month", "300M", "--buy", "--prices")
    own = option(run(cli, *words, tmp_path / "own.yaml"), "buy new")
    assert {line["name"]: line["amount"] for line in own["lines"]}["GPUs"] == 2000
    (tmp_path / "bad.yaml").write_text("gpu_purchase: {a10g-24gb: {new: -2000}}\n")
    ran = cli("cost", *words, tmp_path / "bad.yaml")
    assert ran.code == 2
    assert "must not be negative" in ran.err


def test_a_country_by_its_usual_letters_is_the_same(cli: Cli) -> None:
    words = (*H100, "--buy", "--rent", "specialty", "--tokens-per-month", "1B", "--country")
    assert run(cli, *words, "uk")["options"] == run(cli, *words, "GB")["options"]


def test_stale_prices_are_flagged(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*H100, "--rent", "specialty", "--api", "openai/gpt-6.1-terra", "--tokens-per-month", "1B")
    staff = load_prices().staff("US")
    assert staff is not None
    assert staff.fresh_until is not None
    day = datetime(staff.fresh_until.year, staff.fresh_until.month, staff.fresh_until.day, 12, tzinfo=UTC)

    def stale(after: timedelta, *more: str | Path) -> dict[str, bool]:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int((day + after).timestamp())))
        return {one["name"]: one["stale"] for one in run(cli, *words, *more)["assumptions"]}

    assert not stale(timedelta())["staff"]
    (tmp_path / "own.yaml").write_text("assumption: {staff: 150000}")
    assert not stale(timedelta(days=1), "--assumptions", tmp_path / "own.yaml")["staff"]
    found = stale(timedelta(days=1))
    assert found["staff"]
    assert found["openai/gpt-6.1-terra: input"]
    assert not found["volume"]
    assert "agoradigest.com; stale" in " ".join(cli("cost", *words).out.split())
    # What is written down and taken back is as old as it was.
    cli("cost", *words, "--export-assumptions", tmp_path / "all.toml")
    assert stale(timedelta(days=1), "--assumptions", tmp_path / "all.toml") == found


def test_a_users_own_gpu_goes_before_a_published_server(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("gpu_purchase: {h100-sxm-80gb: {new: 20000}}\n")
    words = (*H100, "--buy", "--tokens-per-month", "1B", "--prices", tmp_path / "own.yaml")
    around = load_prices().server_overhead()
    assert around is not None
    own = option(run(cli, *words), "buy new")
    assert own["paid_once"] == pytest.approx(8 * 20_000 * (1 + around.typical))


def test_used_gpus_are_bought_with_a_server_around_them(cli: Cli) -> None:
    found = run(cli, *H100, "--buy", "--buy-used", "--tokens-per-month", "1B")
    price, around = load_prices().gpu_purchase("h100-sxm-80gb", "used"), load_prices().server_overhead()
    assert price is not None
    assert around is not None
    assert option(found, "buy used")["paid_once"] == pytest.approx(8 * price.typical * (1 + around.typical))
    assert option(found, "buy new")["known"] is True


def test_cached_prompts_are_cheaper_where_they_have_a_price(cli: Cli) -> None:
    words = (*H100, "--api", "anthropic/claude-sonnet-5-5", "--tokens-per-month", "1B")
    plain = run(cli, *words)["options"][0]["total"]["typical"]
    cached = run(cli, *words, "--cached-share", "0.5")["options"][0]["total"]["typical"]
    batched = run(cli, *words, "--batch-share", "1")["options"][0]["total"]["typical"]
    assert cached < plain
    assert batched == pytest.approx(plain / 2)


def test_all_rentals_are_those_with_a_price(cli: Cli) -> None:
    found = run(cli, *H100, "--rent", "all", "--tokens-per-month", "1B")
    names = [one["name"] for one in found["options"]]
    assert len(names) >= 5
    assert all(one["known"] for one in found["options"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*H100,), "Cost is of a volume"),
        ((*H100, "--tokens-per-month", "0"), "the volume is zero"),
        ((*H100, "--tokens-per-month", "-3"), "is not a number more than 0"),
        ((*H100, "--tokens-per-month", "1e19"), "more than anybody serves"),
        ((*H100, "--tokens-per-month", "1B", "--request-rate", "3"), "given twice"),
        ((*H100, "--utilization", "1.01"), "is not a share between 0 and 1"),
        ((*H100, "--tokens-per-month", "1B", "--currency", "XYZ"), "The currency 'XYZ' is not known"),
        ((*H100, "--tokens-per-month", "1B", "--country", "Narnia"), "is no country"),
        ((*H100, "--tokens-per-month", "1B", "--years", "6"), "--years must be between 1 and 5"),
        ((*H100, "--tokens-per-month", "1B", "--rent", "cheap"), "is no tier and term"),
        ((*H100, "--tokens-per-month", "1B", "--api", "openai"), "is not PROVIDER/MODEL"),
        ((*H100, "--tokens-per-month", "1B", "--api", "openai/none"), "No price is known of openai/none"),
        (("Qwen/Qwen3-32B", "--tokens-per-month", "1B"), "Own cost is of a GPU"),
        ((), "Name a MODEL"),
        ((*H100, "--tokens-per-month", "1B", "--tpot-goal", "0.001"), "goal"),
        ((*H100, "--tokens-per-month", "1B", "--tpot-goal", "nan"), "not a number of milliseconds"),
        ((*H100, "--tokens-per-month", "1B", "--ttft-goal", "inf"), "not a number of milliseconds"),
        (
            (*H100, "--tokens-per-month", "1B", "--cached-share", "nan"),
            "'--cached-share': nan is not a share",
        ),
        ((*H100, "--tokens-per-month", "1B", "--batch-share", "nan"), "'--batch-share': nan is not a share"),
    ],
)
def test_bad_input_is_one_clear_error(words: tuple[str, ...], message: str, cli: Cli) -> None:
    ran = cli("cost", *words)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert ran.err.count("Error:") == 1


def test_a_plan_is_priced_as_it_is(cli: Cli, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert cli("plan", "Qwen/Qwen3-32B", "--gpu", "l40s-48gb", "--context", "8k", "-o", plan).code == 0
    found = run(cli, plan, "--buy", "--tokens-per-month", "300M")
    assert found["gpu"] == "l40s-48gb"
    assert found["gpus_in_use"] == json.loads(plan.read_text())["gpu"]["count"]
    for words in (("--gpu", "l4-24gb"), ("--tp", "8"), ("--engine", "sglang"), ("--quant", "int4")):
        ran = cli("cost", plan, *words, "--tokens-per-month", "1M")
        assert (ran.code, ran.out) == (2, "")
        assert f"{words[0]} has no effect with a plan." in ran.err
    assert f"Next: selfhost report {plan}" in cli("cost", plan, "--tokens-per-month", "1M").out


def test_the_answer_comes_first_and_fits_the_screen(cli: Cli) -> None:
    ran = cli("cost", *H100, "--tokens-per-month", "2B")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].startswith("Cheapest over 3 years: ")
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("Next: selfhost plan Qwen/") for line in lines)


def test_rules_of_thumb_are_held_against_the_result(cli: Cli) -> None:
    rules = run(cli, *USUAL)["rules"]
    volume = next(rule for rule in rules if "million tokens a month" in rule["rule"])
    assert volume["agrees"] is (volume["says"].startswith("one's own") == ("one's own" in volume["because"]))
    small = run(cli, *H100, *WAYS, "--tokens-per-month", "5M")["rules"]
    assert small[0]["says"] == "an API"
    assert small[0]["agrees"] is True


def test_cards_stand_in_machines_of_their_kind(cli: Cli) -> None:
    for gpu, kind in (("l40s-48gb", "refurbished"), ("rtx-4090-24gb", "workstation")):
        found = run(cli, "Qwen/Qwen3-8B", "--gpu", gpu, "--buy", "--tokens-per-month", "300M")
        host = load_prices().host(kind)
        assert host is not None
        lines = {line["name"]: line["amount"] for line in option(found, "buy new")["lines"]}
        assert lines["servers around them"] == pytest.approx(host.typical)
        assert option(found, "buy new")["gpus"] == 1


def test_a_break_even_with_many_copies_takes_the_fewest(cli: Cli, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"  # so near the API's price that it takes many copies to share the staff
    own.write_text("gpu_rental: {l4-24gb: {hyperscaler: {on-demand: 1.1}}}\n")
    words = ("cost", "Qwen/Qwen3-8B", "--gpu", "l4-24gb", "--tokens-per-month", "200M", "--years", "3")
    ways = ("--prices", own, "--rent", "hyperscaler", "--api", "deepseek/deepseek-flash")
    found = cli(*words, *ways, "--json").json()
    pair = next(one for one in found["comparisons"] if one["option"].startswith("rent"))
    copies, volume = pair["break_even"]["copies"], pair["break_even"]["tokens_per_month"]
    assert copies > 32  # beyond the numbers that are all tried

    def totals(at: int) -> dict[str, float]:
        ran = cli(*words[:4], "--tokens-per-month", str(volume), "--replicas", str(at), *ways, "--json")
        return {one["name"]: one["total"]["typical"] for one in ran.json()["options"]}

    rent, api = totals(copies).values()
    assert rent == pytest.approx(api, rel=1e-3)


def test_as_many_copies_as_it_takes_cost_what_so_many_cost(cli: Cli) -> None:
    words = ("cost", "Qwen/Qwen3-8B", "--gpu", "l4-24gb", "--tokens-per-month", "50B", "--json")
    left = cli(*words).json()
    asked = cli(*words, "--replicas", str(left["copies"])).json()
    assert left["copies"] > 4  # more cards than a workstation holds
    for mine, theirs in zip(left["options"], asked["options"], strict=True):
        assert (
            mine["total"]["typical"] == theirs["total"]["typical"]
        )  # a faster copy may need fewer: other ends
        assert mine["lines"] == theirs["lines"]


def test_no_volume_is_more_than_its_copies_answer_with(cli: Cli) -> None:
    words = ("cost", "Qwen/Qwen3-8B", "--gpu", "l4-24gb", "--tokens-per-month", "70T", "--json")
    found = cli(*words).json()
    assert found["copies"] > 20_000
    own = [one for one in found["options"] if one["kind"] != "api"]
    assert own
    assert all(0.9 < one["utilization"] <= 1 for one in own)


def test_prompts_carry_their_part_of_the_machines(cli: Cli) -> None:
    def share(prompt: int, answer: int) -> float:
        lengths = ("--prompt-tokens", str(prompt), "--output-tokens", str(answer))
        ran = run(cli, *H100, *lengths, "--tokens-per-month", "100M", "--buy")
        return float(ran["options"][0]["input_share"])

    even = [share(prompt, 500) for prompt in (1, 500, 1000, 4000)]
    assert even == sorted(even)
    assert even[0] < 0.01  # a prompt of one token shares its step with others
    assert 0.9 < share(8000, 8) < 1


def test_a_very_small_volume_is_not_told_as_free(cli: Cli) -> None:
    out = cli("cost", "Qwen/Qwen3-8B", "--gpu", "l4-24gb", "--tokens-per-month", "1").out
    assert "0.0000" not in out
