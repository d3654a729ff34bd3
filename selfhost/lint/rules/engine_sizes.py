"""Numbers that cannot work: fractions, splits that heads do not allow, memory that the GPU does not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from selfhost.lint.model import Container, Engine, Lot, Pod
from selfhost.lint.nodes import Map, number_of, text_of
from selfhost.lint.sizes import shown
from selfhost.lint.types import Found, Rule

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.memory import MemoryBudget
    from selfhost.model.spec import ModelSpec

_FRACTIONS = {
    "vllm": ("gpu-memory-utilization",), "sglang": ("mem-fraction-static",), "tgi": ("cuda-memory-fraction",),
}  # fmt: skip
# NVIDIA's and AMD's feature discovery, and what clouds call it.
_PRODUCT_LABELS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "cloud.google.com/gke-accelerator")
# https://cloud.google.com/kubernetes-engine/docs/how-to/gpus, 2026-11-21; cards whose memory the name tells.
_GKE = {
    "nvidia-l4": "l4",
    "nvidia-tesla-t4": "t4",
    "nvidia-h100-80gb": "h100-sxm-80gb",
    "nvidia-a100-80gb": "a100-sxm-80gb",
}


def _fraction(lot: Lot) -> Iterator[Found]:
    for _, _, engine in lot.engines():
        for key in _FRACTIONS.get(engine.name, ()):
            flag = engine.flag(key)
            value = _decimal(flag.value) if flag is not None else None
            if flag is None or value is None or 0 < value <= 1:
                continue
            yield Found(
                where=flag.where,
                message=f"{flag.written} is {flag.value}: it is a fraction of the GPU's memory, above 0 and at most 1",
                fix=f"write {value / 100:g}" if 1 < value <= 100 else "write a fraction such as 0.9",
            )


def _decimal(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"-?\d{1,6}(\.\d{1,6})?", text) else None


def _batched(lot: Lot) -> Iterator[Found]:
    """Without chunked prefill a step has to hold a whole prompt (vLLM before V1)."""
    for _, _, engine in lot.engines():
        if engine.name != "vllm" or not engine.complete:
            continue
        batched, longest = engine.flag("max-num-batched-tokens"), engine.flag("max-model-len")
        if batched is None or longest is None:
            continue
        tokens, limit = number_of(batched.value), number_of(longest.value)
        chunked = engine.flag("enable-chunked-prefill", "no-enable-chunked-prefill")
        off = chunked is not None and (
            chunked.key.startswith("no-") or (chunked.value or "").lower() == "false"
        )
        if tokens is None or limit is None or tokens >= limit:
            continue
        # Before V1 prefill was chunked by itself above 32 Ki tokens of context only (0.7.3 engine/arg_utils.py).
        old = engine.release is not None and engine.release < (0, 8, 0) and chunked is None and limit <= 32768
        if not off and not old:
            continue
        yield Found(
            where=batched.where,
            message=f"{batched.written} {tokens} is below {longest.written} {limit}, and prefill is not chunked: "
            "vLLM refuses to start",
            fix=f"raise it to {limit}, or let prefill be chunked",
        )


def _heads(lot: Lot) -> Iterator[Found]:
    for _, container, engine in lot.engines():
        if (
            engine.name not in ("vllm", "sglang")
            or not engine.model
            or not engine.tensor
            or engine.tensor < 2
        ):
            continue
        heads = _query_heads(engine.model)
        if heads is None or heads % engine.tensor == 0:
            continue
        flag = engine.flag("tensor-parallel-size", "tp-size")
        yield Found(
            where=flag.where if flag is not None else container.where,
            message=f"{engine.model} has {heads} attention heads, which {engine.tensor} GPUs cannot share evenly",
            fix=f"take a number that divides {heads}",
        )


@lru_cache(maxsize=512)
def _query_heads(model: str) -> int | None:
    from selfhost.catalog.models import find

    bundled = find(model) if not model.startswith(("/", ".")) else None
    if bundled is None:
        return None
    config = bundled.config
    inner = config.get("text_config")
    heads = (inner if isinstance(inner, dict) else config).get("num_attention_heads")
    return heads if isinstance(heads, int) else None


def _memory(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        if (
            engine.name != "vllm"
            or not engine.complete
            or not engine.model
            or pod.role == "worker"
            or container.init
        ):
            continue
        gpu = gpu_of(pod)
        if gpu is None or (container.gpus is not None and container.gpus < 1):
            continue
        bill = _bill(engine, gpu)
        if bill is None or bill.fits is not False or bill.short_bytes <= (bill.certainty_bytes or 0):
            continue
        yield _short(container, engine, gpu, bill)


def gpu_of(pod: Pod) -> Gpu | None:
    """The GPU that the pod's node selector or required affinity asks for; None where none, or several, or unknown."""
    names = {text for key in _PRODUCT_LABELS if (text := text_of(pod.spec.map("nodeSelector").get(key)))}
    required = (
        pod.spec.map("affinity").map("nodeAffinity").map("requiredDuringSchedulingIgnoredDuringExecution")
    )
    for _, term in required.seq("nodeSelectorTerms").maps():
        names.update(_asked(term))
    if len(names) != 1:
        return None
    return _gpu(names.pop())


def _asked(term: Map) -> Iterator[str]:
    for _, expression in term.seq("matchExpressions").maps():
        if expression.text("key") in _PRODUCT_LABELS and expression.text("operator") == "In":
            yield from (text for each in expression.seq("values") if (text := text_of(each)))


