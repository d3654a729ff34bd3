"""What vLLM keeps beside weights and KV cache, against the figures that 103 real servers printed at start.

Weights are the logs' own here, so that only this part is judged.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfhost.catalog.gpus import Gpu, find_gpu, gpus
from selfhost.errors import UsageError
from selfhost.model.spec import ImageEncoder
from selfhost.reserves import (
    EngineSettings,
    ModelShape,
    Reserves,
    capture_sizes,
    defaults,
    parse_version,
    reserves,
    uses_model_runner_v2,
    version_warning,
)
from selfhost.units import GIB, MIB

DATA = Path(__file__).parent / "data" / "startup_logs.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One start: the row as read, and what selfhost makes of its settings."""

    row: dict[str, Any]
    shape: ModelShape
    settings: EngineSettings
    kept: Reserves

    @property
    def available_gib(self) -> float:
        return self.kept.kv_available_bytes(int(self.row["weights_gib"] * GIB)) / GIB

    @property
    def error_gib(self) -> float:
        return float(self.available_gib - self.row["available_kv_gib"])

    @property
    def error_ratio(self) -> float:
        return self.error_gib / abs(float(self.row["available_kv_gib"]))

    @property
    def short_gib(self) -> float:
        weights = int(self.row["weights_gib"] * GIB)
        return self.kept.short_bytes(weights, self.kept.kv_available_bytes(weights)) / GIB


@cache
def cases() -> tuple[Case, ...]:
    """The rows with a known model, weights and KV memory."""
    document = json.loads(DATA.read_text(encoding="utf-8"))
    shapes: dict[str, ModelShape] = {}
    for name, fields in document["shapes"].items():
        vision = fields.pop("vision", None)
        shapes[name] = ModelShape(**fields, vision=ImageEncoder(**vision) if vision else None)
    found = []
    for row in document["cases"]:
        if "shape" not in row or "weights_gib" not in row or "available_kv_gib" not in row:
            continue
        gpu, version, shape = find_gpu(row["gpu"]), parse_version(row["version"]), shapes[row["shape"]]
        default = defaults(version, gpu, max_model_len=row["max_model_len"])
        settings = EngineSettings(
            version=version,
            gpu=gpu,
            tensor=row["tensor"],
            pipeline=row["pipeline"],
            utilization=row["utilization"],
            max_num_batched_tokens=row.get("max_num_batched_tokens") or default.max_num_batched_tokens,
            max_num_seqs=row.get("max_num_seqs") or default.max_num_seqs,
            max_model_len=row["max_model_len"],
            enforce_eager=row["enforce_eager"],
            speculative_tokens=row.get("speculative_tokens", 0),
            last_stage=row["pipeline"] == 1,  # the logs' figure is the first stage's
        )
        found.append(Case(row=row, shape=shape, settings=settings, kept=reserves(shape, settings)))
    return tuple(found)


def _ids() -> list[str]:
    return [
        f"{case.row['id']}-{case.row['model'].rpartition('/')[2][:24]}-{case.row['gpu']}" for case in cases()
    ]


def test_available_memory_of_all_starts() -> None:
    errors = sorted(abs(case.error_ratio) for case in cases())
    assert len(errors) >= 90
    assert statistics.median(errors) <= 0.003
    assert statistics.mean(errors) <= 0.03
    assert errors[int(0.8 * len(errors))] <= 0.012


def test_activation_peaks_that_were_printed() -> None:
    """Torch's peak is computed from shapes alone: no constant is fitted to these."""
    errors = [
        abs(case.kept.activation.bytes / GIB - case.row["activation_gib"])
        for case in cases()
        if "activation_gib" in case.row and case.row["id"] not in (138, 152, 222, 301, 302)
    ]  # 138 prints another quantity; 152 is a rank without sampler; 222 has settings that its page does not tell; 301
    # and 302 ran without FlashInfer, so that sampling, two float32 tensors of [1024, vocabulary], is their peak
    assert len(errors) >= 48
    assert statistics.median(errors) <= 0.01
    assert max(errors) <= 0.13


