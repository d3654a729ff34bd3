"""GGUF files and plans of them, for engines that read nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfhost.catalog.gpus import Gpu, find_gpu
from selfhost.engines import Serving, parse_engine
from selfhost.hub import load_model
from selfhost.model.parse import parse_model
from selfhost.model.spec import ModelSpec
from selfhost.plan import Plan, make_plan
from selfhost.sizing import budget_for
from selfhost.workload import Split, Workload
from tests.plans import CREATED
from tests.test_hub import write_gguf


def gguf_spec(folder: Path, name: str = "small.gguf") -> ModelSpec:
    """A model of one layer in a file of 230 KB."""
    return parse_model(load_model(str(write_gguf(folder / name))))


def gguf_plan(spec: ModelSpec, engine: str, *, gpu: str | Gpu = "l4-24gb", **changes: Any) -> Plan:
    """A plan of a GGUF file; `changes` go to make_plan."""
    card = find_gpu(gpu) if isinstance(gpu, str) else gpu
    load = changes.pop("workload", None) or Workload(max_model_len=2000, concurrency=4)
    split = changes.pop("split", None) or Split()
    release = parse_engine(engine)
    bill = budget_for(spec, load, split, card, release)
    return make_plan(
        spec=spec,
        engine=release,
        gpu=card,
        split=split,
        workload=load,
        budget=bill,
        created=CREATED,
        **changes,
    )


def gguf_serving(engine: str, **changes: Any) -> Serving:
    """What an engine is asked to start, of a file on the weights volume."""
    values: dict[str, Any] = {
        "version": parse_engine(engine),
        "model": "/weights/small.gguf",
        "served_name": "small",
        "gguf": True,
        "checkpoint_quantization": "gguf-q4_k_m",
        "max_context_tokens": 4096,
        "compute_capability": (8, 9),
        "split": Split(),
        "workload": Workload(max_model_len=2000, concurrency=4),
        "port": 8080,
        "drain_seconds": 0,
        "load_seconds": 1800,
        "home_dir": "/home/selfhost",
        "hub_cache_dir": "/weights/hub",
    }
    return Serving(**(values | changes))
