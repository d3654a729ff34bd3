"""What one layer keeps on one rank: every kind, against figures that its model's authors or vLLM's code give."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfhost.attention import (
    KINDS,
    Attention,
    BlockSparse,
    BlockSparseIndexer,
    ChunkedLocal,
    ConvWindow,
    CrossAttention,
    EncoderOnly,
    FullAttention,
    GatedDeltaState,
    KimiDeltaState,
    LatentAttention,
    LinearState,
    Mamba1State,
    Mamba2State,
    PooledKeyRing,
    PooledKeys,
    PoolTail,
    RankCache,
    Setting,
    ShortConvState,
    SlidingWindow,
    SparseIndexer,
    V4Compressed,
    V4CompressorState,
    V4Indexer,
    V4Window,
    V41CompressorRing,
)

HOPPER = Setting(tensor=1, kv_dtype="auto", model_dtype="bfloat16", sm_major=9)

# One of each kind, sized as in the model named, and the bytes of a 16-token page (of the state) at TP 1 in bfloat16.
EXAMPLES: tuple[tuple[Attention, int | None], ...] = (
    (FullAttention(kv_heads=8, head_dim=128), 65536),  # Llama 3.1 8B
    (FullAttention(kv_heads=4, head_dim=192, value_dim=128), 40960),  # MiMo-V2-Flash
    (SlidingWindow(kv_heads=8, head_dim=64, window=128, sinks=True), 32768),  # gpt-oss
    (ConvWindow(kv_heads=8, head_dim=128, hidden=6144, kernel=4), 524288),  # Inkling
    (ChunkedLocal(kv_heads=8, head_dim=128, chunk=8192), 65536),  # Llama 4
    (CrossAttention(kv_heads=20, head_dim=64, encoder_tokens=1500), 81920),  # Whisper large
    (EncoderOnly(), None),
    (LatentAttention(rank=512, rope_dim=64), 18432),  # DeepSeek V3
    (SparseIndexer(head_dim=128), 2112),  # DeepSeek V3.2
    (PoolTail(head_dim=128, pool=4), 8192),  # GLM-5.3-Flash
    (PooledKeys(head_dim=128, pool=4), 1024),  # Qwen4
    (PooledKeyRing(head_dim=128, pool=4), 4096),
    (BlockSparse(kv_heads=4, head_dim=128), 32768),  # MiniMax-M3
    (BlockSparseIndexer(head_dim=128), 4096),
    (V4Window(head_dim=512, window=128), 9792),  # DeepSeek V4, 16 rows of 584 padded to 576
    (V4Compressed(head_dim=512, ratio=4), 2880),
    (V4CompressorState(head_dim=512, ratio=4), 131328),
    (V4Indexer(head_dim=128, ratio=4), 576),
    (V41CompressorRing(head_dim=512), 65536),  # DeepSeek V4.1
    (Mamba1State(intermediate=8192, state_size=16, conv_kernel=4), 311296),  # Falcon-Mamba, all in bfloat16
    (
        Mamba2State(
            heads=64, head_dim=64, state_size=128, groups=8, conv_kernel=4, state_dtype="float32"
        ),  # Nemotron 3 Nano
        2134016,
    ),
    (
        GatedDeltaState(
            key_heads=16, value_heads=48, key_dim=128, value_dim=128, conv_kernel=4, state_dtype="float32"
        ),  # Qwen3.5 27B
        3207168,
    ),
    (KimiDeltaState(heads=96, head_dim=128, conv_kernel=4, flash_prefill=True), 6512640),  # Kimi K3
    (ShortConvState(dim=2048, kernel=3), 8192),  # LFM2 1.2B
    (LinearState(heads=64, head_dim=128, state_dtype="float32"), 4194304),
)


def cache(kind: Attention, setting: Setting = HOPPER) -> RankCache:
    found = kind.of_rank(setting)
    assert found is not None
    return found


def test_every_kind_has_an_example() -> None:
    assert {type(kind) for kind, _ in EXAMPLES} == set(KINDS)


def test_names_are_unique() -> None:
    assert len({kind.kind for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize(("kind", "page_bytes"), EXAMPLES, ids=lambda value: getattr(value, "kind", None))
def test_page_of_sixteen_tokens(kind: Attention, page_bytes: int | None) -> None:
    found = kind.of_rank(HOPPER)
    assert (None if found is None else found.page_bytes(16)) == page_bytes


@pytest.mark.parametrize("kind", [kind for kind, _ in EXAMPLES], ids=lambda kind: kind.kind)
def test_kinds_are_values(kind: Attention) -> None:
    assert dataclasses.replace(kind) == kind
    assert hash(dataclasses.replace(kind)) == hash(kind)


@given(
    kind=st.sampled_from([kind for kind, _ in EXAMPLES]),
    power=st.integers(0, 5),
    dtype=st.sampled_from(["auto", "fp8_e4m3"]),
)
def test_more_ranks_never_keep_more(kind: Attention, power: int, dtype: str) -> None:
    few = kind.of_rank(dataclasses.replace(HOPPER, tensor=1 << power, kv_dtype=dtype))
    many = kind.of_rank(dataclasses.replace(HOPPER, tensor=2 << power, kv_dtype=dtype))
    if few is None or many is None:
        assert few is many
        return
    assert many.page_bytes(256) <= few.page_bytes(256)


def test_kv_heads_split_then_replicate() -> None:
    kind = FullAttention(kv_heads=4, head_dim=128)
    pages = [
        cache(kind, dataclasses.replace(HOPPER, tensor=tensor)).page_bytes(16) for tensor in (1, 2, 4, 8, 16)
    ]
    assert pages == [32768, 16384, 8192, 8192, 8192]


def test_latent_is_the_same_on_every_rank() -> None:
    kind = LatentAttention(rank=512, rope_dim=64)
    assert cache(kind) == cache(kind, dataclasses.replace(HOPPER, tensor=8))


@pytest.mark.parametrize(
    ("kv_dtype", "bytes_per_token"),
    [("auto", 1024), ("bfloat16", 1024), ("fp8_e4m3", 512), ("fp8_e5m2", 512), ("nvfp4", 288)],
)
def test_element_types(kv_dtype: str, bytes_per_token: int) -> None:
    """Two heads of 128; nvfp4: 64 packed bytes and 8 scales for each of K and V."""
    found = cache(FullAttention(kv_heads=2, head_dim=128), dataclasses.replace(HOPPER, kv_dtype=kv_dtype))
    assert found.page_bytes(1) == bytes_per_token


def test_packed_row_of_sparse_latent() -> None:
    found = cache(
        LatentAttention(rank=512, rope_dim=64, sparse=True),
        dataclasses.replace(HOPPER, kv_dtype="fp8_ds_mla"),
    )
    assert found.page_bytes(1) == 656


def test_mamba2_groups_are_replicated_where_ranks_do_not_divide_them() -> None:
    """One group at TP 4: every rank keeps B and C of a whole group."""
    kind = Mamba2State(heads=128, head_dim=64, state_size=128, groups=1, conv_kernel=4)
    found = cache(kind, dataclasses.replace(HOPPER, tensor=4))
    assert found.state_bytes == ((128 * 64 + 2 * 4 * 128) // 4 * 3 + 32 * 64 * 128) * 2


def test_drafts_widen_convolutions() -> None:
    kind = GatedDeltaState(key_heads=16, value_heads=32, key_dim=128, value_dim=128, conv_kernel=4)
    wider = cache(kind, dataclasses.replace(HOPPER, speculative_tokens=2))
    assert wider.state_bytes - cache(kind).state_bytes == 2 * 8192 * 2


@pytest.mark.parametrize(("sm_major", "blocks"), [(8, 0), (9, 1), (10, 1), (12, 1), (0, 0)])
def test_kimi_checkpoints_follow_the_kernel(sm_major: int, blocks: int) -> None:
    kind = KimiDeltaState(heads=96, head_dim=128, conv_kernel=4, flash_prefill=True)
    assert cache(kind, dataclasses.replace(HOPPER, sm_major=sm_major)).checkpoint_blocks == blocks


def test_v41_rows_follow_the_gpu() -> None:
    blackwell = dataclasses.replace(HOPPER, sm_major=10)
    window = V4Window(head_dim=512, window=128, v41=True)
    latent = V4Compressed(head_dim=512, ratio=2, v41=True)
    assert [cache(kind).page_bytes(128) for kind in (window, latent)] == [74880, 37440]
    assert [cache(kind, blackwell).page_bytes(128) for kind in (window, latent)] == [67584, 18432]
