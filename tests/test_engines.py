"""Engines: versions, flags and their gates, refusals, environment."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from selfhost.catalog.accelerators import PLATFORMS
from selfhost.catalog.gpus import find_gpu
from selfhost.engines import (
    Argument,
    Image,
    Serving,
    engine_names,
    get_engine,
    parse_engine,
    parse_image,
)
from selfhost.engines.vllm.tables import FORMATS
from selfhost.errors import UnsupportedError, UsageError
from selfhost.quantization import SCHEMES
from selfhost.serving import serving_for
from selfhost.workload import Split, Workload
from tests.plans import spec


def serving(engine: str = "vllm", **changes: Any) -> Serving:
    values: dict[str, Any] = {
        "version": parse_engine(engine),
        "model": "Qwen/Qwen3-32B",
        "revision": "9216db5781bf21249d130ec9da846c4624c16137",
        "served_name": "Qwen/Qwen3-32B",
        "max_context_tokens": 40960,
        "compute_capability": (9, 0),
        "split": Split(tensor=2),
        "workload": Workload(max_model_len=16384, concurrency=16),
        "port": 8000,
        "drain_seconds": 45,
        "load_seconds": 2010,
        "home_dir": "/home/selfhost",
        "hub_cache_dir": "/weights/hub",
    }
    return Serving(**(values | changes))


def test_every_quantization_scheme_says_where_vllm_runs_it() -> None:
    assert set(SCHEMES) == set(FORMATS)


def texts(asked: Serving) -> list[str]:
    return [argument.text for argument in get_engine(asked.version.engine).args(asked)]


@pytest.mark.parametrize("name", engine_names())
class TestEveryEngine:
    def test_says_what_it_is(self, name: str) -> None:
        engine = get_engine(name)
        assert engine.name == name
        assert engine.port >= 1024
        assert engine.health_path.startswith("/")
        assert engine.metrics_path.startswith("/")

    def test_default_version_is_one_it_knows(self, name: str) -> None:
        version = parse_engine(name)
        assert version == parse_engine(f"{name}@{get_engine(name).default_version}")

    def test_emits_only_flags_it_lists(self, name: str) -> None:
        engine = get_engine(name)
        listed = {flag.name for flag in engine.flags if flag.known_to(parse_engine(name))}
        busy = Workload(
            max_model_len=1024, kv_dtype="fp8", gpu_memory_utilization=0.8, max_num_batched_tokens=2048,
            max_num_seqs=8, kv_cache_memory_bytes=1 << 30, enforce_eager=True, prefix_caching=False, block_size=32,
            max_loras=2, speculative_tokens=1, language_model_only=True, quantization="fp8",
        )  # fmt: skip
        split = Split(tensor=2, pipeline=2, data=2, expert=True)
        asked = serving(name, workload=busy, split=split)
        emitted = {argument.flag for argument in engine.args(asked)} - {None}
        assert emitted <= listed

    def test_every_argument_and_variable_has_a_reason(self, name: str) -> None:
        engine, asked = get_engine(name), serving(name)
        assert all(argument.because for argument in engine.args(asked))
        assert all(variable.because for variable in engine.env(asked))

    def test_variables_are_named_once(self, name: str) -> None:
        names = [variable.name for variable in get_engine(name).env(serving(name))]
        assert len(names) == len(set(names))

    def test_images_are_pinned(self, name: str) -> None:
        published = 0
        for platform in PLATFORMS:
            with suppress(UnsupportedError):
                image = get_engine(name).image(parse_engine(name), platform)
                assert image.tag not in ("", "latest")
                published += 1
        assert published


def test_versions() -> None:
    assert parse_engine("vllm").text == "0.32.0"
    assert parse_engine("vllm@0.19").text == "0.19.0"
    assert parse_engine("vllm@v0.11.1").number == (0, 11, 1)
    assert parse_engine("vllm@0.6.3.post1").text == "0.6.3.post1"
    assert str(parse_engine("vllm@0.19")) == "vllm@0.19.0"


@pytest.mark.parametrize(
    "text",
    [
        "vllm@",
        "vllm@0.5",
        "vllm@0.99",
        "vllm@1.0",
        "vllm@latest",
        "vllm@0.19; rm -rf /",
        "tgi9",
        "",
        "@",
        "../vllm",
    ],
)
def test_unknown_engines_and_versions_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_engine(text)


def test_image_reference() -> None:
    image = Image(repository="vllm/vllm-openai", tag="v0.32.0")
    assert image.reference == "vllm/vllm-openai:v0.32.0"
    assert replace(image, digest="sha256:" + "0" * 64).reference.endswith("@sha256:" + "0" * 64)


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("vllm/vllm-openai:v0.32.0", "vllm/vllm-openai", "v0.32.0"),
        ("mirror.example:5000/ai/vllm:v0.32.0-cu129", "mirror.example:5000/ai/vllm", "v0.32.0-cu129"),
    ],
)
def test_images_are_read(text: str, repository: str, tag: str) -> None:
    digest = "sha256:" + "ab" * 32
    assert parse_image(text) == Image(repository=repository, tag=tag)
    assert parse_image(f"{text}@{digest}") == Image(repository=repository, tag=tag, digest=digest)


@pytest.mark.parametrize(
    "text", ["", "vllm", "vllm/vllm-openai", "x:latest", "x:v1@sha256:1", "X:v1", "x:v1\ny", "x: y"]
)
def test_images_that_are_not_pinned(text: str) -> None:
    with pytest.raises(UsageError):
        parse_image(text)


def test_argument_text() -> None:
    assert Argument(value="model", because="b").text == "model"
    assert Argument(flag="--port", value="8000", because="b").text == "--port=8000"
    assert Argument(flag="--enforce-eager", because="b").text == "--enforce-eager"


def test_plain_arguments() -> None:
    assert texts(serving()) == [
        "Qwen/Qwen3-32B",
        "--served-model-name=Qwen/Qwen3-32B",
        "--revision=9216db5781bf21249d130ec9da846c4624c16137",
        "--port=8000",
        "--tensor-parallel-size=2",
        "--max-model-len=16384",
        "--shutdown-timeout=45",
        "--disable-access-log-for-endpoints=/health,/metrics",
    ]


def test_a_path_has_no_revision() -> None:
    assert not any(
        text.startswith("--revision") for text in texts(serving(model="/weights/tiny", revision=None))
    )


@pytest.mark.parametrize(
    ("engine", "flag", "there"),
    [
        ("vllm@0.17", "--shutdown-timeout", False),
        ("vllm@0.18", "--shutdown-timeout", True),
        ("vllm@0.15", "--disable-access-log-for-endpoints", False),
        ("vllm@0.16", "--disable-access-log-for-endpoints", True),
    ],
)
def test_comforts_appear_with_their_release(engine: str, flag: str, there: bool) -> None:
    assert any(text.startswith(flag) for text in texts(serving(engine))) is there


@pytest.mark.parametrize(
    ("engine", "workload"),
    [
        ("vllm@0.10", Workload(kv_cache_memory_bytes=1 << 30)),
        ("vllm@0.11", Workload(speculative_tokens=1)),
        ("vllm@0.16", Workload(language_model_only=True)),
        ("vllm@0.31", Workload(kv_dtype="fp4")),
    ],
)
def test_a_setting_the_release_lacks_is_refused(engine: str, workload: Workload) -> None:
    with pytest.raises(UnsupportedError) as error:
        texts(serving(engine, workload=workload))
    assert engine in error.value.message
    assert error.value.hint


def test_speculative_decoding_is_json() -> None:
    (text,) = [t for t in texts(serving(workload=Workload(speculative_tokens=2))) if t.startswith("--spec")]
    assert json.loads(text.partition("=")[2]) == {"method": "mtp", "num_speculative_tokens": 2}


def test_prefix_caching_follows_the_default_of_the_release() -> None:
    assert "--no-enable-prefix-caching" in texts(serving(workload=Workload(prefix_caching=False)))
    assert "--enable-prefix-caching" in texts(serving("vllm@0.6"))
    assert not any("prefix" in text for text in texts(serving()))


def test_quantizing_while_loading() -> None:
    assert "--quantization=fp8_per_tensor" in texts(serving(workload=Workload(quantization="fp8")))
    assert "--quantization=fp8" in texts(serving("vllm@0.19", workload=Workload(quantization="fp8")))
    asked = serving("vllm@0.27", workload=Workload(quantization="bnb-nf4"))
    assert {"--quantization=bitsandbytes", "--load-format=bitsandbytes"} <= set(texts(asked))
    stored = serving(checkpoint_quantization="fp8", workload=Workload(quantization="fp8"))
    assert not any(text.startswith("--quantization") for text in texts(stored))


def test_float16_where_bfloat16_has_no_units() -> None:
    assert "--dtype=float16" in texts(serving(compute_capability=(7, 5)))
    assert "--dtype=float16" not in texts(serving(compute_capability=(8, 0)))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("vllm@0.32", {"gguf": True}, "GGUF"),
    ("vllm@0.32", {"workload": Workload(quantization="bnb-nf4")}, "bitsandbytes"),
    ("vllm@0.32", {"workload": Workload(quantization="awq-int4")}, "unquantized"),
    ("vllm@0.32", {"workload": Workload(quantization="int8")}, "unquantized"),
    ("vllm@0.19", {"workload": Workload(quantization="fp8-block")}, "unquantized"),
    (
        "vllm@0.32",
        {"checkpoint_quantization": "awq-int4", "workload": Workload(quantization="fp8")},
        "awq-int4",
    ),
    ("vllm@0.32", {"checkpoint_quantization": "fp8", "workload": Workload(quantization="bf16")}, "fp8"),
    ("vllm@0.32", {"compute_capability": (7, 0)}, "7.0"),
    ("vllm@0.31", {"compute_capability": (7, 5), "checkpoint_quantization": "fp8"}, "8.0"),
    ("vllm@0.32", {"compute_capability": (7, 5), "checkpoint_quantization": "mxfp4"}, "8.0"),
    ("vllm@0.32", {"compute_capability": (7, 5), "workload": Workload(kv_dtype="fp8")}, "fp8 KV"),
    ("vllm@0.32", {"compute_capability": (9, 0), "workload": Workload(kv_dtype="fp4")}, "nvfp4 KV"),
    (
        "vllm@0.32",
        {"platform": "rocm", "compute_capability": None, "checkpoint_quantization": "nvfp4"},
        "NVIDIA",
    ),
    ("vllm@0.32", {"workload": Workload(max_loras=1, max_lora_rank=17)}, "rank"),
    ("vllm@0.32", {"mig": True}, "2 MIG instances"),
    ("vllm@0.32", {"drafts": False, "workload": Workload(speculative_tokens=1)}, "MTP"),
    ("vllm@0.32", {"workload": Workload(max_num_seqs=256, max_num_batched_tokens=255)}, "256 requests"),
    ("vllm@0.32", {"workload": Workload(max_model_len=65536)}, "40,960"),
    ("vllm@0.32", {"workload": Workload(concurrency=300, max_num_seqs=256)}, "256"),
]


@pytest.mark.parametrize(("engine", "changes", "word"), REFUSED)
def test_refusals_say_why(engine: str, changes: dict[str, Any], word: str) -> None:
    objection = get_engine("vllm").object_to(serving(engine, **changes))
    assert objection is not None
    assert word in objection.because


@pytest.mark.parametrize(
    ("engine", "changes"),
    [
        ("vllm@0.32", {}),
        ("vllm@0.23", {"gguf": True}),
        ("vllm@0.27", {"workload": Workload(quantization="bnb-nf4")}),
        ("vllm@0.32", {"compute_capability": (7, 5), "checkpoint_quantization": "fp8"}),
        ("vllm@0.19", {"compute_capability": (7, 0)}),
        ("vllm@0.32", {"compute_capability": (10, 0), "workload": Workload(kv_dtype="fp4")}),
        ("vllm@0.32", {"platform": "rocm", "compute_capability": None, "checkpoint_quantization": "fp8"}),
        ("vllm@0.32", {"workload": Workload(quantization="bf16")}),
        ("vllm@0.32", {"mig": True, "split": Split()}),
        ("vllm@0.32", {"workload": Workload(max_num_seqs=256, max_num_batched_tokens=256)}),
    ],
)
def test_what_runs_is_not_refused(engine: str, changes: dict[str, Any]) -> None:
    assert get_engine("vllm").object_to(serving(engine, **changes)) is None


def test_the_server_asks_nobody() -> None:
    environment = {variable.name: variable.value for variable in get_engine("vllm").env(serving())}
    assert environment["HF_HUB_OFFLINE"] == environment["TRANSFORMERS_OFFLINE"] == "1"
    assert environment["VLLM_NO_USAGE_STATS"] == "1"
    assert environment["VLLM_ENGINE_READY_TIMEOUT_S"] == "2010"
    written = [value for name, value in environment.items() if name.endswith(("HOME", "DIR", "ROOT"))]
    assert all(value.startswith("/home/selfhost") for value in written)


def test_ready_timeout_is_known_from_its_release() -> None:
    names = {variable.name for variable in get_engine("vllm").env(serving("vllm@0.11.0"))}
    assert "VLLM_ENGINE_READY_TIMEOUT_S" not in names


def test_metrics_are_the_living_ones() -> None:
    metrics = get_engine("vllm").metrics(parse_engine("vllm"))
    assert "vllm:kv_cache_usage_perc" in metrics
    assert not any("gpu_cache" in name or "swapped" in name for name in metrics)


def test_builds_between_releases_are_sized_but_have_no_image() -> None:
    version = parse_engine("vllm@v0.26.1rc1.dev156+g0eec856cc.d20260731")
    assert version.number == (0, 26, 1)
    assert not version.published
    with pytest.raises(UnsupportedError, match="no image"):
        get_engine("vllm").image(version, "cuda")
    assert parse_engine("vllm@0.26.1").published


@pytest.mark.parametrize(
    ("engine", "model", "split", "load", "because"),
    [
        ("vllm@0.6.3", "Qwen/Qwen3-0.6B", Split(), Workload(), "has no class for Qwen3ForCausalLM"),
        (
            "vllm@0.10.2",
            "deepseek-ai/DeepSeek-V3.2",
            Split(),
            Workload(),
            "has no class for DeepseekV32ForCausalLM",
        ),
        ("triton@25.12", "google/gemma-4-E2B-it", Split(), Workload(), "has no class for Gemma4"),
        ("vllm", "Qwen/Qwen3-0.6B", Split(tensor=2, expert=True), Workload(), "no experts to spread"),
        ("vllm", "BAAI/bge-reranker-v2-m3", Split(pipeline=2), Workload(), "pipeline stages"),
        ("vllm", "moonshotai/Kimi-K2.6", Split(tensor=8), Workload(max_loras=1), "loads no adapters"),
    ],
)
def test_what_the_engine_would_refuse_at_its_start_is_refused_before(
    engine: str, model: str, split: Split, load: Workload, because: str
) -> None:
    release = parse_engine(engine)
    objection = get_engine(release.engine).object_to(
        serving_for(spec(model), release, find_gpu("h200-sxm-141gb"), split, load)
    )
    assert objection is not None
    assert because in objection.because
    assert objection.hint
