"""Kernel tables: what the child is asked, what becomes of its answers, every way to fail; the real one where it is."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfhost.catalog.gpus import find_gpu, gpus
from selfhost.catalog.measured import measured_rows
from selfhost.engines import parse_engine
from selfhost.errors import ProviderError, SelfhostError, UnsupportedError
from selfhost.hub import load_model
from selfhost.model.parse import parse_model
from selfhost.silicon import SYSTEMS, KernelClock, kernel_clock
from selfhost.silicon.clock import Table, axis, grid_of
from selfhost.silicon.process import PYTHON, ask
from selfhost.silicon.request import plain
from selfhost.throughput.efficiency import efficiency_of
from selfhost.throughput.estimate import curve, estimate
from selfhost.throughput.types import Provenance, Traffic
from selfhost.workload import Split, Workload
from tests.conftest import Cli
from tests.fakes import silicon
from tests.test_cli_json import schema

QWEN, OSS = "Qwen/Qwen3-8B", "openai/gpt-oss-120b"
H100 = find_gpu("h100-sxm-80gb")
VLLM = parse_engine("vllm")
REQUEST = {"model": QWEN, "system": "h100_sxm", "points": [[1, 1, 0, 0], [0, 0, 16, 0]]}
ENGINE = """
class EngineHandle:
    @classmethod
    def compile(cls, folder, system, backend, **more):
        {first}
        print("loading", more)
        return cls()
    def decode_step_latency(self, decoding, context, output):
        return 5.0 + decoding
    def predict_prefill_latency(self, batch, length, prefix):
        return 4.0 + length - prefix
