"""llama.cpp's server: its image, arguments and environment. GGUF files alone; for small and local use.

Read from llama.cpp common/arg.cpp and tools/server/ (see tables.py) on 2026-11-26.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from selfhost.engines._gguf import (
    BATCH,
    BECAUSE,
    CACHE_TYPES,
    CERTAINTY_RATIO,
    MICRO_BATCH,
    bill,
    slot_tokens,
    slots_of,
)
from selfhost.engines._gguf_refusals import gguf_objection
from selfhost.engines.llamacpp.tables import FIRST, FLAGS, LAST, METRICS, REPOSITORY, VARIANTS
from selfhost.errors import UnsupportedError
from selfhost.units import GIB, gib

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.memory import MemoryBudget
    from selfhost.model.spec import ModelSpec
    from selfhost.workload import Split, Workload

_BUILD = re.compile(r"b?(\d{3,6})")
ALL_LAYERS = 999  # more than any model has; a number is what every build takes
CPU_THREADS = 8  # ours: within the CPU limit that a pod is given
GPU_THREADS = 4  # ours: with all layers on the GPU threads only feed it


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCpp:
    """llama-server with its OpenAI-compatible API."""

    name: str = "llamacpp"
    default_version: str = "b11065"
    oldest: tuple[int, int, int] = FIRST
    newest: tuple[int, int, int] = LAST
    port: int = 8080
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    processes: tuple[str, ...] = ("server",)
    flags: tuple[Flag, ...] = FLAGS
    divides_layers_only: bool = True

    def read_version(self, text: str) -> EngineVersion | None:
        """Builds are numbers: `b11065`, with or without the letter."""
        match = _BUILD.fullmatch(text)
        if match is None:
            return None
        return EngineVersion(engine=self.name, number=(int(match[1]), 0, 0), text=f"b{int(match[1])}")

    def spell(self, number: tuple[int, int, int]) -> str:
        """As its tags do."""
        return f"b{number[0]}"

    def image(self, version: EngineVersion, platform: Platform) -> Image:
        """One repository, a variant a platform; not every build is published as an image.

        Raises:
            UnsupportedError: a platform without a variant.
        """
        variant = VARIANTS.get(platform)
        if variant is None:
            raise UnsupportedError(
                f"llama.cpp publishes no image for {accelerator(platform).name}.", hint="Take --engine vllm."
            )
        return Image(repository=REPOSITORY, tag=f"{variant}-{version.text}")

    def command(self, version: EngineVersion) -> tuple[str, ...]:
        """The entry point of the image, named so that its arguments are ours alone."""
        return ("/app/llama-server",)

    def drains(self, version: EngineVersion) -> bool:
        """SIGTERM ends the loop that decodes (tools/server/server.cpp, shutdown_handler): requests break off."""
        return False

    def pulls(self, version: EngineVersion) -> bool:
        """The image has no Python."""
        return False

    def probes(self, version: EngineVersion) -> Probes:
        """/health answers 503 while the model loads and 200 after, and needs no key."""
        return Probes(ready=self.health_path, live=self.health_path)

    def key(self, version: EngineVersion) -> Key | None:
        """A variable; with a key /metrics asks for it too (tools/server/server-http.cpp, public endpoints)."""
        return Key(
            variable="LLAMA_API_KEY",
            guards_metrics=True,
            source="llama.cpp common/arg.cpp set_env of --api-key; tools/server/server-http.cpp",
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
        """/app is readable by all; what it writes goes to the home directory."""
        return None

    def metrics(self, version: EngineVersion) -> tuple[str, ...]:
        """Names of tools/server/server-context.cpp, with `--metrics`."""
        return METRICS

    def host_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """An estimate: the file is mapped, so its pages count while they are read and can be dropped."""
        if serving.platform == "cpu" and serving.device_bytes is not None:
            return (
                serving.device_bytes + GIB,
                f"{gib(serving.device_bytes)} GiB as planned, 1 GiB for the server",
            )
        return 6 * GIB, "estimate: 6 GiB for server, prompts kept in main memory and pages of the mapped file"

    def shared_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """One process: the least that Kubernetes can be told."""
        return GIB // 4, "one process, no workers beside it"

    def sizing(self, version: EngineVersion, asked: SizingFor | None = None) -> Sizing:
        """Its own rules (`bill`), as an estimate."""
        return Sizing(release=(0, 23, 0), because=BECAUSE, certainty_ratio=CERTAINTY_RATIO)

    def bill(self, spec: ModelSpec, workload: Workload, split: Split, gpu: Gpu | None) -> MemoryBudget:
        """What one GPU holds."""
        return bill(spec, workload, split, gpu)

    def cuda(self, version: EngineVersion) -> Cuda | None:
        """server-cuda."""
        return Cuda(major=12, source="llama.cpp docs/docker.md: server-cuda is CUDA 12, server-cuda13 is 13")

    def notes(self, serving: Serving) -> tuple[str, ...]:
        """What a reader may not expect."""
        found = ["running requests break off on SIGTERM: llama.cpp does not drain"]
        if not serving.gguf:
            return tuple(found)
        if serving.platform == "xpu":
            found.append("Intel GPUs: the image runs SYCL; which GPUs it was built for is not known here")
        return tuple(found)

    def args(self, serving: Serving) -> tuple[Argument, ...]:
        """The argument vector of llama-server."""
        load, words = serving.workload, _Words()
        words.add(
            "--model",
            serving.model,
            "the GGUF file on the weights volume; parts of a split file lie beside it",
        )
        words.add("--alias", serving.served_name, "the name clients send as `model`")
        words.add("--host", "0.0.0.0", "the default is loopback, which a Service does not reach")
        words.add("--port", serving.port, "above 1024, as the process is not root")
        slots = slots_of(load)
        context = load.max_model_len or serving.max_context_tokens
        if context is not None:
            held = slot_tokens(context)
            words.add("--ctx-size", held * slots, f"{slots} slots of {held:,} tokens: the slots share it")
        words.add("--parallel", slots, "requests held at once, each in a slot of its own")
        words.add("--batch-size", BATCH, "tokens of one step")
        words.add(
            "--ubatch-size", MICRO_BATCH, "tokens that are computed at once, which the compute buffer is for"
        )
        self._devices(serving, words)
        self._cache(serving, words)
        words.add("--fit", "off", "nothing is adjusted silently: what does not fit ends the start")
        words.add("--offline", None, "the weights are local; nothing is asked from the Hub")
        words.add("--metrics", None, "off by default")
        words.add("--no-webui", None, "the page for browsers is not served")
        return tuple(words.arguments)

    def _devices(self, serving: Serving, words: _Words) -> None:
        if serving.platform == "cpu":
            words.add(
                "--threads",
                CPU_THREADS,
                "else half of the node's cores, which the pod's limit would throttle",
            )
            return
        words.add("--n-gpu-layers", ALL_LAYERS, "all layers on the GPU, as sized")
        words.add("--threads", GPU_THREADS, "else half of the node's cores")
        stages = serving.split.pipeline
        if stages == 1:
            words.add("--split-mode", "none", "one GPU")
            return
        words.add("--split-mode", "layer", "whole layers and their KV cache on each GPU")
        words.add(
            "--tensor-split",
            ",".join("1" * stages),
            f"even shares for {stages} GPUs, whatever is free on them",
        )

    def _cache(self, serving: Serving, words: _Words) -> None:
        load = serving.workload
        if load.kv_dtype not in CACHE_TYPES:
            raise UnsupportedError(
                f"llama.cpp has no KV cache of {load.kv_dtype}.", hint="Take --kv-dtype fp8 (q8_0)."
            )
        name = CACHE_TYPES[load.kv_dtype][0]
        if load.kv_dtype != "auto":
            words.add("--cache-type-k", name, "element type of the KV cache")
            words.add("--cache-type-v", name, "the same for values")
        if name.startswith("q"):
            words.add("--flash-attn", "on", "a quantized cache of values needs it")
        if not load.prefix_caching:
            words.add("--no-cache-prompt", None, "as asked")

    def env(self, serving: Serving) -> tuple[EnvVar, ...]:
        """One writable place."""
        home = serving.home_dir
        found = [
            EnvVar(name="HOME", value=home, because="the only writable directory besides /tmp"),
            EnvVar(
                name="LLAMA_CACHE",
                value=f"{home}/.cache/llama.cpp",
                because="what the server writes by itself",
            ),
        ]
        if serving.workload.enforce_eager and serving.platform == "cuda":
            found.append(
                EnvVar(name="GGML_CUDA_DISABLE_GRAPHS", value="1", because="no CUDA graphs, as asked")
            )
        return tuple(found)

    def object_to(self, serving: Serving) -> Objection | None:
        """What it cannot do."""
        return gguf_objection(serving, called="llama.cpp")


class _Words:
    """Collects arguments; llama.cpp's parser takes no `--flag=value`, so that a value is a word of its own."""

    def __init__(self) -> None:
        self.arguments: list[Argument] = []

    def add(self, flag: str, value: str | int | None, because: str) -> None:
        self.arguments.append(Argument(flag=flag, because=because))
        if value is not None:
            self.arguments.append(Argument(value=str(value), because=f"of {flag}"))


ENGINE = LlamaCpp()

__all__ = ["ENGINE", "FLAGS", "LlamaCpp"]
