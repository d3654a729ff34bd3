"""DeepSeek's vision models: VL2 with timm's SigLIP, OCR with SAM and CLIP (models/deepseek_vl2.py, deepseek_ocr.py)."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, column, norm, qkv, row
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    floats,
    language,
    plain,
    stage,
    table,
    text_config,
    weights,
    with_towers,
)
from selfhost.model.modules import Block, Buffer, Item

_TEXT = ("language.model", "language_model.model", "model")

# DeepseekV2Config's sizes, which VL2 checkpoints leave out (transformers 5.19).
_LANGUAGE: dict[str, object] = {
    "vocab_size": 102400, "max_position_embeddings": 2048, "kv_lora_rank": 512, "q_lora_rank": 1536,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "first_k_dense_replace": 0,
    "n_shared_experts": 2, "moe_layer_freq": 1, "norm_topk_prob": False,
}  # fmt: skip


def _language(config: Config) -> Draught:
    section = text_config(config, "language_config", model_type="deepseek_v2")
    if section.data.get("qk_nope_head_dim") == 0 and section.data.get("qk_rope_head_dim") == 0:
        # Plain attention inside DeepSeek V2 (models/deepseek_v2.py `use_mha`), as DeepSeek V1 has it.
        return language(section, "DeepseekForCausalLM", prefixes=_TEXT)
    data: dict[str, object] = {**_LANGUAGE, **section.data}
    names = section.strings("architectures", default=("DeepseekV2ForCausalLM",))
    return language(Config(data, section.path), names[0], prefixes=_TEXT)


def _projector(config: Config) -> tuple[Block, int]:
    """MlpProjector, and its width."""
    given = config.optional_section("projector_config") or Config({}, config.name("projector_config"))
    width = given.int("n_embed", default=2048)
    inputs = given.int("input_dim", default=1152)
    kind = given.str("projector_type", default="downsample_mlp_gelu")
    if kind == "linear":
        return stage(("projector",), plain("layers", width, inputs)), width
    if kind != "downsample_mlp_gelu":
        raise given.error("projector_type", f"is {kind[:40]!r}, which vLLM does not build")
    wide = width * given.int("mlp_ratio", default=1, maximum=64)
    merged = inputs * given.int("downsample_ratio", default=2, maximum=64) ** 2
    between = given.int("depth", default=2, maximum=64) - 2
    items: list[Item] = [plain("layers.0", wide, merged), plain("layers.last", width, wide)]
    if between > 0:
        items.append(plain("layers.between", wide, wide, copies=between))
    return stage(("projector",), *items), width


def _separators(config: Config, width: int) -> Block:
    """The learned line break and view separator; only the two-dimensional layout exists in vLLM."""
    if config.str("tile_tag", default="2D") != "2D":
        raise config.error("tile_tag", "is not '2D', the only layout that vLLM builds")
    return stage(("model", ""), weights("image_newline_and_view_seperator", 2, width))


def deepseek_vl2(config: Config) -> Draught:
    """DeepseekVLV2ForCausalLM: timm's vit_so400m_patch14_siglip_384, whose MLPs alone are divided over ranks."""
    draught = _language(config)
    # vLLM builds this tower whatever the configuration says (models/deepseek_vl2.py `_init_vision_module`).
    width, inner, positions = 1152, 4304, 729
    items: tuple[Item, ...] = (
        plain("attn.qkv", 3 * width, width),
        plain("attn.proj", width, width),
        column("mlp.fc1", inner, width, bias=True, quantizable=False),
        row("mlp.fc2", width, inner, bias=True, quantizable=False),
        norm("norms", width, bias=True, copies=2),
    )
    rest = stage(
        ("vision",),
        conv("patch_embed.proj", width, 3 * 14**2, bias=True),
        weights("pos_embed", positions, width),
        norm("norm", width, bias=True),
        weights("attn_pool.latent", width),
        plain("attn_pool.q_and_proj", width, width, copies=2),
        plain("attn_pool.kv", 2 * width, width),
        norm("attn_pool.norm", width, bias=True),
        column("attn_pool.mlp.fc1", inner, width, bias=True, quantizable=False),
        row("attn_pool.mlp.fc2", width, inner, bias=True, quantizable=False),
    )
    projector, size = _projector(config)
    towers = (*encoder(("vision.blocks",), 27, items), rest, projector, _separators(config, size))
    return with_towers(draught, towers, modality="text+image")


