"""Laguna (Poolside) and Muse Glimmer (Meta): windows on three of four layers, gated attention outputs."""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import FullAttention, SlidingWindow
from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._rope import parameters, table
from selfhost.model.families._stack import Layer, layer_types, same_items, stack
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
    router,
    row,
    whole,
)
from selfhost.model.modules import Block, Buffer, Item, Matrix, Part, Vector

FULL, SLIDING = "full_attention", "sliding_attention"


def _apart(prefix: str, hidden: int, inner: int) -> tuple[Item, ...]:
    """gate, up and down, each a matrix of its own (models/laguna.py:91-110)."""
    return (
        column(f"{prefix}.gate_proj", inner, hidden),
        column(f"{prefix}.up_proj", inner, hidden),
        row(f"{prefix}.down_proj", hidden, inner),
    )


def _gate(config: Config, hidden: int, heads: int, head_dim: int) -> tuple[Item, ...]:
    """The gate on the attention output, per head or per element (models/laguna.py:327-348)."""
    gating = config.data.get("gating", True)
    if not gating:
        return ()
    if gating is True or gating == "per-head":
        return (column("self_attn.g_proj", heads, hidden),)
    return (column("self_attn.g_proj", heads * head_dim, hidden, units=heads),)


def _head_counts(config: Config, sizes: Heads) -> tuple[int, ...]:
    if not config.has("num_attention_heads_per_layer"):
        return (sizes.heads,) * sizes.layers
    counts = config.ints("num_attention_heads_per_layer", minimum=1)
    if len(counts) != sizes.layers or any(count % sizes.kv_heads for count in counts):
        raise config.error(
            "num_attention_heads_per_layer",
            f"should give each of {sizes.layers} layers a multiple of the KV heads",
        )
    return counts


def _laguna_tables(config: Config, sizes: Heads, kinds: tuple[str, ...]) -> tuple[Buffer, ...]:
    shares = {FULL: 0.5, SLIDING: 1.0}
    given = config.has("rope_parameters") or config.has("rope_scaling")
    buffers: list[Buffer] = []
    known: list[dict[str, object]] = []
    for kind in dict.fromkeys(kinds):
        section = parameters(config, kind)
        if kind == SLIDING and config.has("swa_rope_parameters"):
            section = config.section("swa_rope_parameters")
        if given and section.data in known:
            continue
        known.append(dict(section.data))
        share = 1.0 if given else shares.get(kind, 1.0)
        buffers.append(
            table(
                config,
                sizes.head_dim,
                sizes.positions,
                given=section,
                share=share,
                name=f"rotary cos/sin, {kind}",
            )
        )
    return tuple(buffers)


