"""Text Generation Inference: its last images, arguments and environment, for fleets that have it.

Upstream went into maintenance on 2025-12-11, released 3.3.7 last and was archived on 2026-03-21; it names vLLM, SGLang
and llama.cpp as what to take instead. Read from its tags v2.4.0 to v3.3.7 on 2026-11-26.
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
    Key,
    Objection,
    Probes,
    Serving,
    Sizing,
    SizingFor,
)
from selfhost.engines.tgi.environment import environment
from selfhost.engines.tgi.refusals import (
    feature_objection,
    gpu_objection,
    model_objection,
    split_objection,
    weights_objection,
)
from selfhost.engines.tgi.tables import (
    CHUNKS_SINCE,
    FIRST,
    FLAGS,
    LAST,
    METRICS,
    RELEASES,
    ROOT_SINCE,
    WIGGLE_ROOM,
)
from selfhost.errors import UnsupportedError
from selfhost.units import GIB

ARCHIVED = (
    "TGI is archived: 3.3.7 is its last release and gets no fixes; its authors name vLLM, SGLang and llama.cpp to take "
    "instead (`selfhost migrate` translates)"
)
_BECAUSE = (
    "sized by the rules of vLLM 0.8 for weights and one layer's activations, with TGI's own share of the GPU; it keeps "
    "every token of every layer; compared with no start-up of TGI, hence the wider certainty"
)
_STAND_IN = (0, 8, 0)  # no graphs taken off the cache, as in TGI
_CERTAINTY_RATIO = 0.05  # ours: no start-up logs to derive one from
_PREFILL_TOKENS = 4096  # launcher/src/main.rs: where it cannot estimate the GPU's best


@dataclass(frozen=True, slots=True, kw_only=True)
class Tgi:
    """The launcher with its router and shards."""

    name: str = "tgi"
    default_version: str = "3.3.7"
    oldest: tuple[int, int, int] = FIRST
    newest: tuple[int, int, int] = LAST
    port: int = 8080
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    processes: tuple[str, ...] = ("launcher", "router")
    flags: tuple[Flag, ...] = FLAGS

    def image(self, version: EngineVersion, platform: Platform) -> Image:
        """GitHub's registry; images for AMD have a suffix.

        Raises:
            UnsupportedError: a release that never was, or a platform that is not planned for.
        """
        if version.number not in RELEASES or not version.published:
            raise UnsupportedError(f"There is no TGI {version.text}.", hint="3.3.7 is its last release.")
        if platform not in ("cuda", "rocm"):
            raise UnsupportedError(
                f"TGI on {accelerator(platform).name} is not planned for.", hint="Take --engine vllm."
            )
        suffix = "-rocm" if platform == "rocm" else ""
        repository = "ghcr.io/huggingface/text-generation-inference"
        return Image(repository=repository, tag=f"{version.text}{suffix}")

    def command(self, version: EngineVersion) -> tuple[str, ...]:
        """The image's own entry point, which finds Python; it splits what it is given at spaces."""
        return ("/tgi-entrypoint.sh",)

    def drains(self, version: EngineVersion) -> bool:
        """The launcher waits for its router, 90 s where nothing else is said."""
        return True

    def pulls(self, version: EngineVersion) -> bool:
        """huggingface_hub 0.30 and click below 8.2 (server/pyproject.toml)."""
        return False

    def probes(self, version: EngineVersion) -> Probes:
        """Open even with a key; the router listens when the model is warm."""
        return Probes(ready=self.health_path, live=self.health_path)

    def key(self, version: EngineVersion) -> Key | None:
        """A variable, which the launcher hands on as an argument."""
        return Key(
            variable="API_KEY",
            caution="TGI's launcher writes the key to its log and to the command line of its router",
            source="text-generation-inference v2.4.0 to v3.3.7 launcher/src/main.rs",
        )

    def metrics_port(self, version: EngineVersion) -> int | None:
        """The server's own has them too."""
        return None

    def files(self, serving: Serving) -> tuple[EngineFile, ...]:
        """Everything is a variable."""
        return ()

    def shell(self, version: EngineVersion) -> str:
        """The images are Ubuntu."""
        return "/bin/sh"

    def needs_root(self, version: EngineVersion) -> str | None:
        """From 3.1.1 on."""
        if version.number < ROOT_SINCE:
            return None
        return (
            "its Python lies below /root, which root alone may enter (text-generation-inference#3082, never mended); "
            "tgi@3.1.0 is the last release whose image any user ID runs"
        )

    def metrics(self, version: EngineVersion) -> tuple[str, ...]:
        """The same in every release."""
        return METRICS

    def host_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """An estimate: no published figure was found; read the pod's own use and correct it in the plan."""
        workers = serving.split.gpus
        because = f"estimate: 6 GiB for launcher and router, 6 GiB for each of {workers} shards"
        return 6 * GIB + 6 * GIB * workers, because

    def shared_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """For NCCL between shards."""
        gpus = serving.split.gpus
        if gpus == 1:
            return GIB, "TGI's own documentation gives a shard 1 GiB"
        return 2 * GIB * gpus, f"NCCL between {gpus} shards, 2 GiB each (llm-d: 20 GiB for 8)"

    def sizing(self, version: EngineVersion, asked: SizingFor | None = None) -> Sizing:
        """0.90 of the GPU holds everything, the CUDA context too (models/flash_causal_lm.py `warmup`)."""
        tokens = None
        if asked is not None:
            tokens = asked.context_tokens
            if _chunks(version, asked.platform, asked.compute_capability):
                tokens = min(_PREFILL_TOKENS, asked.context_tokens)
        return Sizing(
            release=_STAND_IN,
            because=_BECAUSE,
            certainty_ratio=_CERTAINTY_RATIO,
            utilization=WIGGLE_ROOM,
            max_num_batched_tokens=tokens,
            keeps_windows=False,
            context_inside=True,
        )

    def cuda(self, version: EngineVersion) -> Cuda | None:
        """12.1 in 2.4 and 3.0, 12.4 later."""
        return Cuda(major=12, source="text-generation-inference Dockerfile")

    def notes(self, serving: Serving) -> tuple[str, ...]:
        """That it is archived, and what its image asks for."""
        root = self.needs_root(serving.version)
        return (ARCHIVED,) if root is None else (ARCHIVED, f"the image starts as root alone: {root}")

    def args(self, serving: Serving) -> tuple[Argument, ...]:
        """The address alone; Kubernetes and Docker set HOSTNAME, which the launcher would take for it."""
        because = "else the variable HOSTNAME, the container's name, is taken for the address"
        return (Argument(flag="--hostname", value="0.0.0.0", because=because),)

    def env(self, serving: Serving) -> tuple[EnvVar, ...]:
        """Its settings by name, offline switches and one writable place for every cache."""
        return environment(serving)

    def object_to(self, serving: Serving) -> Objection | None:
        """What the release, its image or the GPU cannot do."""
        return (
            split_objection(serving)
            or model_objection(serving)
            or gpu_objection(serving)
            or weights_objection(serving)
            or feature_objection(serving)
        )


def _chunks(version: EngineVersion, platform: Platform, capability: tuple[int, int] | None) -> bool:
    """Whether a prompt is read in pieces; else one step has to hold the longest (backends/v3/src/main.rs)."""
    return version.number >= CHUNKS_SINCE and platform == "cuda" and (capability or (9, 0)) >= (8, 0)


ENGINE = Tgi()

__all__ = ["ENGINE", "FLAGS", "Tgi"]
