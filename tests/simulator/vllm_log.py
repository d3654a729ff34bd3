"""What vLLM 0.32.0 writes while it starts, line by line with the seconds before each, for a model and its GPUs.

Texts and places after vllm 0.32.0: entrypoints/launchers/api_server/entry.py, config/model.py, v1/engine/core.py,
model_executor/model_loader/weight_utils.py (bar of the shards), default_loader.py, v1/worker/gpu_model_runner.py,
gpu_worker.py, v1/core/kv_cache_utils.py, compilation/backends.py and monitor.py, logger.py (prefix). Read 2026-11-26.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A start of the engine: what it loads, how fast it is, and what it finds.

    Args:
        model: as `vllm serve` is given it.
        architecture: its class.
        tensor: GPUs that share each layer.
        max_model_len: tokens of the longest request.
        shards: files of weights.
        weights_gib: on each GPU.
        kv_gib: what is left for the KV cache on each GPU.
        kv_tokens: that fit there.
        import_seconds, shard_seconds, compile_seconds, graph_seconds: of the stages.
        graphs: how many are captured.
    """

    model: str
    architecture: str = "Qwen3ForCausalLM"
    tensor: int = 1
    max_model_len: int = 16384
    shards: int = 17
    weights_gib: float = 30.52
    kv_gib: float = 38.78
    kv_tokens: int = 317_648
    import_seconds: float = 12.0
    shard_seconds: float = 1.5
    compile_seconds: float = 38.0
    graph_seconds: float = 9.0
    graphs: int = 51


def line(process: str, file: str, number: int, text: str, level: str = "INFO", pid: int = 1) -> str:
    """One line of the engine's logger."""
    when = datetime.now(UTC).strftime("%m-%d %H:%M:%S")
    return f"({process} pid={pid}) {level} {when} [{file}:{number}] {text}"


def api(file: str, number: int, text: str, level: str = "INFO") -> str:
    """Of the process that takes requests."""
    return line("APIServer", file, number, text, level, 1)


def core(file: str, number: int, text: str, level: str = "INFO") -> str:
    """Of the engine's core."""
    return line("EngineCore", file, number, text, level, 184)


def worker(start: Start, file: str, number: int, text: str, level: str = "INFO", rank: int = 0) -> str:
    """Of a GPU's process; on one GPU that is the core."""
    if start.tensor == 1:
        return core(file, number, text, level)
    return line(f"Worker_TP{rank}", file, number, text, level, 262 + rank)


def opening(start: Start) -> Iterator[tuple[float, str]]:
    """Until weights are loaded."""
    arguments = (
        f"{{'model_tag': '{start.model}', 'model': '{start.model}', 'max_model_len': {start.max_model_len}}}"
    )
    yield start.import_seconds / 2, api("api_utils.py", 286, f"non-default args: {arguments}")
    yield 0.5, api("model.py", 733, f"Resolved architecture: {start.architecture}")
    yield 0.1, api("model.py", 2152, f"Using max model len {start.max_model_len}")
    config = f"model='{start.model}', tensor_parallel_size={start.tensor}"
    yield (
        start.import_seconds / 2,
        core("core.py", 134, f"Initializing a V1 LLM engine (v0.32.0) with config: {config}"),
    )
    yield 1.0, worker(start, "gpu_model_runner.py", 5040, f"Starting to load model {start.model}...")


def loading(start: Start) -> Iterator[tuple[float, str]]:
    """The shards, and what they take."""
    prefix = "(EngineCore pid=184) " if start.tensor == 1 else "(Worker_TP0 pid=262) "
    for index in range(start.shards + 1):
        share = 100 * index // start.shards
        took, rest = (round(start.shard_seconds * count) for count in (index, start.shards - index))
        rate = f"{start.shard_seconds:.2f}s/it" if index else "?it/s"
        times = f"[{took // 60:02}:{took % 60:02}<{rest // 60:02}:{rest % 60:02}, {rate}]"
        text = f"Loading safetensors checkpoint shards: {share:3}% Completed | {index}/{start.shards} {times}"
        yield start.shard_seconds if index else 0.0, f"{prefix}{text}"
    whole = start.shard_seconds * start.shards
    yield 0.1, worker(start, "default_loader.py", 502, f"Loading weights took {whole:.2f} seconds")
    text = f"Model loading took {start.weights_gib} GiB memory and {whole + 1.2:.6f} seconds"
    yield 1.2, worker(start, "gpu_model_runner.py", 5150, text)


def compiling(start: Start) -> Iterator[tuple[float, str]]:
    """torch.compile."""
    first, rest = start.compile_seconds * 0.2, start.compile_seconds * 0.8
    yield first, worker(start, "backends.py", 1167, f"Dynamo bytecode transform time: {first:.2f} s")
    text = f"Compiling a graph for compile range (1, 8192) takes {rest:.2f} s"
    yield rest, worker(start, "backends.py", 399, text)
    yield 0.2, worker(start, "monitor.py", 20, f"torch.compile took {start.compile_seconds:.2f} s in total")


def memory(start: Start) -> Iterator[tuple[float, str]]:
    """How much is left for the KV cache."""
    text = f"Available KV cache memory: {start.kv_gib:.2f} GiB"
    for rank in range(start.tensor):
        yield 0.1, worker(start, "gpu_worker.py", 760, text, rank=rank)
    times = start.kv_tokens / start.max_model_len
    text = f"GPU KV cache size: {start.kv_tokens:,} tokens, "
    text += f"Maximum concurrency for {start.max_model_len:,} tokens per request: {times:.2f}x"
    yield 0.2, core("kv_cache_utils.py", 2328, text)


def capturing(start: Start) -> Iterator[tuple[float, str]]:
    """CUDA graphs, then the server's own start."""
    prefix = "(EngineCore pid=184) " if start.tensor == 1 else "(Worker_TP0 pid=262) "
    each = start.graph_seconds / max(1, start.graphs)
    for index in range(0, start.graphs + 1, max(1, start.graphs // 5)):
        share = 100 * index // start.graphs
        bar = f"{share:3}%|{'█' * (share // 10):<10}| {index}/{start.graphs} [00:{round(each * index):02}<00:00]"
        yield (
            each * max(1, start.graphs // 5),
            f"{prefix}Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): {bar}",
        )
    text = f"Graph capturing finished in {start.graph_seconds:.0f} secs, took 0.34 GiB"
    yield 0.1, worker(start, "gpu_model_runner.py", 6582, text)
    whole = start.compile_seconds + start.graph_seconds + 4
    text = "init engine (profile, create kv cache, warmup model) took "
    text += f"{whole:.2f} s (compilation: {start.compile_seconds:.2f} s)"
    yield 0.1, core("core.py", 396, text)
    yield 0.5, api("entry.py", 135, "Supported tasks: ['generate']")
    yield 0.1, api("entry.py", 140, "Starting vLLM server on http://0.0.0.0:8000")
    yield 0.1, "(APIServer pid=1) INFO:     Started server process [1]"
    yield 0.1, "(APIServer pid=1) INFO:     Waiting for application startup."
    yield 0.1, "(APIServer pid=1) INFO:     Application startup complete."


def whole(start: Start) -> Iterator[tuple[float, str]]:
    """A start that goes well."""
    for stage in (opening, loading, compiling, memory, capturing):
        yield from stage(start)