@pytest.mark.parametrize("case", cases(), ids=_ids())
def test_a_server_that_ran_out_of_memory_does_not_fit(case: Case) -> None:
    """Both ways of failing for want of memory: nothing left for the cache, or nothing left after it."""
    if case.row["outcome"] == "out of memory after KV cache":
        assert case.short_gib > 0
    elif case.row["outcome"] == "no room for KV cache":
        assert case.available_gib < 0
    elif case.row["outcome"] == "started":
        assert case.available_gib > 0
        assert case.short_gib == 0


def test_certainty_holds_four_of_five_and_is_not_idle() -> None:
    inside = [abs(case.error_gib) * GIB <= case.kept.certainty_bytes for case in cases()]
    assert sum(inside) >= 0.9 * len(inside)
    modern = [
        case for case in cases() if case.settings.gpu.id == "h100-sxm-80gb" and case.settings.tensor == 1
    ]
    assert statistics.median(case.kept.certainty_bytes for case in modern) < 0.5 * GIB


def _constant_group(case: Case) -> str:
    """The constant outside torch that a case uses: what cross-validation must estimate without it."""
    gpu, version = case.settings.gpu, case.settings.version
    if gpu.vendor == "AMD" or gpu.id.startswith("gb10"):
        return gpu.vendor if gpu.vendor == "AMD" else "unified"
    era = sum(version >= since for since in ((0, 8, 0), (0, 11, 0), (0, 18, 0)))
    large = gpu.compute_capability in ((8, 0), (9, 0))
    return f"{'large' if large else 'other'} {era}" + (" several" if case.settings.tensor > 1 else "")


def cross_validated_errors(key: str) -> list[float]:
    """Relative errors when each model (`model`) or page (`url`) is predicted with constants fitted on the others.

    Per group of `_constant_group` the memory outside torch is refitted as the median of what the other cases leave;
    a group without other cases falls back to the figure of an ordinary GPU, 130 MiB.
    """

    def part(case: Case) -> str:
        value = str(case.row[key])
        return "/".join(value.split("/")[:5]) if key == "url" else value

    errors = []
    for case in cases():
        others = [
            other.error_gib * GIB + other.kept.non_torch.bytes
            for other in cases()
            if _constant_group(other) == _constant_group(case) and part(other) != part(case)
        ]
        fitted = statistics.median(others) if others else 130 * MIB
        available = case.available_gib + (case.kept.non_torch.bytes - fitted) / GIB
        errors.append((available - case.row["available_kv_gib"]) / abs(case.row["available_kv_gib"]))
    return errors


@pytest.mark.parametrize(("key", "median", "mean"), [("model", 0.01, 0.035), ("url", 0.02, 0.05)])
def test_cross_validation(key: str, median: float, mean: float) -> None:
    errors = [abs(error) for error in cross_validated_errors(key)]
    assert statistics.median(errors) <= median
    assert statistics.mean(errors) <= mean


LLAMA = ModelShape(
    architecture="LlamaForCausalLM", hidden_size=4096, num_layers=32, query_width=4096, kv_width=1024,
    intermediate_size=14336, vocab_size=128256,
)  # fmt: skip


def _settings(gpu: Gpu, **changes: Any) -> EngineSettings:
    base = EngineSettings(
        version=(0, 32, 0), gpu=gpu, utilization=0.92, max_num_batched_tokens=8192, max_num_seqs=256,
        max_model_len=8192,
    )  # fmt: skip
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("version", "gpu", "usage", "expected"),
    [
        ("0.32.0", "b200-sxm-180gb", "server", (16384, 1024, 0.92)),
        ("0.25.1", "b200-sxm-180gb", "server", (8192, 1024, 0.92)),
        ("0.32.0", "h100-sxm-80gb", "server", (8192, 1024, 0.92)),
        ("0.19.0", "h100-sxm-80gb", "server", (8192, 1024, 0.90)),
        ("0.19.0", "h100-sxm-80gb", "offline", (16384, 1024, 0.90)),
        ("0.32.0", "a100-sxm-80gb", "server", (2048, 256, 0.92)),
        ("0.32.0", "l40s-48gb", "server", (2048, 256, 0.92)),
        ("0.20.2", "rtx-4090-24gb", "offline", (8192, 256, 0.90)),
        ("0.32.0", "mi300x-192gb", "server", (16384, 1024, 0.92)),
    ],
)
def test_defaults_of_each_version(
    version: str, gpu: str, usage: str, expected: tuple[int, int, float]
) -> None:
    found = defaults(parse_version(version), find_gpu(gpu), usage=usage)
    assert (found.max_num_batched_tokens, found.max_num_seqs, found.utilization) == expected


