"""What one tensor-parallel rank keeps for one layer: the common answer of every attention kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfhost.dtypes import itemsize
from selfhost.units import round_up

Reach = Literal["full", "window", "chunk", "cross", "state", "ring"]
"""Which tokens of a sequence a layer keeps: all, the last ones, the chunk's, the encoder's; or a
state of fixed size, or a ring of one block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a kind must know about the deployment to say what a rank keeps.

    Attributes:
        tensor: tensor-parallel size.
        kv_dtype: resolved KV element type: auto (the model's), float16, bfloat16, fp8_e4m3, fp8_e5m2, nvfp4 or
            fp8_ds_mla (packed rows of sparse MLA).
        model_dtype: canonical dtype of the activations.
        speculative_tokens: tokens drafted per step; recurrent layers keep states for them.
        sm_major: major compute capability of an NVIDIA GPU, 0 elsewhere.
    """

    tensor: int
    kv_dtype: str
    model_dtype: str
    speculative_tokens: int = 0
    sm_major: int = 0

    @property
    def element_bytes(self) -> int:
        """Bytes of one cached element where elements are stored plainly."""
        if self.kv_dtype == "auto":
            return itemsize(self.model_dtype)
        return 2 if self.kv_dtype in ("float16", "bfloat16") else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCache:
    """One layer's cache on one rank, in the terms of the engine's page arithmetic.

    A page holds `block_tokens / tokens_per_state` entries of `slots` x `content_bytes`, aligned to `alignment_bytes`.

    Attributes:
        reach: which tokens are kept.
        slots: KV heads of this rank (1 for latent vectors; K and V apart for nvfp4).
        content_bytes: bytes of one entry of one slot, keys and values together.
        tokens_per_state: tokens that share one entry (compressed caches).
        block_tokens: tokens of a block where the layer fixes it; None for the engine's choice.
        alignment_bytes: page alignment.
        span_tokens: window, chunk or encoder length, for those reaches.
        latent: one vector per entry (MLA); such pages cannot be padded to an arbitrary size.
        state_bytes: bytes of the recurrent state, for reach "state".
        checkpoint_blocks: extra blocks per request where a prefill exports a state from its middle.
    """

    reach: Reach
    slots: int = 1
    content_bytes: int = 0
    tokens_per_state: int = 1
    block_tokens: int | None = None
    alignment_bytes: int = 1
    span_tokens: int = 0
    latent: bool = False
    state_bytes: int = 0
    checkpoint_blocks: int = 0

    def page_bytes(self, block_tokens: int) -> int:
        """Bytes of one block of this layer.

        vLLM 0.32 v1/kv_cache_interface.py:542-560 (`AttentionSpec.unpadded_page_size_bytes`), :677-684 (alignment),
        :970-985 (`MambaSpec`).
        """
        if self.reach == "state":
            return self.state_bytes
        entries = block_tokens // self.tokens_per_state
        return round_up(self.slots * entries * self.content_bytes, self.alignment_bytes)


def heads_of_rank(heads: int, tensor: int) -> int:
    """KV heads of one rank: split over ranks, at least one (then heads are replicated).

    vLLM 0.32 config/model.py:1650-1670.
    """
    return max(1, heads // tensor)


def share(size: int, tensor: int) -> int:
    """A dimension's share of one rank, rounded up where it does not divide."""
    return -(-size // tensor)


def grouped_entry(*, heads: int, key_dim: int, value_dim: int, setting: Setting) -> tuple[int, int]:
    """(slots, bytes per slot) of one token's keys and values on one rank.

    nvfp4 keeps K and V in slots of their own: packed fp4 plus one fp8 scale per 16 elements
    (vLLM 0.32 v1/attention/backends/flashinfer.py:433-446, utils/torch_utils.py:556).
    """
    rank_heads = heads_of_rank(heads, setting.tensor)
    if setting.kv_dtype == "nvfp4":
        return 2 * rank_heads, key_dim // 2 + key_dim // 16
    return rank_heads, (key_dim + value_dim) * setting.element_bytes
