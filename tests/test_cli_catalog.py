"""`selfhost catalog`: prices with their sources, what is stale on a day, what APIs charge, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import selfhost.cli
from tests.conftest import Cli

SCHEMAS = Path(selfhost.cli.__file__).parent / "schemas"


def valid(result: dict[str, Any], name: str) -> dict[str, Any]:
    jsonschema.validate(result, json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))
    return result


class TestCheck:
    def test_stale_rows_are_listed_and_are_no_error(self, cli: Cli) -> None:
        ran = cli("catalog", "check", "--as-of", "2026-11-27")
        assert ran.code == 0
        assert "prices are stale on 2026-11-27" in ran.out
        assert "gpu_purchase.h20-sxm-96gb.new" in ran.out
        result = valid(cli("catalog", "check", "--as-of", "2026-11-27", "--json").json(), "catalog-check")
        overdue = [row["age_days"] - row["fresh_days"] for row in result["stale"]]
        assert overdue == sorted(overdue, reverse=True)
        assert 0 < len(result["stale"]) < result["rows"]

    def test_strict_asks_somebody_to_look(self, cli: Cli) -> None:
        assert cli("catalog", "check", "--as-of", "2026-11-27", "--strict").code == 1
        fresh = cli("catalog", "check", "--as-of", "2020-01-01", "--strict")
        assert fresh.code == 0
        assert "are fresh on 2020-01-01" in fresh.out
        assert (
            valid(cli("catalog", "check", "--as-of", "2020-01-01", "--json").json(), "catalog-check")["stale"]
            == []
        )

    def test_own_prices_are_not_stale(self, cli: Cli, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        own.write_text("gpu_purchase: {h20-sxm-96gb: {new: 100000}}\n")
        ran = cli("catalog", "check", "--as-of", "2026-11-27", "--prices", own, "--json").json()
        assert "gpu_purchase.h20-sxm-96gb.new" not in {row["key"] for row in ran["stale"]}

    def test_a_day_that_is_none(self, cli: Cli) -> None:
        ran = cli("catalog", "check", "--as-of", "soon")
        assert ran.code == 2
        assert "is no date" in ran.err


class TestPrices:
    def test_a_gpu_with_its_sources(self, cli: Cli) -> None:
        ran = cli("catalog", "prices", "h100-sxm-80gb")
        assert ran.code == 0
        assert "buy new" in ran.out
        yuan = cli("catalog", "prices", "h100-sxm-80gb", "--currency", "CNY").out
        assert "CNY per" in yuan
        assert "rent hyperscaler " in yuan  # not broken within a word
        assert "https://" in ran.out
        result = valid(cli("catalog", "prices", "H100 SXM", "--json").json(), "catalog-prices")
        keys = {row["key"] for row in result["prices"]}
        assert keys >= {"gpu_purchase.h100-sxm-80gb.new", "gpu_rental.h100-sxm-80gb.specialty.on-demand"}
        assert all(row["seen"] and row["date"] for row in result["prices"])
        assert result["unknown"] == []

    def test_everything(self, cli: Cli) -> None:
        result = valid(cli("catalog", "prices", "--json").json(), "catalog-prices")
        assert len(result["prices"]) > 250
        assert "mi355x-288gb" in result["unknown"]
        assert cli("catalog", "prices").code == 0

    @pytest.mark.parametrize(
        ("query", "kind"), [("electricity", "electricity."), ("fx", "fx."), ("pue", "pue.")]
    )
    def test_a_kind(self, query: str, kind: str, cli: Cli) -> None:
        rows = cli("catalog", "prices", query, "--json").json()["prices"]
        assert rows
        assert all(row["key"].startswith(kind) for row in rows)

    def test_a_country_in_its_currency(self, cli: Cli) -> None:
        rows = cli("catalog", "prices", "cn", "--currency", "cny", "--json").json()["prices"]
        assert {row["key"] for row in rows} >= {"electricity.CN", "carbon.CN", "staff.CN"}
        assert {row["currency"] for row in rows} == {"CNY", None}

    def test_an_unknown_price_is_said_to_be_unknown(self, cli: Cli) -> None:
        ran = cli("catalog", "prices", "mi355x-288gb")
        assert (ran.code, ran.err) == (0, "")
        assert "No price of mi355x-288gb is known." in ran.out
        assert "of a10g-24gb; its price to buy is unknown." in cli("catalog", "prices", "a10g-24gb").out
        result = cli("catalog", "prices", "mi355x-288gb", "--json").json()
        assert (result["prices"], result["unknown"]) == ([], ["mi355x-288gb"])

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (("h100-smx-80gb",), 1, "No GPU in the catalogue"),
            (("l4-24gb", "--currency", "GBP"), 2, "The currency 'GBP' is not known"),
            (("--prices", "none.yaml"), 2, "cannot be read"),
        ],
    )
    def test_errors_are_one_line_and_one_way_out(
        self, words: tuple[str, ...], code: int, said: str, cli: Cli
    ) -> None:
        ran = cli("catalog", "prices", *words)
        assert (ran.code, ran.out) == (code, "")
        assert said in ran.err
        assert ran.err.count("Error:") == 1
        assert "Hint:" in ran.err

    def test_a_bad_file_of_own_prices(self, cli: Cli, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        own.write_text("gpu_purchase: {l4-24gb: {new: -5}}\n")
        ran = cli("catalog", "prices", "l4", "--prices", own, "--json")
        assert (ran.code, ran.out) == (2, "")
        error = json.loads(ran.err)
        assert "must not be negative" in json.dumps(error)


class TestApi:
    def test_several_models_are_named_as_an_option_takes_them(self, cli: Cli) -> None:
        out = cli("catalog", "api", "deepseek-cn").out
        assert "  deepseek-cn/deepseek-v4-pro " in out
        assert "* other prices for long prompts or at some hours" in out

    def test_a_name_as_it_is_shown_is_found(self, cli: Cli) -> None:
        (found,) = cli("catalog", "api", "deepseek/deepseek-flash", "--json").json()["models"]
        assert (found["provider"], found["model"]) == ("deepseek", "deepseek-flash")

    def test_one_model_with_its_hours(self, cli: Cli) -> None:
        ran = cli("catalog", "api", "deepseek-cn", "pro")
        assert ran.code == 0
        for part in ("CNY", "13.5", "Monday to Friday", "https://api-docs.deepseek.com"):
            assert part in ran.out
        result = valid(cli("catalog", "api", "deepseek-cn", "pro", "--json").json(), "catalog-api")
        (model,) = result["models"]
        assert [(one["start_hour"], one["end_hour"]) for one in model["price"]["windows"]] == [
            (1, 4),
            (6, 10),
        ]

    def test_many_and_the_unverified(self, cli: Cli) -> None:
        result = valid(cli("catalog", "api", "--json").json(), "catalog-api")
        by_name = {(one["provider"], one["model"]): one for one in result["models"]}
        assert by_name["baidu", "ernie-5.1"]["price"] is None
        assert by_name["baidu", "ernie-5.1"]["unpriced"]
        assert "could be read" in cli("catalog", "api", "ernie-5.1", "baidu").out

    def test_none(self, cli: Cli) -> None:
        ran = cli("catalog", "api", "no", "such")
        assert ran.code == 1
        assert "No model API holds 'no such'" in ran.err
