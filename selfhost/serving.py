"""What an engine is asked to start, from model, GPU and load: the value whose objections decide what can be placed.

Apart from selfhost/plan so that sizing one model does not load the types of a plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfhost.engines import EngineVersion, Serving, get_engine
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.memory import MemoryBudget
    from selfhost.model.spec import ModelSpec

HOME_PATH = "/home/selfhost"
WEIGHTS_PATH = "/weights"
CACHE_PATH = f"{WEIGHTS_PATH}/hub"


def serving_for(
    spec: ModelSpec,
    engine: EngineVersion,
    gpu: Gpu | None,
    split: Split,
    workload: Workload,
    *,
    load_seconds: int = 0,
    drain_seconds: int = 0,
    memory: MemoryBudget | None = None,
) -> Serving:
    """What the engine is asked to start.

    Args:
        spec: the model.
        engine: the release.
        gpu: the kind of GPU, None where none is chosen yet.
        split: how the model is divided.
        workload: the load.
        load_seconds: the load-time budget; objections do not depend on it.
        drain_seconds: how long running requests may take after SIGTERM; objections do not depend on it.
        memory: what the fullest GPU holds, None where it is not sized; objections do not depend on it.
    """
    hub = spec.origin in ("hub", "catalogue")
    # vLLM reads a GGUF model from the file itself (0.23 transformers_utils/gguf_utils.py check_gguf_file).
    suffix = ".gguf" if spec.origin == "gguf" else ""
    return Serving(
        version=engine,
        model=spec.id if hub else f"{WEIGHTS_PATH}/{_file_name(spec.id)}{suffix}",
        revision=spec.revision if hub else None,
        served_name=spec.id if hub else _file_name(spec.id),
        model_dtype=spec.dtype,
        checkpoint_quantization=spec.quantization,
        scheme=spec.scheme.id if spec.scheme else None,
        experts=spec.facts.experts_per_token > 0,
        kv_heads=spec.facts.kv_heads,
        gguf=spec.origin == "gguf",
        max_context_tokens=spec.facts.max_context_tokens,
        platform=gpu.platform if gpu else "cuda",
        compute_capability=gpu.compute_capability if gpu else None,
        device_bytes=gpu.memory_bytes if gpu else None,
        mig=gpu is not None and gpu.mig_profile is not None,
        drafts=bool(spec.draft),
        architecture=spec.architecture,
        gfx=gpu.gfx if gpu else None,
        memory=memory,
        split=split,
        workload=workload,
        port=get_engine(engine.engine).port,
        drain_seconds=drain_seconds,
        load_seconds=load_seconds,
        home_dir=HOME_PATH,
        hub_cache_dir=CACHE_PATH,
    )


def _file_name(model_id: str) -> str:
    """Last part of a path, which stays below the volume whatever it is called."""
    name = model_id.rstrip("/").rpartition("/")[2]
    return name if name not in ("", ".", "..") else "model"
