"""`selfhost advise`: answers from files, options and people; what it refuses; what it goes on with."""

from __future__ import annotations

import io
import itertools
import json
import random
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import selfhost.cli
from selfhost.advise import LANGUAGES, PATHS, Answers, Language, advise, parse_answers
from selfhost.advise.commands import MOST_REPLICAS
from selfhost.advise.match import holds
from selfhost.advise.onward import go_on
from selfhost.advise.tables import decisions, odds, onward, paths, pitfalls, questions, read, rules
from selfhost.advise.wishes import wish_of
from selfhost.catalog.gpus import find_gpu
from selfhost.catalog.models import find
from selfhost.catalog.prices import Prices, load_prices
from selfhost.cli._sizing import understand
from selfhost.errors import UsageError
from tests.conftest import Cli

SCHEMAS = Path(selfhost.cli.__file__).parent / "schemas"
BANK: dict[str, Any] = {"privacy": "yes", "team": "professional", "need": "vertical", "budget": "ample"}


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("advice", ()),
        (
            "advice",
            ("--set", "privacy=yes", "--set", "mlops=no", "--set", "model=Qwen/Qwen3-32B", "--lang", "zh"),
        ),
        ("advice", ("--set", "privacy=no", "--set", "mlops=no", "--set", "performance=critical")),
        (
            "advice",
            ("--set", "wish=open", "--set", "mlops=no", "--no-onward", "--set", "beliefs=open-is-free"),
        ),
        ("advice", ("--set", "latency_ms=50", "--set", "mlops=yes", "--set", "country=CN")),
        ("advice-questions", ("--list-questions",)),
        ("advice-template", ("--template", "--lang", "zh")),
        ("advice-rules", ("--rules",)),
        ("advice-cases", ("--cases",)),
    ],
)
def test_output_follows_its_schema(name: str, words: tuple[str, ...], cli: Cli) -> None:
    ran = cli("advise", *words, "--json")
    assert (ran.code, ran.err) == (0, "")
    result = ran.json()
    assert next(iter(result)) == "schema"
    jsonschema.validate(result, schema(name))


@pytest.mark.parametrize("suffix", ["yaml", "toml", "json", "nested.json"])
def test_answers_come_from_each_kind_of_file(suffix: str, cli: Cli, tmp_path: Path) -> None:
    texts = {
        "yaml": yaml.safe_dump(BANK),
        "toml": "".join(f"{key} = {json.dumps(value)}\n" for key, value in BANK.items()),
        "json": json.dumps(BANK),
        "nested.json": json.dumps({"answers": BANK}),
    }
    file = tmp_path / f"a.{suffix}"
    file.write_text(texts[suffix], encoding="utf-8")
    found = cli("advise", "--answers", file, "--json", "--no-onward").json()
    assert found["path"] == "open-private"
    assert found["answers"] == BANK


