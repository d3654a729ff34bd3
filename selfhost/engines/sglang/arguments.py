"""The argument vector and the environment of one SGLang server."""

from __future__ import annotations

import math

from selfhost.engines import Argument, EngineVersion, EnvVar, Serving
from selfhost.engines._environment import python_env
from selfhost.engines.sglang.tables import BY_NAME, CACHES, FORMATS, KV_DTYPES, PLAIN
from selfhost.errors import UnsupportedError
from selfhost.memory import MemoryBudget


def static_ratio(memory: MemoryBudget) -> float | None:
    """--mem-fraction-static that gives the KV cache of a bill, in thousandths, rounded down; None without a GPU.

    SGLang's pool is `free at start x ratio - weights`, so the ratio is (weights + cache) / free at start.
    """
    total, available = memory.gpu_memory_bytes, memory.kv_available_bytes
    if total is None or available is None:
        return None
    free = total - (memory.context_bytes or 0)
    held = memory.weights_bytes + memory.buffers_bytes + memory.extra_bytes
    return math.floor(1000 * (held + max(0, available)) / free) / 1000


def arguments(serving: Serving, quiet: tuple[str, ...]) -> tuple[Argument, ...]:
    """Every word after the module's name.

    Args:
        serving: what is asked for.
        quiet: paths whose requests are not to fill the log.

    Raises:
        UnsupportedError: a setting that the release does not have.
    """
    words = _Words(serving.version)
    because = "what to load" if serving.revision is None else "loaded from the local Hub cache"
    words.add("--model-path", serving.model, because)
    words.add("--served-model-name", serving.served_name, "the name clients send as `model`")
    if serving.revision is not None:
        words.add("--revision", serving.revision, "the commit that was planned, whatever main becomes")
    words.add(
        "--host", "0.0.0.0", "by itself it listens on 127.0.0.1, which nobody outside the container reaches"
    )
    words.add("--port", serving.port, "above 1024, as the process is not root")
    _split(serving, words)
    _memory(serving, words)
    _weights(serving, words)
    _features(serving, words)
    words.add("--enable-metrics", None, "off by default")
    words.add(
        "--watchdog-timeout",
        serving.load_seconds,
        "the load-time budget; compiling kernels holds a first batch up",
    )
    if BY_NAME["--uvicorn-access-log-exclude-prefixes"].known_to(serving.version):
        words.add("--uvicorn-access-log-exclude-prefixes", None, "probes and scrapes would fill the log")
        for path in quiet:
            words.bare(path, "one of these paths")
    return tuple(words.found)


def _split(serving: Serving, words: _Words) -> None:
    split = serving.split
    ranks = split.tensor * (split.data if _inside(serving) else 1)
    words.add("--tp-size", ranks, "GPUs that share each layer")
    if split.pipeline > 1:
        words.add("--pp-size", split.pipeline, "stages of layers")
    if split.data > 1 and not _inside(serving):
        words.add("--dp-size", split.data, f"whole copies of the model, on {split.tensor} GPUs each")
    elif split.data > 1:
        because = f"copies of the attention layers inside the {ranks} GPUs, which share the experts"
        if BY_NAME["--attn-dp-size"].known_to(serving.version):
            words.add("--attn-dp-size", split.data, because)
        else:
            words.add("--dp-size", split.data, because)
            words.add(
                "--enable-dp-attention", None, "without it --dp-size would mean copies of the whole model"
            )
    if split.expert:
        words.add("--ep-size", ranks, "whole experts on each rank")


def _inside(serving: Serving) -> bool:
    """Whether data parallelism copies attention alone, within the GPUs that share the experts."""
    return serving.split.data > 1 and serving.experts


