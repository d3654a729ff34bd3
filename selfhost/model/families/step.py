"""Step 3 and Step 3.5: one shared KV head behind a factorized query, and heads of two shapes with windows between.

vLLM 0.32 models/step3_text.py and step3p5.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from selfhost.model.config import Config
from selfhost.model.families._rope import parameters, table
from selfhost.model.families._stack import Layer, draft_layers, grouped, layer_types, same_items, stack
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
    router,
    row,
)
from selfhost.model.modules import Buffer, Item, Matrix, Part, Vector


def _routed_layers(config: Config, layers: int, default: range) -> frozenset[int]:
    """The layers with experts: `moe_layers_enum`, numbers in a string or a list."""
    given = config.data.get("moe_layers_enum")
    if given is None:
        return frozenset(default)
    if isinstance(given, str):
        words = [word.strip() for word in given.strip().split(",")]
        if len(words) > layers or not all(
            word.isascii() and word.isdigit() and len(word) < 8 for word in words
        ):
            raise config.error("moe_layers_enum", "should be layer numbers with commas between")
        return frozenset(int(word) for word in words)
    return frozenset(config.ints("moe_layers_enum"))


def step3_text(config: Config) -> Draught:
    """Step3TextForCausalLM: the query is projected down, normed and up again; K and V are one head on every rank."""
    heads = config.int("num_attention_heads", maximum=1 << 16)
    sizes = Heads(
        hidden=config.int("hidden_size"), layers=config.layers(), heads=heads, kv_heads=1,
        head_dim=config.int("head_dim", default=256), vocab=config.int("vocab_size"),
        positions=config.int("max_position_embedding", default=65536),
    )  # fmt: skip
    query = config.int("share_q_dim", default=2048, minimum=0) or sizes.head_dim
    inner = config.int("intermediate_size")
    count, expert_size = config.int("moe_num_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    parts = (
        Part(name="self_attn.q_proj", units=query),
        Part(name="self_attn.k_proj", units=sizes.head_dim),
        Part(name="self_attn.v_proj", units=sizes.head_dim),
    )
    common: tuple[Item, ...] = (
        Matrix(name="self_attn.qkv_proj", parts=parts, inputs=sizes.hidden, division="none"),
        row("self_attn.o_proj", sizes.hidden, heads * sizes.head_dim),
        norm("self_attn.inter_norm", query),
        column("self_attn.wq", heads * sizes.head_dim, query, units=heads),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    dense = (*common, *gated_mlp("mlp", sizes.hidden, inner))
    routed = (
        *common,
        router("moe.gate", count, sizes.hidden),
        experts_item("moe.experts", count, sizes.hidden, expert_size),
        *gated_mlp("share_expert", sizes.hidden, config.int("share_expert_dim", default=5120)),
    )
    # Null lets vLLM route all but the first layer; the class lists layers 4 to 59 where the field is absent.
    default = range(1, sizes.layers) if "moe_layers_enum" in config.data else range(4, 60)
    routes = _routed_layers(config, sizes.layers, default)
    keeps = (grouped(1, sizes.head_dim),)
    layers: dict[bool, Layer] = {False: (dense, keeps), True: (routed, keeps)}
    return stack(
        config, sizes, lambda index: layers[index in routes], intermediate=inner, tied=False,
        experts_per_token=config.int("moe_top_k", default=3),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How one layer of Step 3.5 attends."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None


def _kinds(config: Config, types: tuple[str, ...] | None, layers: int) -> tuple[_Kind, ...]:
    """Heads and window of each layer: `attention_other_setting` holds the heads of one layer type."""
    window = config.int("sliding_window", default=0, minimum=0) or None
    other = config.optional_section("attention_other_setting")

    def one(index: int) -> _Kind:
        kind = types[index] if types else None
        place = config
        if other is not None and kind is not None and kind == other.str("attention_type"):
            place = other
        heads = place.int("num_attention_heads", maximum=1 << 16)
        head_dim = place.int("head_dim", default=config.int("head_dim", default=0, minimum=0), minimum=0)
        windowed = kind == "sliding_attention" if types else index % 2 == 0
        return _Kind(
            heads=heads,
            kv_heads=place.int("num_attention_groups", maximum=1 << 16),
            head_dim=head_dim or config.int("hidden_size") // heads,
            window=window if windowed else None,
        )

    return tuple(one(index) for index in range(layers))


def _tables(
    config: Config, kinds: tuple[_Kind, ...], types: tuple[str, ...] | None, positions: int
) -> tuple[Buffer, ...]:
    """A rotary table for each base, share and scaling that occurs (step3p5.py:150-205)."""
    scaling = parameters(Config({k: v for k, v in config.data.items() if k != "rope_theta"}, config.path))
    scaled_types = config.strings("yarn_only_types", default=())
    shares = config.list("partial_rotary_factors", default=())
    thetas = config.data.get("rope_theta")
    known: dict[tuple[object, ...], Buffer] = {}
    for index, kind in enumerate(kinds):
        share = 1.0
        if shares:
            if index >= len(shares):
                raise config.error(
                    "partial_rotary_factors", f"names {len(shares)} layers, but there are {len(kinds)}"
                )
            share = Config({"share": shares[index]}, config.name("partial_rotary_factors")).float(
                "share", default=1.0
            )
        theta = thetas[index] if isinstance(thetas, (list, tuple)) and index < len(thetas) else thetas
        scaled = not scaled_types or (types is not None and types[index] in scaled_types)
        given: Mapping[str, object] = {**(scaling.data if scaled else {}), "partial_rotary_factor": share}
        key = (kind.head_dim, share, repr(theta), scaled and bool(scaling.data))
        if key not in known:
            known[key] = table(config, kind.head_dim, positions, given=Config(given, scaling.path))
    return tuple(known.values())


def step3p5(config: Config) -> Draught:
    """Step3p5ForCausalLM (Step 3.5 Flash): full and windowed layers with different heads, an fp32 router."""
    hidden, layers = config.int("hidden_size"), config.layers()
    types = layer_types(config, layers)
    kinds = _kinds(config, types, layers)
    positions = config.int("max_position_embeddings")
    heads = config.int("num_attention_heads", maximum=1 << 16)
    sizes = Heads(
        hidden=hidden, layers=layers, heads=heads, kv_heads=config.int("num_attention_groups", maximum=1 << 16),
        head_dim=config.int("head_dim", default=hidden // heads), vocab=config.int("vocab_size"), positions=positions,
    )  # fmt: skip
    inner = config.int("intermediate_size")
    count, expert_size = config.int("moe_num_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    per_token = config.int("moe_top_k", "num_experts_per_tok", default=4, maximum=1 << 16)
    shared = config.int("share_expert_dim", default=expert_size * per_token)
    biased = config.bool("attention_bias", default=False)
    gated = config.bool("use_head_wise_attn_gate", default=False)
    limits = config.list("swiglu_limits", default=())

    def mlp(routed: bool, limited: bool) -> tuple[Item, ...]:
        if not routed:
            return gated_mlp("mlp", hidden, inner)
        return (
            router("moe.gate", count, hidden, dtype="float32"),
            Vector(name="moe.router_bias", units=count, dtype="float32"),
            experts_item(
                "moe.experts", count, hidden, expert_size, activation="swiglustep" if limited else "silu"
            ),
            *gated_mlp("moe.share_expert", hidden, shared),
        )

    @same_items
    def items(kind: _Kind, routed: bool, limited: bool) -> tuple[Item, ...]:
        own = Heads(
            hidden=hidden, layers=layers, heads=kind.heads, kv_heads=kind.kv_heads, head_dim=kind.head_dim,
            vocab=sizes.vocab, positions=positions,
        )  # fmt: skip
        return (
            *projections(own, bias=biased),
            *qk_norms(own, "head"),
            *((column("self_attn.g_proj", kind.heads, hidden),) if gated else ()),
            norm("layer_norms", hidden, copies=2),
            *mlp(routed, limited),
        )

    routes = _routed_layers(config, layers, range(1, layers))

    def layer(index: int) -> Layer:
        kind = kinds[index]
        limited = index < len(limits) and limits[index] not in (None, 0)
        routed = index in routes
        return items(kind, routed, routed and limited), (
            grouped(kind.kv_heads, kind.head_dim, window=kind.window),
        )

    drafted: Layer = (
        items(kinds[0], False, False),
        (grouped(kinds[0].kv_heads, kinds[0].head_dim),),
    )
    return stack(
        config, sizes, layer, intermediate=inner, tied=False,
        draft=draft_layers(config, sizes, drafted, own_head=True),
        buffers=_tables(config, kinds, types, positions),
        experts_per_token=per_token,
    )  # fmt: skip


ARCHITECTURES: dict[str, Builder] = {
    "Step3TextForCausalLM": step3_text,
    "Step3p5ForCausalLM": step3p5,
}
