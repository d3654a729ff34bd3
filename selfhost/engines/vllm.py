"""vLLM: image, flags and their releases, what it refuses, its environment and its metrics.

Read from vLLM 0.32.0 (engine/arg_utils.py, envs.py, config/, v1/metrics/loggers.py) on 2026-11-21; the release that
brought or removed something is from the pull request named beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from selfhost.engines import Argument, EngineVersion, EnvVar, Flag, Image, Objection, Serving, Vendor
from selfhost.errors import UnsupportedError
from selfhost.units import GIB

_FIRST = (0, 6, 0)
_DOCS_06 = "engine arguments page of v0.6.3.post1"

FLAGS = (
    Flag(name="--served-model-name", since=_FIRST, source=_DOCS_06),
    Flag(name="--revision", since=_FIRST, source=_DOCS_06),
    Flag(name="--port", since=_FIRST, source=_DOCS_06),
    Flag(name="--dtype", since=_FIRST, source=_DOCS_06),
    Flag(name="--quantization", since=_FIRST, source=_DOCS_06),
    Flag(name="--load-format", since=_FIRST, source=_DOCS_06),
    Flag(name="--tensor-parallel-size", since=_FIRST, source=_DOCS_06),
    Flag(name="--pipeline-parallel-size", since=_FIRST, source=_DOCS_06),
    Flag(
        name="--data-parallel-size", since=(0, 9, 0), source="engine arguments page of v0.9.0 (first checked)"
    ),
    Flag(name="--enable-expert-parallel", since=(0, 8, 0), source="vllm#12583"),
    Flag(name="--max-model-len", since=_FIRST, source=_DOCS_06),
    Flag(name="--max-num-seqs", since=_FIRST, source=_DOCS_06),
    Flag(name="--max-num-batched-tokens", since=_FIRST, source=_DOCS_06),
    Flag(name="--gpu-memory-utilization", since=_FIRST, source=_DOCS_06),
    Flag(name="--kv-cache-memory-bytes", since=(0, 11, 0), source="vllm#21489"),
    Flag(name="--kv-cache-dtype", since=_FIRST, source=_DOCS_06),
    Flag(name="--block-size", since=_FIRST, source=_DOCS_06),
    Flag(name="--enforce-eager", since=_FIRST, source=_DOCS_06),
    Flag(name="--enable-prefix-caching", since=_FIRST, source=_DOCS_06),
    Flag(name="--no-enable-prefix-caching", since=(0, 8, 0), source="on by default with the V1 engine"),
    Flag(name="--enable-lora", since=_FIRST, source=_DOCS_06),
    Flag(name="--max-loras", since=_FIRST, source=_DOCS_06),
    Flag(name="--max-lora-rank", since=_FIRST, source=_DOCS_06),
    Flag(
        name="--speculative-config", since=(0, 12, 0), source="method `mtp` for every family (first checked)"
    ),
    Flag(name="--language-model-only", since=(0, 17, 0), source="vllm#34120"),
    Flag(name="--shutdown-timeout", since=(0, 18, 0), source="vllm#34730"),
    Flag(
        name="--disable-access-log-for-endpoints", since=(0, 16, 0), source="deployment facts of 2026-11-21"
    ),
)
_FLAG = {flag.name: flag for flag in FLAGS}

# KV-cache dtype as selfhost names it -> as vLLM does, with the first release that was checked to take it.
_KV_DTYPES = {
    "bf16": ("bfloat16", (0, 11, 0)), "bfloat16": ("bfloat16", (0, 11, 0)),
    "fp16": ("float16", (0, 32, 0)), "float16": ("float16", (0, 32, 0)),
    "fp8": ("fp8", _FIRST), "fp8_e4m3": ("fp8_e4m3", _FIRST), "fp8_e5m2": ("fp8_e5m2", _FIRST),
    "fp4": ("nvfp4", (0, 32, 0)), "nvfp4": ("nvfp4", (0, 32, 0)),
}  # fmt: skip
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # config/lora.py MaxLoRARanks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """A weight format: least compute capability on NVIDIA (get_min_capability in 0.32), whether AMD runs it."""

    capability: int
    amd: bool


_FORMATS = {
    "fp8": _Format(capability=75, amd=True),
    "fp8-block": _Format(capability=75, amd=True),
    "int8": _Format(capability=75, amd=True),
    "awq-int4": _Format(capability=75, amd=True),
    "gptq-int4": _Format(capability=75, amd=True),
    "w4a16": _Format(capability=75, amd=True),
    "nvfp4": _Format(capability=75, amd=False),
    "mxfp4": _Format(capability=80, amd=True),
    "bnb-nf4": _Format(capability=70, amd=False),
    "bnb-int8": _Format(capability=70, amd=False),
}
_PLAIN = {"bf16": "bfloat16", "fp16": "float16"}

_METRICS = (
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
    "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total", "vllm:num_preemptions_total",
    "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total",
    "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds",
    "vllm:request_time_per_output_token_seconds", "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds", "vllm:lora_requests_info",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Vllm:
    """The vLLM OpenAI-compatible server."""

    name: str = "vllm"
    default_version: str = "0.32.0"
    oldest: tuple[int, int, int] = _FIRST
    newest: tuple[int, int, int] = (0, 33, 0)
    port: int = 8000
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    flags: tuple[Flag, ...] = FLAGS

    def image(self, version: EngineVersion, vendor: Vendor) -> Image:
        """Docker Hub names; ROCm images have a repository of their own.

        Raises:
            UnsupportedError: a build between releases, for which no image is published.
        """
        if not version.published:
            raise UnsupportedError(
                f"{version} is a build between releases: no image is published for it.",
                hint=f"Plan a release, as vllm@{'.'.join(map(str, version.number[:2]))}.",
            )
        repository = "vllm/vllm-openai" + ("-rocm" if vendor == "AMD" else "")
        return Image(repository=repository, tag=f"v{version.text}")

    def command(self, version: EngineVersion) -> tuple[str, ...]:
        """Named although newer images have it as entry point: older ones start another module."""
        return ("vllm", "serve")

    def drains(self, version: EngineVersion) -> bool:
        """`--shutdown-timeout` came with 0.18; before, SIGTERM aborts every running request."""
        return _FLAG["--shutdown-timeout"].known_to(version)

    def metrics(self, version: EngineVersion) -> tuple[str, ...]:
        """Names of v1/metrics/loggers.py, counters with the `_total` that prometheus_client adds."""
        return _METRICS

    def host_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """An estimate: no published figure was found; read the pod's own use and correct it in the plan."""
        workers = serving.split.gpus
        swap = 4 * GIB * workers if not serving.version.at_least(0, 11) else 0
        total = 8 * GIB + 6 * GIB * workers + swap
        because = f"estimate: 8 GiB for server, engine core and request cache, 6 GiB for each of {workers} GPU workers"
        if swap:
            because += ", 4 GiB of pinned swap space for each (removed in 0.11)"
        return total, because

    def args(self, serving: Serving) -> tuple[Argument, ...]:
        """The argument vector of `vllm serve`."""
        words = _Words(serving.version)
        words.bare(
            serving.model, "what to load" if serving.revision is None else "loaded from the local Hub cache"
        )
        words.add("--served-model-name", serving.served_name, "the name clients send as `model`")
        if serving.revision is not None:
            words.add("--revision", serving.revision, "the commit that was planned, whatever main becomes")
        words.add("--port", serving.port, "above 1024, as the process is not root")
        self._split(serving, words)
        self._memory(serving, words)
        self._weights(serving, words)
        self._features(serving, words)
        if self.drains(serving.version):
            words.add("--shutdown-timeout", serving.drain_seconds, "finish running requests after SIGTERM")
        if _FLAG["--disable-access-log-for-endpoints"].known_to(serving.version):
            paths = f"{self.health_path},{self.metrics_path}"
            words.add("--disable-access-log-for-endpoints", paths, "probes and scrapes would fill the log")
        return tuple(words.arguments)

    def _split(self, serving: Serving, words: _Words) -> None:
        split = serving.split
        words.add("--tensor-parallel-size", split.tensor, "GPUs that share each layer")
        if split.pipeline > 1:
            words.add("--pipeline-parallel-size", split.pipeline, "stages of layers")
        if split.data > 1:
            words.add("--data-parallel-size", split.data, "copies of the attention layers")
        if split.expert:
            words.add("--enable-expert-parallel", None, "whole experts on each rank")

    def _memory(self, serving: Serving, words: _Words) -> None:
        load = serving.workload
        if load.max_model_len is not None:
            words.add("--max-model-len", load.max_model_len, "longest request, prompt and answer, in tokens")
        if load.gpu_memory_utilization is not None:
            words.add(
                "--gpu-memory-utilization", load.gpu_memory_utilization, "share of the GPU that was sized for"
            )
        if load.kv_cache_memory_bytes is not None:
            words.add("--kv-cache-memory-bytes", load.kv_cache_memory_bytes, "bytes of KV cache on each GPU")
        if load.max_num_seqs is not None:
            words.add("--max-num-seqs", load.max_num_seqs, "requests of one engine step")
        if load.max_num_batched_tokens is not None:
            words.add("--max-num-batched-tokens", load.max_num_batched_tokens, "tokens of one engine step")
        if load.kv_dtype != "auto":
            name, since = _KV_DTYPES[load.kv_dtype]
            if serving.version.number < since:
                raise UnsupportedError(
                    f"{serving.version} has no KV-cache dtype {name}.", hint="Take a newer engine."
                )
            words.add("--kv-cache-dtype", name, "element type of the KV cache")
        if load.block_size is not None:
            words.add("--block-size", load.block_size, "tokens of one KV-cache block")
        if load.enforce_eager:
            words.add("--enforce-eager", None, "no CUDA graphs")
        if not load.prefix_caching and serving.version.at_least(0, 8):
            words.add("--no-enable-prefix-caching", None, "as asked")
        elif load.prefix_caching and not serving.version.at_least(0, 8):
            words.add("--enable-prefix-caching", None, "off by default before 0.8")

    def _weights(self, serving: Serving, words: _Words) -> None:
        wanted = serving.workload.quantization
        capability = serving.compute_capability
        if wanted in _PLAIN:
            words.add("--dtype", _PLAIN[wanted], "as asked")
        elif serving.model_dtype == "bfloat16" and capability is not None and capability < (8, 0):
            words.add("--dtype", "float16", "bfloat16 needs compute capability 8.0 (platforms/cuda.py)")
        if wanted is None or wanted in _PLAIN or wanted == serving.checkpoint_quantization:
            return
        method = _load_time_method(wanted, serving.version)
        if method is not None:
            words.add("--quantization", method, f"the checkpoint is quantized to {wanted} while it loads")
        if method == "bitsandbytes":
            words.add("--load-format", "bitsandbytes", "the loader that quantizes while it reads")

    def _features(self, serving: Serving, words: _Words) -> None:
        load = serving.workload
        if load.max_loras > 0:
            words.add("--enable-lora", None, "adapters are held beside the weights")
            words.add("--max-loras", load.max_loras, "adapters on the GPU at once")
            words.add("--max-lora-rank", load.max_lora_rank, "largest rank of an adapter")
        if load.speculative_tokens > 0:
            draft = json.dumps({"method": "mtp", "num_speculative_tokens": load.speculative_tokens})
            words.add("--speculative-config", draft, "tokens drafted by the model's own MTP layers")
        if load.language_model_only:
            words.add("--language-model-only", None, "vision and audio towers are left out")

    def env(self, serving: Serving) -> tuple[EnvVar, ...]:
        """Offline switches, one writable place for every cache, and the engine's own start-up clock."""
        home, cache = serving.home_dir, f"{serving.home_dir}/.cache"
        found = [
            EnvVar(name="HOME", value=home, because="the only writable directory besides /tmp"),
            EnvVar(
                name="USER",
                value="selfhost",
                because="torch asks for a name; this user ID has no passwd entry",
            ),
            EnvVar(
                name="HF_HUB_CACHE",
                value=serving.hub_cache_dir,
                because="weights volume, read-only here",
            ),
            EnvVar(
                name="HF_HOME",
                value=f"{cache}/huggingface",
                because="what the Hub library writes besides weights",
            ),
            EnvVar(
                name="HF_HUB_OFFLINE",
                value="1",
                because="the weights are local; nothing is asked from the Hub",
            ),
            EnvVar(name="TRANSFORMERS_OFFLINE", value="1", because="the same for transformers"),
            EnvVar(name="XDG_CACHE_HOME", value=cache, because="libraries that follow the XDG rules"),
            EnvVar(
                name="XDG_CONFIG_HOME", value=f"{home}/.config", because="libraries that follow the XDG rules"
            ),
            EnvVar(name="VLLM_CACHE_ROOT", value=f"{cache}/vllm", because="compiled graphs"),
            EnvVar(name="VLLM_CONFIG_ROOT", value=f"{home}/.config/vllm", because="engine configuration"),
            EnvVar(name="TRITON_CACHE_DIR", value=f"{cache}/triton", because="compiled kernels"),
            EnvVar(name="TORCHINDUCTOR_CACHE_DIR", value=f"{cache}/inductor", because="compiled kernels"),
            EnvVar(
                name="NUMBA_CACHE_DIR", value=f"{cache}/numba", because="else beside the read-only package"
            ),
            EnvVar(
                name="OUTLINES_CACHE_DIR", value=f"{cache}/outlines", because="structured-output grammars"
            ),
            EnvVar(name="VLLM_NO_USAGE_STATS", value="1", because="no usage reports"),
            EnvVar(name="DO_NOT_TRACK", value="1", because="no usage reports from other libraries"),
        ]
        if serving.version.at_least(0, 11, 1):  # vllm#27444
            because = "the load-time budget; the engine would give up after 600 s"
            ready = EnvVar(
                name="VLLM_ENGINE_READY_TIMEOUT_S", value=str(serving.load_seconds), because=because
            )
            found.append(ready)
        return tuple(found)

    def object_to(self, serving: Serving) -> Objection | None:
        """What the release, its image or the GPU cannot do."""
        return _weights_objection(serving) or _gpu_objection(serving) or _feature_objection(serving)


