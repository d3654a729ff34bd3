"""Out of GPU memory: at load, while it warms up, for the KV cache, or because somebody else is on the GPU.

Words of torch 2.11 (c10/cuda/CUDACachingAllocator.cpp), vLLM 0.32.0 (v1/worker/utils.py, v1/worker/gpu_model_runner.py,
v1/core/kv_cache_utils.py), SGLang 0.5 (srt/model_executor), llama.cpp (ggml-cuda.cu) and Ollama. Each stands beside
what the plan expected, and its way out is computed from the plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.deploy.causes import _bill as bill
from selfhost.deploy.causes._scene import Line, Scene
from selfhost.deploy.engine_log import plain, shortened
from selfhost.deploy.types import Cause
from selfhost.plan import Plan
from selfhost.units import gib

RANK = 500
_FREE = re.compile(
    r"Free memory on device \S* ?\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than "
    r"(?:desired GPU memory utilization|the engine's budget[^(]*) ?\((?P<share>[\d.]+), (?P<want>[\d.]+) GiB\)"
)
_NEEDS = re.compile(
    r"max seq len \(?(?P<length>\d+)\)?,? \(?(?P<need>[\d.]+) GiB KV cache is needed, which "
    r"is larger than the available "
    r"KV cache memory \((?P<have>[\d.]+) GiB\)(?:.*?estimated maximum model length is (?P<fits>\d+))?"
)
_NO_BLOCKS = re.compile(
    r"No available memory for the cache blocks|Not enough memory\. Please try to increase --mem-fraction-static"
)
_OOM = re.compile(
    r"(?P<torch>OutOfMemoryError: )?(?:CUDA|HIP|XPU) out of memory(?! occurred)(?P<rest>.*)|CUDA error: out of memory"
    r"|CUDA_ERROR_OUT_OF_MEMORY|cudaMalloc failed: out of memory|out of memory occurred when "
    r"warming up (?P<what>sampler|pooler) with (?P<seqs>\d+)"
    r"|unable to allocate CUDA\d+ buffer|ErrorCode\.?.{0,20}OUT_OF_MEMORY|model requires more system memory"
)
_ASKED = re.compile(r"Tried to allocate ([\d.]+ \w+)")
_OF_WHICH = re.compile(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free")
_MINE = re.compile(r"this process has ([\d.]+ \w+) memory in use")
_OTHERS = re.compile(r"Process \d+ has ([\d.]+ \w+) memory in use")
_SAMPLER = re.compile(r"warming up (sampler|pooler) with (\d+)")
# What a log has shown by then -> where it ran out, oldest last.
_PHASES = (
    (
        re.compile(r"Application startup complete|Starting vLLM (?:API )?server|fired up and ready"),
        "while it served requests",
    ),
    (
        re.compile(r"Capturing (?:CUDA graphs|batches)|Capture cuda graph begin"),
        "while it captured CUDA graphs",
    ),
    (
        re.compile(r"KV cache size:|KV Cache is allocated|Available KV cache memory"),
        "in its warm-up, after the KV cache was made",
    ),
    (
        re.compile(r"Model loading took|Load weight end|Loading weights took"),
        "in its first forward pass, after the weights were loaded",
    ),
    (
        re.compile(
            r"Starting to load model|Loading model from|Load weight begin|load_tensors|Loading safetensors"
        ),
        "while it loaded the weights",
    ),
)


def gpu_shared(scene: Scene) -> Iterator[Cause]:
    """Somebody else holds memory of the GPU, so that the engine's share is not free.

    A process outside of Kubernetes, an earlier pod that has not ended, or time-sliced neighbours.

    Way out: find the process (`nvidia-smi` on that node), or a smaller `--set gpu-memory-utilization=`.
    """
    for line in scene.lines(_FREE):
        free, total, want = (float(line.match[key]) for key in ("free", "total", "want"))
        node = line.pod.node or "the node"
        share = int(free / total * 100) / 100 - 0.01
        tight = total - free < 1.0  # only what the driver and a context take: the share itself is too large
        fits = scene.plan is None or _fits_in(scene.plan, round(share * total * (1 << 30)))
        lower = (
            f"selfhost deploy PLAN --set gpu-memory-utilization={share:.2f}" if share >= 0.3 and fits else ""
        )
        who = "" if tight else f"nvidia-smi on {node} names the process"
        yield line.cause(
            "gpu-shared",
            f"{total - free:.1f} of {total:.1f} GiB of a GPU of {node} were taken before the "
            f"engine began, and it wants "
            f"{want:.1f} GiB: {want - free:.1f} GiB short.",
            "; or ".join(one for one in (who, lower) if one) or f"Free the GPUs of {node}.",
            *_plan_lines(scene),
            final=False,
            patience=_again(line),
        )
    for line in scene.lines(_OOM):
        words, short = _torch_words(line), _short(line)
        others = sum(bill.size(found) for found in _OTHERS.findall(words))
        if others and others >= short > 0:
            node = line.pod.node or "the node"
            yield line.cause(
                "gpu-shared",
                (
                    f"Another process holds {gib(others)} GiB of a GPU of {node}, and the engine "
                    f"is {gib(short)} GiB short."
                ),
                f"nvidia-smi on {node} names it; end it, or have the GPU to yourself.",
                *_plan_lines(scene),
                final=False,
                patience=_again(line),
            )


def kv_cache_too_small(scene: Scene) -> Iterator[Cause]:
    """The memory that is left for the KV cache does not hold one request of the planned context.

    Way out: a shorter context, as the engine's own figures allow: `--set max-model-len=`.
    """
    for line in scene.lines(_NEEDS):
        need, have = float(line.match["need"]), float(line.match["have"])
        fits = int(line.match["fits"] or 0) // 1024 * 1024
        plan = scene.plan
        if not fits and plan is not None:
            fits = bill.context_of(plan, round(have * (1 << 30)), round(need * (1 << 30)))
        hint = f"selfhost deploy PLAN --set max-model-len={fits}" if fits else _weights_hint(plan)
        yield line.cause(
            "kv-cache-too-small",
            f"One request of {int(line.match['length']):,} tokens needs {need:.2f} GiB of KV "
            f"cache, and {have:.2f} GiB are "
            f"left for it: {need - have:.2f} GiB short.",
            hint,
            *_plan_lines(scene),
            _seen(line),
        )


def no_kv_cache(scene: Scene) -> Iterator[Cause]:
    """Weights and activations leave nothing of the engine's share for the KV cache.

    Way out: a larger share of the GPU where there is one, fewer tokens in one step, quantized weights, more GPUs.
    """
    for line in scene.lines(_NO_BLOCKS):
        left = re.search(r"Available KV cache memory: (-[\d.]+) GiB", line.box.log)
        short = f": {left[1].lstrip('-')} GiB short" if left else ""
        yield line.cause(
            "no-kv-cache",
            f"Weights and activations leave nothing of the engine's share of the GPU for the KV cache{short}.",
            _larger_hint(scene.plan),
            *_plan_lines(scene),
            _seen(line),
        )


def gpu_memory(scene: Scene) -> Iterator[Cause]:
    """The engine ran out of GPU memory; says at what and by how much, beside what the plan expected.

    Way out: computed from the plan: `--set max-num-seqs=`, `--set max-num-batched-tokens=`,
    `--set gpu-memory-utilization=`, or a plan with `--quant` where the weights themselves are too large.
    """
    for line in scene.lines(_OOM):
        words = _torch_words(line)
        short, phase = _short(line), _phase(line)
        if sum(bill.size(found) for found in _OTHERS.findall(words)) >= short > 0:
            continue
        by = f": {gib(short)} GiB short" if short else ""
        mine = _MINE.search(words)
        held = bill.size(mine[1]) if mine else 0
        beside = ""
        if held and scene.plan is not None and "loaded the weights" not in phase:
            total = bill.predicted(scene.plan) + max(0, scene.plan.memory.kv_available_bytes or 0)
            beside = f" (plan {gib(total)} GiB, seen {gib(held + bill.size(_asked(words)))} GiB)"
        yield line.cause(
            "gpu-memory",
            f"Out of GPU memory {phase} on {line.pod.node or 'its node'}{by}{beside}.",
            _hint(scene.plan, phase, short, words),
            *_plan_lines(scene),
            _seen(line),
        )


def _torch_words(line: Line) -> str:
    """The line that says by how much: the match's own, or the first of torch's in the same log."""
    for one in line.box.log.splitlines():
        if "Tried to allocate" in one:
            return plain(one)
    return plain(line.match.string)


def _asked(words: str) -> str | None:
    found = _ASKED.search(words)
    return found[1] if found else None


def _short(line: Line) -> int:
    words = _torch_words(line)
    room = _OF_WHICH.search(words)
    asked = bill.size(_asked(words))
    return max(0, asked - (bill.size(room[2]) if room else 0))


def _phase(line: Line) -> str:
    lines = line.box.log.splitlines()
    before = "\n".join(lines[: next((n for n, one in enumerate(lines) if _OOM.search(one)), len(lines))])
    sampler = _SAMPLER.search(line.box.log)
    if sampler is not None:
        return f"in the warm-up of its {sampler[1]} with {int(sampler[2]):,} requests"
    return next((said for seen, said in _PHASES if seen.search(before)), "while it started")


def _hint(plan: Plan | None, phase: str, short: int, words: str) -> str:
    if plan is None:
        return "Deploy with --set max-num-seqs=, a shorter --set max-model-len=, or quantized weights."
    if "loaded the weights" in phase:
        return f"{bill.smaller_weights(plan)}."
    if "warm-up of its" in phase and (fewer := bill.fewer_seqs(plan)):
        return bill.command(plan, fewer)
    if "forward pass" in phase:
        setting, frees = bill.smaller_batch(plan, short)
        return (
            f"{bill.command(plan, setting)} (frees about {gib(frees)} GiB)"
            if setting
            else f"{bill.smaller_weights(plan)}."
        )
    if lower := bill.lower_share(plan, short):
        return f"{bill.command(plan, lower)} (leaves the KV cache that much less)"
    fewer = bill.fewer_seqs(plan)
    return bill.command(plan, fewer) if fewer else f"{bill.smaller_weights(plan)}."


def _larger_hint(plan: Plan | None) -> str:
    if plan is None:
        return "Deploy with a larger --set gpu-memory-utilization=, or quantized weights."
    # 0.95: beyond it the driver, the context and fragments have no room (ours; vLLM's own default is 0.92)
    if plan.memory.utilization < 0.94:
        return bill.command(plan, "gpu-memory-utilization=0.95")
    return f"{bill.smaller_weights(plan)}."


def _weights_hint(plan: Plan | None) -> str:
    return f"{bill.smaller_weights(plan)}." if plan else "Deploy with a shorter --set max-model-len=."


def _fits_in(plan: Plan, share_bytes: int) -> bool:
    """Whether what the plan expects, and one request's KV cache, fit into so much."""
    return bill.predicted(plan) + plan.memory.kv_bytes_per_token * plan.memory.max_model_len <= share_bytes


def _plan_lines(scene: Scene) -> tuple[str, ...]:
    return (bill.told(scene.plan),) if scene.plan is not None else ()


def _seen(line: Line) -> str:
    """What the engine said of its own memory before."""
    pattern = re.compile(
        r"Model loading took [\d.]+ GiB|Available KV cache memory: -?[\d.]+ GiB|Load weight end.*mem usage=[\d.]+ GB"
    )
    found = [m[0] for one in line.box.log.splitlines() if (m := pattern.search(one))]
    return f"seen: {shortened('; '.join(dict.fromkeys(found)))}" if found else ""


def _again(line: Line) -> float:
    """An earlier pod that is still ending frees its memory within its grace; after some restarts nobody does."""
    return 0.0 if line.box.restarts >= 3 else 90.0
