"""Pages -> groups that share one block pool: vLLM's grouping of layers, with the padding it costs.

Grouping is global; a pipeline stage then holds its own layers of every group. vLLM 0.32 v1/core/kv_cache_utils.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from selfhost.attention import RankCache
from selfhost.errors import UnsupportedError
from selfhost.kv.pages import Page
from selfhost.units import ceil_div, round_up

# More layers than this times the smallest group are split rather than padded (:1452-1461).
SPLIT_RATIO = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that share a block table. Each group takes its own blocks from the common pool.

    Attributes:
        cache: what a layer of the group keeps (the representative where sizes are mixed).
        block_tokens: tokens of one block.
        bytes_of_stage: bytes that the group's layers of each pipeline stage have in one block.
    """

    cache: RankCache
    block_tokens: int
    bytes_of_stage: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Layers with the same page, and how many of them each pipeline stage has."""

    page: Page
    stages: tuple[int, ...]

    @property
    def layers(self) -> int:
        return sum(self.stages)


def group_pages(
    counted: tuple[tuple[Page, tuple[int, ...]], ...], *, block_outermost: bool
) -> tuple[Group, ...]:
    """Group layers as `get_kv_cache_groups` does (:2159-2253).

    Args:
        counted: each kind of page with the number of its layers on each pipeline stage, in layer order.
        block_outermost: pages of all layers lie side by side in a block (DeepSeek V4).

    Raises:
        UnsupportedError: page sizes that cannot be made equal.
    """
    merged: dict[Page, tuple[int, ...]] = {}
    for page, stages in counted:
        known = merged.get(page)
        merged[page] = stages if known is None else tuple(map(sum, zip(known, stages, strict=True)))
    buckets = [_Bucket(page, stages) for page, stages in merged.items()]
    if not buckets:
        return ()
    if all(_same_slots(buckets[0].page, bucket.page) for bucket in buckets):
        return (_whole(buckets),)
    if block_outermost and len({bucket.page.bytes for bucket in buckets}) > 1:
        return _packed(buckets)
    return _uniform(_unify(buckets))


def _same_slots(first: Page, other: Page) -> bool:
    """Whether two layers always need the same number of blocks (`UniformTypeKVCacheSpecs.is_uniform_type`)."""
    a, b = first.cache, other.cache
    if a.reach != b.reach or first.block_tokens != other.block_tokens:
        return False
    if a.reach in ("window", "chunk"):
        return a.span_tokens == b.span_tokens
    if a.reach == "state":
        return first.bytes == other.bytes and a.checkpoint_blocks == b.checkpoint_blocks
    return True


def _whole(buckets: list[_Bucket]) -> Group:
    """One group of all these layers, pages of mixed size side by side."""
    stages = len(buckets[0].stages)
    return Group(
        cache=buckets[0].page.cache,
        block_tokens=buckets[0].page.block_tokens,
        bytes_of_stage=tuple(sum(b.page.bytes * b.stages[stage] for b in buckets) for stage in range(stages)),
    )


def _unify(buckets: list[_Bucket]) -> list[_Bucket]:
    """Make all pages as large as the largest: longer blocks where they divide it, padding elsewhere (:1292-1354)."""
    largest = max(bucket.page.bytes for bucket in buckets)
    unified: dict[Page, tuple[int, ...]] = {}
    for bucket in buckets:
        page = bucket.page
        if page.bytes != largest:
            if page.cache.reach != "state" and largest % page.bytes == 0:
                tokens = page.block_tokens * (largest // page.bytes)
                page = replace(page, block_tokens=tokens, bytes=largest)
            elif page.cache.latent:
                return _full_allocation(buckets)
            else:
                page = page.of_bytes(largest)
        known = unified.get(page)
        unified[page] = (
            bucket.stages if known is None else tuple(map(sum, zip(known, bucket.stages, strict=True)))
        )
    return [_Bucket(page, stages) for page, stages in unified.items()]


def _full_allocation(buckets: list[_Bucket]) -> list[_Bucket]:
    """Latent pages that cannot be padded, next to windows: windows get blocks for all tokens (:1765-1796)."""
    promoted = []
    block = next((b.page.block_tokens for b in buckets if b.page.cache.reach == "full"), None)
    for bucket in buckets:
        cache = bucket.page.cache
        if cache.reach == "window" and not cache.latent and block is not None:
            cache = replace(cache, reach="full", span_tokens=0)
            page = Page(cache=cache, block_tokens=block, bytes=cache.page_bytes(block))
            promoted.append(_Bucket(page, bucket.stages))
        else:
            promoted.append(bucket)
    if not all(_same_slots(promoted[0].page, bucket.page) for bucket in promoted):
        raise UnsupportedError(
            "The engine cannot lay out this model's KV cache: its page sizes can neither be padded nor divided.",
            hint="Try another --kv-dtype or tensor-parallel size.",
        )
    return promoted


def _uniform(buckets: list[_Bucket]) -> tuple[Group, ...]:
    """Split layers of each kind into groups of one size (:1362-1500)."""
    if len({bucket.page.bytes for bucket in buckets}) > 1:
        return (_whole(buckets),)
    fewest = min(bucket.layers for bucket in buckets)
    most = max(bucket.layers for bucket in buckets)
    size = most if most < fewest * SPLIT_RATIO else fewest
    return tuple(group for bucket in buckets for group in _split(bucket, ceil_div(bucket.layers, size)))


def _split(bucket: _Bucket, groups: int) -> list[Group]:
    """Deal the layers of a bucket to `groups` groups in turn, so that each stage has its share of each (:1490-1499)."""
    dealt = [[0] * len(bucket.stages) for _ in range(groups)]
    start = 0
    for stage, layers in enumerate(bucket.stages):
        for index in range(groups):
            # Layers start .. start + layers - 1 of the bucket; those with number % groups == index.
            first = (index - start) % groups
            dealt[index][stage] = max(0, -(-(layers - first) // groups))
        start += layers
    return [
        Group(
            cache=bucket.page.cache,
            block_tokens=bucket.page.block_tokens,
            bytes_of_stage=tuple(bucket.page.bytes * count for count in counts),
        )
        for counts in dealt
    ]


def _packed(buckets: list[_Bucket]) -> tuple[Group, ...]:
    """Groups whose pages of several sizes are packed into one block (:1860-1994).

    Layers that need the same slots form a class. A class with equally many layers of each page size is a repeating
    pattern; such classes are split so that all groups cover about the same number of repeats.
    """
    classes: list[list[_Bucket]] = []
    for bucket in buckets:
        for members in classes:
            if _same_slots(members[0].page, bucket.page):
                members.append(bucket)
                break
        else:
            classes.append([bucket])
    by_size = [_layers_by_size(members) for members in classes]
    balanced = [len(set(sizes.values())) == 1 for sizes in by_size]
    repeats = [max(sizes.values()) for sizes in by_size]
    floor = max(
        (
            count
            for count, even, sizes in zip(repeats, balanced, by_size, strict=True)
            if even and len(sizes) > 1
        ),
        default=0,
    )
    per_group = (
        _least_padding([count for count, even in zip(repeats, balanced, strict=True) if even], floor)
        if floor
        else 0
    )
    splits = [
        ceil_div(count, per_group) if even and per_group else 1
        for count, even in zip(repeats, balanced, strict=True)
    ]
    state_like = [
        members[0].page.cache.reach in ("state", "ring")
        or (not per_group and members[0].page.cache.reach == "window")
        for members in classes
    ]
    anchor = max(
        sum(
            ceil_div(layers, sum(sizes.values()) if state else split) * size for size, layers in sizes.items()
        )
        for sizes, split, state in zip(by_size, splits, state_like, strict=True)
    )
    groups: list[Group] = []
    for members, split, state in zip(classes, splits, state_like, strict=True):
        if state:
            per_block = max(anchor // members[0].page.bytes, 1)
            split = max(split, ceil_div(sum(bucket.layers for bucket in members), per_block))
        groups.extend(_split_class(members, split))
    return tuple(groups)


def _layers_by_size(members: list[_Bucket]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for bucket in members:
        counts[bucket.page.bytes] += bucket.layers
    return counts


def _split_class(members: list[_Bucket], groups: int) -> list[Group]:
    if groups == 1:
        return [_whole(members)]
    # Layers with pages of one size are dealt out together, whatever they keep.
    by_size: dict[int, _Bucket] = {}
    for bucket in members:
        known = by_size.get(bucket.page.bytes)
        stages = (
            bucket.stages if known is None else tuple(map(sum, zip(known.stages, bucket.stages, strict=True)))
        )
        by_size[bucket.page.bytes] = _Bucket(bucket.page if known is None else known.page, stages)
    parts = [_split(bucket, groups) for bucket in by_size.values()]
    return [
        replace(
            column[0],
            bytes_of_stage=tuple(map(sum, zip(*(group.bytes_of_stage for group in column), strict=True))),
        )
        for column in zip(*parts, strict=True)
    ]


def _least_padding(values: list[int], at_least: int) -> int:
    """The chunk size in [at_least, max] that pads `values` least when each is rounded up to it; the larger of equals.

    `_approximate_gcd` (:1825-1857).
    """
    top = max(values)
    if at_least > top:
        return at_least
    return min(
        range(max(1, at_least), top + 1), key=lambda chunk: (sum(-value % chunk for value in values), -chunk)
    )


def block_bytes(groups: tuple[Group, ...], stages: int, *, multiple: int = 1) -> tuple[int, ...]:
    """Bytes of one pool block on each pipeline stage: those of the widest group, rounded up (:1520-1551)."""
    widest = (max((group.bytes_of_stage[stage] for group in groups), default=0) for stage in range(stages))
    return tuple(round_up(size, multiple) for size in widest)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTokens:
    """Tokens that the engine handles at a time.

    Attributes:
        batch: most tokens of one step (`max_num_batched_tokens`). Where chunked prefill is off (encoder-decoder and
            some pooling models) the engine raises it to the context.
        in_flight: tokens that may be scheduled but not yet settled, which windows must still hold.
    """

    batch: int
    in_flight: int


def blocks_for(
    group: Group, *, max_model_len: int, steps: StepTokens, states_cached: bool, drafts: int
) -> int:
    """Blocks that one request of `max_model_len` tokens can hold in a group.

    vLLM 0.32 v1/kv_cache_interface.py:607 (full), :830-845 (chunk), :878-900 (window: one more, as it may start inside
    a block),
    :1076-1082 (state), :926-949 (ring), :1166-1171 (cross: a whole step of encoder tokens, config/scheduler.py:303).
    """
    cache, block = group.cache, group.block_tokens
    if cache.reach == "full":
        return -(-max_model_len // block)
    if cache.reach == "window":
        held = cache.span_tokens - 1 + steps.in_flight
        return -(-min(held, max_model_len) // block) + 1
    if cache.reach == "chunk":
        return -(-min(cache.span_tokens + steps.in_flight, max_model_len) // block)
    if cache.reach == "cross":
        return -(-max(cache.span_tokens, steps.batch) // block)
    if cache.reach == "ring":
        return 1
    return 2 + drafts + cache.checkpoint_blocks if states_cached else 1 + drafts
