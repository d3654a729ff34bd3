"""What vLLM allocates, module by module: matrices, experts, vectors, embeddings, and how ranks divide each.

Sizes here are of the whole model; `weights.py` turns them into bytes of one rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfhost.attention import Attention
from selfhost.quantization.schemes import Scheme

Division = Literal["column", "row", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One checkpoint tensor inside a fused matrix: `units` x `unit` output rows.

    A rank holds units / TP of them; where TP exceeds the units each rank holds one copy, as vLLM replicates KV heads
    (vLLM 0.32 layers/linear.py:1053).
    """

    name: str
    units: int
    unit: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One linear layer as vLLM holds it.

    Args:
        name: vLLM's module name inside its block, e.g. `self_attn.qkv_proj`.
        parts: fused outputs, in the checkpoint's names inside the block.
        inputs: input columns.
        division: "column" divides the outputs, "row" the inputs, "none" replicates.
        bias: a bias per output; a row-divided matrix keeps it whole on each rank.
        quantizable: False where vLLM passes no quantization (routers, indexer weights).
        dtype: element type where it is not the model's.
        copies: equal matrices in the block.
        whole_unless: heads that TP must divide; otherwise every rank holds the matrix whole, as vLLM's vision towers
            fall back to data parallelism. 0 for no such rule.
        scheme: how its weights are quantized, set by `parse.py`; None when they are not.
    """

    name: str
    parts: tuple[Part, ...]
    inputs: int
    division: Division
    bias: bool = False
    quantizable: bool = True
    dtype: str | None = None
    copies: int = 1
    whole_unless: int = 0
    scheme: Scheme | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The routed experts of one layer: `count` MLPs of `hidden` -> `intermediate` -> `hidden`.

    Args:
        name: vLLM's module name inside its block.
        gated: w1 and w3 (two matrices up) rather than one.
        bias: biases on both sides (gpt-oss).
        names: checkpoint names of gate, up and down inside one expert, for exclusion patterns.
        quantizable: False where vLLM passes no quantization.
        dtype: element type where it is not the model's.
        activation: the configuration's name of it; kernels round sizes by it (quantization/schemes.py).
        least_per_rank: smallest share of the intermediate size that tensor parallelism gives a rank (Kimi Linear).
        scheme: how its weights are quantized, set by `parse.py`; None when they are not.
    """

    name: str
    count: int
    hidden: int
    intermediate: int
    gated: bool = True
    bias: bool = False
    names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    quantizable: bool = True
    dtype: str | None = None
    activation: str = "silu"
    least_per_rank: int = 0
    scheme: Scheme | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A small parameter: norm, bias, scale, convolution. `units` x `unit` elements, divided over TP if `divided`."""

    name: str
    units: int
    unit: int = 1
    divided: bool = False
    dtype: str | None = None
    copies: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """A table by vocabulary: the input embedding or the output head, rows padded to 64 and divided over TP.

    Args:
        head: the output head.
        bias: a bias per row (of a head).
        divided: False where vLLM uses a plain embedding on every rank (positions, token types).
        quantizable: True for heads that a checkpoint may hold quantized.
        dtype: element type where it is not the model's.
        scheme: how it is quantized, set by `parse.py`; None when it is not.
    """

    name: str
    rows: int
    width: int
    head: bool = False
    bias: bool = False
    divided: bool = True
    quantizable: bool = False
    dtype: str | None = None
    scheme: Scheme | None = None


Item = Matrix | Experts | Vector | Embedding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Modules that stand and fall together: a decoder layer, a vision block, the embedding stage.

    Args:
        prefixes: dotted names under which checkpoints and engines know the block, the checkpoint's first.
        items: what it allocates.
        keeps: what it keeps per sequence, a tuple as some layers keep several caches.
        tower: part of a vision or audio tower (left out by `language_model_only`).
        replicated: every rank holds the whole block (towers that run through transformers).
    """

    prefixes: tuple[str, ...]
    items: tuple[Item, ...]
    keeps: tuple[Attention, ...] = ()
    tower: bool = False
    replicated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """GPU memory that is no parameter: a rotary table, a mask. Does not shrink with TP unless `divided`.

    Args:
        dtype: element type; `model` stands for the model's until `parse.py` knows it.
        tower: part of a vision or audio tower.
    """

    name: str
    elements: int
    dtype: str
    divided: bool = False
    tower: bool = False
