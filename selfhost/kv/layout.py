"""Layers and settings -> a KV layout, computed once; memory and context -> capacity, computed often."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from selfhost.attention import Attention
from selfhost.kv.groups import Group, StepTokens, block_bytes, blocks_for, group_pages
from selfhost.kv.pages import pages_of
from selfhost.kv.settings import KvSettings, LayerGroup

# First vLLM release in which a window's blocks are freed when a step is processed, not when it is scheduled.
SETTLES_BLOCKS_SINCE = (0, 26)
# First one whose "KV cache size" is concurrency x context: issue 40691, logs of 0.20.0 and 0.21.0.
CONCURRENCY_TOKENS_SINCE = (0, 21)

Stages = tuple[tuple[LayerGroup, ...], ...]
"""Per pipeline stage, its layers in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCapacity:
    """What the KV cache of one deployment holds, in vLLM's own terms.

    Attributes:
        blocks: pool blocks (`num_gpu_blocks`), one of which is the null block.
        block_bytes: bytes of a block on the fullest stage.
        blocks_per_request: blocks of one request of the full context.
        max_concurrency: requests of the full context at once, as the start-up log says it (null block not deducted).
        tokens: "GPU KV cache size: N tokens": concurrency times context, rounded down (before 0.21: an equal share
            of the blocks for each group, times the smallest block).
        fits: one request of the full context fits beside the null block; the engine refuses to start otherwise.
        short_bytes: bytes missing on the stage that misses most, 0 if it fits.
    """

    blocks: int
    block_bytes: int
    blocks_per_request: int
    max_concurrency: float
    tokens: int
    fits: bool
    short_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KvLayout:
    """How vLLM lays out the KV cache of one rank; independent of how much memory there is.

    Attributes:
        block_tokens: tokens of a block (`block_size`).
        kv_dtype: element type that resulted (auto: the model's).
        backends: attention kernels, in layer order.
        groups: layers that share a block table.
        counted: groups with equal needs, and how many there are of each.
        block_bytes_of_stage: bytes of one block on each pipeline stage.
        token_bytes_of_stage: per stage and kind of layer, bytes of one token and the span it is kept for (None: all).
        bytes_per_token: what one more token of a long sequence costs on the fullest stage: layers that keep every
            token, indexers included, replication included; windows, chunks and states excluded.
        state_bytes_per_sequence: recurrent state of one sequence on the fullest stage, one copy, no padding.
        states_cached: recurrent states are kept at block ends (prefix caching).
        speculative_tokens: drafted per step.
        engine: (major, minor) of vLLM.
    """

    block_tokens: int
    kv_dtype: str
    backends: tuple[str, ...]
    groups: tuple[Group, ...]
    counted: tuple[tuple[Group, int], ...]
    block_bytes_of_stage: tuple[int, ...]
    token_bytes_of_stage: tuple[tuple[tuple[float, int | None], ...], ...]
    bytes_per_token: float
    state_bytes_per_sequence: int
    states_cached: bool
    speculative_tokens: int
    engine: tuple[int, int]

    @property
    def window_bytes_per_token(self) -> float:
        """What a token costs in windows and chunks while they are not full, on the fullest stage."""
        return max(
            sum(size for size, span in stage if span is not None) for stage in self.token_bytes_of_stage
        )

    @property
    def block_bytes(self) -> int:
        """Bytes of a block on the fullest stage."""
        return max(self.block_bytes_of_stage)

    def blocks_per_request(self, max_model_len: int, steps: StepTokens) -> int:
        """Blocks of one request that may grow to `max_model_len` tokens, over all groups.

        vLLM 0.32 v1/core/kv_cache_utils.py:1195-1227.

        Args:
            max_model_len: context in tokens.
            steps: tokens of a step and in flight (`step_tokens`).
        """
        return sum(
            count
            * blocks_for(
                group,
                max_model_len=max_model_len,
                steps=steps,
                states_cached=self.states_cached,
                drafts=self.speculative_tokens,
            )
            for group, count in self.counted
        )

    def blocks(self, available_bytes: int | tuple[int, ...]) -> int:
        """Blocks that the memory holds: the fewest of any stage (:1627, :2655-2670).

        Args:
            available_bytes: KV memory of a rank, of each stage where they differ.
        """
        if isinstance(available_bytes, int):
            return max(0, available_bytes) // self.block_bytes if self.counted else 1
        if not self.counted:
            return 1
        return min(
            max(0, available) // size
            for available, size in zip(available_bytes, self.block_bytes_of_stage, strict=True)
            if size
        )

    def capacity(
        self, available_bytes: int | tuple[int, ...], max_model_len: int, steps: StepTokens
    ) -> KvCapacity:
        """Blocks, tokens and concurrency for an amount of memory (:2300-2308); the fit check of :1003-1040, :2627-2633.

        A model without any cache (encoders) always fits and reports one block, as the engine does.
        """
        blocks = self.blocks(available_bytes)
        size = self.block_bytes
        need = self.blocks_per_request(max_model_len, steps)
        if not need:
            return KvCapacity(
                blocks=1, block_bytes=0, blocks_per_request=0, max_concurrency=0.0, tokens=0, fits=True,
                short_bytes=0,
            )  # fmt: skip
        concurrency = blocks / need
        fits = blocks - 1 >= need
        tokens = int(concurrency * max_model_len)
        if self.engine < CONCURRENCY_TOKENS_SINCE:
            smallest = min((group.block_tokens for group in self.groups if group.block_tokens), default=0)
            tokens = blocks // len(self.groups) * smallest
        return KvCapacity(
            blocks=blocks,
            block_bytes=size,
            blocks_per_request=need,
            max_concurrency=concurrency,
            tokens=tokens,
            fits=fits,
            short_bytes=0 if fits else self.short_bytes(available_bytes, need + 1),
        )

    def short_bytes(self, available_bytes: int | tuple[int, ...], blocks: int) -> int:
        """Bytes by which the neediest stage misses `blocks` blocks."""
        if isinstance(available_bytes, int):
            return max(0, blocks * self.block_bytes - available_bytes)
        if len(available_bytes) == 1:
            return max(0, blocks * self.block_bytes_of_stage[0] - available_bytes[0])
        stages = zip(available_bytes, self.block_bytes_of_stage, strict=True)
        return max(0, *(blocks * size - available for available, size in stages))

    def needed_bytes(self, max_model_len: int, steps: StepTokens, concurrency: int = 1) -> int:
        """KV bytes of the fullest stage for `concurrency` requests of the full context, null block included."""
        need = self.blocks_per_request(max_model_len, steps)
        return (need * concurrency + 1) * self.block_bytes if need else 0

    def longest_context(
        self,
        available_bytes: int | tuple[int, ...],
        steps: StepTokens,
        *,
        concurrency: int = 1,
        limit_tokens: int = 1 << 30,
    ) -> int:
        """Longest context, in tokens, that `concurrency` requests can have at once; 0 if none, at most `limit_tokens`.

        vLLM 0.32 v1/core/kv_cache_utils.py:2369-2411 searches in the same way.
        """
        if not self.counted:
            return limit_tokens
        usable = self.blocks(available_bytes) - 1
        if concurrency * self.blocks_per_request(1, steps) > usable:
            return 0
        low, high = 1, limit_tokens
        while low < high:
            middle = (low + high + 1) // 2
            if concurrency * self.blocks_per_request(middle, steps) <= usable:
                low = middle
            else:
                high = middle - 1
        return low