def _memory(serving: Serving, words: _Words) -> None:
    load, copies = serving.workload, serving.split.data if _inside(serving) else 1
    if load.max_model_len is not None:
        words.add("--context-length", load.max_model_len, "longest request, prompt and answer, in tokens")
    share = static_ratio(serving.memory) if serving.memory is not None else load.gpu_memory_utilization
    if share is not None:
        because = "weights and KV cache of the plan, of the memory that is free at start"
        words.add("--mem-fraction-static", share, because)
    if load.max_num_seqs is not None:
        words.add("--max-running-requests", load.max_num_seqs * copies, "requests that run at once")
    if load.max_num_batched_tokens is not None:
        because = "tokens of one prefill step"
        if copies > 1:
            because += f", which is divided between {copies} copies of the attention layers"
        words.add("--chunked-prefill-size", load.max_num_batched_tokens * copies, because)
    if load.kv_dtype in KV_DTYPES:
        words.add("--kv-cache-dtype", KV_DTYPES[load.kv_dtype][0], "element type of the KV cache")
    if load.block_size is not None:
        words.add("--page-size", load.block_size, "tokens of one KV-cache page")
    if load.enforce_eager:
        words.add("--disable-cuda-graph", None, "no CUDA graphs")
    if not load.prefix_caching:
        words.add("--disable-radix-cache", None, "as asked")


def _weights(serving: Serving, words: _Words) -> None:
    wanted, capability = serving.workload.quantization, serving.compute_capability
    if wanted in PLAIN:
        words.add("--dtype", PLAIN[wanted], "as asked")
    elif serving.model_dtype == "bfloat16" and capability is not None and capability < (8, 0):
        words.add("--dtype", "float16", "bfloat16 needs compute capability 8.0")
    if wanted is None or wanted in (*PLAIN, serving.checkpoint_quantization, serving.scheme):
        return
    method = FORMATS[wanted].online if wanted in FORMATS else None
    if method is not None:
        words.add("--quantization", method, f"the checkpoint is quantized to {wanted} while it loads")
    if method == "bitsandbytes":
        words.add("--load-format", "bitsandbytes", "the loader that quantizes while it reads")


def _features(serving: Serving, words: _Words) -> None:
    load = serving.workload
    if load.max_loras > 0:
        words.add("--enable-lora", None, "adapters are held beside the weights")
        words.add("--max-loras-per-batch", load.max_loras, "adapters on the GPU at once")
        words.add("--max-lora-rank", load.max_lora_rank, "largest rank of an adapter")
        words.add("--lora-target-modules", "all", "needed where no adapter is loaded at start")
    if load.speculative_tokens > 0:
        drafted = load.speculative_tokens
        words.add("--speculative-algorithm", "EAGLE", "drafts by the model's own MTP layers")
        words.add("--speculative-num-steps", drafted, "tokens drafted one after the other")
        words.add("--speculative-eagle-topk", 1, "one draft, no tree")
        words.add("--speculative-num-draft-tokens", drafted + 1, "the drafted tokens and the one before")
    if load.language_model_only:
        words.add("--language-model-only", None, "vision and audio towers are left out")


def environment(serving: Serving) -> tuple[EnvVar, ...]:
    """Variables that the release reads, without secrets."""
    cache = f"{serving.home_dir}/.cache"
    own = tuple(
        EnvVar(name=name, value=f"{cache}/{folder}", because=because)
        for name, since, folder, because in CACHES
        if serving.version.number >= since
    )
    return (*python_env(serving), *own)


class _Words:
    """Collects arguments and refuses the flags that a release does not have."""

    def __init__(self, version: EngineVersion) -> None:
        self.version = version
        self.found: list[Argument] = []

    def bare(self, value: str, because: str) -> None:
        self.found.append(Argument(value=value, because=because))

    def add(self, flag: str, value: str | float | None, because: str) -> None:
        known = BY_NAME[flag]
        if not known.known_to(self.version):
            since = ".".join(map(str, known.since))
            raise UnsupportedError(f"{self.version} has no {flag}.", hint=f"Take sglang@{since} or newer.")
        self.found.append(Argument(flag=flag, value=None if value is None else str(value), because=because))
