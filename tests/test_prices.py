"""The price catalogue: every row sourced and in order, the rule of its figures, own prices, ages and currencies."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfhost.catalog.gpus import gpu_ids
from selfhost.catalog.price_rows import figures_of
from selfhost.catalog.price_types import CONDITIONS, KINDS, TERMS, TIERS, Figure, first_day
from selfhost.catalog.prices import WORLD, PriceError, load_prices

PRICES = load_prices()
ROWS = PRICES.rows()
DAY = date(2026, 11, 27)


@pytest.mark.parametrize("row", ROWS, ids=[row.key for row in ROWS])
def test_every_row_is_whole(row: Figure) -> None:
    kind, *keys = row.key.split(".")
    assert len(keys) == len(KINDS[kind].keys)
    assert 0 <= row.low <= row.typical <= row.high
    assert row.unit
    assert (row.currency is not None) == KINDS[kind].priced
    assert row.currency is None or row.unit.startswith(f"{row.currency}/")
    assert row.confidence in ("high", "medium", "low")
    assert first_day(row.date) <= DAY
    assert row.seen
    for one in row.seen:
        assert first_day(one.date) <= DAY
        assert one.source is None or re.match(r"https?://[^ ]+$", one.source)
        assert one.source is not None or one.confidence == "low", (
            "without a page nothing is more than of low confidence"
        )
        assert one.counts or one.note, "what is set aside says why"
        assert (one.low is None) == (one.high is None)
        assert one.low is None or one.high is None or one.low <= one.value <= one.high
    assert row.source is not None or row.confidence == "low"


def test_keys_name_what_there_is() -> None:
    for row in ROWS:
        kind, *keys = row.key.split(".")
        for wanted, key in zip(KINDS[kind].keys, keys, strict=True):
            if wanted == "gpu":
                assert key in gpu_ids()
            elif wanted == "country":
                assert re.fullmatch("[A-Z]{2}", key) or (kind, key) == ("colocation", WORLD)
            else:
                allowed = {"condition": CONDITIONS, "tier": TIERS, "term": TERMS}.get(wanted)
                assert allowed is None or key in allowed


def test_enough_of_every_kind() -> None:
    count = {kind: sum(row.key.startswith(f"{kind}.") for row in ROWS) for kind in KINDS}
    assert count["gpu_purchase"] >= 35
    assert count["gpu_rental"] >= 100
    assert count["electricity"] >= 30
    assert count["carbon"] >= 30
    assert all(count.values())
    assert {row.currency for row in ROWS} == {"USD", "CNY", "EUR", None}


def test_a_gpu_without_a_price_is_unknown_never_zero() -> None:
    assert PRICES.gpu_purchase("mi355x-288gb") is None
    assert PRICES.gpu_rental("a2-16gb", "specialty", "3y") is None
    assert PRICES.gpu_purchase("no-such-gpu") is None
    assert PRICES.electricity("ZZ") is None
    assert all(row.typical > 0 for row in ROWS)


class TestFigures:
    def test_median_and_extremes_of_what_counts(self) -> None:
        row = figures_of(
            "gpu_purchase.l4-24gb.new",
            {
                "seen": [
                    {
                        "value": 30,
                        "low": 20,
                        "high": 45,
                        "date": "2026-06",
                        "confidence": "medium",
                        "source": "https://a",
                    },
                    {"value": 40, "date": "2026-09-01", "confidence": "medium", "source": "https://b"},
                    {"value": 33, "date": "2026-05", "confidence": "high", "source": "https://c"},
                    {"value": 999, "date": "2026-09-02", "confidence": "low"},
                    {
                        "value": 1,
                        "date": "2026-09",
                        "confidence": "high",
                        "counts": False,
                        "note": "a mistake",
                    },
                    {"value": 5, "date": "2024", "confidence": "high", "source": "https://old"},
                ]
            },
        )
        assert (row.low, row.typical, row.high) == (20, 33, 45)
        assert (row.date, row.source, row.confidence) == ("2026-09-01", "https://c", "high")
        assert [one.value for one in row.seen] == [999, 40, 1, 30, 33, 5]

    def test_low_confidence_counts_where_there_is_no_better(self) -> None:
        row = figures_of(
            "gpu_purchase.l4-24gb.used",
            {"seen": [{"value": 7, "date": "2026", "confidence": "low", "note": "?"}]},
        )
        assert (row.typical, row.confidence, row.source) == (7, "low", None)


class TestResidual:
    def test_straight_between_rows_and_unknown_beyond(self) -> None:
        start, year, two = PRICES.residual(0), PRICES.residual(12), PRICES.residual(24)
        assert start is not None
        assert year is not None
        assert two is not None
        assert start.typical == 1
        half = PRICES.residual(18)
        assert half is not None
        assert half.typical == pytest.approx((year.typical + two.typical) / 2)
        assert PRICES.residual(120) is None

    def test_falls_with_age(self) -> None:
        worth = [found.typical for months in range(0, 61, 6) if (found := PRICES.residual(months))]
        assert len(worth) == 11
        assert worth == sorted(worth, reverse=True)


class TestCurrency:
    def test_rates_invert_and_chain(self) -> None:
        usd, eur = PRICES.fx("USD", "CNY").typical, PRICES.fx("EUR", "USD").typical
        assert 6 < usd < 8
        assert 1 < eur < 1.4
        assert PRICES.fx("CNY", "USD").typical == pytest.approx(1 / usd)
        assert PRICES.fx("EUR", "CNY").typical == pytest.approx(eur * usd, rel=1e-2)
        assert PRICES.fx("usd", "USD").typical == 1
        assert PRICES.fx("RMB", "CNY").typical == 1

    def test_convert_keeps_what_is_no_money(self) -> None:
        card = PRICES.gpu_purchase("h20-sxm-96gb")
        assert card is not None
        converted = PRICES.convert(card, "USD")
        assert converted.unit == "USD/GPU"
        assert converted.typical == pytest.approx(card.typical / PRICES.fx("USD", "CNY").typical)
        assert "Converted from CNY" in (converted.note or "")
        pue = PRICES.pue()
        assert pue is not None
        assert PRICES.convert(pue, "EUR") == pue

    @pytest.mark.parametrize("code", ["GBP", "", "dollars", "x" * 1000])
    def test_an_unknown_currency_is_refused(self, code: str) -> None:
        with pytest.raises(PriceError, match="is not known") as refused:
            PRICES.fx("USD", code)
        assert "USD, CNY, EUR" in (refused.value.hint or "")


class TestAge:
    def test_a_vague_date_counts_from_its_first_day(self) -> None:
        assert first_day("2026") == date(2026, 1, 1)
        assert first_day("2026-03") == date(2026, 3, 1)
        assert first_day("2026-03-09") == date(2026, 3, 9)
        for wrong in ("", "26", "2026-3", "2026-13", "March", "2026-01-01-01"):
            with pytest.raises(ValueError, match=r"."):
                first_day(wrong)

    def test_rows_grow_stale_and_the_longest_overdue_comes_first(self) -> None:
        early, late = PRICES.stale(date(2026, 11, 27)), PRICES.stale(date(2031, 1, 1))
        assert {one.figure.key for one in early} < {one.figure.key for one in late}
        assert len(late) == len(ROWS)
        ages = [one.age_days for one in early]
        assert ages == sorted(ages, reverse=True)
        assert all(one.age_days > one.fresh_days for one in early)

    def test_own_prices_are_never_stale(self, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        own.write_text("electricity: {CN: {typical: 0.1, date: 1999}}\n")
        assert "electricity.CN" in {one.figure.key for one in PRICES.stale(DAY)}
        assert "electricity.CN" not in {one.figure.key for one in load_prices(own).stale(DAY)}


def test_every_country_with_electricity_can_be_reckoned_with(tmp_path: Path) -> None:
    """A place that has a price of power has one of a rack; where it is the world's, the row says so."""
    own = tmp_path / "own.yaml"
    own.write_text("colocation: {KR: 180}\n")
    korea, mine, here = PRICES.colocation("kr"), load_prices(own).colocation("KR"), PRICES.colocation("US")
    assert korea is not None
    assert mine is not None
    assert here is not None
    assert (korea.key, korea.confidence, mine.typical, here.key) == (
        "colocation.001",
        "low",
        180,
        "colocation.US",
    )
    places = {row.key[-2:] for row in ROWS if row.key.startswith("electricity.")}
    assert {place for place in places if PRICES.staff(place) is None} == {"MA", "NG", "SA"}


