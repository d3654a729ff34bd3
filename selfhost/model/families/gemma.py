"""Gemma 1 to 4: the embedding is the head, windows on most layers, per-layer embeddings in 3n and 4."""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import Attention, EncoderOnly, FullAttention, SlidingWindow
from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._pooling import without_head
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
from selfhost.model.modules import Buffer, Embedding, Item, Vector

FULL = "full_attention"
SLIDING = "sliding_attention"


def types_of(config: Config, layers: int, *, period: int) -> tuple[str, ...]:
    """`layer_types`, else every `period`-th layer full and the others with a window."""
    given = layer_types(config, layers)
    return given or tuple(FULL if (index + 1) % period == 0 else SLIDING for index in range(layers))


def _kept(config: Config, sizes: Heads, kind: str, *, window: int, bidirectional: bool) -> Attention:
    if not config.bool("is_causal", default=True):
        return EncoderOnly()
    if kind == SLIDING:
        return SlidingWindow(
            kv_heads=sizes.kv_heads,
            head_dim=sizes.head_dim,
            window=window,
            prefix_bidirectional=bidirectional,
        )
    return FullAttention(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim, prefix_bidirectional=bidirectional)


def rotary_tables(config: Config, dims: dict[str, int], positions: int) -> tuple[Buffer, ...]:
    """One table per layer type; in older configurations the scaling is of the full layers and the others have none."""
    nested = any(config.has(f) and config.section(f).has(FULL) for f in ("rope_parameters", "rope_scaling"))
    buffers = []
    for kind, dim in dims.items():
        given = parameters(config, kind)
        if kind == SLIDING and not nested:
            given = Config({}, given.path)
        buffers.append(table(config, dim, positions, given=given, name=f"rotary cos/sin, {kind}"))
    return tuple(buffers)


