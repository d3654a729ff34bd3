"""KV capacity: vLLM's own answers for real models, and what must hold for any."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from selfhost.attention import (
    KINDS,
    Attention,
    CrossAttention,
    EncoderOnly,
    FullAttention,
    GatedDeltaState,
    LatentAttention,
    Mamba1State,
    SlidingWindow,
    SparseIndexer,
    V4Window,
)
from selfhost.errors import UnsupportedError
from selfhost.kv import KvLayout, KvSettings, LayerGroup, layout, layout_of_stages, step_tokens

DATA = Path(__file__).parent / "data"
GIB = 1 << 30
OF_NAME = {kind.kind: kind for kind in KINDS}
STEPS = step_tokens(8192)


def kind_of(name: str, fields: dict[str, Any]) -> Attention:
    return OF_NAME[name](**fields)


def vllm_cases() -> Iterator[Any]:
    known = json.loads((DATA / "kv_vllm_0_32.json").read_text())
    for model in known["models"]:
        layers = tuple((count, kind_of(name, fields)) for count, name, fields in model["layers"])
        for values in model["cases"]:
            case = dict(zip(known["columns"], values, strict=True))
            label = f"{model['model']}-tp{case['tensor']}-{case['kv_dtype']}-cc{case['cc'][0]}"
            yield pytest.param(layers, case, id=label)


def settings_of(case: dict[str, Any]) -> KvSettings:
    return KvSettings(
        tensor=case["tensor"],
        kv_dtype=case["kv_dtype"],
        declared_kv_dtype=case["declared"],
        model_dtype=case["model_dtype"],
        compute_capability=tuple(case["cc"]),
        prefix_caching=case["prefix_caching"],
    )


@pytest.mark.parametrize(("layers", "case"), list(vllm_cases()))
def test_capacity_is_what_vllm_answers(layers: tuple[LayerGroup, ...], case: dict[str, Any]) -> None:
    found = layout(layers, settings_of(case))
    steps = step_tokens(case["batch"], async_scheduling=case["async_scheduling"])
    assert found.block_tokens == case["block_tokens"]
    assert found.bytes_per_token == case["bytes_per_token"]
    assert found.state_bytes_per_sequence == case["state_bytes"]
    for gib, context, blocks, tokens in case["capacity"]:
        capacity = found.capacity(gib * GIB, context, steps)
        if blocks is None:
            assert not capacity.fits
            assert capacity.short_bytes > 0
        else:
            assert (capacity.blocks, capacity.tokens, capacity.fits) == (blocks, tokens, True)


@pytest.mark.parametrize(
    "case",
    json.loads((DATA / "kv_pipeline_vllm_0_32.json").read_text())["cases"],
    ids=lambda case: case["model"],
)
def test_pipeline_stages(case: dict[str, Any]) -> None:
    kinds = [kind_of(name, fields) for name, fields in case["kinds"]]
    stages = tuple(tuple((count, kinds[index]) for count, index in stage) for stage in case["stages"])
    settings = KvSettings(
        tensor=case["tensor"], declared_kv_dtype=case["declared"], model_dtype=case["model_dtype"]
    )
    found = layout_of_stages(stages, settings)
    capacity = found.capacity((20 * GIB,) * len(stages), 8192, step_tokens(case["batch"]))
    assert list(found.block_bytes_of_stage) == case["block_bytes"]
    assert (capacity.blocks, capacity.tokens) == (case["blocks"], case["tokens"])


# ---- any model: drawn layers, any memory
heads = st.sampled_from([1, 2, 4, 8, 16])
dims = st.sampled_from([64, 128, 256])
attention = st.one_of(
    st.builds(FullAttention, kv_heads=heads, head_dim=dims),
    st.builds(SlidingWindow, kv_heads=heads, head_dim=dims, window=st.sampled_from([128, 1024, 4096])),
)
state = st.builds(
    GatedDeltaState,
    key_heads=st.sampled_from([16, 32]),
    value_heads=st.sampled_from([16, 32, 64]),
    key_dim=st.just(128),
    value_dim=st.just(128),
    conv_kernel=st.just(4),
)
models = st.builds(
    lambda kinds, counts: tuple(zip(counts, dict.fromkeys(kinds), strict=False)),
    st.lists(st.one_of(attention, state), min_size=1, max_size=3),
    st.lists(st.integers(1, 60), min_size=3, max_size=3),
)
settings = st.builds(
    KvSettings,
    tensor=st.sampled_from([1, 2, 4, 8]),
    kv_dtype=st.sampled_from(["auto", "fp8"]),
    compute_capability=st.sampled_from([(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)]),
    prefix_caching=st.booleans(),
)


@given(models, settings, st.integers(0, 100 * GIB), st.integers(0, GIB), st.integers(1, 200_000))
def test_more_memory_never_holds_less(
    layers: tuple[LayerGroup, ...], chosen: KvSettings, available: int, more: int, context: int
) -> None:
    found = layout(layers, chosen)
    small, large = (found.capacity(size, context, STEPS) for size in (available, available + more))
    assert large.blocks >= small.blocks
    assert large.tokens >= small.tokens
    assert large.fits >= small.fits
    assert large.short_bytes <= small.short_bytes


@given(models, settings, st.integers(0, 100 * GIB), st.integers(1, 200_000))
def test_fits_and_short_bytes_agree(
    layers: tuple[LayerGroup, ...], chosen: KvSettings, available: int, context: int
) -> None:
    found = layout(layers, chosen)
    capacity = found.capacity(available, context, STEPS)
    assert capacity.fits == (capacity.short_bytes == 0)
    assert capacity.fits == (found.needed_bytes(context, STEPS) <= available)
    assert found.capacity(available + capacity.short_bytes, context, STEPS).fits


@given(models, settings, st.integers(0, 60 * GIB), st.integers(1, 64))
def test_longest_context_is_the_longest(
    layers: tuple[LayerGroup, ...], chosen: KvSettings, available: int, concurrency: int
) -> None:
    found = layout(layers, chosen)
    longest = found.longest_context(available, STEPS, concurrency=concurrency, limit_tokens=1 << 20)
    if longest:
        assert found.needed_bytes(longest, STEPS, concurrency) <= available
    if longest < 1 << 20:
        assert found.needed_bytes(longest + 1, STEPS, concurrency) > available


@given(st.tuples(attention), settings, st.integers(1, 200_000), st.integers(1, 80))
def test_more_ranks_never_cost_a_gpu_more(
    kinds: tuple[Attention, ...], chosen: KvSettings, context: int, count: int
) -> None:
    layers = tuple((count, kind) for kind in kinds)
    wider = dataclasses.replace(chosen, tensor=chosen.tensor * 2)
    costs = [layout(layers, each).needed_bytes(context, STEPS) for each in (chosen, wider)]
    assert costs[1] <= costs[0]


@given(models, settings, st.integers(1, 100_000), st.integers(1, 100_000))
def test_longer_requests_never_need_fewer_blocks(
    layers: tuple[LayerGroup, ...], chosen: KvSettings, context: int, more: int
) -> None:
    found = layout(layers, chosen)
    assert found.blocks_per_request(context, STEPS) <= found.blocks_per_request(context + more, STEPS)


@given(models, settings, st.integers(1, 59))
def test_a_pipeline_covers_every_layer(layers: tuple[LayerGroup, ...], chosen: KvSettings, cut: int) -> None:
    """Two stages never need a larger block than the whole model, and together at least as much."""
    first = tuple((min(count, cut), kind) for count, kind in layers)
    second = tuple((count - cut, kind) for count, kind in layers if count > cut)
    assume(second)
    whole = layout(layers, chosen)
    split = layout_of_stages((first, second), chosen)
    assert max(split.block_bytes_of_stage) <= whole.block_bytes
    assert sum(split.block_bytes_of_stage) >= whole.block_bytes
    assert split.blocks_per_request(8192, STEPS) == whole.blocks_per_request(8192, STEPS)


# ---- single rules
LLAMA = ((32, FullAttention(kv_heads=8, head_dim=128)),)
QWEN35 = (
    (
        48,
        GatedDeltaState(
            key_heads=16, value_heads=48, key_dim=128, value_dim=128, conv_kernel=4, state_dtype="float32"
        ),
    ),
    (16, FullAttention(kv_heads=4, head_dim=256)),
)
GPT_OSS = (
    (12, SlidingWindow(kv_heads=8, head_dim=64, window=128, sinks=True)),
    (12, FullAttention(kv_heads=8, head_dim=64, sinks=True)),
)


def requested(found: KvLayout, context: int = 32768) -> int:
    return found.blocks_per_request(context, STEPS)


def test_the_null_block_counts_for_fitting_only() -> None:
    """512 blocks hold a request of 8,192 tokens, but one of them is the null block."""
    found = layout(LLAMA, KvSettings())
    exact = found.block_bytes * 512
    assert (found.capacity(exact, 8192, STEPS).tokens, found.capacity(exact, 8192, STEPS).fits) == (
        8192,
        False,
    )
    assert found.capacity(exact + found.block_bytes, 8192, STEPS).fits


def test_states_kept_for_prefix_caching() -> None:
    """Two states per request and group while prefixes are cached, else one; off by default before 0.28."""
    blocks = [requested(layout(QWEN35, KvSettings(prefix_caching=choice))) for choice in (True, False, None)]
    assert blocks == [42 + 3 * 2, 42 + 3, 42 + 3 * 2]
    assert requested(layout(QWEN35, KvSettings(engine=(0, 27)))) == 42 + 3


def test_drafts_keep_states_of_their_own() -> None:
    """Two more per group; the wider convolution also lengthens the block to 800 tokens."""
    assert requested(layout(QWEN35, KvSettings(speculative_tokens=2))) == 41 + 3 * 4


@pytest.mark.parametrize(
    ("pipeline", "async_scheduling", "engine", "in_flight"),
    [
        (1, True, (0, 32), 16384),
        (1, False, (0, 32), 8192),
        (2, True, (0, 32), 24576),
        (2, False, (0, 32), 16384),
        (1, True, (0, 25), 8192),
        (4, True, (0, 19), 8192),
    ],
)
def test_tokens_in_flight(
    pipeline: int, async_scheduling: bool, engine: tuple[int, int], in_flight: int
) -> None:
    steps = step_tokens(8192, pipeline=pipeline, async_scheduling=async_scheduling, engine=engine)
    assert (steps.batch, steps.in_flight) == (8192, in_flight)


def test_tokens_as_older_engines_reported_them() -> None:
    """vLLM 0.19.0 printed 1,277,184 tokens for gpt-oss-20b on an H100 with an 8,192-token context."""
    old = layout(GPT_OSS, KvSettings(engine=(0, 19)))
    blocks = 1_277_184 // 16 * 2
    capacity = old.capacity(blocks * old.block_bytes, 8192, step_tokens(8192, engine=(0, 19)))
    assert capacity.tokens == 1_277_184
    assert layout(GPT_OSS, KvSettings()).capacity(blocks * old.block_bytes, 8192, STEPS).tokens < 1_277_184


def test_cross_attention_reserves_a_whole_step() -> None:
    whisper = (
        (32, FullAttention(kv_heads=20, head_dim=64)),
        (32, CrossAttention(kv_heads=20, head_dim=64, encoder_tokens=1500)),
    )
    assert layout(whisper, KvSettings()).blocks_per_request(448, step_tokens(8192)) == 28 + 512
    assert layout(whisper, KvSettings()).blocks_per_request(448, step_tokens(512)) == 28 + 94


def test_models_without_a_cache() -> None:
    found = layout(((24, EncoderOnly()),), KvSettings())
    capacity = found.capacity(10 * GIB, 512, STEPS)
    assert (capacity.blocks, capacity.fits, found.bytes_per_token, found.needed_bytes(512, STEPS)) == (
        1,
        True,
        0,
        0,
    )
    assert found.longest_context(0, STEPS, limit_tokens=512) == 512


def test_states_alone() -> None:
    """A model without attention keeps one state per request whatever is said of prefixes."""
    found = layout(((64, Mamba1State(intermediate=8192, state_size=16, conv_kernel=4)),), KvSettings())
    assert found.blocks_per_request(1 << 20, STEPS) == 1
    assert found.block_bytes == found.state_bytes_per_sequence


def test_windows_that_are_never_full_cost_every_token() -> None:
    phi4 = ((32, SlidingWindow(kv_heads=8, head_dim=128, window=262_144)),)
    found = layout(phi4, KvSettings())
    assert (found.bytes_per_token, found.window_bytes_per_token) == (0, 131_072)


def test_requested_block_size() -> None:
    assert layout(LLAMA, KvSettings(block_size=128)).block_tokens == 128
    mla = ((61, LatentAttention(rank=512, rope_dim=64)),)
    found = layout(mla, KvSettings(block_size=16, compute_capability=(10, 0)))
    assert (found.block_tokens, found.backends) == (16, ("TRITON_MLA",))


@pytest.mark.parametrize(
    ("capability", "backend", "block"),
    [
        ((8, 0), "TRITON_MLA", 16),
        ((9, 0), "FLASH_ATTN_MLA", 16),
        ((10, 0), "FLASHINFER_MLA", 32),
        ((12, 0), "TRITON_MLA", 16),
    ],
)
def test_latent_kernels_by_generation(capability: tuple[int, int], backend: str, block: int) -> None:
    found = layout(((61, LatentAttention(rank=512, rope_dim=64)),), KvSettings(compute_capability=capability))
    assert (found.backends, found.block_tokens) == ((backend,), block)


def test_amd_kernels() -> None:
    amd = KvSettings(vendor="amd", compute_capability=(9, 4))
    assert layout(LLAMA, amd).block_tokens == 16
    assert layout(GPT_OSS, amd).backends == ("ROCM_AITER_UNIFIED_ATTN",)
    assert layout(GPT_OSS, amd).block_tokens == 64


DEEPSEEK_V32 = ((61, SparseIndexer(head_dim=128)), (61, LatentAttention(rank=512, rope_dim=64, sparse=True)))


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [
        (LLAMA, KvSettings(kv_dtype="int3")),
        (DEEPSEEK_V32, KvSettings(compute_capability=(8, 0))),
        (LLAMA, KvSettings(kv_dtype="nvfp4", compute_capability=(7, 5))),
        (((43, V4Window(head_dim=512, window=128)),), KvSettings(kv_dtype="bf16")),
        (LLAMA, KvSettings(block_size=17)),
        (
            ((61, LatentAttention(rank=512, rope_dim=64)),),
            KvSettings(kv_dtype="fp8", compute_capability=(8, 0)),
        ),
    ],
    ids=[
        "unknown type",
        "sparse MLA on Ampere",
        "nvfp4 on Turing",
        "bf16 DeepSeek V4",
        "odd block",
        "fp8 MLA on Ampere",
    ],
)
def test_refusals_say_what_to_do(layers: tuple[LayerGroup, ...], chosen: KvSettings) -> None:
    with pytest.raises(UnsupportedError) as refusal:
        layout(layers, chosen)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("chosen", "kv_dtype", "bytes_per_token"),
    [
        (KvSettings(), "auto", 61 * (1152 + 132)),
        (KvSettings(kv_dtype="fp8"), "fp8_ds_mla", 61 * (656 + 132)),
        (KvSettings(kv_dtype="fp8", compute_capability=(10, 0)), "fp8_e4m3", 61 * (576 + 132)),
        (KvSettings(compute_capability=(12, 0)), "fp8_ds_mla", 61 * (656 + 132)),
    ],
)
def test_sparse_latent_rows(chosen: KvSettings, kv_dtype: str, bytes_per_token: int) -> None:
    found = layout(DEEPSEEK_V32, chosen)
    assert (found.kv_dtype, found.bytes_per_token) == (kv_dtype, bytes_per_token)
