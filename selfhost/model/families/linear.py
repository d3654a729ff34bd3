"""OLMo Hybrid, HRM-Text and PLaMo 3: gated delta nets, loops over the same layers, norms on both sides."""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import FullAttention, GatedDeltaState
from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._rope import table
from selfhost.model.families._stack import Layer, layer_types, layer_windows, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    column,
    gated_mlp,
    norm,
    projections,
    read_heads,
    row,
)
from selfhost.model.families.gemma import rotary_tables
from selfhost.model.families.llama import Names, decoder
from selfhost.model.modules import Embedding, Item, Matrix, Part, Vector


def olmo_hybrid(config: Config) -> Draught:
    """OlmoHybridForCausalLM: gated delta nets, every fourth layer OLMo 2's attention (gdn/olmo_gdn_linear_attn.py)."""
    config = with_defaults(config, "olmo_hybrid")
    sizes = read_heads(config.replaced(head_dim=None))
    hidden = sizes.hidden
    inner = config.int("intermediate_size")
    kinds = layer_types(config, sizes.layers)
    if kinds is None:
        kinds = tuple("full_attention" if i % 4 == 3 else "linear_attention" for i in range(sizes.layers))
        if "full_attention" not in kinds:
            kinds = (*kinds[:-1], "full_attention")
    keys = config.int("linear_num_key_heads", default=sizes.heads)
    values = config.int("linear_num_value_heads", default=sizes.heads)
    key_dim = config.int("linear_key_head_dim", default=max(1, int(0.75 * hidden / keys)))
    value_dim = config.int("linear_value_head_dim", default=2 * key_dim)
    kernel = config.int("linear_conv_kernel_dim")
    key_part = Part(name="linear_attn.q_proj", units=keys, unit=key_dim)
    value_part = Part(name="linear_attn.v_proj", units=values, unit=value_dim)
    ends = (*gated_mlp("mlp", hidden, inner), norm("layer_norms", hidden, copies=2))
    delta: tuple[Item, ...] = (
        Matrix(
            name="linear_attn.in_proj_qkvg", inputs=hidden, division="column",
            parts=(
                key_part, replace(key_part, name="linear_attn.k_proj"), value_part,
                replace(value_part, name="linear_attn.g_proj"),
            ),
        ),
        column("linear_attn.b_proj", values, hidden),
        column("linear_attn.a_proj", values, hidden),
        Matrix(
            name="linear_attn.conv1d", inputs=kernel, division="column", quantizable=False,
            parts=(key_part, key_part, value_part),
        ),
        Vector(name="linear_attn.dt_bias", units=values, divided=True),
        Vector(name="linear_attn.A_log", units=values, divided=True),
        norm("linear_attn.o_norm", value_dim),
        row("linear_attn.o_proj", hidden, values * value_dim),
        *ends,
    )  # fmt: skip
    # The query norm has the hidden size, the key norm that of the keys, both whole (models/olmo_hybrid.py:120-130).
    attention: tuple[Item, ...] = (
        *projections(sizes),
        norm("self_attn.q_norm", hidden),
        norm("self_attn.k_norm", sizes.kv_heads * sizes.head_dim),
        *ends,
    )
    state = (
        GatedDeltaState(
            key_heads=keys, value_heads=values, key_dim=key_dim, value_dim=value_dim, conv_kernel=kernel
        ),
    )
    full = (FullAttention(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim),)

    def layer(index: int) -> Layer:
        return (attention, full) if kinds[index] == "full_attention" else (delta, state)

    given = config.optional_section("rope_parameters", "rope_scaling")
    rotates = config.has("rope_theta") or (given is not None and given.has("rope_theta"))
    return stack(
        config, sizes, layer, intermediate=inner,
        buffers=(table(config, sizes.head_dim, sizes.positions),) if rotates else (),
    )  # fmt: skip


def hrm_text(config: Config) -> Draught:
    """HrmTextForCausalLM: two stacks that run in cycles, each use of a layer with a cache of its own."""
    config = with_defaults(config, "hrm_text")
    per_stack = config.int("num_layers_per_stack", maximum=2048)
    sizes = read_heads(config.replaced(num_key_value_heads=None, num_hidden_layers=2 * per_stack))
    hidden = sizes.hidden
    width = sizes.heads * sizes.head_dim
    inner = config.int("intermediate_size")
    bias = config.bool("attention_bias", default=False)
    parts = tuple(Part(name="self_attn.gqkv_proj", units=sizes.heads, unit=sizes.head_dim) for _ in range(4))
    items: tuple[Item, ...] = (
        Matrix(name="self_attn.gqkv_proj", parts=parts, inputs=hidden, division="column", bias=bias),
        row("self_attn.o_proj", hidden, width, bias=bias),
        *gated_mlp("mlp", hidden, inner, bias=config.bool("mlp_bias", default=False)),
    )
    high = config.int("H_cycles", maximum=1 << 10)
    low = config.int("L_cycles", maximum=1 << 10)
    kept = FullAttention(kv_heads=sizes.heads, head_dim=sizes.head_dim)
    uses = (kept,) * (high * low), (kept,) * high
    return stack(
        config, sizes, lambda index: (items, uses[0] if index < per_stack else uses[1]), intermediate=inner,
        first=(norm("z_L_init", hidden),), final=(),
    )  # fmt: skip


def plamo3(config: Config) -> Draught:
    """Plamo3ForCausalLM: norms before and behind each part, Q and K norms, windows on most layers."""
    sizes = read_heads(config)
    kinds = layer_types(config, sizes.layers)
    given = config.data.get("interleaved_sliding_window", config.data.get("sliding_window"))
    windows: tuple[int | None, ...]
    if isinstance(given, (list, tuple)):
        field = "interleaved_sliding_window" if config.has("interleaved_sliding_window") else "sliding_window"
        values = config.list(field)
        if len(values) < sizes.layers or any(
            v is not None and (not isinstance(v, int) or v < 1) for v in values
        ):
            raise config.error(field, f"should give each of {sizes.layers} layers a window or null")
        windows = tuple(v if isinstance(v, int) else None for v in values[: sizes.layers])
        kinds = kinds or tuple("sliding_attention" if window else "full_attention" for window in windows)
    elif kinds is None:
        period = config.int("sliding_window_pattern", maximum=1 << 16)
        window = config.int("sliding_window", "window_size")
        windows = tuple(window if (index + 1) % period else None for index in range(sizes.layers))
        kinds = tuple("sliding_attention" if one else "full_attention" for one in windows)
    else:
        windows = layer_windows(config, sizes.layers)
    names = Names(attention="mixer", qkv="mixer.qkv_proj")
    draught = decoder(
        config, names=names, heads=sizes, qk_norm="head", norms=4, window=windows,
        buffers=rotary_tables(config, dict.fromkeys(kinds, sizes.head_dim), sizes.positions),
    )  # fmt: skip
    # The head rounds the vocabulary up to 16 before vLLM pads both parts to 64 (models/plamo3.py:415-421).
    more = -sizes.vocab % 16
    last = tuple(
        replace(item, rows=-(-item.rows // 64) * 64 + more) if isinstance(item, Embedding) else item
        for item in draught.last.items
    )
    return replace(draught, last=replace(draught.last, items=last))


ARCHITECTURES: dict[str, Builder] = {
    "HrmTextForCausalLM": hrm_text,
    "OlmoHybridForCausalLM": olmo_hybrid,
    "Plamo3ForCausalLM": plamo3,
}
