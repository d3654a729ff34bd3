"""SigLIP and CLIP: vision towers that many models share, and the two as embedding models of their own."""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import EncoderOnly, FullAttention
from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, qkv, row
from selfhost.model.families.multimodal import conv, encoder, floats, plain, stage, table, weights
from selfhost.model.modules import Block, Buffer, Embedding, Item, Vector
from selfhost.model.spec import ModelFacts


def method(config: Config) -> str:
    """The quantization method that config.json itself declares."""
    section = config.optional_section("quantization_config")
    return section.str("quant_method", default="") if section is not None else ""


def siglip_layer(
    part: Config, width: int, heads: int, inner: int, *, quantized_mlp: bool = True
) -> tuple[Item, ...]:
    """One layer of SigLIP and the towers made after it.

    Args:
        part: the tower's section, which an error names.
        width: hidden size.
        heads: attention heads; keys and values have as many.
        inner: width of the MLP.
        quantized_mlp: whether the MLP follows the checkpoint's quantization.

    Raises:
        ConfigError: the heads do not divide the width.
    """
    if width % heads:
        raise part.error("num_attention_heads", f"is {heads}, which does not divide the width {width}")
    return (
        qkv("self_attn.qkv_proj", width, heads, heads, width // heads, bias=True),
        row("self_attn.out_proj", width, width, bias=True),
        column("mlp.fc1", inner, width, bias=True, quantizable=quantized_mlp),
        row("mlp.fc2", width, inner, bias=True, quantizable=quantized_mlp),
        norm("layer_norms", width, bias=True, copies=2),
    )


def _layer(
    part: Config, *, quantized_mlp: bool, hidden: int = 768, inner: int = 3072, heads: int = 12
) -> tuple[Item, ...]:
    width = part.int("hidden_size", default=hidden)
    inner = part.int("intermediate_size", default=inner)
    count = part.int("num_attention_heads", default=heads, maximum=1 << 12)
    return siglip_layer(part, width, count, inner, quantized_mlp=quantized_mlp)


def _mlp_quantized(part: Config, outer: Config) -> bool:
    """Sizes that quantized kernels take (models/siglip.py:437-446)."""
    if method(outer) in ("bitsandbytes", "torchao"):
        return True
    return (
        part.int("hidden_size", default=768) % 64 == 0
        and part.int("intermediate_size", default=3072) % 64 == 0
    )


def _count(part: Config, layers: int | None, *, default: int = 12) -> tuple[int, int]:
    """Layers that are built, and layers that the tower has."""
    all_layers = part.int("num_hidden_layers", default=default, maximum=4096)
    built = all_layers if layers is None else layers
    if not 0 <= built <= all_layers:
        raise part.error("num_hidden_layers", f"is {all_layers}, but {built} layers are asked for")
    return built, all_layers


def siglip_tower(
    vision: Config,
    outer: Config,
    prefixes: tuple[str, ...],
    *,
    layers: int | None = None,
    post_norm: bool | None = None,
    head: bool = False,
) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """SiglipVisionModel (models/siglip.py:600).

    Args:
        outer: the whole configuration, for the quantization method.
        prefixes: what holds `vision_model`.
        layers: layers up to the deepest that is used.
        post_norm: whether the final norm is built; when None it is where all layers are.
        head: the attention pooling head is built.
    """
    width = vision.int("hidden_size", default=768)
    quantized = _mlp_quantized(vision, outer)
    built, all_layers = _count(vision, layers)
    patch = vision.int("patch_size", default=16, maximum=1 << 10)
    positions = (vision.int("image_size", default=224, maximum=1 << 16) // patch) ** 2
    layer = _layer(vision, quantized_mlp=quantized)
    rest: list[Item] = [
        conv(
            "embeddings.patch_embedding",
            width,
            vision.int("num_channels", default=3, maximum=64) * patch**2,
            bias=True,
        ),
        table("embeddings.position_embedding", positions, width),
    ]
    if post_norm or (post_norm is None and built == all_layers):
        rest.append(norm("post_layernorm", width, bias=True))
    if head:
        inner = vision.int("intermediate_size", default=3072)
        rest += [
            weights("head.probe", width),
            plain("head.attention.in_proj", 3 * width, width),
            plain("head.attention.out_proj", width, width),
            norm("head.layernorm", width, bias=True),
            column("head.mlp.fc1", inner, width, bias=True, quantizable=quantized),
            row("head.mlp.fc2", width, inner, bias=True, quantizable=quantized),
        ]
    names = tuple(f"{one}.vision_model" if one else "vision_model" for one in prefixes)
    inside = tuple(f"{one}.encoder.layers" for one in names)
    return (*encoder(inside, built, layer), stage(names, *rest)), (
        floats("position_ids", positions, "int64"),
    )


def clip_tower(
    vision: Config, prefixes: tuple[str, ...], *, layers: int | None = None, post_norm: bool | None = None
) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """CLIPVisionModel (models/clip.py:623); arguments as `siglip_tower`."""
    width = vision.int("hidden_size", default=768)
    built, all_layers = _count(vision, layers)
    patch = vision.int("patch_size", default=32, maximum=1 << 10)
    positions = (vision.int("image_size", default=224, maximum=1 << 16) // patch) ** 2 + 1
    rest: list[Item] = [
        weights("embeddings.class_embedding", width),
        conv(
            "embeddings.patch_embedding", width, vision.int("num_channels", default=3, maximum=64) * patch**2
        ),
        table("embeddings.position_embedding", positions, width),
        norm("pre_layrnorm", width, bias=True),
    ]
    if post_norm or (post_norm is None and built == all_layers):
        rest.append(norm("post_layernorm", width, bias=True))
    names = tuple(f"{one}.vision_model" if one else "vision_model" for one in prefixes)
    inside = tuple(f"{one}.encoder.layers" for one in names)
    layer = _layer(vision, quantized_mlp=True)
    return (*encoder(inside, built, layer), stage(names, *rest)), (
        floats("position_ids", positions, "int64"),
    )


def _pair(
    config: Config, *, heads: int, positions: int, vocab: int, keeps: bool, projections: tuple[Vector, ...],
    towers: tuple[Block, ...], buffers: tuple[Buffer, ...],
) -> Draught:  # fmt: skip
    """A text encoder beside a vision tower; there is no output head."""
    text = config.section("text_config")
    width = text.int("hidden_size", default=512)
    inner = text.int("intermediate_size", default=2048)
    count = text.int("num_attention_heads", default=heads, maximum=1 << 12)
    rows = text.int("vocab_size", default=vocab)
    length = text.int("max_position_embeddings", default=positions)
    depth = text.int("num_hidden_layers", default=12, maximum=4096)
    quantized = (
        True if keeps else _mlp_quantized(Config({"hidden_size": width, "intermediate_size": inner}), config)
    )
    items = _layer(text, quantized_mlp=quantized, hidden=512, inner=2048, heads=heads)
    kept = FullAttention(kv_heads=count, head_dim=width // count) if keeps else EncoderOnly()
    return Draught(
        facts=ModelFacts(
            hidden_size=width, vocab_size=rows, heads=count, kv_heads=count, head_dim=width // count,
            intermediate_size=inner, max_context_tokens=length, modality="text+image", pooling=True,
        ),
        first=Block(
            prefixes=("text_model",),
            items=(
                Embedding(name="embeddings.token_embedding", rows=rows, width=width),
                Embedding(name="embeddings.position_embedding", rows=length, width=width),
            ),
        ),
        layers=tuple(
            Block(prefixes=(f"text_model.encoder.layers.{index}",), items=items, keeps=(kept,))
            for index in range(depth)
        ),
        last=Block(prefixes=("",), items=(norm("text_model.final_layer_norm", width, bias=True), *projections)),
        towers=towers,
        buffers=buffers,
    )  # fmt: skip


def clip(config: Config) -> Draught:
    """CLIPModel for embedding (models/clip.py:778)."""
    vision = config.section("vision_config")
    shared = config.int("projection_dim", default=512)
    text_width = config.section("text_config").int("hidden_size", default=512)
    towers, buffers = clip_tower(vision, ("",))
    projection = plain("visual_projection", shared, vision.int("hidden_size", default=768), bias=False)
    return _pair(
        config, heads=8, positions=77, vocab=49408, keeps=True,
        projections=(plain("text_projection", shared, text_width, bias=False),),
        towers=(*towers, stage(("",), projection)), buffers=buffers,
    )  # fmt: skip


def siglip(config: Config) -> Draught:
    """SiglipModel for embedding (models/siglip.py:1120)."""
    vision = config.section("vision_config")
    text = config.section("text_config")
    width = text.int("hidden_size", default=768)
    filled = Config({**config.data, "text_config": {**_SIGLIP_TEXT, **text.data}}, config.path)
    head = vision.bool("vision_use_head", default=True)
    towers, buffers = siglip_tower(vision, config, ("",), head=head)
    shared = text.int("projection_size", default=width)
    draught = _pair(
        filled, heads=12, positions=64, vocab=32000, keeps=False,
        projections=(plain("text_model.head", shared, width),), towers=towers, buffers=buffers,
    )  # fmt: skip
    length = text.int("max_position_embeddings", default=64)
    return replace(draught, buffers=(*buffers, Buffer(name="position_ids", elements=length, dtype="int64")))


_SIGLIP_TEXT = {
    "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "max_position_embeddings": 64,
    "vocab_size": 32000,
}  # fmt: skip

ARCHITECTURES: dict[str, Builder] = {"CLIPModel": clip, "SiglipModel": siglip}
