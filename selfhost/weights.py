"""ModelSpec + Split -> bytes of parameters on one rank, exactly as vLLM's own classes allocate them."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.dtypes import itemsize
from selfhost.errors import UnsupportedError
from selfhost.model.modules import Block, Buffer, Embedding, Experts, Item, Matrix, Part, Vector
from selfhost.quantization.schemes import ExpertShape, expert_refusal, group_refusal, unquantized_experts
from selfhost.units import round_up

# vLLM pads the vocabulary to a multiple of 64 (layers/vocab_parallel_embedding.py:36).
VOCABULARY_PADDING = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """How a block is divided.

    Args:
        tensor: tensor-parallel size.
        expert_ranks: ranks that share the routed experts (TP x DP).
        whole_experts: expert parallel: ranks hold whole experts.
        compute_capability: e.g. 90; None off NVIDIA.
        dtype: the model's element type.
        engine: (major, minor) of vLLM.
    """

    tensor: int = 1
    expert_ranks: int = 1
    whole_experts: bool = False
    compute_capability: int | None = 90
    dtype: str = "bfloat16"
    engine: tuple[int, int] = (0, 32)


def part_rows(part: Part, tensor: int) -> int:
    """Output rows of one part on one rank.

    Raises:
        UnsupportedError: vLLM asserts that heads and sizes divide by TP.
    """
    if tensor == 1:
        return part.units * part.unit
    if part.units >= tensor:
        if part.units % tensor:
            raise UnsupportedError(
                f"Tensor parallel {tensor} does not divide {part.units} ({part.name}).",
                hint=f"Use a --tp that divides {part.units}.",
            )
        return part.units // tensor * part.unit
    if tensor % part.units or part.unit == 1:
        raise UnsupportedError(
            f"Tensor parallel {tensor} does not divide {part.units} ({part.name}).",
            hint=f"Use a --tp that divides {part.units}, or a multiple of it for KV heads.",
        )
    return part.unit


def _matrix(item: Matrix, ranks: Ranks, replicated: bool) -> int:
    tensor = 1 if replicated or item.division == "none" else ranks.tensor
    if item.whole_unless and item.whole_unless % tensor:
        tensor = 1
    inputs = item.inputs
    if item.division == "row":
        if inputs % tensor:
            raise UnsupportedError(
                f"Tensor parallel {tensor} does not divide {inputs} ({item.name}).",
                hint=f"Use a --tp that divides {inputs}.",
            )
        inputs //= tensor
        rows = tuple(part.units * part.unit for part in item.parts)
    else:
        rows = tuple(part_rows(part, tensor) for part in item.parts)
    size = itemsize(item.dtype or ranks.dtype)
    scheme = item.scheme
    if scheme is not None:
        cut = group_refusal(
            scheme,
            rows,
            inputs,
            rows_divided=tensor > 1 and item.division == "column",
            inputs_divided=tensor > 1 and item.division == "row",
        )
        if cut is not None:
            raise UnsupportedError(
                f"Tensor parallel {tensor} cuts the {scheme.id} weights of {item.name}: {cut}.",
                hint="Use a smaller --tp, or --pp for more GPUs.",
            )
    total = scheme.matrix(rows, inputs, size) if scheme else sum(rows) * inputs * size
    if item.bias:
        total += sum(rows) * size
    return total * item.copies


def _experts(item: Experts, ranks: Ranks) -> int:
    share = ranks.expert_ranks
    if ranks.whole_experts and share > 1:
        # The first ranks take one expert more where they do not divide evenly (fused_moe/layer.py, expert map).
        local, intermediate = -(-item.count // share), item.intermediate
        divided = False
    else:
        if item.intermediate % share:
            raise UnsupportedError(
                f"{share} ranks do not divide the experts' intermediate size {item.intermediate}.",
                hint="Use a smaller --tp, or --ep to place whole experts.",
            )
        local, intermediate, divided = item.count, item.intermediate // share, share > 1
        if divided:
            intermediate = max(intermediate, item.least_per_rank)
    size = itemsize(item.dtype or ranks.dtype)
    shape = ExpertShape(
        local=local,
        total=item.count,
        hidden=item.hidden,
        intermediate=intermediate,
        shards=2 if item.gated else 1,
        divided=divided,
        biased=item.bias,
        itemsize=size,
        compute_capability=ranks.compute_capability,
        activation=item.activation,
        engine=ranks.engine,
    )
    if item.scheme is None:
        return unquantized_experts(shape, size)
    cut = expert_refusal(item.scheme, shape)
    if cut is not None:
        raise UnsupportedError(
            f"{share} ranks cut the {item.scheme.id} weights of {item.name}: {cut}.",
            hint="Use a smaller --tp, or --ep to place whole experts.",
        )
    return item.scheme.experts(shape)


def _embedding(item: Embedding, ranks: Ranks, replicated: bool) -> int:
    size = itemsize(item.dtype or ranks.dtype)
    rows = item.rows
    if item.divided:
        rows = round_up(rows, VOCABULARY_PADDING)
        if not replicated:
            if rows % ranks.tensor:
                raise UnsupportedError(
                    f"Tensor parallel {ranks.tensor} does not divide the vocabulary.",
                    hint="Use a power of two.",
                )
            rows //= ranks.tensor
    total = rows * item.width * size
    if item.scheme is not None:
        total = item.scheme.matrix((rows,), item.width, size)
    return total + (rows * size if item.bias else 0)


def _vector(item: Vector, ranks: Ranks, replicated: bool) -> int:
    elements = item.units * item.unit
    if item.divided and not replicated:
        elements = part_rows(Part(name=item.name, units=item.units, unit=item.unit), ranks.tensor)
    return elements * itemsize(item.dtype or ranks.dtype) * item.copies


def item_bytes(item: Item, ranks: Ranks, *, replicated: bool = False) -> int:
    """Bytes of one module's parameters on one rank.

    Raises:
        UnsupportedError: the split does not divide it.
    """
    if isinstance(item, Matrix):
        return _matrix(item, ranks, replicated)
    if isinstance(item, Vector):
        return _vector(item, ranks, replicated)
    if isinstance(item, Experts):
        return _experts(item, ranks)
    return _embedding(item, ranks, replicated)


def block_bytes(block: Block, ranks: Ranks) -> int:
    """Bytes of one block's parameters on one rank."""
    return sum(item_bytes(item, ranks, replicated=block.replicated) for item in block.items)