def test_a_longer_term_is_no_dearer() -> None:
    """In one tier, one GPU costs less an hour for three years than for one, and for one than from hour to hour."""
    for key in PRICES.figures:
        kind, gpu, *rest = key.split(".")
        if kind != "gpu_rental" or rest[1] != "on-demand":
            continue
        found = [PRICES.figures.get(f"{kind}.{gpu}.{rest[0]}.{term}") for term in ("on-demand", "1y", "3y")]
        prices = [one.typical for one in found if one is not None]
        assert prices == sorted(prices, reverse=True), key


class TestOwnPrices:
    YAML = """
currency: cny
gpu_purchase:
  h20-sxm-96gb: {new: 118000}
  l40s-48gb: {used: {typical: 7000, low: 6500, high: 7500, currency: USD, date: 2026-11, source: an offer}}
electricity: {de: 1.2}
residual: {36: 0.3}
fx: {USD: {CNY: 7}}
discount: {company: 0.06}
"""

    def test_they_go_before_the_catalogue_in_every_format(self, tmp_path: Path) -> None:
        import yaml

        text = tmp_path / "own.yaml"
        text.write_text(self.YAML)
        as_json = tmp_path / "own.json"
        as_json.write_text(json.dumps(yaml.safe_load(self.YAML), default=str))
        toml = tmp_path / "own.toml"
        toml.write_text(
            'currency = "CNY"\n[gpu_purchase.h20-sxm-96gb]\nnew = 118000\n'
            "[gpu_purchase.l40s-48gb.used]\ntypical = 7000\n"
            'low = 6500\nhigh = 7500\ncurrency = "USD"\ndate = "2026-11"\nsource = "an offer"\n'
            "[electricity]\nde = 1.2\n[residual]\n36 = 0.3\n[fx.USD]\nCNY = 7\n[discount]\ncompany = 0.06\n"
        )
        loaded = [load_prices(path) for path in (text, as_json, toml)]
        for prices in loaded:
            card, used = prices.gpu_purchase("h20-sxm-96gb"), prices.gpu_purchase("l40s-48gb", "used")
            assert card is not None
            assert used is not None
            assert (card.typical, card.unit, card.confidence) == (118000, "CNY/GPU", "yours")
            assert (used.low, used.high, used.unit, used.source) == (6500, 7500, "USD/GPU", "an offer")
            power, worth = prices.electricity("DE"), prices.residual(36)
            assert power is not None
            assert worth is not None
            assert (power.typical, power.currency) == (1.2, "CNY")
            assert worth.typical == 0.3
            assert prices.fx("USD", "CNY").typical == 7
            assert prices.gpu_purchase("h100-sxm-80gb") == PRICES.gpu_purchase("h100-sxm-80gb")
            assert len(prices.rows()) == len(ROWS)
        assert [replace(row, source=None) for row in loaded[0].rows()] == [
            replace(row, source=None) for row in loaded[2].rows()
        ]

    def test_nothing_is_a_price_too(self, tmp_path: Path) -> None:
        own = tmp_path / "own.json"
        own.write_text('{"electricity": {"NO": 0}}')
        free = load_prices(own).electricity("no")
        assert free is not None
        assert free.typical == 0

    def test_the_example_of_the_docs_is_taken(self, tmp_path: Path) -> None:
        page = (Path(__file__).parent.parent / "docs/prices.md").read_text(encoding="utf-8")
        own = tmp_path / "own.yaml"
        own.write_text(page.partition("```yaml\n")[2].partition("```")[0])
        rent, rate = (
            load_prices(own).gpu_rental("h20-sxm-96gb", "specialty", "1y"),
            load_prices(own).discount(),
        )
        assert rent is not None
        assert rate is not None
        assert (rent.typical, rent.unit, rent.source) == (9.5, "CNY/GPU-hour", "offer of 3 November")
        assert rate.typical == 0.06

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5),
            lambda below: (
                st.lists(below, max_size=3)
                | st.dictionaries(
                    st.sampled_from([*KINDS, "l4-24gb", "new", "CN", "typical", "low", "x"]), below
                )
            ),
            max_leaves=8,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_whatever_stands_in_a_file_is_taken_or_refused(self, data: object) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(data, file)
            file.flush()
            with contextlib.suppress(PriceError):
                for row in load_prices(Path(file.name)).rows():
                    assert 0 <= row.low <= row.typical <= row.high

    def test_norway_is_a_country_in_yaml(self, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        own.write_text("electricity: {NO: 0.05, no: 0.06}\n")
        power = load_prices(own).electricity("NO")
        assert power is not None
        assert power.confidence == "yours"

    def test_aliases_without_end_are_one_short_error(self, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        lines = ["a: &a0 [1, 1]", *(f"b{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
        own.write_text("\n".join([*lines, "pue: {colocation: *a59}"]).replace("a: ", "pue_: ", 1))
        with pytest.raises(PriceError):
            load_prices(own)
        own.write_text("pue: {colocation: &a [1, 2]}\nelectricity: {CN: *a}\n")
        with pytest.raises(PriceError, match="must be a number, not a list"):
            load_prices(own)

    @pytest.mark.parametrize(
        ("text", "said", "hint"),
        [
            ("gpu_purchse: {l4-24gb: {new: 1}}", "no key of the price catalogue", "gpu_purchase"),
            ("gpu_purchase: {h100-smx-80gb: {new: 1}}", "no key", "gpu_purchase.h100-sxm-80gb"),
            ("gpu_purchase: {l4-24gb: {newish: 1}}", "no key", "gpu_purchase.l4-24gb.new"),
            ("gpu_rental: {l4-24gb: {speciality: {spot: 1}}}", "no key", "specialty"),
            ("gpu_rental: {l4-24gb: {specialty: {1yr: 1}}}", "no key", "1y"),
            ("pue: {collocation: 1.2}", "no key", "colocation"),
            ("gpu_purchase: {l4-24gb: {new: {typicl: 1}}}", "no key", "typical"),
            ("gpu_purchase: {l4-24gb: {new: -1}}", "must not be negative", None),
            ("gpu_purchase: {l4-24gb: {new: {typical: 3, low: -1}}}", "must not be negative", None),
            ("gpu_purchase: {l4-24gb: {new: {typical: 3, low: 4}}}", "not in this order", None),
            ("gpu_purchase: {l4-24gb: {new: {low: 4}}}", "lacks `typical`", None),
            ("gpu_purchase: {l4-24gb: {new: .nan}}", "must be a number", None),
            ("gpu_purchase: {l4-24gb: {new: .inf}}", "must be a number", None),
            ("gpu_purchase: {l4-24gb: {new: true}}", "must be a number", None),
            ("gpu_purchase: {l4-24gb: {new: cheap}}", "must be a number", None),
            ("gpu_purchase: {l4-24gb: 3}", "must be a table by condition", None),
            ("gpu_purchase: 3", "must be a table by gpu", None),
            ("gpu_purchase: {l4-24gb: {new: {typical: 3, currency: GBP}}}", "'GBP' is not known", "USD"),
            ("currency: pounds", "'POUNDS' is not known", "USD"),
            ("currency: 3", "currency must be a text", None),
            ("pue: {colocation: {typical: 1.3, currency: USD}}", "has no currency", "Leave"),
            ("pue: {colocation: 0.9}", "at least 1", None),
            ("residual: {36: 30}", "more than the whole", "share"),
            ("discount: {company: 8}", "more than the whole", "share"),
            ("residual: {-3: 0.3}", "whole number above 0", None),
            ("fx: {USD: {CNY: 0}}", "more than 0", None),
            ("fx: {USD: {EUR: 0.9}, EUR: {USD: 2}}", "contradict each other", "one rate"),
            ("fx: {USD: {CNY: 7, EUR: 0.9}, EUR: {CNY: 12}}", "contradict each other", "one rate"),
            ("fx: {USD: {USD: 2}}", "contradict each other", "one rate"),
            ("electricity: {DE: 0.1, de: 0.2}", "electricity.DE stands twice", None),
            ("gpu_purchase: {l4-24gb: {new: 1e308}}", "must be at most 1e+15", None),
            ("", "is empty", "gpu_purchase"),
            ("electricity: {Germany: 0.3}", "two letters", None),
            ("electricity: {DE: {typical: 1, date: soon}}", "is no date", "YYYY"),
            ("- 1", "must hold tables", None),
            ("{", "is not what its name says", None),
            ("pue: {colocation: 1.2, colocation: 1.3}", "'colocation' stands twice", None),
            (f"gpu_purchase: {{l4-24gb: {{new: {'9' * 400}}}}}", "must be at most 1e+15", None),
            ("pue: {colocation: {typical: 1.2, source: [a]}}", "source must be a text, not a list", None),
        ],
    )
    def test_bad_input_is_one_clear_error(
        self, text: str, said: str, hint: str | None, tmp_path: Path
    ) -> None:
        own = tmp_path / "own.yaml"
        own.write_text(text)
        with pytest.raises(PriceError) as refused:
            load_prices(own)
        assert said.lower() in refused.value.message.lower()
        assert "\n" not in refused.value.message
        assert len(refused.value.message) < 300
        assert hint is None or hint in (refused.value.hint or "")

    @pytest.mark.parametrize("text", ["fx: {CNY: {USD: 0.1}}", "fx: {USD: {CNY: 1e1}}"])
    def test_own_rates_of_exchange_hold_for_every_pair(self, text: str, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        own.write_text(text)
        found = load_prices(own)
        assert found.fx("USD", "CNY").typical == pytest.approx(10)
        assert found.fx("CNY", "USD").typical == pytest.approx(0.1)
        assert found.fx("EUR", "CNY").typical == pytest.approx(10 * PRICES.fx("EUR", "USD").typical)

    def test_a_mark_at_the_beginning_of_a_file_is_no_key(self, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        own.write_bytes(b"\xef\xbb\xbfpue: {colocation: 1.25}\r\n")
        found = load_prices(own).pue("colocation")
        assert found is not None
        assert found.typical == 1.25

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.yaml", tmp_path):
            with pytest.raises(PriceError, match="cannot be read"):
                load_prices(path)
        odd = tmp_path / "prices.ini"
        odd.write_text("a = 1")
        with pytest.raises(PriceError, match="ends in none of"):
            load_prices(odd)
        binary = tmp_path / "own.json"
        binary.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(PriceError, match="cannot be read"):
            load_prices(binary)
        deep = tmp_path / "deep.json"
        deep.write_text("[" * 100_000)
        with pytest.raises(PriceError):
            load_prices(deep)
        long = tmp_path / "long.yaml"
        long.write_bytes(b"#" * (1 << 20) + b"\n")
        with pytest.raises(PriceError, match="1 MiB"):
            load_prices(long)
