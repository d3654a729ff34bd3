"""What an engine's log says: which lines count, and how far the engine has come; pure.

Wording of vLLM 0.32.0 (v1/worker/gpu_worker.py, v1/core/kv_cache_utils.py, model_loader/weight_utils.py,
entrypoints/launchers), SGLang 0.5 (model_executor/model_runner.py, managers/scheduler.py), TGI 3.3 (launcher and
router), Triton 2.6x (model_lifecycle.cc), llama.cpp b6000 and later (tools/server), Ollama 0.11 and later, and of
`selfhost pull` (selfhost/pull/progress.py); read 2026-11-26. Formats of other releases count as nothing said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from selfhost.deploy.types import Progress, Stage
from selfhost.units import parse_size, size_text

Mark = Literal["error", "warning", "memory", "progress", "ready"]
PULL = "pull"  # selfhost's own downloads, beside the names of engines

# Who says it, level and time before the words: vLLM's, SGLang's, TGI's, Triton's.
_HEADS = re.compile(
    r"(?:\((?:APIServer|EngineCore|Worker|VllmWorker|ApiServer|DPCoordinator)[^)]{0,60}\)\s*"
    r"|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \[[^\]]{1,60}\]\s*"
    r"|\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^\]]{0,30}\]\s*"
    r"|\d{4}-\d\d-\d\dT[\d:.]+Z\s+(?:DEBUG|INFO|WARN|ERROR)\s+[\w:]+:(?: [\w./]+:\d+:)?\s*"
    r"|[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.]+:\d+\] \s*"
    r"|INFO:\s+|ERROR:\s+(?=\w)|WARNING:\s+)"
)
_LEVEL = re.compile(
    r"\b(WARNING|ERROR|CRITICAL) \d\d-\d\d |Z\s+(WARN|ERROR)\s|^([WEF])\d{4} |level=(WARN|ERROR)\b"
)
# An exception's own line below its traceback, and what ends a process without one.
_EXCEPTION = re.compile(r"^(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error(?:_\w+)?|Exception|OutOfMemory\w*)\b(?::|$)")
_FATAL = re.compile(
    r"EngineCore failed to start|Engine core initialization failed|out of memory|error: unrecognized arguments"
    r"|error: argument |^error: |nvidia-container-cli|Segmentation fault|Bus error|Traceback \(most recent"
    r"|^Value error, "  # below pydantic's "1 validation error for ModelConfig", which names no reason
    r"|failed to load model|Shard \d+ failed|Scheduler hit an exception|^Error: |NCCL error|\bXid\b|uncorrectable",
    re.IGNORECASE,
)
_MEMORY = re.compile(
    r"Model loading took|Available KV cache memory|KV cache size:|Maximum concurrency for|Free memory on device"
    r"|Graph capturing finished|CUDA graph (?:pool )?memory|Memory profiling takes|non-torch"
    r"|mem usage=|avail mem=|KV Cache is allocated|max_total_num_tokens=|Setting max batch total tokens"
    r"|(?:CUDA\d|ROCm\d|CPU\w*) +(?:model|KV|compute|output) buffer size|offloaded \d+/\d+ "
    r"layers|total VRAM|inference compute"
)
_BAR = r"(\d{1,6})/(\d{1,6}) \["


@dataclass(frozen=True, slots=True)
class _Step:
    """A line that says how far it is. `unit`: its first two groups count in it."""

    pattern: re.Pattern[str]
    stage: Stage
    detail: str
    unit: str = ""


def _step(pattern: str, stage: Stage, detail: str, unit: str = "") -> _Step:
    return _Step(re.compile(pattern), stage, detail, unit)


_TORCH = (
    _step(rf"Loading \w+ (?:checkpoint shards|using [\w ]+):.*?{_BAR}", "loading", "shards", "shards"),
    _step(rf"Multi-thread loading shards:.*?{_BAR}", "loading", "shards", "shards"),
)
_STEPS: Mapping[str, tuple[_Step, ...]] = {
    "vllm": (
        _step(r"Application startup complete|Starting vLLM (?:API )?server", "ready", "the server listens"),
        _step(r"init engine \(profile", "warming", "engine made"),
        _step(rf"Capturing CUDA graphs?.*?{_BAR}", "warming", "CUDA graphs", "graphs"),
        _step(r"Graph capturing finished", "warming", "CUDA graphs captured"),
        _step(r"KV cache size: ([\d,]+ tokens)", "warming", "KV cache of {0}"),
        _step(r"Available KV cache memory: ([\d.]+ GiB)", "warming", "{0} for the KV cache"),
        _step(
            r"torch\.compile(?: and initial profiling run)? took|torch\.compile takes", "warming", "compiled"
        ),
        _step(
            r"Dynamo bytecode transform time|Compiling a graph|torch_compile_cache",
            "compiling",
            "torch.compile",
        ),
        _step(r"Model loading took ([\d.]+ GiB)", "compiling", "{0} of weights loaded"),
        _step(r"Loading weights took", "loading", "weights read"),
        *_TORCH,
        _step(r"Starting to load model|Loading model from", "loading", "begins"),
        _step(r"Initializing a V1 LLM engine|vLLM API server version|non-default args", "starting", "engine"),
    ),
    "sglang": (
        _step(r"fired up and ready to roll|Uvicorn running on", "ready", "the server listens"),
        _step(rf"Capturing batches.*?{_BAR}", "warming", "CUDA graphs", "graphs"),
        _step(r"Capture (?:cuda|piecewise)[\w ]*graph (?:begin|end)", "warming", "CUDA graphs"),
        _step(
            r"max_total_num_tokens=(\d+)|KV Cache is allocated.*?#tokens: (\d+)",
            "warming",
            "KV cache of {0} tokens",
        ),
        _step(r"Memory pool end", "warming", "memory pool"),
        _step(r"Load weight end", "warming", "weights loaded"),
        *_TORCH,
        _step(r"Load weight begin", "loading", "begins"),
        _step(r"server_args=ServerArgs|Init torch distributed begin", "starting", "engine"),
    ),
    "tgi": (
        _step(r"text_generation_router.*(?:Connected|Serving)|: Connected$", "ready", "the server listens"),
        _step(r"Setting max batch total tokens to (\d+)", "warming", "KV cache of {0} tokens"),
        _step(r"Warming up model", "warming", "model"),
        _step(r"Cuda Graphs are enabled", "warming", "CUDA graphs"),
        _step(r"Shard ready in", "warming", "shard ready"),
        _step(r"Waiting for shard to be ready|Starting shard", "loading", "shards"),
        _step(r"Download: \[(\d+)/(\d+)\]", "downloading", "files", "shards"),
        _step(r"Starting (?:check and )?download|Download file", "downloading", "files"),
        _step(r"Args \{|Starting text-generation", "starting", "engine"),
    ),
    "triton": (
        _step(r"Started HTTPService at", "ready", "the server listens"),
        _step(r"successfully loaded '([^']{1,60})'", "warming", "{0} loaded"),
        _step(r"loading: ([\w.-]{1,60})", "loading", "{0}"),
    ),
    "llamacpp": (
        _step(r"server is listening|all slots are idle", "ready", "the server listens"),
        _step(r"model loaded", "warming", "model loaded"),
        _step(r"warming up the model", "warming", "an empty run"),
        _step(r"llama_kv_cache|llama_context:", "warming", "KV cache"),
        _step(r"offloaded (\d+/\d+) layers", "loading", "{0} layers on the GPU"),
        _step(r"load_tensors:|loading model tensors", "loading", "tensors"),
        _step(r"llama_model_loader|loading model '", "loading", "begins"),
        _step(r"build: \d+|system_info:", "starting", "engine"),
    ),
    "ollama": (
        _step(r"llama runner started in", "warming", "runner started"),
        _step(r"starting (?:llama )?(?:server|runner)|loading model", "loading", "begins"),
        _step(r"pulling [0-9a-f]{12}:\s+(\d{1,3})%", "downloading", "{0} %"),
        _step(r"Listening on", "ready", "the server listens"),
    ),
}
# `63.0 GiB of 71.2 GiB pulled · 412.0 MiB/s · about 3 min left`
_PULLED = re.compile(
    r"^([\d.]+ \w+) of ([\d.]+ \w+) (?:pulled|verified|hashed|\w+)(?: · ([\d.]+ \w+/s))?(?: · (.+) left)?$"
)
_LATER = ("triton",)  # its vLLM backend writes vLLM's lines too
_WIDTH = 300


def plain(line: str) -> str:
    """A line's own words: without colours, and who said them when."""
    words = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line.rpartition("\r")[2] or line).strip()
    before = ""
    while before != words:
        before, words = words, _HEADS.sub("", words, count=1) if _HEADS.match(words) else words
    return words.strip()