def test_graphs_leave_the_cache_from_021_on() -> None:
    gpu = find_gpu("h100-sxm-80gb")
    before = reserves(LLAMA, _settings(gpu, version=(0, 20, 0)))
    after = reserves(LLAMA, _settings(gpu, version=(0, 21, 0)))
    eager = reserves(LLAMA, _settings(gpu, version=(0, 21, 0), enforce_eager=True))
    assert before.graphs.bytes > 0
    assert not before.graphs_subtracted
    assert after.graphs in after.items
    assert eager.graphs.bytes == 0


def test_capture_sizes() -> None:
    gpu = find_gpu("h100-sxm-80gb")
    assert capture_sizes(LLAMA, _settings(gpu, max_num_seqs=1024)) == (512, 51, 51)
    assert capture_sizes(LLAMA, _settings(gpu, max_num_seqs=64)) == (128, 19, 11)
    oss = replace(LLAMA, architecture="GptOssForCausalLM")
    assert capture_sizes(oss, _settings(gpu, max_num_seqs=1024)) == (1024, 83, 83)


def test_model_runner_per_version() -> None:
    assert not uses_model_runner_v2(LLAMA, (0, 24, 0))
    assert uses_model_runner_v2(LLAMA, (0, 25, 0))
    assert not uses_model_runner_v2(replace(LLAMA, num_experts=8), (0, 25, 0))
    assert uses_model_runner_v2(replace(LLAMA, num_experts=8), (0, 32, 0))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v0.19.0", (0, 19, 0)),
        ("0.32", (0, 32, 0)),
        ("v0.26.1rc1.dev156+g0eec856cc.d20260731", (0, 26, 1)),
        ("v0.6.3.post1", (0, 6, 3)),
        ("v0.11.0+torch271", (0, 11, 0)),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, int, int]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    "text", ["", "latest", "0", "0.5.4", "1", "9" * 400, "0.32; rm", "v0..1", "{{0.32}}"]
)
def test_versions_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_version(text)


def test_newer_versions_are_assumed_with_a_warning() -> None:
    assert version_warning((0, 33, 0)) is None
    assert "0.40" in (version_warning((0, 40, 0)) or "")


@given(
    gpu=st.sampled_from(gpus()),
    minor=st.integers(6, 33),
    tokens=st.integers(1, 65536),
    rows=st.integers(1, 4096),
    tensor=st.sampled_from((1, 2, 4, 8, 16)),
    experts=st.sampled_from((0, 8, 256)),
)
def test_more_load_never_needs_less(
    gpu: Gpu, minor: int, tokens: int, rows: int, tensor: int, experts: int
) -> None:
    shape = replace(LLAMA, num_experts=experts, experts_per_token=2, moe_intermediate_size=2048)
    settings = _settings(
        gpu, version=(0, minor, 0), max_num_batched_tokens=tokens, max_num_seqs=rows, tensor=tensor
    )
    kept = reserves(shape, settings)
    more_tokens = reserves(shape, replace(settings, max_num_batched_tokens=2 * tokens))
    assert min(item.bytes for item in (*kept.items, kept.context, kept.warmup, kept.captured)) >= 0
    assert kept.activation.bytes > 0
    assert kept.certainty_bytes > 0
    assert more_tokens.activation.bytes >= kept.activation.bytes or rows >= tokens
    assert all(item.because and item.source for item in (*kept.items, kept.context, kept.warmup))
    less_share = reserves(shape, replace(settings, utilization=0.5))
    assert less_share.kv_available_bytes(GIB) < kept.kv_available_bytes(GIB)
