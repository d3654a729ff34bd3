"""GLM-5.3-Flash: Kimi delta attention, every fourth layer sparse latent attention, hyper-connections.

vLLM 0.32 models/glm5next/common/{model,attention,kda,multimodal}.py.
"""

from __future__ import annotations

from selfhost.attention import Attention, KimiDeltaState, LatentAttention, PoolTail, SparseIndexer
from selfhost.model.config import Config
from selfhost.model.families._stack import Layer, draft_layers, layer_types, per_layer, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    gated_mlp,
    norm,
    rope_buffer,
    routed_mlp,
    row,
    whole,
)
from selfhost.model.families.deepseek import latent_attention
from selfhost.model.families.longcat import bare
from selfhost.model.families.multimodal import conv, encoder, fused, pair, stage, with_towers
from selfhost.model.modules import Block, Buffer, Item, Matrix, Part, Vector


def _linear(config: Config) -> tuple[int, int, int]:
    """Heads, width of a head and convolution of the delta attention; `linear_attn_config` goes first."""
    inside = config.optional_section("linear_attn_config")
    given = {} if inside is None else inside.data
    section = Config(
        {
            "linear_num_heads": given.get("num_heads", config.data.get("linear_num_heads")),
            "linear_head_dim": given.get("head_dim", config.data.get("linear_head_dim")),
            "linear_conv_kernel_dim": given.get(
                "short_conv_kernel_size", config.data.get("linear_conv_kernel_dim")
            ),
        },
        config.path,
    )
    return (
        section.int("linear_num_heads", default=64, maximum=1 << 16),
        section.int("linear_head_dim", default=128),
        section.int("linear_conv_kernel_dim", default=4, maximum=1 << 10),
    )


def _bounded(config: Config) -> bool:
    """Whether the gate has a lower bound: -5 unless it is null and `safe_gate` does not ask for one."""
    inside = config.optional_section("linear_attn_config")
    if inside is None:
        return config.data.get("linear_lower_bound", -5.0) is not None
    bound = inside.data.get("gate_lower_bound", config.data.get("linear_lower_bound", -5.0))
    return bound is not None or inside.bool("safe_gate", default=True)


def _delta_attention(config: Config, hidden: int) -> tuple[Item, ...]:
    """q, k, v, step sizes and the two low-rank inputs in one matrix, the last two on every rank (kda.py:237-320).

    Never quantized, as checkpoints in fp8 leave its scales out.
    """
    heads, dim, kernel = _linear(config)
    width = heads * dim
    mixed = [Part(name=f"self_attn.{name}", units=heads, unit=dim) for name in ("q_proj", "k_proj", "v_proj")]
    mixed.append(Part(name="self_attn.b_proj", units=heads))
    mixed += [Part(name=f"self_attn.{name}", units=1, unit=dim) for name in ("f_a_proj", "g_a_proj")]
    items: tuple[Item, ...] = (
        Matrix(name="self_attn.in_proj_qkvbfg_a", parts=tuple(mixed), inputs=hidden, division="column"),
        column("self_attn.f_b_proj", width, dim, units=heads),
        column("self_attn.g_b_proj", width, dim, units=heads),
        Vector(
            name="self_attn.conv1d", units=heads, unit=dim * kernel, divided=True, dtype="float32", copies=3
        ),
        Vector(name="self_attn.dt_bias", units=heads, unit=dim, divided=True, dtype="float32"),
        Vector(name="self_attn.A_log", units=heads, divided=True, dtype="float32"),
        norm("self_attn.o_norm", dim),
        row("self_attn.o_proj", hidden, width),
    )
    return bare(items, keep=False)


