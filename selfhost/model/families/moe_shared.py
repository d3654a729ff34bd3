"""More mixture-of-experts decoders with grouped-query attention, each with field names of its own.

Ling, Ernie 4.5, Hunyuan, Trinity, dots, OLMoE, DBRX, Granite and Phi MoE; what they build is the same few pieces.
"""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families._stack import draft_layers, grouped, grouped_layers, layer_windows, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    experts_item,
    gated_mlp,
    norm,
    qkv,
    read_heads,
    rope_buffer,
    routed_mlp,
    router,
    row,
)
from selfhost.model.families.moe import attention
from selfhost.model.modules import Item


def _experts(config: Config, *names: str) -> int:
    return config.int(*(names or ("num_experts",)), maximum=1 << 16)


def _per_layer(config: Config, field: str, index: int, default: int) -> int:
    """A field that is one number for all layers, or a list with one for each (Hunyuan)."""
    value = config.data.get(field)
    if isinstance(value, list):
        values = config.ints(field)
        if index >= len(values):
            raise config.error(field, f"names {len(values)} layers")
        return values[index]
    return config.int(field, default=default, minimum=0)


def phi_moe(config: Config) -> Draught:
    """PhiMoEForCausalLM: layer norms with biases, biases in attention and head (models/phimoe.py)."""
    sizes = read_heads(config)
    count, inner = _experts(config, "num_local_experts"), config.int("intermediate_size")
    biased = config.bool("attention_bias", default=False)
    items = (
        *attention(sizes, bias=biased, output_bias=biased),
        norm("layer_norms", sizes.hidden, bias=True, copies=2),
        router("block_sparse_moe.gate", count, sizes.hidden),
        experts_item("block_sparse_moe.experts", count, sizes.hidden, inner, names=("w1", "w3", "w2")),
    )
    scaled = config.optional_section("rope_scaling", "rope_parameters")
    positions = sizes.positions
    if scaled is not None and scaled.has("long_factor"):
        # The longrope table holds the short and the long half (rotary_embedding/phi3_long_rope_scaled_rope.py).
        original = config.int("original_max_position_embeddings", default=positions)
        positions += scaled.int("original_max_position_embeddings", default=original)
    window = config.int("sliding_window", default=0, minimum=0) or None
    return stack(
        config, sizes, grouped_layers(sizes, lambda index: items, (window,) * sizes.layers),
        final=(norm("norm", sizes.hidden, bias=True),), tied=False,
        head_bias=config.bool("lm_head_bias", default=False), intermediate=inner,
        experts_per_token=config.int("num_experts_per_tok", default=2),
        buffers=(rope_buffer(positions, sizes.head_dim),),
    )  # fmt: skip


def granite_moe(config: Config) -> Draught:
    """GraniteMoeForCausalLM and its variant with a shared MLP."""
    sizes = read_heads(config)
    count, inner = _experts(config, "num_local_experts"), config.int("intermediate_size")
    shared = config.int("shared_intermediate_size", default=0, minimum=0)
    items: tuple[Item, ...] = (
        *attention(sizes, bias=config.bool("attention_bias", default=False)),
        norm("layer_norms", sizes.hidden, copies=2),
        router("block_sparse_moe.gate", count, sizes.hidden),
        experts_item("block_sparse_moe.experts", count, sizes.hidden, inner, names=("w1", "w3", "w2")),
    )
    if shared:
        names = ("input_linear", "input_linear", "input_linear", "output_linear")
        items = (*items, *gated_mlp("shared_mlp", sizes.hidden, shared, names=names))
    each = layer_windows(config, sizes.layers) if config.has("layer_types") else (None,) * sizes.layers
    return stack(
        config,
        sizes,
        grouped_layers(sizes, lambda index: items, each),
        tied_default=True,
        intermediate=inner,
        experts_per_token=config.int("num_experts_per_tok", default=2),
    )


