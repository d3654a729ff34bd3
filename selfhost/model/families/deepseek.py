"""DeepSeek and the models built like it: latent attention (MLA), dense layers first, then routed and shared experts.

DeepSeek V3.2 and GLM-5 add an indexer that picks the tokens each query reads (models/deepseek_v2.py, vLLM 0.32).
"""

from __future__ import annotations

from selfhost.attention import Attention, LatentAttention, SparseIndexer
from selfhost.model.config import Config
from selfhost.model.families._stack import Layer, draft_layers, grouped_layers, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    gated_mlp,
    norm,
    read_heads,
    rope_buffer,
    routed_mlp,
    row,
    whole,
)
from selfhost.model.families.moe import attention as grouped_attention
from selfhost.model.modules import Buffer, Item, Matrix, Part, Vector


def read_latent_heads(config: Config) -> Heads:
    """Heads of an MLA model; `head_dim` is the query's (nope + rope)."""
    heads = config.int("num_attention_heads", maximum=1 << 16)
    dim = config.int("qk_nope_head_dim") + config.int("qk_rope_head_dim")
    return Heads(
        hidden=config.int("hidden_size"),
        layers=config.layers(),
        heads=heads,
        kv_heads=heads,
        head_dim=dim,
        vocab=config.int("vocab_size"),
        positions=config.int("max_position_embeddings", default=4096),
    )


def latent_attention(config: Config, sizes: Heads, *, name: str = "self_attn") -> tuple[Item, ...]:
    """MLA projections: the A projections are whole on each rank, B and output are divided (deepseek_v2.py:953-1106)."""
    rank = config.int("kv_lora_rank")
    rope, nope = config.int("qk_rope_head_dim", minimum=0), config.int("qk_nope_head_dim")
    value = config.int("v_head_dim")
    query = config.int("q_lora_rank", default=None)
    latent = Part(name=f"{name}.kv_a_proj_with_mqa", units=rank + rope)
    items: list[Item] = []
    if query is not None:
        parts = (Part(name=f"{name}.q_a_proj", units=query), latent)
        items.append(
            Matrix(name=f"{name}.fused_qkv_a_proj", parts=parts, inputs=sizes.hidden, division="none")
        )
        items.append(norm(f"{name}.q_a_layernorm", query))
        items.append(column(f"{name}.q_b_proj", sizes.heads * (nope + rope), query, units=sizes.heads))
    else:
        items.append(Matrix(name=latent.name, parts=(latent,), inputs=sizes.hidden, division="none"))
        items.append(column(f"{name}.q_proj", sizes.heads * (nope + rope), sizes.hidden, units=sizes.heads))
    return (
        *items,
        norm(f"{name}.kv_a_layernorm", rank),
        column(f"{name}.kv_b_proj", sizes.heads * (nope + value), rank, units=sizes.heads),
        row(f"{name}.o_proj", sizes.hidden, sizes.heads * value),
    )


def indexer(config: Config, sizes: Heads, *, name: str = "self_attn.indexer") -> tuple[Item, ...]:
    """The DSA indexer: replicated, its key projection never quantized, its norm in fp32 (deepseek_v2.py:703-720)."""
    heads, dim = config.int("index_n_heads"), config.int("index_head_dim")
    parts = (Part(name=f"{name}.wk", units=dim), Part(name=f"{name}.weights_proj", units=heads))
    return (
        whole(f"{name}.wq_b", heads * dim, config.int("q_lora_rank")),
        Matrix(
            name=f"{name}.wk_weights_proj",
            parts=parts,
            inputs=sizes.hidden,
            division="none",
            quantizable=False,
        ),
        Vector(name=f"{name}.k_norm", units=dim, unit=2, dtype="float32"),
    )


def indexed_layers(config: Config, layers: int) -> tuple[bool, ...]:
    """Which layers build an indexer (deepseek_v2.py:1145-1155): all, every n-th, or as a pattern says."""
    pattern = config.data.get("index_topk_pattern")
    if pattern is not None:
        if not isinstance(pattern, str):
            raise config.error("index_topk_pattern", "should be a string")
        return tuple(not (index < len(pattern) and pattern[index] == "S") for index in range(layers))
    every = config.int("index_topk_freq", default=1, maximum=1 << 16)
    offset = config.int("index_skip_topk_offset", default=2, minimum=0)
    return tuple(max(index - offset + 1, 0) % every == 0 for index in range(layers))


def latent_buffers(config: Config, sizes: Heads, *, sparse: bool = False) -> tuple[Buffer, ...]:
    """Rotary tables over the rope part only.

    DeepSeek's yarn stretches them and keeps fp32 (rotary_embedding/deepseek_scaling_rope.py). An indexer that rotates
    otherwise has its own (deepseek_v2.py:1160).
    """
    rope = config.int("qk_rope_head_dim")
    positions, dtype = sizes.positions, None
    scaling = config.optional_section("rope_scaling", "rope_parameters")
    if scaling is not None and scaling.str("rope_type", "type", default="default") != "default":
        positions = int(
            scaling.int("original_max_position_embeddings", default=positions)
            * max(1.0, scaling.float("factor", default=1.0))
        )
        dtype = "float32"
    table = rope_buffer(positions, rope, dtype=dtype)
    return (
        (table, table) if sparse and not config.bool("indexer_rope_interleave", default=False) else (table,)
    )