@pytest.mark.parametrize(
    "text",
    ["privacy: yes\nmlops: no\n", 'privacy = "yes"\nmlops = false\n', '{"privacy": true, "mlops": "no"}'],
)
def test_the_standard_input_may_be_any_of_them(text: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    found = cli("advise", "--answers", "-", "--json", "--no-onward").json()
    assert [one["id"] for one in found["contradictions"]] == ["private-but-no-skills"]


def test_a_closed_standard_input_has_no_answers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    asked = cli("advise", "--no-onward")
    assert (asked.code, asked.out.splitlines()[0]) == (
        0,
        "Recommended: Closed model, cloud: a commercial API, paid by use.",
    )
    read = cli("advise", "--answers", "-", "--no-onward")
    assert (read.code, read.out) == (2, "")
    assert "the standard input cannot be read: it is closed." in read.err.lower()


def test_an_option_counts_more_than_the_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("privacy: yes\nmlops: yes\n", encoding="utf-8")
    found = cli(
        "advise", "--answers", file, "--set", "privacy=no", "--set", "mlops=unknown", "--json", "--no-onward"
    ).json()
    assert found["answers"] == {"privacy": "no"}
    assert found["unknown"] == ["mlops"]
    assert "mlops" in {one["key"] for one in found["questions"]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("privcy: yes\n", "id you mean privacy?"),
        ("stage: matur\n", "id you mean mature?"),
        ("privacy: perhaps\n", "privacy cannot be 'perhaps'"),
        ("requests_per_day: 0\n", "requests_per_day cannot be 0"),
        ("requests_per_day: 1:30:00\n", "requests_per_day cannot be '1:30:00'"),
        ("schema: selfhost/plan/v1\nmodel: {id: x}\n", "is a selfhost/plan/v1, not answers"),
        ("schema: selfhost/advice/v2\nanswers: {}\n", "is a selfhost/advice/v2, not answers"),
        ("privacy: {yes: no}\n", "privacy cannot be"),
        (f"privacy: yes\n# {'x' * (1 << 18)}\n", "is larger than an answers file can be"),
        ("requests_per_day: many\n", "requests_per_day cannot be 'many'"),
        ("requests_per_day: .nan\n", "requests_per_day cannot be '.nan'"),
        ("monthly_spend: -5\n", "monthly_spend cannot be -5"),
        ("currency: GBP\n", "currency cannot be 'GBP'"),
        ("country: Atlantis\n", "country cannot be 'Atlantis'"),
        ("team: none\nteam_people: 5\n", "Contradictory answers: There is no AI team and it has people."),
        ("team: none\nmlops: yes\n", "Contradictory answers"),
        ("wish: closed\nmodel: Qwen/Qwen3-8B\n", "Contradictory answers"),
        ("budget: ample\ngpu_budget: no\n", "Contradictory answers"),
        ("privacy: yes\nprivacy: no\n", "'privacy' stands twice"),
        ("team: none\nai_team: basic\n", "team and ai_team are the same question"),
        ("- privacy\n", "holds no answers"),
        ("privacy: [yes\n", "is not YAML"),
        ("privacy: !!python/object/apply:os.getcwd []\n", "is not YAML"),
        ("a: &a [x, x]\nb: *a\n", "*a refers to another answer"),
        (f"beliefs: {'[' * 1200}{']' * 1200}\n", "it nests too deep"),
        (f"requests_per_day: {'9' * 400}\n", "requests_per_day cannot be '9999"),
        ("upfront_budget: -1\n", "t takes 0 or more."),
        ("upfront_budget: much\n", "t takes a number, or unknown."),
    ],
)
def test_bad_answers_are_one_clear_error(text: str, says: str, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text, encoding="utf-8")
    ran = cli("advise", "--answers", file)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.count("Error:") == ran.err.count("Hint:") == 1


def test_toml_without_end_is_one_clear_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"beliefs = {'[' * 1200}{']' * 1200}\n")
    ran = cli("advise", "--answers", tmp_path / "a.toml")
    assert (ran.code, ran.out) == (2, "")
    assert "is not TOML: it nests too deep." in ran.err


@pytest.mark.parametrize(
    ("name", "level", "licence"),
    [
        ("pythia-6.9b", 3, "apache-2.0"),
        ("Ministral-8B-Instruct-2410", 2, "mrl"),
        ("Qwen/Qwen-72B-Chat", 2, "qwen"),
        ("somebody/Qwen-72B-tuned", None, None),
        ("Llama 2 70B", 2, "llama2"),
        ("OLMo-2-1124-7B", 3, "apache-2.0"),
        ("allenai/Olmo-3-7B-Instruct", 3, "apache-2.0"),
        ("文心一言", 1, "proprietary"),
        ("hunyuan-turbos", 1, "proprietary"),
    ],
)
def test_lines_of_models_are_known_by_name(name: str, level: int | None, licence: str | None) -> None:
    wish = wish_of(name)
    assert (wish.level, wish.licence) == (level, licence)


