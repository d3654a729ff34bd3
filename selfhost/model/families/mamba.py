"""Pure state-space models, and hybrids that interleave or join them with attention: Jamba, Falcon-H1, Zamba 2."""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import FullAttention
from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._mamba import Mamba1, Mamba2, expanded, time_step_rank
from selfhost.model.families._pooling import labels
from selfhost.model.families._rope import table
from selfhost.model.families._stack import Layer, grouped, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    experts_item,
    gated_mlp,
    norm,
    projections,
    read_heads,
    router,
    whole,
)
from selfhost.model.modules import Buffer, Item, Matrix, Part


def attention_free(config: Config) -> Heads:
    """Sizes of a model without attention; vLLM takes 2048 tokens where no length is stated (config/model.py:2560)."""
    return Heads(
        hidden=config.int("hidden_size", "d_model"), layers=config.layers(), heads=0, kv_heads=0, head_dim=0,
        vocab=config.int("vocab_size"), positions=config.int("max_position_embeddings", default=2048),
    )  # fmt: skip


def mamba(config: Config) -> Draught:
    """MambaForCausalLM and FalconMambaForCausalLM."""
    falcon = config.str("model_type") == "falcon_mamba"
    config = with_defaults(config, "falcon_mamba" if falcon else "mamba")
    sizes = attention_free(config)
    mixer = Mamba1(
        hidden=sizes.hidden, inner=config.int("intermediate_size", default=expanded(config, "expand", sizes.hidden)),
        state=config.int("state_size"),
        kernel=config.int("conv_kernel"), rank=time_step_rank(config, "time_step_rank", sizes.hidden),
        bias=config.bool("use_bias", default=False), conv_bias=config.bool("use_conv_bias", default=True),
    )  # fmt: skip
    items = (*mixer.items("mixer"), norm("norm", sizes.hidden))
    kept = (mixer.kept(),)
    return stack(
        config, sizes, lambda index: (items, kept), prefix="backbone", embed="embeddings", tied_default=True,
        intermediate=mixer.inner, buffers=(),
    )  # fmt: skip


def mamba2(config: Config) -> Draught:
    """Mamba2ForCausalLM (Codestral Mamba)."""
    config = with_defaults(config, "mamba2")
    sizes = attention_free(config)
    mixer = Mamba2(
        hidden=sizes.hidden, inner=config.int("intermediate_size", default=expanded(config, "expand", sizes.hidden)),
        heads=config.int("num_heads"), head_dim=config.int("head_dim"), state=config.int("state_size"),
        groups=config.int("n_groups"), kernel=config.int("conv_kernel"),
        bias=config.bool("use_bias", default=False), conv_bias=config.bool("use_conv_bias", default=True),
    )  # fmt: skip
    items = (*mixer.items("mixer"), norm("norm", sizes.hidden))
    kept = (mixer.kept(),)
    return stack(
        config, sizes, lambda index: (items, kept), prefix="backbone", embed="embeddings", intermediate=mixer.inner,
        buffers=(),
    )  # fmt: skip