def moe_items(
    config: Config, hidden: int, *, router_dtype: str | None = None, corrected: bool
) -> tuple[Item, ...]:
    """Router, routed experts and the shared expert as one MLP."""
    count = config.int("n_routed_experts", maximum=1 << 16)
    inner = config.int("moe_intermediate_size")
    shared = config.int("n_shared_experts", default=0, minimum=0, maximum=1 << 10)
    return routed_mlp(
        hidden,
        count,
        inner,
        router_dtype=router_dtype,
        correction="gate.e_score_correction_bias" if corrected else None,
        shared=inner * shared,
    )


def latent_moe(
    config: Config,
    *,
    sparse: bool,
    glm: bool = False,
    router_dtype: str | None = None,
    prefix: str = "model",
) -> Draught:
    """An MLA decoder with experts."""
    sizes = read_latent_heads(config)
    dense_size = config.int("intermediate_size")
    count = config.int("n_routed_experts", default=0, minimum=0, maximum=1 << 16)
    dense_layers = config.int("first_k_dense_replace", default=0, minimum=0)
    every = (
        config.int("moe_layer_freq", default=1)
        if not isinstance(config.data.get("moe_layer_freq"), list)
        else 1
    )
    corrected = config.str("topk_method", default="noaux_tc" if glm else "") == "noaux_tc"
    common = (*latent_attention(config, sizes), norm("layer_norms", sizes.hidden, copies=2))
    dense = (*common, *gated_mlp("mlp", sizes.hidden, dense_size))
    routed = dense
    if count:
        routed = (*common, *moe_items(config, sizes.hidden, router_dtype=router_dtype, corrected=corrected))
    latent = LatentAttention(
        rank=config.int("kv_lora_rank"),
        rope_dim=config.int("qk_rope_head_dim"),
        nope_dim=config.int("qk_nope_head_dim"),
        sparse=sparse,
        glm_dsa=glm and sparse,
    )
    keeps: dict[bool, tuple[Attention, ...]] = {False: (latent,)}
    items = {False: (dense, routed)}
    indexed = (False,) * sizes.layers
    if sparse:
        extra = indexer(config, sizes)
        keeps[True] = (latent, SparseIndexer(head_dim=config.int("index_head_dim")))
        items[True] = ((*dense, *extra), (*routed, *extra))
        indexed = indexed_layers(config, sizes.layers)

    def layer(index: int) -> Layer:
        is_routed = bool(count) and index >= dense_layers and index % every == 0
        return items[indexed[index]][is_routed], keeps[indexed[index]]

    return stack(
        config,
        sizes,
        layer,
        prefix=prefix,
        intermediate=dense_size,
        buffers=latent_buffers(config, sizes, sparse=sparse),
        experts_per_token=config.int("num_experts_per_tok", default=1) if count else 0,
        draft=draft_layers(config, sizes, (items[sparse][bool(count)], keeps[sparse]), prefix=prefix),
    )


def deepseek_v3(config: Config) -> Draught:
    """DeepSeek V2, V3, R1 and Kimi K2."""
    return latent_moe(config, sparse=config.has("index_topk"))


def deepseek_v32(config: Config) -> Draught:
    """DeepSeek V3.2: with the indexer."""
    return latent_moe(config, sparse=True)


def glm_dsa(config: Config) -> Draught:
    """GLM-5: DeepSeek V3.2's shape."""
    return latent_moe(config, sparse=config.has("index_topk"), glm=True)


def glm4_moe_lite(config: Config) -> Draught:
    """GLM-4.7-Flash: MLA with GLM-4.5's fp32 router."""
    return latent_moe(config, sparse=False, glm=True, router_dtype="float32")


def deepseek_v1(config: Config) -> Draught:
    """DeepSeek MoE 16B: grouped-query attention and DeepSeek's experts."""
    sizes = read_heads(config)
    dense_layers = config.int("first_k_dense_replace", default=0, minimum=0)
    every = config.int("moe_layer_freq", default=1)
    count = config.int("n_routed_experts", default=0, minimum=0)
    common = (*grouped_attention(sizes), norm("layer_norms", sizes.hidden, copies=2))
    dense = (*common, *gated_mlp("mlp", sizes.hidden, config.int("intermediate_size")))
    routed = (*common, *moe_items(config, sizes.hidden, corrected=False)) if count else dense
    return stack(
        config,
        sizes,
        grouped_layers(
            sizes, lambda index: routed if count and index >= dense_layers and index % every == 0 else dense
        ),
        intermediate=config.int("intermediate_size"),
        experts_per_token=config.int("num_experts_per_tok", default=1) if count else 0,
    )


ARCHITECTURES: dict[str, Builder] = {
    "DeepseekForCausalLM": deepseek_v1,
    "DeepseekV2ForCausalLM": deepseek_v3,
    "DeepseekV3ForCausalLM": deepseek_v3,
    "DeepseekV32ForCausalLM": deepseek_v32,
    "GlmMoeDsaForCausalLM": glm_dsa,
    "Glm4MoeLiteForCausalLM": glm4_moe_lite,
}