@lru_cache(maxsize=64)
def _gpu(name: str) -> Gpu | None:
    from selfhost.catalog.gpus import find_gpu
    from selfhost.errors import SelfhostError

    if name.endswith("-SHARED"):
        return None
    try:
        return find_gpu(_GKE.get(name, name))
    except SelfhostError:
        return None


def _bill(engine: Engine, gpu: Gpu) -> MemoryBudget | None:
    """The size of the engine as it is started, None where that cannot be known."""
    from selfhost.errors import SelfhostError
    from selfhost.memory import budget
    from selfhost.workload import Split, Workload

    spec = _spec(engine.model or "")
    length = engine.flag("max-model-len")
    if spec is None or None in (engine.tensor, engine.pipeline) or _changes(engine):
        return None
    tokens = number_of(length.value) if length is not None else None
    if length is not None and tokens is None:
        return None
    used = engine.flag("gpu-memory-utilization")
    kv = engine.flag("kv-cache-dtype")
    sequences, batched = engine.flag("max-num-seqs"), engine.flag("max-num-batched-tokens")
    try:
        workload = Workload(
            max_model_len=tokens,
            **{
                name: value
                for name, value in (
                    ("gpu_memory_utilization", _decimal(used.value) if used else None),
                    ("kv_dtype", kv.value if kv and kv.value != "auto" else None),
                    ("max_num_seqs", number_of(sequences.value) if sequences else None),
                    ("max_num_batched_tokens", number_of(batched.value) if batched else None),
                )
                if value is not None
            },  # type: ignore[arg-type]
        )
        split = Split(tensor=engine.tensor or 1, pipeline=engine.pipeline or 1)
        return budget(spec, workload, split, gpu)
    except (SelfhostError, TypeError, ValueError):
        return None


# Options that change what is loaded or kept in a way that the sizing is not asked about here.
_CHANGING = (
    "quantization", "cpu-offload-gb", "enable-expert-parallel", "speculative-config", "hf-overrides", "load-format",
    "kv-cache-memory-bytes", "num-gpu-blocks-override", "enable-lora", "data-parallel-size", "offload-backend",
    "speculative-model", "language-model-only", "limit-mm-per-prompt", "runner", "task", "convert", "dtype",
    "distributed-executor-backend", "decode-context-parallel-size", "prefill-context-parallel-size",
    "kv-offloading-size",
)  # fmt: skip


def _changes(engine: Engine) -> bool:
    return engine.flag(*_CHANGING) is not None


@lru_cache(maxsize=64)
def _spec(model: str) -> ModelSpec | None:
    """A bundled model, understood; nothing is asked of the Hub."""
    from selfhost.catalog.models import find
    from selfhost.errors import SelfhostError
    from selfhost.hub import load_model
    from selfhost.model.parse import parse_model

    if model.startswith(("/", ".")) or find(model) is None:
        return None
    try:
        return parse_model(load_model(model, environ={"HF_HUB_OFFLINE": "1"}))
    except SelfhostError:
        return None


def _short(container: Container, engine: Engine, gpu: Gpu, bill: MemoryBudget) -> Found:
    held = bill.weights_bytes + bill.extra_bytes
    room = gpu.memory_bytes
    gpus = f"{engine.tensor} x {gpu.id}" if (engine.tensor or 1) > 1 else gpu.id
    length = engine.flag("max-model-len")
    asked = (
        f"one request of {length.value} tokens"
        if length is not None
        else "one request of the model's full context"
    )
    if held >= room:
        told = f"its weights are {shown(held)} a GPU, of {shown(room)}"
        fix = "take more or larger GPUs, or a quantized model"
    else:
        told = f"beside weights of {shown(held)} a GPU of {shown(room)} lacks {shown(bill.short_bytes)} for {asked}"
        fix = (
            f"write --max-model-len={bill.max_context_tokens}, or take more GPUs"
            if bill.max_context_tokens
            else "take more or larger GPUs, or a quantized model"
        )
    return Found(where=container.where, message=f"{engine.model} on {gpus}: {told}", fix=fix)


RULES = (
    Rule(
        code="SH105",
        title="A share of GPU memory that is no fraction",
        severity="error",
        reason="The engine takes a fraction of the GPU's memory and refuses anything above 1.",
        fix="Write a fraction such as 0.9.",
        sources=(
            "vLLM 0.32.0 config/cache.py, gpu_memory_utilization",
            "SGLang 0.5.23 --mem-fraction-static",
        ),
        compose=True,
        check=_fraction,
    ),
    Rule(
        code="SH106",
        title="A step smaller than a prompt",
        severity="error",
        reason="Without chunked prefill a step has to hold the longest prompt whole; vLLM checks it and exits.",
        fix="Raise --max-num-batched-tokens to --max-model-len, or let prefill be chunked.",
        sources=("vLLM 0.32.0 config/scheduler.py, verify_max_model_len",),
        compose=True,
        check=_batched,
    ),
    Rule(
        code="SH107",
        title="Attention heads that the GPUs cannot share",
        severity="error",
        reason="Tensor parallelism gives each GPU the same number of attention heads; the engine refuses a remainder.",
        fix="Take a tensor-parallel size that divides the number of heads.",
        sources=("vLLM 0.32.0 config/model.py, verify_with_parallel_config", "the bundled catalogue"),
        compose=True,
        check=_heads,
    ),
    Rule(
        code="SH200",
        title="More memory than the GPU has",
        severity="error",
        reason="By selfhost's sizing the model or its KV cache does not fit the GPU that the pod asks for.",
        fix="Take a shorter context, more or larger GPUs, or a quantized model.",
        sources=("selfhost size (docs/sizing.md), rules of vLLM 0.32.0",),
        compose=True,
        check=_memory,
    ),
)
