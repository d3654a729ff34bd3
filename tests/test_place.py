"""Placing: the fewest GPUs of each kind, a stated order, refusals with what is missing, and what would help."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from selfhost.catalog.gpus import Gpu, find_gpu, gpus
from selfhost.engines import Objection
from selfhost.errors import UnsupportedError
from selfhost.memory import MemoryBudget
from selfhost.place import NODE_GPUS, place, remedies, splits
from selfhost.units import GIB
from selfhost.workload import Split, Workload
from tests.plans import budget

KINDS = tuple(find_gpu(name) for name in ("h100-sxm-80gb", "h200-sxm-141gb", "l4-24gb", "a100-sxm-80gb"))


def test_splits_grow_and_stay_within_a_node() -> None:
    found = splits()
    assert [split.gpus for split in found] == sorted(split.gpus for split in found)
    assert all(split.tensor <= NODE_GPUS for split in found)
    assert found[0] == Split()
    assert found[-1] == Split(tensor=8, pipeline=2)


def test_fewest_gpus_of_each_kind() -> None:
    placements = place(KINDS, budget=budget)
    found = {placement.gpu_id: placement.split.gpus for placement in placements.fitting}
    assert found == {"h200-sxm-141gb": 1, "a100-sxm-80gb": 2, "h100-sxm-80gb": 2, "l4-24gb": 8}
    assert not placements.refused
    assert all(placement.budget.fits for placement in placements.fitting)


def test_order_is_fewest_gpus_then_least_memory_then_least_bandwidth() -> None:
    placements = place(KINDS, budget=budget)
    order = [
        (p.split.gpus, p.total_memory_bytes, p.total_bandwidth_bytes_per_second) for p in placements.fitting
    ]
    assert order == sorted(order)


def test_refusals_come_least_missing_first_and_say_how_much() -> None:
    def large(gpu: Gpu, split: Split) -> MemoryBudget:
        return budget(gpu, split, weights_bytes=4000 * GIB)

    placements = place(KINDS, budget=large)
    assert not placements.fitting
    missing = [(r.short_bytes or 0) * r.split.gpus for r in placements.refused]
    assert missing == sorted(missing)
    assert all(r.short_bytes and "weights" in r.because for r in placements.refused)


def test_what_the_engine_refuses_is_told_and_not_sized() -> None:
    def asked(gpu: Gpu, split: Split) -> MemoryBudget:
        raise AssertionError("sized although refused")

    placements = place(KINDS[:1], budget=asked, objection=lambda gpu, split: Objection(because="needs 10.0"))
    (refusal,) = placements.refused
    assert (refusal.because, refusal.short_bytes) == ("needs 10.0", None)


def test_a_split_the_model_cannot_take_is_passed_over() -> None:
    def odd(gpu: Gpu, split: Split) -> MemoryBudget:
        if split.tensor > 1:
            raise UnsupportedError("9 heads do not divide by 2.")
        return budget(gpu, split)

    (placement,) = place((find_gpu("h100-sxm-80gb"),), budget=odd).fitting
    assert placement.split == Split(tensor=1, pipeline=2)


def test_the_whole_catalogue_is_answered() -> None:
    placements = place(gpus(), budget=budget)
    assert len(placements.fitting) + len(placements.refused) == len(gpus())


@given(st.integers(1, 900), st.integers(0, 400))
def test_more_weights_never_need_fewer_gpus(weights_gib: int, more_gib: int) -> None:
    def sized(extra: int) -> list[int]:
        found = place(
            KINDS, budget=lambda gpu, split: budget(gpu, split, weights_bytes=(weights_gib + extra) * GIB)
        )
        fitting = {p.gpu_id: p.split.gpus for p in found.fitting}
        return [fitting.get(gpu.id, 10**6) for gpu in KINDS]

    assert all(less <= more for less, more in zip(sized(0), sized(more_gib), strict=True))


def asked(workload: Workload, split: Split) -> MemoryBudget:
    """Weights halve in fp8, KV halves in fp8; a GPU of 80 GiB."""
    weights = 61 * GIB // (2 if workload.quantization == "fp8" else 4 if workload.quantization else 1)
    kv = (
        workload.concurrency
        * (workload.max_model_len or 16384)
        * 262144
        // (2 if workload.kv_dtype == "fp8" else 1)
    )
    found = budget(
        find_gpu("h100-sxm-80gb"), split, weights_bytes=weights, kv_needed_bytes=kv,
        max_model_len=workload.max_model_len or 16384, concurrency=workload.concurrency,
    )  # fmt: skip
    if not workload.enforce_eager:
        return found
    return replace(found, graphs_bytes=0, short_bytes=max(0, found.short_bytes - (found.graphs_bytes or 0)))


def test_remedies_put_what_is_enough_first() -> None:
    found = remedies(asked, Workload(concurrency=8), Split())
    fits = [remedy.fits for remedy in found]
    assert fits == sorted(fits, reverse=True)
    assert any(fits)
    first = {remedy.option: remedy for remedy in found}
    assert first["--quant fp8"].frees_bytes == 61 * GIB - 61 * GIB // 2
    assert first["--tp 2"].fits
    assert first["--kv-dtype fp8"].frees_bytes == 16 * GIB
    assert first["--context 8192"].frees_bytes == 16 * GIB
    assert first["--enforce-eager"].frees_bytes == GIB
    assert all(remedy.short_bytes > 0 for remedy in found if not remedy.fits)


def test_remedies_do_not_repeat_what_is_already_so() -> None:
    load = Workload(concurrency=1, quantization="fp8", kv_dtype="fp8", enforce_eager=True)
    options = [remedy.option for remedy in remedies(asked, load, Split())]
    assert not any("--quant" in option or "--kv-dtype" in option or "eager" in option for option in options)
