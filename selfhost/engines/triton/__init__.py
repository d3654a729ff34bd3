"""Triton Inference Server with the vLLM backend and its OpenAI-compatible front end.

Read from triton-inference-server/server (python/openai, docs/introduction), vllm_backend (src/model.py) on
2026-11-26. The image has the front end since 25.02. The engine inside is vLLM, whose module says what it can.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
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
    Key,
    Objection,
    Probes,
    Serving,
    Sizing,
    SizingFor,
)
from selfhost.engines.triton.repository import CONFIG, ROOT, model_json, model_name, tokenizer_of
from selfhost.engines.triton.tables import BY_NAME, FIRST, FLAGS, LAST, METRICS, REPOSITORY, VLLM, inside
from selfhost.engines.vllm import ENGINE as VLLM_ENGINE
from selfhost.errors import UnsupportedError
from selfhost.units import GIB

_RELEASE = re.compile(r"(\d{2})\.(\d{1,2})")
_DEFAULT_TOKENS = (
    4096  # ours: of an answer whose request names no length, at most the context; the front end's is 16
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Triton:
    """Triton's OpenAI front end over its vLLM backend."""

    name: str = "triton"
    default_version: str = "26.08"
    oldest: tuple[int, int, int] = FIRST
    newest: tuple[int, int, int] = LAST
    port: int = 9000
    health_path: str = "/health/ready"
    metrics_path: str = "/metrics"
    processes: tuple[str, ...] = ("front end", "backend", "engine core")
    flags: tuple[Flag, ...] = FLAGS

    def read_version(self, text: str) -> EngineVersion | None:
        """Releases are a year and a month: `26.08`."""
        match = _RELEASE.fullmatch(text)
        if match is None or not 1 <= int(match[2]) <= 12:
            return None
        number = (int(match[1]), int(match[2]), 0)
        return EngineVersion(engine=self.name, number=number, text=self.spell(number))

    def spell(self, number: tuple[int, int, int]) -> str:
        """As its tags do."""
        return f"{number[0]:02}.{number[1]:02}"

    def image(self, version: EngineVersion, platform: Platform) -> Image:
        """NVIDIA's registry, with the vLLM backend.

        Raises:
            UnsupportedError: another platform than CUDA.
        """
        if platform != "cuda":
            raise UnsupportedError(
                f"Triton's image with vLLM is for NVIDIA GPUs, not for {accelerator(platform).name}.",
                hint="Take --engine vllm.",
            )
        return Image(repository=REPOSITORY, tag=f"{version.text}-vllm-python-py3")

    def command(self, version: EngineVersion) -> tuple[str, ...]:
        """The front end, which starts the server in its own process."""
        return ("python3", "/opt/tritonserver/python/openai/openai_frontend/main.py")

    def drains(self, version: EngineVersion) -> bool:
        """On SIGTERM the front end stops first (main.py shutdown); whether answers under way end whole is not known."""
        return False

    def pulls(self, version: EngineVersion) -> bool:
        """What of the Hub's library the image holds is not known."""
        return False

    def probes(self, version: EngineVersion) -> Probes:
        """The front end listens once the model is loaded, and asks the server for its own readiness."""
        return Probes(ready=self.health_path, live=self.health_path)

    def key(self, version: EngineVersion) -> Key | None:
        """None: --openai-restricted-api takes the key as an argument, which everybody can read."""
        return None

    def metrics_port(self, version: EngineVersion) -> int | None:
        """The front end passes the server's metrics on, on its own port."""
        return None

    def files(self, serving: Serving) -> tuple[EngineFile, ...]:
        """The model repository."""
        folder = f"{ROOT}/{model_name(serving.served_name)}"
        arguments = VLLM_ENGINE.args(_inner(serving))
        return (
            EngineFile(
                path=f"{folder}/config.pbtxt",
                text=CONFIG,
                because="the vLLM backend, which chooses its GPUs itself",
            ),
            EngineFile(
                path=f"{folder}/1/model.json",
                text=model_json(serving, arguments),
                because="arguments of vLLM's engine",
            ),
        )

    def client_name(self, model_id: str) -> str:
        """The directory of the model repository."""
        return model_name(model_id)

    def shell(self, version: EngineVersion) -> str:
        """The images are Ubuntu 24.04."""
        return "/bin/sh"

    def needs_root(self, version: EngineVersion) -> str | None:
        """/opt/tritonserver is readable by all."""
        return None

    def metrics(self, version: EngineVersion) -> tuple[str, ...]:
        """Triton's own; vLLM's are not passed on."""
        return METRICS

    def host_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """vLLM's estimate, and the server around it."""
        size, because = VLLM_ENGINE.host_memory_bytes(_inner(serving))
        return size + 2 * GIB, f"{because}; 2 GiB for Triton around it"

    def shared_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """The Python backend hands requests over in shared memory, beside what vLLM needs."""
        size, because = VLLM_ENGINE.shared_memory_bytes(_inner(serving))
        return size + GIB, f"{because}; 1 GiB for Triton's Python backend"

    def sizing(self, version: EngineVersion, asked: SizingFor | None = None) -> Sizing:
        """vLLM's, of the release inside."""
        return _sizing(version)

    def cuda(self, version: EngineVersion) -> Cuda | None:
        """All known releases bring CUDA 13."""
        return Cuda(major=13, source="triton-inference-server/server docs/introduction/compatibility.md")

    def notes(self, serving: Serving) -> tuple[str, ...]:
        """What a reader may not expect."""
        found = [
            f"clients ask for the model as {model_name(serving.served_name)!r}: Triton's names hold no slash",
            "Triton's OpenAI front end is beta and takes a key by argument alone: put keys before it (--target hybrid)",
            "Triton's metrics count requests; queue, cache and tokens of vLLM are not among them",
        ]
        if not BY_NAME["--default-max-tokens"].known_to(serving.version):
            found.append("answers end after 16 tokens where a request names no max_tokens")
        return tuple(found)

    def args(self, serving: Serving) -> tuple[Argument, ...]:
        """Of the front end; the engine's stand in model.json."""
        words = [
            ("--model-repository", ROOT, "config.pbtxt and model.json of the one model"),
            ("--tokenizer", tokenizer_of(serving), "for chat templates, from the weights volume"),
            ("--backend", "vllm", "what the front end translates requests for"),
            ("--host", "0.0.0.0", "reached by a Service"),
            ("--openai-port", str(serving.port), "above 1024, as the process is not root"),
        ]
        if BY_NAME["--default-max-tokens"].known_to(serving.version):
            longest = min(_DEFAULT_TOKENS, serving.workload.max_model_len or _DEFAULT_TOKENS)
            words.append(
                (
                    "--default-max-tokens",
                    str(longest),
                    "answers of requests that name no length; 16 by default",
                )
            )
        return tuple(Argument(flag=flag, value=value, because=because) for flag, value, because in words)

    def env(self, serving: Serving) -> tuple[EnvVar, ...]:
        """vLLM's."""
        return VLLM_ENGINE.env(_inner(serving))

    def object_to(self, serving: Serving) -> Objection | None:
        """What the backend or vLLM inside cannot do."""
        if serving.platform != "cuda":
            return Objection(
                because="Triton's image with vLLM is for NVIDIA GPUs", hint="Take --engine vllm."
            )
        if serving.split.data > 1:
            return Objection(
                because="Triton's vLLM backend runs one copy",
                hint=f"Take --replicas {serving.split.data} instead of --dp.",
            )
        if serving.workload.max_loras > 0:
            return Objection(
                because="adapters of Triton are named in multi_lora.json, which is not written here",
                hint="Leave --max-loras out, or take --engine vllm.",
            )
        if serving.gguf:
            return Objection(
                because="Triton is planned for repositories, not for GGUF files",
                hint="Take --engine llamacpp.",
            )
        return VLLM_ENGINE.object_to(_inner(serving))


@lru_cache(maxsize=64)
def _sizing(version: EngineVersion) -> Sizing:
    held = inside(version)
    return Sizing(
        release=held.number, because=f"sized as {held}, which the image holds in NVIDIA's own build"
    )


def _inner(serving: Serving) -> Serving:
    """What the vLLM inside is asked to start."""
    return replace(serving, version=inside(serving.version))


ENGINE = Triton()

__all__ = ["ENGINE", "FLAGS", "VLLM", "Triton"]