def jamba(config: Config) -> Draught:
    """JambaForCausalLM: one attention layer per period, experts on every other layer, no rotary positions."""
    config = with_defaults(config, "jamba")
    sizes = read_heads(config.replaced(head_dim=None))
    hidden = sizes.hidden
    inner = config.int("intermediate_size")
    mixer = Mamba1(
        hidden=hidden, inner=expanded(config, "mamba_expand", hidden), state=config.int("mamba_d_state"),
        kernel=config.int("mamba_d_conv"), rank=time_step_rank(config, "mamba_dt_rank", hidden),
        bias=config.bool("mamba_proj_bias", default=False), conv_bias=config.bool("mamba_conv_bias", default=True),
        norms=True,
    )  # fmt: skip
    count = config.int("num_experts", maximum=1 << 16)
    attention_period = config.int("attn_layer_period", maximum=1 << 16)
    attention_offset = config.int("attn_layer_offset", minimum=0)
    expert_period = config.int("expert_layer_period", maximum=1 << 16)
    expert_offset = config.int("expert_layer_offset", minimum=0)

    def build(attends: bool, routes: bool) -> tuple[Item, ...]:
        mix = projections(sizes) if attends else mixer.items("mamba")
        if routes:
            feed: tuple[Item, ...] = (
                router("feed_forward.router", count, hidden),
                experts_item("feed_forward.experts", count, hidden, inner),
            )
        else:
            feed = gated_mlp("feed_forward", hidden, inner)
        return (*mix, *feed, norm("layer_norms", hidden, copies=2))

    items = same_items(build)
    attention = (grouped(sizes.kv_heads, sizes.head_dim),)
    state = (mixer.kept(),)

    def layer(index: int) -> Layer:
        attends = index % attention_period == attention_offset
        routes = count > 1 and index % expert_period == expert_offset
        return items(attends, routes), attention if attends else state

    return stack(
        config,
        sizes,
        layer,
        tied=False,
        intermediate=inner,
        buffers=(),
        experts_per_token=config.int("num_experts_per_tok") if count > 1 else 0,
    )


def jamba_classifier(config: Config) -> Draught:
    """JambaForSequenceClassification keeps its head beside the score (models/jamba.py:503-521)."""
    draught = jamba(config)
    score = whole(
        "score", labels(config), draught.facts.hidden_size, bias=config.bool("score_bias", default=False),
        quantizable=False, dtype=None if config.str("head_dtype", default="") == "model" else "float32",
    )  # fmt: skip
    return replace(
        draught,
        last=replace(draught.last, items=(*draught.last.items, score)),
        facts=replace(draught.facts, pooling=True),
    )


def falcon_h1(config: Config) -> Draught:
    """FalconH1ForCausalLM: attention and Mamba 2 side by side in every layer."""
    config = with_defaults(config, "falcon_h1")
    sizes = read_heads(config)
    hidden = sizes.hidden
    inner = config.int("intermediate_size")
    width = config.int("mamba_d_ssm", default=None) or expanded(config, "mamba_expand", hidden)
    heads = config.int("mamba_n_heads")
    automatic = config.data.get("mamba_d_head") in ("auto", None)
    mixer = Mamba2(
        hidden=hidden, inner=width, heads=heads, state=config.int("mamba_d_state"),
        head_dim=width // heads if automatic else config.int("mamba_d_head"),
        groups=config.int("mamba_n_groups"), kernel=config.int("mamba_d_conv"),
        bias=config.bool("mamba_proj_bias", default=False), conv_bias=config.bool("mamba_conv_bias", default=True),
        norm=config.bool("mamba_rms_norm", default=False),
    )  # fmt: skip
    items = (
        *projections(sizes),
        *mixer.items("mamba.mamba"),
        *gated_mlp("feed_forward", hidden, inner, bias=config.bool("mlp_bias", default=False)),
        norm("layer_norms", hidden, copies=2),
    )
    kept = (grouped(sizes.kv_heads, sizes.head_dim), mixer.kept())
    rotary = config.int("attn_rotary_emb", default=sizes.head_dim)
    # A row of multipliers over the projection's outputs in each layer (models/falcon_h1.py:140-195).
    multipliers = sizes.layers * (2 * width + 2 * mixer.groups * mixer.state + heads)
    return stack(
        config, sizes, lambda index: (items, kept), intermediate=inner,
        buffers=(
            Buffer(name="rotary cos/sin", elements=sizes.positions * rotary, dtype="model"),
            Buffer(name="state-space multipliers", elements=multipliers, dtype="model", divided=True),
        ),
    )  # fmt: skip


def _zamba_types(config: Config, layers: int) -> tuple[str, ...]:
    if not config.has("layers_block_type"):
        raise config.error("layers_block_type", "is missing")
    kinds = config.strings("layers_block_type")
    if len(kinds) != layers:
        raise config.error("layers_block_type", f"names {len(kinds)} layers, but there are {layers}")
    return kinds


def _adapter(name: str, rank: int, inputs: int, outputs: tuple[int, ...]) -> tuple[Item, ...]:
    """A low-rank adapter, both halves divided over ranks (models/zamba2.py:79-104)."""
    up = Matrix(
        name=f"{name}.B", parts=tuple(Part(name=f"{name}.B", units=size) for size in outputs), inputs=rank,
        division="column",
    )  # fmt: skip
    return column(f"{name}.A", rank, inputs), up


def zamba2(config: Config) -> Draught:
    """Zamba2ForCausalLM: Mamba 2 layers, some with one of few shared attention blocks, adapted per use."""
    config = with_defaults(config, "zamba2")
    hidden = config.int("hidden_size")
    heads = config.int("num_attention_heads", maximum=1 << 16)
    wide = 2 * hidden
    if wide % heads:
        raise config.error("hidden_size", f"twice is {wide}, which {heads} attention heads do not divide")
    positions = (
        16384 if config.bool("use_long_context", default=False) else config.int("max_position_embeddings")
    )
    sizes = Heads(
        hidden=hidden, layers=config.layers(), heads=heads, kv_heads=heads, head_dim=wide // heads,
        vocab=config.int("vocab_size"), positions=positions,
    )  # fmt: skip
    kinds = _zamba_types(config, sizes.layers)
    inner = config.int("intermediate_size", default=4 * hidden)
    width = expanded(config, "mamba_expand", hidden)
    mamba_heads = config.int("n_mamba_heads")
    bias = config.bool("add_bias_linear", default=False)
    mixer = Mamba2(
        hidden=hidden, inner=width, heads=mamba_heads, head_dim=width // mamba_heads,
        state=config.int("mamba_d_state"), groups=config.int("mamba_ngroups"), kernel=config.int("mamba_d_conv"),
        bias=bias, conv_bias=config.bool("use_conv_bias", default=True),
    )  # fmt: skip
    rank = config.int("adapter_rank")
    plain = (*mixer.items("mixer"), norm("input_layernorm", hidden))
    adapters = _adapter("feed_forward.gate_up_proj_adapter", rank, hidden, (inner, inner))
    if config.bool("use_shared_attention_adapter", default=False):
        for part in ("q", "k", "v"):
            adapters = (*adapters, *_adapter(f"linear_{part}_adapter", rank, wide, (wide,)))
    hybrid = (*plain, whole("linear", hidden, hidden), *adapters)
    shared = (
        *projections(sizes, inputs=wide),
        *gated_mlp("feed_forward", hidden, inner, bias=bias),
        norm("input_layernorm", wide),
        norm("pre_ff_layernorm", hidden),
    )
    blocks = config.int("num_mem_blocks", maximum=1 << 10)
    state = mixer.kept()
    attention = FullAttention(kv_heads=heads, head_dim=sizes.head_dim)
    # The first uses of the shared blocks carry their parameters, as the first stage would hold them.
    places = [index for index, kind in enumerate(kinds) if kind == "hybrid"]
    carriers = set(places[:blocks])
    carrying = (*hybrid, *shared)

    def layer(index: int) -> Layer:
        if kinds[index] != "hybrid":
            return plain, (state,)
        return carrying if index in carriers else hybrid, (attention, state)

    buffers = (
        (table(config, sizes.head_dim, positions),) if config.bool("use_mem_rope", default=False) else ()
    )
    return stack(config, sizes, layer, tied_default=True, intermediate=inner, buffers=buffers)


ARCHITECTURES: dict[str, Builder] = {
    "FalconH1ForCausalLM": falcon_h1,
    "FalconMambaForCausalLM": mamba,
    "JambaForCausalLM": jamba,
    "JambaForSequenceClassification": jamba_classifier,
    "MambaForCausalLM": mamba,
    "Mamba2ForCausalLM": mamba2,
    "Zamba2ForCausalLM": zamba2,
}