def test_every_line_has_a_licence_of_the_catalogue() -> None:
    from selfhost.catalog.licences import of_id

    for name, line in read("lines").items():
        assert name == name.lower()
        assert of_id(line["licence"]), name


def test_contradictions_are_told_in_chinese_too(cli: Cli) -> None:
    ran = cli("advise", "--set", "team=none", "--set", "team_people=5", "--lang", "zh")
    assert ran.code == 2
    assert "回答自相矛盾：没有 AI 团队，却又填写了团队人数。" in ran.err
    assert "team_people: 5" in ran.err
    assert "5.0" not in ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--answers", "no-such-file.yaml"), "cannot be read"),
        (("--set", "privacy"), "--set takes KEY=VALUE"),
        (("--set", "privacy=yes", "--set", "privacy=no"), "stands twice"),
    ],
)
def test_bad_options(words: tuple[str, ...], says: str, cli: Cli) -> None:
    ran = cli("advise", *words)
    assert ran.code == 2
    assert says in ran.err


def test_values_have_other_spellings() -> None:
    said = {
        "privacy": "是",
        "size": "SME",
        "stage": "MVP",
        "requests-per-day": "1.5万",
        "country": "中国",
        "team": "专业",
    }
    expected = ("yes", "small", "mvp", 15_000.0, "CN", "professional")
    assert tuple(parse_answers(said).values.values()) == expected


def test_a_figure_for_a_word_is_understood() -> None:
    said = {"team": 5, "budget": "15万", "scale": 2000, "performance": 50}
    expected = {
        "team_people": 5.0,
        "upfront_budget": 150_000.0,
        "requests_per_day": 2000.0,
        "latency_ms": 50.0,
    }
    assert parse_answers(said).values == expected


