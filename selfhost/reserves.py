"""What vLLM needs on a GPU beside weights and KV cache: activations, CUDA graphs, memory outside torch, per version.

vLLM 0.32 (v1/worker/gpu_worker.py `determine_available_memory`):
KV cache = utilization x total - weights - activation peak of a profiling run - memory gained outside torch - graph estimate.
The profiling run (v1/worker/gpu_model_runner.py `profile_run`) is one step of `max_num_batched_tokens` tokens and one
sampler pass over `max_num_seqs` rows, so its peak follows from tensor shapes; the few constants are in reserves.toml.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

from selfhost.catalog.gpus import Gpu
from selfhost.errors import UsageError
from selfhost.units import GIB, MIB, ceil_div, gib

KNOWN_VERSIONS = ((0, 6), (0, 33))
_PROFILE = "vLLM 0.32 v1/worker/gpu_model_runner.py profile_run"
_LOGS = "start-up logs, catalog/reserves.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionShape:
    """The image encoder as the profiling run meets it: `items` of the largest size that fill the token budget."""

    hidden_size: int
    intermediate_size: int
    patches_per_token: int
    pixel_bytes_per_token: int
    max_tokens_per_item: int
    output_copies: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Plain numbers of a model, unsharded. Widths are elements per token.

    `query_width` is heads x head size, `kv_width` KV heads x head size; for latent attention `query_width` is what the
    query projection makes and `latent_up_width` what kv_b_proj does. `recurrent_width` is the widest projection of a
    Mamba, gated-delta-net or linear layer. MoE fields are 0 for dense models.
    """

    architecture: str
    hidden_size: int
    num_layers: int
    query_width: int
    kv_width: int
    intermediate_size: int
    vocab_size: int
    dtype_bytes: int = 2
    num_experts: int = 0
    experts_per_token: int = 0
    moe_intermediate_size: int = 0
    shared_intermediate_size: int = 0
    latent_up_width: int = 0
    recurrent_width: int = 0
    quantization: str | None = None
    pooling: bool = False
    hybrid: bool = False
    vision: VisionShape | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How the engine is started on one GPU of the deployment."""

    version: tuple[int, int, int]
    gpu: Gpu
    tensor: int = 1
    pipeline: int = 1
    expert: bool = False
    utilization: float
    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len: int
    enforce_eager: bool = False
    speculative_tokens: int = 0
    last_stage: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What vLLM takes where no flag is given."""

    max_num_batched_tokens: int
    max_num_seqs: int
    utilization: float
    because: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """One printable line: bytes on one GPU, its reason and its source."""

    name: str
    bytes: int
    because: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserves:
    """Everything beside weights and KV cache, in bytes on one GPU.

    `graphs_bytes` is what capturing takes; `graphs_subtracted` says whether this version takes its estimate out of the KV
    cache or out of what the utilization share leaves. `context_bytes` (CUDA context, NCCL) lies outside the share.
    """

    activation: Reserve
    graphs: Reserve
    non_torch: Reserve
    context: Reserve
    warmup: Reserve
    graphs_subtracted: bool
    share_bytes: int
    total_bytes: int
    certainty_bytes: int

    @property
    def items(self) -> tuple[Reserve, ...]:
        """The lines that add up to what the KV cache cannot have, in order."""
        graphs = (self.graphs,) if self.graphs_subtracted else ()
        return (self.activation, self.non_torch, *graphs)

    def kv_available_bytes(self, weights_bytes: int) -> int:
        """Bytes for the KV cache next to `weights_bytes` of weights and buffers; negative when they do not fit."""
        return self.share_bytes - weights_bytes - sum(item.bytes for item in self.items)

    def short_bytes(self, weights_bytes: int, kv_bytes: int) -> int:
        """Bytes missing once weights and `kv_bytes` are allocated, graphs captured and the sampler warmed up; 0 when it starts.

        Above about 0.95 utilization a server can pass profiling and still run out here.
        """
        held = weights_bytes + kv_bytes + self.context.bytes + self.non_torch.bytes + self.graphs.bytes
        outside = self.context.bytes - (self.total_bytes - self.share_bytes)
        return max(0, held + self.warmup.bytes - self.total_bytes, outside)


