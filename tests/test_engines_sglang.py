"""SGLang: arguments against the flags of its own parsers, refusals, sizing, and a plan rendered by the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.catalog.flags import known_flags
from selfhost.catalog.gpus import find_gpu
from selfhost.cli import main
from selfhost.engines import Serving, get_engine, parse_engine
from selfhost.engines.sglang.architectures import ARCHITECTURES
from selfhost.engines.sglang.arguments import static_ratio
from selfhost.engines.sglang.tables import FORMATS, MTP
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import RenderOptions, render
from selfhost.manifests.engine_metrics import engine_metrics
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.memory import budget
from selfhost.model.families import architectures
from selfhost.plan import make_plan
from selfhost.quantization import SCHEMES
from selfhost.sizing import budget_for, stands_in
from selfhost.units import GIB
from selfhost.workload import Split, Workload
from tests.models import bundled
from tests.test_engines import serving, texts

ENGINE = get_engine("sglang")
RELEASES = ("0.5.3", "0.5.5", "0.5.8", "0.5.10", "0.5.12", "0.5.15", "0.5.19", "0.5.20", "0.5.22", "0.5.23")
BUSY = Workload(
    max_model_len=8192, kv_dtype="fp8", gpu_memory_utilization=0.8, max_num_batched_tokens=4096, max_num_seqs=64,
    enforce_eager=True, prefix_caching=False, block_size=16, max_loras=2, quantization="fp8",
)  # fmt: skip
SHAPES: list[dict[str, Any]] = [
    {},
    {"workload": BUSY},
    {"workload": BUSY, "split": Split(tensor=2, pipeline=2)},
    {"workload": BUSY, "split": Split(tensor=2, data=2)},
    {"workload": BUSY, "split": Split(tensor=2, data=2, expert=True), "experts": True},
    {"workload": Workload(speculative_tokens=2), "architecture": "DeepseekV3ForCausalLM", "experts": True},
    {"workload": Workload(quantization="bnb-nf4")},
    {"compute_capability": (7, 5)},
    {"model": "/weights/tiny", "revision": None},
]


def asked(version: str = "0.5.23", **changes: Any) -> Serving:
    return serving(f"sglang@{version}", **({"architecture": "Qwen3ForCausalLM", "port": 30000} | changes))


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_flag_is_one_of_the_releases_own_parser(version: str, shape: dict[str, Any]) -> None:
    words = ENGINE.args(asked(version, **shape))
    emitted = {word.flag for word in words if word.flag is not None}
    assert emitted <= set(known_flags("sglang", version))


@pytest.mark.parametrize("version", RELEASES)
def test_every_variable_of_sglangs_own_is_one_it_reads(version: str) -> None:
    from selfhost.catalog.flags import table

    known = table("sglang").variables
    own = [one.name for one in ENGINE.env(asked(version)) if one.name.startswith("SGLANG")]
    assert own
    assert all(known[name].has(version) is not False for name in own)


def test_plain_arguments() -> None:
    assert texts(asked()) == [
        "--model-path=Qwen/Qwen3-32B",
        "--served-model-name=Qwen/Qwen3-32B",
        "--revision=9216db5781bf21249d130ec9da846c4624c16137",
        "--host=0.0.0.0",
        "--port=30000",
        "--tp-size=2",
        "--context-length=16384",
        "--enable-metrics",
        "--watchdog-timeout=2010",
        "--uvicorn-access-log-exclude-prefixes",
        "/health",
        "/ready",
        "/metrics",
    ]


@pytest.mark.parametrize(
    ("version", "experts", "wanted", "absent"),
    [
        ("0.5.23", False, ["--tp-size=2", "--dp-size=4"], ["--attn-dp-size", "--enable-dp-attention"]),
        ("0.5.23", True, ["--tp-size=8", "--attn-dp-size=4"], ["--dp-size", "--enable-dp-attention"]),
        ("0.5.20", True, ["--tp-size=8", "--dp-size=4", "--enable-dp-attention"], ["--attn-dp-size"]),
    ],
)
def test_data_parallel_ranks_take_the_gpus_that_were_planned(
    version: str, experts: bool, wanted: list[str], absent: list[str]
) -> None:
    split = Split(tensor=2, data=4)
    load = Workload(max_num_batched_tokens=4096, max_num_seqs=64)
    words = texts(asked(version, split=split, experts=experts, workload=load))
    assert set(wanted) <= set(words)
    assert not [word for word in words if word.partition("=")[0] in absent]
    pairs = (word.partition("=") for word in words)
    numbers = {name: int(value) for name, _, value in pairs if value.isdigit()}
    # Replicas multiply GPUs, attention ranks do not; what the latter share is given for all of them.
    gpus = numbers["--tp-size"] * (1 if experts else numbers["--dp-size"])
    assert gpus == split.gpus
    assert numbers["--chunked-prefill-size"] == 4096 * (4 if experts else 1)
    assert numbers["--max-running-requests"] == 64 * (4 if experts else 1)


def test_drafting_by_mtp_layers() -> None:
    words = texts(asked(**SHAPES[5]))
    assert "--speculative-algorithm=EAGLE" in words
    assert "--speculative-num-steps=2" in words
    assert "--speculative-num-draft-tokens=3" in words


def test_towers_are_left_out_from_the_release_that_can() -> None:
    load = Workload(language_model_only=True)
    assert "--language-model-only" in texts(asked(workload=load))
    with pytest.raises(UnsupportedError, match=r"sglang@0\.5\.15"):
        texts(asked("0.5.15", workload=load))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("0.5.23", {"gguf": True}, "GGUF"),
    ("0.5.23", {"architecture": "SeedOssForCausalLM"}, "SeedOss"),
    ("0.5.3", {"architecture": "DeepseekV4ForCausalLM"}, "DeepseekV4"),
    ("0.5.23", {"checkpoint_quantization": "awq", "workload": Workload(quantization="fp8")}, "awq"),
    ("0.5.23", {"workload": Workload(quantization="int8")}, "unquantized"),
    ("0.5.23", {"compute_capability": (7, 0)}, "7.0"),
    ("0.5.23", {"compute_capability": (7, 5), "scheme": "fp8"}, "8.0"),
    ("0.5.15", {"compute_capability": (9, 0), "scheme": "nvfp4"}, "10.0"),
    ("0.5.23", {"compute_capability": (7, 5), "workload": Workload(kv_dtype="fp8")}, "fp8 KV"),
    ("0.5.23", {"workload": Workload(kv_dtype="fp16")}, "fp16"),
    ("0.5.3", {"workload": Workload(kv_dtype="bf16")}, "bfloat16"),
    ("0.5.23", {"platform": "rocm", "compute_capability": None, "scheme": "nvfp4"}, "NVIDIA"),
    ("0.5.23", {"platform": "rocm", "compute_capability": None, "gfx": "gfx1100"}, "gfx1100"),
    ("0.5.3", {"platform": "rocm", "compute_capability": None, "gfx": "gfx942"}, "no image"),
    ("0.5.23", {"platform": "cpu", "compute_capability": None}, "NVIDIA and AMD"),
    ("0.5.23", {"mig": True}, "MIG"),
    ("0.5.23", {"workload": Workload(speculative_tokens=1)}, "MTP"),
    ("0.5.23", {"split": Split(tensor=1, pipeline=2, data=2)}, "pipeline"),
    ("0.5.23", {"split": Split(tensor=2, expert=True)}, "experts"),
    ("0.5.23", {"workload": Workload(concurrency=300, max_num_seqs=256)}, "256"),
    ("0.5.23", {"workload": Workload(max_model_len=65536)}, "40,960"),
]


@pytest.mark.parametrize(("version", "changes", "word"), REFUSED)
def test_refusals_say_why(version: str, changes: dict[str, Any], word: str) -> None:
    objection = ENGINE.object_to(asked(version, **changes))
    assert objection is not None
    assert word in objection.because


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        ("0.5.23", {}),
        ("0.5.3", {}),
        ("0.5.23", {"workload": Workload(quantization="fp8")}),
        ("0.5.23", {"checkpoint_quantization": "fp8", "scheme": "fp8-block"}),
        ("0.5.23", {"platform": "rocm", "compute_capability": None, "gfx": "gfx942"}),
        ("0.5.23", {"split": Split(tensor=4, data=2)}),
        ("0.5.23", {"workload": Workload(kv_dtype="fp16"), "model_dtype": "float16"}),
        ("0.5.23", SHAPES[5]),
    ],
)
def test_what_runs_is_not_refused(version: str, changes: dict[str, Any]) -> None:
    assert ENGINE.object_to(asked(version, **changes)) is None


def test_tables_speak_of_what_selfhost_knows() -> None:
    assert set(FORMATS) == set(SCHEMES)
    assert set(ARCHITECTURES) <= set(architectures())
    assert set(MTP) <= set(ARCHITECTURES) | {"Qwen4ExpForConditionalGeneration"}


def test_images_of_releases_and_platforms() -> None:
    def tag(version: str, platform: Any) -> str:
        return ENGINE.image(parse_engine(f"sglang@{version}"), platform).tag

    assert tag("0.5.23", "cuda") == "v0.5.23"
    assert tag("0.5.10.post1", "cuda") == "v0.5.10.post1"
    assert tag("0.5.23", "rocm") == "v0.5.23-rocm720-mi30x"
    assert tag("0.5.9", "rocm") == "v0.5.9-rocm700-mi30x"
    for version, platform in (("0.5.3", "rocm"), ("0.5.23", "cpu"), ("0.5.23", "xpu")):
        with pytest.raises(UnsupportedError):
            tag(version, platform)
    for unknown in ("0.5.2", "0.5.24", "0.6"):
        with pytest.raises(UsageError):
            parse_engine(f"sglang@{unknown}")


def test_cuda_13_and_the_last_image_before_it() -> None:
    assert ENGINE.cuda(parse_engine("sglang@0.5.23")) is not None
    assert ENGINE.cuda(parse_engine("sglang@0.5.10")) is None
    (note,) = ENGINE.notes(asked())
    assert "v0.5.19-cu129" in note
    (other,) = ENGINE.notes(asked(platform="rocm", gfx="gfx950"))
    assert "v0.5.23-rocm720-mi35x" in other


def test_life_is_asked_of_the_scheduler_and_readiness_of_a_flag() -> None:
    new, old = ENGINE.probes(parse_engine("sglang@0.5.23")), ENGINE.probes(parse_engine("sglang@0.5.19"))
    assert (new.ready, new.live) == ("/ready", "/health")
    assert (old.ready, old.live) == ("/health", "/health")
    assert new.timeout_seconds > 20


def test_metrics_come_with_their_release() -> None:
    new = engine_metrics("sglang", ENGINE.metrics(parse_engine("sglang@0.5.23")))
    old = engine_metrics("sglang", ENGINE.metrics(parse_engine("sglang@0.5.3")))
    assert new.preemptions == "sglang:num_retracted_requests_total"
    assert old.preemptions is None
    assert new.waiting == old.waiting == "sglang:num_queue_reqs"


@pytest.mark.parametrize("version", ["0.5.3", "0.5.23"])
def test_rules_and_dashboards_name_what_the_release_emits(version: str) -> None:
    spec, card = bundled("Qwen/Qwen3-8B"), find_gpu("h100-sxm-80gb")
    load, release = Workload(max_model_len=8192), parse_engine(f"sglang@{version}")
    bill = budget_for(spec, load, Split(), card, release)
    made = make_plan(
        spec=spec,
        engine=release,
        gpu=card,
        split=Split(),
        workload=load,
        budget=bill,
        created="2026-11-26T00:00:00Z",
    )
    scaled = ScalingOptions(autoscale="keda", max_replicas=3, dashboard=True)
    options = RenderOptions(scaling=scaled, access_mode="ReadWriteMany")
    texts = [
        one.text
        for one in render(made, options=options).documents
        if one.data is None and "plan" not in one.name
    ]
    texts += [
        one.text
        for one in render(made, target="monitor").documents
        if one.data is None and "plan" not in one.name
    ]
    named = {name for text in texts for name in re.findall(r"sglang:[a-z]\w{3,}", text)}
    emitted = set(made.engine.metrics)
    assert len(named) > 10
    assert {
        re.sub("_(bucket|sum|count)$", "", name) if name not in emitted else name for name in named
    } <= emitted


class TestSizing:
    # Model, GPU, --mem-fraction-static and KV tokens of a published start-up log of SGLang (44.01 GB free at start,
    # 3.03 GB of weights, 34.38 GB of KV cache), read 2026-11-21.
    L40S = ("Qwen/Qwen2.5-1.5B-Instruct", "l40s-48gb", 0.85, 1_287_482)

    def test_the_share_gives_the_cache_that_a_start_up_log_shows(self) -> None:
        model, gpu, ratio, tokens = self.L40S
        spec, card = bundled(model), find_gpu(gpu)
        found = budget(spec, Workload(), Split(), card)
        assert found.context_bytes is not None
        held = found.weights_bytes + found.buffers_bytes
        pool = ratio * (card.memory_bytes - found.context_bytes) - held
        assert pool / found.kv_bytes_per_token == pytest.approx(tokens, rel=0.02)

    def test_its_own_rule_gives_about_the_same(self) -> None:
        model, gpu, ratio, tokens = self.L40S
        found = budget_for(bundled(model), Workload(), Split(), find_gpu(gpu), parse_engine("sglang"))
        assert static_ratio(found) == pytest.approx(ratio, abs=0.02)
        assert found.kv_tokens == pytest.approx(tokens, rel=0.03)

    @pytest.mark.parametrize(
        "gpu", ["l4-24gb", "l40s-48gb", "h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm-180gb"]
    )
    def test_weights_and_cache_keep_to_its_own_limit(self, gpu: str) -> None:
        card = find_gpu(gpu)
        found = budget_for(
            bundled("Qwen/Qwen3-8B"), Workload(max_model_len=4096), Split(), card, parse_engine("sglang")
        )
        ratio = static_ratio(found)
        assert ratio is not None
        left = (1 - ratio) * (card.memory_bytes - (found.context_bytes or 0))
        least = 10 * GIB if card.memory_bytes > 60 * GIB else (512 + 1.5 * 2048) * 2**20
        assert left >= least

    def test_a_share_that_was_asked_for_is_taken(self) -> None:
        load = Workload(max_model_len=4096, gpu_memory_utilization=0.9)
        found = budget_for(
            bundled("Qwen/Qwen3-8B"), load, Split(), find_gpu("h100-sxm-80gb"), parse_engine("sglang")
        )
        assert found.utilization == 0.9

    def test_windows_are_sized_for_every_token(self) -> None:
        spec, card, load = (
            bundled("google/gemma-3-27b-it"),
            find_gpu("h100-sxm-80gb"),
            Workload(max_model_len=32768),
        )
        own = budget_for(spec, load, Split(), card, parse_engine("sglang"))
        theirs = budget_for(spec, load, Split(), card, parse_engine("vllm"))
        assert own.kv_bytes_per_token > 3 * theirs.kv_bytes_per_token
        assert own.kv_needed_bytes > theirs.kv_needed_bytes

    def test_says_whose_rules_it_goes_by_and_is_less_certain(self) -> None:
        spec, card, load = bundled("Qwen/Qwen3-8B"), find_gpu("h100-sxm-80gb"), Workload(max_model_len=4096)
        own = budget_for(spec, load, Split(), card, parse_engine("sglang"))
        theirs = budget_for(spec, load, Split(), card, parse_engine("vllm"))
        assert own.certainty_bytes is not None
        assert theirs.certainty_bytes is not None
        assert own.certainty_bytes >= theirs.certainty_bytes + card.memory_bytes // 25
        assert "vLLM" in (stands_in(parse_engine("sglang")) or "")
        assert stands_in(parse_engine("vllm")) is None

    def test_without_a_gpu_only_what_needs_none_is_known(self) -> None:
        found = budget_for(bundled("Qwen/Qwen3-8B"), Workload(), Split(), None, parse_engine("sglang"))
        assert found.kv_available_bytes is None
        assert static_ratio(found) is None


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return printed.out


def test_size_says_it_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "size", "Qwen/Qwen3-8B", "--engine", "sglang", "--gpu", "l40s", "--json"))
    assert "vLLM" in found["engine"]["sizing"]
    assert any("sized by the rules of vLLM" in note for note in found["notes"])


def test_a_plan_becomes_a_deployment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "out"
    run(
        capsys, "plan", "Qwen/Qwen3-32B", "--engine", "sglang@0.5.23", "--gpu", "h100-sxm-80gb", "--context", "16k",
        "--concurrency", "16", "-o", str(plan),
    )  # fmt: skip
    made = json.loads(plan.read_text())
    assert "vLLM" in made["provenance"]["sizing"]
    run(capsys, "render", str(plan), "-o", str(out), "--api-key-secret", "keys")
    documents = [yaml.safe_load(path.read_text()) for path in sorted(out.glob("[0-9]*.yaml"))]
    (deployment,) = [one for one in documents if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert server["image"].startswith("lmsysorg/sglang:v0.5.23")
    assert "--host=0.0.0.0" in server["args"]
    assert server["args"][server["args"].index("--config") + 1].endswith("/sglang.yaml")
    assert not any(word.startswith("--api-key") for word in server["args"])
    assert server["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert server["livenessProbe"]["httpGet"]["path"] == "/health"
    assert server["livenessProbe"]["timeoutSeconds"] >= 25
    assert server["ports"][0]["containerPort"] == 30000
    (job,) = [one for one in documents if one["kind"] == "Job"]
    (pull,) = job["spec"]["template"]["spec"]["containers"]
    assert pull["image"].startswith("vllm/vllm-openai:")  # SGLang's own image is not known to run a pull
    assert "vLLM" in (out / "50-deployment.yaml").read_text().partition("apiVersion")[0]
