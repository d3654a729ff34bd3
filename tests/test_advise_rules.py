"""Every rule and case of the selection through the public command, in English and in Chinese."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.advise.tables import pitfalls, rules
from tests.conftest import Cli

DATA = Path(__file__).parent / "data" / "advice"
CASES: list[dict[str, Any]] = [
    case for file in sorted(DATA.glob("*.yaml")) for case in yaml.safe_load(file.read_text(encoding="utf-8"))
]
# Facts that are told, not decided by: their tests are those of `--rules` and `--cases`.
TOLD = {15, 16, 33, 34, 35, 41}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("case", CASES, ids=[f"{case['rules']} {case['name']}" for case in CASES])
def test_a_case_has_its_outcome(case: dict[str, Any], language: str, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "answers.yaml"
    file.write_text(yaml.safe_dump(case["answers"]), encoding="utf-8")
    expect = case["expect"]
    onward = [] if any(key.startswith("model_at") for key in expect) else ["--no-onward"]

    ran = cli("advise", "--answers", file, "--lang", language, "--json", *onward)

    assert ran.code == 0, ran.err
    found = ran.json()
    numbers = {key: {one["number"] for one in found[key]} for key in ("reasons", "warnings")}
    assert found["path"] in expect.get("path", [found["path"]])
    assert numbers["reasons"] >= set(expect.get("reasons", []))
    assert not numbers["reasons"] & set(expect.get("no_reasons", []))
    assert numbers["warnings"] >= set(expect.get("warnings", []))
    assert not numbers["warnings"] & set(expect.get("no_warnings", []))
    assert set(found["alternatives"]) >= set(expect.get("alternatives", []))
    assert {one["id"] for one in found["contradictions"]} >= set(expect.get("contradictions", []))
    asked = {one["key"]: one for one in found["questions"]}
    assert asked.keys() >= set(expect.get("questions", []))
    assert not asked.keys() & set(expect.get("no_questions", []))
    assert found["confidence"] == expect.get("confidence", found["confidence"])
    assert found["plan"] == expect.get("plan", found["plan"])
    for answer, paths in expect.get("performance", {}).items():
        changes = {one["answer"]: one["path"] for one in asked["performance"]["changes"]}
        assert changes[answer] in paths
    if "totals" in expect:
        totals = {one["years"]: [one["low"], one["high"]] for one in found["worked_case"]["totals"]}
        assert {years: totals[years] for years in expect["totals"]} == expect["totals"]
    if "level" in expect:
        assert found["model"]["level"] == expect["level"]
    if onward == []:
        size = found["onward"]["models"][0]["parameters_b"]
        assert expect.get("model_at_least_b", 0) <= size <= expect.get("model_at_most_b", 1e6)
        machine = found["onward"]["hardware"]
        assert {machine["engine"].split("@")[0], machine["quantization"]} >= set(expect.get("hardware", []))
    texts = [one["because"] for key in ("reasons", "warnings", "contradictions") for one in found[key]]
    chinese = [any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in texts]
    assert all(chinese) if language == "zh" else not any(chinese)


def test_every_rule_has_a_case() -> None:
    tried = {number for case in CASES for number in case["rules"]}
    every = {rule.number for rule in (*rules(), *pitfalls())}
    assert every <= tried | TOLD
    # 6 to 69 without a gap: rule 25 on are the plans, 52 to 62 the pitfalls.
    assert every == set(range(1, 70)), set(range(1, 70)) - every


@pytest.mark.parametrize("language", ["en", "zh"])
def test_orderings_are_facts(language: str, cli: Cli) -> None:
    listed = cli("advise", "--rules", "--json", "--lang", language).json()["rules"]
    orders = {(one["number"], one["quantity"]): one["order"] for one in listed if one["order"]}
    assert orders == {
        (15, "customisation"): ["open", "closed"],
        (16, "upkeep"): ["open", "closed"],
        (17, "security_control"): ["open-private", "closed-cloud"],
        (18, "upfront_cost"): ["open", "closed"],
        (18, "usage_cost"): ["closed", "open"],
        (19, "deployment_time"): ["private", "cloud"],
        (20, "elasticity"): ["cloud", "private"],
        (21, "cost_growth"): ["closed-cloud", "open-private"],
    }
    compared = cli("advise", "--set", "privacy=no", "--json", "--no-onward", "--lang", language).json()[
        "comparison"
    ]
    ranks = {one["path"]: one["ranks"] for one in compared}
    days = {one["path"]: (one["deploy_days"]["low"], one["deploy_days"]["high"]) for one in compared}
    for where in ("private", "cloud"):
        opened, closed = ranks[f"open-{where}"], ranks[f"closed-{where}"]
        assert opened["customisation"] > closed["customisation"]
        assert opened["upkeep"] > closed["upkeep"] == 1
        assert opened["upfront_cost"] >= closed["upfront_cost"]
        assert opened["usage_cost"] < closed["usage_cost"]
    assert ranks["open-private"]["security_control"] > ranks["closed-cloud"]["security_control"]
    for kind in ("open", "closed"):
        assert ranks[f"{kind}-cloud"]["elasticity"] > ranks[f"{kind}-private"]["elasticity"]
        assert (days[f"{kind}-private"], days[f"{kind}-cloud"]) == ((30, 90), (1, 7))


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("accuracy", "precision and recall", "ROUGE and BLEU, with their limits", "stronger model as judge")),
        ("zh", ("准确率", "精确率、召回率", "ROUGE、BLEU（有局限）", "更强的模型评判")),
    ],
)  # fmt: skip
def test_what_to_measure_of_a_task_is_listed(language: str, words: tuple[str, ...], cli: Cli) -> None:
    listed = cli("advise", "--rules", "--json", "--lang", language).json()["rules"]
    (text,) = [one["text"] for one in listed if one["number"] == 41]
    assert all(word in text for word in words)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_worked_cases_have_their_figures(language: str, cli: Cli) -> None:
    found = cli("advise", "--cases", "--json", "--lang", language).json()
    cases = {one["case"]: one for one in found["cases"]}
    totals = {
        name: {one["years"]: (one["low"], one["high"]) for one in case["totals"]}
        for name, case in cases.items()
    }
    assert totals["plan-1"] == {1: (900_000, 900_000), 2: (1_000_000, 1_000_000), 3: (1_100_000, 1_100_000)}
    assert totals["plan-2"][1] == (320_000, 440_000)
    assert totals["plan-2"][3] == (560_000, 920_000)
    assert (totals["plan-3"][1], totals["plan-3"][3]) == ((1_150_000, 1_150_000), (1_450_000, 1_450_000))
    assert (totals["plan-4"][1], totals["plan-4"][3]) == ((6_000, 12_000), (18_000, 36_000))
    assert cases["plan-4"]["calls_per_month"] == {"low": 50_000, "high": 100_000}
    evens = {(one["plan"], one["against"]): one for one in found["break_evens"]}
    one = evens["plan-1", "plan-2"]
    assert round(one["years_at_most_cost"], 2) == 4.29
    assert one["years_at_least_cost"] == 30
    assert one["within_three_years"] is False
    three = evens["plan-3", "plan-1"]
    assert (three["years_at_least_cost"], three["years_at_most_cost"]) == (None, None)
    meets = {each["years"]: each for each in found["plan_4_monthly_to_meet_plan_1"]}
    assert [round(meets[years]["per_month"]) for years in (1, 2, 3)] == [75_000, 41_667, 30_556]
    assert round(meets[3]["calls_per_month"] / 1e6, 2) == 3.06


def test_what_was_wrong_in_the_sources_is_not_repeated() -> None:
    texts = [rule.text[language] for rule in (*rules(), *pitfalls()) for language in ("en", "zh")]
    vendors = next(text for text in texts if "Hunyuan" in text)
    assert "ByteDance (Doubao)" in vendors
    assert "Tencent (Hunyuan)" in vendors
    assert "腾讯（混元）" in next(text for text in texts if "混元" in text)
    for dated in ("GPT-4", "Claude 3", "Llama 2", "Llama 3", "Anyscale", "TGI", "exponential", "指数级"):
        assert not any(dated in text for text in texts), dated
