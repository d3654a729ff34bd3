"""Hybrids of state space, attention and MLPs or experts: Nemotron-H and Nemotron 3, Granite 4, LFM2."""

from __future__ import annotations

from collections.abc import Callable

from selfhost.attention import Attention, ShortConvState
from selfhost.model.config import MAX_LAYERS, Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._mamba import Mamba2, expanded, state_dtype
from selfhost.model.families._rope import table
from selfhost.model.families._stack import Layer, grouped, layer_types, same_items, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    experts_item,
    gated_mlp,
    norm,
    plain_mlp,
    projections,
    qk_norms,
    read_heads,
    router,
    row,
    whole,
)
from selfhost.model.modules import Block, Item, Matrix, Part, Vector

# Layer kinds by the letter of `hybrid_override_pattern` and by transformers' names of now and before.
_LETTERS = {"M": "mamba", "E": "moe", "*": "attention", "-": "mlp"}
_NAMES = {
    "linear_attention": "mamba", "mamba": "mamba", "moe": "moe", "full_attention": "attention",
    "attention": "attention", "mlp": "mlp",
}  # fmt: skip


def _pattern(config: Config, letters: str, names: tuple[str, ...]) -> tuple[str, ...] | None:
    if config.has(letters):
        text = config.str(letters)
        unknown = set(text) - set(_LETTERS)
        if unknown or not text or len(text) > MAX_LAYERS:
            raise config.error(letters, f"holds {sorted(unknown)[:3]}, which are no layer kinds")
        return tuple(_LETTERS[letter] for letter in text)
    for field in names:
        if config.has(field):
            kinds = config.strings(field)
            if not kinds or len(kinds) > MAX_LAYERS or any(kind not in _NAMES for kind in kinds):
                raise config.error(field, "holds other than mamba, attention, moe and mlp layers")
            return tuple(_NAMES[kind] for kind in kinds)
    return None


def nemotron_h(config: Config) -> Draught:
    """NemotronHForCausalLM: each layer is Mamba 2, attention, an MLP or experts, the last maybe in a latent space."""
    config = with_defaults(config, "nemotron_h")
    if config.has("block_configs"):
        raise config.error(
            "block_configs", "describes layers of different shape, which selfhost does not know"
        )
    kinds = _pattern(config, "hybrid_override_pattern", ("layer_types", "layers_block_type"))
    if kinds is None:
        raise config.error("hybrid_override_pattern", "is missing")
    read = read_heads(config.replaced(num_hidden_layers=len(kinds)))
    hidden = read.hidden
    widths = _nemotron_widths(config, kinds)
    bias = config.bool("mlp_bias", default=False)
    mixer = _nemotron_mixer(config, hidden)

    def build(kind: str, width: int) -> tuple[Item, ...]:
        if kind == "mamba":
            mix = mixer.items("mixer")
        elif kind == "attention":
            mix = projections(read, name="mixer.qkv_proj")
        elif kind == "mlp":
            mix = plain_mlp("mixer", hidden, width, bias=bias)
        else:
            mix = _nemotron_experts(config, hidden, bias=bias)
        return (*mix, norm("norm", hidden))

    items = same_items(build)
    window = config.int("sliding_window", default=0, minimum=0) or None
    attention: tuple[Attention, ...] = (grouped(read.kv_heads, read.head_dim, window=window),)
    keeps: dict[str, tuple[Attention, ...]] = {
        "mamba": (mixer.kept(),), "attention": attention, "mlp": (), "moe": ()
    }  # fmt: skip
    plan: list[tuple[str, int]] = []
    for kind in kinds:
        width = 0
        if kind == "mlp":
            order = sum(1 for earlier, _ in plan if earlier == "mlp")
            width = widths[order] if widths else config.int("intermediate_size")
        plan.append((kind, width))

    def layer(index: int) -> Layer:
        kind, width = plan[index]
        return items(kind, width), keeps[kind]

    moe = "moe" in kinds
    largest = max((width for _, width in plan), default=0)
    return stack(
        config, read, layer, prefix="backbone", engine_prefixes=("model",), buffers=(),
        experts_per_token=config.int("num_experts_per_tok") if moe else 0,
        intermediate=largest or (config.int("moe_intermediate_size") if moe else hidden),
        draft=_nemotron_draft(config, hidden, items, attention),
    )  # fmt: skip


