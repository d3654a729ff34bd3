"""What a release of SGLang, its image or the GPU cannot run, and what can."""

from __future__ import annotations

from selfhost.engines import Objection, Serving
from selfhost.engines.sglang.architectures import ARCHITECTURES
from selfhost.engines.sglang.tables import FORMATS, KV_DTYPES, MTP, NVFP4_BELOW, PLAIN, ROCM_TAGS


def model_objection(serving: Serving) -> Objection | None:
    """Models without a class in the release."""
    version, name = serving.version, serving.architecture
    if serving.gguf:
        return Objection(
            because="which GGUF models SGLang reads, and how many bytes they take there, is not known here",
            hint="Plan the repository with safetensors weights, or take --engine llamacpp.",
        )
    if not name:
        return None
    since = ARCHITECTURES.get(name)
    if since is None:
        return Objection(
            because=f"no class for {name} was found in SGLang; what its fallback to transformers takes is not known",
            hint="Take --engine vllm.",
        )
    if version.number < since:
        shown = ".".join(map(str, since))
        return Objection(because=f"{version} has no {name}", hint=f"Take --engine sglang@{shown} or newer.")
    return None


def weights_objection(serving: Serving) -> Objection | None:
    """Weights that the release does not read or make."""
    stored, wanted = serving.checkpoint_quantization, serving.workload.quantization
    if wanted is None or wanted in (stored, serving.scheme) or (stored is None and wanted in PLAIN):
        return None
    if stored is not None:
        return Objection(
            because=f"the checkpoint is stored as {stored} and SGLang does not turn it into {wanted}",
            hint=f"Plan a repository that is published as {wanted}, or leave --quant out.",
        )
    known = FORMATS.get(wanted)
    if known is None or known.online is None:
        return Objection(
            because=f"SGLang does not make {wanted} from an unquantized checkpoint while loading",
            hint=f"Plan a repository that is published as {wanted}; --quant fp8 works on this one.",
        )
    return None


def gpu_objection(serving: Serving) -> Objection | None:
    """What the release has no image or no kernels for."""
    scheme = serving.workload.quantization or serving.scheme
    known = FORMATS.get(scheme or "")
    if serving.platform not in ("cuda", "rocm"):
        return Objection(
            because="selfhost knows SGLang's images for NVIDIA and AMD GPUs alone", hint="Take --engine vllm."
        )
    if serving.platform == "rocm":
        if serving.version.number < ROCM_TAGS[-1][0]:
            return Objection(
                because=f"no image of {serving.version} for AMD GPUs is known",
                hint="Take sglang@0.5.5 or newer.",
            )
        if known is not None and not known.amd:
            return Objection(because=f"SGLang runs {scheme} on NVIDIA GPUs only", hint="Take fp8 weights.")
        if serving.gfx is not None and not serving.gfx.startswith(("gfx94", "gfx95")):
            return Objection(
                because=f"the ROCm images of SGLang are for gfx942 and gfx950, this is {serving.gfx}"
            )
        return None
    if serving.mig and serving.split.gpus > 1:
        return Objection(
            because=f"{serving.version} does not run one model over {serving.split.gpus} MIG instances",
            hint="Take a larger profile or whole GPUs; several copies are --replicas of `selfhost plan`.",
        )
    if serving.compute_capability is None:
        return None
    return _capability(serving, scheme)


def _capability(serving: Serving, scheme: str | None) -> Objection | None:
    assert serving.compute_capability is not None
    major, minor = serving.compute_capability
    have, shown = major * 10 + minor, f"{major}.{minor}"
    if have < 75:
        return Objection(
            because=f"the kernels of {serving.version} start at compute capability 7.5, this GPU has {shown}",
            hint="Take a GPU of compute capability 7.5 or newer.",
        )
    known = FORMATS.get(scheme or "")
    least = known.capability if known is not None else 75
    if scheme in ("nvfp4", "nvfp4a16") and serving.version.number < NVFP4_BELOW[0]:
        least = NVFP4_BELOW[1]
    if have < least:
        needed = f"{least // 10}.{least % 10}"
        return Objection(
            because=f"{scheme} weights need compute capability {needed}, this GPU has {shown}",
            hint=f"Take a GPU of compute capability {needed} or newer, or other weights.",
        )
    kv = KV_DTYPES.get(serving.workload.kv_dtype, ("auto", None))[0]
    if kv.startswith("fp8") and have < 80:
        return Objection(because=f"an fp8 KV cache needs compute capability 8.0, this GPU has {shown}")
    if kv == "nvfp4" and major != 10:
        return Objection(
            because=f"an nvfp4 KV cache needs compute capability 10.x, this GPU has {shown}",
            hint="Take --kv-dtype fp8.",
        )
    return None


def kv_objection(serving: Serving) -> Objection | None:
    """Element types of the KV cache that the release does not take."""
    wanted = serving.workload.kv_dtype
    if wanted == "auto" or (wanted in ("fp16", "float16") and serving.model_dtype == "float16"):
        return None
    known = KV_DTYPES.get(wanted)
    if known is None:
        return Objection(because=f"SGLang has no KV cache in {wanted}", hint="Take --kv-dtype auto or fp8.")
    if serving.version.number < known[1]:
        shown = ".".join(map(str, known[1]))
        return Objection(
            because=f"{serving.version} has no KV-cache dtype {known[0]}",
            hint=f"Take sglang@{shown} or newer.",
        )
    return None


def feature_objection(serving: Serving) -> Objection | None:
    """Options that the release or the model contradicts."""
    load, split = serving.workload, serving.split
    if load.speculative_tokens > 0:
        since = MTP.get(serving.architecture) if serving.drafts else None
        if since is None or serving.version.number < since:
            return Objection(
                because="its own MTP layers are not known to draft for this model in SGLang",
                hint="Leave --speculative-tokens out.",
            )
        if split.pipeline > 1:
            return Objection(
                because="SGLang does not draft tokens over pipeline stages", hint="Take --tp alone."
            )
    if split.data > 1 and split.pipeline > 1:
        return Objection(
            because="data parallelism beside pipeline stages is not known to work in SGLang",
            hint="Take --tp and --dp, or --tp and --pp; several copies are --replicas.",
        )
    if split.expert and not serving.experts:
        return Objection(because="the model has no experts to spread", hint="Leave --ep out.")
    if load.max_num_seqs is not None and load.concurrency > load.max_num_seqs * split.data:
        return Objection(
            because=f"{load.concurrency:,} requests at once are more than its limit of {load.max_num_seqs:,}",
            hint=f"Take --max-num-seqs {-(-load.concurrency // split.data)}.",
        )
    limit = serving.max_context_tokens
    if limit is not None and load.max_model_len is not None and load.max_model_len > limit:
        return Objection(
            because=f"a context of {load.max_model_len:,} tokens is beyond the model's {limit:,}",
            hint=f"Take --context {limit}.",
        )
    return None
