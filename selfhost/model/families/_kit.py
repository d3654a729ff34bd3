"""Building blocks of dense decoders and encoders: attention under any names, layers of any kind, embedding and head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from selfhost.attention import Attention, EncoderOnly
from selfhost.model.config import Config
from selfhost.model.families._rope import table
from selfhost.model.families.common import (
    Draught,
    Heads,
    Layers,
    embedding,
    facts,
    grouped,
    head,
    layer_types,
    norm,
    row,
    sibling,
)
from selfhost.model.modules import Block, Buffer, Item, Matrix, Part, Vector
from selfhost.model.spec import ModelFacts

Layer = tuple[tuple[Item, ...], tuple[Attention, ...]]


def filled(config: Config, defaults: Mapping[str, object]) -> Config:
    """The configuration with its transformers class's defaults where a field is absent (null counts as given)."""
    return Config({**defaults, **config.data}, config.path)


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
    dims = (sizes.head_dim, sizes.head_dim, value_dim or sizes.head_dim)
    units = (sizes.heads * (2 if gate else 1), sizes.kv_heads, sizes.kv_heads)
    fused = Matrix(
        name=name,
        parts=tuple(
            Part(name=sibling(name, part), units=unit, unit=dim)
            for part, unit, dim in zip(parts, units, dims, strict=True)
        ),
        inputs=inputs or sizes.hidden,
        division="column",
        bias=bias,
    )
    if out is None:
        return (fused,)
    return fused, row(sibling(name, out), sizes.hidden, sizes.heads * dims[2], bias=output_bias)


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


def cache_window(config: Config) -> int | None:
    """The window that vLLM gives every layer without one of its own: `sliding_window`, unless layer types are mixed.

    vLLM 0.32 engine/arg_utils.py:2248-2254; 0 means none, config/model.py:802.
    """
    window = config.int("sliding_window", default=0, minimum=0) or None
    if not config.has("layer_types"):
        return window
    return window if all(kind == "sliding_attention" for kind in config.strings("layer_types")) else None


def layer_windows(
    config: Config, layers: int, *, types: tuple[str, ...] | None = None
) -> tuple[int | None, ...]:
    """The window of each layer by `layer_types`, else the one of all layers."""
    kinds = types or layer_types(config, layers)
    if kinds is None:
        return (cache_window(config),) * layers
    if not any(kind == "sliding_attention" for kind in kinds):
        return (cache_window(config),) * layers
    window = config.int("sliding_window")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def attention_kind(
    config: Config, sizes: Heads, window: int | None, *, value_dim: int | None = None
) -> Attention:
    """What a grouped-query layer keeps; nothing where `is_causal` is false."""
    if not config.bool("is_causal", default=True):
        return EncoderOnly()
    return grouped(sizes.kv_heads, sizes.head_dim, window=window, value_dim=value_dim)


def stack(
    config: Config,
    sizes: Heads,
    layer: Callable[[int], Layer],
    *,
    prefix: str = "model",
    engine_prefixes: tuple[str, ...] = (),
    layers_name: str = "layers",
    embed: str = "embed_tokens",
    first: tuple[Item, ...] = (),
    final: tuple[Item, ...] | None = None,
    head_name: str | None = "lm_head",
    head_bias: bool = False,
    tied: bool | None = None,
    tied_default: bool = False,
    buffers: tuple[Buffer, ...] | None = None,
    intermediate: int | None = None,
    facts_more: Mapping[str, object] | None = None,
    draft: tuple[Block, ...] = (),
) -> Draught:
    """A model around its layers.

    `layer` says what layer i allocates and keeps; equal layers must return the same tuple of items. `prefix` is the
    checkpoint's, `engine_prefixes` are vLLM's where they differ. `first` stands beside the token embedding, `final`
    before the head (default one RMS norm). `head_name` is None for models without an output head; whether the head is
    the embedding is read from `tie_word_embeddings` where `tied` is None.
    """
    built = Layers(*(f"{one}.{layers_name}" if one else layers_name for one in (prefix, *engine_prefixes)))
    smallest: int | None = None
    for index in range(sizes.layers):
        items, keeps = layer(index)
        for kept in keeps:
            window = getattr(kept, "window", None)
            smallest = min(smallest or window, window) if window else smallest
        built.add(items, *keeps)
    shared = config.bool("tie_word_embeddings", default=tied_default) if tied is None else tied
    last = (norm("norm", sizes.hidden),) if final is None else final
    if head_name is not None and not shared:
        last = (*last, head(head_name, sizes.vocab, sizes.hidden, bias=head_bias))
    elif head_name is not None and head_bias:
        last = (*last, Vector(name=f"{head_name}.bias", units=-(-sizes.vocab // 64) * 64, divided=True))
    more = {"sliding_window": smallest, **(facts_more or {})}
    return Draught(
        facts=facts(config, sizes, intermediate=intermediate, **more),
        first=Block(
            prefixes=(prefix, *engine_prefixes), items=(embedding(embed, sizes.vocab, sizes.hidden), *first)
        ),
        layers=built.done(),
        last=Block(prefixes=("",), items=last),
        buffers=(table(config, sizes.head_dim, sizes.positions),) if buffers is None else buffers,
        tied=shared and head_name is not None,
        draft=draft,
    )


def with_facts(draught: Draught, **changes: object) -> Draught:
    """A copy with other facts."""
    changed: ModelFacts = replace(draught.facts, **changes)  # type: ignore[arg-type]
    return replace(draught, facts=changed)


def by_window(
    items: tuple[Item, ...], config: Config, sizes: Heads, windows: tuple[int | None, ...]
) -> Callable[[int], Layer]:
    """Layers that allocate the same and differ in their window only."""
    kinds = {window: (attention_kind(config, sizes, window),) for window in set(windows)}
    return lambda index: (items, kinds[windows[index]])


def same_items(build: Callable[..., tuple[Item, ...]]) -> Callable[..., tuple[Item, ...]]:
    """Remembers what `build` returned per arguments, so that equal layers share one tuple."""
    known: dict[tuple[object, ...], tuple[Item, ...]] = {}

    def get(*key: object) -> tuple[Item, ...]:
        if key not in known:
            known[key] = build(*key)
        return known[key]

    return get