def _nemotron_widths(config: Config, kinds: tuple[str, ...]) -> tuple[int, ...]:
    """Widths of the MLP layers in order, where the configuration lists them."""
    if not isinstance(config.data.get("intermediate_size"), (list, tuple)):
        return ()
    widths = config.ints("intermediate_size", minimum=1)
    count = kinds.count("mlp")
    if len(widths) == 1:
        return widths * count
    if len(widths) < count:
        raise config.error("intermediate_size", f"names {len(widths)} of {count} MLP layers")
    return widths


def _nemotron_mixer(config: Config, hidden: int) -> Mamba2:
    heads, head_dim = config.int("mamba_num_heads"), config.int("mamba_head_dim")
    return Mamba2(
        hidden=hidden, inner=heads * head_dim, heads=heads, head_dim=head_dim, state=config.int("ssm_state_size"),
        groups=config.int("n_groups", "mamba_n_groups"), kernel=config.int("conv_kernel", "mamba_d_conv"),
        bias=config.bool("use_bias", default=False), conv_bias=config.bool("use_conv_bias", default=True),
        # vLLM keeps the state in float32 unless the configuration names a type (models/config.py:712-735).
        state_dtype=state_dtype(config, "mamba_ssm_cache_dtype", default="float32"),
    )  # fmt: skip


def _nemotron_experts(config: Config, hidden: int, *, bias: bool) -> tuple[Item, ...]:
    count = config.int("n_routed_experts", maximum=1 << 16)
    inner = config.int("moe_intermediate_size")
    shared = config.int("n_shared_experts", default=0, minimum=0, maximum=1 << 10)
    latent = config.int("moe_latent_size", default=None)
    items: tuple[Item, ...] = (
        router("mixer.gate", count, hidden),
        Vector(name="mixer.gate.e_score_correction_bias", units=count, dtype="float32"),
        experts_item(
            "mixer.experts", count, latent or hidden, inner, gated=False, names=("up_proj", "down_proj"),
            activation="relu2",
        ),
    )  # fmt: skip
    if latent:
        items = (
            *items,
            whole("mixer.fc1_latent_proj", latent, hidden, bias=bias),
            whole("mixer.fc2_latent_proj", hidden, latent, bias=bias),
        )
    if shared:
        width = config.int("moe_shared_expert_intermediate_size") * shared
        items = (*items, *plain_mlp("mixer.shared_experts", hidden, width, bias=False))
    return items


def _nemotron_draft(
    config: Config, hidden: int, items: object, attention: tuple[Attention, ...]
) -> tuple[Block, ...]:
    """The MTP module: layers of `mtp_hybrid_override_pattern`, two norms and the projection of two states to one."""
    if not config.int("num_nextn_predict_layers", default=0, minimum=0, maximum=16):
        return ()
    kinds = _pattern(config, "mtp_hybrid_override_pattern", ("mtp_layers_block_type",)) or (
        "attention",
        "moe",
    )
    blocks = []
    for index, kind in enumerate(kinds):
        built: tuple[Item, ...] = items(kind, 0) if kind != "mlp" else ()  # type: ignore[operator]
        if index == 0:
            built = (*built, column("eh_proj", hidden, 2 * hidden), norm("enorm_hnorm", hidden, copies=2))
        if index == len(kinds) - 1:
            built = (*built, norm("final_layernorm", hidden))
        keeps = attention if kind == "attention" else ()
        blocks.append(Block(prefixes=(f"mtp.layers.{index}",), items=built, keeps=keeps))
    return tuple(blocks)