"""


def clock_by(
    python: Path | str,
    name: str = QWEN,
    *,
    gpu: str = "h100-sxm-80gb",
    split: Split | None = None,
    workload: Workload | None = None,
    engine: str = "vllm",
    deadline_seconds: float = 60.0,
) -> tuple[KernelClock, Provenance]:
    raw = load_model(name)
    return kernel_clock(
        raw.config, parse_model(raw), workload or Workload(), split or Split(), find_gpu(gpu), parse_engine(engine),
        environ={**os.environ, PYTHON: str(python)}, deadline_seconds=deadline_seconds,
    )  # fmt: skip


@pytest.fixture
def fake(tmp_path: Path) -> silicon.Fake:
    return silicon.install(tmp_path)


# -- the command -------------------------------------------------------------------------------------------------------


def test_estimate_by_kernel_tables_says_so_and_starts_one_process(
    cli: Cli, fake: silicon.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON, str(fake.python))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    words = ("estimate", QWEN, "--gpu", "h100-sxm-80gb", "--concurrency", "8", "--json")
    by_tables, by_roofline = cli(*words, "--provider", "silicon"), cli(*words)
    assert (by_tables.code, by_roofline.code) == (0, 0), by_tables.err
    found = by_tables.json()
    jsonschema.validate(found, schema("estimate"))
    kinds = {one["number"]: one["kind"] for one in found["provenance"]}
    assert kinds.pop("concurrency_admitted") == "roofline"
    assert {"ttft_ms", "tpot_ms", "output_tokens_per_second", "curve"} <= set(kinds)
    assert set(kinds.values()) == {"kernel tables"}
    assert len(found["curve"]) > 5
    for one in found["provenance"][:3]:
        assert "aiconfigurator-core 0.12.0" in one["because"]
        assert "vllm 0.24.0" in one["because"]
        assert "carried over to" in one["because"]
        assert one["date"] == "2026-09"
        assert "0.12.0" in one["sources"][0]
    assert {one["kind"] for one in by_roofline.json()["provenance"]} == {"roofline"}
    (start,) = fake.starts
    assert start["words"][0] == "-I"
    assert "hf_secret" not in json.dumps(start["env"])
    assert start["env"]["HF_HUB_OFFLINE"] == "1"
    # By the fake's table eight sequences take 5.27 ms and a prompt 15 ms; a token waits for those of the seven others.
    ours = efficiency_of(find_gpu("h100-sxm-80gb"), parse_engine("vllm"), Split()).efficiency
    adds = (ours.step_seconds + 8 * ours.sequence_seconds) * 1e3
    assert found["tpot_ms"]["typical"] == pytest.approx(5.27 + adds + 15 * 7 / 256, rel=0.01)


def test_the_text_says_what_it_rests_on(
    cli: Cli, fake: silicon.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON, str(fake.python))
    ran = cli("estimate", QWEN, "--gpu", "h100-sxm-80gb", "--provider", "silicon", "--engine", "vllm@0.24.0")
    assert ran.code == 0
    assert "kernel times of aiconfigurator-core 0.12.0" in " ".join(ran.out.split())
    assert "carried over" not in ran.out
    _, measured = clock_by(fake.python, engine="vllm@0.24.1")
    assert measured.because.endswith("; carried over to vllm@0.24.1")


def test_without_the_package_the_way_to_it_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("aiconfigurator_core") is not None:
        pytest.skip("aiconfigurator-core is installed in this environment")
    monkeypatch.delenv(PYTHON, raising=False)
    ran = cli("estimate", QWEN, "--gpu", "h100-sxm-80gb", "--provider", "silicon")
    assert ran.code == 1
    assert "not installed" in ran.err
    assert "pip install 'selfhost[silicon]'" in " ".join(ran.err.split())
    with pytest.raises(UnsupportedError, match="not installed"):  # the real child says it of another Python
        clock_by(sys.executable)
    with pytest.raises(UnsupportedError, match="which is no file"):
        clock_by("/nowhere/python")


# -- what is asked -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gpu", "split", "quantization", "expected"),
    [
        (QWEN, "h100-sxm-80gb", Split(tensor=2), None,
         {"system": "h100_sxm", "tensor": 2, "dense_format": "bfloat16", "expert_tensor": 1, "expert_parallel": 1}),
        (QWEN, "l40s-48gb", Split(data=2), "fp8", {"system": "l40s", "data": 1, "dense_format": "fp8"}),
        (OSS, "h200-sxm-141gb", Split(tensor=2), None,
         {"dense_format": "bfloat16", "expert_format": "w4a16_mxfp4", "expert_tensor": 2, "expert_parallel": 1}),
        (OSS, "b200-sxm-180gb", Split(tensor=2, data=2, expert=True), None,
         {"data": 2, "expert_tensor": 1, "expert_parallel": 4}),
        ("deepseek-ai/DeepSeek-V3.1", "h200-sxm-141gb", Split(tensor=8), None,
         {"dense_format": "fp8_block", "expert_format": "fp8_block", "expert_tensor": 8}),
    ],
)  # fmt: skip
def test_the_child_is_asked_in_the_words_of_the_package(
    fake: silicon.Fake,
    name: str,
    gpu: str,
    split: Split,
    quantization: str | None,
    expected: dict[str, object],
) -> None:
    engine = "sglang" if "DeepSeek" in name else "vllm"
    clock_by(
        fake.python, name, gpu=gpu, split=split, workload=Workload(quantization=quantization), engine=engine
    )
    (start,) = fake.starts
    asked = start["asked"]
    assert {key: asked[key] for key in expected} == expected
    assert asked["package"] == silicon.PACKAGE
    assert "quantization_config" not in asked["config"]
    assert asked["config"]["architectures"] == load_model(name).config["architectures"]
    assert 500 < len(asked["points"]) < 5000
    assert all(bool(decoding) != bool(prompt) for decoding, _, prompt, _ in asked["points"])


def test_the_cache_format_is_passed_on(fake: silicon.Fake) -> None:
    clock_by(fake.python, workload=Workload(kv_dtype="fp8"))
    clock_by(fake.python)
    assert [start["asked"]["cache_format"] for start in fake.starts] == ["fp8", "bfloat16"]


def test_quantization_is_taken_out_of_inner_configurations_too() -> None:
    config = {
        "text_config": {"quantization_config": {"a": 1}, "hidden_size": 2},
        "compression_config": 3,
        "b": [4],
    }
    assert plain(config) == {"text_config": {"hidden_size": 2}, "b": [4]}
    assert "quantization_config" in config["text_config"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"gpu": "rtx-4090-24gb"}, "no GeForce RTX 4090"),
        ({"gpu": "a100-sxm-40gb"}, "no A100 40GB"),
        ({"engine": "tgi"}, "no tgi"),
        ({"name": "deepseek-ai/DeepSeek-V3.1", "gpu": "h200-sxm-141gb", "split": Split(tensor=8),
          "workload": Workload(speculative_tokens=1)}, "speculative"),
        ({"workload": Workload(quantization="bnb-nf4")}, "no dense products in"),
        ({"name": "Qwen/Qwen3-8B-FP8"}, "slower than bf16"),
    ],
)  # fmt: skip
def test_what_the_tables_cannot_cover_is_refused_without_a_start(
    fake: silicon.Fake, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedError, match=words) as caught:
        clock_by(fake.python, **more)
    assert fake.starts == []
    assert "\n" not in caught.value.message
    assert caught.value.hint is not None
    assert "--provider silicon" in caught.value.hint


def test_every_system_is_a_gpu_of_the_catalogue() -> None:
    assert set(SYSTEMS) <= {gpu.id for gpu in gpus()}
    assert list(SYSTEMS) == sorted(SYSTEMS)


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_the_clock_goes_through_the_childs_times_and_straight_between(fake: silicon.Fake) -> None:
    clock, _ = clock_by(fake.python)
    used = efficiency_of(H100, VLLM, Split()).efficiency
    assert clock.step_overhead_seconds == used.step_seconds
    for decoding, context in itertools.product((1, 7.5, 64, 300, 3000), (1, 100, 1234.5, 40000)):
        # The fake is linear in both, so that straight lines are exact, beyond the last point too.
        expected = silicon.decode_seconds(decoding, context)
        assert clock.decode.at(decoding, context) == pytest.approx(expected, rel=1e-9)
        overhead = used.step_seconds + decoding * used.sequence_seconds
        assert clock.step_seconds(decoding, context) == pytest.approx(expected + overhead, rel=1e-9)
    for prompt, before in itertools.product((1, 100, 2048, 8191), (0, 500, 20000)):
        together = silicon.prompt_seconds(prompt + 16, before)
        added = silicon.decode_seconds(16, 1000) - silicon.decode_seconds(16, 1)
        overhead = used.step_seconds + 16 * used.sequence_seconds
        found = clock.step_seconds(16, 1000, prompt, before)
        assert found == pytest.approx(together + added + overhead, rel=1e-9)
    alone = clock.step_seconds(0, 0, 2048)
    assert alone == pytest.approx(silicon.prompt_seconds(2048, 0) + used.step_seconds, rel=1e-9)


@given(st.integers(1, 300_000), st.integers(1, 6))
def test_an_axis_goes_from_one_to_its_end(most: int, per_octave: int) -> None:
    found = axis(most, per_octave=per_octave)
    assert found[0] == 1
    assert found[-1] == most
    assert list(found) == sorted(set(found))
    assert len(found) <= 20 * per_octave


@pytest.mark.parametrize("most", [1, 2, 100, 128, 4096, 1_048_576])
def test_a_grid_has_a_time_for_every_point(most: int) -> None:
    grid = grid_of(most)
    decode, prompt = grid.tables(tuple(float(index) for index, _ in enumerate(grid.points)))
    assert len(decode.seconds) == len(grid.decoding) * len(grid.contexts)
    assert len(prompt.seconds) == len(grid.prompts) * len(grid.before)
    points = list(grid.points)
    at = points.index([grid.decoding[3], grid.contexts[1], 0, 0])
    assert decode.at(grid.decoding[3], grid.contexts[1]) == at
    at = points.index([0, 0, grid.prompts[5], grid.before[1]])
    assert prompt.at(grid.prompts[5], grid.before[1]) == at


def test_below_the_first_point_a_table_stays_there() -> None:
    table = Table(down=(1, 2), across=(1, 3), seconds=(1.0, 3.0, 2.0, 4.0))
    assert table.at(0, 0) == table.at(1, 1) == 1.0
    assert table.at(4, 3) == 6.0


def test_estimate_and_curve_take_the_clock(fake: silicon.Fake) -> None:
    clock, measured = clock_by(fake.python)
    spec = parse_model(load_model(QWEN))
    traffic = Traffic(prompt_tokens=1000, output_tokens=200, concurrency=16)
    slower = replace(clock, step_overhead_seconds=0.050)
    fast, slow = (
        estimate(spec, Workload(), Split(), H100, VLLM, traffic, clock=one, measured=measured)
        for one in (clock, slower)
    )
    assert slow.tpot_ms.typical - fast.tpot_ms.typical == pytest.approx(
        50 - clock.step_overhead_seconds * 1e3, rel=0.05
    )
    points = curve(spec, Workload(), Split(), H100, VLLM, traffic, clock=clock)
    assert [point.tpot_ms.typical for point in points] == sorted(point.tpot_ms.typical for point in points)
    assert len(fake.starts) == 1


# -- a child that fails ------------------------------------------------------------------------------------------------


def test_a_child_that_hangs_is_killed_at_the_deadline(tmp_path: Path) -> None:
    fake = silicon.install(tmp_path, sleep=120)
    began = time.monotonic()
    with pytest.raises(ProviderError, match=r"no answer in 1\.5 s; their process was killed"):
        clock_by(fake.python, deadline_seconds=1.5)
    assert time.monotonic() - began < 30
    (start,) = fake.starts
    with pytest.raises(ProcessLookupError):
        os.kill(start["pid"], 0)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ({"exit": 3}, "ended with exit code 3"),
        ({"signal": signal.SIGKILL}, "ended with signal 9"),
        ({"say": ""}, "no JSON object"),
        ({"say": "Loading tables\n{}"}, "no JSON object"),
        ({"say": "[1, 2]"}, "no JSON object"),
        ({"say": "{}"}, "without a time for each point"),
        ({"say": '{"package": "0.12.0", "database": "0.24.0", "milliseconds": [1.0]}'}, "without a time"),
        (
            {"say": '{"package": "0.12.0", "database": "0.24.0", "milliseconds": [1.0, NaN]}'},
            "without a time",
        ),
        ({"say": '{"package": "0.12.0", "database": "0.24.0", "milliseconds": [1.0, -1]}'}, "without a time"),
        (
            {"say": '{"package": "0.12.0", "database": "0.24.0", "milliseconds": [1.0, true]}'},
            "without a time",
        ),
        ({"say": '{"package": "0.12.0", "database": null, "milliseconds": [1.0, 2.0]}'}, "without a time"),
        ({"say": '{"error": "failed", "because": "OSError: no."}'}, "failed: OSError: no"),
    ],
)
def test_what_is_no_answer_is_one_clear_error(tmp_path: Path, script: dict[str, Any], words: str) -> None:
    fake = silicon.install(tmp_path, **script)
    with pytest.raises(ProviderError, match=words) as caught:
        ask(REQUEST, environ={PYTHON: str(fake.python)})
    assert "\n" not in caught.value.message
    assert caught.value.hint is not None


def test_a_good_answer_is_taken_in_seconds(fake: silicon.Fake) -> None:
    found = ask(REQUEST, environ={PYTHON: str(fake.python)})
    assert found.seconds == pytest.approx((silicon.decode_seconds(1, 1), silicon.prompt_seconds(16, 0)))
    assert (found.package, found.database) == (silicon.PACKAGE, silicon.DATABASE)


def test_a_program_that_cannot_be_started_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("no program")
    with pytest.raises(ProviderError, match="could not be started"):
        ask(REQUEST, environ={PYTHON: str(tmp_path / "python")})


# -- the real child, over a package of the same names ------------------------------------------------------------------


def test_the_child_answers_every_point_whatever_the_package_prints(tmp_path: Path) -> None:
    fake = silicon.install_package(tmp_path, ENGINE.format(first="pass"))
    clock, measured = clock_by(fake.python)
    assert clock.decode.at(8, 100) == pytest.approx(0.013)
    assert clock.prompt.at(64, 1000) == pytest.approx(0.068)
    assert "0.24.0" in measured.because


@pytest.mark.parametrize(
    ("first", "kind", "words"),
    [
        ("import socket; socket.create_connection(('127.0.0.1', 9))", ProviderError, "without a network"),
        ("import urllib.request; urllib.request.urlopen('http://localhost:9/')", ProviderError, "without a network"),
        ("raise TypeError('odd')", ProviderError, "failed: TypeError: odd"),
        ("import os; os._exit(4)", ProviderError, "ended with exit code 4"),
        ("raise ValueError('Not in ' + folder + ' at all.\\nmore')", UnsupportedError,
         "do not cover Qwen/Qwen3-8B on h100_sxm: Not in Qwen/Qwen3-8B at all"),
        ("raise RuntimeError('perf database error: missing at /usr/lib/x/0.24.0; available: [1]')", UnsupportedError,
         r"h100_sxm: missing; available: \[1\]"),
        ("raise RuntimeError('MoE data missing for MoeKey { quant: 1 }')", UnsupportedError,
         r"h100_sxm: MoE data missing\.$"),
        ("raise ValueError('The architecture X is not supported. Supported architectures: A, B, C')", UnsupportedError,
         r"The architecture X is not supported\.$"),
    ],
)  # fmt: skip
def test_what_the_package_raises_is_told_apart(
    tmp_path: Path, first: str, kind: type[SelfhostError], words: str
) -> None:
    fake = silicon.install_package(tmp_path, ENGINE.format(first=first))
    with pytest.raises(kind, match=words) as caught:
        clock_by(fake.python)
    assert "\n" not in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_another_release_and_an_empty_system_are_refused(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    newer = silicon.install_package(tmp_path / "new", ENGINE.format(first="pass"), version="0.13.0")
    with pytest.raises(UnsupportedError, match=r"0\.13\.0 is installed, but only 0\.12\.0"):
        clock_by(newer.python)
    right = silicon.install_package(tmp_path / "old", ENGINE.format(first="pass"))
    with pytest.raises(UnsupportedError, match="no tables of vllm on b60"):
        clock_by(right.python, gpu="arc-pro-b60-24gb")


# -- the real package --------------------------------------------------------------------------------------------------


def real() -> str:
    path = os.environ.get(PYTHON)
    if not path or not Path(path).exists():
        pytest.skip(f"aiconfigurator-core is not installed: `make silicon` sets it up, or set {PYTHON}")
    return path


def test_real_tables_take_longer_than_the_hardware_and_less_than_three_times_that() -> None:
    python = real()
    clock, measured = clock_by(python)
    assert "vllm 0.24.0" in measured.because
    weights = 15.3e9  # of Qwen3-8B in bf16, less its embedding
    for decoding in (1, 8, 64):
        least = (weights + decoding * 1000 * 147456) / 3.35e12  # at the full bandwidth of an H100
        assert least < clock.step_seconds(decoding, 1000) < 3 * least
    least = 2 * 6.95e9 * 4096 / 989e12  # at the full peak
    assert least < clock.step_seconds(0, 0, 4096) < 3 * least
    assert clock.step_seconds(32, 4000, 2048) > clock.step_seconds(32, 4000) > clock.step_seconds(32, 500)


def test_real_tables_agree_with_measured_tokens() -> None:
    """Qwen3-8B on one H100, vLLM 0.11, GPUStack performance lab (T0188 to T0191 of measured_throughput.json)."""
    python = real()
    clock, _ = clock_by(python)
    spec = parse_model(load_model(QWEN))
    compared = [row for row in measured_rows() if row["id"] in ("T0188", "T0189", "T0190", "T0191")]
    assert len(compared) == 4
    for row in compared:
        traffic = Traffic(
            prompt_tokens=round(row["isl"]),
            output_tokens=round(row["osl"]),
            concurrency=row["max_concurrency"],
        )
        found = estimate(spec, Workload(), Split(), H100, parse_engine("vllm@0.11.0"), traffic, clock=clock)
        assert found.tpot_ms.typical == pytest.approx(row["tpot_mean_ms"], rel=0.15)
        assert found.output_tokens_per_second.low < row["output_tok_s"] < found.output_tokens_per_second.high


def test_real_tables_cover_experts_and_latent_attention_and_refuse_the_rest() -> None:
    python = real()
    for name, gpu, tensor, engine in (
        (OSS, "h100-sxm-80gb", 2, "vllm"),
        ("deepseek-ai/DeepSeek-V3.1", "h200-sxm-141gb", 8, "sglang"),
    ):
        clock, _ = clock_by(python, name, gpu=gpu, split=Split(tensor=tensor), engine=engine)
        assert 0.002 < clock.step_seconds(16, 1000) < clock.step_seconds(16, 1000, 4096) < 2
    with pytest.raises(UnsupportedError, match="MistralForCausalLM is not supported"):
        clock_by(python, "mistralai/Mistral-7B-Instruct-v0.3")
    with pytest.raises(UnsupportedError, match="int4_wo"):
        clock_by(python, workload=Workload(quantization="awq-int4"))
