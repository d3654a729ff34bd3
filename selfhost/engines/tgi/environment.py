"""TGI's settings, by the variables of its launcher."""

from __future__ import annotations

import math

from selfhost.engines import EnvVar, Serving
from selfhost.engines._environment import python_env
from selfhost.engines.tgi.tables import KV_DTYPES, ONLINE, PLAIN, VARIABLES, WIGGLE_ROOM

PROMETHEUS_PORT = 9000
_CONCURRENT = 128  # the launcher's default


def environment(serving: Serving) -> tuple[EnvVar, ...]:
    """Every variable that the release's launcher and libraries read, without secrets."""
    rows = [*_model(serving), *_server(serving), *_limits(serving), *_weights(serving)]
    own = tuple(
        EnvVar(name=name, value=str(value), because=because)
        for name, value, because in rows
        if serving.version.number >= VARIABLES[name]
    )
    # The launcher and the router look for HF_HOME/hub: their Rust library knows no HF_HUB_CACHE (hf-hub 0.4 lib.rs).
    parent, _, last = serving.hub_cache_dir.rpartition("/")
    return (*own, *python_env(serving, hub_home=parent if last == "hub" else None))


_Row = tuple[str, str | int | float, str]


def model_path(serving: Serving) -> str:
    """Where the weights lie: the commit's folder in the Hub cache where a commit is known.

    The launcher reads config.json by itself, and by the Hub's name it would ask the network for it.
    """
    if serving.revision is None:
        return serving.model
    folder = f"models--{serving.model.replace('/', '--')}"
    return f"{serving.hub_cache_dir}/{folder}/snapshots/{serving.revision}"


def _model(serving: Serving) -> list[_Row]:
    because = "what to load"
    if serving.revision is not None:
        because = "the commit that was planned, as a directory: by name its launcher would ask the network"
    return [
        ("MODEL_ID", model_path(serving), because),
        (
            "HUGGINGFACE_HUB_CACHE",
            serving.hub_cache_dir,
            "weights volume, read-only here; the image says /data",
        ),
    ]


def _server(serving: Serving) -> list[_Row]:
    return [
        ("PORT", serving.port, "the image says 80, which only root may take"),
        ("PROMETHEUS_PORT", PROMETHEUS_PORT, "a second listener; /metrics of the main port has the same"),
        ("NUM_SHARD", serving.split.tensor, "GPUs that share each layer; else every GPU it sees"),
        ("USAGE_STATS", "off", "on by default"),
        (
            "GRACEFUL_TERMINATION_TIMEOUT",
            serving.drain_seconds,
            "seconds that running requests have after SIGTERM",
        ),
    ]


def _limits(serving: Serving) -> list[_Row]:
    load = serving.workload
    rows: list[_Row] = []
    if load.max_model_len is not None:
        rows.append(("MAX_TOTAL_TOKENS", load.max_model_len, "longest request, prompt and answer, in tokens"))
        rows.append(("MAX_INPUT_TOKENS", load.max_model_len - 1, "longest prompt: it has to leave one token"))
    if load.max_num_batched_tokens is not None:
        rows.append(("MAX_BATCH_PREFILL_TOKENS", load.max_num_batched_tokens, "tokens of one prefill step"))
    if load.max_num_seqs is not None:
        rows.append(("MAX_BATCH_SIZE", load.max_num_seqs, "requests of one step"))
    waiting = max(_CONCURRENT, 2 * load.concurrency)
    rows.append(("MAX_CONCURRENT_REQUESTS", waiting, "running and waiting; more are answered 429"))
    share = memory_fraction(serving)
    if share is not None:
        because = f"share of the GPU, of which TGI itself leaves {1 - WIGGLE_ROOM:.0%} alone"
        rows.append(("CUDA_MEMORY_FRACTION", share, because))
    if load.enforce_eager:
        rows.append(("CUDA_GRAPHS", 0, "no CUDA graphs"))
    if not load.prefix_caching:
        rows.append(("PREFIX_CACHING", 0, "as asked"))
    return rows


def memory_fraction(serving: Serving) -> float | None:
    """CUDA_MEMORY_FRACTION in thousandths: the plan's share with the CUDA context, of which TGI takes its part."""
    memory = serving.memory
    if memory is None or memory.gpu_memory_bytes is None:
        return None
    share = memory.utilization + (memory.context_bytes or 0) / memory.gpu_memory_bytes
    return min(1.0, math.ceil(1000 * share / WIGGLE_ROOM) / 1000)


def _weights(serving: Serving) -> list[_Row]:
    wanted, capability = serving.workload.quantization, serving.compute_capability
    rows: list[_Row] = []
    if wanted in PLAIN:
        rows.append(("DTYPE", PLAIN[wanted], "as asked"))
    elif (
        serving.model_dtype == "bfloat16"
        and capability is not None
        and capability < (8, 0)
        and wanted is None
    ):
        rows.append(("DTYPE", "float16", "bfloat16 needs compute capability 8.0"))
    if wanted in ONLINE and wanted not in (serving.checkpoint_quantization, serving.scheme):
        rows.append(
            ("QUANTIZE", ONLINE[wanted].name, f"the checkpoint is quantized to {wanted} while it loads")
        )
    if serving.workload.kv_dtype in KV_DTYPES:
        rows.append(("KV_CACHE_DTYPE", KV_DTYPES[serving.workload.kv_dtype], "element type of the KV cache"))
    return rows
