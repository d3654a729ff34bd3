"""Mixtures of experts behind the transformers backend: FlexOlmo, Mellum, Solar Open; and a gpt-oss encoder.

vLLM 0.32 models/transformers/moe.py: the experts become its fused ones, the correction bias stays a buffer.
"""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import EncoderOnly
from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._pooling import labels, without_head
from selfhost.model.families._stack import Layer, attention_kind, layer_windows, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    gated_mlp,
    norm,
    projections,
    qk_norms,
    read_heads,
    routed_mlp,
    whole,
)
from selfhost.model.families.encoder import head_dtype
from selfhost.model.families.moe import gpt_oss
from selfhost.model.families.transformers_backend import frequencies
from selfhost.model.modules import Buffer, Item


def _routed(
    config: Config,
    sizes: Heads,
    *,
    qk_norm: str | None,
    inner: int,
    shared: int = 0,
    dense_layers: tuple[bool, ...] | None = None,
    bias: bool = False,
    buffers: tuple[Buffer, ...],
) -> Draught:
    """A decoder whose layers route, but for `dense_layers`."""
    count = config.int("num_experts", "n_routed_experts", "num_local_experts", maximum=1 << 16)
    common: tuple[Item, ...] = (
        *projections(sizes, bias=bias, output_bias=bias),
        norm("layer_norms", sizes.hidden, copies=2),
        *(qk_norms(sizes, qk_norm) if qk_norm else ()),
    )
    sparse = (*common, *routed_mlp(sizes.hidden, count, inner, shared=shared))
    dense: tuple[Item, ...] = ()
    if dense_layers is not None and any(dense_layers):
        dense = (*common, *gated_mlp("mlp", sizes.hidden, config.int("intermediate_size")))
    windows = layer_windows(config, sizes.layers)
    kinds = {window: (attention_kind(config, sizes, window),) for window in set(windows)}

    def layer(index: int) -> Layer:
        plain = dense_layers is not None and dense_layers[index]
        return dense if plain else sparse, kinds[windows[index]]

    return stack(
        config,
        sizes,
        layer,
        intermediate=config.int("intermediate_size", default=inner),
        experts_per_token=config.int("num_experts_per_tok"),
        buffers=buffers,
    )


def flex_olmo(config: Config) -> Draught:
    """FlexOlmoForCausalLM: OLMo 2's attention, experts of the dense size."""
    config = with_defaults(config, "flex_olmo")
    sizes = read_heads(config)
    return _routed(
        config, sizes, qk_norm="whole", inner=config.int("intermediate_size"),
        bias=config.bool("attention_bias", default=False), buffers=frequencies(config, sizes.head_dim),
    )  # fmt: skip


def mellum(config: Config) -> Draught:
    """MellumForCausalLM: Q and K norms per head, windows and dense layers by lists."""
    config = with_defaults(config, "mellum")
    sizes = read_heads(config)
    if not config.has("layer_types"):
        # MellumConfig makes every layer full where no types are given.
        config = config.replaced(layer_types=("full_attention",) * sizes.layers)
    kinds = config.strings("mlp_layer_types", default=("sparse",) * sizes.layers)
    if len(kinds) != sizes.layers or any(kind not in ("dense", "sparse") for kind in kinds):
        raise config.error("mlp_layer_types", f"should call each of {sizes.layers} layers dense or sparse")
    rotations = len(set(config.strings("layer_types")))
    return _routed(
        config, sizes, qk_norm="head", inner=config.int("moe_intermediate_size"),
        dense_layers=tuple(kind == "dense" for kind in kinds), bias=config.bool("attention_bias", default=False),
        buffers=frequencies(config, sizes.head_dim, kinds=rotations),
    )  # fmt: skip


def solar_open(config: Config) -> Draught:
    """SolarOpenForCausalLM: as DeepSeek routes, with grouped-query attention."""
    sizes = read_heads(config)
    count = config.int("n_routed_experts", maximum=1 << 16)
    inner = config.int("moe_intermediate_size")
    first = config.int("first_k_dense_replace", default=0, minimum=0)
    draught = _routed(
        config, sizes, qk_norm="head" if config.bool("use_qk_norm", default=False) else None, inner=inner,
        shared=inner * config.int("n_shared_experts", default=0, minimum=0, maximum=1 << 10),
        dense_layers=tuple(index < first for index in range(sizes.layers)),
        bias=config.bool("attention_bias", default=False), buffers=frequencies(config, sizes.head_dim),
    )  # fmt: skip
    bias = Buffer(
        name="router correction bias", elements=count * max(0, sizes.layers - first), dtype="float32"
    )  # fmt: skip
    return replace(draught, buffers=(*draught.buffers, bias))


def privacy_filter(config: Config) -> Draught:
    """OpenAIPrivacyFilterForTokenClassification: gpt-oss's layers both ways, a score per token."""
    config = with_defaults(config, "openai_privacy_filter")
    draught = gpt_oss(config)
    score = whole(
        "score",
        labels(config),
        draught.facts.hidden_size,
        bias=True,
        quantizable=False,
        dtype=head_dtype(config),
    )
    kept = (EncoderOnly(),)
    layers = tuple(replace(block, keeps=kept) for block in draught.layers)
    pooled = without_head(replace(draught, layers=layers), score)
    return replace(pooled, facts=replace(pooled.facts, encoder_only=True))


ARCHITECTURES: dict[str, Builder] = {
    "FlexOlmoForCausalLM": flex_olmo,
    "MellumForCausalLM": mellum,
    "OpenAIPrivacyFilterForTokenClassification": privacy_filter,
    "SolarOpenForCausalLM": solar_open,
}
