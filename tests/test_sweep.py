"""The sweep gives the numbers of `memory.budget`, for models of every attention kind."""

from __future__ import annotations

import pytest

from selfhost.catalog.gpus import find_gpu
from selfhost.errors import UnsupportedError
from selfhost.hub import load_model
from selfhost.memory import budget
from selfhost.model.parse import parse_model
from selfhost.sweep import sweep
from selfhost.workload import Split, Workload

MODELS = (
    "Qwen/Qwen3-32B",
    "openai/gpt-oss-20b",
    "deepseek-ai/DeepSeek-V3",
    "google/gemma-3-27b-it",
    "Qwen/Qwen3-30B-A3B",
)
GPUS = ("h100-sxm-80gb", "b200", "l40s", "a100-sxm-80gb", "mi300x")
FORMATS = (None, "fp8", "awq-int4", "mxfp4")


@pytest.mark.parametrize("model", MODELS)
def test_rows_equal_budgets(model: str) -> None:
    spec = parse_model(load_model(f"catalog:{model}"))
    cards = tuple(find_gpu(name) for name in GPUS)
    rows = list(sweep(spec, cards, tensors=(1, 4), quantizations=FORMATS))
    seen = {(row.gpu_id, row.tensor, row.quantization): row for row in rows}
    assert len(seen) == len(rows)
    for card in cards:
        for tensor in (1, 4):
            for name in FORMATS:
                row = seen.get((card.id, tensor, name))
                try:
                    full = budget(spec, Workload(quantization=name), Split(tensor=tensor), card)
                except UnsupportedError:
                    assert row is None
                    continue
                assert row is not None
                assert row.kv_available_bytes == full.kv_available_bytes, (card.id, tensor, name)
                assert row.kv_tokens == full.kv_tokens
                if full.fits:
                    assert row.fits
