"""ModelSpec + Split -> Work: what one rank reads and computes in one engine step, by kind of kernel.

Bytes of weights are those that memory.py counts; operations are two for each weight and token, and for attention two
for each element of a query's product with every key and value it sees (Kaplan et al. 2020, arXiv:2001.08361, table 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from selfhost.attention import Attention, LatentAttention, SparseIndexer
from selfhost.attention.rank import RankCache, Setting
from selfhost.dtypes import itemsize
from selfhost.model.modules import Block, Embedding, Experts, Item, Matrix
from selfhost.model.spec import ModelSpec
from selfhost.stages import partition
from selfhost.weights import Ranks, item_bytes, part_rows
from selfhost.workload import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """Matrices every token passes, of one weight format, on one rank.

    Args:
        scheme: id of the weight format, None for plain weights.
        bytes: what a step reads once, whatever its batch.
        weights: number of weights a token is multiplied with.
        kernels: matrix products in a row.
    """

    scheme: str | None
    bytes: int
    weights: int
    kernels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Routed experts of alike layers on one rank.

    Args:
        layers: how many such layers.
        scheme: id of the weight format.
        local: experts that the rank holds of each layer.
        total: experts of a layer.
        chosen: experts that one token visits.
        bytes_per_expert, weights_per_expert: of one expert as the rank holds it.
        whole: the rank holds whole experts (expert parallel), so that only its share of visits is computed here.
        copies: data-parallel copies whose tokens meet at the same experts.
    """

    layers: int
    scheme: str | None
    local: int
    total: int
    chosen: int
    bytes_per_expert: float
    weights_per_expert: float
    whole: bool
    copies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """Attention layers of one kind on one rank.

    Args:
        layers: how many.
        bytes_per_token: of the cache, read by each later token of the sequence.
        span_tokens: how far back a token sees; 0 for all.
        state_bytes: fixed state of a sequence, read and written in each step.
        prefill_per_pair: operations for each pair of a query and a key it sees.
        decode_per_pair: the same when a single token decodes (absorbed latent attention works on its rank).
    """

    layers: int
    bytes_per_token: float
    span_tokens: int
    state_bytes: float
    prefill_per_pair: float
    decode_per_pair: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageWork:
    """One pipeline stage on its fullest rank.

    Args:
        layers: pairs of a mixer (attention or a state) and a feed-forward network; a block of one alone is half of one.
        sums: outputs that tensor parallelism adds up: one of each mixer and of each feed-forward network.
    """

    layers: float
    sums: int
    dense: tuple[Dense, ...]
    routed: tuple[Routed, ...]
    attended: tuple[Attended, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """A step of the whole model.

    Args:
        stages: by pipeline stage.
        draft: the layers that draft a token, None where none are drafted.
        head: the output head, computed for tokens that are sampled alone.
        hidden: width of what is passed between layers.
        element_bytes: of one of its elements.
        reduced: outputs that tensor parallelism adds up in one step.
    """

    stages: tuple[StageWork, ...]
    draft: StageWork | None
    head: Dense
    hidden: int
    element_bytes: int
    reduced: int


# Of the indexers that sparse attention has so far: index_topk, index_n_heads of DeepSeek V3.2 and GLM-5 (config.json,
# 2026-11). Every rank scores with all heads.
SELECTED_TOKENS = 2048
INDEXER_HEADS = 64
Counted = tuple[tuple[int, Block], ...]


def _scheme_of(item: Item) -> str | None:
    scheme = getattr(item, "scheme", None)
    return None if scheme is None else str(scheme.id)


def _weights_of(item: Matrix, ranks: Ranks) -> int:
    tensor = 1 if item.division == "none" else ranks.tensor
    if item.whole_unless and item.whole_unless % tensor:
        tensor = 1
    inputs = item.inputs // tensor if item.division == "row" else item.inputs
    rows = (
        sum(part.units * part.unit for part in item.parts)
        if item.division == "row"
        else sum(part_rows(part, tensor) for part in item.parts)
    )
    return rows * inputs * item.copies


def _dense(blocks: Counted, ranks: Ranks) -> tuple[Dense, ...]:
    found: dict[str | None, list[int]] = {}
    for count, block in blocks:
        for item in block.items:
            if not isinstance(item, Matrix):
                continue
            sums = found.setdefault(_scheme_of(item), [0, 0, 0])
            sums[0] += count * item_bytes(item, ranks, replicated=block.replicated)
            sums[1] += count * _weights_of(item, ranks)
            sums[2] += count * item.copies
    return tuple(
        Dense(scheme=scheme, bytes=size, weights=weights, kernels=kernels)
        for scheme, (size, weights, kernels) in found.items()
    )


def _routed(blocks: Counted, ranks: Ranks, chosen: int, copies: int) -> tuple[Routed, ...]:
    found: list[Routed] = []
    for count, block in blocks:
        for item in block.items:
            if not isinstance(item, Experts):
                continue
            whole = ranks.whole_experts and ranks.expert_ranks > 1
            local = -(-item.count // ranks.expert_ranks) if whole else item.count
            inner = item.intermediate if whole else item.intermediate / ranks.expert_ranks
            found.append(
                Routed(
                    layers=count,
                    scheme=_scheme_of(item),
                    local=local,
                    total=item.count,
                    chosen=chosen,
                    bytes_per_expert=item_bytes(item, ranks) / local,
                    weights_per_expert=(3 if item.gated else 2) * item.hidden * inner,
                    whole=whole,
                    copies=copies,
                )
            )
    return _merged(found)


def _attended(blocks: Counted, spec: ModelSpec, ranks: Ranks, setting: Setting) -> tuple[Attended, ...]:
    heads = max(1, spec.facts.heads // ranks.tensor)
    found: list[Attended] = []
    for count, block in blocks:
        for kind in block.keeps:
            cache = kind.of_rank(setting)
            if cache is None:
                continue
            found.append(_kept(count, kind, cache, heads, spec.facts.head_dim))
    return _merged(found)


def _kept(count: int, kind: Attention, cache: RankCache, heads: int, head_dim: int) -> Attended:
    per_token = cache.slots * cache.content_bytes / max(1, cache.tokens_per_state)
    prefill = decode = 4.0 * heads * getattr(kind, "head_dim", head_dim)
    span = cache.span_tokens if cache.reach in ("window", "chunk", "cross") else 0
    if isinstance(kind, LatentAttention):
        prefill = 2.0 * heads * (kind.nope_dim + kind.rope_dim + kind.nope_dim)
        decode = 2.0 * heads * (2 * kind.rank + kind.rope_dim)
        span = SELECTED_TOKENS if kind.sparse else span
    elif isinstance(kind, SparseIndexer):
        # Half, as scores are computed in 8 bits, at twice the peak that attention goes by (DeepGEMM fp8_mqa_logits).
        prefill = decode = 2.0 * INDEXER_HEADS * kind.head_dim / kind.pool / 2.0
    state: float = cache.state_bytes
    if (
        cache.reach == "cross"
    ):  # all that was encoded is read by each token, and written once: half of a state's bytes
        state, per_token, decode = state + per_token * span / 2.0, 0.0, 0.0
    if cache.reach in ("state", "ring"):  # of a fixed size: nothing of it grows with the sequence
        per_token = prefill = decode = 0.0
    return Attended(
        layers=count,
        bytes_per_token=per_token,
        span_tokens=span,
        state_bytes=state,
        prefill_per_pair=prefill,
        decode_per_pair=decode,
    )


def _merged(rows: list[Any]) -> tuple[Any, ...]:
    """Rows that differ in the number of layers alone, as one: blocks that differ in attention have the same experts."""
    found: dict[Any, int] = {}
    for row in rows:
        alike = replace(row, layers=0)
        found[alike] = found.get(alike, 0) + row.layers
    return tuple(replace(alike, layers=layers) for alike, layers in found.items())


def _counted(blocks: tuple[Block, ...]) -> Counted:
    counts: dict[int, int] = {}
    by_id = {id(block): block for block in blocks}
    for block in blocks:
        counts[id(block)] = counts.get(id(block), 0) + 1
    return tuple((count, by_id[key]) for key, count in counts.items())


def _sums(block: Block) -> int:
    """Mixers and feed-forward networks of a block: two of most, one where a model alternates them (Nemotron-H)."""
    if not any(isinstance(item, Matrix | Experts) for item in block.items):
        return 0
    rows = sum(1 for item in block.items if isinstance(item, Matrix) and item.division == "row")
    # A block without a cache has no mixer, or one that sees another layer's cache. Shared experts are added up with the
    # routed ones.
    routed = bool(block.keeps) and any(isinstance(item, Experts) for item in block.items)
    return min(2, max(1, rows + routed))


def _head(spec: ModelSpec, ranks: Ranks) -> Dense:
    for item in (*spec.last.items, *spec.first.items):
        if isinstance(item, Embedding) and item.divided:
            rows = -(-item.rows // ranks.tensor)
            return Dense(
                scheme=_scheme_of(item), bytes=item_bytes(item, ranks), weights=rows * item.width, kernels=1
            )
    return Dense(scheme=None, bytes=0, weights=0, kernels=0)


@lru_cache(maxsize=4096)
def work_of(spec: ModelSpec, split: Split, setting: Setting, compute_capability: int | None) -> Work:
    """What one rank does in a step.

    Args:
        spec: the model, in the weight format it is served in.
        split: how it is divided.
        setting: how its caches are kept.
        compute_capability: e.g. 90; None off NVIDIA.

    Raises:
        UnsupportedError: the split does not divide the model.
    """
    ranks = Ranks(
        tensor=split.tensor,
        expert_ranks=split.tensor * split.data,
        whole_experts=split.expert,
        compute_capability=compute_capability,
        dtype=spec.dtype,
    )

    def stage(blocks: tuple[Block, ...]) -> StageWork:
        counted = _counted(blocks)
        sums = sum(count * _sums(block) for count, block in counted)
        return StageWork(
            layers=sums / 2,
            sums=sums,
            dense=_dense(counted, ranks),
            routed=_routed(counted, ranks, spec.facts.experts_per_token, split.data),
            attended=_attended(counted, spec, ranks, setting),
        )

    parts = partition(len(spec.layers), split.pipeline) if spec.layers else ()
    stages = tuple(stage(spec.layers[part.start : part.stop]) for part in parts)
    return Work(
        stages=stages,
        draft=stage(spec.draft) if spec.draft and setting.speculative_tokens else None,
        head=_head(spec, ranks),
        hidden=spec.facts.hidden_size,
        element_bytes=itemsize(spec.dtype),
        reduced=sum(one.sums for one in stages),
    )