class _Words:
    """Collects arguments and refuses the flags that a release does not have."""

    def __init__(self, version: EngineVersion) -> None:
        self.version = version
        self.arguments: list[Argument] = []

    def bare(self, value: str, because: str) -> None:
        self.arguments.append(Argument(value=value, because=because))

    def add(self, flag: str, value: str | float | None, because: str) -> None:
        if not _FLAG[flag].known_to(self.version):
            since = ".".join(map(str, _FLAG[flag].since))
            raise UnsupportedError(f"{self.version} has no {flag}.", hint=f"Take vllm@{since} or newer.")
        text = None if value is None else str(value)
        self.arguments.append(Argument(flag=flag, value=text, because=because))


def _load_time_method(wanted: str, version: EngineVersion) -> str | None:
    """`--quantization` that makes this format while an unquantized checkpoint loads, None where vLLM cannot."""
    if wanted == "fp8":
        return "fp8_per_tensor" if version.at_least(0, 20) else "fp8"  # online quantization page of v0.20.0
    if wanted == "fp8-block":
        return "fp8_per_block" if version.at_least(0, 20) else None
    if wanted == "bnb-nf4":
        return "bitsandbytes"
    return None


def _weights_objection(serving: Serving) -> Objection | None:
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
    if wanted is None or wanted == stored or (stored is None and wanted in _PLAIN):
        return None
    if stored is not None:
        return Objection(
            because=f"the checkpoint is stored as {stored} and vLLM does not turn it into {wanted}",
            hint=f"Plan a repository that is published as {wanted}, or leave --quant out.",
        )
    if _load_time_method(wanted, version) is None:
        return Objection(
            because=f"{version} does not make {wanted} from an unquantized checkpoint while loading",
            hint=f"Plan a repository that is published as {wanted}; --quant fp8 works on this one.",
        )
    return None


def _gpu_objection(serving: Serving) -> Objection | None:
    scheme = serving.workload.quantization or serving.checkpoint_quantization
    known = _FORMATS.get(scheme or "")
    if serving.vendor == "AMD":
        if known is not None and not known.amd:
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
    kv = _KV_DTYPES.get(serving.workload.kv_dtype, ("auto", _FIRST))[0]
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


def _feature_objection(serving: Serving) -> Objection | None:
    load = serving.workload
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
    if load.max_loras > 0 and load.max_lora_rank not in _LORA_RANKS:
        ranks = ", ".join(map(str, _LORA_RANKS))
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


ENGINE = Vllm()
