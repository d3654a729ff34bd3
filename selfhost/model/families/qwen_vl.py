"""Qwen's vision models: Qwen2-VL, Qwen2.5-VL, Qwen3-VL with deepstack mergers, Qwen3.5 and later, dense and routed."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families._pooling import labels
from selfhost.model.families.common import Builder, Draught, column, gated_mlp, norm, qkv, row, whole
from selfhost.model.families.multimodal import (
    conv,
    encoder,
    floats,
    fused,
    language,
    part,
    plain,
    scaled,
    stage,
    table,
    text_config,
    with_towers,
)
from selfhost.model.modules import Block, Buffer, Item

_BLOCKS = ("model.visual.blocks", "visual.blocks")
_VISUAL = ("model.visual", "visual")
MODALITY = "text+image+video"


def _heads(vision: Config, width: int, *, default: int = 16) -> tuple[int, int]:
    heads = vision.int("num_heads", "num_attention_heads", default=default, maximum=1 << 12)
    if width % heads:
        raise vision.error("num_heads", f"is {heads}, which does not divide the width {width}")
    return heads, width // heads


def rotation(head_dim: int) -> tuple[Buffer, ...]:
    """The tower's own rotary table: 8192 positions, half of a head (models/qwen2_vl.py:567)."""
    return (floats("visual.rotary_pos_emb", 8192 * int(head_dim * 0.5), "model"),)


def _merger(name: str, width: int, merge: int, outputs: int, *, first: str, second: str) -> tuple[Item, ...]:
    inner = width * merge**2
    return (
        column(f"{name}.{first}", inner, inner, bias=True),
        row(f"{name}.{second}", outputs, inner, bias=True),
    )


def _patches(vision: Config, width: int, *, patch: int, bias: bool) -> Item:
    size = vision.int("patch_size", default=patch, maximum=1 << 10)
    frames = vision.int("temporal_patch_size", default=2, maximum=1 << 10)
    channels = vision.int("in_channels", default=3, maximum=1 << 10)
    return conv("patch_embed.proj", width, channels * frames * size**2, bias=bias)


def qwen2_tower(vision: Config) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """Qwen2-VL's vision transformer (models/qwen2_vl.py:525)."""
    width = vision.int("embed_dim", default=1280)
    _, head_dim = _heads(vision, width)
    inner = scaled(vision, "mlp_ratio", width, default=4.0)
    outputs = vision.int("hidden_size", default=3584)
    items = (
        # A plain column-parallel matrix, so its bytes do not divide by heads (models/qwen2_vl.py:291).
        column("attn.qkv", 3 * width, width, bias=True),
        row("attn.proj", width, width, bias=True),
        column("mlp.fc1", inner, width, bias=True),
        row("mlp.fc2", width, inner, bias=True),
        norm("norms", width, bias=True, copies=2),
    )
    # The merger keeps its own merge size of 2, as vLLM passes none (models/qwen2_vl.py:589).
    rest = stage(
        _VISUAL,
        _patches(vision, width, patch=14, bias=False),
        norm("merger.ln_q", width, bias=True),
        *_merger("merger", width, 2, outputs, first="mlp.0", second="mlp.2"),
    )
    return (*encoder(_BLOCKS, vision.int("depth", default=32, maximum=4096), items), rest), rotation(head_dim)


def qwen2_5_tower(
    vision: Config, *, patch: int = 14, grouped: bool = False
) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """Qwen2.5-VL's vision transformer: RMS norms and a gated MLP (models/qwen2_5_vl.py:622).

    Args:
        grouped: fewer heads of keys and values, as `num_key_value_heads` says (EXAONE 4.5).
    """
    width = vision.int("hidden_size", default=3584)
    heads, head_dim = _heads(vision, width)
    kv_heads = vision.int("num_key_value_heads", maximum=1 << 12) if grouped else heads
    names = ("qkv", "qkv", "qkv")
    items = (
        qkv("attn.qkv", width, heads, kv_heads, head_dim, bias=True, names=names),
        row("attn.proj", width, width, bias=True),
        *gated_mlp("mlp", width, vision.int("intermediate_size", default=3420), bias=True),
        norm("norms", width, copies=2),
    )
    rest = stage(
        _VISUAL,
        _patches(vision, width, patch=patch, bias=False),
        norm("merger.ln_q", width),
        *_merger(
            "merger", width, vision.int("spatial_merge_size", default=2, maximum=64),
            vision.int("out_hidden_size", default=3584), first="mlp.0", second="mlp.2",
        ),
    )  # fmt: skip
    return (*encoder(_BLOCKS, vision.int("depth", default=32, maximum=4096), items), rest), rotation(head_dim)


_MERGER_NAMES = ("merger.norm", "linear_fc1", "linear_fc2", "deepstack_merger_list", "norm")


