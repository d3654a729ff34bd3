"""Whose rules of allocation size an engine, and what they may depend on."""

from __future__ import annotations

from typing import NamedTuple

from selfhost.catalog.accelerators import Platform
from selfhost.workload import Split, Workload


class Sizing(NamedTuple):
    """Whose rules of allocation size the engine; selfhost knows those of vLLM.

    Args:
        release: the release of vLLM whose rules are used.
        because: the sentence that says so, None for vLLM itself.
        certainty_ratio: share of a GPU's memory by which the certainty is wider than vLLM's own.
        utilization: share of the GPU that the engine takes by itself; None, as the other two, for the stand-in's.
        max_num_batched_tokens: tokens of one step where nobody says otherwise.
        max_num_seqs: requests of one step where nobody says otherwise.
        static_ratio: the most that weights and KV cache may take together of what is free when the engine starts, as
            its own rule keeps the rest for activations and graphs; None where it has no such rule.
        keeps_windows: whether layers that see a window keep that window alone; else they are sized for every token.
        context_inside: whether the share that the engine takes holds its CUDA context too.
    """

    release: tuple[int, int, int]
    because: str | None = None
    certainty_ratio: float = 0.0
    utilization: float | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    static_ratio: float | None = None
    keeps_windows: bool = True
    context_inside: bool = False


class SizingFor(NamedTuple):
    """What a sizing may depend on.

    Args:
        platform: what the devices are to software.
        compute_capability: as (9, 0); None off NVIDIA or without a GPU.
        gpu_bytes: memory of one GPU as the engine sees it, None without a GPU.
        split: how the model is divided.
        workload: the load.
        context_tokens: the longest request.
    """

    platform: Platform
    compute_capability: tuple[int, int] | None
    gpu_bytes: int | None
    split: Split
    workload: Workload
    context_tokens: int
