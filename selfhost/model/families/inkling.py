"""Inkling: relative attention beside short convolutions, experts with always-active sinks, patch and audio encoders.

vLLM 0.32 models/inkling/configs.py, nvidia/{model,attention,moe,mlp,sconv_swa_attn}.py and common/towers.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

from selfhost.attention import Attention, ConvWindow
from selfhost.model.config import Config
from selfhost.model.families._stack import Layer, grouped, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    experts_item,
    gated_mlp,
    norm,
    row,
    sibling,
)
from selfhost.model.families.multimodal import plain, stage, table, with_towers
from selfhost.model.modules import Block, Embedding, Item, Matrix, Part, Vector
from selfhost.units import round_up

# Rows of a router are padded for its kernel (nvidia/moe.py:214).
_ROUTER_ROWS = 8


def _sizes(config: Config) -> tuple[Heads, Heads]:
    """Heads of the full and of the windowed layers."""
    heads = config.int("num_attention_heads", maximum=1 << 16)
    kv_heads = config.int("num_key_value_heads", maximum=1 << 16)
    hidden = config.int("hidden_size")
    head_dim = config.int("head_dim", default=max(1, hidden // heads))
    rows = config.int("padded_vocab_size", "vocab_size")
    shared = {"hidden": hidden, "layers": config.layers(), "vocab": rows,
              "positions": config.int("max_position_embeddings", default=2048)}  # fmt: skip
    full = Heads(heads=heads, kv_heads=kv_heads, head_dim=head_dim, **shared)
    local = Heads(
        heads=config.int("swa_num_attention_heads", default=heads, maximum=1 << 16),
        kv_heads=config.int("swa_num_key_value_heads", default=kv_heads, maximum=1 << 16),
        head_dim=config.int("swa_head_dim", default=head_dim),
        **shared,
    )
    return full, local


def _attention(config: Config, sizes: Heads, kernel: int, reach: int) -> tuple[Item, ...]:
    relative = config.int("d_rel", default=16, maximum=1 << 12)
    parts = (
        Part(name="attn.wq", units=sizes.heads, unit=sizes.head_dim),
        Part(name="attn.wk", units=sizes.kv_heads, unit=sizes.head_dim),
        Part(name="attn.wv", units=sizes.kv_heads, unit=sizes.head_dim),
        Part(name="attn.wr", units=sizes.heads, unit=relative),
    )
    return (
        Matrix(
            name="attn.qkvr",
            parts=parts,
            inputs=sizes.hidden,
            division="column",
            bias=config.bool("q_bias", default=False),
        ),
        row(
            "attn.wo_ud",
            sizes.hidden,
            sizes.heads * sizes.head_dim,
            bias=config.bool("o_bias", default=False),
        ),
        Vector(name="attn.rel_logits_proj", units=relative, unit=reach),
        norm("attn.qk_norm", sizes.head_dim, copies=2),
        Vector(
            name="attn.kv_sconv", units=sizes.kv_heads, unit=sizes.head_dim * kernel, divided=True, copies=2
        ),
        Vector(name="output_sconv", units=sizes.hidden, unit=kernel, divided=True, copies=2),
    )


def _experts(config: Config, hidden: int, inner: int) -> tuple[Item, ...]:
    """The sinks are dense matrices, divided like an MLP and never quantized (nvidia/moe.py:279-303)."""
    count = config.int("n_routed_experts", maximum=1 << 16)
    sinks = config.int("n_shared_experts", maximum=1 << 10)
    items: list[Item] = [
        Vector(name="mlp.gate.weight", units=round_up(count + sinks, _ROUTER_ROWS), unit=hidden),
        experts_item("mlp.experts", count, hidden, inner, names=("w13_weight", "w13_weight", "w2_weight")),
        *gated_mlp("mlp.shared_experts", hidden, inner * sinks, quantizable=False),
    ]
    if config.bool("use_gate_bias", default=False):
        items.append(Vector(name="mlp.gate.bias", units=count, dtype="float32"))
    if config.bool("use_global_scale", default=False):
        items.append(Vector(name="mlp.gate.global_scale", units=1, dtype="float32"))
    return tuple(items)


def _inner_sizes(config: Config) -> tuple[int, int]:
    """(expert size, dense size) in either of the two formats (configs.py:79-91)."""
    inner = config.int("intermediate_size", default=768)
    if config.has("moe_intermediate_size") and not config.has("dense_intermediate_size"):
        return config.int("moe_intermediate_size"), inner
    return inner, config.int("dense_intermediate_size", default=inner)


def inkling_text(config: Config) -> Draught:
    """InklingForCausalLM: each rank holds the whole embedding."""
    full, local = _sizes(config)
    hidden = full.hidden
    kernel = config.int("sconv_kernel_size", "conv_kernel_size", default=4, minimum=2, maximum=1 << 8)
    window = config.int("sliding_window_size", default=512)
    reach = config.int("rel_extent", default=1024)
    windowed = set(config.ints("local_layer_ids", default=()))
    dense_layers = config.int("dense_mlp_idx", default=0, minimum=0)
    inner, dense_size = _inner_sizes(config)
    scaled = config.bool("use_global_scale", default=False)

    @same_items
    def items(is_local: bool, dense: bool) -> tuple[Item, ...]:
        feed: tuple[Item, ...]
        if dense:
            feed = gated_mlp("mlp", hidden, dense_size)
            if scaled:
                feed = (*feed, Vector(name="mlp.global_scale", units=1))
        else:
            feed = _experts(config, hidden, inner)
        sizes = local if is_local else full
        attention = _attention(config, sizes, kernel, window if is_local else reach)
        return (*attention, *feed, norm("norms", hidden, copies=2))

    def keeps(sizes: Heads, span: int | None) -> tuple[Attention, ...]:
        conv = ConvWindow(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim, hidden=hidden, kernel=kernel)
        return conv, grouped(sizes.kv_heads, sizes.head_dim, window=span)

    kept = {True: keeps(local, window), False: keeps(full, None)}

    def layer(index: int) -> Layer:
        is_local = index in windowed
        return items(is_local, index < dense_layers), kept[is_local]

    normed = config.bool("use_embed_norm", default=False)
    draught = stack(
        config,
        full,
        layer,
        # Nothing rotates: positions enter through relative logits.
        buffers=(),
        tied=False,
        intermediate=dense_size,
        experts_per_token=config.int("num_experts_per_tok", default=1),
    )
    embed = Embedding(name="embed_tokens", rows=full.vocab, width=hidden, divided=False)
    first: tuple[Item, ...] = (embed, *((norm("embed_norm", hidden),) if normed else ()))
    return _with_first(draught, first)


def _with_first(draught: Draught, items: tuple[Item, ...]) -> Draught:
    return replace(draught, first=Block(prefixes=draught.first.prefixes, items=items))


# ---- towers
Scale = tuple[int, int, int, int]


def _factors(number: int) -> list[int]:
    found: list[int] = []
    factor = 2
    while number > 1 and factor * factor <= number:
        while number % factor == 0:
            found.append(factor)
            number //= factor
        factor += 1
    return [*found, number] if number > 1 else found


def _scales(times: int, patch: int, layers: int, channels: int) -> tuple[Scale, ...]:
    """(time, height, width, channels) before and after each layer of the patch encoder (towers.py:62-112).

    The steps that come nearest to equal growth are chosen.
    """
    width = times_so_far = 1
    steps: list[Scale] = [(1, 1, 1, channels)]
    for factor in reversed(_factors(patch)):
        width *= factor
        steps.append((1, width, width, round_up(width * width * channels, 64)))
    for factor in reversed(_factors(times)):
        times_so_far *= factor
        steps.append((times_so_far, width, width, round_up(width * width * channels * times_so_far, 64)))
    sizes = [math.log(step[0] * step[1] * step[2]) for step in steps]
    whole = math.log(patch * patch * times * channels)
    costs = [[abs(whole * index / layers - size) for size in sizes] for index in range(layers + 1)]
    if layers >= len(steps):
        chosen = [min(range(len(steps)), key=line.__getitem__) for line in costs]
    else:

        def cost(columns: Iterable[int]) -> float:
            return sum(line[column] for line, column in zip(costs, columns, strict=True))

        chosen = list(min(combinations(range(len(steps)), layers + 1), key=cost))
    chosen[0], chosen[-1] = 0, len(steps) - 1
    return tuple(steps[index] for index in chosen)


def _vision(config: Config) -> Block:
    width = config.int("decoder_dmodel")
    if config.str("vision_encoder_type") != "hmlp":
        raise config.error("vision_encoder_type", "is not hmlp, the only one vLLM runs")
    layers = config.int("n_layers", maximum=64)
    patch = config.int("patch_size", minimum=2, maximum=1 << 8)
    times = config.int("temporal_patch_size", maximum=1 << 6)
    scales = _scales(times, patch, layers, config.int("n_channels", maximum=1 << 10))
    items: list[Item] = []
    for index in range(layers):
        before, after = scales[index], scales[index + 1]
        inputs = before[3] * (after[0] // before[0]) * (after[1] // before[1]) * (after[2] // before[2])
        name = f"vision_encoder.layers.linear_{index}"
        if index == layers - 1:
            items.append(plain(name, width, inputs, bias=False))
        else:
            items.append(plain(name, after[3], inputs, bias=False))
            items.append(norm(sibling(name, f"norm_{index}"), after[3]))
    if config.bool("use_vision_norm", default=False):
        items.append(norm("vision_encoder.final_norm", width))
    return stage(("visual", "model.visual"), *items)


def _audio(config: Config) -> Block:
    width = config.int("decoder_dmodel")
    bins = config.int("n_mel_bins", maximum=1 << 16) * config.int("mel_vocab_size", maximum=1 << 16)
    items: list[Item] = [table("encoder", bins, width)]
    if config.bool("use_audio_norm", default=False):
        items.append(norm("final_norm", width))
    return stage(("audio", "model.audio"), *items)


def inkling(config: Config) -> Draught:
    """InklingForConditionalGeneration; a tower is there where its section names `decoder_dmodel`."""
    draught = inkling_text(config.section("text_config"))
    towers: list[Block] = []
    modality = "text"
    vision, audio = config.optional_section("vision_config"), config.optional_section("audio_config")
    if vision is not None and vision.has("decoder_dmodel"):
        towers.append(_vision(vision))
        modality += "+image"
    if audio is not None and audio.has("decoder_dmodel"):
        towers.append(_audio(audio))
        modality += "+audio"
    return with_towers(draught, tuple(towers), modality=modality) if towers else draught


ARCHITECTURES: dict[str, Builder] = {
    "InklingForCausalLM": inkling_text,
    "InklingForConditionalGeneration": inkling,
}
