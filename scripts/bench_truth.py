"""What vLLM's own code allocates, as bench/ keeps it: reading it, and bringing new answers of the oracle into it.

`python scripts/bench_truth.py ALLOCATIONS.json CONFIG_ROOT DATE` writes bench/vllm_allocations.json from full answers
(one object per model, TP and KV dtype) and bench/configs/ from the configurations that are not bundled with selfhost.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_catalogue import compact, compact_quantization

from selfhost.catalog import models as catalogue
from selfhost.model.raw import RawModel

BENCH = Path(__file__).resolve().parents[1] / "bench"
ALLOCATIONS = BENCH / "vllm_allocations.json"
ABOUT = (
    "What vLLM 0.32.0's own model classes and KV-cache code allocate per tensor-parallel rank: each model built on "
    "torch's meta device as rank 0, the platform answering as an H100 (cc 9.0) or a B200 (cc 10.0), then asked for "
    "its KV-cache capacity. A case is [tp, expert parallel, kv dtype, cc, parameter bytes, buffer bytes, KV bytes "
    "per token of the layers that keep every token, answers]; an answer per query is [blocks, tokens, max "
    "concurrency], null where vLLM refused. Queries are [GiB available, max_model_len]."
)
# Layers that keep every token of a sequence; the others keep a window or a state.
_BOUNDED = ("SlidingWindow", "Chunked", "Encoder", "Mamba")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """vLLM's capacity for `available_bytes` of KV memory at `max_model_len` tokens."""

    available_bytes: int
    max_model_len: int
    blocks: int
    tokens: int
    max_concurrency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model on one rank, as vLLM allocates it. `config` is a bundled model's id or a directory."""

    model: str
    architecture: str
    config: str
    tensor: int
    expert: bool
    kv_dtype: str
    compute_capability: str
    weights_bytes: int
    buffers_bytes: int
    kv_bytes_per_token: float
    answers: tuple[Answer, ...]


def bundled_cases(path: Path = ALLOCATIONS) -> tuple[Case, ...]:
    """The cases in bench/."""
    document = json.loads(path.read_text(encoding="utf-8"))
    found = []
    for name, model in document["models"].items():
        for tensor, expert, kv_dtype, cc, weights, buffers, per_token, answers in model["cases"]:
            found.append(
                Case(
                    model=name,
                    architecture=model["architecture"],
                    config=model["config"],
                    tensor=tensor,
                    expert=bool(expert),
                    kv_dtype=kv_dtype,
                    compute_capability=cc,
                    weights_bytes=weights,
                    buffers_bytes=buffers,
                    kv_bytes_per_token=per_token,
                    answers=tuple(_answers(document["queries"], answers)),
                )
            )
    return tuple(found)


def _answers(queries: Iterable[list[int]], answers: Iterable[list[float] | None]) -> Iterator[Answer]:
    for (gib, length), answer in zip(queries, answers, strict=True):
        if answer is not None:
            blocks, tokens, concurrency = answer
            yield Answer(
                available_bytes=gib << 30,
                max_model_len=length,
                blocks=int(blocks),
                tokens=int(tokens),
                max_concurrency=concurrency,
            )


def oracle_cases(path: Path) -> tuple[Case, ...]:
    """Cases from the oracle's full output: a JSON list, or one object a line, each with its `config_dir`."""
    text = path.read_text(encoding="utf-8")
    rows = (
        json.loads(text)
        if text.lstrip().startswith("[")
        else [json.loads(line) for line in text.splitlines() if line]
    )
    return tuple(_from_oracle(row, row["config_dir"]) for row in rows if "weight_bytes" in row)


def _from_oracle(row: Mapping[str, Any], config: str) -> Case:
    return Case(
        model=row["model"],
        architecture=row["arch"],
        config=config,
        tensor=row["tp"],
        expert=row["ep"],
        kv_dtype=row["kv"],
        compute_capability=row["cc"],
        weights_bytes=row["weight_bytes"],
        buffers_bytes=row["buffer_bytes"],
        kv_bytes_per_token=_per_token(row["kv_layers"]),
        answers=tuple(
            Answer(
                available_bytes=item["gib"] << 30,
                max_model_len=item["max_model_len"],
                blocks=item["num_blocks"],
                tokens=item["tokens"],
                max_concurrency=item["max_concurrency"],
            )
            for item in row["capacity"]
            if item.get("tokens") is not None
        ),
    )


