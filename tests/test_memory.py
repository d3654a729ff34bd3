"""Budgets, stages and weights: what adds up, what is monotone, and what each knob and engine version changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfhost.catalog.gpus import find_gpu, with_memory
from selfhost.errors import UnsupportedError, UsageError
from selfhost.hub import load_model
from selfhost.memory import MemoryBudget, budget
from selfhost.model.parse import parse_model
from selfhost.model.spec import ModelSpec
from selfhost.model.what_if import requantize
from selfhost.quantization import SCHEMES, names
from selfhost.reserves import parse_version
from selfhost.sizing import highest_concurrency
from selfhost.stages import partition, stages_of
from selfhost.units import GIB
from selfhost.workload import Split, Workload

H100 = find_gpu("h100-sxm-80gb")


def model(name: str) -> ModelSpec:
    return parse_model(load_model(f"catalog:{name}"))


LLAMA = model("meta-llama/Llama-3.1-8B")
DEEPSEEK = model("deepseek-ai/DeepSeek-V3")
MOE = model("Qwen/Qwen3-30B-A3B")


def size(
    spec: ModelSpec = LLAMA,
    load: Workload | None = None,
    split: Split | None = None,
    version: tuple[int, int, int] = (0, 32, 0),
) -> MemoryBudget:
    return budget(spec, load or Workload(max_model_len=8192), split or Split(), H100, version)


def test_the_terms_add_up_to_the_share_of_the_gpu() -> None:
    for spec, split in ((LLAMA, Split()), (DEEPSEEK, Split(tensor=16)), (MOE, Split(tensor=2, expert=True))):
        result = size(spec, split=split)
        assert sum(term.bytes for term in result.terms) == int(H100.memory_bytes * result.utilization)
        assert all(term.because and term.source for term in result.terms)


def test_available_memory_is_the_share_less_what_is_held() -> None:
    result = size()
    assert result.kv_available_bytes is not None
    held = result.weights_bytes + result.buffers_bytes + result.extra_bytes
    kept = sum(
        term.bytes
        for term in result.terms
        if term.name in ("activation peak", "CUDA graphs", "outside torch")
    )
    assert result.kv_available_bytes == int(H100.memory_bytes * 0.92) - held - kept


def test_fixed_kv_memory_is_taken_as_given() -> None:
    result = size(load=Workload(max_model_len=8192, kv_cache_memory_bytes=20 * GIB))
    assert result.kv_available_bytes == 20 * GIB
    assert result.kv_blocks == 20 * GIB // (16 * 131072)
    assert result.kv_tokens == 20 * GIB // (16 * 131072) * 16


def test_known_answers_of_llama() -> None:
    result = size()
    assert result.weights_bytes == 16_060_522_496
    assert result.kv_bytes_per_token == 131_072
    assert LLAMA.parameters == 8_030_261_248


def test_latent_attention_is_replicated_over_tensor_parallel() -> None:
    assert size(DEEPSEEK, split=Split(tensor=8)).kv_bytes_per_token == 70_272
    assert size(DEEPSEEK, split=Split(tensor=16)).kv_bytes_per_token == 70_272
    assert size(MOE, split=Split(tensor=8)).kv_bytes_per_token == 2 * size(MOE).kv_bytes_per_token // 8


def test_engine_versions_differ_where_the_engine_does() -> None:
    old, new = size(version=(0, 19, 0)), size(version=(0, 32, 0))
    assert old.utilization == 0.90
    assert new.utilization == 0.92
    assert "CUDA graphs" not in {term.name for term in old.terms}
    assert "CUDA graphs" in {term.name for term in new.terms}
    with pytest.raises(UsageError, match=r"0\.6"):
        parse_version("0.5.4")


def test_pipeline_stages_hold_the_whole_model_once() -> None:
    whole = stages_of(LLAMA, Split(), Workload(), compute_capability=90)[0].weights_bytes
    for pipeline in (2, 3, 4, 8):
        stages = stages_of(LLAMA, Split(pipeline=pipeline), Workload(), compute_capability=90)
        assert sum(stage.weights_bytes for stage in stages) == whole
        assert sum(stage.layers for stage in stages) == 32
        assert sum(count for stage in stages for count, _ in stage.keeps) == 32


def test_layers_left_over_go_before_the_last_stage() -> None:
    assert [len(part) for part in partition(61, 4)] == [15, 15, 16, 15]
    assert [len(part) for part in partition(62, 4)] == [15, 16, 16, 15]
    assert [len(part) for part in partition(32, 4)] == [8, 8, 8, 8]
    with pytest.raises(UnsupportedError, match="more than"):
        partition(4, 8)


def test_draft_layers_count_only_when_drafting() -> None:
    plain = size(DEEPSEEK, split=Split(tensor=16))
    drafting = size(DEEPSEEK, Workload(max_model_len=8192, speculative_tokens=1), Split(tensor=16))
    assert drafting.weights_bytes > plain.weights_bytes
    assert drafting.kv_bytes_per_token == plain.kv_bytes_per_token // 61 * 62


def test_adapters_take_slots_times_rank() -> None:
    one = size(load=Workload(max_model_len=8192, max_loras=1, max_lora_rank=16))
    four = size(load=Workload(max_model_len=8192, max_loras=4, max_lora_rank=32))
    assert one.extra_bytes > 0
    assert four.extra_bytes == 8 * one.extra_bytes


def test_a_tower_can_be_left_out() -> None:
    seeing = model("google/gemma-3-27b-it")
    with_tower = size(seeing)
    without = size(seeing, Workload(max_model_len=8192, language_model_only=True))
    assert without.weights_bytes < with_tower.weights_bytes


def test_highest_concurrency_is_the_last_that_fits() -> None:
    load = Workload(max_model_len=8192)
    most = highest_concurrency(LLAMA, load, Split(), H100)
    assert most > 1
    assert size(load=replace(load, concurrency=most)).fits
    assert not size(load=replace(load, concurrency=most + 1)).fits


def test_longest_context_is_the_last_that_fits() -> None:
    small = with_memory(H100, 24 * GIB)
    longest = budget(LLAMA, Workload(max_model_len=1024, concurrency=2), Split(), small).max_context_tokens
    assert longest is not None
    assert 1024 < longest < 131072
    assert budget(LLAMA, Workload(max_model_len=longest, concurrency=2), Split(), small).fits
    assert not budget(LLAMA, Workload(max_model_len=longest + 16, concurrency=2), Split(), small).fits


def test_without_a_gpu_what_needs_one_is_unknown() -> None:
    result = budget(LLAMA, Workload(), Split(), None)
    assert (result.activation_bytes, result.kv_available_bytes, result.fits) == (None, None, None)
    assert result.weights_bytes == 16_060_522_496


@pytest.mark.parametrize("name", names())
def test_every_format_weighs_its_bits(name: str) -> None:
    plain = size().weights_bytes
    changed = stages_of(requantize(LLAMA, name), Split(), Workload(), compute_capability=90)[0].weights_bytes
    if name in ("bf16", "fp16"):
        assert changed == plain
    elif name in SCHEMES:
        # Embedding and head stay in 16 bits; scales add at most an eighth to the rest.
        rest = 2 * 2 * 128256 * 4096
        least = rest + (plain - rest) * SCHEMES[name].bits / 16
        assert least <= changed <= rest + (least - rest) * 1.13
    else:
        assert changed < plain * 0.6
    assert requantize(requantize(LLAMA, name), "bf16").layers[0].items == LLAMA.layers[0].items


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        requantize(LLAMA, "q5")
    assert "awq-int4" in (caught.value.hint or "")


def test_a_checkpoint_that_is_in_the_format_stays_as_it_is() -> None:
    oss = parse_model(load_model("openai/gpt-oss-120b"))
    assert requantize(oss, "mxfp4") is oss  # its makers left attention and the head in 16 bits
    assert requantize(oss, "fp8") is not oss


def test_a_format_written_the_other_way_round_is_understood_as_meant() -> None:
    with pytest.raises(UsageError) as caught:
        requantize(LLAMA, "int4-awq")
    assert caught.value.hint == "Did you mean awq-int4?"


@settings(max_examples=40, deadline=None)
@given(
    context=st.integers(64, 131072),
    concurrency=st.integers(1, 64),
    memory=st.integers(20 * GIB, 200 * GIB),
)
def test_budgets_are_monotone(context: int, concurrency: int, memory: int) -> None:
    load = Workload(max_model_len=context, concurrency=concurrency)
    card, larger = with_memory(H100, memory), with_memory(H100, memory + GIB)
    one, more = (budget(LLAMA, load, Split(), gpu) for gpu in (card, larger))
    if (one.max_num_batched_tokens, one.max_num_seqs) == (more.max_num_batched_tokens, more.max_num_seqs):
        assert (more.kv_tokens or 0) >= (one.kv_tokens or 0)
        assert more.short_bytes <= one.short_bytes
    longer = budget(LLAMA, replace(load, max_model_len=context + 16), Split(), card)
    assert longer.kv_needed_bytes >= one.kv_needed_bytes
    busier = budget(LLAMA, replace(load, concurrency=concurrency + 1), Split(), card)
    assert busier.kv_needed_bytes > one.kv_needed_bytes
    assert (one.short_bytes == 0) == bool(one.fits)


def quantized(**section: object) -> ModelSpec:
    found = load_model("catalog:meta-llama/Llama-3.1-8B")
    return parse_model(replace(found, config={**found.config, "quantization_config": section}))


def test_reordered_gptq_is_refused_where_the_engine_dropped_it() -> None:
    ordered = quantized(quant_method="gptq", bits=4, group_size=128, desc_act=True)
    assert size(ordered, version=(0, 31, 0)).fits
    with pytest.raises(UnsupportedError, match="desc_act"):
        size(ordered)
    assert size(quantized(quant_method="gptq", bits=4, group_size=-1, desc_act=True)).fits


def test_groups_that_tensor_parallel_would_cut_are_refused() -> None:
    # 14,336 inputs of down_proj over 16 ranks are 896: whole groups of 128, but not of 512.
    whole = quantized(quant_method="awq", bits=4, group_size=128, zero_point=True)
    assert size(whole, split=Split(tensor=16)).weights_bytes > 0
    cut = quantized(quant_method="awq", bits=4, group_size=512, zero_point=True)
    with pytest.raises(UnsupportedError, match="groups of 512"):
        size(cut, split=Split(tensor=16))


def test_older_engines_pad_mxfp4_experts_on_hopper() -> None:
    gpt_oss = model("openai/gpt-oss-20b")
    new, old = (size(gpt_oss, version=version).weights_bytes / GIB for version in ((0, 32, 0), (0, 19, 0)))
    assert new == pytest.approx(12.82, abs=0.01)
    assert old == pytest.approx(13.64, rel=0.005)  # start-up logs 040-042