def granite_hybrid(config: Config) -> Draught:
    """GraniteMoeHybridForCausalLM (Granite 4): Mamba 2 or attention, then experts, a shared MLP, or both."""
    config = with_defaults(config, "granitemoehybrid")
    sizes = read_heads(config)
    hidden = sizes.hidden
    given = layer_types(config, sizes.layers)
    if given is None and config.has("layers_block_type"):
        given = config.strings("layers_block_type")
        if len(given) < sizes.layers:
            raise config.error(
                "layers_block_type", f"names {len(given)} layers, but there are {sizes.layers}"
            )
    kinds = given or ("mamba",) * sizes.layers
    for kind in kinds:
        if _NAMES.get(kind) not in ("mamba", "attention"):
            raise config.error("layer_types", f"names {kind[:40]!r}, which Granite does not have")
    width = expanded(config, "mamba_expand", hidden)
    heads = config.int("mamba_n_heads")
    automatic = config.data.get("mamba_d_head") in ("auto", None)
    mixer = Mamba2(
        hidden=hidden, inner=width, heads=heads, state=config.int("mamba_d_state"),
        head_dim=width // heads if automatic else config.int("mamba_d_head"),
        groups=config.int("mamba_n_groups"), kernel=config.int("mamba_d_conv"),
        bias=config.bool("mamba_proj_bias", default=False), conv_bias=config.bool("mamba_conv_bias", default=True),
    )  # fmt: skip
    count = config.int("num_local_experts", default=0, minimum=0, maximum=1 << 16)
    shared = config.int("shared_intermediate_size", default=0, minimum=0)
    inner = config.int("intermediate_size")
    bias = config.bool("attention_bias", default=False)
    feed: tuple[Item, ...] = ()
    if count:
        feed = (
            router("block_sparse_moe.gate", count, hidden),
            experts_item("block_sparse_moe.experts", count, hidden, inner),
        )
    if shared:
        names = ("input_linear", "input_linear", "input_linear", "output_linear")
        feed = (*feed, *gated_mlp("shared_mlp", hidden, shared, names=names))
    ends = (*feed, norm("layer_norms", hidden, copies=2))
    mamba_items = (*mixer.items("mamba"), *ends)
    attention_items = (*projections(sizes, bias=bias, output_bias=bias), *ends)
    state, attention = (mixer.kept(),), (grouped(sizes.kv_heads, sizes.head_dim),)

    def layer(index: int) -> Layer:
        if _NAMES[kinds[index]] == "mamba":
            return mamba_items, state
        return attention_items, attention

    rotates = config.str("position_embedding_type", default="") == "rope"
    return stack(
        config, sizes, layer, intermediate=shared or inner,
        experts_per_token=config.int("num_experts_per_tok") if count else 0,
        buffers=(table(config, sizes.head_dim, sizes.positions),) if rotates else (),
    )  # fmt: skip


