"""What one tensor-parallel rank keeps for one layer: the common answer of every attention kind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a kind must know about the deployment to say what a rank keeps."""

    tensor: int
    kv_dtype: str
    model_dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCache:
    """One layer's cache on one rank."""

    kind: str


def heads_of_rank(kv_heads: int, tensor: int) -> int:
    """KV heads of one rank: split over ranks, at least one (then heads are replicated).

    vLLM 0.32 config/model.py:1650-1670.
    """
    return max(1, kv_heads // tensor)
