"""Llama and its many relatives: pre-norm decoder layers of grouped-query attention and one gated MLP."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    Layers,
    embedding,
    facts,
    gated_mlp,
    grouped,
    head,
    layer_types,
    norm,
    qkv,
    read_heads,
    rope_buffer,
    row,
)
from selfhost.model.modules import Block, Item


def rotary_dim(config: Config, head_dim: int) -> int:
    """Elements of a head that rotate."""
    share = config.float("partial_rotary_factor", default=1.0) if config.has("partial_rotary_factor") else None
    if share is None:
        nested = config.optional_section("rope_parameters")
        share = nested.float("partial_rotary_factor", default=1.0) if nested else 1.0
    return max(2, int(head_dim * share))


def windows(config: Config, layers: int) -> tuple[int | None, ...]:
    """The window of each layer: from `layer_types`, or one window for all where the family uses it."""
    window = config.int("sliding_window", default=None, minimum=0, maximum=1 << 32)
    types = layer_types(config, layers)
    if types is None:
        return (window or None,) * layers
    return tuple(window if kind.startswith("sliding") else None for kind in types)


def decoder(
    config: Config,
    *,
    prefix: str = "model",
    attention_bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    qk_norm: str | None = None,
    norms: int = 2,
    window: tuple[int | None, ...] | None = None,
    tied_default: bool = False,
    heads: Heads | None = None,
    intermediate: int | None = None,
) -> Draught:
    """One dense decoder.

    Args:
        qk_norm: None, "head" (one weight per head dimension) or "full" (over all heads of the rank).
        norms: norms of `hidden` elements per layer.
        window: sliding window of each layer, None for full attention.
    """
    sizes = heads or read_heads(config)
    inner = intermediate or config.int("intermediate_size")
    layers = Layers(f"{prefix}.layers")
    built: dict[int | None, tuple[Item, ...]] = {}
    each = window or (None,) * sizes.layers
    items: list[Item] = [
        qkv("self_attn.qkv_proj", sizes.hidden, sizes.heads, sizes.kv_heads, sizes.head_dim, bias=attention_bias),
        row("self_attn.o_proj", sizes.hidden, sizes.heads * sizes.head_dim, bias=output_bias),
        *gated_mlp("mlp", sizes.hidden, inner, bias=mlp_bias),
        norm("layer_norms", sizes.hidden, copies=norms),
    ]
    if qk_norm == "head":
        items.append(norm("self_attn.qk_norm", sizes.head_dim, copies=2))
    for one in each:
        built.setdefault(one, tuple(items))
        layers.add(built[one], grouped(sizes.kv_heads, sizes.head_dim, window=one))
    tied = config.bool("tie_word_embeddings", default=tied_default)
    last: tuple[Item, ...] = (norm("norm", sizes.hidden),)
    if not tied:
        last = (*last, head("lm_head", sizes.vocab, sizes.hidden))
    window_sizes = [one for one in each if one]
    return Draught(
        facts=facts(
            config, sizes, intermediate=inner, sliding_window=min(window_sizes) if window_sizes else None
        ),
        first=Block(prefixes=(prefix,), items=(embedding("embed_tokens", sizes.vocab, sizes.hidden),)),
        layers=layers.done(),
        last=Block(prefixes=("",), items=last),
        buffers=(rope_buffer(sizes.positions, rotary_dim(config, sizes.head_dim)),),
        tied=tied,
    )


def llama(config: Config) -> Draught:
    """LlamaForCausalLM: biases only where the configuration says so."""
    bias = config.bool("attention_bias", "bias", default=False)
    return decoder(
        config, attention_bias=bias, output_bias=bias, mlp_bias=config.bool("mlp_bias", default=False)
    )


def mistral(config: Config) -> Draught:
    """MistralForCausalLM: the sliding window counts where it is set."""
    sizes = read_heads(config)
    return decoder(config, window=windows(config, sizes.layers), heads=sizes)


def qwen2(config: Config) -> Draught:
    """Qwen2ForCausalLM: QKV biases; the window counts only with `use_sliding_window`."""
    return decoder(config, attention_bias=True)


def qwen3(config: Config) -> Draught:
    """Qwen3ForCausalLM: a norm per head on Q and K."""
    return decoder(config, attention_bias=config.bool("attention_bias", default=False), qk_norm="head")


ARCHITECTURES: dict[str, Builder] = {
    "LlamaForCausalLM": llama,
    "LLaMAForCausalLM": llama,
    "LlamaModel": llama,
    "InternLM3ForCausalLM": llama,
    "IQuestCoderForCausalLM": llama,
    "TeleChat3ForCausalLM": llama,
    "MistralForCausalLM": mistral,
    "MistralModel": mistral,
    "Ministral3ForCausalLM": mistral,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
}
