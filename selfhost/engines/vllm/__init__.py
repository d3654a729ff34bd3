"""vLLM: its image, arguments and environment.

Read from vLLM 0.32.0 (engine/arg_utils.py, envs.py) on 2026-11-21.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from selfhost.catalog.accelerators import Platform, accelerator
from selfhost.engines import (
    Argument,
    Cuda,
    EngineFile,
    EngineVersion,
    EnvVar,
    Flag,
    Image,
    Join,
    Key,
    Objection,
    Probes,
    Serving,
    Sizing,
    SizingFor,
)
from selfhost.engines.vllm.architectures import model_objection
from selfhost.engines.vllm.nodes import join
from selfhost.engines.vllm.platforms import IMAGES, platform_env, platform_objection
from selfhost.engines.vllm.refusals import (
    feature_objection,
    gpu_objection,
    load_time_method,
    weights_objection,
)
from selfhost.engines.vllm.tables import BY_NAME, FIRST, FLAGS, KV_DTYPES, METRICS, PLAIN
from selfhost.errors import UnsupportedError
from selfhost.units import GIB, gib
from selfhost.workload import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Vllm:
    """The vLLM OpenAI-compatible server."""

    name: str = "vllm"
    default_version: str = "0.32.0"
    oldest: tuple[int, int, int] = FIRST
    newest: tuple[int, int, int] = (0, 33, 0)
    port: int = 8000
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    processes: tuple[str, ...] = ("server", "engine core")
    flags: tuple[Flag, ...] = FLAGS

    def image(self, version: EngineVersion, platform: Platform) -> Image:
        """Docker Hub names; each platform's images have a repository of their own.

        Raises:
            UnsupportedError: a build between releases or a platform for which no image is published.
        """
        if not version.published:
            raise UnsupportedError(
                f"{version} is a build between releases: no image is published for it.",
                hint=f"Plan a release, as vllm@{'.'.join(map(str, version.number[:2]))}.",
            )
        published = IMAGES.get(platform)
        if published is None:
            raise UnsupportedError(
                f"No image of {version} is published for {accelerator(platform).name}.",
                hint="Build one (docs.vllm.ai/projects/gaudi has the Dockerfile) and plan with --image REPOSITORY:TAG.",
            )
        if version.number < published.since:
            since = ".".join(map(str, published.since))
            raise UnsupportedError(
                f"{version} is not known to have an image for {accelerator(platform).name}.",
                hint=f"Plan vllm@{since} or newer, or name one with --image REPOSITORY:TAG.",
            )
        return Image(repository=published.repository, tag=f"v{version.text}")

    def command(self, version: EngineVersion) -> tuple[str, ...]:
        """Named although newer images have it as entry point: older ones start another module."""
        return ("vllm", "serve")

    def drains(self, version: EngineVersion) -> bool:
        """`--shutdown-timeout` came with 0.18; before, SIGTERM aborts every running request."""
        return BY_NAME["--shutdown-timeout"].known_to(version)

    def pulls(self, version: EngineVersion) -> bool:
        """0.24 is the first release that requires transformers 5.5, and so huggingface_hub 1.5; click is the newest.

        0.19.1 to 0.23 allow it, older releases rule it out: requirements of vllm 0.19 to 0.24, transformers 4.57 to 5.5
        and huggingface_hub 1.5, read 2026-11-26. The images have Python 3.12.
        """
        return version.at_least(0, 24)

    def probes(self, version: EngineVersion) -> Probes:
        """/health answers 200 until the engine is dead, needs no key and costs nothing."""
        return Probes(ready=self.health_path, live=self.health_path)

    def key(self, version: EngineVersion) -> Key | None:
        """entrypoints/openai/api_server.py reads VLLM_API_KEY where --api-key is absent."""
        return Key(variable="VLLM_API_KEY", source="vllm 0.32 envs.py")

    def join(
        self,
        version: EngineVersion,
        split: Split,
        nodes: int,
        *,
        leader: str,
        rank: str,
        ray: bool,
        seconds: int,
    ) -> Join:
        """By its own processes, or by Ray's."""
        return join(version, split, nodes, leader=leader, rank=rank, ray=ray, seconds=seconds)

    def adapters(self, version: EngineVersion, named: tuple[tuple[str, str], ...]) -> tuple[Argument, ...]:
        """`--lora-modules` with a word for each (entrypoints/openai/cli_args.py of 0.6.3 and 0.32.0)."""
        words = (
            Argument(value=f"{name}={path}", because="an adapter, by the name clients send")
            for name, path in named
        )
        return (Argument(flag="--lora-modules", because="adapters loaded at start"), *words)

    def metrics_port(self, version: EngineVersion) -> int | None:
        """The server's own."""
        return None

    def files(self, serving: Serving) -> tuple[EngineFile, ...]:
        """Everything is an argument."""
        return ()

    def shell(self, version: EngineVersion) -> str:
        """The images are Ubuntu."""
        return "/bin/sh"

    def metrics(self, version: EngineVersion) -> tuple[str, ...]:
        """Names of v1/metrics/loggers.py, counters with the `_total` that prometheus_client adds."""
        return METRICS

    def host_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """An estimate: no published figure was found; read the pod's own use and correct it in the plan."""
        workers = serving.split.gpus
        if serving.platform == "cpu" and serving.device_bytes is not None:
            total = serving.device_bytes * workers + 8 * GIB
            return (
                total,
                f"{gib(serving.device_bytes)} GiB for each of {workers} ranks as planned, 8 GiB for server and core",
            )
        swap = 4 * GIB * workers if not serving.version.at_least(0, 11) else 0
        total = 8 * GIB + 6 * GIB * workers + swap
        because = f"estimate: 8 GiB for server, engine core and request cache, 6 GiB for each of {workers} GPU workers"
        if swap:
            because += ", 4 GiB of pinned swap space for each (removed in 0.11)"
        return total, because

    def shared_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """llm-d's charts give 20 GiB to 8 GPUs (read 2026-11-21)."""
        gpus = serving.split.gpus
        if gpus == 1:
            return GIB, "vLLM's message queues, multi-modal inputs"
        because = f"NCCL and vLLM's message queues between {gpus} workers, 2 GiB each (llm-d: 20 GiB for 8)"
        return 2 * GIB * gpus, because

    def sizing(self, version: EngineVersion, asked: SizingFor | None = None) -> Sizing:
        """Its own."""
        return _own_sizing(version.number)

    def needs_root(self, version: EngineVersion) -> str | None:
        """The images have Python where every user reads it."""
        return None

    def cuda(self, version: EngineVersion) -> Cuda | None:
        """Images of 0.20 and later are built with CUDA 13."""
        return Cuda(major=13, source="vllm#39878") if version.at_least(0, 20) else None

    def notes(self, serving: Serving) -> tuple[str, ...]:
        """Nothing."""
        return ()

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
        if BY_NAME["--disable-access-log-for-endpoints"].known_to(serving.version):
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
        own = (
            serving.platform != "cpu"
        )  # there VLLM_CPU_KVCACHE_SPACE says how much, and these would mean the node
        if load.gpu_memory_utilization is not None and own:
            words.add(
                "--gpu-memory-utilization", load.gpu_memory_utilization, "share of the GPU that was sized for"
            )
        if load.kv_cache_memory_bytes is not None and own:
            words.add("--kv-cache-memory-bytes", load.kv_cache_memory_bytes, "bytes of KV cache on each GPU")
        if load.max_num_seqs is not None:
            words.add("--max-num-seqs", load.max_num_seqs, "requests of one engine step")
        if load.max_num_batched_tokens is not None:
            words.add("--max-num-batched-tokens", load.max_num_batched_tokens, "tokens of one engine step")
        if load.kv_dtype != "auto":
            name, since = KV_DTYPES[load.kv_dtype]
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
        if wanted in PLAIN:
            words.add("--dtype", PLAIN[wanted], "as asked")
        elif serving.model_dtype == "bfloat16" and capability is not None and capability < (8, 0):
            words.add("--dtype", "float16", "bfloat16 needs compute capability 8.0 (platforms/cuda.py)")
        if wanted is None or wanted in PLAIN or wanted == serving.checkpoint_quantization:
            return
        method = load_time_method(wanted, serving.version)
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
        return (*found, *platform_env(serving))

    def object_to(self, serving: Serving) -> Objection | None:
        """What the release, its image or the GPU cannot do."""
        return (
            platform_objection(serving)
            or model_objection(serving)
            or weights_objection(serving)
            or gpu_objection(serving)
            or feature_objection(serving)
        )


@lru_cache(maxsize=64)
def _own_sizing(number: tuple[int, int, int]) -> Sizing:
    return Sizing(release=number)


class _Words:
    """Collects arguments and refuses the flags that a release does not have."""

    def __init__(self, version: EngineVersion) -> None:
        self.version = version
        self.arguments: list[Argument] = []

    def bare(self, value: str, because: str) -> None:
        self.arguments.append(Argument(value=value, because=because))

    def add(self, flag: str, value: str | float | None, because: str) -> None:
        if not BY_NAME[flag].known_to(self.version):
            since = ".".join(map(str, BY_NAME[flag].since))
            raise UnsupportedError(f"{self.version} has no {flag}.", hint=f"Take vllm@{since} or newer.")
        text = None if value is None else str(value)
        self.arguments.append(Argument(flag=flag, value=text, because=because))


ENGINE = Vllm()

__all__ = ["ENGINE", "FLAGS", "Vllm"]
