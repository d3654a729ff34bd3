"""A model around its layers: embedding and head, what each layer keeps, the layers that only drafts use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from selfhost.attention import Attention, EncoderOnly, FullAttention, SlidingWindow
from selfhost.model.config import Config
from selfhost.model.families._rope import table
from selfhost.model.families.common import Draught, Heads, embedding, head, norm, whole
from selfhost.model.modules import Block, Buffer, Item, Vector
from selfhost.model.spec import ModelFacts

Layer = tuple[tuple[Item, ...], tuple[Attention, ...]]


def grouped(
    kv_heads: int, head_dim: int, *, window: int | None = None, value_dim: int | None = None
) -> FullAttention | SlidingWindow:
    """Grouped-query attention, over everything or over a window."""
    if window:
        return SlidingWindow(kv_heads=kv_heads, head_dim=head_dim, value_dim=value_dim, window=window)
    return FullAttention(kv_heads=kv_heads, head_dim=head_dim, value_dim=value_dim)


def per_layer(config: Config, field: str, layers: int) -> tuple[str, ...] | None:
    """A list of one word per layer, None where the field is absent."""
    if not config.has(field):
        return None
    words = config.strings(field)
    if len(words) < layers:
        raise config.error(field, f"names {len(words)} layers, but there are {layers}")
    return words[:layers]


def layer_types(config: Config, layers: int) -> tuple[str, ...] | None:
    """`layer_types` as transformers writes it."""
    return per_layer(config, "layer_types", layers)


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


def facts(
    config: Config,
    sizes: Heads,
    *,
    intermediate: int | None = None,
    experts_per_token: int = 0,
    modality: str = "text",
    pooling: bool = False,
    encoder_only: bool = False,
) -> ModelFacts:
    """ModelFacts from the usual fields plus what the family knows."""
    if intermediate is None:
        intermediate = config.int("intermediate_size", default=4 * sizes.hidden)
    return ModelFacts(
        hidden_size=sizes.hidden,
        vocab_size=sizes.vocab,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        intermediate_size=intermediate,
        max_context_tokens=sizes.positions,
        experts_per_token=experts_per_token,
        modality=modality,
        pooling=pooling,
        encoder_only=encoder_only,
    )


def numbered(names: tuple[str, ...], layers: Iterable[Layer]) -> tuple[Block, ...]:
    """Decoder layers in order, as NAME.0, NAME.1 and so on under each of their names."""
    return tuple(
        Block(prefixes=tuple(f"{name}.{index}" for name in names), items=items, keeps=keeps)
        for index, (items, keeps) in enumerate(layers)
    )


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
    experts_per_token: int = 0,
    pooling: bool = False,
    encoder_only: bool = False,
    draft: tuple[Block, ...] = (),
) -> Draught:
    """A model around its layers.

    Args:
        config: the section of the language model.
        sizes: its heads and sizes.
        layer: what layer i allocates and keeps; equal layers must return the same tuple of items.
        prefix: the checkpoint's name of the model.
        engine_prefixes: vLLM's names where they differ.
        layers_name: name of the list of layers.
        embed: name of the token embedding.
        first: what stands beside it.
        final: what stands before the head, by default one RMS norm.
        head_name: None for a model without an output head.
        head_bias: the head has a bias.
        tied: the head is the embedding; None reads `tie_word_embeddings`.
        tied_default: what that field means where it is absent.
        buffers: by default one rotary table.
        intermediate: width of an MLP; None reads `intermediate_size`.
        experts_per_token: routed experts that one token visits.
        pooling: what comes out is no token.
        encoder_only: nothing is cached.
        draft: layers that only speculative decoding loads.
    """
    prefixes = (prefix, *engine_prefixes)
    names = tuple(f"{one}.{layers_name}" if one else layers_name for one in prefixes)
    shared = config.bool("tie_word_embeddings", default=tied_default) if tied is None else tied
    last = (norm("norm", sizes.hidden),) if final is None else final
    if head_name is not None and not shared:
        last = (*last, head(head_name, sizes.vocab, sizes.hidden, bias=head_bias))
    elif head_name is not None and head_bias:
        last = (*last, Vector(name=f"{head_name}.bias", units=-(-sizes.vocab // 64) * 64, divided=True))
    return Draught(
        facts=facts(
            config,
            sizes,
            intermediate=intermediate,
            experts_per_token=experts_per_token,
            pooling=pooling,
            encoder_only=encoder_only,
        ),
        first=Block(prefixes=prefixes, items=(embedding(embed, sizes.vocab, sizes.hidden), *first)),
        layers=numbered(names, map(layer, range(sizes.layers))),
        last=Block(prefixes=("",), items=last),
        buffers=(table(config, sizes.head_dim, sizes.positions),) if buffers is None else buffers,
        tied=shared and head_name is not None,
        draft=draft,
    )


def draft_layers(
    config: Config,
    sizes: Heads,
    layer: Layer,
    *,
    default: int = 0,
    prefix: str = "model",
    own_head: bool = False,
) -> tuple[Block, ...]:
    """MTP layers as DeepSeek shaped them (models/deepseek_mtp.py, glm4_moe_mtp.py).

    A decoder layer, a projection of two hidden states to one, three norms; with `own_head` a head of their own.
    """
    items: tuple[Item, ...] = (
        *layer[0],
        whole("eh_proj", sizes.hidden, 2 * sizes.hidden, quantizable=False),
        norm("enorm_hnorm_norm", sizes.hidden, copies=3),
        *((head("shared_head.head", sizes.vocab, sizes.hidden),) if own_head else ()),
    )
    return tuple(
        Block(prefixes=(f"{prefix}.layers.{sizes.layers + index}",), items=items, keeps=layer[1])
        for index in range(draft_count(config, default=default))
    )


def draft_count(config: Config, *, default: int = 0) -> int:
    """How many layers only drafts use."""
    return config.int("num_nextn_predict_layers", default=default, minimum=0, maximum=16)


def grouped_layers(
    sizes: Heads, items: Callable[[int], tuple[Item, ...]], windows: tuple[int | None, ...] | None = None
) -> Callable[[int], Layer]:
    """Layers of grouped-query attention: `items` says what layer i allocates, `windows` how far it sees."""

    def layer(index: int) -> Layer:
        window = None if windows is None else windows[index]
        return items(index), (grouped(sizes.kv_heads, sizes.head_dim, window=window),)

    return layer


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
