"""ERNIE 4.5 VL: experts of text and vision side by side, a tower and a resampler (vLLM 0.32 models/ernie45_vl*.py)."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families._stack import Layer, attention_kind, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    column,
    experts_item,
    gated_mlp,
    norm,
    projections,
    read_heads,
    rope_buffer,
    row,
    whole,
)
from selfhost.model.families.multimodal import encoder, fused, plain, renamed, scaled, stage, with_towers
from selfhost.model.modules import Block, Item, Vector


def _two(
    config: Config, field: str, default: tuple[int, int] | None = None, *, minimum: int = 1
) -> tuple[int, int]:
    """A pair for text and vision, or one value for both."""
    value = config.data.get(field)
    if isinstance(value, (list, tuple)) or (value is None and default is not None):
        sizes = config.ints(field, minimum=minimum, default=default)
        if len(sizes) != 2:
            raise config.error(field, f"should have two sizes, not {len(sizes)}")
        return sizes[0], sizes[1]
    one = config.int(field, minimum=minimum)
    return one, one


def _language(config: Config) -> Draught:
    sizes = read_heads(config)
    hidden, inner = sizes.hidden, config.int("intermediate_size")
    bias = config.bool("use_bias", default=False)
    counts = _two(config, "moe_num_experts")
    widths = _two(config, "moe_intermediate_size")
    starts = _two(config, "moe_layer_start_index", minimum=0)
    ends = _two(config, "moe_layer_end_index", (sizes.layers - 1, sizes.layers - 1), minimum=0)
    step = config.int("moe_layer_interval", default=1, maximum=4096)
    shared = config.int("moe_num_shared_experts", default=0, minimum=0, maximum=1 << 10)
    if counts[0] != counts[1]:
        raise config.error("moe_num_experts", "differs between text and vision, which vLLM does not build")
    common = (*projections(sizes, bias=bias), norm("layer_norms", hidden, copies=2))

    def build(kinds: tuple[bool, ...] | None) -> tuple[Item, ...]:
        if kinds is None:
            return (*common, *gated_mlp("mlp", hidden, inner, bias=bias))
        items: list[Item] = [
            *common,
            Vector(name="mlp.e_score_correction_bias", units=2 * counts[0], dtype="float32"),
        ]
        for routes, name, width in zip(kinds, ("text_experts", "vision_experts"), widths, strict=True):
            if routes:
                items.append(whole(f"mlp.{name}_gate", counts[0], hidden, dtype="float32"))
                items.append(experts_item(f"mlp.{name}", counts[0], hidden, width))
            else:
                items += gated_mlp(f"mlp.{name}", hidden, inner, bias=bias)
        if shared:
            items += gated_mlp("mlp.shared_experts", hidden, widths[0] * shared)
        return tuple(items)

    items = same_items(build)
    keeps = (attention_kind(config, sizes, None),)

    def layer(index: int) -> Layer:
        sparse = (index + 1) % step == 0 and min(starts) <= index <= max(ends)
        kinds = (
            tuple(start <= index <= end for start, end in zip(starts, ends, strict=True)) if sparse else None
        )
        return items(kinds), keeps

    # A multimodal table four times as long, and each layer builds its own (models/ernie45_vl_moe.py:150).
    return stack(
        config,
        sizes,
        layer,
        intermediate=inner,
        experts_per_token=config.int("moe_k", maximum=1 << 10),
        tied_default=True,
        buffers=(rope_buffer(4 * sizes.positions * sizes.layers, sizes.head_dim),),
    )


def ernie4_5_vl(config: Config) -> Draught:
    """Ernie4_5_VLMoeForConditionalGeneration."""
    draught = renamed(_language(config), ("model", "language_model.model"))
    vision = config.section("vision_config")
    width = vision.int("embed_dim", "hidden_size")
    heads = vision.int("num_heads", maximum=1 << 12)
    if width % heads:
        raise vision.error("num_heads", f"is {heads}, which does not divide the width {width}")
    wide = scaled(vision, "mlp_ratio", width, default=4.0)
    items = (
        fused("attn.qkv", heads, width // heads, width, bias=True),
        row("attn.proj", width, width, bias=True),
        column("mlp.fc1", wide, width, bias=True),
        row("mlp.fc2", width, wide, bias=True),
        norm("norms", width, bias=True, copies=2),
    )
    rest = stage(
        ("vision_model",),
        plain(
            "patch_embed.proj",
            width,
            vision.int("in_channels", default=3) * vision.int("patch_size") ** 2,
            bias=False,
        ),
        norm("ln", width, bias=True),
    )
    towers = (
        *encoder(("vision_model.blocks",), vision.int("depth", maximum=4096), items), rest, _resampler(config, draught)
    )  # fmt: skip
    return with_towers(draught, towers, modality="text+image+video")


def _resampler(config: Config, draught: Draught) -> Block:
    """VariableResolutionResamplerModel: divided, never quantized, as it is given no quantization."""
    hidden = draught.facts.hidden_size
    spatial = config.int("pixel_hidden_size") * config.int("spatial_conv_size", maximum=64) ** 2
    temporal = spatial * config.int("temporal_conv_size", maximum=64)

    def linear(name: str, outputs: int, inputs: int) -> Item:
        return column(name, outputs, inputs, bias=True, quantizable=False)

    items: list[Item] = [
        linear("spatial_linear1", spatial, spatial),
        linear("spatial_linear2", spatial, spatial),
        norm("spatial_norm", spatial, bias=True),
        linear("mlp", hidden, spatial),
        norm("after_norm", hidden),
    ]
    if config.bool("use_temporal_conv", default=True):
        items += [
            linear("temporal_linear1", spatial, temporal),
            linear("temporal_linear2", spatial, spatial),
            norm("temporal_norm", spatial, bias=True),
        ]
    return stage(("model.resampler_model", "resampler_model"), *items)


ARCHITECTURES: dict[str, Builder] = {"Ernie4_5_VLMoeForConditionalGeneration": ernie4_5_vl}
