"""`selfhost report`: formats by the file's end, files beside Markdown, and one clear error for each fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfhost.report import pdf
from selfhost.report.pdf import BROWSER
from tests.conftest import Cli

PLAN = Path(__file__).parents[1] / "examples/qwen3-32b/plan.json"
QUICK = ("--no-charts", "--no-cost")


@pytest.mark.parametrize(
    ("name", "begins"), [("r.html", "<!DOCTYPE html>"), ("r.htm", "<!DOCTYPE"), ("r.md", "# ")]
)
def test_the_end_of_the_name_says_the_format(name: str, begins: str, cli: Cli, tmp_path: Path) -> None:
    ran = cli("report", PLAN, "-o", tmp_path / name, *QUICK)
    assert ran.code == 0, ran.err
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_format_goes_before_the_name_and_a_dash_is_standard_output(cli: Cli) -> None:
    ran = cli("report", PLAN, "-o", "-", "--format", "html", *QUICK)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("<!DOCTYPE html>")
    assert ran.out.endswith("</html>\n")
    chinese = cli("report", PLAN, "-o", "-", "--format", "md", "--lang", "zh", *QUICK)
    assert "显存账单" in chinese.out


def test_markdown_has_its_pictures_beside_it(cli: Cli, tmp_path: Path) -> None:
    ran = cli("report", PLAN, "-o", tmp_path / "r.md", "--no-cost")
    assert ran.code == 0, ran.err
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["r-latency.svg", "r-memory.svg", "r-throughput.svg", "r.md"]
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert all(f"({name})" in text for name in names if name.endswith(".svg"))


def test_money_is_that_of_selfhost_cost(cli: Cli, tmp_path: Path) -> None:
    words = ("--tokens-per-month", "3B", "--years", "2")
    ran = cli("report", PLAN, "-o", tmp_path / "r.md", "--no-charts", *words)
    assert ran.code == 0, ran.err
    found = json.loads(cli("cost", PLAN, *words, "--json").out)
    text = (tmp_path / "r.md").read_text(encoding="utf-8").replace("\\", "")
    for option in found["options"]:
        if option["kind"] == "api":
            assert option["name"] in text
    turns = [
        one["break_even"]["tokens_per_month"]
        for one in found["comparisons"]
        if one["against"] == "groq/qwen/qwen3-32b" and one["option"].startswith(("rent", "buy"))
    ]
    first = min(one for one in turns if one) / 3e9 * found["volume"]["output_tokens_per_month"]
    assert f"From {first / 1e9:.2f} bn output tokens a month on" in text  # whichever GPUs are cheaper first
    winner = next(one for one in found["options"] if one["name"] == found["cheapest"])
    assert f"${winner['total']['typical']:,.0f}" in text


def test_room_is_that_of_selfhost_plan(cli: Cli, tmp_path: Path) -> None:
    load = (
        "--prompt-tokens",
        "1200",
        "--output-tokens",
        "300",
        "--request-rate",
        "6",
        "--rank-by",
        "capital",
    )
    ran = cli("plan", "Qwen/Qwen3-8B", "--gpu", "l20-48gb", *load, "-o", tmp_path / "plan.json")
    assert ran.code == 0, ran.err
    estimate = json.loads((tmp_path / "plan.json").read_text())["estimate"]
    ran = cli("report", tmp_path / "plan.json", "-o", "-", "--format", "md", "--no-charts", "--no-cost")
    under_way = 6 * (estimate["ttft_ms"]["typical"] + 300 * estimate["tpot_ms"]["typical"]) / 1000
    row = next(line for line in ran.out.splitlines() if "× L20" in line and "planned" in line)
    room = float(row.split("|")[2].strip().rstrip("×").replace(",", ""))
    assert room == pytest.approx(estimate["concurrency_admitted"] / under_way, rel=0.05)


def test_the_next_step_is_the_same_report_on_paper(cli: Cli, tmp_path: Path) -> None:
    words = (
        "--tokens-per-month",
        "1.5B",
        "--lang",
        "zh",
        "--no-charts",
        "--rent",
        "specialty:1y",
        "--rent",
        "all",
    )
    ran = cli("report", PLAN, "-o", tmp_path / "my page.html", *words)
    said = " ".join(ran.out.split())
    assert "my page.pdf'" in said
    assert "下一步：selfhost report" in said
    for option in (
        "--tokens-per-month 1500000000",
        "--lang zh",
        "--no-charts",
        "--rent specialty:1y --rent all",
    ):
        assert option in said


def test_speed_is_that_of_the_plan_with_its_drafts_and_its_cache(cli: Cli, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    words = (
        "--gpu",
        "b200-sxm-180gb",
        "--speculative-tokens",
        "1",
        "--acceptance",
        "0.9",
        "--rank-by",
        "latency",
    )
    model = "catalog:deepseek-ai/DeepSeek-V3.1"
    ran = cli(
        "plan",
        model,
        *words,
        "--prefix-hit-ratio",
        "0.5",
        "--concurrency",
        "16",
        "--context",
        "4k",
        "-o",
        plan,
    )
    assert ran.code == 0, ran.err
    typical = json.loads(plan.read_text())["estimate"]["output_tokens_per_second"]["typical"]
    text = cli("report", plan, "-o", "-", "--format", "md", *QUICK).out
    assert f"**{typical:,.0f}**" in text


def test_a_volume_that_nobody_named_is_said_to_be_assumed(cli: Cli, tmp_path: Path) -> None:
    ran = cli("report", PLAN, "-o", tmp_path / "r.html", "--no-charts")
    assert "50% of what the copies can answer with" in " ".join(ran.out.split())
    assert "50% of what the copies can answer with" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "report"), "does not say which format"),
        (("-o", "report.docx"), "does not say which format"),
        (("-o", "-"), "does not say which format"),
        (("-o", "-", "--format", "pdf"), "A PDF is not for a terminal"),
        (("-o", "r.html", "--currency", "XYZ"), "currency"),
        (("-o", "r.html", "--country", "Atlantis"), "is no country"),
        (("-o", "r.html", "--years", "9"), "--years must be between 1 and 5"),
        (("-o", "r.html", "--tokens-per-month", "0"), "the volume is zero"),
        (("-o", "r.html", "--utilization", "0.5", "--request-rate", "2"), "given twice"),
        (("-o", "r.html", "--tokens-per-month", "900B"), "times what 1 copy"),
        (("-o", "r.html", "--api", "nobody/nothing"), "No price is known"),
        (("-o", "r.html", "--advice", "missing.json"), "Cannot read missing.json"),
    ],
)
def test_bad_input_is_one_error(
    words: tuple[str, ...], said: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = cli("report", PLAN, "--no-charts", *words)
    assert ran.code in (1, 2)
    assert said in ran.err
    assert ran.err.count("Error:") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "not an advice"),
        ('{"schema": "selfhost/cost/v1"}', "not an advice"),
        ('{"schema": "selfhost/advice/v1", "path": "moon"}', "no known path: 'moon'"),
        (
            '{"schema": "selfhost/advice/v1", "path": "hybrid", "reasons": 3}',
            "reasons of the advice is not a list",
        ),
    ],
)
def test_an_advice_that_is_none(text: str, said: str, cli: Cli, tmp_path: Path) -> None:
    advice = tmp_path / "advice.json"
    advice.write_text(text, encoding="utf-8")
    ran = cli("report", PLAN, "-o", tmp_path / "r.html", "--advice", advice, *QUICK)
    assert ran.code == 2
    assert said in ran.err


def test_without_a_browser_a_pdf_is_refused_in_one_sentence(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(BROWSER, raising=False)
    if pdf.browser() is not None:
        pytest.skip("something to print with is found beyond PATH")
    ran = cli("report", PLAN, "-o", tmp_path / "r.pdf", *QUICK)
    assert ran.code == 1
    assert "A PDF takes a Chromium, Chrome or Edge" in ran.err
    assert "chromium" in ran.err


def test_a_browser_that_prints_nothing_is_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BROWSER, "/bin/false")
    ran = cli("report", PLAN, "-o", tmp_path / "r.pdf", *QUICK)
    assert ran.code == 1
    assert "/bin/false did not print the report" in ran.err
    assert not (tmp_path / "r.pdf").exists()


def test_chinese_without_a_font_is_refused(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lister = tmp_path / "bin" / "fc-list"
    lister.parent.mkdir()
    lister.write_text("#!/bin/sh\nexit 0\n")
    lister.chmod(0o755)
    monkeypatch.setenv("PATH", f"{lister.parent}:/bin")
    ran = cli("report", PLAN, "-o", tmp_path / "r.pdf", "--lang", "zh", *QUICK)
    assert ran.code == 1
    assert "No font of this machine has Chinese" in ran.err
    assert "fonts-noto-cjk" in ran.err


def test_a_model_without_a_speed_has_a_page_all_the_same(cli: Cli, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert cli("plan", "catalog:Qwen/Qwen3-Embedding-8B", "--gpu", "l4-24gb", "-o", plan).code == 0
    ran = cli("report", plan, "-o", tmp_path / "r.html", "--no-charts")
    assert ran.code == 0, ran.err
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "generates no tokens" in text
    assert "unknown" in text
