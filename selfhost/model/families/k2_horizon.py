"""K2 Horizon: gated grouped-query attention whose values may come from a mixture of experts (MoVA), and routed MLPs.

vLLM 0.32 models/k2_horizon.py.
"""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families._rope import parameters, table
from selfhost.model.families._stack import Layer, grouped, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    experts_item,
    gated_mlp,
    norm,
    projections,
    qk_norms,
    read_heads,
    row,
    whole,
)
from selfhost.model.modules import Item, Matrix, Part, Vector


def _mova(sizes: Heads, values: int, *, biased: bool, gate_bias: bool) -> tuple[Item, ...]:
    """Queries and keys in one matrix, and `values` value projections that a router chooses from (:760-860)."""
    name = "self_attn"
    parts = (
        Part(name=f"{name}.q_proj", units=sizes.heads, unit=sizes.head_dim),
        Part(name=f"{name}.k_proj", units=sizes.kv_heads, unit=sizes.head_dim),
    )
    one = Part(name=f"{name}.v_experts.0", units=sizes.kv_heads, unit=sizes.head_dim)
    items: list[Item] = [
        Matrix(name=f"{name}.qk_proj", parts=parts, inputs=sizes.hidden, division="column", bias=biased),
        whole(f"{name}.v_router", values, sizes.hidden),
        Matrix(name=one.name, parts=(one,), inputs=sizes.hidden, division="column", copies=values),
        row(f"{name}.o_proj", sizes.hidden, sizes.heads * sizes.head_dim, bias=biased),
    ]
    if gate_bias:
        items.append(Vector(name=f"{name}.v_router.bias", units=values, dtype="float32"))
    return tuple(items)


def k2_horizon(config: Config) -> Draught:
    """K2HorizonForCausalLM."""
    sizes = read_heads(config)
    hidden, inner = sizes.hidden, config.int("intermediate_size")
    count = config.int("num_experts", minimum=0, maximum=1 << 16)
    values = config.int("mova_num_experts", default=0, minimum=0, maximum=1 << 12)
    expert_size = config.int("moe_intermediate_size") if count else 0
    shared = config.int("num_shared_experts", default=0, minimum=0, maximum=1 << 10)
    biased = config.bool("attention_bias", default=False)
    gate_bias = config.bool("moe_gate_bias", default=False)
    more: tuple[Item, ...] = (norm("layer_norms", hidden, copies=2),)
    if config.bool("query_key_norm", default=False):
        # One weight per element of all heads, of which a rank holds its own.
        more = (*more, *qk_norms(sizes, "divided"))
    if config.has("attention_gate_func"):
        gate = column("self_attn.gate_proj", sizes.heads * sizes.head_dim, hidden, units=sizes.heads)
        more = (*more, gate)

    @same_items
    def items(routed: bool) -> tuple[Item, ...]:
        if not routed:
            plain = projections(sizes, bias=biased, output_bias=biased)
            return (*plain, *gated_mlp("mlp", hidden, inner), *more)
        attention = projections(sizes, bias=biased, output_bias=biased)
        if values:
            attention = _mova(sizes, values, biased=biased, gate_bias=gate_bias)
        return (
            *attention,
            whole("mlp.gate", count, hidden),
            *((Vector(name="mlp.gate.bias", units=count, dtype="float32"),) if gate_bias else ()),
            experts_item("mlp.experts", count, hidden, expert_size),
            *(gated_mlp("mlp.shared_experts", hidden, expert_size * shared) if shared else ()),
            *more,
        )

    dense = set(config.ints("mlp_only_layers", default=()))
    step = config.int("decoder_sparse_step", default=1, maximum=1 << 16)
    kept = (grouped(sizes.kv_heads, sizes.head_dim),)

    def layer(index: int) -> Layer:
        return items(count > 0 and index not in dense and (index + 1) % step == 0), kept

    rotating = config.int("rope_head_dim", default=0, minimum=0) or sizes.head_dim
    given = parameters(config)
    rotary = table(config, rotating, sizes.positions, given=given.replaced(rope_dim=rotating))
    return stack(
        config,
        sizes,
        layer,
        intermediate=inner,
        buffers=(rotary,),
        experts_per_token=config.int("num_experts_per_tok", default=1) if count else 0,
    )


ARCHITECTURES: dict[str, Builder] = {"K2HorizonForCausalLM": k2_horizon}