@cache
def _constants() -> dict[str, Any]:
    import tomllib

    with open(os.path.join(os.path.dirname(__file__), "catalog", "reserves.toml"), "rb") as file:
        return tomllib.load(file)


def _mib(table: str, key: str) -> int:
    return int(_constants()[table][key] * MIB)


def parse_version(text: str) -> tuple[int, int, int]:
    """The release a vLLM version string belongs to: `v0.26.1rc1.dev156+g0eec` -> (0, 26, 1).

    Raises:
        UsageError: when the text is no version, or older than any that is known here.
    """
    import re

    match = re.match(r"v?(\d{1,3})\.(\d{1,4})(?:\.(\d{1,4}))?(?=$|[^\d.]|\.(?:post|dev))", text.strip())
    if match is None:
        raise UsageError(f"{text[:40]!r} is not a vLLM version.", hint="Write it as vllm@0.32 or vllm@0.19.1.")
    version = (int(match[1]), int(match[2]), int(match[3] or 0))
    if version < KNOWN_VERSIONS[0]:
        raise UsageError(f"vLLM {text} is older than 0.6; its memory use is not known.", hint="Name 0.6 or later.")
    return version


def version_warning(version: tuple[int, int, int]) -> str | None:
    """A sentence where the version is newer than what the constants were checked against, else None."""
    if version[:2] > KNOWN_VERSIONS[1]:
        return f"vLLM {version[0]}.{version[1]} is newer than 0.33, the newest known here; its rules are assumed."
    return None


def defaults(version: tuple[int, int, int], gpu: Gpu, *, usage: str = "server", max_model_len: int = 0) -> Defaults:
    """Settings that vLLM takes by itself on a GPU (engine/arg_utils.py `get_batch_defaults`).

    Args:
        version: engine release.
        gpu: its memory and name decide: 160 GiB and more, 70 GiB and more except A100, others.
        usage: `server` (vllm serve) or `offline` (the LLM class).
        max_model_len: used by the V0 engine (before 0.8) alone, whose step holds a whole prompt up to 32k.
    """
    utilization = 0.90 if version < (0, 21, 0) else 0.92
    if version < (0, 8, 0):
        tokens = 2048 if max_model_len > 32768 else max(max_model_len, 2048)
        return Defaults(
            max_num_batched_tokens=tokens,
            max_num_seqs=256,
            utilization=utilization,
            because="V0 engine: a step holds one whole prompt; chunks of 2048 above 32k",
            source="vLLM 0.6 config.py SchedulerConfig",
        )
    server = usage == "server"
    if gpu.memory_bytes >= 160 * GIB and version >= (0, 29, 0):
        tokens, seqs, class_ = 16384, 1024, "160 GiB or more"
    elif gpu.memory_bytes >= 70 * GIB and "A100" not in f"{gpu.name} {gpu.aliases[0]}":
        tokens, seqs, class_ = 8192 if server else 16384, 1024, "70 GiB or more, not A100"
    else:
        tokens, seqs, class_ = 2048 if server else 8192, 256, "A100, or less than 70 GiB"
    return Defaults(
        max_num_batched_tokens=tokens,
        max_num_seqs=seqs,
        utilization=utilization,
        because=f"vLLM {version[0]}.{version[1]} on a GPU with {class_}",
        source="vLLM engine/arg_utils.py get_batch_defaults, config/cache.py gpu_memory_utilization",
    )


def _v2_runner(shape: ModelShape, version: tuple[int, int, int]) -> bool:
    """Whether the model runner V2 runs this model by default (config/vllm.py `use_v2_model_runner`)."""
    if shape.pooling:
        return False
    if version >= (0, 26, 0):
        return True
    if version >= (0, 25, 0):
        moe = ("DeepseekV2ForCausalLM", "Qwen2MoeForCausalLM", "GraniteMoeForCausalLM")
        return not shape.hybrid and (shape.num_experts == 0 or shape.architecture in moe)
    return version >= (0, 22, 0) and shape.architecture == "Qwen3ForCausalLM" and shape.quantization is None


