"""Decoders of 2019 to 2023: learned positions or ALiBi, layer norms with biases, one up projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._pooling import score, without_head
from selfhost.model.families._rope import table
from selfhost.model.families.common import Builder, Draught, Heads, norm, read_heads, whole
from selfhost.model.families.llama import Names, decoder
from selfhost.model.modules import Buffer, Embedding, Item

# The same values under GPT-2's names, which transformers maps (attribute_map).
_GPT_NAMES: Mapping[str, str] = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
}


def _renamed(config: Config, names: Mapping[str, str]) -> Config:
    """The configuration with other names of its fields; a value under the usual name wins."""
    more = {new: config.data[old] for old, new in names.items() if config.has(old) and not config.has(new)}
    return config.replaced(**more)


def gpt2(config: Config) -> Draught:
    """GPT2LMHeadModel: learned positions on every rank, biases everywhere."""
    config = _renamed(with_defaults(config, "gpt2"), _GPT_NAMES)
    sizes = read_heads(config)
    names = Names(
        prefix="transformer", layers="h", embed="wte", attention="attn",
        qkv="attn.c_attn", parts=("c_attn", "c_attn", "c_attn"), out="c_proj", plain=("c_fc", "c_proj"),
    )  # fmt: skip
    return decoder(
        config, names=names, heads=sizes, gated=False, attention_bias=True, output_bias=True, mlp_bias=True,
        norm_bias=True, intermediate=config.int("n_inner", default=4 * sizes.hidden), tied_default=True, buffers=(),
        first=(Embedding(name="wpe", rows=sizes.positions, width=sizes.hidden, divided=False),),
    )  # fmt: skip


def gpt2_classifier(config: Config) -> Draught:
    """GPT2ForSequenceClassification."""
    draught = gpt2(config)
    return without_head(draught, score(config, draught.facts.hidden_size))


def gptj(config: Config) -> Draught:
    """GPTJForCausalLM: attention and MLP share one norm; the head has a bias and is never the embedding."""
    config = _renamed(with_defaults(config, "gptj"), _GPT_NAMES)
    sizes = read_heads(config)
    rotary = config.int("rotary_dim")
    names = Names(
        prefix="transformer", layers="h", embed="wte", attention="attn", qkv="attn.qkv_proj", out="out_proj",
        plain=("fc_in", "fc_out"),
    )  # fmt: skip
    return decoder(
        config, names=names, heads=sizes, gated=False, mlp_bias=True, norms=1, norm_bias=True, head_bias=True,
        tied=False, intermediate=config.int("n_inner", default=4 * sizes.hidden),
        buffers=(Buffer(name="rotary cos/sin", elements=sizes.positions * rotary, dtype="model"),),
    )  # fmt: skip


def opt(config: Config) -> Draught:
    """OPTForCausalLM: learned positions with two rows more, an embedding that may be narrower than the model."""
    config = with_defaults(config, "opt")
    sizes = read_heads(config)
    hidden = sizes.hidden
    width = config.int("word_embed_proj_dim", default=hidden)
    bias = config.bool("enable_bias", default=True)
    affine = config.bool("layer_norm_elementwise_affine", default=True)
    before = config.bool("do_layer_norm_before", default=True)
    final_norm = before and not config.bool("_remove_final_layer_norm", default=False)
    names = Names(
        prefix="model.decoder", qkv="self_attn.qkv_proj", out="out_proj", mlp="", plain=("fc1", "fc2")
    )
    first: list[Item] = [
        Embedding(name="embed_positions", rows=sizes.positions + 2, width=hidden, divided=False)
    ]
    if width != hidden:
        first += [whole("project_out", width, hidden), whole("project_in", hidden, width)]
    draught = decoder(
        config, names=names, heads=sizes, gated=False, attention_bias=bias, output_bias=bias, mlp_bias=bias,
        norms=2 if affine else 0, norm_bias=True, intermediate=config.int("ffn_dim"), tied_default=True, buffers=(),
        first=tuple(first), final=(norm("final_layer_norm", hidden, bias=True),) if final_norm and affine else (),
    )  # fmt: skip
    return draught if width == hidden else _narrow(draught, width)


def _narrow(draught: Draught, width: int) -> Draught:
    """Token embedding and head of another width than the model."""

    def one(item: Item) -> Item:
        tokens = isinstance(item, Embedding) and (item.head or item.divided)
        return replace(item, width=width) if tokens and isinstance(item, Embedding) else item

    return replace(
        draught,
        first=replace(draught.first, items=tuple(one(item) for item in draught.first.items)),
        last=replace(draught.last, items=tuple(one(item) for item in draught.last.items)),
    )


def bloom(config: Config) -> Draught:
    """BloomForCausalLM: ALiBi, a norm behind the embedding."""
    config = with_defaults(config, "bloom")
    if not config.has("hidden_size") and config.has("n_embed"):
        config = config.replaced(hidden_size=config.data["n_embed"])
    sizes = read_heads(config)
    names = Names(
        prefix="transformer", layers="h", embed="word_embeddings", attention="self_attention",
        qkv="self_attention.query_key_value", parts=("query_key_value",) * 3, out="dense",
        plain=("dense_h_to_4h", "dense_4h_to_h"),
    )  # fmt: skip
    return decoder(
        config, names=names, heads=sizes, gated=False, attention_bias=True, output_bias=True, mlp_bias=True,
        norm_bias=True, intermediate=4 * sizes.hidden, tied_default=True, buffers=(),
        first=(norm("word_embeddings_layernorm", sizes.hidden, bias=True),),
    )  # fmt: skip


def falcon(config: Config) -> Draught:
    """FalconForCausalLM: multi-query, or groups in the new architecture; attention and MLP often side by side."""
    old = config.str("model_type") in ("RefinedWeb", "RefinedWebModel")
    config = config if old else with_defaults(config, "falcon")
    hidden = config.int("hidden_size", "n_embed")
    heads = config.int("num_attention_heads", "n_head", maximum=1 << 16)
    # vLLM takes the first Falcon-40B, which does not say so, for the new architecture (configs/falcon.py).
    new = config.bool("new_decoder_architecture", default=False) or (old and hidden == 8192)
    if new:
        kv_heads = config.int("num_kv_heads", "n_head_kv", default=1 if old else heads, maximum=1 << 16)
    else:
        kv_heads = 1 if config.bool("multi_query", default=True) else heads
    if hidden % heads:
        raise config.error("hidden_size", f"is {hidden}, which {heads} attention heads do not divide")
    if heads % kv_heads:
        raise config.error("num_kv_heads", f"is {kv_heads}, which does not divide {heads} heads")
    sizes = Heads(
        hidden=hidden, layers=config.layers(), heads=heads, kv_heads=kv_heads, head_dim=hidden // heads,
        vocab=config.int("vocab_size"),
        positions=config.int("max_position_embeddings", default=8192 if old else 2048),
    )  # fmt: skip
    parallel = config.bool("parallel_attn", default=not old)
    count = config.int("num_ln_in_parallel_attn", default=2 if new else 1)
    bias = config.bool("bias", default=False)
    names = Names(
        prefix="transformer", layers="h", embed="word_embeddings", attention="self_attention",
        qkv="self_attention.query_key_value", parts=("query_key_value",) * 3, out="dense",
        plain=("dense_h_to_4h", "dense_4h_to_h"),
    )  # fmt: skip
    rotary = () if config.bool("alibi", default=False) else (table(config, sizes.head_dim, sizes.positions),)
    return decoder(
        config, names=names, heads=sizes, gated=False, attention_bias=bias, output_bias=bias, mlp_bias=bias,
        norms=2 if not parallel or count == 2 else 1, norm_bias=True, tied_default=True, buffers=rotary,
        intermediate=config.int("ffn_hidden_size", default=4 * hidden), window=(None,) * sizes.layers,
        final=(norm("ln_f", hidden, bias=True),),
    )  # fmt: skip


def stablelm(config: Config) -> Draught:
    """StableLmForCausalLM: layer norms with biases, a quarter of each head rotates; vLLM has no `qk_layernorm`."""
    config = with_defaults(config, "stablelm")
    sizes = read_heads(config)
    return decoder(
        config, heads=sizes, attention_bias=config.bool("use_qkv_bias", default=False), norm_bias=True,
        buffers=(table(config, sizes.head_dim, sizes.positions, share=0.25),),
    )  # fmt: skip


def orion(config: Config) -> Draught:
    """OrionForCausalLM: Llama with layer norms."""
    return decoder(config, norm_bias=True)


def nemotron(config: Config) -> Draught:
    """NemotronForCausalLM (Nemotron-4, Minitron): squared ReLU without a gate, layer norms, half of a head rotates."""
    config = with_defaults(config, "nemotron")
    sizes = read_heads(config)
    bias = config.bool("attention_bias", default=False) or config.bool("bias", default=False)
    return decoder(
        config, heads=sizes, gated=False, attention_bias=bias, output_bias=bias,
        mlp_bias=config.bool("mlp_bias", default=False), norm_bias=True,
        buffers=(table(config, sizes.head_dim, sizes.positions, share=0.5),),
    )  # fmt: skip


ARCHITECTURES: dict[str, Builder] = {
    "BloomForCausalLM": bloom,
    "FalconForCausalLM": falcon,
    "GPT2LMHeadModel": gpt2,
    "GPT2ForSequenceClassification": gpt2_classifier,
    "GPTJForCausalLM": gptj,
    "NemotronForCausalLM": nemotron,
    "OPTForCausalLM": opt,
    "OrionForCausalLM": orion,
    "StableLmForCausalLM": stablelm,
}
