"""Dense decoders that are Llama with small changes: other names, extra norms, missing parts, windows."""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import FullAttention, SlidingWindow
from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._pooling import without_head
from selfhost.model.families._rope import table, tables
from selfhost.model.families._stack import Layer, attention_kind, layer_windows, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    gated_mlp,
    norm,
    projections,
    read_heads,
    row,
    whole,
)
from selfhost.model.families.llama import Names, biases, decoder
from selfhost.model.modules import Item, Matrix, Part, Vector


def exaone(config: Config) -> Draught:
    """ExaoneForCausalLM (EXAONE 3): Llama under other names."""
    data = dict(config.data)
    for old, new in (("num_layers", "num_hidden_layers"), ("layer_norm_epsilon", "rms_norm_eps")):
        data.setdefault(new, data.get(old))
    config = Config(data, config.path)
    bias = config.bool("attention_bias", default=False) or config.bool("bias", default=False)
    names = Names(
        prefix="transformer", layers="h", embed="wte", attention="attn.attention",
        qkv="attn.attention.qkv_proj", out="out_proj", gated=("gate_up_proj", "c_fc_0", "c_fc_1", "c_proj"),
    )  # fmt: skip
    return decoder(
        config,
        names=names,
        attention_bias=bias,
        output_bias=bias,
        mlp_bias=config.bool("mlp_bias", default=False),
    )


def exaone4_windows(config: Config, layers: int) -> tuple[int | None, ...]:
    """EXAONE 4's windows: by `layer_types`, else every `sliding_window_pattern`-th layer is full."""
    window = config.int("sliding_window", default=0, minimum=0) or None
    if config.has("layer_types"):
        return layer_windows(config, layers)
    if window is None:
        return (None,) * layers
    period = config.int("sliding_window_pattern", default=4)
    return tuple(window if (index + 1) % period else None for index in range(layers))


def exaone4(config: Config) -> Draught:
    """Exaone4ForCausalLM: norms behind attention and MLP, Q and K norms per head."""
    config = with_defaults(config, "exaone4")
    sizes = read_heads(config)
    bias = config.bool("attention_bias", default=False) or config.bool("bias", default=False)
    return decoder(
        config, heads=sizes, attention_bias=bias, output_bias=bias, mlp_bias=config.bool("mlp_bias", default=False),
        qk_norm="head", window=exaone4_windows(config, sizes.layers),
    )  # fmt: skip


def internlm2(config: Config) -> Draught:
    """InternLM2ForCausalLM: Llama with a fused wqkv and other names."""
    names = Names(
        embed="tok_embeddings", head="output", attention="attention", qkv="attention.wqkv", parts=("wqkv",) * 3,
        out="wo", mlp="feed_forward", gated=("gate_up_proj", "w1", "w3", "w2"),
    )  # fmt: skip
    return decoder(config, names=names)


def internlm2_reward(config: Config) -> Draught:
    """InternLM2ForRewardModel: one value instead of the head."""
    draught = internlm2(config)
    hidden = draught.facts.hidden_size
    dtype = None if config.str("head_dtype", default="") == "model" else "float32"
    value = Matrix(
        name="v_head", parts=(Part(name="v_head", units=1),), inputs=hidden, division="row", quantizable=False,
        dtype=dtype,
    )  # fmt: skip
    return without_head(draught, value)


def minicpm(config: Config) -> Draught:
    """MiniCPMForCausalLM: Llama with scaled residuals."""
    if config.int("num_experts", default=0, minimum=0):
        raise config.error("num_experts", "is set; MiniCPM's mixture of experts is not known to selfhost")
    return decoder(config, tied_default=True)


