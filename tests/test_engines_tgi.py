"""TGI: its settings against the launcher's own, refusals, sizing, and a plan rendered by the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.catalog.flags import known_flags, table
from selfhost.catalog.gpus import find_gpu
from selfhost.cli import main
from selfhost.engines import Serving, get_engine, parse_engine
from selfhost.engines.tgi.tables import ARCHITECTURES, FIRST, LAST, RELEASES, VARIABLES
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import RenderOptions, render
from selfhost.manifests.engine_metrics import engine_metrics
from selfhost.manifests.options.weights import WeightOptions
from selfhost.model.families import architectures
from selfhost.plan import make_plan
from selfhost.sizing import budget_for
from selfhost.workload import Split, Workload
from tests.models import bundled
from tests.test_engines import serving

ENGINE = get_engine("tgi")
COMMIT = "9216db5781bf21249d130ec9da846c4624c16137"
BUSY = Workload(
    max_model_len=8192, kv_dtype="fp8", max_num_batched_tokens=4096, max_num_seqs=64, enforce_eager=True,
    prefix_caching=False, quantization="fp8", concurrency=200,
)  # fmt: skip
# Read by the shards or the router and not by the launcher's parser.
ELSEWHERE = {"PREFIX_CACHING"}


def asked(version: str = "3.3.7", **changes: Any) -> Serving:
    return serving(f"tgi@{version}", **({"architecture": "LlamaForCausalLM", "port": 8080} | changes))


def environment(version: str = "3.3.7", **changes: Any) -> dict[str, str]:
    return {one.name: one.value for one in ENGINE.env(asked(version, **changes))}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("load", [Workload(max_model_len=4096), BUSY])
def test_every_setting_is_one_of_the_releases_own_launcher(
    release: tuple[int, int, int], load: Workload
) -> None:
    version = ".".join(map(str, release))
    flags = known_flags("tgi", version)
    own = set(environment(version, workload=load)) & set(VARIABLES)
    for name in own - ELSEWHERE:
        assert f"--{name.lower().replace('_', '-')}" in flags, name
    for word in ENGINE.args(asked(version, workload=load)):
        assert word.flag in flags


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_what_no_option_stands_for_is_read_all_the_same(name: str) -> None:
    assert table("tgi").variables[name].has(LAST)


def test_plain_settings() -> None:
    found = environment()
    assert {name: found[name] for name in VARIABLES if name in found} == {
        "MODEL_ID": f"/weights/hub/models--Qwen--Qwen3-32B/snapshots/{COMMIT}",
        "HUGGINGFACE_HUB_CACHE": "/weights/hub",
        "PORT": "8080",
        "PROMETHEUS_PORT": "9000",
        "NUM_SHARD": "2",
        "USAGE_STATS": "off",
        "GRACEFUL_TERMINATION_TIMEOUT": "45",
        "MAX_TOTAL_TOKENS": "16384",
        "MAX_INPUT_TOKENS": "16383",
        "MAX_CONCURRENT_REQUESTS": "128",
    }
    # The Rust libraries look for HF_HOME/hub, the Python ones for HF_HUB_CACHE: both are the weights volume.
    assert f"{found['HF_HOME']}/hub" == found["HF_HUB_CACHE"] == "/weights/hub"
    assert found["HF_HUB_OFFLINE"] == "1"


def test_busy_settings() -> None:
    found = environment(workload=BUSY)
    wanted = {
        "MAX_BATCH_PREFILL_TOKENS": "4096", "MAX_BATCH_SIZE": "64", "CUDA_GRAPHS": "0", "PREFIX_CACHING": "0",
        "QUANTIZE": "fp8", "KV_CACHE_DTYPE": "fp8_e4m3fn", "MAX_CONCURRENT_REQUESTS": "400",
    }  # fmt: skip
    assert wanted.items() <= found.items()


@pytest.mark.parametrize(
    ("version", "name", "there"),
    [
        ("3.2.3", "PROMETHEUS_PORT", False),
        ("3.3.0", "PROMETHEUS_PORT", True),
        ("3.1.1", "GRACEFUL_TERMINATION_TIMEOUT", False),
        ("3.2.3", "GRACEFUL_TERMINATION_TIMEOUT", True),
    ],
)
def test_settings_come_with_their_release(version: str, name: str, there: bool) -> None:
    assert (name in environment(version)) is there


def test_a_model_without_a_commit_is_found_by_name() -> None:
    assert environment(revision=None)["MODEL_ID"] == "Qwen/Qwen3-32B"
    assert environment(model="/weights/tiny", revision=None)["MODEL_ID"] == "/weights/tiny"


def test_the_address_is_not_the_containers_name() -> None:
    assert [word.text for word in ENGINE.args(asked())] == ["--hostname=0.0.0.0"]


def test_old_gpus_compute_in_float16() -> None:
    assert environment(compute_capability=(7, 5))["DTYPE"] == "float16"
    assert "DTYPE" not in environment()


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("3.3.7", {"split": Split(tensor=1, pipeline=2)}, "pipeline"),
    ("3.3.7", {"split": Split(tensor=1, data=2)}, "data parallelism"),
    ("3.3.7", {"split": Split(tensor=2, expert=True)}, "experts"),
    ("3.3.7", {"split": Split(tensor=16)}, "one machine"),
    ("3.3.7", {"split": Split(tensor=8), "kv_heads": 4}, "4 key/value heads"),
    ("3.3.7", {"gguf": True}, "GGUF"),
    ("3.3.7", {"architecture": "Qwen3ForCausalLM"}, "archived"),
    ("3.3.7", {"architecture": "DeepseekV3ForCausalLM"}, "DeepseekV3"),
    ("3.0.0", {"architecture": "Gemma3ForCausalLM"}, "Gemma3"),
    ("2.9", {}, "no TGI"),
    ("3.3.7", {"checkpoint_quantization": "modelopt"}, "modelopt"),
    ("2.4.0", {"checkpoint_quantization": "compressed-tensors"}, "compressed-tensors"),
    ("3.3.7", {"checkpoint_quantization": "awq", "workload": Workload(quantization="fp8")}, "awq"),
    ("3.3.7", {"workload": Workload(quantization="w4a16")}, "unquantized"),
    ("3.3.7", {"compute_capability": (7, 0)}, "7.0"),
    ("3.3.7", {"compute_capability": (7, 5), "workload": Workload(kv_dtype="fp8")}, "fp8 KV"),
    ("3.3.7", {"platform": "rocm", "compute_capability": None, "gfx": "gfx950"}, "gfx950"),
    ("3.3.7", {"platform": "cpu", "compute_capability": None}, "NVIDIA and AMD"),
    ("3.3.7", {"mig": True}, "MIG"),
    ("3.3.7", {"workload": Workload(max_loras=1)}, "adapters"),
    ("3.3.7", {"workload": Workload(speculative_tokens=1)}, "MTP"),
    ("3.3.7", {"workload": Workload(kv_dtype="bf16")}, "bf16"),
    ("3.3.7", {"workload": Workload(block_size=32)}, "by itself"),
    ("3.3.7", {"workload": Workload(language_model_only=True)}, "towers"),
    ("3.3.7", {"workload": Workload(gpu_memory_utilization=0.95)}, "tenth"),
    ("3.3.7", {"workload": Workload(concurrency=300, max_num_seqs=256)}, "256"),
    ("3.3.7", {"workload": Workload(max_model_len=65536)}, "40,960"),
]


@pytest.mark.parametrize(("version", "changes", "word"), REFUSED)
def test_refusals_say_why(version: str, changes: dict[str, Any], word: str) -> None:
    objection = ENGINE.object_to(asked(version, **changes))
    assert objection is not None
    assert word in objection.because


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        ("3.3.7", {}),
        ("2.4", {}),
        ("3.3.7", {"checkpoint_quantization": "gptq", "scheme": "gptq-int4"}),
        (
            "3.3.7",
            {"workload": BUSY, "compute_capability": (8, 9)} | {"workload": Workload(quantization="fp8")},
        ),
        ("3.3.7", {"platform": "rocm", "compute_capability": None, "gfx": "gfx942"}),
        ("3.3.7", {"split": Split(tensor=8), "kv_heads": 8}),
        ("3.3.7", {"split": Split(tensor=8), "kv_heads": 1}),
        ("3.3.7", {"mig": True, "split": Split()}),
    ],
)
def test_what_runs_is_not_refused(version: str, changes: dict[str, Any]) -> None:
    assert ENGINE.object_to(asked(version, **changes)) is None


def test_models_are_ones_that_selfhost_knows_or_gpts_of_old() -> None:
    unknown = set(ARCHITECTURES) - set(architectures())
    assert len(unknown) < len(ARCHITECTURES) / 3, unknown


def test_images() -> None:
    def reference(version: str, platform: Any = "cuda") -> str:
        return ENGINE.image(parse_engine(f"tgi@{version}"), platform).reference

    assert parse_engine("tgi").text == "3.3.7"
    assert reference("3.3.7") == "ghcr.io/huggingface/text-generation-inference:3.3.7"
    assert reference("2.4.0", "rocm").endswith(":2.4.0-rocm")
    for version, platform in (("2.9.0", "cuda"), ("3.3.7", "cpu")):
        with pytest.raises(UnsupportedError):
            reference(version, platform)
    for unknown in ("2.3", "3.3.8", "3.4"):
        with pytest.raises(UsageError):
            parse_engine(f"tgi@{unknown}")
    assert RELEASES[0] == FIRST
    assert RELEASES[-1] == LAST


def test_it_is_said_aloud_that_it_is_archived_and_starts_as_root() -> None:
    archived, root = ENGINE.notes(asked())
    assert "archived" in archived
    assert "3082" in root
    assert len(ENGINE.notes(asked("3.1.0"))) == 1
    assert ENGINE.needs_root(parse_engine("tgi@3.1.0")) is None
    assert ENGINE.needs_root(parse_engine("tgi@3.1.1")) is not None


def test_dashboards_have_its_names() -> None:
    roles = engine_metrics("tgi", ENGINE.metrics(parse_engine("tgi")))
    assert roles.waiting == "tgi_queue_size"
    assert roles.kv_usage is None
    assert roles.by == "pod"


class TestSizing:
    CARD = find_gpu("h100-sxm-80gb")

    def test_nine_tenths_of_the_gpu_hold_everything(self) -> None:
        spec, load = bundled("meta-llama/Llama-3.1-8B-Instruct"), Workload(max_model_len=8192)
        found = budget_for(spec, load, Split(), self.CARD, parse_engine("tgi"))
        assert found.context_bytes is not None
        assert found.utilization + found.context_bytes / self.CARD.memory_bytes == pytest.approx(
            0.9, abs=0.002
        )
        assert environment(memory=found)["CUDA_MEMORY_FRACTION"] == "1.0"
        assert found.certainty_bytes is not None
        assert found.certainty_bytes > self.CARD.memory_bytes // 20

    def test_a_smaller_share_is_a_smaller_fraction(self) -> None:
        spec = bundled("meta-llama/Llama-3.1-8B-Instruct")
        load = Workload(max_model_len=8192, gpu_memory_utilization=0.45)
        found = budget_for(spec, load, Split(), self.CARD, parse_engine("tgi"))
        assert float(environment(memory=found)["CUDA_MEMORY_FRACTION"]) == pytest.approx(0.5, abs=0.002)

    @pytest.mark.parametrize(
        ("version", "gpu", "tokens"),
        [
            ("3.3.7", "h100-sxm-80gb", 4096),
            ("2.4.0", "h100-sxm-80gb", 16384),
            ("3.3.7", "mi300x-192gb", 16384),
        ],
    )
    def test_a_step_holds_a_whole_prompt_where_it_is_not_read_in_pieces(
        self, version: str, gpu: str, tokens: int
    ) -> None:
        spec, load = bundled("meta-llama/Llama-3.1-8B-Instruct"), Workload(max_model_len=16384)
        found = budget_for(spec, load, Split(), find_gpu(gpu), parse_engine(f"tgi@{version}"))
        assert found.max_num_batched_tokens == tokens


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    printed = capsys.readouterr()
    assert ended.value.code == code, printed.err
    return printed.out + printed.err


def test_a_plan_becomes_a_deployment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "out"
    model = "meta-llama/Llama-3.1-8B-Instruct"
    shown = run(
        capsys, "plan", model, "--engine", "tgi@3.3.7", "--gpu", "l40s", "--context", "8k", "-o", str(plan)
    )
    assert "archived" in shown
    made = json.loads(plan.read_text())
    assert "vLLM" in made["provenance"]["sizing"]
    assert any("archived" in note for note in made["engine"]["notes"])
    run(capsys, "render", str(plan), "-o", str(out), "--api-key-secret", "keys")
    text = (out / "50-deployment.yaml").read_text()
    assert "archived" in text.partition("apiVersion")[0]
    documents = [yaml.safe_load(path.read_text()) for path in sorted(out.glob("[0-9]*.yaml"))]
    (deployment,) = [one for one in documents if one["kind"] == "Deployment"]
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one for one in server["env"]}
    assert len(variables) == len(server["env"])
    assert variables["API_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "keys"
    assert variables["PORT"]["value"] == "8080"
    assert server["securityContext"]["runAsUser"] == 0  # the image of 3.3.7 starts as nobody else
    assert server["securityContext"]["runAsNonRoot"] is False
    assert server["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "enforce=baseline" in (out / "README.md").read_text()


def test_an_older_release_runs_as_anybody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "out"
    run(
        capsys, "plan", "meta-llama/Llama-3.1-8B-Instruct", "--engine", "tgi@3.1.0", "--gpu", "l40s",
        "--context", "8k", "-o", str(plan),
    )  # fmt: skip
    run(capsys, "render", str(plan), "-o", str(out))
    documents = [yaml.safe_load(path.read_text()) for path in sorted(out.glob("[0-9]*.yaml"))]
    (deployment,) = [one for one in documents if one["kind"] == "Deployment"]
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    assert server["securityContext"]["runAsNonRoot"] is True
    assert "enforce=restricted" in (out / "README.md").read_text()


def test_a_model_it_never_had_is_refused_with_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "plan", "Qwen/Qwen3-32B", "--engine", "tgi", code=1)
    assert "Qwen3ForCausalLM" in shown
    assert "--engine vllm" in shown


@pytest.mark.parametrize("revision", [None, COMMIT])
@pytest.mark.parametrize("uri", ["pvc:weights#models/llama", "nfs://files.example/models#llama"])
def test_weights_come_from_elsewhere(revision: str | None, uri: str) -> None:
    spec = replace(bundled("meta-llama/Llama-3.1-8B-Instruct"), revision=revision)
    card, load, release = find_gpu("l40s-48gb"), Workload(max_model_len=8192), parse_engine("tgi")
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
    options = RenderOptions(weights=WeightOptions(uri=uri))
    (text,) = (
        one.text for one in render(made, options=options).documents if one.name == "50-deployment.yaml"
    )
    (server,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    (model,) = (one["value"] for one in server["env"] if one["name"] == "MODEL_ID")
    assert model == f"/weights/{uri.partition('#')[2]}"
