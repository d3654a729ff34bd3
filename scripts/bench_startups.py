"""selfhost's available KV memory against what real servers printed at start, from their settings alone.

The rows are tests/data/startup_logs.json. Weights come from the configuration that stands for the model; where the
repository ships them quantized and the configuration is its base model's, `assumed_quantization` says which format.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from bench_truth import BENCH, raw_model

from selfhost.catalog import models as catalogue
from selfhost.catalog.gpus import find_gpu, with_memory
from selfhost.errors import SelfhostError
from selfhost.memory import budget
from selfhost.model.parse import parse_model
from selfhost.model.spec import ModelSpec
from selfhost.reserves import parse_version
from selfhost.units import GIB
from selfhost.workload import Split, Workload

LOGS = Path(__file__).resolve().parents[1] / "tests" / "data" / "startup_logs.json"
MEDIAN_LIMIT, MEAN_LIMIT = 0.025, 0.05
FAILED = ("out of memory after KV cache", "no room for KV cache", "context too long")

# A published repository's name says its format, the engine's own line only the loader (`compressed-tensors`).
# First match counts. Sources: the quantization_config that these publishers ship (read 2026-11).
_BY_NAME = (
    ("fp8-dynamic", "fp8"),  # llm-compressor FP8_DYNAMIC: a scale per output channel
    ("fp8", "fp8-block"),  # Qwen's and Zhipu's own: 128 x 128 blocks
    ("nvfp4", "nvfp4"),
    ("w8a8", "int8"),
    ("awq-int4", "w4a16"),  # AWQ saved as compressed-tensors
    ("awq-4bit", "w4a16"),
    ("awq", "awq-int4"),
    ("gptq", "gptq-int4"),
    ("autoround", "autoround-int4"),
    ("bnb-4bit", "bnb-nf4"),
    ("int4", "w4a16"),
)
# `--quantization fp8` over 16-bit weights quantizes while loading, a scale per tensor (vLLM quantization/fp8.py).
_WHILE_LOADING = {"fp8": "fp8-tensor", "bitsandbytes": "bnb-nf4"}


def assumed_quantization(row: Mapping[str, Any], spec: ModelSpec) -> str | None:
    """`--quant` that turns the configuration into what the server loaded; None where it declares its own format."""
    if spec.scheme is not None:
        return None
    name = str(row["model"]).lower()
    for word, scheme in _BY_NAME:
        if word in name:
            return scheme
    return _WHILE_LOADING.get(str(row.get("quantization")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start: what was printed and what selfhost says of the same settings."""

    row: Mapping[str, Any]
    quantization: str | None = None
    weights_gib: float | None = None
    available_gib: float | None = None
    fits: bool | None = None
    refusal: str | None = None

    @property
    def error_ratio(self) -> float | None:
        """Of the printed KV memory."""
        if self.available_gib is None:
            return None
        printed = float(self.row["available_kv_gib"])
        return (self.available_gib - printed) / abs(printed)

    @property
    def comparable(self) -> bool:
        """Selfhost takes every setting of the start: no separate draft model, no layers divided by hand."""
        return "draft_model" not in self.row and "layer_partition" not in self.row

    @property
    def wrongly_fits(self) -> bool:
        """It ran out of memory and selfhost says that it fits."""
        return self.row["outcome"] in FAILED and self.fits is True


@cache
def _spec(config: str, pooling: bool, dtype: str | None) -> ModelSpec:
    own = BENCH / "configs" / f"{config.lower()}.json"
    name = config.replace("--", "/", 1)
    raw = raw_model(name if catalogue.find_id(name) else str(own.relative_to(BENCH)))
    spec = parse_model(replace(raw, pooling=pooling))
    return spec if dtype is None else replace(spec, dtype=dtype)


