"""ModelSpec + Split -> what each pipeline stage holds: bytes of weights, and the layers that keep a cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from selfhost.attention import Attention, LatentAttention
from selfhost.dtypes import itemsize
from selfhost.errors import UnsupportedError
from selfhost.model.modules import Block, Experts, Matrix
from selfhost.model.spec import ModelSpec
from selfhost.units import ceil_div
from selfhost.weights import Ranks, block_bytes, blocks_bytes, buffer_bytes, part_rows
from selfhost.workload import Split, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage on one tensor-parallel rank.

    Args:
        weights_bytes: parameters as allocated.
        copies_bytes: second copies that appear after loading (bf16 up-projections of quantized MLA).
        adapter_bytes: slots for LoRA adapters.
        layers: number of decoder layers.
        keeps: (count, kind) of every cache the stage's layers keep, in order of first appearance.
    """

    weights_bytes: int
    copies_bytes: int
    adapter_bytes: int
    layers: int
    keeps: tuple[tuple[int, Attention], ...]


def partition(layers: int, pipeline: int) -> tuple[range, ...]:
    """Layers of each stage (vLLM 0.32 distributed/utils.py `get_pp_indices`).

    Even shares; what is left over goes to the stages before the last, from the back.

    Raises:
        UnsupportedError: more stages than layers.
    """
    if pipeline > layers:
        raise UnsupportedError(
            f"{pipeline} pipeline stages are more than the model's {layers} layers.",
            hint=f"Use --pp {layers} or less.",
        )
    sizes = [layers // pipeline] * pipeline
    for index in range(2, layers % pipeline + 2):
        sizes[-index] += 1
    found: list[range] = []
    start = 0
    for size in sizes:
        found.append(range(start, start + size))
        start += size
    return tuple(found)


Counted = tuple[tuple[int, Block], ...]
"""(how many, block), each distinct block once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """The decoder layers of one stage, and the caches they keep."""

    layers: int
    blocks: Counted
    keeps: tuple[tuple[int, Attention], ...]


def _count(blocks: tuple[Block, ...]) -> Counted:
    counts: dict[int, list[int]] = {}
    for index, block in enumerate(blocks):
        counts.setdefault(id(block), [index, 0])[1] += 1
    return tuple((count, blocks[index]) for index, count in counts.values())


def _keeps(counted: Counted) -> tuple[tuple[int, Attention], ...]:
    counts: dict[Attention, int] = {}
    for count, block in counted:
        for kind in block.keeps:
            counts[kind] = counts.get(kind, 0) + count
    return tuple((count, kind) for kind, count in counts.items())


@lru_cache(maxsize=4096)
def _shares(spec: ModelSpec, pipeline: int, drafts: bool) -> tuple[_Share, ...]:
    """Layers by stage; draft layers go to the last."""
    parts = partition(len(spec.layers), pipeline) if spec.layers else (range(0),)
    found: list[_Share] = []
    for part in parts:
        blocks = spec.layers[part.start : part.stop]
        if drafts and part is parts[-1]:
            blocks = (*blocks, *spec.draft)
        counted = _count(blocks)
        found.append(_Share(layers=len(part), blocks=counted, keeps=_keeps(counted)))
    return tuple(found)


def _latent_copies(blocks: Counted, ranks: Ranks) -> int:
    """Quantized MLA keeps kv_b_proj and a copy of it in the model's dtype, split into W_UV and W_UK_T.

    vLLM 0.32 layers/attention/mla_attention.py:1248-1326.
    """
    total = 0
    for count, block in blocks:
        if not any(isinstance(kind, LatentAttention) for kind in block.keeps):
            continue
        for item in block.items:
            if isinstance(item, Matrix) and item.scheme is not None and item.name.endswith("kv_b_proj"):
                rows = sum(part_rows(part, ranks.tensor) for part in item.parts)
                total += count * rows * item.inputs * itemsize(ranks.dtype)
    return total


def _adapters(blocks: Counted, ranks: Ranks, slots: int, rank: int) -> int:
    """LoRA slots: A (rank x inputs) and B (outputs x rank) of every linear layer.

    A is divided for row-parallel layers and B for column-parallel ones (vLLM 0.32 lora/layers/base_linear.py
    `create_lora_weights`); experts have both per expert (lora/layers/fused_moe.py).
    """
    if slots <= 0:
        return 0
    cells = 0
    for count, block in blocks:
        for item in block.items:
            if isinstance(item, Matrix) and item.quantizable:
                inputs = item.inputs // ranks.tensor if item.division == "row" else item.inputs
                if item.division == "column":
                    outputs = sum(part_rows(part, ranks.tensor) for part in item.parts)
                else:
                    outputs = sum(part.units * part.unit for part in item.parts)
                cells += count * item.copies * (len(item.parts) * inputs + outputs)
            elif isinstance(item, Experts):
                inner = (
                    item.intermediate if ranks.whole_experts else -(-item.intermediate // ranks.expert_ranks)
                )
                local = -(-item.count // ranks.expert_ranks) if ranks.whole_experts else item.count
                shards = 2 if item.gated else 1
                cells += count * local * (shards * (item.hidden + inner) + inner + item.hidden)
    return slots * rank * cells * itemsize(ranks.dtype)


def stages_of(
    spec: ModelSpec,
    split: Split,
    workload: Workload,
    *,
    compute_capability: int | None,
    engine: tuple[int, int] = (0, 32),
) -> tuple[Stage, ...]:
    """What each pipeline stage holds on one rank.

    The first stage has the embedding and the towers, the last the final norm, the head (or, when it is tied, a second
    copy of the embedding) and the draft layers of speculative decoding.

    Raises:
        UnsupportedError: the split does not divide the model.
    """
    ranks = Ranks(
        tensor=split.tensor,
        expert_ranks=split.tensor * split.data,
        whole_experts=split.expert,
        compute_capability=compute_capability,
        dtype=spec.dtype,
        engine=engine,
    )
    found: list[Stage] = []
    shares = _shares(spec, split.pipeline, workload.speculative_tokens > 0)
    last = len(shares) - 1
    for index, share in enumerate(shares):
        total = sum(count * block_bytes(block, ranks) for count, block in share.blocks)
        if index == 0:
            total += block_bytes(spec.first, ranks)
            if not workload.language_model_only:
                total += blocks_bytes(spec.towers, ranks)
        if index == last:
            total += block_bytes(spec.last, ranks)
            if spec.tied and index:
                total += block_bytes(spec.first, ranks)
        found.append(
            Stage(
                weights_bytes=total,
                copies_bytes=_latent_copies(share.blocks, ranks),
                adapter_bytes=_adapters(share.blocks, ranks, workload.max_loras, workload.max_lora_rank),
                layers=share.layers,
                keeps=share.keeps,
            )
        )
    return tuple(found)


def buffers_of(spec: ModelSpec, split: Split, *, language_model_only: bool = False) -> int:
    """Bytes of non-parameter tensors on one rank.

    Rotary tables, and 16 bytes of q/k/v/prob scales per attention layer (vLLM 0.32 layers/attention/attention.py).
    """
    buffers = tuple(buffer for buffer in spec.buffers if not (language_model_only and buffer.tower))
    attention = sum(1 for block in spec.layers if block.keeps)
    return buffer_bytes(buffers, split.tensor) + 16 * ceil_div(attention, split.pipeline)
