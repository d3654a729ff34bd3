"""`selfhost plan --rank-by`: the table, the object, the plan it writes, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from selfhost.errors import PlanFormatError
from selfhost.plan import from_json, read_plan, to_json
from selfhost.ranking import RANKINGS, RANKS
from selfhost.throughput.types import Range
from tests.conftest import Cli

MODEL = "Qwen/Qwen3-32B"
LOAD = ("--context", "8k", "--concurrency", "16")
SOME = tuple(word for gpu in ("h100-sxm-80gb", "h200-sxm-141gb", "l4-24gb") for word in ("--gpu", gpu))


def widest(text: str) -> int:
    """Columns of the widest line; a command to copy may be longer."""
    return max(len(line) for line in text.splitlines() if not line.startswith("Next:"))


@pytest.mark.parametrize("rank", RANKS)
def test_the_table_answers_first_and_fits_a_terminal(cli: Cli, rank: str) -> None:
    shown = cli("plan", MODEL, *LOAD, *(() if rank == "cost" else SOME), "--rank-by", rank, "--search-quant")
    assert shown.code == 0, shown.err
    assert "for 16 requests at once of 1,024 + 256 tokens" in " ".join(shown.out.split())
    assert widest(shown.out) <= 80
    table = shown.out.partition("Ranked by")[0]
    heads = next(line for line in table.splitlines() if line.lstrip().startswith("#"))
    assert [
        head for head in ("GPUs", "weights", "room", "tok/s", "TTFT s", "why not first") if head not in heads
    ] == []
    assert f"--rank-by {rank} --search-quant" in shown.out


def test_without_it_the_table_is_what_it_was(cli: Cli) -> None:
    shown = cli("plan", MODEL, *LOAD)
    assert "Fewest GPUs first, then least memory." in shown.out
    assert "why not first" not in shown.out
    assert "estimate" not in cli("plan", MODEL, *LOAD, "--json").json()["plan"]


def test_the_object_says_by_what_and_why(cli: Cli) -> None:
    facts = cli("plan", MODEL, *LOAD, *SOME, "--rank-by", "cost", "--json").json()
    assert (facts["rank_by"], facts["ranking"], facts["picked"]) == ("cost", RANKINGS["cost"], 1)
    assert facts["load"]["concurrency"] == 16
    rows = facts["placements"]
    tokens = [row["cost"]["per_million_output_tokens"]["typical"] for row in rows]
    assert tokens == sorted(tokens)
    assert [bool(row["why_not_first"]) for row in rows] == [False] + [True] * (len(rows) - 1)
    assert all(row["engine"].startswith("vllm@") and row["published"] for row in rows)
    plan = facts["plan"]
    assert plan["provenance"]["ranking"] == RANKINGS["cost"]
    assert plan["cost"]["per_million_output_tokens"]["typical"] == tokens[0]
    assert plan["estimate"]["tpot_ms"] == rows[0]["estimate"]["tpot_ms"]
    assert plan["estimate"]["provenance"]
    assert plan["cost"]["sources"]


def test_a_price_that_nobody_knows_is_a_question_mark(cli: Cli) -> None:
    words = ("plan", MODEL, *LOAD, *SOME, "--tier", "serverless", "--term", "3y", "--rank-by", "cost")
    facts = cli(*words, "--json").json()
    assert all(row["cost"]["per_hour"] is None for row in facts["placements"])
    table = cli(*words).out.partition("Ranked by")[0]
    assert table.count("?") >= 2 * len(facts["placements"])
    assert " 0.00 " not in table


def test_the_plan_keeps_speed_and_cost(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    rate = ("--request-rate", "12", "--tpot-goal", "60", "--prompt-tokens", "2k", "--output-tokens", "512")
    assert cli("plan", MODEL, *SOME, *rate, "--rank-by", "latency", "--currency", "EUR", "-o", path).code == 0
    plan = read_plan(path)
    assert plan.estimate is not None
    assert plan.cost is not None
    assert plan.estimate.traffic.request_rate == 12
    assert plan.estimate.tpot_goal_ms == 60
    assert plan.estimate.tpot_ms.typical <= 60
    assert plan.cost.currency == "EUR"
    assert from_json(to_json(plan)) == plan
    assert cli("render", path, "-o", tmp_path / "out").code == 0


def test_a_plan_without_them_is_read_and_written_as_before(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert cli("plan", MODEL, *LOAD, "--gpu", "h200-sxm-141gb", "-o", path).code == 0
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document.keys().isdisjoint({"estimate", "cost"})
    plan = read_plan(path)
    assert plan.estimate is None
    assert plan.cost is None
    assert to_json(plan) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "spoilt",
    [
        Range(low=-1.0, typical=1.0, high=2.0),
        Range(low=3.0, typical=1.0, high=2.0),
        Range(low=0.0, typical=1.0, high=1e300),
    ],
)
def test_a_range_of_a_plan_is_in_order(cli: Cli, tmp_path: Path, spoilt: Range) -> None:
    path = tmp_path / "plan.json"
    assert cli("plan", MODEL, *LOAD, "--gpu", "h200-sxm-141gb", "--rank-by", "cost", "-o", path).code == 0
    plan = read_plan(path)
    assert plan.cost is not None
    assert plan.estimate is not None
    for wrong, name in (
        (replace(plan, cost=replace(plan.cost, per_hour=spoilt)), "cost.per_hour"),
        (replace(plan, estimate=replace(plan.estimate, ttft_ms=spoilt)), "estimate.ttft_ms"),
    ):
        with pytest.raises(PlanFormatError, match=rf"plan\.{name}"):
            from_json(to_json(wrong))


def test_a_row_whose_weights_are_not_published_is_not_written(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    words = ("plan", MODEL, *LOAD, "--gpu", "a100-sxm-80gb", "--rank-by", "latency", "--search-quant")
    rows = cli(*words, "--json").json()["placements"]
    assert rows[0]["published"] is False
    first = next(number for number, row in enumerate(rows, start=1) if row["published"])
    facts = cli(*words, "-o", path, "--json").json()
    assert facts["picked"] == first
    assert read_plan(path).split.gpus == rows[first - 1]["gpus"]
    refused = cli(*words, "--pick", "1", "-o", path)
    assert refused.code == 1
    assert "published in w4a16" in refused.err
    assert cli(*words, "--pick", "1").code == 0
    assert "*" in cli(*words).out


def test_goals_that_nothing_meets_are_code_4(cli: Cli) -> None:
    shown = cli("plan", MODEL, *LOAD, *SOME, "--tpot-goal", "1")
    assert shown.code == 4
    assert shown.out.startswith("Nothing carries 16 requests at once of 1,024 + 256 tokens")
    assert "too slow: TPOT" in shown.out
    facts = cli("plan", MODEL, *LOAD, *SOME, "--tpot-goal", "1", "--json")
    assert facts.code == 4
    assert facts.json()["placements"] == []


def test_without_a_context_the_lengths_of_the_load_decide(cli: Cli) -> None:
    words = ("plan", MODEL, "--gpu", "h200-sxm-141gb", "--concurrency", "64", "--rank-by", "gpus", "--json")
    short = cli(*words).json()["placements"][0]
    long = cli(*words, "--context", "32k").json()["placements"][0]
    assert short["gpus"] * short["replicas"] == 1
    assert short["estimate"]["concurrency_admitted"] >= 64
    assert long["gpus"] * long["replicas"] > 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--request-rate", "1", "--concurrency", "2"), 2, "two kinds of load"),
        (("--request-rate", "0"), 2, "--request-rate must be more than 0"),
        (("--context", "1k", "--prompt-tokens", "2k"), 2, "longer than --context 1,024"),
        (("--prefix-hit-ratio", "2"), 2, "--prefix-hit-ratio must be between 0 and 1"),
        (("--rank-by", "cost", "--currency", "DOGE"), 2, "DOGE"),
        (("--rank-by", "cost", "--assumptions", "absent.yaml"), 2, "absent.yaml"),
        (("--search-quant", "--quant", "fp8"), 2, "--quant names the format already"),
        (("--rank-by", "cost", "--pick", "500"), 2, "rows at most"),
        (("--rank-by", "speed"), 2, "speed"),
        (("--prompt-tokens", "50000"), 1, "beyond the model's 40,960"),
        (("--ttft-goal", "0"), 2, "--ttft-goal"),
        (("--rank-by", "cost", "--engine", "llamacpp"), 1, "GGUF"),
    ],
)
def test_bad_input_is_one_sentence(cli: Cli, words: tuple[str, ...], code: int, said: str) -> None:
    shown = cli("plan", MODEL, "--gpu", "h100-sxm-80gb", *words)
    assert shown.code == code, shown.err
    assert said in " ".join(shown.err.split())
    assert "Traceback" not in shown.err


def test_replicas_and_engines_are_named(cli: Cli) -> None:
    words = ("plan", MODEL, "--request-rate", "30", "--gpu", "h100-sxm-80gb", "--tp", "2", "--search-engines")
    shown = cli(*words)
    assert shown.code == 0, shown.err
    flat = " ".join(shown.out.split())
    assert "replicas" in flat
    assert "sglang" in flat
    facts = cli(*words, "--json").json()
    assert {row["engine"].partition("@")[0] for row in facts["placements"]} >= {"vllm", "sglang"}
    assert facts["plan"]["replicas"] == facts["placements"][0]["replicas"] > 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--acceptance", "0.5"), "--acceptance is of drafted tokens, and none are drafted."),
        (("--replicas", "100000"), "--replicas must be between 1 and 1,000, not 100,000."),
    ],
)
def test_what_contradicts_itself_is_refused(cli: Cli, words: tuple[str, ...], said: str) -> None:
    shown = cli("plan", MODEL, *LOAD, "--gpu", "h100-sxm-80gb", "--rank-by", "cost", *words)
    assert (shown.code, shown.out) == (2, "")
    assert said in shown.err


def test_where_no_rent_is_known_nothing_is_best_value(cli: Cli) -> None:
    words = ("plan", MODEL, *LOAD, "--gpu", "h100-sxm-80gb", "--rank-by", "cost")
    shown = cli(*words, "--tier", "serverless", "--term", "3y").out
    assert "Best value" not in shown
    assert shown.startswith("No rent is known, serverless 3y; the fewest GPUs: ")


def test_an_engine_that_was_measured_comes_before_one_that_it_stands_in_for(cli: Cli) -> None:
    words = (
        "plan",
        MODEL,
        *LOAD,
        "--gpu",
        "h100-sxm-80gb",
        "--rank-by",
        "cost",
        "--search-engines",
        "--json",
    )
    rows = cli(*words).json()["placements"]
    alike = [
        row["engine"]["name"] if isinstance(row["engine"], dict) else row["engine"].partition("@")[0]
        for row in rows
        if row["gpus"] == rows[0]["gpus"]
    ]
    assert alike.index("vllm") < alike.index("triton")


def test_the_command_that_comes_next_is_of_the_same_load(cli: Cli) -> None:
    words = ("--gpu", "h100-sxm-80gb", "--concurrency", "64", "--rank-by", "latency", "--ep")
    shown = cli("plan", "openai/gpt-oss-20b", *words)
    assert shown.code == 0, shown.err
    following = next(line for line in shown.out.splitlines() if line.startswith("Next:"))
    for word in ("--concurrency 64", "--rank-by latency", " --ep"):
        assert word in following


def test_a_goal_that_is_missed_is_named_as_it_was_given(cli: Cli) -> None:
    shown = cli("plan", MODEL, *LOAD, "--gpu", "h100-sxm-80gb", "--tpot-goal", "0.25")
    assert "ms where 0.25 are wanted" in " ".join(shown.out.split())


def test_a_model_that_generates_nothing_has_no_speed_to_rank_by(cli: Cli) -> None:
    result = cli("plan", "Qwen/Qwen3-Embedding-8B", "--rank-by", "cost")
    assert result.code == 1
    assert "generates no tokens" in result.err
    assert "Nothing carries" not in result.out