def sam_tower(prefixes: tuple[str, ...], *, channels: int = 1024) -> tuple[Block, ...]:
    """SAM ViT-B with two more convolutions, sizes fixed in code (models/deepencoder.py `build_sam_vit_b`).

    Args:
        channels: of the last convolution.
    """
    width, dim = 768, 64

    def layer(window: int) -> tuple[Item, ...]:
        return (
            plain("attn.qkv", 3 * width, width),
            plain("attn.proj", width, width),
            weights("attn.rel_pos", 2, 2 * window - 1, dim),
            plain("mlp.lin1", 4 * width, width),
            plain("mlp.lin2", width, 4 * width),
            norm("norms", width, bias=True, copies=2),
        )

    windowed, everywhere = layer(14), layer(64)
    blocks = tuple(
        Block(
            prefixes=tuple(f"{one}.blocks.{index}" for one in prefixes),
            items=everywhere if index in (2, 5, 8, 11) else windowed,
            tower=True,
        )
        for index in range(12)
    )
    rest = stage(
        prefixes,
        conv("patch_embed.proj", width, 3 * 16**2, bias=True),
        weights("pos_embed", 64, 64, width),
        conv("neck.0", 256, width),
        conv("neck.2", 256, 256 * 9),
        norm("neck.norms", 256, bias=True, copies=2),
        conv("net_2", 512, 256 * 9),
        conv("net_3", channels, 512 * 9),
    )
    return (*blocks, rest)


def deep_clip_tower(prefixes: tuple[str, ...]) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """CLIP ViT-L/14 at 224 pixels as DeepSeek-OCR builds it."""
    width = 1024
    items = (
        qkv("self_attn.qkv_proj", width, 16, 16, 64, bias=True),
        row("self_attn.out_proj", width, width, bias=True),
        column("mlp.fc1", 4096, width, bias=True),
        row("mlp.fc2", width, 4096, bias=True),
        norm("norms", width, bias=True, copies=2),
    )
    rest = stage(
        prefixes,
        weights("embeddings.class_embedding", width),
        conv("embeddings.patch_embedding", width, 3 * 14**2),
        table("embeddings.position_embedding", 257, width),
        norm("pre_layrnorm", width, bias=True),
    )
    names = tuple(f"{one}.transformer.layers" for one in prefixes)
    return (*encoder(names, 24, items), rest), (floats("position_ids", 257, "int64"),)


def deepseek_ocr(config: Config) -> Draught:
    """DeepseekOCRForCausalLM, and UnlimitedOCRForCausalLM, which differs in its language model only."""
    draught = _language(config)
    clip, buffers = deep_clip_tower(("model.vision_model", "vision_model"))
    projector, width = _projector(config)
    towers = (*sam_tower(("model.sam_model", "sam_model")), *clip, projector, _separators(config, width))
    return with_towers(draught, towers, modality="text+image", buffers=buffers)


def _qwen2_tower(prefixes: tuple[str, ...]) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """A small Qwen2 of fixed size, transformers' own and so whole on every rank (models/deepencoder2.py:171)."""
    width, inner, keys = 896, 4864, 128
    items = (
        plain("self_attn.q_proj", width, width),
        plain("self_attn.kv", keys, width, copies=2),
        plain("self_attn.o_proj", width, width, bias=False),
        plain("mlp.gate_up", inner, width, bias=False, copies=2),
        plain("mlp.down_proj", width, inner, bias=False),
        norm("norms", width, copies=2),
    )
    rest = stage(
        prefixes,
        norm("model.model.norm", width),
        table("query_768", 144, width),
        table("query_1024", 256, width),
    )
    names = tuple(f"{one}.model.model.layers" for one in prefixes)
    return (*encoder(names, 24, items), rest), (floats("qwen2_model.inv_freq", 2 * 32),)


def deepseek_ocr2(config: Config) -> Draught:
    """DeepseekOCR2ForCausalLM: SAM before a small Qwen2, without a learned line break (models/deepseek_ocr2.py)."""
    draught = _language(config)
    decoder, buffers = _qwen2_tower(("model.qwen2_model", "qwen2_model"))
    projector, width = _projector(config)
    if config.str("tile_tag", default="2D") != "2D":
        raise config.error("tile_tag", "is not '2D', the only layout that vLLM builds")
    separator = stage(("model", ""), weights("view_seperator", width))
    sam = sam_tower(("model.sam_model", "sam_model"), channels=896)
    return with_towers(
        draught, (*sam, *decoder, projector, separator), modality="text+image", buffers=buffers
    )


ARCHITECTURES: dict[str, Builder] = {
    "DeepseekVLV2ForCausalLM": deepseek_vl2,
    "DeepseekOCRForCausalLM": deepseek_ocr,
    "UnlimitedOCRForCausalLM": deepseek_ocr,
    "DeepseekOCR2ForCausalLM": deepseek_ocr2,
}
