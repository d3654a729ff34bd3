"""Models that vLLM runs through transformers' own code: it fuses QKV and gated MLPs, and divides what the model plans.

The modules are those of transformers 5.19; rotary tables are computed as they are needed, so only frequencies are kept
(vLLM 0.32 models/transformers/base.py `recursive_replace`, `_create_attention_instances`).
"""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families._base_models import BASE_MODELS
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._pooling import score, without_head
from selfhost.model.families._rope import parameters, rotary_elements
from selfhost.model.families._stack import attention_kind, cache_window, layer_windows, stack
from selfhost.model.families.common import Builder, Draught, Heads, norm, projections, read_heads, whole
from selfhost.model.families.llama import Names, decoder
from selfhost.model.modules import Buffer, Embedding, Item


def frequencies(config: Config, head_dim: int, *, kinds: int = 1, share: float = 1.0) -> tuple[Buffer, ...]:
    """The inverse frequencies and their original copy, per layer type that rotates differently."""
    width = rotary_elements(parameters(config), head_dim, share=share)
    return (Buffer(name="rotary frequencies", elements=kinds * 2 * (width // 2), dtype="float32"),)


def _patterned(config: Config, layers: int, full: object) -> Config:
    """`layer_types` filled in where absent; `full(index)` says which layers see everything."""
    if config.has("layer_types"):
        return config
    kinds = tuple("full_attention" if full(i) else "sliding_attention" for i in range(layers))  # type: ignore[operator]
    return config.replaced(layer_types=kinds)


def arcee(config: Config) -> Draught:
    """ArceeForCausalLM: Llama with a squared ReLU instead of a gate."""
    config = with_defaults(config, "arcee")
    sizes = read_heads(config)
    bias = config.bool("attention_bias", default=False)
    return decoder(
        config, heads=sizes, gated=False, attention_bias=bias, output_bias=bias,
        mlp_bias=config.bool("mlp_bias", default=False), buffers=frequencies(config, sizes.head_dim),
    )  # fmt: skip


def cwm(config: Config) -> Draught:
    """CwmForCausalLM: Llama, every fourth layer full from the first on."""
    config = with_defaults(config, "cwm")
    sizes = read_heads(config)
    config = _patterned(config, sizes.layers, lambda index: index % 4 == 0)
    return decoder(
        config, heads=sizes, mlp_bias=config.bool("mlp_bias", default=False),
        buffers=frequencies(config, sizes.head_dim),
    )  # fmt: skip


def glm(config: Config) -> Draught:
    """GlmForCausalLM (GLM-4-9B in transformers' form): gate and up stored fused."""
    config = with_defaults(config, "glm")
    sizes = read_heads(config)
    names = Names(gated=("gate_up_proj", "gate_up_proj", "gate_up_proj", "down_proj"))
    return decoder(
        config, names=names, heads=sizes, attention_bias=config.bool("attention_bias", default=True),
        buffers=frequencies(config, sizes.head_dim, share=0.5),
    )  # fmt: skip


def gpt_bigcode(config: Config) -> Draught:
    """GPTBigCodeForCausalLM (StarCoder, SantaCoder): one KV head, MLPs that every rank holds whole."""
    names = {
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
    }
    config = with_defaults(config, "gpt_bigcode")
    more = {new: config.data[old] for old, new in names.items() if config.has(old) and not config.has(new)}
    config = config.replaced(**more)
    read = read_heads(config.replaced(num_key_value_heads=None))
    sizes = replace(read, kv_heads=1 if config.bool("multi_query", default=True) else read.heads)
    hidden = sizes.hidden
    inner = config.int("n_inner", default=4 * hidden)
    items: tuple[Item, ...] = (
        *projections(
            sizes, name="attn.c_attn", parts=("c_attn",) * 3, out="c_proj", bias=True, output_bias=True
        ),
        whole("mlp.c_fc", inner, hidden, bias=True),
        whole("mlp.c_proj", hidden, inner, bias=True),
        norm("layer_norms", hidden, copies=2, bias=True),
    )
    kept = (attention_kind(config, sizes, None),)
    return stack(
        config, sizes, lambda index: (items, kept), prefix="transformer", engine_prefixes=("model",), layers_name="h",
        embed="wte", first=(Embedding(name="wpe", rows=sizes.positions, width=hidden, divided=False),),
        final=(norm("ln_f", hidden, bias=True),), tied_default=True, intermediate=inner,
        buffers=(Buffer(name="causal mask", elements=sizes.positions * sizes.positions, dtype="uint8"),),
    )  # fmt: skip


def gpt_neox(config: Config) -> Draught:
    """GPTNeoXForCausalLM (Pythia, GPT-NeoX-20B): layer norms and biases, a quarter of each head rotates."""
    config = with_defaults(config, "gpt_neox")
    sizes = read_heads(config.replaced(num_key_value_heads=None))
    bias = config.bool("attention_bias", default=True)
    names = Names(
        prefix="gpt_neox", embed="embed_in", head="embed_out", attention="attention",
        qkv="attention.query_key_value", parts=("query_key_value",) * 3, out="dense",
        plain=("dense_h_to_4h", "dense_4h_to_h"),
    )  # fmt: skip
    return decoder(
        config, names=names, heads=sizes, gated=False, attention_bias=bias, output_bias=bias, mlp_bias=True,
        norm_bias=True, buffers=frequencies(config, sizes.head_dim, share=0.25),
    )  # fmt: skip


def hunyuan(config: Config) -> Draught:
    """HunYuanDenseV1ForCausalLM: Llama with Q and K norms per head."""
    config = with_defaults(config, "hunyuan_v1_dense")
    sizes = read_heads(config)
    bias = config.bool("attention_bias", default=False)
    return decoder(
        config, heads=sizes, attention_bias=bias, output_bias=bias, qk_norm="head",
        buffers=frequencies(config, sizes.head_dim),
    )  # fmt: skip


def jais2(config: Config) -> Draught:
    """Jais2ForCausalLM: layer norms, biases, a squared ReLU."""
    config = with_defaults(config, "jais2")
    sizes = read_heads(config)
    bias = config.bool("attention_bias", default=True)
    return decoder(
        config, heads=sizes, gated=False, attention_bias=bias, output_bias=bias,
        mlp_bias=config.bool("mlp_bias", default=True), norm_bias=True, buffers=frequencies(config, sizes.head_dim),
    )  # fmt: skip


def olmo(config: Config) -> Draught:
    """OlmoForCausalLM: norms without weights."""
    config = with_defaults(config, "olmo")
    sizes = read_heads(config)
    bias = config.bool("attention_bias", default=False)
    return decoder(
        config, heads=sizes, attention_bias=bias, output_bias=bias, norms=0, final=(),
        buffers=frequencies(config, sizes.head_dim),
    )  # fmt: skip


def olmo2(config: Config) -> Draught:
    """Olmo2ForCausalLM and Olmo3ForCausalLM: norms behind each part, Q and K normed over all heads on every rank."""
    third = config.str("model_type") == "olmo3"
    config = with_defaults(config, "olmo3" if third else "olmo2")
    sizes = read_heads(config)
    if third:
        config = _patterned(config, sizes.layers, lambda index: (index + 1) % 4 == 0)
    bias = config.bool("attention_bias", default=False)
    return decoder(
        config, heads=sizes, attention_bias=bias, output_bias=bias, qk_norm="whole",
        buffers=frequencies(config, sizes.head_dim, kinds=2 if third else 1),
    )  # fmt: skip


def phi(config: Config) -> Draught:
    """PhiForCausalLM (Phi 1 and 2): biases everywhere, attention and MLP behind one norm."""
    config = with_defaults(config, "phi")
    sizes = read_heads(config)
    names = Names(out="dense", plain=("fc1", "fc2"))
    more: tuple[Item, ...] = ()
    if config.bool("qk_layernorm", default=False):
        more = (norm("self_attn.qk_layernorm", sizes.head_dim, bias=True, copies=2),)
    return decoder(
        config, names=names, heads=sizes, gated=False, attention_bias=True, output_bias=True, mlp_bias=True, norms=1,
        norm_bias=True, more=more, buffers=frequencies(config, sizes.head_dim, share=0.5),
    )  # fmt: skip


def seed_oss(config: Config) -> Draught:
    """SeedOssForCausalLM: Llama with QKV biases."""
    config = with_defaults(config, "seed_oss")
    sizes = read_heads(config)
    return decoder(
        config, heads=sizes, attention_bias=config.bool("attention_bias", default=True),
        output_bias=config.bool("attention_out_bias", default=False), mlp_bias=config.bool("mlp_bias", default=False),
        buffers=frequencies(config, sizes.head_dim),
    )  # fmt: skip


def smollm3(config: Config) -> Draught:
    """SmolLM3ForCausalLM: every fourth layer without positions."""
    config = with_defaults(config, "smollm3")
    sizes = read_heads(config)
    bias = config.bool("attention_bias", default=False)
    if not config.bool("use_sliding_window", default=False):
        config = config.replaced(sliding_window=None)
    return decoder(
        config, heads=sizes, attention_bias=bias, output_bias=bias, mlp_bias=config.bool("mlp_bias", default=False),
        tied_default=True, buffers=frequencies(config, sizes.head_dim),
        window=(None,) * sizes.layers if cache_window(config) is None else layer_windows(config, sizes.layers),
    )  # fmt: skip


def starcoder2(config: Config) -> Draught:
    """Starcoder2ForCausalLM: layer norms, biases, a plain MLP, often one window for all layers."""
    config = with_defaults(config, "starcoder2")
    sizes = read_heads(config)
    bias = config.bool("use_bias", default=True)
    return decoder(
        config, names=Names(plain=("c_fc", "c_proj")), heads=sizes, gated=False, attention_bias=bias,
        output_bias=bias, mlp_bias=bias, norm_bias=True, tied_default=True,
        buffers=frequencies(config, sizes.head_dim),
    )  # fmt: skip


def vault_gemma(config: Config) -> Draught:
    """VaultGemmaForCausalLM: Gemma 2 with two norms per layer."""
    config = with_defaults(config, "vaultgemma")
    sizes = read_heads(config)
    config = _patterned(config, sizes.layers, lambda index: (index + 1) % 2 == 0)
    bias = config.bool("attention_bias", default=False)
    return decoder(
        config, heads=sizes, attention_bias=bias, output_bias=bias, tied_default=True,
        buffers=frequencies(config, sizes.head_dim),
    )  # fmt: skip


def _by_model_type(config: Config) -> tuple[Builder, Config]:
    """The family of the configuration's model type, whose modules transformers' code has as well."""
    from selfhost.model.families import builder

    base = BASE_MODELS.get(config.str("model_type"), "")
    name = base.removesuffix("Model") + "ForCausalLM"
    found = builder(name) if base else None
    if found is None:
        raise config.error("model_type", "is not one that selfhost knows behind vLLM's transformers backend")
    return found, config.replaced(architectures=[name])


def generic(config: Config) -> Draught:
    """TransformersForCausalLM: the modules of the model type, rotary frequencies instead of tables."""
    build, given = _by_model_type(config)
    draught = build(given)
    sizes: Heads = read_heads(given)
    return replace(draught, buffers=frequencies(given, sizes.head_dim))


def generic_embedding(config: Config) -> Draught:
    """TransformersEmbeddingModel."""
    return without_head(generic(config))


def generic_classifier(config: Config) -> Draught:
    """TransformersForSequenceClassification."""
    draught = generic(config)
    return without_head(draught, score(config, draught.facts.hidden_size))


ARCHITECTURES: dict[str, Builder] = {
    "ArceeForCausalLM": arcee,
    "CwmForCausalLM": cwm,
    "GlmForCausalLM": glm,
    "GPTBigCodeForCausalLM": gpt_bigcode,
    "GPTNeoXForCausalLM": gpt_neox,
    "HunYuanDenseV1ForCausalLM": hunyuan,
    "Jais2ForCausalLM": jais2,
    "OlmoForCausalLM": olmo,
    "Olmo2ForCausalLM": olmo2,
    "Olmo3ForCausalLM": olmo2,
    "PhiForCausalLM": phi,
    "SeedOssForCausalLM": seed_oss,
    "SmolLM3ForCausalLM": smollm3,
    "Starcoder2ForCausalLM": starcoder2,
    "TransformersEmbeddingModel": generic_embedding,
    "TransformersForCausalLM": generic,
    "TransformersForSequenceClassification": generic_classifier,
    "TransformersMoEEmbeddingModel": generic_embedding,
    "TransformersMoEForCausalLM": generic,
    "TransformersMoEForSequenceClassification": generic_classifier,
    "VaultGemmaForCausalLM": vault_gemma,
}