def qwen3_tower(
    vision: Config,
    *,
    deepstack: tuple[int, ...] = (),
    names: tuple[str, str, str, str, str] = _MERGER_NAMES,
    merging: bool = True,
) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """Qwen3-VL's vision transformer: position table, plain MLP, mergers of intermediate layers.

    models/qwen3_vl.py:561.

    Args:
        deepstack: layers with a merger of their own where the configuration names none.
        names: the merger's norm and linear layers, the list of the others and their norm.
        merging: the merger has linear layers; it is only a norm where the projector stands apart (Ling 3).
    """
    width = vision.int("hidden_size", default=1152)
    heads, head_dim = _heads(vision, width)
    inner = vision.int("intermediate_size", default=4304)
    merge = vision.int("spatial_merge_size", default=2, maximum=64)
    outputs = vision.int("out_hidden_size", default=3584)
    stacked = vision.ints("deepstack_visual_indexes", default=deepstack)
    items = (
        fused("attn.qkv", heads, head_dim, width, bias=True),
        row("attn.proj", width, width, bias=True),
        column("mlp.linear_fc1", inner, width, bias=True),
        row("mlp.linear_fc2", width, inner, bias=True),
        norm("norms", width, bias=True, copies=2),
    )
    mergers: list[Item] = []
    if merging:
        mergers += _merger("merger", width, merge, outputs, first=names[1], second=names[2])
    for index in range(len(stacked) if merging else 0):
        name = f"{names[3]}.{index}"
        mergers += _merger(name, width, merge, outputs, first=names[1], second=names[2])
        mergers.append(norm(f"{name}.{names[4]}", width * merge**2, bias=True))
    rest = stage(
        _VISUAL,
        _patches(vision, width, patch=16, bias=True),
        table("pos_embed", vision.int("num_position_embeddings", default=2304), width),
        norm(names[0], width, bias=True),
        *mergers,
    )
    return (*encoder(_BLOCKS, vision.int("depth", default=27, maximum=4096), items), rest), rotation(head_dim)


def qwen2_vl(config: Config) -> Draught:
    """Qwen2VLForConditionalGeneration; older files hold the language model's fields at the top."""
    section = text_config(config, model_type="qwen2", outer_tie=False, forward_tie=True)
    towers, buffers = qwen2_tower(part(config, "vision_config"))
    return with_towers(language(section, "Qwen2ForCausalLM"), towers, modality=MODALITY, buffers=buffers)


def qwen2_5_vl(config: Config) -> Draught:
    """Qwen2_5_VLForConditionalGeneration."""
    section = text_config(config, model_type="qwen2", outer_tie=False, forward_tie=True)
    towers, buffers = qwen2_5_tower(part(config, "vision_config"))
    return with_towers(language(section, "Qwen2ForCausalLM"), towers, modality=MODALITY, buffers=buffers)


def opencua(config: Config) -> Draught:
    """OpenCUAForConditionalGeneration: Qwen2.5-VL without multimodal positions."""
    section = text_config(config, model_type="qwen2")
    towers, buffers = qwen2_5_tower(part(config, "vision_config"))
    return with_towers(language(section, "Qwen2ForCausalLM"), towers, modality="text+image", buffers=buffers)


def qwen3_vl(config: Config, architecture: str = "Qwen3ForCausalLM") -> Draught:
    """Qwen3VLForConditionalGeneration, dense; Cosmos 3's reasoner is the same class (models/cosmos3.py)."""
    section = text_config(config, outer_tie=False)
    towers, buffers = qwen3_tower(part(config, "vision_config"), deepstack=(8, 16, 24))
    draught = language(section, architecture, positions_factor=1)
    return with_towers(draught, towers, modality=MODALITY, buffers=buffers)


def qwen3_vl_moe(config: Config) -> Draught:
    """Qwen3VLMoeForConditionalGeneration."""
    return qwen3_vl(config, "Qwen3MoeForCausalLM")


def qwen3_5(config: Config, architecture: str = "Qwen3_5ForCausalLM") -> Draught:
    """Qwen3_5ForConditionalGeneration (Qwen3.5, 3.6, 3.8): the language part reads its own section, ties included."""
    section = text_config(config)
    if config.has("text_config") and config.has("tie_word_embeddings"):
        own = config.section("text_config").data.get("tie_word_embeddings", False)
        section = Config({**section.data, "tie_word_embeddings": own}, section.path)
    towers, buffers = qwen3_tower(part(config, "vision_config"))
    draught = language(section, architecture, positions_factor=1)
    return with_towers(draught, towers, modality=MODALITY, buffers=buffers)


def qwen3_5_moe(config: Config) -> Draught:
    """Qwen3_5MoeForConditionalGeneration."""
    return qwen3_5(config, "Qwen3_5MoeForCausalLM")


