"""The parts that layers are made of: projections, MLPs, experts, norms, tables, and the sizes most of them follow.

`_stack.py` puts a model around its layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from selfhost.model.config import Config
from selfhost.model.modules import Block, Buffer, Embedding, Experts, Item, Matrix, Part, Vector
from selfhost.model.spec import ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Draught:
    """What a family builds from a configuration; `parse.py` makes a ModelSpec of it.

    Args:
        first: what stands before the layers (embeddings).
        last: what stands behind them (final norm, output head).
        draft: layers that only speculative decoding loads.
        tied: the output head is the input embedding, so it is counted once.
    """

    facts: ModelFacts
    first: Block
    layers: tuple[Block, ...]
    last: Block
    towers: tuple[Block, ...] = ()
    draft: tuple[Block, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    tied: bool = False


Builder = Callable[[Config], Draught]


def norm(name: str, size: int, *, bias: bool = False, copies: int = 1, dtype: str | None = None) -> Vector:
    """An RMS norm, or a layer norm with `bias`: replicated on every rank."""
    return Vector(name=name, units=size, unit=2 if bias else 1, copies=copies, dtype=dtype)


def column(
    name: str,
    outputs: int,
    inputs: int,
    *,
    bias: bool = False,
    quantizable: bool = True,
    units: int | None = None,
) -> Matrix:
    """A column-parallel linear layer; `units` heads or the like when outputs divide by them only."""
    parts = (Part(name=name, units=units or outputs, unit=outputs // units if units else 1),)
    return Matrix(
        name=name, parts=parts, inputs=inputs, division="column", bias=bias, quantizable=quantizable
    )


def row(name: str, outputs: int, inputs: int, *, bias: bool = False, quantizable: bool = True) -> Matrix:
    """A row-parallel linear layer: inputs divided, bias whole."""
    parts = (Part(name=name, units=outputs),)
    return Matrix(name=name, parts=parts, inputs=inputs, division="row", bias=bias, quantizable=quantizable)


def whole(
    name: str,
    outputs: int,
    inputs: int,
    *,
    bias: bool = False,
    quantizable: bool = True,
    dtype: str | None = None,
    copies: int = 1,
) -> Matrix:
    """A linear layer that every rank holds whole."""
    parts = (Part(name=name, units=outputs),)
    return Matrix(
        name=name, parts=parts, inputs=inputs, division="none", bias=bias, quantizable=quantizable, dtype=dtype,
        copies=copies,
    )  # fmt: skip


def sibling(name: str, child: str) -> str:
    """`self_attn.qkv_proj`, `q_proj` -> `self_attn.q_proj`."""
    head, dot, _ = name.rpartition(".")
    return head + dot + child


def qkv(
    name: str,
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    *,
    bias: bool = False,
    value_dim: int | None = None,
    names: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj"),
) -> Matrix:
    """The fused QKV projection: K and V are replicated when TP exceeds the KV heads (layers/linear.py:1053)."""
    parts = (
        Part(name=sibling(name, names[0]), units=heads, unit=head_dim),
        Part(name=sibling(name, names[1]), units=kv_heads, unit=head_dim),
        Part(name=sibling(name, names[2]), units=kv_heads, unit=value_dim or head_dim),
    )
    return Matrix(name=name, parts=parts, inputs=hidden, division="column", bias=bias)


def gated_mlp(
    prefix: str,
    hidden: int,
    intermediate: int,
    *,
    bias: bool = False,
    names: tuple[str, str, str, str] = ("gate_up_proj", "gate_proj", "up_proj", "down_proj"),
    quantizable: bool = True,
) -> tuple[Matrix, Matrix]:
    """gate and up fused, then down."""
    fused = f"{prefix}.{names[0]}" if prefix else names[0]
    parts = (
        Part(name=sibling(fused, names[1]), units=intermediate),
        Part(name=sibling(fused, names[2]), units=intermediate),
    )
    up = Matrix(name=fused, parts=parts, inputs=hidden, division="column", bias=bias, quantizable=quantizable)
    return up, row(sibling(fused, names[3]), hidden, intermediate, bias=bias, quantizable=quantizable)


def plain_mlp(
    prefix: str,
    hidden: int,
    intermediate: int,
    *,
    bias: bool,
    names: tuple[str, str] = ("up_proj", "down_proj"),
) -> tuple[Matrix, Matrix]:
    """up, then down, without a gate."""
    return (
        column(f"{prefix}.{names[0]}", intermediate, hidden, bias=bias),
        row(f"{prefix}.{names[1]}", hidden, intermediate, bias=bias),
    )


def router(name: str, experts: int, hidden: int, *, dtype: str | None = None, bias: bool = False) -> Matrix:
    """The gate: whole on each rank and never quantized."""
    return whole(name, experts, hidden, quantizable=False, dtype=dtype, bias=bias)


def experts_item(
    name: str,
    count: int,
    hidden: int,
    intermediate: int,
    *,
    gated: bool = True,
    bias: bool = False,
    names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj"),
    activation: str = "silu",
) -> Experts:
    """The routed experts of one layer."""
    return Experts(
        name=name, count=count, hidden=hidden, intermediate=intermediate, gated=gated, bias=bias, names=names,
        activation=activation,
    )  # fmt: skip


def routed_mlp(
    hidden: int,
    count: int,
    intermediate: int,
    *,
    router_dtype: str | None = None,
    correction: str | None = None,
    shared: int = 0,
    shared_name: str = "shared_experts",
    shared_bias: bool = False,
) -> tuple[Item, ...]:
    """Router, routed experts and the shared ones as one MLP, all under `mlp`.

    Args:
        hidden: width of the model.
        count: routed experts.
        intermediate: width of each.
        router_dtype: element type of the router where it is not the model's.
        correction: name of the fp32 bias by which the router's choice is corrected, None without one.
        shared: width of all shared experts together, 0 for none.
        shared_name: their name.
        shared_bias: they have biases.
    """
    items: list[Item] = [
        router("mlp.gate", count, hidden, dtype=router_dtype),
        experts_item("mlp.experts", count, hidden, intermediate),
    ]
    if correction is not None:
        items.append(Vector(name=f"mlp.{correction}", units=count, dtype="float32"))
    if shared:
        items.extend(gated_mlp(f"mlp.{shared_name}", hidden, shared, bias=shared_bias))
    return tuple(items)


def embedding(name: str, vocab: int, hidden: int) -> Embedding:
    """The input embedding."""
    return Embedding(name=name, rows=vocab, width=hidden)


def head(name: str, vocab: int, hidden: int, *, bias: bool = False) -> Embedding:
    """The output head; some ModelOpt checkpoints quantize it."""
    return Embedding(name=name, rows=vocab, width=hidden, head=True, bias=bias, quantizable=True)


def rope_buffer(
    max_positions: int, rotary_dim: int, *, name: str = "rotary cos/sin", dtype: str | None = None
) -> Buffer:
    """One cos/sin table: max positions x rotary dim, in the model's dtype, shared by all layers.

    layers/rotary_embedding/base.py `_compute_cos_sin_cache`.
    """
    return Buffer(name=name, elements=max_positions * rotary_dim, dtype=dtype or "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Attention sizes that most configurations state in the same fields."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    positions: int


def read_heads(config: Config, *, head_dim: int | None = None) -> Heads:
    """The usual fields under their usual aliases.

    Raises:
        ConfigError: a field is missing, or heads do not divide the hidden size where `head_dim` is not given.
    """
    hidden = config.int("hidden_size", "n_embd", "d_model")
    heads = config.int("num_attention_heads", "n_head", "n_heads", "num_heads", maximum=1 << 16)
    kv_heads = config.int("num_key_value_heads", "num_kv_heads", "n_head_kv", default=heads, maximum=1 << 16)
    if heads % kv_heads:
        raise config.error("num_key_value_heads", f"is {kv_heads}, which does not divide {heads} heads")
    dim = config.int("head_dim", "attention_head_dim", default=head_dim, minimum=1)
    if dim is None:
        if hidden % heads:
            raise config.error("hidden_size", f"is {hidden}, which {heads} attention heads do not divide")
        dim = hidden // heads
    return Heads(
        hidden=hidden,
        layers=config.layers(),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dim,
        vocab=config.int("vocab_size", "padded_vocab_size"),
        positions=config.int("max_position_embeddings", "n_positions", "seq_length", "max_seq_len", "n_ctx",
                             "max_sequence_length", default=2048),
    )  # fmt: skip


def projections(
    sizes: Heads,
    *,
    name: str = "self_attn.qkv_proj",
    parts: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj"),
    out: str | None = "o_proj",
    bias: bool = False,
    output_bias: bool = False,
    inputs: int | None = None,
    value_dim: int | None = None,
    gate: bool = False,
) -> tuple[Item, ...]:
    """QKV and output projection.

    `parts` and `out` are siblings of the fused module `name`; a checkpoint that stores it fused repeats the name.
    `inputs` is the input width where it is not the hidden size; with `gate` the query part carries a gate of its size.
    """
    fused = qkv(
        name,
        inputs or sizes.hidden,
        sizes.heads * (2 if gate else 1),
        sizes.kv_heads,
        sizes.head_dim,
        bias=bias,
        value_dim=value_dim,
        names=parts,
    )
    if out is None:
        return (fused,)
    width = sizes.heads * (value_dim or sizes.head_dim)
    return fused, row(sibling(name, out), sizes.hidden, width, bias=output_bias)


def qk_norms(sizes: Heads, how: str, *, name: str = "self_attn", bias: bool = False) -> tuple[Vector, ...]:
    """Norms of queries and keys.

    `how` is "head" for one weight per element of a head, "whole" for one per element of all heads on every rank, or
    "divided" for the same divided over ranks.
    """
    if how == "head":
        return (norm(f"{name}.qk_norm", sizes.head_dim, copies=2, bias=bias),)
    query, key = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    if how == "whole":
        return norm(f"{name}.q_norm", query, bias=bias), norm(f"{name}.k_norm", key, bias=bias)
    unit = sizes.head_dim * (2 if bias else 1)
    return (
        Vector(name=f"{name}.q_norm", units=sizes.heads, unit=unit, divided=True),
        Vector(name=f"{name}.k_norm", units=sizes.kv_heads, unit=unit, divided=True),
    )
