"""What the user asks for: the load on the model, how it is split, and the engine's knobs.

A field here is an option of the command line (`cli/_options.py` reads the metadata), a help text and a row in the docs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from selfhost.errors import UsageError

# Element types a KV cache may be asked to have; an engine's module says what it calls them.
KV_DTYPES = ("auto", "bf16", "bfloat16", "fp16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp4", "nvfp4")
LARGEST = 10**15  # of any number a user may ask for


def _option(flag: str, help_text: str, kind: str, *, metavar: str = "N") -> dict[str, Any]:
    return {"flag": flag, "help": help_text, "kind": kind, "metavar": metavar}


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How one model is divided over GPUs: `tensor` x `pipeline` GPUs hold one copy, `data` copies run side by side."""

    tensor: int = field(
        default=1, metadata=_option("--tp", "Tensor-parallel size: GPUs that share each layer.", "int")
    )
    pipeline: int = field(
        default=1, metadata=_option("--pp", "Pipeline-parallel size: stages of layers.", "int")
    )
    data: int = field(
        default=1, metadata=_option("--dp", "Data-parallel size: copies of the attention layers.", "int")
    )
    expert: bool = field(
        default=False, metadata=_option("--ep", "Place whole experts on ranks (expert parallel).", "flag")
    )

    def __post_init__(self) -> None:
        for name, value in (("tp", self.tensor), ("pp", self.pipeline), ("dp", self.data)):
            if not 1 <= value <= 1024:
                raise UsageError(f"--{name} must be between 1 and 1024, not {value}.")

    @property
    def gpus(self) -> int:
        """GPUs of the whole deployment."""
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the engine is asked to serve. None means the engine's own default."""

    max_model_len: int | None = field(
        default=None,
        metadata=_option("--max-model-len", "Longest request, prompt and answer, in tokens.", "count"),
    )
    concurrency: int = field(
        default=1, metadata=_option("--concurrency", "Requests of that length held at once.", "count")
    )
    quantization: str | None = field(
        default=None,
        metadata=_option(
            "--quant", "Weight quantization to assume instead of the checkpoint's.", "str", metavar="S"
        ),
    )
    kv_dtype: str = field(
        default="auto", metadata=_option("--kv-dtype", "KV-cache element type.", "kv_dtype", metavar="D")
    )
    gpu_memory_utilization: float | None = field(
        default=None,
        metadata=_option(
            "--gpu-memory-utilization", "Share of the GPU the engine may use (0-1).", "ratio", metavar="R"
        ),
    )
    max_num_batched_tokens: int | None = field(
        default=None, metadata=_option("--max-num-batched-tokens", "Tokens of one engine step.", "count")
    )
    max_num_seqs: int | None = field(
        default=None, metadata=_option("--max-num-seqs", "Requests of one engine step.", "count")
    )
    kv_cache_memory_bytes: int | None = field(
        default=None,
        metadata=_option("--kv-cache-memory", "Fix the KV-cache memory of a GPU.", "size", metavar="BYTES"),
    )
    enforce_eager: bool = field(default=False, metadata=_option("--enforce-eager", "No CUDA graphs.", "flag"))
    prefix_caching: bool = field(
        default=True, metadata=_option("--no-prefix-caching", "Turn prefix caching off.", "off_flag")
    )
    block_size: int | None = field(
        default=None, metadata=_option("--block-size", "KV-cache block size in tokens.", "int")
    )
    max_loras: int = field(
        default=0, metadata=_option("--max-loras", "LoRA adapters held on the GPU at once.", "int")
    )
    max_lora_rank: int = field(default=16, metadata=_option("--max-lora-rank", "Largest LoRA rank.", "int"))
    speculative_tokens: int = field(
        default=0,
        metadata=_option("--speculative-tokens", "Tokens drafted by the model's own MTP layers.", "int"),
    )
    language_model_only: bool = field(
        default=False,
        metadata=_option("--language-model-only", "Leave vision and audio towers out.", "flag"),
    )

    def __post_init__(self) -> None:
        for name, flag, kind, default in _checked():
            value = getattr(self, name)
            if value is not default and value is not None:  # a default is good, and most fields have theirs
                _check(flag, kind, value, default)


@cache
def _checked() -> tuple[tuple[str, str, str, Any], ...]:
    """(name, flag, kind, default) of each field of Workload that has a rule; read once, as a search makes thousands."""
    return tuple(
        (item.name, item.metadata["flag"], item.metadata["kind"], item.default)
        for item in fields(Workload)
        if item.metadata["kind"] not in ("flag", "off_flag", "str")
    )


def _check(flag: str, kind: str, value: Any, default: Any) -> None:
    """Refuse a value that no engine could be given, whoever made it: the command line, a plan.json, a caller."""
    if value is None or kind in ("flag", "off_flag", "str"):
        return
    if kind == "kv_dtype":
        if value not in KV_DTYPES:
            raise UsageError(
                f"{flag} {str(value)[:80]!r} is not known.", hint=f"Use one of {', '.join(KV_DTYPES)}."
            )
    elif kind == "ratio":
        if not 0 < value <= 1:
            raise UsageError(f"{flag} must be more than 0 and at most 1, not {value:g}.")
    else:
        least = 0 if default == 0 else 1
        if not least <= value <= LARGEST:
            raise UsageError(f"{flag} must be between {least} and {LARGEST:,}, not {value:,}.")
