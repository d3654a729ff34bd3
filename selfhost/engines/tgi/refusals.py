"""What TGI, its image or the GPU cannot run, and what can."""

from __future__ import annotations

from selfhost.engines import Objection, Serving
from selfhost.engines.tgi.tables import (
    ARCHITECTURES,
    KV_DTYPES,
    ONLINE,
    PLAIN,
    RELEASES,
    STORED,
    WIGGLE_ROOM,
)

_OTHER = "Take --engine vllm or --engine sglang."


def model_objection(serving: Serving) -> Objection | None:
    """Models without a class whose memory is known."""
    version, name = serving.version, serving.architecture
    if version.number not in RELEASES:
        return Objection(because=f"there is no TGI {version.text}", hint="3.3.7 is its last release.")
    if serving.gguf:
        return Objection(
            because="TGI reads no GGUF", hint="Take --engine llamacpp, or the safetensors repository."
        )
    if not name:
        return None
    since = ARCHITECTURES.get(name)
    if since is None:
        return Objection(
            because=f"TGI has no paged class for {name} whose memory is known here, and gets none: it is archived",
            hint=_OTHER,
        )
    if version.number < since:
        return Objection(
            because=f"{version} has no {name}", hint=f"Take tgi@{'.'.join(map(str, since))} or newer."
        )
    return None


def weights_objection(serving: Serving) -> Objection | None:
    """Weights that TGI does not read or make."""
    stored, wanted = serving.checkpoint_quantization, serving.workload.quantization
    if stored is not None:
        since = STORED.get(stored)
        if since is None or serving.version.number < since:
            return Objection(
                because=f"{serving.version} does not read weights stored as {stored}", hint=_OTHER
            )
        if wanted not in (None, stored, serving.scheme):
            return Objection(
                because=f"the checkpoint is stored as {stored} and TGI does not turn it into {wanted}",
                hint=f"Plan a repository that is published as {wanted}, or leave --quant out.",
            )
        return None
    if wanted is None or wanted in PLAIN:
        return None
    online = ONLINE.get(wanted)
    if online is None:
        return Objection(
            because=f"TGI does not make {wanted} from an unquantized checkpoint while loading",
            hint=f"Plan a repository that is published as {wanted}; --quant fp8 works on this one.",
        )
    return None


def gpu_objection(serving: Serving) -> Objection | None:
    """What there is no image or no kernel for."""
    if serving.platform == "rocm":
        if serving.gfx not in (None, "gfx90a", "gfx942"):
            return Objection(because=f"the ROCm image of TGI is for gfx90a and gfx942, this is {serving.gfx}")
        if serving.workload.kv_dtype != "auto":
            return Objection(because="TGI has no other KV cache than the model's dtype on AMD GPUs")
        return None
    if serving.platform != "cuda":
        return Objection(because="TGI is planned for NVIDIA and AMD GPUs alone", hint="Take --engine vllm.")
    if serving.mig and serving.split.gpus > 1:
        return Objection(
            because=f"TGI does not run one model over {serving.split.gpus} MIG instances",
            hint="Take a larger profile or whole GPUs; several copies are --replicas of `selfhost plan`.",
        )
    if serving.compute_capability is None:
        return None
    major, minor = serving.compute_capability
    have, shown = major * 10 + minor, f"{major}.{minor}"
    if have < 75:
        return Objection(because=f"TGI's images start at compute capability 7.5, this GPU has {shown}")
    online = ONLINE.get(serving.workload.quantization or "")
    if online is not None and have < online.capability:
        return Objection(
            because=f"{serving.workload.quantization} weights need compute capability 8.0, this GPU has {shown}"
        )
    if serving.workload.kv_dtype in KV_DTYPES and have < 80:
        return Objection(because=f"an fp8 KV cache needs compute capability 8.0, this GPU has {shown}")
    return None


def split_objection(serving: Serving) -> Objection | None:
    """Ways of dividing a model that TGI does not have: it shards layers within one machine, and nothing else."""
    split = serving.split
    if split.pipeline > 1:
        return Objection(because="TGI has no pipeline stages", hint="Take --tp alone, or --engine vllm.")
    if split.data > 1:
        return Objection(
            because="TGI has no data parallelism", hint="Several copies are --replicas of `selfhost plan`."
        )
    if split.expert:
        return Objection(because="TGI does not spread experts", hint="Leave --ep out.")
    if split.tensor > 8:
        return Objection(because="TGI runs on one machine", hint="Take --tp 8 or less, or --engine vllm.")
    if serving.kv_heads > 1 and serving.kv_heads % split.tensor:
        # flash_causal_lm.py: num_kv_heads // world size
        return Objection(
            because=f"{serving.kv_heads} key/value heads do not divide over {split.tensor} shards of TGI",
            hint="Take fewer GPUs, or --engine vllm, which repeats heads.",
        )
    return None


def feature_objection(serving: Serving) -> Objection | None:
    """Options that TGI does not have or the model contradicts."""
    load = serving.workload
    if load.max_loras > 0:
        return Objection(
            because="TGI loads adapters by name at start (LORA_ADAPTERS), and a plan names none",
            hint="Take --engine vllm.",
        )
    if load.speculative_tokens > 0:
        return Objection(because="TGI does not draft by a model's own MTP layers", hint="Take --engine vllm.")
    if load.kv_dtype != "auto" and load.kv_dtype not in KV_DTYPES:
        return Objection(
            because=f"TGI has no KV cache in {load.kv_dtype}", hint="Take --kv-dtype auto or fp8."
        )
    if load.kv_cache_memory_bytes is not None or load.block_size is not None:
        return Objection(
            because="TGI sizes its KV cache and the blocks of it by itself",
            hint="Take --gpu-memory-utilization instead.",
        )
    if load.language_model_only:
        return Objection(
            because="TGI has no way to leave towers out", hint="Leave --language-model-only out."
        )
    if serving.memory is None and (load.gpu_memory_utilization or 0) > WIGGLE_ROOM:
        return Objection(
            because=f"TGI leaves a tenth of the GPU alone, so {load.gpu_memory_utilization:g} of it cannot be had",
            hint=f"Take --gpu-memory-utilization {WIGGLE_ROOM:g} or less.",
        )
    if load.max_num_seqs is not None and load.concurrency > load.max_num_seqs:
        return Objection(
            because=f"{load.concurrency:,} requests at once are more than its limit of {load.max_num_seqs:,}",
            hint=f"Take --max-num-seqs {load.concurrency}.",
        )
    limit = serving.max_context_tokens
    if limit is not None and load.max_model_len is not None and load.max_model_len > limit:
        return Objection(
            because=f"a context of {load.max_model_len:,} tokens is beyond the model's {limit:,}",
            hint=f"Take --context {limit}.",
        )
    return None
