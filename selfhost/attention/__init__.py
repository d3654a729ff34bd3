"""What one layer keeps per sequence: one class per kind, built by the model families, sized per rank by the engine.

Each kind holds whole-model sizes (not per rank). A model is a tuple of (count, kind); draft (MTP) layers add layers
of the same kinds.
"""

from __future__ import annotations

from selfhost.attention.deepseek_v4 import (
    V4Compressed,
    V4CompressorState,
    V4Indexer,
    V4Window,
    V41CompressorRing,
)
from selfhost.attention.grouped import (
    ChunkedLocal,
    ConvWindow,
    CrossAttention,
    EncoderOnly,
    FullAttention,
    SlidingWindow,
)
from selfhost.attention.latent import (
    BlockSparse,
    BlockSparseIndexer,
    LatentAttention,
    PooledKeyRing,
    PooledKeys,
    PoolTail,
    SparseIndexer,
)
from selfhost.attention.rank import RankCache, Setting
from selfhost.attention.recurrent import (
    GatedDeltaState,
    KimiDeltaState,
    LinearState,
    Mamba1State,
    Mamba2State,
    ShortConvState,
)

Attention = (
    FullAttention | SlidingWindow | ConvWindow | ChunkedLocal | CrossAttention | EncoderOnly
    | LatentAttention | SparseIndexer | PoolTail | PooledKeys | PooledKeyRing | BlockSparse | BlockSparseIndexer
    | V4Window | V4Compressed | V4CompressorState | V41CompressorRing | V4Indexer
    | Mamba1State | Mamba2State | GatedDeltaState | KimiDeltaState | ShortConvState | LinearState
)  # fmt: skip

KINDS: tuple[type[Attention], ...] = (
    FullAttention, SlidingWindow, ConvWindow, ChunkedLocal, CrossAttention, EncoderOnly,
    LatentAttention, SparseIndexer, PoolTail, PooledKeys, PooledKeyRing, BlockSparse, BlockSparseIndexer,
    V4Window, V4Compressed, V4CompressorState, V41CompressorRing, V4Indexer,
    Mamba1State, Mamba2State, GatedDeltaState, KimiDeltaState, ShortConvState, LinearState,
)  # fmt: skip

__all__ = [
    "KINDS",
    "Attention",
    "BlockSparse",
    "BlockSparseIndexer",
    "ChunkedLocal",
    "ConvWindow",
    "CrossAttention",
    "EncoderOnly",
    "FullAttention",
    "GatedDeltaState",
    "KimiDeltaState",
    "LatentAttention",
    "LinearState",
    "Mamba1State",
    "Mamba2State",
    "PoolTail",
    "PooledKeyRing",
    "PooledKeys",
    "RankCache",
    "Setting",
    "ShortConvState",
    "SlidingWindow",
    "SparseIndexer",
    "V4Compressed",
    "V4CompressorState",
    "V4Indexer",
    "V4Window",
    "V41CompressorRing",
]
