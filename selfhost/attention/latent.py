"""Latent attention (MLA) and sparse variants: one vector per token, the same on every tensor-parallel rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfhost.attention.rank import RankCache, Reach, Setting, grouped_entry

# DeepSeek's packed fp8 row of sparse MLA: 512 fp8 + 4 fp32 scales + 64 bf16 rope elements
# (vLLM 0.32 layers/attention/mla_attention.py:1362-1367).
DS_MLA_ROW_BYTES = 656
# Elements that share one fp32 scale in an fp8 indexer cache (vLLM 0.32 models/deepseek_v2.py:731-736).
INDEXER_SCALE_GROUP = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek V2/V3, Kimi K2): `rank` + `rope_dim` elements per token.

    Attributes:
        rank: kv_lora_rank.
        rope_dim: qk_rope_head_dim.
        nope_dim: qk_nope_head_dim; SM10x kernels take only some widths.
        sparse: the layer reads top-k tokens chosen by an indexer (DeepSeek V3.2, GLM-5). The indexer's own
            cache is a separate `SparseIndexer` layer, because some models have fewer indexers than layers.
        window: sliding window in tokens; None for all tokens.
        glm_dsa: the architecture is GlmMoeDsaForCausalLM, for which vLLM prefers an fp8 cache on SM10x.
    """

    kind: ClassVar[str] = "latent"
    rank: int
    rope_dim: int
    nope_dim: int = 128
    sparse: bool = False
    window: int | None = None
    glm_dsa: bool = False

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        content = (self.rank + self.rope_dim) * setting.element_bytes
        if setting.kv_dtype == "fp8_ds_mla":
            content = DS_MLA_ROW_BYTES
        reach: Reach = "full" if self.window is None else "window"
        return RankCache(reach=reach, content_bytes=content, latent=True, span_tokens=self.window or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseIndexer:
    """Keys of the top-k indexer of sparse MLA (DeepSeek V3.2, GLM-5): fp8 with one fp32 scale per 128 elements.

    `head_dim` is index_head_dim. `pool` tokens share one key (GLM-5.3-Flash: index_kpool); each such layer also has
    a `PoolTail`.
    """

    kind: ClassVar[str] = "sparse-indexer"
    head_dim: int
    pool: int = 1

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        content = self.head_dim + self.head_dim // INDEXER_SCALE_GROUP * 4
        return RankCache(reach="full", content_bytes=content, tokens_per_state=self.pool, latent=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTail:
    """Raw keys and gates of the pool of tokens that an indexer has not yet compressed (GLM-5.3-Flash).

    One ring per request, of whole pools that hold the drafted tokens too (vLLM 0.32
    models/glm5next/common/attention.py:155-178).
    """

    kind: ClassVar[str] = "pool-tail"
    head_dim: int
    pool: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        pools = -(-(self.pool + setting.speculative_tokens) // self.pool)
        ring = self.pool * (1 << (pools - 1).bit_length())
        return RankCache(reach="ring", slots=2, content_bytes=self.head_dim * 2, block_tokens=ring)


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledKeys:
    """Keys of a top-k selection, one bf16 vector for each group of `pool` tokens (Qwen4's sparse attention)."""

    kind: ClassVar[str] = "pooled-keys"
    head_dim: int
    pool: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        return RankCache(
            reach="full", content_bytes=self.head_dim * 2, tokens_per_state=self.pool, latent=True
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledKeyRing:
    """Raw bf16 keys of the group that is still open, a ring of whole groups per request.

    vLLM 0.32 models/qwen4_exp/common/qsa_cache.py:844-862.
    """

    kind: ClassVar[str] = "pooled-key-ring"
    head_dim: int
    pool: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        groups = -(-(self.pool + setting.speculative_tokens) // self.pool)
        return RankCache(reach="ring", content_bytes=self.head_dim * 2, block_tokens=self.pool * groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSparse:
    """MiniMax-M3 sparse attention: grouped keys and values in blocks of 128 tokens (kept like full attention)."""

    kind: ClassVar[str] = "block-sparse"
    kv_heads: int
    head_dim: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        slots, content = grouped_entry(
            heads=self.kv_heads, key_dim=self.head_dim, value_dim=self.head_dim, setting=setting
        )
        return RankCache(reach="full", slots=slots, content_bytes=content)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSparseIndexer:
    """MiniMax-M3 indexer keys: one bf16 vector of `head_dim` per token, replicated on every rank."""

    kind: ClassVar[str] = "block-sparse-indexer"
    head_dim: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        return RankCache(reach="full", content_bytes=self.head_dim * 2, latent=True)