def gemma(config: Config) -> Draught:
    """GemmaForCausalLM: heads of 256, two norms."""
    config = with_defaults(config, "gemma")
    sizes = read_heads(config)
    inner = config.int("intermediate_size")
    items = (
        *projections(sizes),
        *gated_mlp("mlp", sizes.hidden, inner),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    kept = (FullAttention(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim),)
    return stack(config, sizes, lambda index: (items, kept), tied=True, intermediate=inner)


def gemma2(config: Config) -> Draught:
    """Gemma2ForCausalLM: four norms, every other layer with a window."""
    config = with_defaults(config, "gemma2")
    sizes = read_heads(config)
    types = types_of(config, sizes.layers, period=2)
    return _windowed(
        config, sizes, types, qk_norm=False, buffers=(table(config, sizes.head_dim, sizes.positions),)
    )


def gemma3(
    config: Config,
    *,
    prefix: str = "model",
    engine_prefixes: tuple[str, ...] = (),
    bidirectional: bool = False,
) -> Draught:
    """Gemma3ForCausalLM and the text part of Gemma 3: Q and K norms, five layers with a window, then one without."""
    config = with_defaults(config, "gemma3_text")
    sizes = read_heads(config)
    types = types_of(config, sizes.layers, period=config.int("sliding_window_pattern", default=6))
    dims = dict.fromkeys(types, sizes.head_dim)
    return _windowed(
        config,
        sizes,
        types,
        qk_norm=True,
        buffers=rotary_tables(config, dims, sizes.positions),
        prefix=prefix,
        engine_prefixes=engine_prefixes,
        bidirectional=bidirectional,
    )


def _windowed(
    config: Config,
    sizes: Heads,
    types: tuple[str, ...],
    *,
    qk_norm: bool,
    buffers: tuple[Buffer, ...],
    prefix: str = "model",
    engine_prefixes: tuple[str, ...] = (),
    bidirectional: bool = False,
) -> Draught:
    inner = config.int("intermediate_size")
    bias = config.bool("attention_bias", default=False)
    items: tuple[Item, ...] = (
        *projections(sizes, bias=bias, output_bias=bias),
        *gated_mlp("mlp", sizes.hidden, inner),
        norm("layer_norms", sizes.hidden, copies=4),
        *(qk_norms(sizes, "head") if qk_norm else ()),
    )
    window = config.int("sliding_window", default=0, minimum=0) if SLIDING in types else 0
    if config.bool("use_bidirectional_attention", default=False):
        # transformers counts the window's half on either side, exclusive (Gemma3TextConfig.__post_init__).
        window = window // 2 + 1
    keeps = {
        kind: (_kept(config, sizes, kind, window=window, bidirectional=bidirectional),)
        for kind in dict.fromkeys(types)
    }
    return stack(
        config, sizes, lambda index: (items, keeps[types[index]]), tied_default=True, intermediate=inner,
        buffers=buffers, prefix=prefix, engine_prefixes=engine_prefixes,
    )  # fmt: skip


def gemma3_embedding(config: Config) -> Draught:
    """Gemma3TextModel (EmbeddingGemma): no head, and no cache where attention goes both ways."""
    both = config.bool("use_bidirectional_attention", default=False)
    return without_head(gemma3(config.replaced(is_causal=not both), prefix=""))


def gemma3n(config: Config, *, prefix: str = "model", engine_prefixes: tuple[str, ...] = ()) -> Draught:
    """Gemma3nForCausalLM: four streams (AltUp), a low-rank detour (Laurel), last layers that share keys and values."""
    config = with_defaults(config, "gemma3n_text")
    sizes = read_heads(
        Config({k: v for k, v in config.data.items() if k != "intermediate_size"}, config.path)
    )
    types = types_of(config, sizes.layers, period=5)
    shared = config.int("num_kv_shared_layers", default=0, minimum=0)
    first_shared = sizes.layers - shared
    inner = _inner_sizes(config, sizes.layers)
    streams = config.int("altup_num_inputs", maximum=64)
    rank = config.int("laurel_rank")
    narrow = config.int("hidden_size_per_layer_input")
    bias = config.bool("attention_bias", default=False)
    hidden = sizes.hidden

    def build(owns: bool, size: int) -> tuple[Item, ...]:
        return (
            *_shared_attention(sizes, owns=owns, bias=bias),
            *gated_mlp("mlp", hidden, size),
            whole("altup.correction_coefs", streams, streams),
            whole("altup.prediction_coefs", streams * streams, streams),
            whole("altup.modality_router", streams, hidden),
            column("laurel.linear_left", rank, hidden),
            row("laurel.linear_right", hidden, rank),
            *_per_layer_gate(hidden, narrow),
            norm("altup.correct_output_scale", hidden, dtype="float32"),
            # router norm, Laurel norm, four norms of the layer
            norm("layer_norms", hidden, copies=6),
        )

    items = same_items(build)
    window = config.int("sliding_window") if SLIDING in types else 0
    keeps = {kind: (_kept(config, sizes, kind, window=window, bidirectional=False),) for kind in set(types)}

    def layer(index: int) -> Layer:
        owns = index < first_shared
        return items(owns, inner[index]), keeps[types[index]] if owns else ()

    first = (
        *_per_layer_embedding(config, sizes, narrow),
        *(column(f"altup_projections.{i}", hidden, hidden) for i in range(streams - 1)),
        *(column(f"altup_unembed_projections.{i}", hidden, hidden) for i in range(streams - 1)),
    )
    dims = dict.fromkeys(types, sizes.head_dim)
    return stack(
        config, sizes, layer, first=first, tied=True, intermediate=max(inner), prefix=prefix,
        engine_prefixes=engine_prefixes, buffers=rotary_tables(config, dims, sizes.positions),
    )  # fmt: skip


def _inner_sizes(config: Config, layers: int) -> tuple[int, ...]:
    if isinstance(config.data.get("intermediate_size"), (list, tuple)):
        given = config.ints("intermediate_size", minimum=1)
        if len(given) != layers:
            raise config.error("intermediate_size", f"names {len(given)} layers, but there are {layers}")
        return given
    return (config.int("intermediate_size"),) * layers


def _shared_attention(sizes: Heads, *, owns: bool, bias: bool) -> tuple[Item, ...]:
    """Attention of a layer with its own keys and values, or one that only asks (models/gemma4.py:405-436)."""
    if owns:
        return (*projections(sizes, bias=bias, output_bias=bias), *qk_norms(sizes, "head"))
    width = sizes.heads * sizes.head_dim
    return (
        column("self_attn.q_proj", width, sizes.hidden, bias=bias, units=sizes.heads),
        row("self_attn.o_proj", sizes.hidden, width, bias=bias),
        norm("self_attn.q_norm", sizes.head_dim),
    )


def _per_layer_gate(hidden: int, narrow: int) -> tuple[Item, ...]:
    return (
        whole("per_layer_input_gate", narrow, hidden),
        whole("per_layer_projection", hidden, narrow),
        norm("post_per_layer_input_norm", hidden),
    )


def _per_layer_embedding(config: Config, sizes: Heads, narrow: int) -> tuple[Item, ...]:
    """The second embedding with a row part for each layer, and its projection."""
    total = sizes.layers * narrow
    rows = config.int("vocab_size_per_layer_input", default=sizes.vocab)
    return (
        Embedding(name="embed_tokens_per_layer", rows=rows, width=total),
        column("per_layer_model_projection", total, sizes.hidden),
        norm("per_layer_projection_norm", narrow),
    )


def gemma4(config: Config, *, prefix: str = "model", engine_prefixes: tuple[str, ...] = ()) -> Draught:
    """Gemma4ForCausalLM and the text part of Gemma 4: wider heads on full layers, optional experts beside the MLP.

    Layers whose checkpoint has K only (`attention_k_eq_v`) hold a V shard as well (models/gemma4.py:90-107).
    """
    config = with_defaults(config, "gemma4_text")
    sizes = read_heads(config)
    types = types_of(config, sizes.layers, period=6)
    types = (*types[:-1], FULL)
    wide = _wide(config, sizes)
    by_type = {SLIDING: sizes, FULL: wide}
    for kind in types:
        if kind not in by_type:
            raise config.error("layer_types", f"names {kind[:40]!r}, which Gemma 4 does not have")
    first_shared = sizes.layers - config.int("num_kv_shared_layers", default=0, minimum=0)
    doubled = config.bool("use_double_wide_mlp", default=False)
    inner = config.int("intermediate_size")
    narrow = config.int("hidden_size_per_layer_input", default=0, minimum=0)
    bias = config.bool("attention_bias", default=False)
    count = config.int("num_experts", default=0, minimum=0, maximum=1 << 16)
    expert_size = config.int("moe_intermediate_size", "expert_intermediate_size") if count else 0
    hidden = sizes.hidden

    def build(kind: str, owns: bool) -> tuple[Item, ...]:
        size = inner * (2 if doubled and not owns and first_shared > 0 else 1)
        return (
            *_shared_attention(by_type[kind], owns=owns, bias=bias),
            *gated_mlp("mlp", hidden, size),
            norm("layer_norms", hidden, copies=4),
            *(_gemma4_experts(hidden, count, expert_size) if count else ()),
            *(_per_layer_gate(hidden, narrow) if narrow else ()),
        )

    items = same_items(build)
    both = config.str("use_bidirectional_attention", default="") == "all"
    given = config.replaced(is_causal=not both)
    window = config.int("sliding_window", default=0, minimum=0) if SLIDING in types else 0
    keeps = {
        kind: (
            _kept(
                given, by_type[kind], kind, window=window // 2 + 1 if both else window, bidirectional=False
            ),
        )
        for kind in dict.fromkeys(types)
    }

    def layer(index: int) -> Layer:
        owns = index < first_shared
        return items(types[index], owns), keeps[types[index]] if owns else ()

    per_token = config.int("top_k_experts") if count else 0
    dims = {kind: by_type[kind].head_dim for kind in dict.fromkeys(types)}
    return stack(
        config, sizes, layer, first=_per_layer_embedding(config, sizes, narrow) if narrow else (), tied_default=True,
        intermediate=inner, prefix=prefix, engine_prefixes=engine_prefixes, experts_per_token=per_token,
        buffers=_gemma4_tables(config, dims, sizes.positions),
    )  # fmt: skip


def _wide(config: Config, sizes: Heads) -> Heads:
    """Heads of full layers: `global_head_dim` and its like, or the overrides that newer transformers write instead."""
    overrides = config.optional_section("per_layer_config")
    if overrides is not None:
        for key in overrides.data:
            one = overrides.section(key)
            return replace(
                sizes,
                head_dim=one.int("head_dim", default=sizes.head_dim),
                kv_heads=one.int("num_key_value_heads", default=sizes.kv_heads, maximum=1 << 16),
            )
    kv_heads = sizes.kv_heads
    if config.bool("attention_k_eq_v", default=False):
        kv_heads = config.int("num_global_key_value_heads", default=kv_heads, maximum=1 << 16)
    return replace(sizes, head_dim=config.int("global_head_dim", default=512), kv_heads=kv_heads)


def _gemma4_experts(hidden: int, count: int, size: int) -> tuple[Item, ...]:
    return (
        router("router.proj", count, hidden),
        Vector(name="router.scale", units=hidden),
        Vector(name="router.per_expert_scale", units=count),
        experts_item("experts", count, hidden, size, activation="gelu_tanh"),
        norm("expert_norms", hidden, copies=3),
    )


def _gemma4_tables(config: Config, dims: dict[str, int], positions: int) -> tuple[Buffer, ...]:
    if config.has("rope_parameters") or config.has("rope_scaling"):
        return rotary_tables(config, dims, positions)
    # Gemma4TextConfig's own default rotates full layers proportionally, which fills the whole head.
    return tuple(
        Buffer(name=f"rotary cos/sin, {k}", elements=positions * d, dtype="model") for k, d in dims.items()
    )


ARCHITECTURES: dict[str, Builder] = {
    "GemmaForCausalLM": gemma,
    "Gemma2ForCausalLM": gemma2,
    "Gemma2Model": gemma2,
    "Gemma3ForCausalLM": gemma3,
    "Gemma3TextModel": gemma3_embedding,
    "Gemma3nForCausalLM": gemma3n,
    "Gemma4ForCausalLM": gemma4,
}