def test_figures_are_decimal_and_keys_have_no_case(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("Team_People: 010\nrequests_per_day: 2e6\n", encoding="utf-8")
    found = cli("advise", "--answers", file, "--json", "--no-onward").json()["answers"]
    assert found == {"team_people": 10, "requests_per_day": 2e6}


def test_norway_is_a_country(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("country: NO\nprivacy: yes\n", encoding="utf-8")
    assert cli("advise", "--answers", file, "--json", "--no-onward").json()["answers"]["country"] == "NO"


def test_yes_and_no_are_taken_where_they_mean_one() -> None:
    for one in questions():
        if one.kind != "choice":
            continue
        taken = {name for choice in one.choices for name in (choice.value, *choice.also)}
        if {"yes", "no"} <= taken:
            for raw in (True, False, "yes", "no"):
                assert one.key in parse_answers({one.key: raw}).values
        assert parse_answers({one.key: "unknown"}).unknown == {one.key}


def test_every_answer_leads_somewhere_in_both_languages() -> None:
    chosen, refused = random.Random(7), list[str]()
    for _ in range(120):
        given: dict[str, object] = {
            one.key: chosen.choice(one.choices).value
            for one in questions()
            if one.kind == "choice" and chosen.random() < 0.4
        }
        try:
            answers = parse_answers(given)
            english, chinese = (advise(answers, language=language) for language in LANGUAGES)
        except UsageError as error:
            refused.append(error.message)
            continue
        assert english.path in PATHS
        assert english.path not in [one.path for one in english.alternatives]
        said = {one.number for one in english.reasons} | {one.number for one in english.warnings}
        assert said >= set(english.rules), english.decided_by
        assert [one.rule for one in english.reasons] == [one.rule for one in chinese.reasons]
        assert [one.pitfall for one in english.warnings] == [one.pitfall for one in chinese.warnings]
        asked = {one.key for one in english.questions}
        assert not asked & (given.keys() - {"performance"})
    assert all(message.startswith("Contradictory answers: ") for message in refused)


def test_figures_in_another_currency_are_converted(cli: Cli) -> None:
    """700 USD are about 5,000 CNY a month (rule 37); 20,000 USD up front are plan 2's budget (rule 38)."""
    words = [
        "--set",
        "size=small",
        "--set",
        "privacy=no",
        "--set",
        "team=basic",
        "--set",
        "control=some",
        "--no-onward",
    ]
    dollars = cli("advise", *words, "--set", "upfront_budget=20000", "--set", "currency=USD", "--json").json()
    yuan = cli("advise", *words, "--set", "upfront_budget=20000", "--set", "currency=CNY", "--json").json()
    assert (dollars["path"], yuan["path"]) == ("open-cloud", "closed-cloud")


def test_it_asks_and_takes_numbers_words_and_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.yaml"
    typed = "perhaps\n1\n\n无\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    ran = cli("advise", "--lang", "zh", "--no-onward", "--save", saved)
    assert ran.code == 0, ran.err
    assert "数据是否绝对不能离开自有环境？" in ran.err
    assert "说明：" in ran.err
    assert "无法识别" in ran.err
    assert ran.out.startswith("建议：闭源＋私有化")
    assert yaml.safe_load(saved.read_text(encoding="utf-8")) == {"privacy": "yes", "team": "none"}
    again = cli("advise", "--answers", saved, "--json", "--no-onward").json()
    assert again["path"] == "closed-private"


@pytest.mark.parametrize(
    ("back", "path"), [("1", "closed-cloud"), ("latency", "open-private"), ("", "closed-cloud")]
)
def test_an_ambiguous_performance_is_asked_back_at_once(
    back: str, path: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 49, typed: "very important" says too little, and Enter leaves it an open question."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"2\n\n\n\n\n\nvery important\n{back}\n"))
    ran = cli("advise", "--no-onward")
    assert ran.code == 0, ran.err
    assert "Performance can mean opposite things here" in ran.err
    assert ran.err.count("It matters, the meaning is open") == 1  # no answer to what is asked back
    titles = {
        "closed-cloud": "Recommended: Closed model, cloud",
        "open-private": "Recommended: Open model, private",
    }
    assert ran.out.startswith(titles[path])
    assert ("(performance)" in ran.out) is (back == "")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"budget": "20万元"}, {"upfront_budget": 200_000.0, "currency": "CNY"}),
        ({"upfront_budget": "$20,000"}, {"upfront_budget": 20_000.0, "currency": "USD"}),
        ({"monthly_spend": "1.5k EUR"}, {"monthly_spend": 1500.0, "currency": "EUR"}),
        ({"team": "5人"}, {"team_people": 5.0}),
        ({"scale": "2 billion"}, {"requests_per_day": 2e9}),
        ({"performance": "low latency"}, {"performance": "latency"}),
        ({"performance": "重要"}, {"performance": "critical"}),
        ({"size": "中小企业", "need": "客服", "load": "突发"}, {"size": "small", "need": "generic", "load": "bursty"}),
        ({"country": "UK"}, {"country": "GB"}),
    ],
)  # fmt: skip
def test_answers_as_people_write_them(said: dict[str, object], expected: dict[str, object]) -> None:
    assert parse_answers(said).values == expected


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "upfront_budget=$20000", "--set", "monthly_spend=5000元"),
        ("--set", "upfront_budget=$20000", "--set", "currency=CNY"),
        ("--answers", "a.yaml", "--set", "upfront_budget=$20000"),
        ("--set", "requests_per_day=$20"),
    ],
)
def test_amounts_in_two_currencies_are_refused(
    words: tuple[str, ...], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("monthly_spend: 5000\ncurrency: CNY\n", encoding="utf-8")
    ran = cli("advise", *words, "--no-onward")
    assert (ran.code, ran.out, ran.err.count("Error:")) == (2, "", 1)


def test_the_template_is_an_answers_file(cli: Cli, tmp_path: Path) -> None:
    for language in LANGUAGES:
        file = tmp_path / f"{language}.yaml"
        file.write_text(cli("advise", "--template", "--lang", language).out, encoding="utf-8")
        found = cli("advise", "--answers", file, "--json", "--no-onward").json()
        assert found["answers"] == {}
        assert set(found["unknown"]) == {one.key for one in questions()}
        assert {one["key"] for one in found["questions"]} == set(found["unknown"])


def test_a_file_of_the_advice_is_written(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "advice.json"
    ran = cli("advise", "--set", "privacy=yes", "--set", "mlops=yes", "--no-onward", "-o", file)
    assert ran.out.startswith("Recommended: Open model, private")
    document = json.loads(file.read_text(encoding="utf-8"))
    jsonschema.validate(document, schema("advice"))
    assert cli("advise", "--answers", file, "--json", "--no-onward").json() == document
    refused = cli("advise", "--set", "privacy=yes", "--no-onward", "-o", tmp_path / "none" / "advice.json")
    assert refused.code in (1, 2)


def test_it_goes_on_to_models_gpus_speed_and_cost(cli: Cli) -> None:
    words = itertools.chain.from_iterable(("--set", f"{key}={value}") for key, value in BANK.items())
    found = cli("advise", *words, "--set", "requests_per_day=50000", "--json").json()["onward"]
    first = found["models"][0]
    assert first["permission"] == "yes"
    assert found["hardware"]["model"] == first["id"]
    assert found["hardware"]["gpus"] >= 1
    assert found["hardware"]["speed_from"]
    assert found["demand"]["assumed"] == ["prompt_tokens", "output_tokens"]
    rent, month = found["cost"]["per_million_output_tokens"], found["cost"]["per_month"]
    tokens = 50_000 * 730 / 24 * 256 / 1e6
    assert rent["typical"] == pytest.approx(month["typical"] / tokens, rel=1e-6)
    assert found["cost"]["sources"]
    assert found["cost"]["date"]


@pytest.mark.parametrize(("language", "says"), [("en", "rent unknown"), ("zh", "租价未知")])
def test_a_price_that_is_not_known_is_called_unknown(language: Language, says: str) -> None:
    kept = {
        key: figure
        for key, figure in load_prices().figures.items()
        if not key.startswith(("gpu_", "server_"))
    }
    answers = parse_answers({"privacy": "yes", "mlops": "yes", "upfront_budget": 900_000, "currency": "CNY"})
    found = go_on(
        answers,
        advise(answers, language=language),
        language=language,
        load=understand,
        prices=Prices(figures=kept),
        when=datetime(2026, 11, 27, tzinfo=UTC),
    )
    assert found.hardware is not None
    assert found.cost is not None
    assert (found.cost.per_month, found.cost.per_million_output_tokens, found.cost.capital) == (
        None,
        None,
        None,
    )
    assert found.within_upfront_budget is None
    assert any(says in text for _, text in found.lines)


@pytest.mark.parametrize(("amount", "within"), [(900_000, True), (10_000, False)])
def test_what_is_beyond_the_budget_is_said(amount: int, within: bool, cli: Cli) -> None:
    words = ["--set", "privacy=yes", "--set", "mlops=yes", "--set", "currency=CNY"]
    found = cli("advise", *words, "--set", f"upfront_budget={amount}", "--json").json()["onward"]
    assert found["cost"]["currency"] == "CNY"
    assert found["within_upfront_budget"] is within


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ("privacy=yes mlops=yes country=DE", "open-private"),
        ("privacy=no control=yes team=basic requests_per_day=5e6", "open-cloud"),
        ("data=sensitive team=none budget=ample need=generic requests_per_day=20亿", "closed-private"),
        ("privacy=no mlops=no country=CN", "closed-cloud"),
        ("data=sensitive team=professional mixed=yes requests_per_day=0.001", "hybrid"),
        ("wish=open mlops=no privacy=no requests_per_day=9e6", "hosted-open"),
    ],
)
def test_what_it_says_to_type_next_gives_its_numbers(
    words: str, path: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every path, from next to nothing to billions a day: a plan, its cost and its report come of it as it was said."""
    monkeypatch.chdir(tmp_path)
    given = [part for word in words.split() for part in ("--set", word)]
    said = cli("advise", *given, "-o", "advice.json", "--json").json()
    found = said["onward"]
    planned, priced, reported = (shlex.split(line)[1:] for line in found["commands"])
    outs = {}
    for line in (planned, [*priced, "--json"], [*reported[:-1], "report.md", "--no-charts"]):
        ran = cli(*line)
        assert ran.code == 0, (line, ran.err)
        outs[line[0]] = ran
    cost = outs["cost"].json()
    plan = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    hardware, split = found["hardware"], plan["split"]
    each = split["tensor"] * split["pipeline"] * split["data"]
    parts = -(-hardware["replicas"] // MOST_REPLICAS)
    assert (said["path"], found["parts"], plan["gpu"]["id"]) == (path, parts, hardware["gpu"])
    assert (parts > 1) is ("亿" in words)
    assert each == hardware["gpus"] // hardware["replicas"]
    assert plan["replicas"] == -(-hardware["replicas"] // parts)
    assert cost["gpus_in_use"] == hardware["gpus"]
    options = {one["name"]: one for one in cost["options"]}
    for total in found["totals"]:
        one = options[total["option"]]
        assert total["paid_once"] in (one["paid_once"], None)
        assert (total["per_month"], total["three_years"]) == (one["per_month"], one["total"])
        if total["paid_once"]:
            assert found["cost"]["capital"]["typical"] == pytest.approx(total["paid_once"], rel=1e-6)
    for api in found["apis"]:
        rate = load_prices().fx(api["currency"], cost["currency"]).typical
        month = options[f"{api['provider']}/{api['model']}"]["per_month"]
        assert month == pytest.approx(api["per_month"] * rate, rel=1e-4, abs=0.01)
    assert any(name in ("Parts", "分批") for name, _ in found["lines"]) is (parts > 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("privacy=yes mlops=yes prompt_tokens=3000000", "is longer than these models take"),
        ("privacy=no mlops=no prompt_tokens=500000", "is longer than these models take"),
    ],
)
def test_requests_that_no_model_takes_are_said_to_be(words: str, says: str, cli: Cli) -> None:
    given = [part for word in words.split() for part in ("--set", word)]
    found = cli("advise", *given, "--json").json()["onward"]
    assert (found["hardware"], found["cost"], found["totals"]) == (None, None, [])
    assert found["commands"] == ["selfhost models"]  # a plan of it would be refused
    assert any(says in text for _, text in found["lines"])


def test_a_plan_holds_as_many_copies_as_is_thought() -> None:
    from selfhost.plan import check

    assert MOST_REPLICAS == check.MOST_REPLICAS


def test_hosts_are_ordered_by_money_of_one_kind(cli: Cli) -> None:
    words = ("--set", "wish=open", "--set", "mlops=no", "--set", "privacy=no", "--set", "country=CN")
    found = cli("advise", *words, "--json").json()["onward"]
    assert len({one["currency"] for one in found["apis"]}) > 1
    rates = load_prices()
    bills = [one["per_month"] * rates.fx(one["currency"], "CNY").typical for one in found["apis"]]
    assert bills == sorted(bills)
    hosted = {one["weights"] for one in found["apis"]}
    assert found["models"][0]["id"] in hosted


def test_closed_and_hosted_paths_name_offers(cli: Cli) -> None:
    closed = cli(
        "advise", "--set", "privacy=no", "--set", "mlops=no", "--set", "country=CN", "--json"
    ).json()["onward"]
    assert {one["kind"] for one in closed["apis"]} == {"closed"}
    assert {one["provider"] for one in closed["apis"]} <= set(onward()["apis"]["closed_CN"])
    hosted = cli("advise", "--set", "wish=open", "--set", "mlops=no", "--json").json()["onward"]
    assert {one["kind"] for one in hosted["apis"]} == {"hosted-open"}
    assert all(one["per_month"] > 0 and one["date"] for one in (*closed["apis"], *hosted["apis"]))
    oldest = min([one["date"] for one in hosted["apis"]] + [hosted["cost"]["date"]])
    assert dict(hosted["lines"])["Prices"].startswith(f"as of {oldest} or later")


def test_a_vendors_offer_can_be_held_against_public_prices(cli: Cli) -> None:
    words = (
        "--set",
        "data=sensitive",
        "--set",
        "team=none",
        "--set",
        "budget=ample",
        "--set",
        "monthly_spend=1元",
    )
    said = cli("advise", *words, "--set", "country=CN", "--json").json()
    assert said["path"] == "closed-private"
    assert {one["provider"] for one in said["onward"]["apis"]} <= set(onward()["apis"]["closed_CN"])
    assert said["onward"]["within_monthly_spend"] is None  # it is no bill of that path


@pytest.mark.parametrize("privacy", ["no", "yes"])
def test_gpus_are_compared_with_apis_where_the_data_may_leave(privacy: str, cli: Cli) -> None:
    said = (
        "mlops=yes",
        "gpu_budget=yes",
        "stage=mature",
        "need=vertical",
        "frontier=no",
        "monthly_spend=1元",
    )
    words = [text for one in (f"privacy={privacy}", *said) for text in ("--set", one)]
    found = cli("advise", *words, "--json").json()
    assert found["path"] == "open-private"
    offers = found["onward"]["apis"]
    kinds = {one["kind"] for one in offers}
    assert kinds == ({"hosted-open", "closed"} if privacy == "no" else set())
    assert all(one["weights"] == found["onward"]["hardware"]["model"] for one in offers if one["weights"])
    _, cost, report = found["onward"]["commands"]
    assert cost.count("--api") == report.count("--api") == len(offers)
    assert found["onward"]["within_monthly_spend"] is None


def test_a_latency_that_nothing_meets_is_said(cli: Cli) -> None:
    ran = cli("advise", "--set", "latency_ms=1", "--set", "mlops=yes", "--set", "privacy=no", "--json")
    found = ran.json()["onward"]
    assert found["hardware"]["meets_latency"] is False
    assert found["hardware"]["gpus"] == 1  # a goal that is missed all the same is not worth eight GPUs
    assert any("1 ms are not met" in text for _, text in found["lines"])


def test_the_text_fits_eighty_columns(cli: Cli) -> None:
    from selfhost.cli._output import columns_of

    screens = (
        ("--set", "privacy=yes", "--set", "mlops=no"),
        ("--cases",),
        ("--rules",),
        ("--list-questions",),
    )
    for language, screen in itertools.product(LANGUAGES, screens):
        ran = cli("advise", *screen, "--lang", language)
        assert ran.code == 0
        long = [line for line in ran.out.splitlines() if columns_of(line) > 80 and "selfhost " not in line]
        assert long == []


def test_the_break_evens_of_the_worked_cases_are_told(cli: Cli) -> None:
    lines = [" ".join(line.split()) for line in cli("advise", "--cases").out.splitlines()]
    assert "plan-1 → plan-2 4.29–30.00 years (not within three years)" in lines
    assert "plan-3 → plan-1 never" in lines
    assert "plan-4 meets plan-1 in year 1 at 75,000 CNY a month (7,500,000 calls)" in lines
    assert "plan-1 → plan-2 4.29–30.00 年（三年内无法回本）" in cli(
        "advise", "--cases", "--lang", "zh"
    ).out.replace("     ", " ")


def test_the_data_holds_together() -> None:
    numbers = {rule.number for rule in (*rules(), *pitfalls())}
    ids = [rule.id for rule in (*rules(), *pitfalls())]
    keys = {one.key for one in questions()}
    assert len(set(ids)) == len(ids)
    assert all(rule.id.split("-")[0] == str(rule.number) for rule in (*rules(), *pitfalls()))
    assert set(paths()) == set(PATHS)
    for row in decisions():
        assert {row.path, *(path for path, _ in row.alternatives)} <= set(PATHS)
        assert {*row.rules, *(number for _, number in row.alternatives)} <= numbers
    for odd in odds():
        assert set(odd.keys) <= keys
        assert odd.kind == "error" or all(odd.ways[language] for language in LANGUAGES)
    for one in questions():
        assert set(one.rules) <= numbers
    for text in (*read("words").values(), *(rule.text for rule in (*rules(), *pitfalls()))):
        assert set(text) == {"en", "zh"}
        assert {*_fields(text["en"])} == {*_fields(text["zh"])}


def _fields(text: str) -> list[str]:
    import string

    return [name for _, name, _, _ in string.Formatter().parse(text) if name]


def test_conditions_name_facts_that_exist() -> None:
    from selfhost.advise.decide import facts_of

    known = {*facts_of(Answers(), None), "path"}

    def names(condition: Any) -> set[str]:
        if condition is None:
            return set()
        below = [names(each) for each in condition.get("any", [])]
        return {*condition, *itertools.chain.from_iterable(below)} - {"any"}

    whens = {row.id: row.when for rows in (rules(), pitfalls(), decisions(), odds()) for row in rows}
    assert {name for name, when in whens.items() if not names(when) <= known} == set()
    assert decisions()[-1].when == {}
    assert holds({}, {})


def test_models_and_gpus_that_it_goes_on_with_are_in_the_catalogue() -> None:
    for names in onward()["sizes"].values():
        for name in names:
            bundled = find(name)
            assert bundled is not None, name
            assert bundled.entry.status == "current"
    for name in onward()["sizes"]["large"]:  # as its reason has it: the 70-120 B class
        assert 65e9 <= (wish_of(name, use="commercial").parameters_b or 0) * 1e9 <= 130e9
    for kinds in onward()["gpus"].values():
        assert all(find_gpu(kind).id == kind for kind in kinds)


def test_a_large_load_is_carried_by_as_many_copies_as_it_takes(cli: Cli) -> None:
    words = (
        "--set",
        "team=professional",
        "--set",
        "data=sensitive",
        "--set",
        "need=vertical",
        "--set",
        "country=CN",
    )
    load = ("--set", "requests_per_day=2000000", "--set", "prompt_tokens=1500", "--set", "output_tokens=300")
    found = cli("advise", *words, *load, "--set", "budget=ample", "--json").json()["onward"]
    hardware, peak = found["hardware"], found["demand"]["peak_requests_per_second"]
    assert peak == pytest.approx(2e6 / 86_400 * 3)
    assert not hardware["gpu"].startswith("rtx")  # so many GeForce cards stand in no datacentre
    speed = hardware["output_tokens_per_second"]["typical"]
    one_less = speed * (hardware["replicas"] - 1) / hardware["replicas"]
    assert one_less < peak * 300 <= speed * 1.001
    assert f"--replicas {hardware['replicas']} " in found["commands"][0]
    assert hardware["gpus"] % hardware["replicas"] == 0


def test_amounts_are_in_the_money_of_the_country_unless_said(cli: Cli) -> None:
    words = (
        "advise",
        "--set",
        "upfront_budget=150000",
        "--set",
        "data=sensitive",
        "--set",
        "team=professional",
    )
    for country, currency, asked in (
        ("US", "USD", False),
        ("DE", "EUR", False),
        ("CN", "CNY", False),
        ("JP", "CNY", True),
    ):
        found = cli(*words, "--set", f"country={country}", "--json").json()
        assert found["onward"]["cost"]["currency"] == currency
        assert ("currency" in {one["key"] for one in found["questions"]}) is asked
    said = cli(*words, "--set", "country=US", "--set", "currency=EUR", "--json").json()
    assert said["onward"]["cost"]["currency"] == "EUR"