def _indexer(config: Config, hidden: int) -> tuple[Item, ...]:
    """Pools of tokens share a key, which a learned gate and position weigh (attention.py:185-240)."""
    name = "self_attn.indexer"
    heads, dim = config.int("index_n_heads", default=32), config.int("index_head_dim", default=128)
    parts = (Part(name=f"{name}.wk", units=dim), Part(name=f"{name}.weights_proj", units=heads))
    return (
        Vector(name=f"{name}.index_kpool_compress_ape", units=_pool(config), unit=dim, dtype="float32"),
        Vector(name=f"{name}.index_kpool_compress_gate", units=dim, unit=hidden, dtype="bfloat16"),
        whole(f"{name}.wq_b", heads * dim, config.int("q_lora_rank"), quantizable=False),
        Matrix(
            name=f"{name}.wk_weights_proj", parts=parts, inputs=hidden, division="none", quantizable=False
        ),
        Vector(name=f"{name}.k_norm", units=dim, unit=2, dtype="float32"),
    )


def _pool(config: Config) -> int:
    return config.int("index_kpool", default=16, minimum=2, maximum=1 << 12)


def _feed(config: Config, hidden: int, *, routed: bool) -> tuple[Item, ...]:
    if not routed:
        return gated_mlp("mlp", hidden, config.int("intermediate_size"))
    count, inner = config.int("n_routed_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    shared = config.int("n_shared_experts", default=1, minimum=0, maximum=1 << 10)
    corrected = config.str("topk_method", default="noaux_tc") == "noaux_tc"
    correction = "gate.e_score_correction_bias" if corrected else None
    return routed_mlp(hidden, count, inner, correction=correction, shared=inner * shared)


def _layer_kinds(config: Config, layers: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Attention and MLP of each layer."""
    kinds = layer_types(config, layers)
    if kinds is None:
        kinds = tuple(
            "linear_attention" if index % 4 != 3 else "indexed_attention" for index in range(layers)
        )
    mlps = per_layer(config, "mlp_layer_types", layers)
    if mlps is None:
        mlps = tuple("dense" if index < 3 else "sparse" for index in range(layers))
    return kinds, mlps


def hyper_connections(hidden: int, streams: int) -> tuple[Item, ...]:
    """Mixing of the residual streams around attention and MLP, in fp32 on every rank."""
    mixed = (2 + streams) * streams
    return (
        Vector(name="hc_fn", units=mixed, unit=streams * hidden, dtype="float32", copies=2),
        Vector(name="hc_base_scale", units=mixed + 3, dtype="float32", copies=2),
    )


def glm5_next(config: Config, *, prefix: str = "model", engine_prefixes: tuple[str, ...] = ()) -> Draught:
    """Glm5NextForCausalLM, and the text section of Glm5NextForConditionalGeneration.

    Args:
        config: the text section.
        prefix: the checkpoint's prefix of the model.
        engine_prefixes: vLLM's where it differs.
    """
    hidden = config.int("hidden_size")
    heads = config.int("num_attention_heads", maximum=1 << 16)
    rope = config.int("qk_rope_head_dim", default=0, minimum=0)
    if rope:
        raise config.error("qk_rope_head_dim", f"is {rope}, but this architecture rotates nothing")
    sizes = Heads(
        hidden=hidden, layers=config.layers(), heads=heads, kv_heads=heads, head_dim=config.int("qk_nope_head_dim"),
        vocab=config.int("vocab_size"), positions=config.int("max_position_embeddings", default=1048576),
    )  # fmt: skip
    kinds, mlps = _layer_kinds(config, sizes.layers)
    if not config.has("mhc"):
        raise config.error("mhc", "is missing")
    mixing = (
        hyper_connections(hidden, config.int("hc_mult", default=4, maximum=256)) if config.bool("mhc") else ()
    )
    latent_items = latent_attention(config.replaced(qk_rope_head_dim=0), sizes)

    def build(delta: bool, routed: bool, mixed: bool) -> tuple[Item, ...]:
        attention = _delta_attention(config, hidden)
        if not delta:
            attention = (*bare(latent_items, keep=False), *_indexer(config, hidden))
        return (
            *attention,
            *_feed(config, hidden, routed=routed),
            norm("layer_norms", hidden, copies=2),
            *(mixing if mixed else ()),
        )

    items = same_items(build)
    linear_heads, linear_dim, kernel = _linear(config)
    state: tuple[Attention, ...] = (
        KimiDeltaState(
            heads=linear_heads, head_dim=linear_dim, conv_kernel=kernel,
            flash_prefill=linear_dim == 128 and _bounded(config),
        ),
    )  # fmt: skip
    index_dim = config.int("index_head_dim", default=128)
    kept: tuple[Attention, ...] = (
        LatentAttention(rank=config.int("kv_lora_rank"), rope_dim=0, nope_dim=sizes.head_dim, sparse=True),
        SparseIndexer(head_dim=index_dim, pool=_pool(config)),
        PoolTail(head_dim=index_dim, pool=_pool(config)),
    )

    def layer(index: int) -> Layer:
        delta = kinds[index] == "linear_attention"
        return items(delta, mlps[index] == "sparse", True), state if delta else kept

    drafted: Layer = (items(False, mlps[-1] == "sparse", False), kept)
    return stack(
        config, sizes, layer, prefix=prefix, engine_prefixes=engine_prefixes, buffers=(),
        intermediate=config.int("intermediate_size"), tied=False,
        draft=draft_layers(config, sizes, drafted, prefix=prefix, own_head=True),
        experts_per_token=config.int("num_experts_per_tok", default=8) if "sparse" in mlps else 0,
    )  # fmt: skip


def _tower(vision: Config, positions: int) -> tuple[tuple[Block, ...], tuple[Buffer, ...]]:
    """Glm5NextVisionTransformer (common/multimodal.py:341-460): layers, patches, downsampling, merger; all bf16."""
    width, inner = vision.int("hidden_size", default=1024), vision.int("intermediate_size", default=4096)
    heads = vision.int("num_heads", "num_attention_heads", default=16, maximum=1 << 12)
    if width % heads:
        raise vision.error("num_heads", f"is {heads}, which does not divide the width {width}")
    head_dim = width // heads
    outputs = vision.int("out_hidden_size", default=1536)
    patch, across = pair(vision, "patch_size", default=14)
    frames = vision.int("temporal_patch_size", default=2, maximum=1 << 10)
    merge = vision.int("spatial_merge_size", default=2, maximum=64)
    channels = vision.int("in_channels", default=3, maximum=64)
    layer = bare(
        (
            fused("attn.qkv", heads, head_dim, width, bias=True),
            row("attn.proj", width, width, bias=True),
            norm("attn.qk_norm", head_dim, copies=2),
            *gated_mlp("mlp", width, inner, bias=vision.bool("attention_bias", default=True)),
            norm("norms", width, copies=2),
        ),
        keep=False,
    )
    rest = bare(
        (
            conv("patch_embed.proj", width, channels * frames * patch * across, bias=True),
            conv("downsample", outputs, width * merge**2, bias=True),
            norm("post_layernorm", width),
            column("merger.proj", outputs, outputs),
            norm("merger.post_projection_norm", outputs, bias=True),
            *gated_mlp("merger", outputs, vision.int("projection_intermediate_size", default=10240)),
        ),
        keep=False,
    )
    names = ("model.visual", "visual")
    depth = vision.int("depth", default=24, maximum=4096)
    layers = encoder(tuple(f"{name}.blocks" for name in names), depth, layer)
    return (*layers, stage(names, *rest)), (rope_buffer(positions, head_dim // 2, name="rotary, vision"),)


def glm5_next_vision(config: Config) -> Draught:
    """Glm5NextForConditionalGeneration (GLM-5.3-Flash)."""
    text = config.section("text_config")
    draught = glm5_next(
        text, prefix="model.language_model", engine_prefixes=("language_model.model", "model")
    )
    vision = config.optional_section("vision_config") or Config({}, config.name("vision_config"))
    towers, buffers = _tower(vision, draught.facts.max_context_tokens)
    return with_towers(draught, towers, modality="text+image+video", buffers=buffers)


ARCHITECTURES: dict[str, Builder] = {
    "Glm5NextForCausalLM": glm5_next,
    "Glm5NextForConditionalGeneration": glm5_next_vision,
}