def _sampler(shape: ModelShape, settings: EngineSettings) -> tuple[int, str]:
    """Peak of the sampler pass over `max_num_seqs` rows of logits, and what it is made of.

    In units of one [rows, vocabulary] float32 tensor. Model dtype logits 0.5 and their float32 copy 1 are always there.
    Sorting top-p (before 0.17) adds values 1, indices 2, and PyTorch's (aten/native/cuda/Sort.cu) segmented sort from 128
    rows on: original indices 2, radix temporaries 3; below: two int2 index arrays 4, keys 1, temporaries 3. The Triton
    kernel (from 0.17, sample/ops/topk_topp_triton.py) works in place with one vocabulary row per multiprocessor; what
    follows needs probabilities 1 and noise 1. The V2 model runner samples in blocks from the float32 copy.
    """
    rows = min(settings.max_num_seqs, settings.max_num_batched_tokens)
    logits = rows * shape.vocab_size * 4
    if shape.pooling:
        return 0, "pooling model: no sampler"
    if _v2_runner(shape, settings.version):
        units, how = 0.5 * shape.dtype_bytes / 2 + 1, "model runner V2 samples in blocks"
        extra = 0
    elif settings.version >= (0, 17, 0) and rows >= 8:
        units, how = 0.5 * shape.dtype_bytes / 2 + 3, "logits, probabilities and noise in float32"
        extra = min(settings.gpu.multiprocessors, rows) * shape.vocab_size * 4
    else:
        units = 0.5 * shape.dtype_bytes / 2 + (9 if rows >= 128 else 12)
        how, extra = "top-p by sorting all logits", 0
    hidden = (settings.max_num_batched_tokens + 2 * rows) * shape.hidden_size * shape.dtype_bytes
    return int(units * logits) + extra + hidden, f"sampler over {rows} rows x {shape.vocab_size} logits: {how}"


def _moe_workspace(shape: ModelShape, settings: EngineSettings) -> int:
    """Two buffers of [tokens x experts per token] rows (fused_moe `TritonExperts.workspace_shapes`), bytes.

    MXFP4 through the Triton kernels of gpt-oss allocates its own, inside the forward pass.
    """
    if shape.num_experts == 0 or shape.quantization == "mxfp4":
        return 0
    ranks = 1 if settings.expert else settings.tensor
    width = ceil_div(shape.moe_intermediate_size, ranks)
    per_row = max(width, shape.hidden_size) + max(2 * width, shape.hidden_size)
    return settings.max_num_batched_tokens * shape.experts_per_token * per_row * shape.dtype_bytes


