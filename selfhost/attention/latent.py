"""Latent attention (MLA) and the sparse variants: one vector per token, the same on every tensor-parallel rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfhost.attention.rank import RankCache, Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek V2/V3, Kimi K2): `rank` + `rope_dim` elements per token.

    Attributes:
        rank: kv_lora_rank.
        rope_dim: qk_rope_head_dim.
        sparse: the layer reads top-k tokens chosen by an indexer (DeepSeek V3.2, GLM-5). The indexer's own
            cache is a separate `SparseIndexer` layer, because some models have fewer indexers than layers.
        window: sliding window in tokens; None for all tokens.
        glm_dsa: the architecture is GlmMoeDsaForCausalLM, for which vLLM prefers an fp8 cache on SM10x.
    """

    kind: ClassVar[str] = "latent"
    rank: int
    rope_dim: int
    sparse: bool = False
    window: int | None = None
    glm_dsa: bool = False

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseIndexer:
    """Keys of the top-k indexer of sparse MLA (DeepSeek V3.2, GLM-5): fp8 with one fp32 scale per 128 elements.

    `head_dim` is index_head_dim.
    """

    kind: ClassVar[str] = "sparse-indexer"
    head_dim: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSparse:
    """MiniMax-M3 sparse attention: grouped keys and values in blocks of 128 tokens (kept like full attention)."""

    kind: ClassVar[str] = "block-sparse"
    kv_heads: int
    head_dim: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSparseIndexer:
    """MiniMax-M3 indexer keys: one bf16 vector of `head_dim` per token, replicated on every rank."""

    kind: ClassVar[str] = "block-sparse-indexer"
    head_dim: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class V4Window:
    """DeepSeek V4's sliding-window latent cache; every layer has one. `head_dim` 512, `window` 128."""

    kind: ClassVar[str] = "v4-window"
    head_dim: int
    window: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class V4Compressed:
    """DeepSeek V4's compressed latent cache: one entry per `ratio` tokens (layers with compress_ratio > 1)."""

    kind: ClassVar[str] = "v4-compressed"
    head_dim: int
    ratio: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class V4CompressorState:
    """Raw keys and scores that DeepSeek V4's compressor of a ratio still needs.

    A compressed layer has one of `head_dim` (the latent's), and an indexed one (ratio 4) a second one of the
    index head's width.
    """

    kind: ClassVar[str] = "v4-compressor-state"
    head_dim: int
    ratio: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class V4Indexer:
    """DeepSeek V4's indexer keys, one per `ratio` tokens (layers with ratio 4). `head_dim` is index_head_dim."""

    kind: ClassVar[str] = "v4-indexer"
    head_dim: int
    ratio: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError
