"""Qwen3-Next and Qwen3.5: three gated delta nets, then one gated attention layer; dense or with experts."""

from __future__ import annotations

from collections.abc import Mapping

from selfhost.attention import EncoderOnly, FullAttention, GatedDeltaState
from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._mamba import state_dtype
from selfhost.model.families._rope import table
from selfhost.model.families._stack import Layer, layer_types, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    column,
    experts_item,
    gated_mlp,
    norm,
    projections,
    qk_norms,
    read_heads,
    router,
    row,
)
from selfhost.model.modules import Block, Item, Matrix, Part, Vector

LINEAR = "linear_attention"
FULL = "full_attention"
# Quantizations whose kernels need 64 outputs per rank, so that vLLM replicates the small projection
# (layers/mamba/gdn/qwen_gdn_linear_attn.py:700-716).
_REPLICATING = (
    "awq",
    "auto_awq",
    "awq_marlin",
    "gptq",
    "auto_gptq",
    "gptq_marlin",
    "inc",
    "auto-round",
    "auto_round",
)


def delta_net(
    config: Config, hidden: int, *, interleaved: bool, replicate: bool
) -> tuple[tuple[Item, ...], GatedDeltaState]:
    """One gated delta net and its state.

    Args:
        config: the text section.
        hidden: hidden size.
        interleaved: Qwen3-Next's checkpoint layout, with q, k, v and z in one tensor.
        replicate: every rank holds the projection of gates whole.
    """
    keys, values = config.int("linear_num_key_heads"), config.int("linear_num_value_heads")
    key_dim, value_dim = config.int("linear_key_head_dim"), config.int("linear_value_head_dim")
    kernel = config.int("linear_conv_kernel_dim")
    if values % keys:
        raise config.error("linear_num_value_heads", f"is {values}, which {keys} key heads do not divide")
    widths = (keys * key_dim, keys * key_dim, values * value_dim, values * value_dim)
    if interleaved:
        mixed: tuple[Part, ...] = (
            Part(name="linear_attn.in_proj_qkvz", units=keys, unit=sum(widths) // keys),
        )
        gates: tuple[Part, ...] = (Part(name="linear_attn.in_proj_ba", units=keys, unit=2 * values // keys),)
    else:
        names = ("in_proj_qkv", "in_proj_qkv", "in_proj_qkv", "in_proj_z")
        mixed = tuple(
            Part(name=f"linear_attn.{name}", units=width) for name, width in zip(names, widths, strict=True)
        )
        gates = (
            Part(name="linear_attn.in_proj_b", units=values),
            Part(name="linear_attn.in_proj_a", units=values),
        )
    convolved = (Part(name="linear_attn.conv1d", units=keys, unit=key_dim),) * 2
    items = (
        Matrix(
            name="linear_attn.conv1d",
            parts=(*convolved, Part(name="linear_attn.conv1d", units=values, unit=value_dim)),
            inputs=kernel,
            division="column",
            quantizable=False,
        ),
        Matrix(name="linear_attn.in_proj_qkvz", parts=mixed, inputs=hidden, division="column"),
        Matrix(
            name="linear_attn.in_proj_ba",
            parts=gates,
            inputs=hidden,
            division="none" if replicate else "column",
        ),
        Vector(name="linear_attn.dt_bias", units=values, divided=True),
        Vector(name="linear_attn.A_log", units=values, divided=True, dtype="float32"),
        norm("linear_attn.norm", value_dim),
        row("linear_attn.out_proj", hidden, values * value_dim),
    )
    state = GatedDeltaState(
        key_heads=keys,
        value_heads=values,
        key_dim=key_dim,
        value_dim=value_dim,
        conv_kernel=kernel,
        state_dtype=state_dtype(config, "mamba_ssm_dtype", default="auto"),
    )
    return items, state


def _sparse(config: Config, hidden: int) -> tuple[Item, ...]:
    """Router, experts and the gated shared expert."""
    count = config.int("num_experts", maximum=1 << 16)
    inner = config.int("moe_intermediate_size")
    shared = config.int("shared_expert_intermediate_size", default=0, minimum=0)
    items: tuple[Item, ...] = (
        router("mlp.gate", count, hidden),
        router("mlp.shared_expert_gate", 1, hidden),
        experts_item("mlp.experts", count, hidden, inner),
    )
    return (*items, *gated_mlp("mlp.shared_expert", hidden, shared)) if shared else items


def _kinds(config: Config, layers: int) -> tuple[str, ...]:
    given = layer_types(config, layers)
    period = config.int("full_attention_interval", default=4, maximum=1 << 16)
    kinds = given or tuple(FULL if (index + 1) % period == 0 else LINEAR for index in range(layers))
    for kind in kinds:
        if kind not in (FULL, LINEAR):
            raise config.error("layer_types", f"names {kind[:40]!r}, which this family does not have")
    return kinds


def _decoder(
    config: Config,
    *,
    moe: bool,
    interleaved: bool,
    replicate: bool = False,
    prefix: str = "model",
    engine_prefixes: tuple[str, ...] = (),
    drafts: int = 0,
) -> Draught:
    sizes = read_heads(config)
    hidden = sizes.hidden
    kinds = _kinds(config, sizes.layers)
    linear, state = delta_net(config, hidden, interleaved=interleaved, replicate=replicate)
    gate = config.bool("attn_output_gate", default=True)
    bias = config.bool("qkv_bias", default=False)
    attention = (
        *projections(sizes, bias=bias, gate=gate),
        *qk_norms(sizes, "head"),
    )
    dense_layers = set(config.ints("mlp_only_layers", default=())) if moe and interleaved else set()
    step = config.int("decoder_sparse_step", default=1, maximum=1 << 16) if interleaved else 1
    scales = (
        (Vector(name="layer_scales", units=hidden, copies=2),)
        if config.bool("layer_scale", default=False)
        else ()
    )

    def routes(index: int) -> bool:
        return moe and index not in dense_layers and (index + 1) % step == 0

    def build(kind: str, sparse: bool) -> tuple[Item, ...]:
        feed = (
            _sparse(config, hidden) if sparse else gated_mlp("mlp", hidden, config.int("intermediate_size"))
        )
        mix = attention if kind == FULL else linear
        return (*mix, *feed, norm("layer_norms", hidden, copies=2), *scales)

    items = same_items(build)
    causal = config.bool("is_causal", default=True)
    full = FullAttention(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim) if causal else EncoderOnly()

    def layer(index: int) -> Layer:
        return items(kinds[index], routes(index)), (full,) if kinds[index] == FULL else (state,)

    draft = tuple(
        Block(
            prefixes=(f"mtp.layers.{index}",),
            items=(
                *items(FULL, moe),
                *(
                    (column("fc", hidden, 2 * hidden), norm("fc_norms", hidden, copies=3))
                    if index == 0
                    else ()
                ),
            ),
            keeps=(full,),
        )
        for index in range(drafts)
    )
    inner = config.int("moe_intermediate_size") if moe else config.int("intermediate_size")
    return stack(
        config,
        sizes,
        layer,
        prefix=prefix,
        engine_prefixes=engine_prefixes,
        experts_per_token=config.int("num_experts_per_tok") if moe else 0,
        draft=draft,
        intermediate=config.int("intermediate_size", default=inner),
        buffers=(table(config, sizes.head_dim, sizes.positions, share=0.25, mrope_factor=1),),
    )


def qwen3_next(config: Config) -> Draught:
    """Qwen3NextForCausalLM."""
    config = with_defaults(config, "qwen3_next")
    drafts = config.int("num_nextn_predict_layers", default=0, minimum=0, maximum=16)
    moe = config.int("num_experts", default=0, minimum=0) > 0
    return _decoder(config, moe=moe, interleaved=True, drafts=drafts)


def replicates_gates(config: Config) -> bool:
    """Whether the checkpoint's quantization makes vLLM replicate the projection of a delta net's gates."""
    section = config.data.get("quantization_config")
    method = section.get("quant_method") if isinstance(section, Mapping) else None
    return isinstance(method, str) and method.lower() in _REPLICATING


def qwen3_5(
    config: Config,
    *,
    moe: bool = False,
    prefix: str = "model",
    engine_prefixes: tuple[str, ...] = (),
    replicate: bool = False,
) -> Draught:
    """The text part of Qwen3.5 and later: `config` is the text section.

    Args:
        config: the text section.
        moe: experts in every layer.
        prefix: the checkpoint's prefix of the text model.
        engine_prefixes: vLLM's prefixes.
        replicate: see `replicates_gates`, which reads the top of the configuration.
    """
    replicate = replicate or replicates_gates(config)
    if config.has("text_config"):
        config = config.section("text_config")
    config = with_defaults(config, "qwen3_5_moe_text" if moe else "qwen3_5_text")
    return _decoder(
        config, moe=moe, interleaved=False, replicate=replicate, prefix=prefix,
        engine_prefixes=engine_prefixes,
        drafts=config.int("mtp_num_hidden_layers", default=0, minimum=0, maximum=16),
    )  # fmt: skip


def qwen3_5_moe(config: Config) -> Draught:
    """Qwen3_5MoeForCausalLM."""
    return qwen3_5(config, moe=True)


ARCHITECTURES: dict[str, Builder] = {
    "Qwen3NextForCausalLM": qwen3_next,
    "Qwen3_5ForCausalLM": qwen3_5,
    "Qwen3_5MoeForCausalLM": qwen3_5_moe,
}