def _lfm2_width(config: Config) -> int:
    """The MLP's width as LFM2 derives it (models/lfm2.py, Lfm2MLP)."""
    width = config.int("block_ff_dim", "intermediate_size")
    if config.bool("block_auto_adjust_ff_dim", default=True):
        width = int(2 * width / 3)
        if config.has("block_ffn_dim_multiplier"):
            width = int(config.float("block_ffn_dim_multiplier", default=1.0) * width)
        multiple = config.int("block_multiple_of", default=256)
        width = -(-width // multiple) * multiple
    return width


def _short_convolution(config: Config, hidden: int) -> tuple[tuple[Item, ...], ShortConvState]:
    kernel = config.int("conv_L_cache", default=3)
    bias = config.bool("conv_bias", default=False)
    width = config.int("conv_dim", default=hidden)
    part = Part(name="short_conv.in_proj", units=width)
    items = (
        column("short_conv.conv", width, kernel, bias=bias, quantizable=False),
        Matrix(
            name="short_conv.in_proj", parts=(part, part, part), inputs=hidden, division="column", bias=bias
        ),
        row("short_conv.out_proj", hidden, width, bias=bias),
    )
    return items, ShortConvState(dim=width, kernel=kernel)


def _lfm2_kinds(config: Config, layers: int) -> tuple[str, ...]:
    given = layer_types(config, layers)
    if given is None:
        full = set(config.ints("full_attn_idxs", default=tuple(range(layers))))
        return tuple("full_attention" if index in full else "conv" for index in range(layers))
    for kind in given:
        if kind not in ("full_attention", "conv", "short_conv"):
            raise config.error("layer_types", f"names {kind[:40]!r}, which LFM2 does not have")
    return given


def _lfm2(config: Config) -> tuple[Config, Heads]:
    """The configuration under transformers' names, and its heads: LFM2 has no head width of its own."""
    if config.has("tie_embedding"):
        config = config.replaced(tie_word_embeddings=config.bool("tie_embedding"))
    return config, read_heads(config.replaced(head_dim=None))


def _lfm2_layers(
    config: Config, sizes: Heads, dense: tuple[Item, ...], sparse: tuple[Item, ...], *, dense_layers: int
) -> Callable[[int], Layer]:
    """Layers of attention or short convolutions, the first `dense_layers` with the dense MLP."""
    hidden = sizes.hidden
    kinds = _lfm2_kinds(config, sizes.layers)
    convolution, state = _short_convolution(config, hidden)
    attention = (*projections(sizes, out="out_proj"), *qk_norms(sizes, "head"))

    @same_items
    def items(full: bool, routed: bool) -> tuple[Item, ...]:
        feed = sparse if routed else dense
        return (*(attention if full else convolution), *feed, norm("layer_norms", hidden, copies=2))

    full_keeps = (grouped(sizes.kv_heads, sizes.head_dim),)

    def layer(index: int) -> Layer:
        full = kinds[index] == "full_attention"
        return items(full, index >= dense_layers), full_keeps if full else (state,)

    return layer


def lfm2(config: Config) -> Draught:
    """Lfm2ForCausalLM: short gated convolutions, some layers of attention."""
    config, sizes = _lfm2(with_defaults(config, "lfm2"))
    width = _lfm2_width(config)
    mlp = gated_mlp(
        "feed_forward", config.int("block_dim", default=sizes.hidden), width, names=("w1", "w1", "w3", "w2")
    )
    layers = _lfm2_layers(config, sizes, mlp, (), dense_layers=sizes.layers)
    return stack(config, sizes, layers, tied_default=True, intermediate=width)


def lfm2_moe(config: Config) -> Draught:
    """Lfm2MoeForCausalLM: as LFM2, with experts behind the first layers."""
    config, sizes = _lfm2(with_defaults(config, "lfm2_moe"))
    width = config.int("intermediate_size")
    count, inner = config.int("num_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    mlp = gated_mlp("feed_forward", sizes.hidden, width, names=("w1", "w1", "w3", "w2"))
    sparse: tuple[Item, ...] = (
        # The gate may be quantized, where a checkpoint does not name it (models/lfm2_moe.py:92).
        whole("feed_forward.gate", count, sizes.hidden),
        experts_item("feed_forward.experts", count, sizes.hidden, inner, names=("w1", "w3", "w2")),
    )
    if config.bool("use_expert_bias", default=True):
        sparse = (
            *sparse,
            Vector(name="feed_forward.gate.e_score_correction_bias", units=count, dtype="float32"),
        )
    dense_layers = config.int("num_dense_layers", default=2, minimum=0)
    layers = _lfm2_layers(config, sizes, mlp, sparse, dense_layers=dense_layers)
    return stack(
        config, sizes, layers, tied_default=True, intermediate=width,
        experts_per_token=config.int("num_experts_per_tok"),
    )  # fmt: skip


ARCHITECTURES: dict[str, Builder] = {
    "GraniteMoeHybridForCausalLM": granite_hybrid,
    "Lfm2ForCausalLM": lfm2,
    "Lfm2MoeForCausalLM": lfm2_moe,
    "NemotronHForCausalLM": nemotron_h,
    "NemotronHPuzzleForCausalLM": nemotron_h,
}