def hyperclovax_vl(config: Config) -> Draught:
    """HCXVisionV2ForCausalLM: Qwen2.5-VL's tower before HyperCLOVA X or Llama (models/hyperclovax_vision_v2.py).

    The audio and discrete encoders of its Omni checkpoints are not read by vLLM.
    """
    draught = language(text_config(config, model_type="llama"))
    vision = part(config, "vision_config")
    towers, buffers = qwen2_5_tower(vision)
    width = vision.int("out_hidden_size", default=vision.int("hidden_size", default=3584))
    projector = stage(("model", ""), plain("mm_projector", draught.facts.hidden_size, width))
    return with_towers(draught, (*towers, projector), modality=MODALITY, buffers=buffers)


def exaone4_5(config: Config) -> Draught:
    """Exaone4_5_ForConditionalGeneration (models/exaone4_5.py)."""
    section = text_config(config, outer_tie=False)
    towers, buffers = qwen2_5_tower(part(config, "vision_config"), grouped=True)
    return with_towers(language(section, "Exaone4ForCausalLM"), towers, modality=MODALITY, buffers=buffers)


def projection(config: Config) -> int | None:
    """Width of a retrieval model's projection, by whichever name it goes (models/colqwen3.py:179)."""
    names = ("embed_dim", "dims", "dim", "projection_dim", "colbert_dim")
    return config.int(*names, default=None)


def _projected(draught: Draught, width: int, *, bias: bool) -> Draught:
    # Heads of pooling models are float32 (config/model.py `_get_head_dtype`).
    item = whole(
        "custom_text_proj", width, draught.facts.hidden_size, bias=bias, dtype="float32", quantizable=False
    )
    last = replace(draught.last, items=(*draught.last.items, item))
    return replace(draught, last=last, facts=replace(draught.facts, pooling=True))


def colqwen3(config: Config) -> Draught:
    """ColQwen3, OpsColQwen3Model, Qwen3VLNemotronEmbedModel: Qwen3-VL, whose head stays, and a projection."""
    width = projection(config)
    if width is None:
        # vLLM then takes the width from the weights as it loads them.
        raise config.error("embed_dim", "is missing, so the width of the projection is not known")
    return _projected(qwen3_vl(config), width, bias=False)


def colqwen3_5(config: Config) -> Draught:
    """ColQwen3_5 (models/colqwen3_5.py), whose file has to say which way attention looks (models/config.py:996)."""
    inner = config.optional_section("text_config") or config
    stated = [one for one in (config, inner) if one.has("retrieval_attention_contract")]
    if not stated:
        raise config.error(
            "retrieval_attention_contract", "is missing; vLLM wants 'causal' or 'bidirectional'"
        )
    contract = stated[0].str("retrieval_attention_contract")
    if contract not in ("causal", "bidirectional"):
        raise config.error(
            "retrieval_attention_contract", f"is {contract[:40]!r}, not 'causal' or 'bidirectional'"
        )
    section = {**inner.data, "is_causal": contract == "causal"}
    own = {**config.data, "is_causal": contract == "causal"}
    if inner is not config:
        own["text_config"] = section
    return _projected(qwen3_5(Config(own, config.path)), projection(config) or 128, bias=True)


def jina_vl(config: Config) -> Draught:
    """JinaVLForRanking: Qwen2-VL with a scorer of two float32 layers (models/jina_vl.py:36)."""
    draught = qwen2_vl(config)
    hidden = draught.facts.hidden_size
    dense = column("score.dense", hidden, hidden, bias=True, quantizable=False)
    out = row("score.out_proj", labels(config), hidden, bias=True, quantizable=False)
    scorer = (replace(dense, dtype="float32"), replace(out, dtype="float32"))
    last = replace(draught.last, items=(*draught.last.items, *scorer))
    return replace(draught, last=last, facts=replace(draught.facts, pooling=True))


ARCHITECTURES: dict[str, Builder] = {
    "Qwen2VLForConditionalGeneration": qwen2_vl,
    "Qwen2_5_VLForConditionalGeneration": qwen2_5_vl,
    "OpenCUAForConditionalGeneration": opencua,
    "Qwen3VLForConditionalGeneration": qwen3_vl,
    "Cosmos3ForConditionalGeneration": qwen3_vl,
    "Qwen3VLMoeForConditionalGeneration": qwen3_vl_moe,
    "Qwen3_5ForConditionalGeneration": qwen3_5,
    "Exaone4_5_ForConditionalGeneration": exaone4_5,
    "HCXVisionV2ForCausalLM": hyperclovax_vl,
    "Qwen3_5MoeForConditionalGeneration": qwen3_5_moe,
    "ColQwen3": colqwen3,
    "OpsColQwen3Model": colqwen3,
    "Qwen3VLNemotronEmbedModel": colqwen3,
    "ColQwen3_5": colqwen3_5,
    "JinaVLForRanking": jina_vl,
}
