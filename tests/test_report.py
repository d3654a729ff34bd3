"""A report says what the plan, the study and the licence say, in both languages, and nothing that runs or loads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from selfhost.catalog.prices import load_prices
from selfhost.cost.study import study
from selfhost.cost.types import Assumption, Line, Option, Scenario, Volume
from selfhost.plan import Plan, read_plan
from selfhost.ranking.costs import Pricing
from selfhost.report import charts
from selfhost.report.advised import AdviceFile, parse_advice
from selfhost.report.build import build_report
from selfhost.report.choice import Apis, choose
from selfhost.report.lay import lay_out
from selfhost.report.priced import _setting
from selfhost.report.render import pictures, to_html, to_markdown
from selfhost.report.types import Report
from selfhost.report.words import LANGS, Words, keys
from selfhost.report.words import _texts as texts
from selfhost.throughput.types import Traffic
from tests.plans import spec

PLAN = Path(__file__).parents[1] / "examples/qwen3-32b/plan.json"
TRAFFIC = Traffic(prompt_tokens=1024, output_tokens=256, concurrency=16)
HOSTILE = (
    "<script>alert(1)</script>\"'><img src=https://evil.example/x.png onerror=x>|`{{7*7}}](javascript:x)"
    + chr(0x202E)
    + chr(0)
)


def scenario(values: Mapping[str, float]) -> Scenario:
    """Buying costs 300,000 and 2,000 a month, an API 10,000 a month: even after 37.5 months of 60."""
    return Scenario(
        options=(
            Option(
                name="buy new", kind="buy",
                lines=(
                    Line(name="GPUs", unit="once", amount=values["GPU price, new"], from_month=0),
                    Line(name="power", unit="month", amount=2000),
                ),
            ),
            Option(name="vendor/model", kind="api", lines=(Line(name="tokens", unit="month", amount=10_000),)),
            Option(name="buy used", kind="buy", lines=(), unknown=("no used purchase price for H100",)),
        ),
        months=60,
        currency="USD",
        volume=Volume(input_tokens=4e9, output_tokens=1e9),
    )  # fmt: skip


ASSUMED = (
    Assumption(
        key="GPU price, new", low=200_000, typical=300_000, high=500_000, unit="USD/GPU", currency="USD",
        source="https://prices.example/h100", date="2026-09",
    ),
)  # fmt: skip
STUDY = study(ASSUMED, scenario)


def with_cheap_api(values: Mapping[str, float]) -> Scenario:
    """The API costs 1,000 a month: 60,000 in all, where buying costs 420,000."""
    found = scenario(values)
    bought, api, used = found.options
    line = Line(name="tokens", unit="month", amount=1000)
    return replace(found, options=(bought, replace(api, lines=(line,)), used))


CHEAP_API = study(ASSUMED, with_cheap_api)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(PLAN)


def made(
    plan: Plan, *, advice: AdviceFile | None = None, costed: bool = True, modelled: bool = True
) -> Report:
    prices = Pricing(load_prices(), tier="specialty", term="on-demand", currency="USD")
    return build_report(
        plan, spec() if modelled else None, traffic=TRAFFIC, created="2026-11-26T10:00:00Z",
        pricing=prices, study=STUDY if costed else None, advice=advice, why_no_model="the Hub cannot be reached",
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(plan: Plan) -> Report:
    return made(plan)


class Tags(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Tags:
    found = Tags()
    found.feed(html)
    return found


@pytest.mark.parametrize("lang", LANGS)
def test_the_facts_of_the_plan_are_on_the_page(report: Report, plan: Plan, lang: str) -> None:
    text = parsed(to_html(lay_out(report, lang=lang, pictures=False))).text  # type: ignore[arg-type]
    markdown = to_markdown(lay_out(report, lang=lang, pictures=False))  # type: ignore[arg-type]
    for fact in (
        "Qwen/Qwen3-32B",
        "H100 SXM 80GB",
        "16,384",
        "vllm 0.32.0",
        "30.51",
        "Apache License 2.0",
        "vendor/model",
    ):
        assert fact in text
        assert fact in markdown.replace("\\", "")
    for term in plan.memory.terms:
        assert f"{term.bytes / 2**30:,.2f}" in text
    assert "2026-11-26" in text
    assert "https://prices.example/h100" in text


def test_the_cheapest_way_is_recommended_and_its_break_even_is_said(report: Report) -> None:
    found = report.recommendation
    assert (found.option, found.kind, found.cheapest) == ("buy new", "buy", "buy new")
    assert report.cost is not None
    even = next(one for one in report.cost.break_evens if one.against == "vendor/model")
    assert even.months == pytest.approx(37.5)
    assert even.latest == pytest.approx(62.5)
    text = parsed(to_html(lay_out(report, lang="en", pictures=False))).text
    assert "Buy 2 × H100 SXM 80GB." in text
    assert "37.5 months" in text
    assert "GPU price, new" in text
    assert report.cost.tornado is not None
    assert report.cost.tornado.base == pytest.approx(180_000)
    assert report.cost.tornado.bars[0].instead == "vendor/model"  # at 500,000 the API wins
    assert any(risk.key == "flips" for risk in report.risks)


@pytest.mark.parametrize(
    ("path", "option", "kind"),
    [
        ("open-private", "buy new", "buy"),
        ("closed-cloud", "vendor/model", "api"),
        ("hosted-open", "vendor/model", "api"),
        ("hybrid", "buy new", "buy"),
        ("open-cloud", "buy new", "buy"),  # nothing is rented in this study
        ("closed-private", None, None),  # no public price
    ],
)
def test_advice_comes_before_cost(path: str, option: str | None, kind: str | None) -> None:
    advice = parse_advice(
        {"schema": "selfhost/advice/v1", "path": path, "reasons": [{"rule": "x", "because": "y"}]}
    )
    found = choose(STUDY, advice)
    assert (found.option, found.kind) == (option, kind)


API = "vendor/model"


@pytest.mark.parametrize(
    ("path", "same", "open_", "asked", "option"),
    [
        (None, (API,), (), (), API),  # serves the plan's own weights
        (None, (), (), (), "buy new"),  # another model's price says nothing of this one
        (None, (), (API,), (), "buy new"),
        (None, (), (), (API,), API),  # asked for by name
        ("closed-cloud", (), (), (), API),
        ("closed-cloud", (), (API,), (), None),  # open weights are not closed ones
        ("hosted-open", (), (API,), (), API),
        ("hosted-open", (), (), (), None),
    ],
)
def test_an_api_of_another_model_is_shown_and_not_recommended_unasked(
    path: str | None,
    same: tuple[str, ...],
    open_: tuple[str, ...],
    asked: tuple[str, ...],
    option: str | None,
) -> None:
    apis = Apis(same=frozenset(same), open=frozenset(open_), asked=frozenset(asked))
    advice = None if path is None else parse_advice({"schema": "selfhost/advice/v1", "path": path})
    found = choose(CHEAP_API, advice, apis)
    assert found.option == option
    assert found.foreign == (option == API and not same)
    if option == "buy new":
        assert dict(found.cheaper) == {API: pytest.approx(60_000)}


def test_boards_that_are_bought_whole_are_in_the_headline(plan: Plan) -> None:
    def whole(values: Mapping[str, float]) -> Scenario:
        found = scenario(values)
        return replace(found, options=(replace(found.options[0], gpus=8), *found.options[1:]))

    report = build_report(
        plan, spec(), traffic=TRAFFIC, created="2026-11-26T10:00:00Z", study=study(ASSUMED, whole)
    )
    page = lay_out(report, lang="en", pictures=False)
    assert page.headline == "Buy 8 × H100 SXM 80GB."
    assert any("8 are bought for the 2 that work" in reason.text for reason in page.reasons)


def test_advice_is_on_the_page(plan: Plan) -> None:
    advice = parse_advice(
        {
            "schema": "selfhost/advice/v1", "path": "closed-cloud", "alternatives": ["hosted-open"],
            "reasons": [{"rule": "gate-3", "because": "Nobody runs GPUs."}],
            "warnings": [{"pitfall": "lock-in", "because": "Keep a second vendor."}],
            "questions": ["Which performance?"],
        }
    )  # fmt: skip
    text = parsed(to_html(lay_out(made(plan, advice=advice), lang="en", pictures=False))).text
    for said in (
        "Use an API: vendor/model.",
        "Nobody runs GPUs.",
        "Keep a second vendor.",
        "Which performance?",
    ):
        assert said in text
    assert "On cost alone buying new would win" in text


def test_what_is_unknown_is_called_so_and_never_nought(plan: Plan) -> None:
    page = lay_out(made(plan, costed=False, modelled=False), lang="en", pictures=False)
    assert [figure.value for figure in page.figures] == ["unknown"] * 3
    text = parsed(to_html(page)).text
    assert "the Hub cannot be reached" in text
    assert "$0" not in text
    whole = lay_out(made(plan), lang="en", pictures=False)
    ways = next(one for one in whole.sections if one.id == "ways")
    used = next(row for row in ways.tables[0].rows if row.cells[0].text == "Buy, used")
    assert {cell.text for cell in used.cells[1:]} == {"unknown"}
    assert any("no used purchase price for H100" in point.text for point in ways.points)


def test_a_load_that_does_not_fit_is_the_headline(plan: Plan) -> None:
    short = replace(plan, memory=replace(plan.memory, fits=False, short_bytes=3 << 30))
    page = lay_out(made(short), lang="en", pictures=False)
    assert page.headline == "The load does not fit on 2 × H100 SXM 80GB."
    risks = next(one for one in page.sections if one.id == "risks")
    assert risks.points[0].strong == "may stop it"
    assert "3.00 GiB" in risks.points[0].text


def test_every_number_leads_to_a_source(report: Report) -> None:
    page = lay_out(report, lang="en", pictures=False)
    html = to_html(page)
    named = {int(number) for number in re.findall(r'href="#source-(\d+)"', html)}
    listed = [int(number) for number in re.findall(r'id="source-(\d+)"', html)]
    assert listed == list(range(1, len(listed) + 1))
    assert named == set(listed)


@pytest.mark.parametrize("lang", LANGS)
def test_the_page_loads_and_runs_nothing(report: Report, lang: str) -> None:
    found = parsed(to_html(lay_out(report, lang=lang)))  # type: ignore[arg-type]
    tags = {tag for tag, _ in found.tags}
    assert not tags & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "image",
        "use",
        "form",
        "base",
        "video",
    }
    for tag, attributes in found.tags:
        assert not any(
            name.startswith("on") or name in ("src", "srcset", "xlink:href") for name in attributes
        )
        href = attributes.get("href")
        assert href is None or (tag == "a" and href.startswith(("#", "https://", "http://")))
    html = to_html(lay_out(report, lang=lang))  # type: ignore[arg-type]
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert html.count("<svg ") == 5
    assert len(set(re.findall(r'id="([^"]+)"', html))) == len(re.findall(r'id="([^"]+)"', html))


@pytest.mark.parametrize("lang", LANGS)
def test_hostile_words_stay_words(plan: Plan, lang: str) -> None:
    advice = parse_advice(
        {
            "schema": "selfhost/advice/v1", "path": "open-private", "reasons": [{"because": HOSTILE}],
            "warnings": [{"because": HOSTILE}], "questions": [HOSTILE],
        }
    )  # fmt: skip
    assert plan.licence is not None
    licence = replace(plan.licence, name=HOSTILE, source="javascript:alert(1)", obligations=(HOSTILE,))
    hostile = replace(plan, model=replace(plan.model, id=HOSTILE), licence=licence)
    made_of = made(hostile, advice=advice)
    cost = made_of.cost
    assert cost is not None
    named = replace(cost, flows=tuple(replace(flow, name=HOSTILE + flow.name) for flow in cost.flows))
    page = lay_out(replace(made_of, cost=named), lang=lang)  # type: ignore[arg-type]
    found = parsed(to_html(page))
    assert not any(tag in ("script", "img") for tag, _ in found.tags)
    assert all("javascript:" not in (attributes.get("href") or "") for _, attributes in found.tags)
    assert "\u202e" not in to_html(page)
    assert "{{7*7}}" in found.text
    markdown = to_markdown(page)
    assert "<script" not in re.sub(r"\\<", "", markdown)
    assert "](javascript" not in markdown
    assert all("<script" not in svg for svg in pictures(page).values())


def test_texts_are_there_in_both_languages_with_the_same_places() -> None:
    assert len(keys()) > 200
    for section, rows in texts().items():
        for name, row in rows.items():
            assert set(row) == set(LANGS), f"{section}.{name}"
            places = [sorted(set(re.findall(r"{(\w+)}", row[lang]))) for lang in LANGS]
            assert places[0] == places[1], f"{section}.{name}"
    english = ("the", "a", "of", "and", "is", "are", "with")
    for section, rows in texts().items():
        for name, row in rows.items():
            if section == "obligation":  # quotes what has to be displayed
                continue
            assert not any(f" {word} " in row["zh"] for word in english), f"{section}.{name}"


def test_a_licence_that_forbids_the_use_is_the_headline(plan: Plan) -> None:
    assert plan.licence is not None
    forbidden = replace(plan, licence=replace(plan.licence, name="Some NC", permission="no"))
    page = lay_out(made(forbidden), lang="en", pictures=False)
    assert page.headline == "Not under this licence: Some NC does not permit the use."
    assert page.reasons[0].text == "Were it permitted: Buy 2 × H100 SXM 80GB."


def test_every_obligation_and_unit_has_chinese_words() -> None:
    from selfhost.catalog.licences import licences

    known = texts()["obligation"]
    missing = {one for row in licences() for one in row.obligations if one not in known}
    assert not missing
    chinese = Words(lang="zh", currency="CNY")
    for unit, shown in (
        ("862 output tokens/s of one copy (616 … 1,207)", "862 输出词元/秒（单个副本） (616 … 1,207)"),
        ("0.77 USD/GPU-hour (0.65 … 0.89)", "0.77 USD/GPU 小时 (0.65 … 0.89)"),
        ("0.375 FTE (0.25 … 0.5)", "0.375 人 (0.25 … 0.5)"),
        ("450,000 CNY/FTE-year (300,000 … 600,000)", "450,000 CNY/人年 (300,000 … 600,000)"),
        ("0.089 USD/kWh (0.088 … 0.09)", "0.089 USD/千瓦时 (0.088 … 0.09)"),
    ):
        assert chinese.setting(unit) == shown
    measured = chinese.reason(
        "utilizations of blackwell-rtx: vLLM 0.11 on RTX 5090, routed models in int4, 1 to 512 requests at once"
    )
    assert (
        measured
        == "blackwell-rtx 代 GPU 的实测利用率（vLLM 0.11 / RTX 5090, MoE 模型，int4, 1 至 512 个并发请求）"
    )


@pytest.mark.parametrize(
    "text",
    [
        "sampler over 1024 rows x 200064 logits: model runner V2 samples in blocks",
        "one layer over 8192 batched tokens; 0.75 GiB of MoE workspace and images beside it",
        "8 × 4,096 tokens × 72 KiB, windows 24 KiB a token while they last, in blocks of 16",
        "8 × 4,096 tokens, state 18.5 MiB a request, in blocks of 528",
        "all of 8.19 B parameters in bfloat16; the fullest stage has 18 of 36 layers",
        "utilizations of hopper: vLLM 0.10 to 0.17 on H100 and H200, dense and routed models in bf16",
        "carried over to H100 NVL, of the same generation",
    ],
)
def test_reasons_of_memory_and_speed_are_chinese(text: str) -> None:
    shown = Words(lang="zh", currency="CNY").reason(text)
    assert not re.search(r"\b(of|the|and|over|in|a|to|with|rows|tokens)\b", shown), shown


def test_shares_are_written_whole(report: Report) -> None:
    assert [_setting(value, "ratio of TDP") for value in (1.0, 0.8, 0.275, 0.005)] == [
        "100%",
        "80%",
        "27.5%",
        "0.5%",
    ]


def test_numbers_and_money_in_both_languages() -> None:
    english, chinese = Words(lang="en", currency="USD"), Words(lang="zh", currency="CNY")
    shown = [english.money(value) for value in (0.0034, 0.5, 12.345, 337_200, 1_234_567, -250)]
    assert shown == ["$0.0034", "$0.50", "$12.35", "$337,200", "$1.23 M", "−$250"]
    assert [chinese.money(value) for value in (5.06, 800_000, 123_000_000)] == ["¥5.06", "¥80 万", "¥1.23 亿"]
    assert chinese.reason("1/2 of 32.76 B parameters in bfloat16; words of nobody") == (
        "32.76 B 参数中的 1/2，格式 bfloat16；words of nobody"
    )
    assert chinese.option("rent specialty 1y") == "租用（GPU 专业云，1 年期）"
    assert english.option("rent a house for a year") == "rent a house for a year"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 356_000.0, [0, 100_000, 200_000, 300_000]),
        (-799_000.0, 0.0, [-600_000, -400_000, -200_000, 0]),
        (0.0, 1_250_000.0, [0, 500_000, 1_000_000]),
        (0.0, 0.0, [0]),
    ],
)
def test_an_axis_has_at_most_five_round_places(low: float, high: float, ticks: list[float]) -> None:
    assert charts._ticks(low, high) == pytest.approx(ticks)


def test_a_chart_is_a_picture_with_words_for_who_does_not_see_it() -> None:
    drawn = charts.stacked((("weights <b>", 30.5, "#0f5f63"), ("free", 5.0, "#e3e8ec")))
    svg = charts.inlined(drawn, "memory", "Memory", 'A "bar" <of> two')
    assert svg.startswith("<svg ")
    assert 'role="img" aria-labelledby="memory-title memory-desc"' in svg
    assert '<desc id="memory-desc">A &quot;bar&quot; &lt;of&gt; two</desc>' in svg
    assert "weights &lt;b>" in svg or "weights &lt;b&gt;" in svg
