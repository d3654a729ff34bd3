"""Published cost cases through `selfhost cost --scenario`: what is right comes out, the rest is called an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import selfhost.cli
from tests.conftest import Cli

DATA = Path(__file__).parent / "data" / "tco"
SCHEMA = json.loads(
    (Path(selfhost.cli.__file__).parent / "schemas" / "cost.json").read_text(encoding="utf-8")
)
# What was published and is wrong, by file.
ERRORS = {
    "ertas": ["months to break even at 50 to 70 % utilization"],
    "negative_power": ["power a year"],
    "negative_power_share": ["share of power in the cost"],
    "negative_queries": ["queries a day to break even"],
    "negative_rent": ["a month"],
    "randomcalc": ["cheaper a month, write-off included", "months to break even by the published formula"],
    "technolynx": ["an owned useful hour"],
    "v2pseo": ["three years"],
}
FILES = sorted(DATA.glob("*.toml"))


def run(cli: Cli, name: str) -> Any:
    ran = cli("cost", "--scenario", DATA / f"{name}.toml", "--json")
    assert (ran.code, ran.err) == (0, "")
    return ran.json()


def option(found: Any, name: str) -> Any:
    return next(one for one in found["options"] if one["name"] == name)


def pair(found: Any, name: str, against: str) -> Any:
    return next(one for one in found["comparisons"] if (one["option"], one["against"]) == (name, against))


def claim(found: Any, what: str) -> Any:
    return next(one for one in found["published"] if one["what"] == what)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_published_number_is_reproduced_or_called_an_error(path: Path, cli: Cli) -> None:
    found = run(cli, path.stem)
    jsonschema.validate(found, SCHEMA)
    assert found["published"]
    wrong = [one["what"] for one in found["published"] if one["verdict"] == "published error"]
    assert wrong == ERRORS.get(path.stem, [])
    for one in found["published"]:
        if one["verdict"] == "reproduced" and isinstance(one["published"], list):
            assert one["computed"] == pytest.approx(one["published"][0], rel=0.01)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_case_reads_well(path: Path, cli: Cli) -> None:
    ran = cli("cost", "--scenario", path)
    assert ran.code == 0
    assert ran.out.startswith("Cheapest over ")
    assert max(map(len, ran.out.splitlines())) <= 80


def test_four_plans_of_enterprises(cli: Cli) -> None:
    found = run(cli, "selection_plans")
    one, two = option(found, "plan 1: open, private"), option(found, "plan 2: open, cloud")
    assert [year["typical"] for year in one["by_year"]] == [900_000, 1_000_000, 1_100_000]
    assert [(year["low"], year["high"]) for year in two["by_year"]] == [
        (320_000, 440_000),
        (440_000, 680_000),
        (560_000, 920_000),
    ]
    dear = pair(found, "plan 1: open, private", "plan 2 at 20,000 a month")["payback"]
    assert dear["years"] == pytest.approx(600 / 140, abs=1e-6)
    assert dear["within_horizon"] is False
    assert dear["reason"] == "not within 3 years: after 4.29"
    cheap = pair(found, "plan 1: open, private", "plan 2 at 10,000 a month")["payback"]
    assert cheap["years"] == pytest.approx(30.0)
    assert cheap["within_horizon"] is False
    third = pair(found, "plan 3: closed, private", "plan 1: open, private")["payback"]
    assert third["months"] is None
    assert "dearer at the start" in third["reason"]
    text = cli("cost", "--scenario", DATA / "selection_plans.toml").out
    assert "4.29 years, too late" in text
    assert "Too late: not within 3 years." in text


def test_a_double_counted_purchase_is_named(cli: Cli) -> None:
    found = run(cli, "randomcalc")
    own = pair(found, "own", "cloud")["payback"]
    assert own["months"] == pytest.approx(35.56, abs=0.01)
    assert own["within_horizon"] is True
    assert "counted twice" in claim(found, "months to break even by the published formula")["because"]
    assert found["cheapest"] == "own"


def test_a_box_that_never_pays_says_never(cli: Cli) -> None:
    found = run(cli, "ohms_local")
    never = pair(found, "own box", "hosted")["break_even"]
    assert never["tokens_per_month"] is None
    assert never["utilization"] is None
    assert never["utilization_needed"] == pytest.approx(3.279, rel=1e-3)
    assert never["reason"] == "it would take 3.28 times what it can answer with"
    assert "never (3.28 of it)" in cli("cost", "--scenario", DATA / "ohms_local.toml").out


BUY = {
    "name": "buy",
    "line": [{"name": "card", "upfront": 100}, {"name": "power", "per_kwh": 0.1, "kw": 1}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"option": [{**BUY, "line": [{"name": "card", "upfront": -5}]}]}, "must not be negative: -5"),
        ({"currency": "DOGE"}, "currency must be one of USD, CNY, EUR, not 'DOGE'"),
        ({"volume": {"output_tokens": 0}}, "the volume is zero"),
        ({"utilization": 1.2}, "utilization must be at most 1, not 1.2"),
        ({"option": []}, "has no [[option]]"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"option": [{**BUY, "line": [{"name": "x"}]}]}, "needs exactly one amount, and has none"),
        ({"option": [{**BUY, "line": [{"upfrnt": 5}]}]}, "Is 'upfrnt' meant to be upfront?"),
        ({"option": [{**BUY, "line": [{"per_kwh": 1}]}]}, "needs kw"),
        ({"option": [{**BUY, "line": [{"per_month": [3, 1]}]}]}, "not in order from low to high"),
        ({"option": [{**BUY, "line": [{"per_month": True}]}]}, "must be a number"),
        ({"option": [{**BUY, "line": [{"per_month": float("nan")}]}]}, "must be a number"),
        ({"option": [BUY, BUY]}, "Two options are called 'buy'"),
        ({"years": 3, "months": 4}, "give years or months, not both"),
        ({"months": 9999}, "9999 months are more than 600"),
        ({"run_hours_per_day": 25}, "must be at most 24, not 25"),
        ({"discount_rate": 1.5}, "must be at most 1, not 1.5"),
        (
            {
                "volume": {"output_tokens": 5e9},
                "option": [{**BUY, "capacity_output_tokens_per_second": 1000}],
            },
            "1.90 times what option 'buy' can answer with",
        ),
        (
            {"option": [BUY, {"name": "api", "line": [{"per_million_tokens": 1}]}]},
            "'line 1' is priced by what the volume does not say: input_tokens or output_tokens",
        ),
        (
            {
                "volume": {"output_tokens": 5},
                "option": [BUY, {"name": "api", "line": [{"per_thousand_requests": 1}]}],
            },
            "does not say: requests",
        ),
        ({"option": [BUY, {"name": "api"}]}, "'api' has no line"),
        ({"utilization": 0.5}, "utilization is of a capacity, and no option has one"),
        ({"utilization": 0.5, "volume": {"output_tokens": 5}}, "give utilization or [volume], not both"),
        ({"option": [{**BUY, "line": [{"upfront": 10**400}]}]}, "must be a number of fewer digits"),
        (
            {"option": [{**BUY, "line": [{"per_month": 1, "from_month": 12, "until_month": 3}]}]},
            "until_month 3 comes before from_month 12",
        ),
        (
            {"published": [{"what": "x", "metric": "ratio", "option": "buy", "value": 1}]},
            "needs an option and another one, against",
        ),
        (
            {"published": [{"what": "x", "metric": "line", "option": "buy", "value": 1}]},
            "'x' needs a line",
        ),
        (
            {
                "option": [{**BUY, "line": [{"name": "card", "upfront": 0}]}],
                "published": [
                    {"what": "x", "metric": "line_share", "option": "buy", "line": "card", "value": 1}
                ],
            },
            "is a share of what costs nothing",
        ),
        ({"published": [{"what": "x", "metric": "beauty", "value": 1}]}, "no metric 'beauty'"),
        ({"published": [{"what": "x", "metric": "total", "option": "rent", "value": 1}]}, "no option 'rent'"),
        (
            {"published": [{"what": "x", "metric": "npv", "option": "buy", "value": 1}]},
            "and another one, against",
        ),
    ],
)
def test_a_wrong_scenario_is_one_clear_error(
    change: dict[str, Any], message: str, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "case.json"
    path.write_text(json.dumps({"option": [BUY], **change}))
    ran = cli("cost", "--scenario", path, "--export-assumptions", tmp_path / "all.toml")
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert ran.err.count("Error:") == 1
    assert not (tmp_path / "all.toml").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("case.toml", "option = [", "cannot be understood"),
        ("case.yaml", "option: [", "cannot be understood"),
        ("case.txt", "option", "its name ends in none of"),
        ("case.json", "[]", "is not a table"),
        ("case.json", "", "case.json is empty"),
        ("case.yaml", " \n", "case.yaml is empty"),
        ("case.json", '{"title": "a", "title": "b"}', "'title' stands twice"),
        ("case.yaml", "title: a\ntitle: b\n", "'title' stands twice (line 2)"),
        ("case.json", "[" * 9999, "it nests too deep"),
    ],
)
def test_a_file_that_cannot_be_read_says_so(
    name: str, text: str, message: str, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    ran = cli("cost", "--scenario", tmp_path / name)
    assert ran.code == 2
    assert message in ran.err
    assert cli("cost", "--scenario", tmp_path / "none.toml").code == 2


def test_yaml_toml_and_json_say_the_same(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"option": [BUY], "date": "2026-01-02"}))
    (tmp_path / "a.yaml").write_text(
        "date: 2026-01-02\noption:\n- name: buy\n  line:\n  - {name: card, upfront: 1e2}\n"
        "  - {name: power, per_kwh: 0.1, kw: 1}\n"
    )
    (tmp_path / "a.toml").write_text(
        'date = 2026-01-02\n[[option]]\nname = "buy"\nline = [{name = "card", upfront = 100}, '
        '{name = "power", per_kwh = 0.1, kw = 1}]\n'
    )
    found = [
        cli("cost", "--scenario", tmp_path / f"a.{end}", "--json").json() for end in ("json", "yaml", "toml")
    ]
    assert found[0] == found[1] == found[2]
    assert found[0]["options"][0]["total"]["typical"] == pytest.approx(100 + 0.1 * 8760 * 3)


def test_a_price_that_is_not_known_is_said_and_never_zero(cli: Cli, tmp_path: Path) -> None:
    unknown = {"name": "other", "line": [{"name": "card", "upfront": "unknown"}]}
    (tmp_path / "a.json").write_text(json.dumps({"option": [BUY, unknown]}))
    found = cli("cost", "--scenario", tmp_path / "a.json", "--json").json()
    assert option(found, "other")["total"] is None
    assert option(found, "other")["unknown"] == ["card"]
    assert found["cheapest"] == "buy"
    assert "unknown" in cli("cost", "--scenario", tmp_path / "a.json").out


def test_nothing_of_the_command_line_is_dropped_beside_a_scenario(cli: Cli) -> None:
    ran = cli("cost", "--scenario", DATA / "lenovo.toml", "--gpu", "l4-24gb")
    assert ran.code == 2
    assert "--gpu has no effect with --scenario" in ran.err


def test_assumptions_of_a_scenario_go_out_and_come_back(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "own.toml"
    first = cli("cost", "--scenario", DATA / "v2pseo.toml", "--export-assumptions", out, "--json").json()
    again = cli("cost", "--scenario", DATA / "v2pseo.toml", "--assumptions", out, "--json").json()
    assert again == first
    (tmp_path / "one.yaml").write_text("assumption:\n  'own: node': 400000\n")
    changed = cli(
        "cost", "--scenario", DATA / "v2pseo.toml", "--assumptions", tmp_path / "one.yaml", "--json"
    ).json()
    assert option(changed, "own")["paid_once"] == 400_000


def test_names_in_chinese_stand_in_columns(cli: Cli, tmp_path: Path) -> None:
    mine = {"name": "方案一：自建", "line": [{"name": "硬件", "upfront": 800_000}]}
    theirs = {"name": "cloud", "line": [{"name": "租用", "per_month": [10_000, 20_000]}]}
    (tmp_path / "a.json").write_text(json.dumps({"currency": "CNY", "option": [mine, theirs]}))
    lines = cli("cost", "--scenario", tmp_path / "a.json").out.splitlines()
    own = next(line for line in lines if line.startswith("  方案一"))
    other = next(line for line in lines if line.startswith("  cloud"))
    assert own.index("800,000") + 6 == other.index("540,000")  # six characters take two columns each


def test_a_range_of_one_number_and_a_tie_are_not_told_as_more(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"option": [BUY, {**BUY, "name": "again"}]}))
    out = cli("cost", "--scenario", tmp_path / "a.json").out
    assert "; again costs the same." in out
    assert " to " not in out.partition("worth now")[2].partition("paid by")[0]