def laguna(config: Config) -> Draught:
    """LagunaForCausalLM: head counts per layer, sigmoid-routed experts, one shared expert."""
    config = with_defaults(config, "laguna")
    sizes = read_heads(config)
    hidden = sizes.hidden
    kinds = layer_types(config, sizes.layers) or (FULL,) * sizes.layers
    counts = _head_counts(config, sizes)
    sparse_layers = _laguna_sparse(config, sizes.layers)
    inner = config.int("intermediate_size")
    bias = config.bool("attention_bias", default=False)
    sinks = config.bool("swa_attention_sink_enabled", default=False)
    experts, expert_inner = config.int("num_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    shared = config.int("shared_expert_intermediate_size", default=0, minimum=0)

    def build(heads: int, routes: bool, sink: bool) -> tuple[Item, ...]:
        own = replace(sizes, heads=heads)
        feed: tuple[Item, ...] = _apart("mlp", hidden, inner)
        if routes:
            feed = (
                router("mlp.gate", experts, hidden),
                Vector(name="mlp.experts.e_score_correction_bias", units=experts, dtype="float32"),
                experts_item("mlp.experts", experts, hidden, expert_inner),
                *(_apart("mlp.shared_expert", hidden, shared) if shared else ()),
            )
        return (
            *projections(own, bias=bias, output_bias=bias),
            *_gate(config, hidden, heads, sizes.head_dim),
            *qk_norms(own, "head"),
            *((Vector(name="self_attn.sink", units=heads, divided=True),) if sink else ()),
            *feed,
            norm("layer_norms", hidden, copies=2),
        )

    items = same_items(build)
    window = config.int("sliding_window") if SLIDING in kinds else 1
    full = (FullAttention(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim),)
    windowed = (SlidingWindow(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim, window=window, sinks=sinks),)

    def layer(index: int) -> Layer:
        slides = kinds[index] == SLIDING
        return items(counts[index], sparse_layers[index], sinks and slides), windowed if slides else full

    return stack(
        config,
        sizes,
        layer,
        intermediate=inner,
        experts_per_token=config.int("num_experts_per_tok"),
        buffers=_laguna_tables(config, sizes, kinds),
    )


def _laguna_sparse(config: Config, layers: int) -> tuple[bool, ...]:
    if config.has("mlp_layer_types"):
        kinds = config.strings("mlp_layer_types")
        if len(kinds) != layers or any(kind not in ("dense", "sparse") for kind in kinds):
            raise config.error("mlp_layer_types", f"should call each of {layers} layers dense or sparse")
        return tuple(kind == "sparse" for kind in kinds)
    if config.has("mlp_only_layers"):
        dense = set(config.ints("mlp_only_layers"))
        step = config.int("decoder_sparse_step", default=1, maximum=1 << 16)
        return tuple(index not in dense and (index + 1) % step == 0 for index in range(layers))
    return (False, *(True,) * (layers - 1))


def muse_glimmer(config: Config) -> Draught:
    """MuseGlimmerForConditionalGeneration and ForCausalLM: four norms, no positions on full layers, a vision tower."""
    text = config.section("text_config") if config.has("text_config") else config
    sizes = read_heads(text)
    inner = text.int("intermediate_size")
    # Without a list every fourth layer counted from the last has no positions and sees everything
    # (transformers_utils/configs/muse_glimmer.py:22-29).
    rotates = tuple((sizes.layers - 1 - index) % 4 != 0 for index in range(sizes.layers))
    if text.has("no_rope_layers"):
        given = text.ints("no_rope_layers")
        if len(given) != sizes.layers:
            raise text.error("no_rope_layers", f"names {len(given)} layers, but there are {sizes.layers}")
        rotates = tuple(value == 1 for value in given)
    gate: tuple[Item, ...] = ()
    if text.bool("use_attn_output_gate", default=True):
        width = sizes.heads * sizes.head_dim
        gate = (column("self_attn.output_gate_proj", width, sizes.hidden, units=sizes.heads),)
    items = (
        *projections(sizes),
        *gate,
        *gated_mlp("mlp", sizes.hidden, inner),
        norm("layer_norms", sizes.hidden, copies=4),
    )
    window = text.int("sliding_window", default=2048)
    full = (FullAttention(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim),)
    windowed = (SlidingWindow(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim, window=window),)
    draught = stack(
        text, sizes, lambda index: (items, windowed if rotates[index] else full), intermediate=inner,
        prefix="model.language_model", engine_prefixes=("model",),
    )  # fmt: skip
    vision = config.optional_section("vision_config")
    if vision is None or not config.bool("has_vision", default=True):
        return draught
    return replace(
        draught,
        towers=_muse_tower(vision, config, sizes.hidden),
        facts=replace(draught.facts, modality="image"),
    )


def _muse_tower(vision: Config, top: Config, hidden: int) -> tuple[Block, ...]:
    """Attention is divided over ranks, everything else whole (models/muse_glimmer.py:579-760, 1065-1072)."""
    width = vision.int("hidden_size", default=1536)
    inner = vision.int("intermediate_size", default=8960)
    heads = vision.int("num_attention_heads", default=16)
    if width % heads:
        raise vision.error("hidden_size", f"is {width}, which {heads} attention heads do not divide")
    patch = vision.int("patch_temporal", default=2) * 3 * vision.int("patch_size", default=14) ** 2
    places = vision.int("pos_emb_height", default=32) * vision.int("pos_emb_width", default=32)
    merge = vision.int("merge_kernel_size", "merge_size", default=2)
    adapter = vision.int("adapter_dim", default=None) or top.int("projector_hidden_size", default=4096)
    part = Part(name="attn.qkv_proj", units=heads, unit=width // heads)
    block: tuple[Item, ...] = (
        Matrix(
            name="attn.qkv_proj", parts=(part, part, part), inputs=width, division="column", bias=True,
            quantizable=False,
        ),
        row("attn.o_proj", width, width, bias=True, quantizable=False),
        whole("mlp.c_fc", inner, width, bias=True, quantizable=False),
        whole("mlp.c_proj", width, inner, bias=True, quantizable=False),
        norm("norms", width, bias=True, copies=2),
    )  # fmt: skip
    ends: tuple[Item, ...] = (
        whole("conv1_linear", width, patch, quantizable=False),
        Vector(name="positional_embedding_vlm", units=places, unit=width),
        norm("ln", width, bias=True, copies=2),
        whole("vision_adapter.c_fc", adapter, width * merge * merge, quantizable=False),
        whole("vision_adapter.c_proj", adapter, adapter, quantizable=False),
        whole("vision_projection", hidden, adapter, quantizable=False),
    )
    count = vision.int("num_hidden_layers", default=50, maximum=4096)
    name = "vision_encoder"
    return (
        Block(prefixes=(name,), items=ends, tower=True),
        *(Block(prefixes=(f"{name}.transformer.{i}",), items=block, tower=True) for i in range(count)),
    )


ARCHITECTURES: dict[str, Builder] = {
    "LagunaForCausalLM": laguna,
    "MuseGlimmerForCausalLM": muse_glimmer,
    "MuseGlimmerForConditionalGeneration": muse_glimmer,
}