def step_tokens(
    max_num_batched_tokens: int,
    *,
    pipeline: int = 1,
    async_scheduling: bool = True,
    engine: tuple[int, int] = (0, 32),
) -> StepTokens:
    """Tokens that may be scheduled but not yet settled: a batch for every step under way.

    vLLM 0.32 config/vllm.py:577-598. Blocks are freed once a step is processed since pull request 47728 (July 2026,
    first release 0.26); before, a window held one batch beyond itself whatever was under way.

    Args:
        max_num_batched_tokens: tokens of one step.
        pipeline: pipeline stages; each has a batch under way.
        async_scheduling: schedule one step ahead: the engine's default, except for pooling models.
        engine: (major, minor) of the engine.
    """
    batches = 1 if engine < SETTLES_BLOCKS_SINCE else pipeline + 1 if async_scheduling else pipeline
    return StepTokens(batch=max_num_batched_tokens, in_flight=batches * max_num_batched_tokens)


@lru_cache(maxsize=4096)
def layout_of_stages(stages: Stages, settings: KvSettings) -> KvLayout:
    """Lay out the cache of a model that is divided into pipeline stages.

    Args:
        stages: per stage, its layers in order as (count, kind). One stage where there is no pipeline.
        settings: the deployment.

    Raises:
        UnsupportedError: the engine has no kernel or layout for this combination.
    """
    counts: dict[Attention, list[int]] = {}
    for stage, layers in enumerate(stages):
        for count, kind in layers:
            counts.setdefault(kind, [0] * len(stages))[stage] += count
    kinds = tuple(counts)
    paging = pages_of(kinds, settings)
    counted = tuple(
        (page, tuple(counts[kind]))
        for kind, page in zip(kinds, paging.pages, strict=True)
        if page is not None
    )
    groups = group_pages(counted, block_outermost=paging.block_outermost)
    # Blocks that hold pages of several layers keep every kernel's distance (v1/core/kv_cache_utils.py:1541-1551).
    multiple = math.lcm(*(page.stride_bytes for page, _ in counted)) if paging.block_outermost else 1

    token_bytes = tuple(
        tuple(
            (
                page.cache.page_bytes(page.block_tokens) / page.block_tokens * layers[stage],
                None if page.cache.reach == "full" else page.cache.span_tokens,
            )
            for page, layers in counted
            if page.cache.reach in ("full", "window", "chunk")
        )
        for stage in range(len(stages))
    )
    states = [(page, layers) for page, layers in counted if page.cache.reach == "state"]
    return KvLayout(
        block_tokens=paging.block_tokens,
        kv_dtype=paging.kv_dtype,
        backends=paging.backends,
        groups=groups,
        counted=_count_alike(groups),
        block_bytes_of_stage=block_bytes(groups, len(stages), multiple=multiple),
        token_bytes_of_stage=token_bytes,
        bytes_per_token=max(sum(size for size, span in stage if span is None) for stage in token_bytes),
        state_bytes_per_sequence=max(
            sum(page.cache.state_bytes * layers[stage] for page, layers in states)
            for stage in range(len(stages))
        ),
        states_cached=paging.states_cached,
        speculative_tokens=settings.speculative_tokens,
        engine=settings.engine,
    )


def layout(layers: tuple[LayerGroup, ...], settings: KvSettings) -> KvLayout:
    """Lay out the cache of a model that is not divided into pipeline stages (see `layout_of_stages`)."""
    return layout_of_stages((layers,), settings)


def _count_alike(groups: tuple[Group, ...]) -> tuple[tuple[Group, int], ...]:
    """Groups that need the same number of blocks, counted; one of each stands for all."""
    seen: dict[tuple[object, int], Group] = {}
    number: Counter[tuple[object, int]] = Counter()
    for group in groups:
        cache = group.cache
        key = ((cache.reach, cache.span_tokens, cache.checkpoint_blocks), group.block_tokens)
        seen.setdefault(key, group)
        number[key] += 1
    return tuple((group, number[key]) for key, group in seen.items())
