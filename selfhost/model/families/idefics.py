"""Idefics3, SmolVLM and Aria: SigLIP in transformers' Idefics form.

models/idefics3.py, idefics2_vision_model.py, aria.py.
"""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families._stack import grouped_layers, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    column,
    experts_item,
    gated_mlp,
    norm,
    projections,
    read_heads,
    row,
    whole,
)
from selfhost.model.families.llama import biases
from selfhost.model.families.multimodal import (
    SIZES,
    conv,
    encoder,
    language,
    part,
    plain,
    renamed,
    stage,
    table,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.families.siglip import siglip_layer
from selfhost.model.modules import Block, Item


def idefics_tower(
    vision: Config, prefixes: tuple[str, ...], *, layers: int | None = None, post_norm: bool = True
) -> tuple[Block, ...]:
    """Idefics2/3VisionTransformer: SigLIP's layers, all of them quantizable."""
    width = vision.int("hidden_size", default=1152)
    heads = vision.int("num_attention_heads", default=16, maximum=1 << 12)
    inner = vision.int("intermediate_size", default=3072)
    items = siglip_layer(vision, width, heads, inner)
    patch = vision.int("patch_size", default=32, maximum=1 << 10)
    positions = (vision.int("image_size", default=224, maximum=1 << 16) // patch) ** 2
    rest: list[Item] = [
        conv(
            "embeddings.patch_embedding",
            width,
            vision.int("num_channels", default=3, maximum=64) * patch**2,
            bias=True,
        ),
        table("embeddings.position_embedding", positions, width),
    ]
    if post_norm:
        rest.append(norm("post_layernorm", width, bias=True))
    count = vision.int("num_hidden_layers", default=12, maximum=4096) if layers is None else layers
    return (
        *encoder(tuple(f"{one}.encoder.layers" for one in prefixes), count, items),
        stage(prefixes, *rest),
    )


def _idefics(config: Config, modality: str) -> Draught:
    section = text_config(config, model_type="llama", outer_tie=False)
    draught = language(section, "LlamaForCausalLM", prefixes=("model.text_model", "model"))
    vision = part(config, "vision_config")
    merged = vision.int("hidden_size", default=1152) * config.int("scale_factor", default=2, maximum=64) ** 2
    connector = stage(
        ("model.connector",), whole("modality_projection.proj", draught.facts.hidden_size, merged)
    )
    return with_towers(
        draught, (*idefics_tower(vision, ("model.vision_model",)), connector), modality=modality
    )


def idefics3(config: Config) -> Draught:
    """Idefics3ForConditionalGeneration."""
    return _idefics(config, "text+image")


def smolvlm(config: Config) -> Draught:
    """SmolVLMForConditionalGeneration."""
    return _idefics(config, "text+image+video")


def aria(config: Config) -> Draught:
    """AriaForConditionalGeneration: Llama's attention over shared and routed experts; the head is never tied."""
    section = text_config(config)
    section = Config(
        {
            **SIZES["llama"], "moe_num_experts": 8, "moe_topk": 2, "moe_num_shared_experts": 2,
            "intermediate_size": 4096, **section.data, "tie_word_embeddings": False,
        },
        section.path,
    )  # fmt: skip
    sizes = read_heads(section)
    bias, output = biases(section)
    count = section.int("moe_num_experts", maximum=1 << 16)
    inner = section.int("intermediate_size")
    shared = inner * section.int("moe_num_shared_experts", maximum=1 << 10)
    items: tuple[Item, ...] = (
        *projections(sizes, bias=bias, output_bias=output),
        weights("mlp.router_weight", count, sizes.hidden),
        experts_item("mlp.experts", count, sizes.hidden, inner),
        *gated_mlp("mlp.shared_experts", sizes.hidden, shared, bias=section.bool("mlp_bias", default=False)),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    draught = renamed(
        stack(
            section, sizes, grouped_layers(sizes, lambda index: items), intermediate=inner,
            experts_per_token=section.int("moe_topk", maximum=1 << 10),
        ),
        ("model.language_model", "language_model.model", "language_model", "model"),
    )  # fmt: skip
    vision = part(config, "vision_config")
    filled = Config(
        {
            "intermediate_size": 4304,
            "patch_size": 14,
            "image_size": 980,
            "num_hidden_layers": 27,
            **vision.data,
        },
        vision.path,
    )
    width = filled.int("hidden_size", default=1152)
    names = ("model.vision_tower", "vision_tower")
    projector = stage(
        ("model.multi_modal_projector", "multi_modal_projector"),
        weights("query", _queries(config), width),
        plain("cross_attn.qkv_proj", width, width, bias=False, copies=3),
        plain("cross_attn.multihead_attn.in_proj", 3 * width, width),
        plain("cross_attn.out_proj_and_linear", width, width, copies=2),
        norm("norms", width, bias=True, copies=3),
        column("feed_forward.linear_in", sizes.hidden, width, quantizable=False),
        row("feed_forward.linear_out", sizes.hidden, sizes.hidden, quantizable=False),
    )
    towers = (*idefics_tower(filled, names, post_norm=False), projector)
    return with_towers(draught, towers, modality="text+image")


def _queries(config: Config) -> int:
    """The largest number of queries that an image may take."""
    given = config.optional_section("projector_patch_to_query_dict")
    if given is None or not given.data:
        return 256
    return max(given.int(name) for name in given.data)


ARCHITECTURES: dict[str, Builder] = {
    "Idefics3ForConditionalGeneration": idefics3,
    "SmolVLMForConditionalGeneration": smolvlm,
    "AriaForConditionalGeneration": aria,
}
