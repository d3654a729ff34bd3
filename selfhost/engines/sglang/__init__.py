"""SGLang: its image, arguments and environment.

Read from the wheels of SGLang 0.5.3 to 0.5.23 (srt/server_args.py, srt/arg_groups/, srt/environ.py,
srt/entrypoints/http_server.py, srt/managers/tokenizer_manager.py) on 2026-11-26.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from selfhost.engines.sglang import nodes as several
from selfhost.engines.sglang.arguments import arguments, environment
from selfhost.engines.sglang.refusals import (
    feature_objection,
    gpu_objection,
    kv_objection,
    model_objection,
    weights_objection,
)
from selfhost.engines.sglang.sizing import sizing_of
from selfhost.engines.sglang.tables import CUDA13_SINCE, FIRST, FLAGS, READY_SINCE, ROCM_TAGS, metrics_of
from selfhost.errors import UnsupportedError
from selfhost.units import GIB
from selfhost.workload import Split

# /health sends one token through the scheduler and gives it this long (HEALTH_CHECK_TIMEOUT of http_server.py).
_HEALTH_SECONDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sglang:
    """The SGLang server with its OpenAI-compatible API."""

    name: str = "sglang"
    default_version: str = "0.5.23"
    oldest: tuple[int, int, int] = FIRST
    newest: tuple[int, int, int] = (0, 5, 23)
    port: int = 30000
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    processes: tuple[str, ...] = ("server with tokenizer", "detokenizer")
    flags: tuple[Flag, ...] = FLAGS

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
        """Every node starts the same server."""
        return several.join(nodes, leader=leader, rank=rank, ray=ray)

    def adapters(self, version: EngineVersion, named: tuple[tuple[str, str], ...]) -> tuple[Argument, ...]:
        """`--lora-paths`, in every release that is known."""
        return several.adapters(named)

    def image(self, version: EngineVersion, platform: Platform) -> Image:
        """Docker Hub names; tags for ROCm name their ROCm and the family of GPUs.

        Raises:
            UnsupportedError: a build between releases or a platform for which no image is known.
        """
        if not version.published:
            raise UnsupportedError(
                f"{version} is a build between releases: no image is published for it.",
                hint=f"Plan a release, as sglang@{self.default_version}.",
            )
        tag = f"v{version.text}"
        if platform == "rocm":
            rocm = next((name for since, name in ROCM_TAGS if version.number >= since), None)
            if rocm is None:
                raise UnsupportedError(
                    f"{version} is not known to have an image for AMD GPUs.",
                    hint="Plan sglang@0.5.5 or newer, or name one with --image REPOSITORY:TAG.",
                )
            tag = f"{tag}-{rocm}-mi30x"
        elif platform != "cuda":
            raise UnsupportedError(
                f"No image of {version} is known for {accelerator(platform).name}.",
                hint="Take --engine vllm.",
            )
        return Image(repository="lmsysorg/sglang", tag=tag)

    def command(self, version: EngineVersion) -> tuple[str, ...]:
        """The module that every release has; `sglang serve` first asks whether the model is one of diffusion."""
        return ("python3", "-m", "sglang.launch_server")

    def drains(self, version: EngineVersion) -> bool:
        """After SIGTERM it waits for running requests, without a limit of its own: the grace period is the limit."""
        return True

    def pulls(self, version: EngineVersion) -> bool:
        """Its wheels pin transformers without a floor for huggingface_hub that is known here."""
        return False

    def probes(self, version: EngineVersion) -> Probes:
        """/ready reads a flag; /health sends a token through the scheduler, and so tells that it is alive."""
        ready = "/ready" if version.number >= READY_SINCE else self.health_path
        return Probes(
            ready=ready,
            live=self.health_path,
            timeout_seconds=_HEALTH_SECONDS + 5,
            because=f"/health sends a token through the scheduler, and answers 503 itself after {_HEALTH_SECONDS} s",
        )

    def key(self, version: EngineVersion) -> Key | None:
        """There is no variable (sglang#36346); --config reads arguments from a YAML file, which the Secret brings."""
        return Key(
            file_flag="--config",
            file_name="sglang.yaml",
            file_text="api-key: {key}",
            separate=True,
            caution="SGLang writes its arguments to its log at start, the key among them",
            source="sglang 0.5.3 to 0.5.23 srt/utils/server_args_config_parser.py",
        )

    def metrics_port(self, version: EngineVersion) -> int | None:
        """The server's own."""
        return None

    def files(self, serving: Serving) -> tuple[EngineFile, ...]:
        """Everything is an argument."""
        return ()

    def shell(self, version: EngineVersion) -> str:
        """The images are Ubuntu."""
        return "/bin/sh"

    def needs_root(self, version: EngineVersion) -> str | None:
        """Python lies where every user reads it."""
        return None

    def metrics(self, version: EngineVersion) -> tuple[str, ...]:
        """Names of srt/observability/metrics_collector.py, with `--enable-metrics`."""
        return metrics_of(version.number)

    def host_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """An estimate: no published figure was found; read the pod's own use and correct it in the plan."""
        workers = serving.split.gpus
        because = (
            f"estimate: 8 GiB for server, tokenizer and detokenizer, 6 GiB for each of {workers} schedulers"
        )
        return 8 * GIB + 6 * GIB * workers, because

    def shared_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """As for vLLM: NCCL's rings are the same, and images go between processes in shared memory."""
        gpus = serving.split.gpus
        if gpus == 1:
            return GIB, "images between tokenizer and scheduler"
        return 2 * GIB * gpus, f"NCCL and images between {gpus} schedulers, 2 GiB each (llm-d: 20 GiB for 8)"

    def sizing(self, version: EngineVersion, asked: SizingFor | None = None) -> Sizing:
        """vLLM's rules for weights and cache, SGLang's for the rest."""
        return sizing_of(asked)

    def cuda(self, version: EngineVersion) -> Cuda | None:
        """From 0.5.19 on the tag without a suffix is known to bring CUDA 13."""
        if version.number < CUDA13_SINCE:
            return None
        return Cuda(major=13, source="tags of lmsysorg/sglang: -cu129 beside 0.5.19, none after")

    def notes(self, serving: Serving) -> tuple[str, ...]:
        """Where the image is not the one to take everywhere."""
        if serving.platform == "rocm":
            if serving.gfx is not None and serving.gfx.startswith("gfx95"):
                tag = self.image(serving.version, "rocm").tag.replace("-mi30x", "-mi35x")
                return (
                    f"MI350 series: render with --image lmsysorg/sglang:{tag}; the image named here is for MI300",
                )
            return ()
        if serving.version.number >= CUDA13_SINCE:
            because = (
                "the image brings CUDA 13: nodes need driver 580 or newer; for older ones plan sglang@0.5.19 and "
                "render with --image lmsysorg/sglang:v0.5.19-cu129, the last with CUDA 12"
            )
            return (because,)
        return ()

    def args(self, serving: Serving) -> tuple[Argument, ...]:
        """The argument vector of sglang.launch_server."""
        return arguments(serving, (self.health_path, "/ready", self.metrics_path))

    def env(self, serving: Serving) -> tuple[EnvVar, ...]:
        """Offline switches and one writable place for every cache."""
        return environment(serving)

    def object_to(self, serving: Serving) -> Objection | None:
        """What the release, its image or the GPU cannot do."""
        return (
            gpu_objection(serving)
            or model_objection(serving)
            or weights_objection(serving)
            or kv_objection(serving)
            or feature_objection(serving)
        )


ENGINE = Sglang()

__all__ = ["ENGINE", "FLAGS", "Sglang"]
