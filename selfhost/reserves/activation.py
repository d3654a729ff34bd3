"""The peak of vLLM's profiling run, from tensor shapes.

`profile_run` (v1/worker/gpu_model_runner.py) is one step of `max_num_batched_tokens` tokens through the image
encoder and the model, then one sampler pass over `max_num_seqs` rows of logits.
"""

from __future__ import annotations

from selfhost.reserves.items import Reserve
from selfhost.reserves.settings import EngineSettings
from selfhost.reserves.shape import ModelShape
from selfhost.units import MIB, ceil_div, gib

_PROFILE = "vLLM 0.32 v1/worker/gpu_model_runner.py profile_run"


def uses_model_runner_v2(shape: ModelShape, version: tuple[int, int, int]) -> bool:
    """Whether the model runner V2 runs this model by default (config/vllm.py `use_v2_model_runner`)."""
    if shape.pooling:
        return False
    if version >= (0, 26, 0):
        return True
    if version >= (0, 25, 0):
        moe = ("DeepseekV2ForCausalLM", "Qwen2MoeForCausalLM", "GraniteMoeForCausalLM")
        return not shape.hybrid and (shape.num_experts == 0 or shape.architecture in moe)
    return version >= (0, 22, 0) and shape.architecture == "Qwen3ForCausalLM" and shape.quantization is None


def sampler_peak(shape: ModelShape, settings: EngineSettings) -> tuple[int, str]:
    """Peak of the sampler pass over `max_num_seqs` rows of logits, and what it is made of.

    In units of one [rows, vocabulary] float32 tensor. Logits in the model's dtype take 0.5, their float32 copy
    1. Sorting for top-p (before 0.17) adds values 1, indices 2, and what PyTorch's sort
    (aten/native/cuda/Sort.cu) needs: from 128 rows on original indices 2 and radix temporaries 3; below two
    int2 index arrays 4, keys 1, temporaries 3. The Triton kernel (from 0.17, sample/ops/topk_topp_triton.py)
    works in place with one vocabulary row per multiprocessor; what follows needs probabilities 1 and noise 1.
    The V2 model runner samples in blocks from the float32 copy.
    """
    rows = min(settings.max_num_seqs, settings.max_num_batched_tokens)
    logits = rows * shape.vocab_size * 4
    if shape.pooling:
        return 0, "pooling model: no sampler"
    if uses_model_runner_v2(shape, settings.version):
        units, how = 0.5 * shape.dtype_bytes / 2 + 1, "model runner V2 samples in blocks"
        extra = 0
    elif settings.version >= (0, 17, 0) and rows >= 8:
        units, how = 0.5 * shape.dtype_bytes / 2 + 3, "logits, probabilities and noise in float32"
        extra = min(settings.gpu.multiprocessors, rows) * shape.vocab_size * 4
    else:
        units = 0.5 * shape.dtype_bytes / 2 + (9 if rows >= 128 else 12)
        how, extra = "top-p by sorting all logits", 0
    hidden = (settings.max_num_batched_tokens + 2 * rows) * shape.hidden_size * shape.dtype_bytes
    return int(
        units * logits
    ) + extra + hidden, f"sampler over {rows} rows x {shape.vocab_size} logits: {how}"


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
    """Peak of one layer, bytes.

    The MLP's fused gate-up and its product, with the attention output, q, k, v and about five hidden-sized buffers
    (residual in and out, norm, input, output) that the compiled pieces keep for each other: 1.10 and 1.05 GiB for
    Llama-3.1-8B without its sampler, 2.12 for Mistral-Small-24B at 8192 tokens. The V0 engine runs eagerly: q, k and v
    are gone when the MLP runs, three hidden-sized buffers stay (2.07 GiB for Llama-3.1-8B at 20000 tokens). Latent
    attention simulates its largest context pass (mla_attention.py: 8 x context, at most 64k rows of kv_b_proj).
    """
    tensor = settings.tensor
    tokens = settings.max_num_batched_tokens
    dense = 0 if shape.num_experts else shape.intermediate_size
    mlp = 3 * max(dense, shape.shared_intermediate_size) // tensor
    attention = (2 * shape.query_width + 2 * shape.kv_width) // tensor
    if settings.version < (0, 8, 0):
        return tokens * (max(mlp, attention) + 3 * shape.hidden_size) * shape.dtype_bytes
    width = max(mlp + attention, 2 * shape.recurrent_width // tensor) + 5 * shape.hidden_size
    peak = tokens * width * shape.dtype_bytes
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
    kept = tokens * (
        shape.hidden_size * vision.output_copies * shape.dtype_bytes + vision.pixel_bytes_per_token
    )
    width = 2 * vision.intermediate_size // settings.tensor + 4 * vision.hidden_size
    return kept, tokens * vision.patches_per_token * width * shape.dtype_bytes


def activation(shape: ModelShape, settings: EngineSettings) -> Reserve:
    """Torch's peak during the profiling run above the weights, with what stays allocated beside it."""
    sampler, why_sampler = sampler_peak(shape, settings)
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
