"""The GPU catalogue is complete, consistent and found under every name a cluster gives."""

from __future__ import annotations

import time

import pytest

from selfhost.catalog import gpus as catalogue
from selfhost.catalog.gpus import find_gpu, gpu_ids, gpus, mig_instance, searched, with_memory
from selfhost.errors import UnknownGpuError
from selfhost.units import GIB, MIB


def test_enough_of_every_kind() -> None:
    all_gpus = gpus()
    assert len(all_gpus) >= 50
    assert {gpu.kind for gpu in all_gpus} == {"datacenter", "workstation", "consumer"}
    assert {gpu.vendor for gpu in all_gpus} == {"NVIDIA", "AMD", "Intel"}
    assert {gpu.vendor for gpu in searched()} == {"NVIDIA", "AMD"}
    assert [gpu.id for gpu in all_gpus] == sorted(gpu.id for gpu in all_gpus)


@pytest.mark.parametrize("gpu", gpus(), ids=gpu_ids())
def test_facts_are_plausible(gpu: catalogue.Gpu) -> None:
    assert 0.93 * gpu.reported_bytes < gpu.usable_bytes <= gpu.reported_bytes
    assert 8 * GIB <= gpu.reported_bytes + 5 * MIB < 300 * GIB
    assert 100e9 < gpu.bandwidth_bytes_per_second < 10e12
    assert (gpu.compute_capability is not None) == (gpu.platform == "cuda")
    assert (gpu.gfx is not None) == (gpu.platform == "rocm")
    assert gpu.source.startswith("https://")
    assert gpu.checked.startswith("20")
    assert gpu.confidence in ("high", "medium", "low")
    assert gpu.usable_evidence.split()[0] in ("log", "seen", "twin", "rule", "nominal")
    assert (gpu.link_bytes_per_second > 0) <= (gpu.link is not None)
    for slower, faster in ((gpu.bf16_flops, gpu.fp8_flops), (gpu.fp8_flops, gpu.fp4_flops)):
        assert slower is None or faster is None or slower <= faster
    for profile in gpu.mig:
        assert profile.memory_bytes * profile.count <= gpu.reported_bytes


@pytest.mark.parametrize("gpu", gpus(), ids=gpu_ids())
def test_found_by_every_name(gpu: catalogue.Gpu) -> None:
    label = gpu.node_label[1]
    dashed = (alias.replace(" ", "-") for alias in gpu.aliases)
    labels = (label,) if gpu.label is None else ()  # a label of the whole kind names no product
    for name in (gpu.id, gpu.id.upper(), *gpu.aliases, *dashed, *labels):
        assert find_gpu(name) == gpu
    for profile in gpu.mig:
        forms = (f"{gpu.id}:{profile.name}", f"{label}-MIG-{profile.name}", f"{gpu.id}-mig-{profile.name}")
        for name in forms:
            instance = find_gpu(name)
            assert instance.mig_profile == profile.name
            assert instance.memory_bytes == profile.memory_bytes
            assert find_gpu(instance.id) == instance
            assert find_gpu(instance.node_label[1]) == instance


@pytest.mark.parametrize(
    ("name", "gpu_id"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("NVIDIA-H100-80GB-HBM3", "h100-sxm-80gb"),
        ("NVIDIA-H100-80GB-HBM3-SHARED", "h100-sxm-80gb"),
        ("h100 sxm", "h100-sxm-80gb"),
        ("H100-PCIe", "h100-pcie-80gb"),
        ("h200", "h200-sxm-141gb"),
        ("l40s", "l40s-48gb"),
        ("l40", "l40-48gb"),
        ("L4", "l4-24gb"),
        ("rtx4090", "rtx-4090-24gb"),
        ("4090", "rtx-4090-24gb"),
        ("RTX 5070 Ti", "rtx-5070-ti-16gb"),
        ("rtx a6000", "rtx-a6000-48gb"),
        ("a6000", "rtx-a6000-48gb"),
        ("mi300x", "mi300x-192gb"),
        ("AMD_Instinct_MI300X_OAM", "mi300x-192gb"),
        ("Tesla-T4", "t4-16gb"),
        ("a100-sxm4-40gb", "a100-sxm-40gb"),
        ("b200", "b200-sxm-180gb"),
        ("gb200", "gb200-186gb"),
        # As benchmarks and MLPerf submissions spell them.
        ("H20", "h20-sxm-96gb"),
        ("H20 141GB (8xH20)", "h20-sxm-141gb"),
        ("A100 40GB", "a100-sxm-40gb"),
        ("B300 SXM 270GB", "b300-sxm-288gb"),
        ("B300-SXM-270GB", "b300-sxm-288gb"),
        ("Virtualized NVIDIA H200-SXM-141GB", "h200-sxm-141gb"),
        ("DGX Spark (GB10) 128GB", "gb10-128gb"),
        ("RTX PRO 6000 Blackwell Server", "rtx-pro-6000-server-96gb"),
        ("Intel Arc Pro B60 24GB", "arc-pro-b60-24gb"),
        ("V100 32GB", "v100-sxm-32gb"),
    ],
)
def test_clear_abbreviations(name: str, gpu_id: str) -> None:
    assert find_gpu(name).id == gpu_id


def test_ambiguous_and_unknown_names_are_refused_with_candidates() -> None:
    with pytest.raises(UnknownGpuError) as ambiguous:
        find_gpu("h100")
    for gpu_id in ("h100-sxm-80gb", "h100-pcie-80gb", "h100-nvl-94gb"):
        assert gpu_id in (ambiguous.value.hint or "")
    with pytest.raises(UnknownGpuError) as close:
        find_gpu("h100-smx-80gb")
    assert "h100-sxm-80gb" in (close.value.hint or "")
    for name in ("", "quadro", "x" * 10_000, "../../etc/passwd", "nvidia", "{{7*7}}"):
        with pytest.raises(UnknownGpuError):
            find_gpu(name)
    with pytest.raises(UnknownGpuError, match="no MIG profile"):
        find_gpu("l40s:1g.10gb")


def test_torch_total_of_logged_gpus() -> None:
    """Totals that vLLM printed at start ('Free memory on device (78.68/79.19 GiB)')."""
    printed = {"h100-sxm-80gb": 79.19, "a100-sxm-80gb": 79.25, "gb10": 121.63, "l40s": 44.52}
    for name, total_gib in printed.items():
        assert find_gpu(name).memory_bytes == pytest.approx(total_gib * GIB, abs=0.01 * GIB)


def test_slices_and_overrides_scale() -> None:
    gpu = find_gpu("a100-sxm-80gb")
    half = mig_instance(gpu, "3g.40gb")
    assert half.bf16_flops == pytest.approx((gpu.bf16_flops or 0) * 3 / 7)
    assert half.bandwidth_bytes_per_second < 0.51 * gpu.bandwidth_bytes_per_second
    assert half.resource == "nvidia.com/mig-3g.40gb"
    assert with_memory(gpu, 20 * GIB).memory_bytes == 20 * GIB


def test_loading_is_fast() -> None:
    catalogue._load.cache_clear()
    catalogue._index.cache_clear()
    start = time.perf_counter()
    gpus()
    assert time.perf_counter() - start < 0.08