def minicpm3(config: Config) -> Draught:
    """MiniCPM3ForCausalLM: low-rank projections, but plain keys and values cached (models/minicpm3.py:116-134)."""
    config = with_defaults(config, "minicpm3")
    read = read_heads(config, head_dim=1)
    nope, rope = config.int("qk_nope_head_dim"), config.int("qk_rope_head_dim")
    value = config.int("v_head_dim", default=read.hidden // read.heads)
    query_rank, rank = config.int("q_lora_rank"), config.int("kv_lora_rank")
    sizes = replace(read, kv_heads=read.heads, head_dim=nope + rope)
    hidden, heads = sizes.hidden, sizes.heads
    inner = config.int("intermediate_size")
    items: tuple[Item, ...] = (
        whole("self_attn.q_a_proj", query_rank, hidden),
        norm("self_attn.q_a_layernorm", query_rank),
        column("self_attn.q_b_proj", heads * (nope + rope), query_rank, units=heads),
        whole("self_attn.kv_a_proj_with_mqa", rank + rope, hidden),
        norm("self_attn.kv_a_layernorm", rank),
        column("self_attn.kv_b_proj", heads * (nope + value), rank, units=heads),
        row("self_attn.o_proj", hidden, heads * value),
        *gated_mlp("mlp", hidden, inner),
        norm("layer_norms", hidden, copies=2),
    )
    kept = (FullAttention(kv_heads=heads, head_dim=sizes.head_dim),)
    return stack(
        config, sizes, lambda index: (items, kept), tied_default=True, intermediate=inner,
        buffers=(table(config, rope, sizes.positions),),
    )  # fmt: skip


def deci(config: Config) -> Draught:
    """DeciLMForCausalLM (Nemotron NAS): each layer has its own KV heads and MLP, or lacks them."""
    read = read_heads(config.replaced(num_key_value_heads=None))
    blocks = tuple(config.sections("block_configs"))
    if len(blocks) != read.layers:
        raise config.error("block_configs", f"describes {len(blocks)} layers, but there are {read.layers}")
    qkv_bias, out_bias = biases(config)
    mlp_bias = config.bool("mlp_bias", default=False)

    def build(groups: int, inner: int) -> tuple[Item, ...]:
        items: list[Item] = []
        if groups:
            sizes = replace(read, kv_heads=read.heads // groups)
            items += [
                *projections(sizes, bias=qkv_bias, output_bias=out_bias),
                norm("input_layernorm", read.hidden),
            ]
        if inner:
            items += [
                *gated_mlp("mlp", read.hidden, inner, bias=mlp_bias),
                norm("post_attention_layernorm", read.hidden),
            ]
        return tuple(items)

    built = same_items(build)
    plan = [(_deci_groups(block, read), _deci_inner(block, read.hidden)) for block in blocks]

    def layer(index: int) -> Layer:
        groups, inner = plan[index]
        keeps = (
            (attention_kind(config, replace(read, kv_heads=read.heads // groups), None),) if groups else ()
        )
        return built(groups, inner), keeps

    most = max((read.heads // groups for groups, _ in plan if groups), default=1)
    return stack(
        config,
        replace(read, kv_heads=most),
        layer,
        intermediate=max((inner for _, inner in plan), default=1) or 1,
    )


def _deci_groups(block: Config, sizes: Heads) -> int:
    """Query heads per KV head, 0 for a layer without attention."""
    attention = block.section("attention")
    if attention.bool("no_op", default=False):
        return 0
    if attention.bool("replace_with_linear", default=False):
        raise attention.error("replace_with_linear", "is true, which vLLM does not run")
    groups = attention.int("n_heads_in_group", maximum=1 << 16)
    if sizes.heads % groups:
        raise attention.error("n_heads_in_group", f"is {groups}, which does not divide {sizes.heads} heads")
    return groups


def _deci_inner(block: Config, hidden: int) -> int:
    """Width of the MLP, 0 for a layer without one (models/nemotron_nas.py:60-72)."""
    mlp = block.section("ffn")
    if mlp.bool("no_op", default=False):
        return 0
    if mlp.bool("replace_with_linear", default=False):
        raise mlp.error("replace_with_linear", "is true, which vLLM does not run")
    if not mlp.has("ffn_mult"):
        return mlp.int("intermediate_size")
    size = int(2 * mlp.float("ffn_mult", default=1.0) * hidden / 3)
    if size < 1:
        raise mlp.error("ffn_mult", "leaves no MLP")
    return -(-size // 256) * 256


def solar(config: Config) -> Draught:
    """SolarForCausalLM: Llama with skip connections."""
    bias = config.bool("attention_bias", default=False) or config.bool("bias", default=False)
    return decoder(
        config, attention_bias=bias, output_bias=bias, mlp_bias=config.bool("mlp_bias", default=False)
    )


def telechat2(config: Config) -> Draught:
    """TeleChat2ForCausalLM: biases on the output and the down projection only (models/telechat2.py:45-79)."""
    data = dict(config.data)
    for old, new in (
        ("n_layer", "num_hidden_layers"),
        ("n_head", "num_attention_heads"),
        ("ffn_hidden_size", "intermediate_size"),
    ):
        data.setdefault(new, data.get(old))
    data.setdefault("max_position_embeddings", data.get("seq_length"))
    config = Config(data, config.path)
    sizes = read_heads(config)
    inner = config.int("intermediate_size")
    names = Names(
        prefix="transformer",
        layers="h",
        embed="word_embeddings",
        attention="self_attention",
        qkv="self_attention.qkv_proj",
        parts=("query", "key_value", "key_value"),
        out="dense",
    )
    more = (Vector(name="mlp.down_proj.bias", units=sizes.hidden),)
    return decoder(config, names=names, heads=sizes, intermediate=inner, output_bias=True, more=more)


def apertus(config: Config) -> Draught:
    """ApertusForCausalLM: xIELU without a gate (two numbers per layer), Q and K norms per head."""
    config = with_defaults(config, "apertus")
    qkv, out = biases(config)
    return decoder(
        config, gated=False, attention_bias=qkv, output_bias=out, mlp_bias=config.bool("mlp_bias", default=False),
        qk_norm="head", more=(Vector(name="mlp.act_fn.alpha", units=2),),
    )  # fmt: skip


def ernie(config: Config) -> Draught:
    """Ernie4_5ForCausalLM: Llama whose output projection has no bias (models/ernie45.py:46-53)."""
    config = with_defaults(config, "ernie4_5")
    qkv, _ = biases(config)
    return decoder(
        config, attention_bias=qkv, mlp_bias=config.bool("mlp_bias", default=False), tied_default=True
    )


def hyperclovax(config: Config) -> Draught:
    """HyperCLOVAXForCausalLM: Llama, with a second norm behind each part (`use_post_norm`)."""
    config = with_defaults(config, "hyperclovax")
    bias = config.bool("attention_bias", default=False)
    return decoder(
        config, attention_bias=bias, output_bias=bias, mlp_bias=config.bool("mlp_bias", default=False),
        norms=4 if config.bool("use_post_norm", default=False) else 2,
    )  # fmt: skip


def step1(config: Config) -> Draught:
    """Step1ForCausalLM: ALiBi, few KV groups, tied unless it says otherwise."""
    groups = config.int("num_attention_groups", "num_key_value_heads", default=1, maximum=1 << 16)
    config = config.replaced(num_key_value_heads=groups, head_dim=None)
    bias = config.bool("attention_bias", default=False)
    return decoder(
        config, attention_bias=bias, output_bias=bias, mlp_bias=config.bool("mlp_bias", default=False),
        tied_default=True, buffers=(),
    )  # fmt: skip


def pangu(config: Config) -> Draught:
    """PanguEmbeddedForCausalLM: Llama with biases, optionally norms on both sides and an interleaved window."""
    qkv, out = biases(config)
    layers = config.layers()
    window: tuple[int | None, ...] = (None,) * layers
    given = config.data.get("interleaved_sliding_window")
    if isinstance(given, (list, tuple)) and given:
        sizes = config.ints("interleaved_sliding_window", minimum=1)
        window = tuple(sizes[index % len(sizes)] for index in range(layers))
    elif given is not None:
        window = (config.int("interleaved_sliding_window"),) * layers
    elif config.has("sliding_window"):
        window = layer_windows(config, layers)
    if config.int("param_sink_number", default=0, minimum=0):
        raise config.error("param_sink_number", "is set; Pangu's sink attention is not known to selfhost")
    return decoder(
        config, attention_bias=qkv, output_bias=out, mlp_bias=config.bool("mlp_bias", default=False), window=window,
        norms=4 if config.bool("sandwich_norm", default=False) else 2,
    )  # fmt: skip


def rnj1(config: Config) -> Draught:
    """Rnj1ForCausalLM: Gemma's four norms and Q and K norms; chunked layers look back one chunk, kept as a window."""
    config = with_defaults(config, "gemma3_text")
    sizes = read_heads(config)
    kinds = config.strings("layer_types", default=())
    if len(kinds) < sizes.layers:
        raise config.error("layer_types", f"names {len(kinds)} layers, but there are {sizes.layers}")
    window = config.int("sliding_window")
    bias = config.bool("attention_bias", default=False)
    return decoder(
        config, heads=sizes, attention_bias=bias, output_bias=bias, qk_norm="head", norms=4, tied_default=True,
        window=tuple(window if kind == "chunked_attention" else None for kind in kinds[: sizes.layers]),
        buffers=tables(config, dict.fromkeys(kinds[: sizes.layers], sizes.head_dim), sizes.positions),
    )  # fmt: skip


def loop_coder(config: Config) -> Draught:
    """IQuestLoopCoderForCausalLM: layers run `loop_num` times, later rounds keeping a short window of their own."""
    sizes = read_heads(config.replaced(head_dim=None))
    loops = config.int("loop_num", default=2, maximum=64)
    window = config.int("loop_window_size", default=64)
    inner = config.int("intermediate_size")
    gate = Matrix(
        name="gate_projection.gate_proj", parts=(Part(name="gate_projection.gate_proj", units=sizes.heads),),
        inputs=sizes.head_dim, division="column", bias=True,
    )  # fmt: skip
    items = (
        *projections(sizes), *gated_mlp("mlp", sizes.hidden, inner), norm("layer_norms", sizes.hidden, copies=2), gate,
    )  # fmt: skip
    kept = (
        attention_kind(config, sizes, layer_windows(config, sizes.layers)[0]),
        *(
            SlidingWindow(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim, window=window)
            for _ in range(loops - 1)
        ),
    )
    return stack(config, sizes, lambda index: (items, kept), intermediate=inner)


ARCHITECTURES: dict[str, Builder] = {
    "ApertusForCausalLM": apertus,
    "DeciLMForCausalLM": deci,
    "Ernie4_5ForCausalLM": ernie,
    "ExaoneForCausalLM": exaone,
    "Exaone4ForCausalLM": exaone4,
    "HyperCLOVAXForCausalLM": hyperclovax,
    "InternLM2ForCausalLM": internlm2,
    "InternLM2ForRewardModel": internlm2_reward,
    "IQuestLoopCoderForCausalLM": loop_coder,
    "MiniCPMForCausalLM": minicpm,
    "MiniCPM3ForCausalLM": minicpm3,
    "PanguEmbeddedForCausalLM": pangu,
    "Rnj1ForCausalLM": rnj1,
    "SolarForCausalLM": solar,
    "Step1ForCausalLM": step1,
    "TeleChat2ForCausalLM": telechat2,
    "TeleFLMForCausalLM": solar,
}