def shortened(line: str, width: int = _WIDTH) -> str:
    """The words of a line, cut to what a screen takes, without keys and what moves a cursor."""
    from selfhost.cluster.values import printable
    from selfhost.hush import hushed

    words: str = hushed(printable(plain(line)))
    return words if len(words) <= width else f"{words[: width - 1]}…"


def important(line: str, engine: str) -> Mark | None:
    """Why a line is worth reading; None for the many that are not.

    Args:
        line: as it was written.
        engine: its name, or `pull`.
    """
    words = plain(line)
    if not words:
        return None
    if _EXCEPTION.search(words) or _FATAL.search(words):
        return "error"
    if _MEMORY.search(words):
        return "memory"
    if engine == PULL:
        return "progress" if _PULLED.match(words) else None
    step = _step_of(words, engine)
    if step is not None:
        return "ready" if step[0].stage == "ready" else "progress"
    level = _LEVEL.search(line)
    return "warning" if level and "W" in next(word for word in level.groups() if word) else None


def progress(lines: Iterable[str], engine: str) -> Progress | None:
    """How far the newest line that says so has come; None where none does.

    Args:
        lines: of a log, oldest first.
        engine: its name, or `pull`.
    """
    held: Sequence[str] = tuple(lines)
    for line in reversed(held):
        words = plain(line)
        found = _pulled(words) if engine == PULL else _progress(words, engine)
        if found is not None:
            return found
    return None


def _step_of(words: str, engine: str) -> tuple[_Step, re.Match[str]] | None:
    for name in (engine, "vllm") if engine in _LATER else (engine,):
        for step in _STEPS.get(name, ()):
            if found := step.pattern.search(words):
                return step, found
    return None


def _progress(words: str, engine: str) -> Progress | None:
    seen = _step_of(words, engine)
    if seen is None:
        return None
    step, match = seen
    groups = [group for group in match.groups() if group is not None]
    if step.unit and len(groups) >= 2:
        done, total = int(groups[-2]), int(groups[-1])
        return Progress(
            stage=step.stage,
            done=done,
            total=total,
            unit=step.unit,
            detail=f"{done} of {total} {step.detail}",
        )
    return Progress(stage=step.stage, detail=step.detail.format(*groups))


def _pulled(words: str) -> Progress | None:
    found = _PULLED.match(words)
    if found is None:
        return None
    try:
        done, total = parse_size(found[1]), parse_size(found[2])
    except ValueError:
        return None
    more = f", {found[3]}" if found[3] else ""
    more += f", {found[4]} left" if found[4] else ""
    detail = f"{size_text(done)} of {size_text(total)}{more}"
    return Progress(stage="downloading", done=done, total=total, unit="bytes", detail=detail)
