"""How the engine is started: versions, and the limits each version takes by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from selfhost.catalog.gpus import Gpu
from selfhost.errors import UsageError
from selfhost.units import GIB

KNOWN_VERSIONS = ((0, 6), (0, 33))
_VERSION = re.compile(
    r"v?(\d{1,3})\.(\d{1,4})(?:\.(\d{1,4}))?(?:(?:\.?(?:rc|a|b|post|dev)\d+)+)?(?:\+[\w.]{1,64})?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How the engine is started on one GPU of the deployment."""

    version: tuple[int, int, int]
    gpu: Gpu
    tensor: int = 1
    pipeline: int = 1
    expert: bool = False
    utilization: float
    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len: int
    enforce_eager: bool = False
    speculative_tokens: int = 0
    last_stage: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What vLLM takes where no flag is given."""

    max_num_batched_tokens: int
    max_num_seqs: int
    utilization: float
    because: str
    source: str


def parse_version(text: str) -> tuple[int, int, int]:
    """The release a vLLM version string belongs to: `v0.26.1rc1.dev156+g0eec` -> (0, 26, 1).

    Raises:
        UsageError: when the text is no version, or older than any that is known here.
    """
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text[:40]!r} is not a vLLM version.", hint="Write it as vllm@0.32 or vllm@0.19.1."
        )
    version = (int(match[1]), int(match[2]), int(match[3] or 0))
    if version < KNOWN_VERSIONS[0]:
        raise UsageError(
            f"vLLM {text} is older than 0.6; its memory use is not known.", hint="Name 0.6 or later."
        )
    return version


def version_warning(version: tuple[int, int, int]) -> str | None:
    """A sentence where the version is newer than what the constants were checked against, else None."""
    if version[:2] > KNOWN_VERSIONS[1]:
        return f"vLLM {version[0]}.{version[1]} is newer than 0.33, the newest known here; its rules are assumed."
    return None


@lru_cache(maxsize=4096)
def defaults(
    version: tuple[int, int, int], gpu: Gpu, *, usage: str = "server", max_model_len: int = 0
) -> Defaults:
    """Settings that vLLM takes by itself on a GPU (engine/arg_utils.py `get_batch_defaults`).

    Args:
        version: engine release.
        gpu: its memory and name decide: 160 GiB and more, 70 GiB and more except A100, others.
        usage: `server` (vllm serve) or `offline` (the LLM class).
        max_model_len: used by the V0 engine (before 0.8) alone, whose step holds a whole prompt up to 32k.
    """
    utilization = 0.90 if version < (0, 21, 0) else 0.92
    if version < (0, 8, 0):
        tokens = 2048 if max_model_len > 32768 else max(max_model_len, 2048)
        return Defaults(
            max_num_batched_tokens=tokens,
            max_num_seqs=256,
            utilization=utilization,
            because="V0 engine: a step holds one whole prompt; chunks of 2048 above 32k",
            source="vLLM 0.6 config.py SchedulerConfig",
        )
    server = usage == "server"
    if gpu.memory_bytes >= 160 * GIB and version >= (0, 29, 0):
        tokens, seqs, class_ = 16384, 1024, "160 GiB or more"
    elif gpu.memory_bytes >= 70 * GIB and "A100" not in f"{gpu.name} {gpu.aliases[0]}":
        tokens, seqs, class_ = 8192 if server else 16384, 1024, "70 GiB or more, not A100"
    else:
        tokens, seqs, class_ = 2048 if server else 8192, 256, "A100, or less than 70 GiB"
    return Defaults(
        max_num_batched_tokens=tokens,
        max_num_seqs=seqs,
        utilization=utilization,
        because=f"vLLM {version[0]}.{version[1]} on a GPU with {class_}",
        source="vLLM engine/arg_utils.py get_batch_defaults, config/cache.py gpu_memory_utilization",
    )
