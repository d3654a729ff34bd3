"""Attention that keeps keys and values per KV head: full, windowed, chunked, cross and encoder-only layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfhost.attention.rank import RankCache, Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class FullAttention:
    """Multi-head, grouped or multi-query attention that keeps every token.

    Attributes:
        kv_heads: key/value heads of the whole model.
        head_dim: width of a key, in elements.
        value_dim: width of a value; None when equal to `head_dim`.
        sinks: the layer has learned attention sinks (gpt-oss, MiMo-V2), which limits the kernels.
        prefix_bidirectional: image tokens attend both ways (Gemma 3/4 with vision), which limits the kernels.
    """

    kind: ClassVar[str] = "full"
    kv_heads: int
    head_dim: int
    value_dim: int | None = None
    sinks: bool = False
    prefix_bidirectional: bool = False

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


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
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedLocal:
    """Attention inside chunks of `chunk` tokens (Llama 4)."""

    kind: ClassVar[str] = "chunked-local"
    kv_heads: int
    head_dim: int
    chunk: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossAttention:
    """Decoder attention over the encoder's output (Whisper, BART): `encoder_tokens` per request, however short."""

    kind: ClassVar[str] = "cross"
    kv_heads: int
    head_dim: int
    encoder_tokens: int

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOnly:
    """Bidirectional attention of encoders and pooling models: nothing is kept between steps."""

    kind: ClassVar[str] = "encoder-only"

    def of_rank(self, setting: Setting) -> RankCache | None:
        """Always None: no cache."""
        raise NotImplementedError
