"""ModelSpec + Workload + Split + Gpu -> MemoryBudget: every byte on one GPU, itemised, with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One printable line of the bill, in bytes on the fullest GPU.

    Terms add up: capacity-side terms (`gpu memory`, `kept by the driver`, ...) are listed in order; see `MemoryBudget`.
    """

    name: str
    bytes: int
    because: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """What one GPU (the fullest rank) holds. Without a GPU, the parts that need one are None.

    `kv_bytes_per_token` is what one more token of a long sequence costs; `state_bytes_per_sequence` what a sequence
    keeps whatever its length.
    """

    gpu_id: str | None
    gpu_memory_bytes: int | None
    weights_bytes: int
    buffers_bytes: int
    kv_bytes_per_token: int
    state_bytes_per_sequence: int
    activation_bytes: int
    graphs_bytes: int
    non_torch_bytes: int
    kv_available_bytes: int | None
    kv_needed_bytes: int
    kv_blocks: int | None
    kv_tokens: int | None
    max_concurrency: float | None
    max_context_tokens: int | None
    max_model_len: int
    concurrency: int
    fits: bool | None
    short_bytes: int
    certainty_bytes: int
    terms: tuple[Term, ...]
