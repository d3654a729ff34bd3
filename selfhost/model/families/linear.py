"""OLMo Hybrid, Ling 2.5, HRM-Text and PLaMo 3: linear attention, loops over the same layers, or pre and post norms."""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import FullAttention, GatedDeltaState, LatentAttention, LinearState
from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._kit import Layer, layer_windows, projections, same_items, stack
from selfhost.model.families._rope import parameters, table
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    experts_item,
    gated_mlp,
    layer_types,
    norm,
    read_heads,
    router,
    row,
    whole,
)
from selfhost.model.families.gemma import rotary_tables
from selfhost.model.families.llama import Names, decoder
from selfhost.model.modules import Embedding, Item, Matrix, Part, Vector


def olmo_hybrid(config: Config) -> Draught:
    """OlmoHybridForCausalLM: gated delta nets, every fourth layer OLMo 2's attention (gdn/olmo_gdn_linear_attn.py)."""
    config = with_defaults(config, "olmo_hybrid")
    sizes = read_heads(Config({**config.data, "head_dim": None}, config.path))
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


def _bailing_linear(config: Config, hidden: int, heads: int, head_dim: int) -> tuple[Item, ...]:
    """Lightning attention with a gate and a group norm (layers/mamba/linear/bailing_linear_attn.py:390-470)."""
    bias = config.bool("use_bias", default=False)
    width = heads * head_dim
    sizes = Heads(
        hidden=hidden, layers=1, heads=heads, kv_heads=heads, head_dim=head_dim, vocab=1, positions=1
    )
    items: tuple[Item, ...] = projections(
        sizes, name="self_attn.query_key_value", parts=("query_key_value",) * 3, out="dense",
        bias=bias or config.bool("use_qkv_bias", default=False), output_bias=bias,
    )  # fmt: skip
    if config.bool("use_qk_norm", default=False):
        items = (*items, norm("self_attn.qk_layernorm", head_dim, copies=2))
    return (
        *items,
        column("self_attn.g_proj", width, hidden, units=heads),
        Vector(name="self_attn.g_norm", units=heads, unit=head_dim, divided=True),
    )


def _bailing_latent(config: Config, hidden: int, heads: int) -> tuple[Item, ...]:
    nope, rope = config.int("qk_nope_head_dim", default=128), config.int("qk_rope_head_dim", default=64)
    value, rank = config.int("v_head_dim", default=128), config.int("kv_lora_rank", default=512)
    query_rank = config.int("q_lora_rank", default=None)
    if query_rank is None:
        query: tuple[Item, ...] = (
            column("self_attn.q_proj", heads * (nope + rope), hidden, units=heads),
            whole("self_attn.kv_a_proj_with_mqa", rank + rope, hidden),
        )
    else:
        parts = (
            Part(name="self_attn.q_a_proj", units=query_rank),
            Part(name="self_attn.kv_a_proj_with_mqa", units=rank + rope),
        )
        query = (
            Matrix(name="self_attn.fused_qkv_a_proj", parts=parts, inputs=hidden, division="none"),
            norm("self_attn.q_a_layernorm", query_rank),
            column("self_attn.q_b_proj", heads * (nope + rope), query_rank, units=heads),
        )
    return (
        *query,
        norm("self_attn.kv_a_layernorm", rank),
        column("self_attn.kv_b_proj", heads * (nope + value), rank, units=heads),
        row("self_attn.o_proj", hidden, heads * value),
    )


def bailing_linear(config: Config) -> Draught:
    """BailingMoeV2_5ForCausalLM (Ling and Ring 2.5): lightning attention, the last of each group latent; experts."""
    sizes = read_heads(config)
    hidden = sizes.hidden
    inner = config.int("intermediate_size")
    group = config.int("layer_group_size", default=1, minimum=0)
    count = config.int("num_experts", maximum=1 << 16)
    expert_inner = config.int("moe_intermediate_size")
    shared = config.int("num_shared_experts", default=0, minimum=0, maximum=1 << 10)
    first = config.int("first_k_dense_replace", default=0, minimum=0)
    router_dtype = "float32" if config.str("router_dtype", default="fp32") == "fp32" else "bfloat16"

    def feed(sparse: bool) -> tuple[Item, ...]:
        if not sparse:
            return gated_mlp("mlp", hidden, inner)
        items: tuple[Item, ...] = (
            router("mlp.gate", count, hidden, dtype=router_dtype),
            experts_item("mlp.experts", count, hidden, expert_inner),
        )
        if config.bool("moe_router_enable_expert_bias", default=False):
            items = (*items, Vector(name="mlp.gate.expert_bias", units=count, dtype="float32"))
        if shared:
            width = config.int("moe_shared_expert_intermediate_size", default=expert_inner) * shared
            items = (*items, *gated_mlp("mlp.shared_experts", hidden, width))
        return items

    def build(linear: bool, sparse: bool) -> tuple[Item, ...]:
        mix = (
            _bailing_linear(config, hidden, sizes.heads, sizes.head_dim)
            if linear
            else _bailing_latent(config, hidden, sizes.heads)
        )
        return (*mix, *feed(sparse), norm("layer_norms", hidden, copies=2))

    items = same_items(build)
    state = (LinearState(heads=sizes.heads, head_dim=sizes.head_dim),)
    latent = (
        LatentAttention(
            rank=config.int("kv_lora_rank", default=512), rope_dim=config.int("qk_rope_head_dim", default=64),
            nope_dim=config.int("qk_nope_head_dim", default=128),
        ),
    )  # fmt: skip

    def layer(index: int) -> Layer:
        linear = group > 0 and (index + 1) % group != 0
        return items(linear, count > 1 and index >= first), state if linear else latent

    given = parameters(config)
    plain = Config({k: v for k, v in given.data.items() if k != "partial_rotary_factor"}, given.path)
    rope = config.int("qk_rope_head_dim", default=64)
    more = {
        "experts": count,
        "experts_per_token": config.int("num_experts_per_tok"),
        "expert_intermediate_size": expert_inner,
    }
    return stack(
        config, sizes, layer, embed="word_embeddings", tied=False, intermediate=inner, facts_more=more,
        buffers=(
            table(config, rope, sizes.positions, given=plain, name="rotary cos/sin, latent layers"),
            table(config, sizes.head_dim, sizes.positions, name="rotary cos/sin, linear layers"),
        ),
    )  # fmt: skip


def hrm_text(config: Config) -> Draught:
    """HrmTextForCausalLM: two stacks that run in cycles, each use of a layer with a cache of its own."""
    config = with_defaults(config, "hrm_text")
    per_stack = config.int("num_layers_per_stack", maximum=2048)
    sizes = read_heads(
        Config({**config.data, "num_key_value_heads": None, "num_hidden_layers": 2 * per_stack}, config.path)
    )
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
    "BailingMoeV2_5ForCausalLM": bailing_linear,
    "HrmTextForCausalLM": hrm_text,
    "OlmoHybridForCausalLM": olmo_hybrid,
    "Plamo3ForCausalLM": plamo3,
}