def start(row: Mapping[str, Any]) -> Start:
    """Size one row as `selfhost size` would, from its settings alone."""
    dtype = row.get("dtype")
    try:
        spec = _spec(
            row["config"], bool(row.get("pooling")), dtype if dtype in ("float32", "float16") else None
        )
        quantization = assumed_quantization(row, spec)
        workload = Workload(
            max_model_len=row["max_model_len"],
            quantization=quantization,
            kv_dtype=_kv_dtype(row.get("kv_dtype")),
            gpu_memory_utilization=row["utilization"],
            max_num_batched_tokens=row.get("max_num_batched_tokens"),
            max_num_seqs=row.get("max_num_seqs"),
            enforce_eager=row["enforce_eager"],
            prefix_caching=row.get("prefix_caching") is not False,
            speculative_tokens=row.get("speculative_tokens", 0),
            language_model_only=bool(row.get("language_model_only")),
        )
        gpu = find_gpu(row["gpu"])
        if "gpu_memory_gib" in row:  # --gpu-memory
            gpu = with_memory(gpu, int(row["gpu_memory_gib"] * GIB))
        split = Split(tensor=row["tensor"], pipeline=row["pipeline"])
        found = budget(spec, workload, split, gpu, parse_version(row["version"]))
    except SelfhostError as error:
        return Start(row=row, refusal=str(error))
    assert found.kv_available_bytes is not None
    assert found.activation_bytes is not None
    return Start(
        row=row,
        quantization=quantization,
        weights_gib=(found.weights_bytes + found.buffers_bytes + found.extra_bytes) / GIB,
        available_gib=found.kv_available_bytes / GIB,
        fits=found.fits,
    )


def _kv_dtype(text: str | None) -> str:
    return "fp8" if text is not None and text.startswith("fp8") else "auto"


def starts() -> tuple[Start, ...]:
    """Every row whose model has a configuration and whose KV memory was printed."""
    rows = json.loads(LOGS.read_text(encoding="utf-8"))["cases"]
    return tuple(start(row) for row in rows if "config" in row and "available_kv_gib" in row)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTotals:
    """Errors over the comparable rows, relative to the printed KV memory, and the starts that failed."""

    starts: int
    left_out: int
    refused: int
    median_ratio: float
    mean_ratio: float
    mean_of_all_ratio: float
    within_five_percent: int
    wrongly_fit: int
    failed: int

    @property
    def passed(self) -> bool:
        """The limits of the benchmark hold."""
        return self.median_ratio <= MEDIAN_LIMIT and self.mean_ratio <= MEAN_LIMIT and not self.wrongly_fit


def start_totals(every: Iterable[Start]) -> StartTotals:
    """Median and mean absolute error, and how many of the failed starts selfhost would have let pass."""
    kept = tuple(every)
    rows = [item for item in kept if item.comparable]
    errors = [abs(item.error_ratio) for item in rows if item.error_ratio is not None]
    return StartTotals(
        starts=len(rows),
        left_out=len(kept) - len(rows),
        refused=len(rows) - len(errors),
        median_ratio=statistics.median(errors),
        mean_ratio=statistics.mean(errors),
        mean_of_all_ratio=statistics.mean(abs(i.error_ratio) for i in kept if i.error_ratio is not None),
        within_five_percent=sum(error <= 0.05 for error in errors),
        wrongly_fit=sum(item.wrongly_fits for item in rows),
        failed=sum(item.row["outcome"] in FAILED for item in rows),
    )


def summary(found: StartTotals) -> str:
    """The totals in a few sentences."""
    refused = f" Refused: {found.refused}, whose format does not divide the model." if found.refused else ""
    return (
        f"{found.starts} starts: median error {100 * found.median_ratio:.2f} %, mean {100 * found.mean_ratio:.1f} %, "
        f"{found.within_five_percent} within 5 %. {found.failed} of them found too little memory, of which selfhost "
        f"would have let {found.wrongly_fit or 'none'} through.{refused} Not counted: {found.left_out} with a separate "
        "draft model or layers divided by hand, for which selfhost has no option; with them the mean is "
        f"{100 * found.mean_of_all_ratio:.1f} %."
    )


START_HEADS = ("model", "GPUs, vLLM", "weights", "logged", "KV", "logged", "error")


def start_row(item: Start) -> tuple[str, ...]:
    """One row of the table; figures in GiB."""
    row = item.row

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    error = item.error_ratio
    count = row["tensor"] * row["pipeline"]
    return (
        str(row["model"]).partition(" (")[0].rpartition("/")[2],
        f"{f'{count}× ' if count > 1 else ''}{row['gpu']}, {row['version']}",
        shown(item.weights_gib),
        shown(row.get("weights_gib")),
        shown(item.available_gib),
        shown(row["available_kv_gib"]),
        "refused" if error is None else f"{100 * error:+.1f} %",
    )


def worst(every: Iterable[Start], count: int) -> tuple[Start, ...]:
    """The rows with the largest errors, worst first."""
    known = [item for item in every if item.error_ratio is not None]
    return tuple(sorted(known, key=lambda item: -abs(item.error_ratio or 0.0))[:count])