def _forward(shape: ModelShape, settings: EngineSettings) -> int:
    """Peak of one layer: the MLP's fused gate-up and its product, with the attention output, q, k, v and about five
    hidden-sized buffers (residual in and out, norm, input, output) that the compiled pieces keep for each other, bytes.
    """
    tensor = settings.tensor
    tokens = settings.max_num_batched_tokens
    mlp = 3 * max(shape.intermediate_size, shape.shared_intermediate_size) // tensor
    if shape.num_experts:
        mlp = 3 * shape.shared_intermediate_size // tensor
    attention = (2 * shape.query_width + 2 * shape.kv_width) // tensor
    hidden = 5 if settings.version >= (0, 8, 0) else 1
    width = mlp + attention + hidden * shape.hidden_size
    width = max(width, shape.recurrent_width * 2 // tensor + hidden * shape.hidden_size)
    peak = tokens * width * shape.dtype_bytes
    if settings.version < (0, 8, 0):  # eager: q, k and v are gone when the MLP runs
        peak = tokens * (max(mlp, attention) + 3 * shape.hidden_size) * shape.dtype_bytes
    if shape.latent_up_width:
        rows = min(max(8 * settings.max_model_len, 64 * settings.max_num_seqs), 65536)
        peak = max(peak, rows * shape.latent_up_width // tensor * shape.dtype_bytes)
    return peak


def _vision(shape: ModelShape, settings: EngineSettings) -> tuple[int, int]:
    """(bytes that images and their embeddings keep during profiling, peak of the encoder itself)."""
    vision = shape.vision
    if vision is None or vision.max_tokens_per_item <= 0:
        return 0, 0
    budget = max(settings.max_num_batched_tokens, vision.max_tokens_per_item)
    tokens = budget // vision.max_tokens_per_item * vision.max_tokens_per_item
    kept = tokens * (shape.hidden_size * vision.output_copies * shape.dtype_bytes + vision.pixel_bytes_per_token)
    width = 2 * vision.intermediate_size // settings.tensor + 4 * vision.hidden_size
    return kept, tokens * vision.patches_per_token * width * shape.dtype_bytes


def _activation(shape: ModelShape, settings: EngineSettings) -> Reserve:
    sampler, why_sampler = _sampler(shape, settings)
    if not settings.last_stage:
        sampler = 0
    forward = _forward(shape, settings)
    workspace = _moe_workspace(shape, settings)
    kept_images, encoder = _vision(shape, settings)
    small = 30 * MIB
    if settings.version >= (0, 13, 0):  # the workspace manager keeps the MoE buffers
        peak, kept = max(forward, sampler), workspace + kept_images
    else:
        peak, kept = max(forward + workspace, sampler), kept_images
    total = max(peak + kept, encoder + kept_images) + small
    tokens = settings.max_num_batched_tokens
    if encoder + kept_images > peak + kept:
        because = f"image encoder on a full budget of {tokens} tokens"
    elif sampler >= forward + (workspace if settings.version < (0, 13, 0) else 0):
        because = why_sampler
    else:
        because = f"one layer over {tokens} batched tokens"
    if kept:
        because += f"; {gib(kept)} GiB of MoE workspace and images beside it"
    return Reserve(name="activation peak", bytes=total, because=because, source=_PROFILE)


def capture_sizes(shape: ModelShape, settings: EngineSettings) -> int:
    """How many batch sizes vLLM captures (config/vllm.py `_set_cudagraph_sizes`)."""
    large = shape.architecture == "GptOssForCausalLM"
    capability = settings.gpu.compute_capability
    if settings.version >= (0, 29, 0) and capability is not None and capability[0] == 10:
        large = True
    per_decode = 1 + settings.speculative_tokens
    limit = min(settings.max_num_seqs * per_decode * 2, 1024 if large else 512, settings.max_num_batched_tokens)
    sizes = sum(size <= limit for size in (1, 2, 4)) + len(range(8, min(limit + 1, 256), 8))
    return sizes + len(range(256, limit + 1, 16))


def _graphs(shape: ModelShape, settings: EngineSettings) -> Reserve:
    if settings.enforce_eager:
        return Reserve(name="CUDA graphs", bytes=0, because="--enforce-eager: none are captured", source=_LOGS)
    table = _constants()["graphs"]
    era = 0 if settings.version < (0, 21, 0) else 1
    sizes = capture_sizes(shape, settings)
    layers = ceil_div(shape.num_layers, settings.pipeline)
    per_size = table["pair_mib"][era] + table["pair_layer_mib"][era] * layers
    if shape.latent_up_width:
        per_size += table["mla_pair_mib"]
    if settings.version < (0, 11, 0):  # piecewise graphs only
        per_size /= 2
    size = int((table["first_mib"] + per_size * sizes) * MIB)
    because = f"{sizes} batch sizes of {layers} layers"
    return Reserve(name="CUDA graphs", bytes=size, because=because, source=_LOGS)


def _era(version: tuple[int, int, int], key: str) -> int:
    table = _constants()["non_torch"]
    value = 0
    for since, mib in zip(table["since"], table[key], strict=True):
        major, minor = since.split(".")
        if version >= (int(major), int(minor), 0):
            value = mib
    return int(value * MIB)


def _nvlink(gpu: Gpu) -> bool:
    return gpu.link is not None and "NVLink" in gpu.link and "bridge" not in gpu.link


def _non_torch(settings: EngineSettings) -> Reserve:
    gpu, version = settings.gpu, settings.version
    if gpu.vendor == "AMD":
        size, because = _mib("non_torch", "rocm_mib"), "ROCm libraries and kernels"
    elif gpu.id.startswith("gb10"):
        size, because = _mib("non_torch", "unified_mib"), "unified memory: the engine's host memory counts too"
    else:
        size = _era(version, "cuda_mib" if gpu.kind == "datacenter" else "other_mib")
        because = f"CUDA libraries and kernels loaded by vLLM {version[0]}.{version[1]}"
        if settings.tensor > 1 and _nvlink(gpu) and version >= (0, 8, 0):
            size += _mib("non_torch", "nvlink_tp_mib") + (settings.tensor - 2) * _mib("non_torch", "nvlink_tp_step_mib")
            because += f"; NCCL buffers of TP {settings.tensor} over NVLink"
        elif settings.pipeline > 1 and settings.tensor == 1:
            size = min(size, _mib("non_torch", "pipeline_mib"))
    return Reserve(name="outside torch", bytes=size, because=because, source=_LOGS)


def _context(shape: ModelShape, settings: EngineSettings) -> Reserve:
    gpu = settings.gpu
    if gpu.vendor == "AMD":
        key = "rocm_mib"
    else:
        key = {"Hopper": "hopper_mib", "Ampere": "ampere_mib"}.get(gpu.architecture, "other_mib")
    size, because = _mib("context", key), "CUDA context" if gpu.vendor == "NVIDIA" else "HIP context"
    if settings.tensor * settings.pipeline > 1:
        because += f" and NCCL for {settings.tensor * settings.pipeline} GPUs"
        size += _mib("context", "nccl_mib" if _nvlink(gpu) else "nccl_pcie_mib")
        if shape.num_experts and settings.tensor > 1 and _nvlink(gpu):
            size += _mib("context", "nccl_moe_mib")
    return Reserve(name="context", bytes=size, because=f"{because}, outside the utilization share", source=_LOGS)


def _certainty(shape: ModelShape, settings: EngineSettings, activation: int, graphs: int) -> int:
    table = _constants()["certainty"]
    gpu = settings.gpu
    if gpu.vendor == "AMD":
        base = table["rocm_mib"]
    elif gpu.id.startswith("gb10"):
        base = table["unified_mib"]
    elif settings.version < (0, 8, 0):
        base = table["v0_mib"]
    elif gpu.architecture in ("Hopper", "Ampere", "Ada", "Blackwell") and settings.version < (0, 20, 0):
        base = table["floor_mib"]
    else:
        base = table["other_cuda_mib"]
    base += table["tensor_parallel_mib"] * (settings.tensor > 1) + table["vision_mib"] * (shape.vision is not None)
    return int(base * MIB + table["share_of_activation_ratio"] * activation + table["graphs_ratio"] * graphs)


def reserves(shape: ModelShape, settings: EngineSettings) -> Reserves:
    """Everything vLLM keeps beside weights and KV cache on one GPU.

    Args:
        shape: the model, unsharded.
        settings: engine version, GPU, split and limits; use `defaults` where the user gave none.

    Returns:
        Itemised bytes; `kv_available_bytes` and `short_bytes` answer the two questions vLLM itself asks.
    """
    activation = _activation(shape, settings)
    graphs = _graphs(shape, settings)
    subtracted = settings.version >= (0, 21, 0) and settings.gpu.vendor == "NVIDIA"
    sampler, why = _sampler(shape, settings)
    if settings.max_num_seqs < 1 or not settings.last_stage:
        sampler = 0
    if shape.quantization == "mxfp4" and settings.version < (0, 22, 0):
        sampler += settings.max_num_batched_tokens * int(_constants()["pinned"]["mxfp4_bytes_per_token"])
        why += "; MXFP4 experts pin torch segments"
    return Reserves(
        activation=activation,
        graphs=graphs,
        non_torch=_non_torch(settings),
        context=_context(shape, settings),
        warmup=Reserve(name="sampler warm-up", bytes=sampler, because=why, source="vLLM v1/worker/gpu_worker.py compile_or_warm_up_model"),
        graphs_subtracted=subtracted,
        share_bytes=int(settings.gpu.memory_bytes * settings.utilization),
        total_bytes=settings.gpu.memory_bytes,
        certainty_bytes=_certainty(shape, settings, activation.bytes, graphs.bytes if subtracted else 0),
    )
