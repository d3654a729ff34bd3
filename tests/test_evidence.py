"""Published runs beside an estimate: which count as near, what is taken from them; the roofline stays blind."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import selfhost.throughput
from selfhost.catalog.gpus import find_gpu, with_memory
from selfhost.catalog.measured import Measurement, measured_rows, measurements
from selfhost.catalog.models import find
from selfhost.engines import parse_engine
from selfhost.errors import UnsupportedError
from selfhost.hub import load_model
from selfhost.model.parse import parse_model
from selfhost.model.spec import ModelSpec
from selfhost.throughput.evidence import Evidence, estimated, evidence_for
from selfhost.throughput.from_runs import from_measurements
from selfhost.throughput.runs import Asked, asked_of, numbers_of, release_of
from selfhost.workload import Split, Workload
from tests.conftest import Cli

LOAD = ("--prompt-tokens", "233", "--output-tokens", "221", "--concurrency", "4")
FIELDS = """
    id source page date engine engine_version model precision quant gpu tp pp dp ep replicas dataset mode isl osl
    max_concurrency request_rate num_ok kv_cache_dtype enforce_eager max_num_seqs output_tok_s tpot_mean_ms
    ttft_mean_ms decode_tok_s_per_user source_title source_date url
"""
WORDS = ("estimate", "Qwen/Qwen3-8B", "--gpu", "h100-sxm-80gb", *LOAD)


@cache
def model(name: str) -> ModelSpec:
    return parse_model(load_model(name))


def run(name: str) -> Measurement:
    return next(one for one in measurements() if one.id == name)


def asked(name: str) -> Asked:
    return asked_of(run(name), find_gpu(run(name).gpu), model)


def near(load: Asked) -> tuple[Evidence, ...]:
    return evidence_for(load, model)


def test_rows_name_what_the_catalogue_has_and_no_field_is_lost() -> None:
    known = set(FIELDS.split())
    rows = measured_rows()
    assert len({row["id"] for row in rows}) == len(rows) == len(measurements()) == 105
    for row, one in zip(rows, measurements(), strict=True):
        assert set(row) <= known
        assert find(one.model) is not None
        assert find_gpu(one.gpu).id == one.gpu
        assert one.url.startswith("https://")
        assert numbers_of(one)
        assert (one.concurrency is None) != (one.request_rate is None)
        assert one.gpus >= 1


def test_the_roofline_does_not_know_the_measurements() -> None:
    """What is scored against the rows may import nothing that reads them."""
    folder = Path(selfhost.throughput.__file__).parent
    above = {"evidence", "from_runs", "limits", "runs"}
    for path in folder.glob("*.py"):
        if path.stem in above:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name != "selfhost.catalog.measured", path
                assert (name or "").removeprefix("selfhost.throughput.") not in above, path


@pytest.mark.parametrize("name", ["T0190", "T0229", "T0277", "T0303", "T0340", "T0383", "T0423", "T0570"])
def test_a_run_covers_its_own_load_and_its_numbers_come_out_as_published(name: str) -> None:
    load = asked(name)
    found = near(load)
    assert name in [one.run.id for one in found if one.covers and set(one.differs) <= {"engine_version"}]
    taken = from_measurements(load, estimated(load), found)
    kinds = {one.number: one.kind for one in taken.provenance}
    for number, value in numbers_of(run(name)).items():
        span = getattr(taken, number)
        assert span.typical == pytest.approx(value, rel=1e-9)
        assert span.low < value < span.high
        assert kinds[number] == "measured"
    assert kinds["concurrency_admitted"] == "roofline"


def test_two_runs_of_one_load_give_their_middle_and_both_their_scatter() -> None:
    load = asked("T0069")
    taken = from_measurements(load, estimated(load), near(load))
    one, two = 326.09, 344.39
    assert taken.output_tokens_per_second.typical == pytest.approx(math.sqrt(one * two))
    assert taken.output_tokens_per_second.low == pytest.approx(one / 1.1)
    assert taken.output_tokens_per_second.high == pytest.approx(two * 1.1)
    assert taken.requests_per_second == pytest.approx(math.sqrt(one * two) / 217)


def test_another_release_keeps_the_number_and_doubles_the_range() -> None:
    load = replace(asked("T0190"), engine=parse_engine("vllm@0.32.0"))
    (one, *_) = near(load)
    assert (one.run.id, one.differs, one.covers) == ("T0190", ("engine_version",), True)
    taken = from_measurements(load, estimated(load), near(load))
    assert taken.output_tokens_per_second.typical == pytest.approx(496.88)
    assert taken.output_tokens_per_second.high == pytest.approx(496.88 * 1.2)
    (why,) = [text.because for text in taken.provenance if text.number == "tpot_ms"]
    assert why.endswith("carried over to vllm@0.32.0 as it is, with twice the range")


def test_lengths_within_five_percent_are_scaled_by_the_roofline() -> None:
    load = asked("T0190")
    longer = replace(load, traffic=replace(load.traffic, prompt_tokens=243))
    taken = from_measurements(longer, estimated(longer), near(longer))
    ratio = estimated(longer).tpot_ms.typical / estimated(load).tpot_ms.typical
    assert taken.tpot_ms.typical == pytest.approx(7.38 * ratio)
    assert ratio > 1


def _half(load: Asked) -> Asked:
    return replace(load, gpu=with_memory(load.gpu, load.gpu.memory_bytes // 2))


OTHERS: list[tuple[str, Callable[[Asked], Asked]]] = [
    ("model", lambda load: replace(load, spec=model("Qwen/Qwen3-4B"))),
    ("format", lambda load: replace(load, workload=Workload(quantization="fp8"))),
    ("engine", lambda load: replace(load, engine=parse_engine("sglang"))),
    ("GPU", lambda load: replace(load, gpu=find_gpu("h200-sxm-141gb"))),
    ("half a GPU", _half),
    ("split", lambda load: replace(load, split=Split(tensor=2))),
    ("copies", lambda load: replace(load, replicas=2)),
    ("drafts", lambda load: replace(load, workload=Workload(speculative_tokens=1))),
    ("clients", lambda load: replace(load, traffic=replace(load.traffic, concurrency=17))),
    ("lengths", lambda load: replace(load, traffic=replace(load.traffic, output_tokens=500))),
    (
        "arrivals",
        lambda load: replace(load, traffic=replace(load.traffic, concurrency=None, request_rate=4.0)),
    ),
]


@pytest.mark.parametrize(("what", "change"), OTHERS, ids=[what for what, _ in OTHERS])
def test_a_run_of_something_else_is_no_evidence(what: str, change: Callable[[Asked], Asked]) -> None:
    assert near(change(asked("T0190"))) == (), what


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"workload": Workload(kv_dtype="fp8")}, "kv_dtype"),
        ({"workload": Workload(enforce_eager=True)}, "engine_options"),
        ({"workload": Workload(max_num_seqs=4)}, "engine_options"),
    ],
)
def test_near_is_shown_and_not_taken(change: dict[str, Workload], differs: str) -> None:
    load = replace(asked("T0190"), **change)  # type: ignore[arg-type]
    (one, *_) = near(load)
    assert (one.run.id, one.covers) == ("T0190", False)
    assert differs in one.differs
    with pytest.raises(UnsupportedError, match=r"No published run of Qwen/Qwen3-8B with vllm on 1 × H100"):
        from_measurements(load, estimated(load), near(load))


def test_a_run_without_cuda_graphs_covers_a_load_without_them() -> None:
    load = asked("T0340")
    assert load.workload.enforce_eager
    assert near(load)[0].covers
    graphs = replace(load, workload=replace(load.workload, enforce_eager=False))
    assert "engine_options" in near(graphs)[0].differs


def test_prefix_hits_that_nobody_published_are_not_taken() -> None:
    shared = asked("T0239")
    assert all("prefix_hit_ratio" in one.differs and not one.covers for one in near(shared))
    load = asked("T0190")
    hits = replace(load, traffic=replace(load.traffic, prefix_hit_ratio=0.5))
    assert "prefix_hit_ratio" in near(hits)[0].differs


def test_the_same_shape_under_another_name_is_the_same_and_said() -> None:
    load = asked("T0190")
    tuned = replace(load, spec=replace(load.spec, id="me/my-qwen3-8b"))
    (one, *_) = near(tuned)
    assert (one.differs, one.covers) == (("model",), True)
    blocks = replace(asked("T0603"), spec=model("Qwen/Qwen3-8B-FP8"), workload=Workload())
    assert {"quantization", "model"} <= set(near(blocks)[0].differs)
    assert not near(blocks)[0].covers


def test_a_release_that_no_source_names_is_the_newest_and_not_said_to_be_it() -> None:
    assert release_of("vllm", "v0.11.0") == (parse_engine("vllm@0.11.0"), True)
    assert release_of("vllm", "vllm/vllm-openai:latest (2025-10)") == (parse_engine("vllm@0.11.0"), True)
    assert release_of("vllm", "llm-d guide 2026") == (parse_engine("vllm"), False)


def test_the_command_keeps_its_own_numbers_and_shows_the_measured_beside_them(cli: Cli) -> None:
    plain = cli(*WORDS, "--json").json()
    assert {one["kind"] for one in plain["provenance"]} == {"roofline"}
    first = plain["measurements"][0]
    assert (first["id"], first["covers"], first["differs"]) == ("T0190", True, ["engine_version"])
    assert first["measured"] == {"ttft_ms": 64.0, "tpot_ms": 7.38, "output_tokens_per_second": 496.88}
    assert first["estimated"]["tpot_ms"]["typical"] == pytest.approx(
        estimated(asked("T0190")).tpot_ms.typical
    )
    assert {one["kind"] for one in first["provenance"]} == {"measured"}
    assert first["url"].startswith("https://github.com/gpustack/")

    taken = cli(*WORDS, "--provider", "measured", "--json").json()
    assert taken["output_tokens_per_second"]["typical"] == pytest.approx(496.88, rel=0.01)
    assert {one["number"] for one in taken["provenance"] if one["kind"] == "measured"} == {
        "ttft_ms", "tpot_ms", "output_tokens_per_second", "output_tokens_per_second_per_gpu", "requests_per_second",
    }  # fmt: skip
    assert taken["curve"] == plain["curve"]
    assert plain["measurements"] == taken["measurements"]


def test_every_number_of_the_json_has_a_provenance_a_range_and_a_limit(cli: Cli) -> None:
    told = cli(*WORDS, "--tpot-goal", "20", "--json").json()
    numbers = {
        "ttft_ms", "tpot_ms", "output_tokens_per_second", "output_tokens_per_second_per_gpu", "requests_per_second",
        "concurrency_admitted", "running", "curve", "knee_concurrency", "goals",
    }  # fmt: skip
    assert {one["number"] for one in told["provenance"]} == numbers
    assert set(told["binds_each"]) == {
        "ttft_ms", "tpot_ms", "output_tokens_per_second", "requests_per_second", "concurrency_admitted",
    }  # fmt: skip
    assert told["requests_per_second_range"]["typical"] == pytest.approx(told["requests_per_second"])
    assert told["binds_each"]["concurrency_admitted"] == "engine batch limit"
    full = cli(*WORDS[:4], "--prompt-tokens", "8000", "--concurrency", "64", "--json").json()
    admitted = full["concurrency_admitted_range"]
    assert admitted["low"] < admitted["typical"] == full["concurrency_admitted"] <= admitted["high"]
    assert set(told["concurrency_admitted_range"].values()) == {
        1024
    }  # the engine's own limit, whatever the memory
    assert full["binds_each"]["ttft_ms"] == "KV-cache memory"  # fourteen wait for a place
    assert full["binds_each"]["tpot_ms"] == "compute"


def test_text_shows_both_and_where_to_read_it(cli: Cli) -> None:
    shown = cli(*WORDS).out
    said = estimated(asked("T0190"))
    row = f"64 ({said.ttft_ms.typical:.0f}) 7.4 ({said.tpot_ms.typical:.1f}) 497 ("
    assert f"4 233 + 221 {row}{said.output_tokens_per_second.typical:.0f}) vllm 0.11.0" in " ".join(
        shown.split()
    )
    assert "/docs/performance-lab/qwen3-8b/h100-latency.md\n" in shown
    assert "--provider measured takes its numbers" in shown
    assert "what binds weights bandwidth; the first token: engine overhead;" in " ".join(shown.split())


def test_text_says_what_else_differs_and_names_a_source_once(cli: Cli) -> None:
    words = ("--tp", "8", "--prompt-tokens", "2048", "--output-tokens", "2048", "--kv-dtype", "fp8")
    shown = cli(
        "estimate",
        "amd/Llama-3.1-405B-Instruct-FP8-KV",
        "--gpu",
        "mi300x-192gb",
        *words,
        "--concurrency",
        "32",
    ).out
    assert "Other than here, with some of them: engine options." in shown
    assert shown.count("Published in dstack") == 1
    assert shown.count("https://github.com/dstackai/") == 3
    assert "--provider measured" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*WORDS[1:4], "--concurrency", "64"), "4 runs of this model are known on this GPU; nearest"),
        (("Qwen/Qwen3-8B", "--gpu", "l4"), "none of them on this GPU"),
        (("Qwen/Qwen3-14B", "--gpu", "l40s"), "none of them on this GPU"),
        (("google/gemma-3-27b-it", "--gpu", "l40s", "--tp", "2"), "On this GPU runs are known of QuantTrio"),
        (("google/gemma-3-27b-it", "--gpu", "a10", "--tp", "4"), "Nothing is known that was measured on this GPU."),
        ((*WORDS[1:], "--kv-dtype", "fp8"), "which differs in kv dtype, engine version."),
    ],
)  # fmt: skip
def test_where_nothing_was_measured_one_sentence_says_what_was(
    cli: Cli, words: tuple[str, ...], said: str
) -> None:
    ran = cli("estimate", *words, "--provider", "measured", "--json")
    assert (ran.code, ran.out) == (1, "")
    error = json.loads(ran.err)["error"]
    assert error["message"].startswith("No published run of ")
    assert said in error["hint"]
    assert "Leave out --provider measured" in error["hint"]


def test_a_simulation_has_no_measured_steps(cli: Cli) -> None:
    ran = cli(*WORDS[:4], "--arrivals", "poisson", "--request-rate", "1", "--provider", "measured")
    assert (ran.code, ran.out) == (2, "")
    assert "simulation takes times of single steps" in ran.err
