"""Ollama: its image, environment and start. GGUF files alone; for small and local use.

Read from Ollama v0.13.0, v0.24.0 and v0.32.15 (envconfig/config.go, server/routes.go, cmd/cmd.go, types/model/name.go,
fs/ggml/ggml.go, Dockerfile) on 2026-11-26. It has neither metrics nor API keys.
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
from selfhost.engines._gguf import BECAUSE, CACHE_TYPES, CERTAINTY_RATIO, bill, slots_of
from selfhost.engines._gguf_refusals import gguf_objection
from selfhost.engines.ollama.start import MODELFILE, SCRIPT, modelfile
from selfhost.errors import UnsupportedError
from selfhost.units import GIB, gib, round_up

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.memory import MemoryBudget
    from selfhost.model.spec import ModelSpec
    from selfhost.workload import Split, Workload

_SUFFIX: dict[Platform, str] = {"cuda": "", "rocm": "-rocm", "cpu": ""}
# types/model/name.go isValidPart; a space in the path would end FROM's word in the Modelfile.
_NAME = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.]{0,79}")
_CACHES = ("f16", "q8_0", "q4_0")  # fs/ggml/ggml.go SupportsKVCacheType
CPU_THREADS = (
    8  # ours: within the CPU limit that a pod is given; by default a thread for each core of the node
)
NOTES = (
    "Ollama has no API key, and who reaches its port may delete models: put keys before it (--target hybrid)",
    "Ollama has no Prometheus endpoint: nothing is scraped, and autoscaling has no metric of it",
    "Ollama decides itself how many layers go to the GPU, by its own estimate; `ollama ps` says how many did",
    "Ollama takes the chat template from those it knows; a file with another gets none, and needs TEMPLATE",
    "running requests break off on SIGTERM: Ollama does not drain",
)
NO_CLOUD_SINCE = (0, 18, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ollama:
    """The Ollama server with its OpenAI-compatible API."""

    name: str = "ollama"
    default_version: str = "0.32.15"
    oldest: tuple[int, int, int] = (0, 13, 0)
    newest: tuple[int, int, int] = (0, 33, 0)
    port: int = 11434
    health_path: str = "/api/version"
    metrics_path: str = (
        "/metrics"  # of a form that plans have; no release answers there, and `metrics` is empty
    )
    processes: tuple[str, ...] = ("server",)
    flags: tuple[Flag, ...] = ()
    divides_layers_only: bool = True

    def image(self, version: EngineVersion, platform: Platform) -> Image:
        """Docker Hub; the same image serves NVIDIA GPUs and CPUs.

        Raises:
            UnsupportedError: a platform without an image, or a build between releases.
        """
        if platform not in _SUFFIX or not version.published:
            raise UnsupportedError(
                f"No image of {version} is published for {accelerator(platform).name}.",
                hint="Take --engine vllm.",
            )
        return Image(repository="ollama/ollama", tag=f"{version.text}{_SUFFIX[platform]}")

    def command(self, version: EngineVersion) -> tuple[str, ...]:
        """A shell, which imports the file and then becomes the server."""
        return ("/bin/sh", "-c")

    def drains(self, version: EngineVersion) -> bool:
        """SIGTERM closes the server and unloads (server/routes.go Serve): running requests break off."""
        return False

    def pulls(self, version: EngineVersion) -> bool:
        """The image has no Python."""
        return False

    def probes(self, version: EngineVersion) -> Probes:
        """The server that clients reach begins after the import, so that its version is an answer of readiness."""
        return Probes(ready=self.health_path, live="/")

    def key(self, version: EngineVersion) -> Key | None:
        """None: OLLAMA_AUTH is between its client and its cloud."""
        return None

    def metrics_port(self, version: EngineVersion) -> int | None:
        """No metrics at all."""
        return None

    def files(self, serving: Serving) -> tuple[EngineFile, ...]:
        """The Modelfile of the import."""
        context = serving.workload.max_model_len or serving.max_context_tokens
        threads = CPU_THREADS if serving.platform == "cpu" else None
        because = "what `ollama create` makes of the file on the weights volume"
        return (EngineFile(path=MODELFILE, text=modelfile(serving.model, context, threads), because=because),)

    def client_name(self, model_id: str) -> str:
        """What the file was imported as."""
        return model_id.rstrip("/").rpartition("/")[2]

    def shell(self, version: EngineVersion) -> str:
        """The images are Ubuntu 24.04."""
        return "/bin/sh"

    def needs_root(self, version: EngineVersion) -> str | None:
        """Any user runs it, with a home directory of its own."""
        return None

    def metrics(self, version: EngineVersion) -> tuple[str, ...]:
        """None: there is no Prometheus endpoint."""
        return ()

    def host_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """An estimate, as for llama.cpp; the copy is written through the page cache, which can be dropped."""
        if serving.platform == "cpu" and serving.device_bytes is not None:
            return (
                serving.device_bytes + GIB,
                f"{gib(serving.device_bytes)} GiB as planned, 1 GiB for the server",
            )
        return 6 * GIB, "estimate: 6 GiB for server, runner and pages of the mapped file"

    def shared_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """Server and runner talk over loopback: the least that Kubernetes can be told."""
        return GIB // 4, "server and runner talk over loopback"

    def home_bytes(self, serving: Serving) -> tuple[int, str]:
        """Room for the copy that the import makes."""
        held = 0 if serving.memory is None else serving.memory.weights_bytes * serving.split.pipeline
        size = round_up(held + held // 10 + 2 * GIB, GIB)
        return size, f"the copy that `ollama create` makes of {gib(held)} GiB, 10 % and 2 GiB"

    def sizing(self, version: EngineVersion, asked: SizingFor | None = None) -> Sizing:
        """llama.cpp's rules (`bill`), as an estimate."""
        return Sizing(release=(0, 23, 0), because=BECAUSE, certainty_ratio=CERTAINTY_RATIO)

    def bill(self, spec: ModelSpec, workload: Workload, split: Split, gpu: Gpu | None) -> MemoryBudget:
        """What one GPU holds."""
        return bill(spec, workload, split, gpu)

    def cuda(self, version: EngineVersion) -> Cuda | None:
        """The image brings libraries of CUDA 12 and 13 and takes those that the driver runs (Dockerfile)."""
        return None

    def notes(self, serving: Serving) -> tuple[str, ...]:
        """What it has not."""
        return NOTES

    def args(self, serving: Serving) -> tuple[Argument, ...]:
        """The script and its words; the environment holds every setting."""
        return (
            Argument(value=SCRIPT, because="imports the file on loopback, then serves it"),
            Argument(value="ollama", because="name of the script in its messages"),
            Argument(value=serving.served_name, because="the name clients send as `model`"),
            Argument(value=MODELFILE, because="what is imported"),
            Argument(
                value=f"0.0.0.0:{serving.port}", because="where clients are served; the default is loopback"
            ),
        )

    def env(self, serving: Serving) -> tuple[EnvVar, ...]:
        """Every setting of the server."""
        load, home = serving.workload, serving.home_dir
        context = load.max_model_len or serving.max_context_tokens
        rows = [
            ("HOME", home, "the only writable directory besides /tmp"),
            ("OLLAMA_MODELS", f"{home}/.ollama/models", "the store that the file is copied into"),
            ("OLLAMA_KEEP_ALIVE", "-1", "the model stays loaded; 5 minutes by default"),
            ("OLLAMA_MAX_LOADED_MODELS", "1", "the GPU was sized for this model"),
            ("OLLAMA_NUM_PARALLEL", str(slots_of(load)), "requests held at once"),
            ("OLLAMA_LOAD_TIMEOUT", f"{serving.load_seconds}s", "the load-time budget; 5 minutes by default"),
        ]
        if context is not None:
            rows.append(
                ("OLLAMA_CONTEXT_LENGTH", str(context), "by default 4k, 32k or 256k by the GPU's memory")
            )
        cache = CACHE_TYPES[load.kv_dtype][0]
        if cache != "f16":
            rows.append(("OLLAMA_KV_CACHE_TYPE", cache, "element type of the KV cache"))
            rows.append(("OLLAMA_FLASH_ATTENTION", "1", "a quantized cache needs it"))
        if serving.split.pipeline > 1:
            rows.append(("OLLAMA_SCHED_SPREAD", "1", "layers on every GPU of the pod, as sized"))
        if serving.version.number >= NO_CLOUD_SINCE:
            rows.append(("OLLAMA_NO_CLOUD", "1", "no request leaves for Ollama's cloud"))
        return tuple(EnvVar(name=name, value=value, because=because) for name, value, because in rows)

    def object_to(self, serving: Serving) -> Objection | None:
        """What it cannot do."""
        against = gguf_objection(serving, called="Ollama")
        if against is not None:
            return against
        cache = CACHE_TYPES[serving.workload.kv_dtype][0]
        if cache not in _CACHES:
            return Objection(
                because=f"Ollama has no KV cache of {cache}", hint="Leave --kv-dtype out, or take fp8 (q8_0)."
            )
        if not serving.workload.prefix_caching:
            return Objection(
                because="Ollama's prompt cache cannot be turned off", hint="Leave --no-prefix-caching out."
            )
        if _NAME.fullmatch(serving.served_name) is None:
            return Objection(
                because=f"{serving.served_name[:80]!r} is no name that Ollama takes",
                hint="Rename the file: letters, digits, dots, dashes, underscores; at most 80.",
            )
        return None


ENGINE = Ollama()

__all__ = ["ENGINE", "Ollama"]