def _per_token(layers: Iterable[Mapping[str, Any]]) -> float:
    """KV bytes per token of the layers that keep every token."""
    return float(
        sum(
            layer["count"] * layer["bytes_per_token"]
            for layer in layers
            if "bytes_per_token" in layer
            and "sliding_window" not in layer
            and "attention_chunk_size" not in layer
            and not any(word in layer["spec"] for word in _BOUNDED)
        )
    )


def raw_model(config: str) -> RawModel:
    """A case's configuration as the parser takes it; the oracle builds the class it names, hence no pooling form.

    Args:
        config: id of a bundled model, a file of bench/configs/, or a directory in Hugging Face layout.
    """
    if config.endswith(".json"):
        document = json.loads((BENCH / config).read_text(encoding="utf-8"))
        return _raw(config, document["config"], document["quantization"])
    folder = Path(config)
    if folder.is_dir():
        beside = folder / "hf_quant_config.json"
        quantization = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else None
        return _raw(config, json.loads((folder / "config.json").read_text(encoding="utf-8")), quantization)
    bundled = catalogue.load(config)
    return _raw(bundled.id, bundled.config, bundled.quantization)


def _raw(name: str, config: Mapping[str, object], quantization: Mapping[str, object] | None) -> RawModel:
    return RawModel(
        reference=name,
        id=name,
        revision=None,
        origin="directory",
        source=name,
        config=config,
        quantization=quantization,
    )


def _known(model: str, config: Mapping[str, object]) -> str | None:
    """The bundled model that has this configuration."""
    bundled = catalogue.find(model.replace("--", "/", 1))
    return bundled.id if bundled is not None and bundled.config == config else None


def _row(case: Case) -> list[object]:
    answers = {(a.available_bytes >> 30, a.max_model_len): a for a in case.answers}
    return [
        case.tensor, int(case.expert), case.kv_dtype, case.compute_capability, case.weights_bytes, case.buffers_bytes,
        case.kv_bytes_per_token,
        [[a.blocks, a.tokens, float(f"{a.max_concurrency:.10g}")] if (a := answers.get(q)) else None for q in QUERIES],
    ]  # fmt: skip


QUERIES = ((20, 8192), (20, 32768), (40, 8192), (40, 32768))


def write(rows: Iterable[Mapping[str, Any]], configs: Path, *, obtained: str) -> None:
    """Write bench/vllm_allocations.json and the configurations that selfhost does not bundle."""
    models: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row["model"]
        if name not in models:
            folder = configs / name
            config = compact(json.loads((folder / "config.json").read_text(encoding="utf-8")))
            reference = _known(name, config)
            if reference is None:
                reference = f"configs/{name.lower()}.json"
                beside = folder / "hf_quant_config.json"
                kept = None
                if beside.exists():
                    kept = compact_quantization(json.loads(beside.read_text(encoding="utf-8")))
                (BENCH / reference).write_text(
                    _dumps({"config": config, "quantization": kept}) + "\n", encoding="utf-8"
                )
            models[name] = {"architecture": row["arch"], "config": reference, "cases": []}
        models[name]["cases"].append(_row(_from_oracle(row, "")))
    head = {"about": ABOUT, "engine": "vllm 0.32.0", "obtained": obtained, "queries": QUERIES}
    lines = [f"{json.dumps(key)}: {_dumps(value)}" for key, value in head.items()]
    body = ",\n".join(f"{json.dumps(name)}: {_dumps(models[name])}" for name in sorted(models, key=str.lower))
    ALLOCATIONS.write_text("{\n" + ",\n".join(lines) + ',\n"models": {\n' + body + "\n}}\n", encoding="utf-8")


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]), obtained=sys.argv[3])