def blocks_bytes(blocks: tuple[Block, ...], ranks: Ranks) -> int:
    """Bytes of many blocks; equal blocks (the same object) are computed once."""
    counts: dict[int, int] = {}
    by_id: dict[int, Block] = {}
    for block in blocks:
        key = id(block)
        counts[key] = counts.get(key, 0) + 1
        by_id[key] = block
    return sum(count * block_bytes(by_id[key], ranks) for key, count in counts.items())


def buffer_bytes(buffers: tuple[Buffer, ...], tensor: int) -> int:
    """Bytes of non-parameter tensors on one rank."""
    return sum(b.elements * itemsize(b.dtype) // (tensor if b.divided else 1) for b in buffers)


def item_parameters(item: Item) -> int:
    """Parameters of the whole, undivided module as people count them (no padding, no scales)."""
    if isinstance(item, Matrix):
        rows = sum(part.units * part.unit for part in item.parts)
        return (rows * item.inputs + (rows if item.bias else 0)) * item.copies
    if isinstance(item, Vector):
        return item.units * item.unit * item.copies
    if isinstance(item, Experts):
        shards = 2 if item.gated else 1
        one = (shards + 1) * item.hidden * item.intermediate
        if item.bias:
            one += shards * item.intermediate + item.hidden
        return item.count * one
    return item.rows * item.width + (item.rows if item.bias else 0)
