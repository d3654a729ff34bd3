"""Attention that keeps keys and values per KV head: full, windowed, chunked, cross and encoder-only layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfhost.attention.rank import RankCache, Setting, grouped_entry, heads_of_rank


@dataclass(frozen=True, slots=True, kw_only=True)
class FullAttention:
    """Multi-head, grouped or multi-query attention that keeps every token.

    Attributes:
        kv_heads: key/value heads of the whole model.
        head_dim: width of a key, in elements.
        value_dim: width of a value; None when equal to `head_dim`.
        sinks: the layer has learned attention sinks (gpt-oss, MiMo-V2), which limits the kernels.
        prefix_bidirectional: image tokens attend both ways (vLLM's mm_prefix: model types gemma3, paligemma,
            molmo2, bagel, moondream3, or `is_mm_prefix_lm` in the config, with vision on), which limits the kernels.
        selected: queries read tokens that an indexer selects (Qwen4), which has a kernel of its own.
    """

    kind: ClassVar[str] = "full"
    kv_heads: int
    head_dim: int
    value_dim: int | None = None
    sinks: bool = False
    prefix_bidirectional: bool = False
    selected: bool = False

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        slots, content = grouped_entry(
            heads=self.kv_heads,
            key_dim=self.head_dim,
            value_dim=self.value_dim or self.head_dim,
            setting=setting,
        )
        return RankCache(reach="full", slots=slots, content_bytes=content)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindow:
    """Attention over the last `window` tokens (Mistral 7B v0.1, Gemma, gpt-oss, Phi-3, EXAONE 4).

    `window` is the engine's: the number of tokens a query sees, itself included. Other fields as `FullAttention`.
    """

    kind: ClassVar[str] = "sliding-window"
    kv_heads: int
    head_dim: int
    value_dim: int | None = None
    window: int
    sinks: bool = False
    prefix_bidirectional: bool = False

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        slots, content = grouped_entry(
            heads=self.kv_heads,
            key_dim=self.head_dim,
            value_dim=self.value_dim or self.head_dim,
            setting=setting,
        )
        return RankCache(reach="window", slots=slots, content_bytes=content, span_tokens=self.window)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvWindow:
    """The short convolutions of a layer kept as a window of `kernel` tokens (Inkling).

    Four streams per KV head (key, value and its share of two hidden vectors), padded to a power of two of bf16
    elements: vLLM 0.32 models/inkling/nvidia/sconv_swa_attn.py:118-193.
    """

    kind: ClassVar[str] = "conv-window"
    kv_heads: int
    head_dim: int
    hidden: int
    kernel: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        elements = 2 * self.head_dim + 2 * (self.hidden // self.kv_heads)
        return RankCache(
            reach="window",
            slots=heads_of_rank(self.kv_heads, setting.tensor),
            content_bytes=2 * (1 << (elements - 1).bit_length()),
            block_tokens=self.kernel,
            span_tokens=self.kernel,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedLocal:
    """Attention inside chunks of `chunk` tokens (Llama 4)."""

    kind: ClassVar[str] = "chunked-local"
    kv_heads: int
    head_dim: int
    chunk: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        slots, content = grouped_entry(
            heads=self.kv_heads, key_dim=self.head_dim, value_dim=self.head_dim, setting=setting
        )
        return RankCache(reach="chunk", slots=slots, content_bytes=content, span_tokens=self.chunk)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossAttention:
    """Decoder attention over the encoder's output (Whisper, BART).

    `encoder_tokens` is the longest encoder input. A request holds blocks for all of it, however short its audio is;
    vLLM 0.32 even reserves a whole step's tokens, where that is more.
    """

    kind: ClassVar[str] = "cross"
    kv_heads: int
    head_dim: int
    encoder_tokens: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        slots, content = grouped_entry(
            heads=self.kv_heads, key_dim=self.head_dim, value_dim=self.head_dim, setting=setting
        )
        return RankCache(reach="cross", slots=slots, content_bytes=content, span_tokens=self.encoder_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOnly:
    """Bidirectional attention of encoders and pooling models: nothing is kept between steps."""

    kind: ClassVar[str] = "encoder-only"

    def of_rank(self, setting: Setting) -> RankCache | None:
        """Always None: no cache (vLLM 0.32 layers/attention/encoder_only_attention.py:94-96)."""
        return None
