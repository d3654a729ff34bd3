"""What a release of vLLM, its image or the GPU cannot run, and what can."""

from __future__ import annotations

from selfhost.engines import EngineVersion, Objection, Serving
from selfhost.engines.vllm.tables import FIRST, FORMATS, KV_DTYPES, LORA_RANKS, PLAIN


def load_time_method(wanted: str, version: EngineVersion) -> str | None:
    """`--quantization` that makes this format while an unquantized checkpoint loads, None where vLLM cannot."""
    if wanted == "fp8":
        return "fp8_per_tensor" if version.at_least(0, 20) else "fp8"  # online quantization page of v0.20.0
    if wanted == "fp8-block":
        return "fp8_per_block" if version.at_least(0, 20) else None
    if wanted == "bnb-nf4":
        return "bitsandbytes"
    return None


def weights_objection(serving: Serving) -> Objection | None:
    """Weights that the release does not read or make."""
    version, stored, wanted = serving.version, serving.checkpoint_quantization, serving.workload.quantization
    scheme = wanted or stored or ""
    if (serving.gguf or scheme.startswith("gguf")) and version.at_least(0, 24):  # vllm#39612
        return Objection(
            because=f"{version} reads no GGUF: it moved to a plugin that the published image lacks",
            hint="Plan the repository with safetensors weights, or take --engine vllm@0.23.",
        )
    if scheme.startswith("bnb") and version.at_least(0, 28):  # vllm#43529
        return Objection(
            because=f"{version} has no bitsandbytes: it moved to a plugin that the published image lacks",
            hint="Take --quant fp8, a repository quantized to 4 bits, or --engine vllm@0.27.",
        )
    if wanted is None or wanted == stored or (stored is None and wanted in PLAIN):
        return None
    if stored is not None:
        return Objection(
            because=f"the checkpoint is stored as {stored} and vLLM does not turn it into {wanted}",
            hint=f"Plan a repository that is published as {wanted}, or leave --quant out.",
        )
    if load_time_method(wanted, version) is None:
        return Objection(
            because=f"{version} does not make {wanted} from an unquantized checkpoint while loading",
            hint=f"Plan a repository that is published as {wanted}; --quant fp8 works on this one.",
        )
    return None


def gpu_objection(serving: Serving) -> Objection | None:
    """What the release has no kernels for on this GPU."""
    scheme = serving.workload.quantization or serving.checkpoint_quantization
    known = FORMATS.get(scheme or "")
    if serving.platform != "cuda":
        if serving.platform == "rocm" and known is not None and not known.amd:
            return Objection(because=f"vLLM runs {scheme} on NVIDIA GPUs only", hint="Take fp8 weights.")
        return None
    if serving.mig and serving.split.gpus > 1:
        # CUDA shows a process one MIG instance (vllm#7211); NCCL took several only in 2026, as an experiment
        # behind a switch and without P2P (nccl#1716).
        return Objection(
            because=f"{serving.version} does not run one model over {serving.split.gpus} MIG instances",
            hint="Take a larger profile or whole GPUs; several copies are --replicas of `selfhost plan`.",
        )
    if serving.compute_capability is None:
        return None
    major, minor = serving.compute_capability
    have = major * 10 + minor
    shown = f"compute capability {major}.{minor}"
    floor = 75 if serving.version.at_least(0, 20) else 70  # CUDA 13 images (vllm#39878) have no Volta kernels
    if have < floor:
        return Objection(
            because=f"the image of {serving.version} has no kernels for {shown}",
            hint="Take a GPU of compute capability 7.5 or newer.",
        )
    if known is not None:
        least = known.capability if serving.version.at_least(0, 32) else max(known.capability, 80)
        if have < least:
            needed = f"{least // 10}.{least % 10}"
            return Objection(
                because=f"{scheme} weights need compute capability {needed}, this GPU has {major}.{minor}",
                hint=f"Take a GPU of compute capability {needed} or newer, or other weights.",
            )
    kv = KV_DTYPES.get(serving.workload.kv_dtype, ("auto", FIRST))[0]
    if kv.startswith("fp8") and have < 80:
        return Objection(
            because=f"an fp8 KV cache needs compute capability 8.0, this GPU has {major}.{minor}"
        )
    if kv == "nvfp4" and major != 10:
        return Objection(
            because=f"an nvfp4 KV cache needs compute capability 10.x, this GPU has {major}.{minor}",
            hint="Take --kv-dtype fp8.",
        )
    return None


def feature_objection(serving: Serving) -> Objection | None:
    """Options that the release or the model contradicts."""
    load = serving.workload
    if serving.split.expert and not serving.experts:  # config/model.py _verify_with_expert_parallelism
        return Objection(because="the model has no experts to spread", hint="Leave --ep out.")
    if load.speculative_tokens > 0 and not serving.drafts:
        return Objection(
            because="no MTP layers are known that could draft tokens",
            hint="Leave --speculative-tokens out; only models that come with MTP layers take it.",
        )
    step, requests = load.max_num_batched_tokens, load.max_num_seqs
    if step is not None and requests is not None and step < requests:  # config/scheduler.py:328
        return Objection(
            because=f"a step of {step:,} tokens is shorter than its {requests:,} requests of a token each",
            hint=f"Take --max-num-batched-tokens {requests} or more, or --max-num-seqs {step} or less.",
        )
    if load.max_loras > 0 and load.max_lora_rank not in LORA_RANKS:
        ranks = ", ".join(map(str, LORA_RANKS))
        return Objection(because=f"vLLM takes no LoRA rank {load.max_lora_rank}", hint=f"Ranks: {ranks}.")
    if load.max_num_seqs is not None and load.concurrency > load.max_num_seqs * serving.split.data:
        return Objection(
            because=f"{load.concurrency:,} requests at once are more than its limit of {load.max_num_seqs:,}",
            hint=f"Take --max-num-seqs {-(-load.concurrency // serving.split.data)}.",
        )
    limit = serving.max_context_tokens
    if limit is not None and load.max_model_len is not None and load.max_model_len > limit:
        return Objection(
            because=f"a context of {load.max_model_len:,} tokens is beyond the model's {limit:,}",
            hint=f"Take --context {limit}.",
        )
    return None
