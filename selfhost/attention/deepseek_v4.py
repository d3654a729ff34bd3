"""DeepSeek V4 and V4.1: a window, a compressed latent, its compressor and an indexer, each with a cache of its own.

All of it is the same on every tensor-parallel rank. V4 compresses and indexes in every layer (`compress_ratios` 4 or
128); V4.1 in a few source layers whose caches the others read (`kv_source_layer_ids`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfhost.attention.latent import INDEXER_SCALE_GROUP
from selfhost.attention.rank import RankCache, Setting

# A packed row: 448 fp8 + 64 bf16 rope elements + 8 scales, pages padded to whole 576-byte strides (vLLM 0.32
# models/deepseek_v4/attention.py:861-878, v1/attention/backends/mla/sparse_swa.py:116-140).
ROW_BYTES = 584
ALIGNMENT_BYTES = 576
# V4.1 on SM10x: 512 fp8 elements with a scale per 32 (vLLM 0.32 models/deepseek_v41/attention.py:122-129, :512-522).
MX_ROW_BYTES = 528
MX_ALIGNMENT_BYTES = 512
# V4.1's compressed rows on SM10x are nvfp4: 512 elements in pairs and a scale per 16 (same file, :516-519).
NVFP4_ROW_BYTES = 288


def _row(setting: Setting, *, v41: bool) -> tuple[int, int]:
    """(bytes of a packed row, page alignment)."""
    if v41 and setting.sm_major == 10:
        return MX_ROW_BYTES, MX_ALIGNMENT_BYTES
    return ROW_BYTES, ALIGNMENT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class V4Window:
    """The sliding-window latent cache; every layer has one. `head_dim` 512, `window` 128; `v41` for V4.1."""

    kind: ClassVar[str] = "v4-window"
    head_dim: int
    window: int
    v41: bool = False

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        row, alignment = _row(setting, v41=self.v41)
        return RankCache(
            reach="window",
            content_bytes=row,
            block_tokens=32 if self.v41 else 64,
            alignment_bytes=alignment,
            span_tokens=self.window,
            latent=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class V4Compressed:
    """The compressed latent cache, one entry per `ratio` tokens.

    V4: layers with compress_ratio > 1. V4.1: the layers of `kv_source_layer_ids`, with the ratio they have (1 or 2).
    """

    kind: ClassVar[str] = "v4-compressed"
    head_dim: int
    ratio: int
    v41: bool = False

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        row, alignment = _row(setting, v41=self.v41)
        if row == MX_ROW_BYTES:
            row = NVFP4_ROW_BYTES
        return RankCache(
            reach="full",
            content_bytes=row,
            tokens_per_state=self.ratio,
            alignment_bytes=alignment,
            latent=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class V4CompressorState:
    """Raw keys and scores that V4's compressor of a ratio still needs.

    A compressed layer has one of `head_dim` (the latent's), and an indexed one (ratio 4) a second one of the
    index head's width.
    """

    kind: ClassVar[str] = "v4-compressor-state"
    head_dim: int
    ratio: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        # Ratio 4 overlaps two groups, so its window and its rows are twice as large (vLLM 0.32
        # models/deepseek_v4/compressor.py:148-170); rows hold fp32 keys and scores.
        overlap = 2 if self.ratio == 4 else 1
        return RankCache(
            reach="window",
            content_bytes=2 * overlap * self.head_dim * 4,
            block_tokens=4 if self.ratio == 4 else 8,
            alignment_bytes=ALIGNMENT_BYTES,
            span_tokens=overlap * self.ratio,
            latent=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class V41CompressorRing:
    """V4.1's compressor state: a ring of fp32 keys and scores, one block per request (source layers with ratio > 1)."""

    kind: ClassVar[str] = "v4.1-compressor-ring"
    head_dim: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        # Drafts, bonus token and the previous row, as a power of two (models/deepseek_v41/compressor.py:151-153).
        rows = max(8, 1 << (setting.speculative_tokens + 1).bit_length())
        return RankCache(reach="ring", content_bytes=2 * self.head_dim * 4, block_tokens=rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class V4Indexer:
    """Indexer keys, one per `ratio` tokens. `head_dim` is index_head_dim.

    V4: layers with ratio 4. V4.1: the layers of `kv_source_layer_ids`.
    """

    kind: ClassVar[str] = "v4-indexer"
    head_dim: int
    ratio: int
    v41: bool = False

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        _, alignment = _row(setting, v41=self.v41)
        return RankCache(
            reach="full",
            content_bytes=self.head_dim + self.head_dim // INDEXER_SCALE_GROUP * 4,
            tokens_per_state=self.ratio,
            alignment_bytes=alignment,
            latent=True,
        )