def olmoe(config: Config) -> Draught:
    """OlmoeForCausalLM: norms over all heads, whole on each rank."""
    sizes = read_heads(config)
    count, inner = _experts(config), config.int("intermediate_size")
    items = (
        *attention(sizes, qk_norm="whole"),
        norm("layer_norms", sizes.hidden, copies=2),
        *routed_mlp(sizes.hidden, count, inner),
    )
    return stack(
        config, sizes, grouped_layers(sizes, lambda index: items), intermediate=inner,
        experts_per_token=config.int("num_experts_per_tok", default=8),
    )  # fmt: skip


def dbrx(config: Config) -> Draught:
    """DbrxForCausalLM: sizes in nested sections."""
    inside, mlp = config.section("attn_config"), config.section("ffn_config")
    hidden, heads = config.int("d_model"), config.int("n_heads", maximum=1 << 16)
    if hidden % heads:
        raise config.error("d_model", f"is {hidden}, which {heads} heads do not divide")
    sizes = Heads(
        hidden=hidden, layers=config.layers("n_layers"), heads=heads, kv_heads=inside.int("kv_n_heads", default=heads),
        head_dim=hidden // heads, vocab=config.int("vocab_size"), positions=config.int("max_seq_len"),
    )  # fmt: skip
    count, inner = mlp.int("moe_num_experts", maximum=1 << 16), mlp.int("ffn_hidden_size")
    items = (
        qkv("norm_attn_norm.attn.Wqkv", hidden, heads, sizes.kv_heads, sizes.head_dim),
        row("norm_attn_norm.attn.out_proj", hidden, hidden),
        norm("norms", hidden, copies=2),
        router("ffn.router.layer", count, hidden),
        experts_item("ffn.experts", count, hidden, inner, names=("w1", "v1", "w2")),
    )
    return stack(
        config, sizes, grouped_layers(sizes, lambda index: items), prefix="transformer", layers_name="blocks",
        embed="wte", final=(norm("norm_f", hidden),), tied=False, intermediate=inner,
        experts_per_token=mlp.int("moe_top_k", default=4), buffers=(rope_buffer(sizes.positions, sizes.head_dim),),
    )  # fmt: skip


