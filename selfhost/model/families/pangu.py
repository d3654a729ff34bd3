"""openPangu's mixtures of experts: Ultra with latent attention, Pro V2 with learned sink tokens.

vLLM 0.32 models/openpangu.py.
"""

from __future__ import annotations

from selfhost.attention import Attention, FullAttention, LatentAttention
from selfhost.model.config import Config
from selfhost.model.families._stack import attention_kind, draft_layers, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    gated_mlp,
    norm,
    projections,
    read_heads,
    rope_buffer,
    routed_mlp,
    row,
)
from selfhost.model.families.deepseek import latent_attention, read_latent_heads
from selfhost.model.modules import Buffer, Item, Matrix, Part, Vector

_LATENT = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank")


def _experts(config: Config, hidden: int) -> tuple[Item, ...]:
    count, inner = config.int("n_routed_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    shared = config.int("n_shared_experts", default=0, minimum=0, maximum=1 << 10)
    corrected = config.bool("router_enable_expert_bias", default=False)
    correction = "gate.e_score_correction_bias" if corrected else None
    return routed_mlp(hidden, count, inner, correction=correction, shared=inner * shared)


def _sink_sizes(config: Config) -> Heads:
    heads = config.int("num_attention_heads", maximum=1 << 16)
    return Heads(
        hidden=config.int("hidden_size"),
        layers=config.layers(),
        heads=heads,
        kv_heads=config.int("num_key_value_heads", default=heads, maximum=1 << 16),
        head_dim=config.int("qk_nope_dim") + config.int("qk_rope_dim"),
        vocab=config.int("vocab_size"),
        positions=config.int("max_position_embeddings", default=8192),
    )


def _sink_attention(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """Keys and values narrower than usual, a norm on keys, sink tokens as parameters.

    The fused projection divides by rank like any column: KV heads cannot be replicated (openpangu.py:520-535).
    """
    value, sinks = config.int("v_channels"), config.int("param_sink_number")
    biased = config.bool("attention_bias", default=False) or config.bool("bias", default=False)
    parts = tuple(
        Part(name=f"self_attn.{name}", units=units)
        for name, units in (
            ("q_proj", sizes.heads * sizes.head_dim),
            ("k_proj", sizes.kv_heads * sizes.head_dim),
            ("v_proj", sizes.kv_heads * value),
        )
    )
    width = sizes.head_dim
    if config.bool("param_sink_with_value", default=False):
        width += value
    return (
        Matrix(name="self_attn.qkv_proj", parts=parts, inputs=sizes.hidden, division="column",
               bias=config.bool("qkv_bias", default=biased)),
        row("self_attn.o_proj", sizes.hidden, sizes.heads * value, bias=biased),
        norm("self_attn.k_layernorm", sizes.head_dim),
        Vector(name="self_attn.param_sinks", units=sizes.kv_heads, unit=sinks * width, divided=True),
    )  # fmt: skip


def _attention(config: Config) -> tuple[Heads, tuple[Item, ...], Attention, tuple[Buffer, ...]]:
    """What vLLM chooses by the fields that are there (openpangu.py:783-870)."""
    if all(config.has(field) for field in _LATENT):
        sizes = read_latent_heads(config)
        latent = LatentAttention(
            rank=config.int("kv_lora_rank"),
            rope_dim=config.int("qk_rope_head_dim"),
            nope_dim=config.int("qk_nope_head_dim"),
        )
        # A yarn of factor 1, which DeepSeek's class computes and keeps in fp32.
        buffer = rope_buffer(sizes.positions, config.int("qk_rope_head_dim"), dtype="float32")
        return sizes, latent_attention(config, sizes), latent, (buffer,)
    if config.int("param_sink_number", default=0, minimum=0):
        sizes = _sink_sizes(config)
        # Sinks take the first blocks of the pool; windows are kept whole (StaticSinkAttention.get_kv_cache_spec).
        kept = FullAttention(
            kv_heads=sizes.kv_heads, head_dim=sizes.head_dim, value_dim=config.int("v_channels")
        )
        items = _sink_attention(config, sizes)
        buffers = [rope_buffer(sizes.positions, config.int("qk_rope_dim"))]
        if not config.bool("param_sink_with_value", default=False):
            elements = (
                config.int("param_sink_number") * sizes.kv_heads * config.int("v_channels") * sizes.layers
            )
            buffers.append(Buffer(name="sink values", elements=elements, dtype="model", divided=True))
        return sizes, items, kept, tuple(buffers)

    sizes = read_heads(config)
    biased = config.bool("attention_bias", default=False) or config.bool("bias", default=False)
    items = projections(sizes, bias=config.bool("qkv_bias", default=biased), output_bias=biased)
    return sizes, items, attention_kind(config, sizes, None), (rope_buffer(sizes.positions, sizes.head_dim),)


def pangu_moe(config: Config) -> Draught:
    """PanguUltraMoEForCausalLM and PanguProMoEV2ForCausalLM."""
    sizes, attention, kept, buffers = _attention(config)
    inner = config.int("intermediate_size")
    norms = 4 if config.bool("sandwich_norm", default=False) else 2
    common = (*attention, norm("layer_norms", sizes.hidden, copies=norms))
    dense = (*common, *gated_mlp("mlp", sizes.hidden, inner, bias=config.bool("mlp_bias", default=False)))
    routed_from = sizes.layers
    routed = dense
    if config.has("n_routed_experts"):
        routed_from = config.int("first_k_dense_replace", minimum=0)
        routed = (*common, *_experts(config, sizes.hidden))
    is_routed = routed_from < sizes.layers
    return stack(
        config,
        sizes,
        lambda index: (routed if index >= routed_from else dense, (kept,)),
        intermediate=inner,
        buffers=buffers,
        draft=draft_layers(config, sizes, (routed, (kept,))),
        experts_per_token=config.int("num_experts_per_tok", default=8) if is_routed else 0,
    )


ARCHITECTURES: dict[str, Builder] = {
    "PanguUltraMoEForCausalLM": pangu_moe,
    "PanguProMoEV2ForCausalLM": pangu_moe,
}
