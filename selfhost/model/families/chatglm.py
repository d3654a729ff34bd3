"""Command-R, ChatGLM, GLM-4 dense and other decoders of one published line each."""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import Attention, FullAttention, SlidingWindow
from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._rope import table
from selfhost.model.families._stack import by_window, layer_types, layer_windows, stack
from selfhost.model.families.common import Builder, Draught, Heads, gated_mlp, norm, projections, read_heads
from selfhost.model.families.llama import decoder
from selfhost.model.modules import Buffer, Item, Vector


def cohere(config: Config) -> Draught:
    """CohereForCausalLM and Cohere2ForCausalLM: one norm per layer, the embedding is always the head.

    Command-R+ norms queries and keys per head; Command-R7B has windows on three of four layers, one token wider than
    the configuration's (models/commandr.py:234-244).
    """
    second = config.str("model_type", default="cohere") != "cohere"
    config = with_defaults(config, "cohere2" if second else "cohere")
    sizes = read_heads(config)
    positions = config.int("model_max_length", default=sizes.positions)
    inner = config.int("intermediate_size")
    norms: tuple[Item, ...] = (norm("input_layernorm", sizes.hidden),)
    if config.bool("use_qk_norm", default=False):
        norms = (
            *norms,
            Vector(name="self_attn.q_norm", units=sizes.heads, unit=sizes.head_dim, divided=True),
            Vector(name="self_attn.k_norm", units=sizes.kv_heads, unit=sizes.head_dim, divided=True),
        )
    items = (*projections(sizes), *gated_mlp("mlp", sizes.hidden, inner), *norms)
    windows: tuple[int | None, ...] = (None,) * sizes.layers
    if second:
        period = config.int("sliding_window_pattern", default=4)
        kinds = layer_types(config, sizes.layers) or tuple(
            "full_attention" if (index + 1) % period == 0 else "sliding_attention"
            for index in range(sizes.layers)
        )
        window = config.int("sliding_window")
        windows = tuple(window + 1 if kind == "sliding_attention" else None for kind in kinds)
    return stack(
        config, sizes, by_window(items, config, sizes, windows), tied=True, intermediate=inner,
        buffers=(table(config, sizes.head_dim, positions),),
    )  # fmt: skip


def chatglm(config: Config) -> Draught:
    """ChatGLMModel (ChatGLM 2 and 3, GLM-4-9B of THUDM): fused names, half of each head rotates."""
    layers = config.layers("num_layers", "num_hidden_layers")
    hidden = config.int("hidden_size")
    heads = config.int("num_attention_heads", maximum=1 << 16)
    if hidden % heads:
        raise config.error("hidden_size", f"is {hidden}, which {heads} attention heads do not divide")
    groups = heads
    if config.bool("multi_query_attention", default=False):
        groups = config.int("multi_query_group_num", default=1, maximum=1 << 16)
    if heads % groups:
        raise config.error("multi_query_group_num", f"is {groups}, which does not divide {heads} heads")
    sizes = Heads(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=groups,
        head_dim=hidden // heads,
        vocab=config.int("padded_vocab_size", "vocab_size"),
        positions=config.int("seq_length", default=2048),
    )
    inner = config.int("ffn_hidden_size")
    bias = config.bool("add_bias_linear", default=False)
    layer_norms = not config.bool("rmsnorm", default=True)
    fused = "self_attention.query_key_value"
    items = (
        *projections(
            sizes, name=fused, parts=("query_key_value",) * 3, out="dense",
            bias=bias or config.bool("add_qkv_bias", default=False), output_bias=bias,
        ),
        *gated_mlp(
            "mlp", hidden, inner, bias=bias,
            names=("dense_h_to_4h", "dense_h_to_4h", "dense_h_to_4h", "dense_4h_to_h"),
        ),
        norm("layer_norms", hidden, copies=2, bias=layer_norms),
    )  # fmt: skip
    kept = (FullAttention(kv_heads=groups, head_dim=sizes.head_dim),)
    final: tuple[Item, ...] = ()
    if config.bool("post_layer_norm", default=True):
        final = (norm("final_layernorm", hidden, bias=layer_norms),)
    return stack(
        config, sizes, lambda index: (items, kept), prefix="transformer.encoder", embed="embedding",
        final=final, head_name="output_layer", intermediate=inner,
        buffers=(Buffer(name="rotary cos/sin", elements=sizes.positions * (sizes.head_dim // 2), dtype="model"),),
    )  # fmt: skip


def glm4(config: Config) -> Draught:
    """Glm4ForCausalLM (GLM-4-0414, GLM-Z1): four norms, half of each head rotates."""
    config = with_defaults(config, "glm4")
    sizes = read_heads(config)
    return decoder(
        config, heads=sizes, attention_bias=config.bool("attention_bias", default=True), norms=4,
        window=layer_windows(config, sizes.layers),
        buffers=(table(config, sizes.head_dim, sizes.positions, share=0.5),),
    )  # fmt: skip


def _with_sinks(kept: Attention) -> Attention:
    return replace(kept, sinks=True) if isinstance(kept, (FullAttention, SlidingWindow)) else kept


def granite(config: Config) -> Draught:
    """GraniteForCausalLM and GraniteSWAForCausalLM: Llama's modules; sinks where layer types are given."""
    swa = config.str("model_type") == "granite_swa"
    config = with_defaults(config, "granite_swa" if swa else "granite")
    sizes = read_heads(config)
    bias = config.bool("attention_bias", default=False) or config.bool("bias", default=False)
    if swa and not config.has("layer_types"):
        kinds = tuple("full_attention" if i % 4 == 0 else "sliding_attention" for i in range(sizes.layers))
        config = config.replaced(layer_types=kinds)
    windows = layer_windows(config, sizes.layers)
    sinks = config.bool("attention_sinks", default=config.has("layer_types"))
    more = (Vector(name="self_attn.sinks", units=sizes.heads, divided=True),) if sinks else ()
    draught = decoder(
        config, heads=sizes, attention_bias=bias, output_bias=bias, window=windows, more=more,
        mlp_bias=config.bool("mlp_bias", default=False),
    )  # fmt: skip
    if not sinks:
        return draught
    layers = tuple(
        replace(block, keeps=tuple(_with_sinks(kept) for kept in block.keeps)) for block in draught.layers
    )
    return replace(draught, layers=layers)


ARCHITECTURES: dict[str, Builder] = {
    "CohereForCausalLM": cohere,
    "Cohere2ForCausalLM": cohere,
    "ChatGLMModel": chatglm,
    "ChatGLMForConditionalGeneration": chatglm,
    "Glm4ForCausalLM": glm4,
    "GraniteForCausalLM": granite,
    "GraniteSWAForCausalLM": granite,
}