def dots1(config: Config) -> Draught:
    """Dots1ForCausalLM, through vLLM's transformers backend: the correction bias is a buffer there."""
    sizes = read_heads(config)
    count, inner = _experts(config, "n_routed_experts"), config.int("moe_intermediate_size")
    dense_layers = config.int("first_k_dense_replace", default=0, minimum=0)
    shared = config.int("n_shared_experts", default=0, minimum=0, maximum=1 << 10)
    common = (
        *attention(sizes, bias=config.bool("attention_bias", default=False), qk_norm="head"),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    dense = (*common, *gated_mlp("mlp", sizes.hidden, config.int("intermediate_size")))
    sparse = (*common, *routed_mlp(sizes.hidden, count, inner, shared=inner * shared))
    each = layer_windows(config, sizes.layers) if config.has("layer_types") else (None,) * sizes.layers
    return stack(
        config, sizes, grouped_layers(sizes, lambda index: dense if index < dense_layers else sparse, each),
        intermediate=config.int("intermediate_size"),
        experts_per_token=config.int("num_experts_per_tok", default=6), buffers=(),
    )  # fmt: skip


def hunyuan_moe(config: Config) -> Draught:
    """HunYuanMoEV1ForCausalLM, through the transformers backend: one shared MLP beside the experts."""
    if config.bool("use_mla", default=False) or config.bool("use_cla", default=False):
        raise config.error("use_mla", "or `use_cla` is set, which this engine does not run")
    sizes = read_heads(config)
    count = _per_layer(config, "num_experts", 0, 1)
    inner = config.int("intermediate_size")
    biased = config.bool("attention_bias", default=False)
    items: tuple[Item, ...] = (
        *attention(sizes, bias=biased, output_bias=biased, qk_norm="head"),
        norm("layer_norms", sizes.hidden, copies=2),
        router("mlp.gate.wg", count, sizes.hidden),
        experts_item("mlp.experts", count, sizes.hidden, inner),
        *gated_mlp("mlp.shared_mlp", sizes.hidden, inner),
    )
    return stack(
        config, sizes, grouped_layers(sizes, lambda index: items), tied_default=True, intermediate=inner,
        experts_per_token=max(1, _per_layer(config, "moe_topk", 0, 1)), buffers=(),
    )  # fmt: skip


def hy_v3(config: Config) -> Draught:
    """HYV3ForCausalLM: fp32 router, a bias per expert (models/hy_v3.py)."""
    sizes = read_heads(config)
    count, inner = _experts(config), config.int("moe_intermediate_size", "expert_hidden_dim")
    dense_layers = config.int("first_k_dense_replace", default=0, minimum=0)
    shared = config.int("num_shared_experts", default=0, minimum=0, maximum=1 << 10)
    common = (
        *attention(sizes, qk_norm="head" if config.bool("qk_norm", default=True) else None),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    dense = (*common, *gated_mlp("mlp", sizes.hidden, config.int("intermediate_size")))
    corrected = config.bool("moe_router_enable_expert_bias", default=True)
    sparse = (
        *common,
        *routed_mlp(sizes.hidden, count, inner, router_dtype="float32",
                    correction="expert_bias" if corrected else None, shared=inner * shared, shared_name="shared_mlp"),
    )  # fmt: skip
    return stack(
        config, sizes, grouped_layers(sizes, lambda index: dense if index < dense_layers else sparse),
        intermediate=config.int("intermediate_size"),
        experts_per_token=config.int("num_experts_per_tok", default=8),
        draft=draft_layers(config, sizes, (sparse, (grouped(sizes.kv_heads, sizes.head_dim),))),
    )  # fmt: skip


def ernie_moe(config: Config) -> Draught:
    """Ernie4_5_MoeForCausalLM: experts between two layer numbers, fp32 router (models/ernie45_moe.py)."""
    sizes = read_heads(config)
    count, inner = _experts(config, "moe_num_experts"), config.int("moe_intermediate_size")
    shared = config.int("moe_num_shared_experts", default=0, minimum=0, maximum=1 << 10)
    start = config.int("moe_layer_start_index", default=0, minimum=0)
    end = config.data.get("moe_layer_end_index")
    stop = sizes.layers - 1 if end in (None, -1) else config.int("moe_layer_end_index", minimum=0)
    every = config.int("moe_layer_interval", default=1)
    biased = config.bool("use_bias", default=False)
    common = (*attention(sizes, bias=biased, output_bias=biased), norm("layer_norms", sizes.hidden, copies=2))
    dense = (*common, *gated_mlp("mlp", sizes.hidden, config.int("intermediate_size"), bias=biased))
    sparse = (
        *common,
        *routed_mlp(sizes.hidden, count, inner, router_dtype="float32", correction="gate.e_score_correction_bias",
                    shared=inner * shared),
    )  # fmt: skip
    return stack(
        config,
        sizes,
        grouped_layers(
            sizes, lambda index: sparse if start <= index <= stop and (index + 1) % every == 0 else dense
        ),
        tied_default=True,
        intermediate=config.int("intermediate_size"),
        experts_per_token=config.int("moe_k", default=6),
    )


def bailing_moe(config: Config) -> Draught:
    """BailingMoe (Ling lite) and BailingMoeV2 (Ling 2, Ring 2): models/bailing_moe.py."""
    sizes = read_heads(config)
    count, inner = _experts(config), config.int("moe_intermediate_size")
    shared = config.int("num_shared_experts", default=0, minimum=0, maximum=1 << 10)
    shared_size = config.int("moe_shared_expert_intermediate_size", default=inner) * shared
    dense_layers = config.int("first_k_dense_replace", default=0, minimum=0)
    biased = config.bool("use_bias", default=False)
    name = "attention"
    common: tuple[Item, ...] = (
        qkv(f"{name}.query_key_value", sizes.hidden, sizes.heads, sizes.kv_heads, sizes.head_dim,
            bias=biased or config.bool("use_qkv_bias", default=False)),
        row(f"{name}.dense", sizes.hidden, sizes.heads * sizes.head_dim, bias=biased),
        norm("layer_norms", sizes.hidden, copies=2),
    )  # fmt: skip
    if config.bool("use_qk_norm", default=False):
        # Layer norms unless `use_rmsnorm` (bailing_moe.py:111-120).
        with_bias = not config.bool("use_rmsnorm", default=False)
        common = (*common, norm(f"{name}.qk_layernorm", sizes.head_dim, copies=2, bias=with_bias))
    dense = (*common, *gated_mlp("mlp", sizes.hidden, config.int("intermediate_size"), bias=biased))
    gate_dtype = {"fp32": "float32", "bf16": "bfloat16"}.get(config.str("router_dtype", default=""))
    corrected = config.bool("moe_router_enable_expert_bias", default=False)
    sparse = (
        *common,
        *routed_mlp(sizes.hidden, count, inner, router_dtype=gate_dtype,
                    correction="gate.expert_bias" if corrected else None, shared=shared_size),
    )  # fmt: skip
    rotary = config.int("rotary_dim", default=sizes.head_dim)
    return stack(
        config, sizes, grouped_layers(sizes, lambda index: dense if index < dense_layers else sparse),
        embed="word_embeddings", intermediate=config.int("intermediate_size"),
        experts_per_token=config.int("num_experts_per_tok", default=6),
        buffers=(rope_buffer(sizes.positions, rotary),),
    )  # fmt: skip


def afmoe(config: Config) -> Draught:
    """AfmoeForCausalLM (Trinity): a gate on the attention output, four norms, an fp32 router."""
    sizes = read_heads(config)
    count, inner = _experts(config), config.int("moe_intermediate_size")
    dense_layers = config.int("num_dense_layers", default=0, minimum=0)
    shared = config.int("num_shared_experts", default=0, minimum=0, maximum=1 << 10)
    common = (
        *attention(sizes, qk_norm="head"),
        _output_gate(sizes),
        norm("layer_norms", sizes.hidden, copies=4),
    )
    dense = (*common, *gated_mlp("mlp", sizes.hidden, config.int("intermediate_size")))
    sparse = (
        *common,
        *routed_mlp(sizes.hidden, count, inner, router_dtype="float32", correction="expert_bias",
                    shared=inner * shared),
    )  # fmt: skip
    each = layer_windows(config, sizes.layers)
    return stack(
        config, sizes, grouped_layers(sizes, lambda index: dense if index < dense_layers else sparse, each),
        intermediate=config.int("intermediate_size"),
        experts_per_token=config.int("num_experts_per_tok", default=8),
    )  # fmt: skip


def _output_gate(sizes: Heads) -> Item:
    """A sigmoid gate per attention output, divided like the queries."""
    return column("self_attn.gate_proj", sizes.heads * sizes.head_dim, sizes.hidden, units=sizes.heads)


ARCHITECTURES: dict[str, Builder] = {
    "PhiMoEForCausalLM": phi_moe,
    "GraniteMoeForCausalLM": granite_moe,
    "GraniteMoeSharedForCausalLM": granite_moe,
    "GraniteMoeSWAForCausalLM": granite_moe,
    "OlmoeForCausalLM": olmoe,
    "DbrxForCausalLM": dbrx,
    "Dots1ForCausalLM": dots1,
    "HunYuanMoEV1ForCausalLM": hunyuan_moe,
    "HYV3ForCausalLM": hy_v3,
    "Ernie4_5_MoeForCausalLM": ernie_moe,
    "BailingMoeForCausalLM": bailing_moe,
    "BailingMoeV2ForCausalLM": bailing_moe,
    "AfmoeForCausalLM": afmoe,
}
