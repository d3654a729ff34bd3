"""Mixture-of-experts decoders that mix windowed and full layers and dense and routed ones: K-EXAONE and Command A MoE.

vLLM 0.32 models/exaone_moe.py and cohere2_moe.py.
"""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.families._stack import Layer, grouped, layer_types, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    column,
    gated_mlp,
    norm,
    projections,
    qk_norms,
    read_heads,
    routed_mlp,
)
from selfhost.model.modules import Block, Item


def _kinds(config: Config, field: str, layers: int, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """A list with one word for each layer."""
    kinds = config.strings(field)
    if len(kinds) < layers:
        raise config.error(field, f"names {len(kinds)} layers, but there are {layers}")
    for kind in kinds:
        if kind not in allowed:
            raise config.error(field, f"holds {kind[:30]!r}, not one of {', '.join(allowed)}")
    return kinds[:layers]


_MLPS = ("dense", "sparse")


def _exaone_windows(config: Config, layers: int) -> tuple[int | None, ...]:
    """`layer_types` with one `sliding_window`, or K-EXAONE 2's `sliding_windows` by layer (exaone_moe.py:222-246)."""
    kinds = layer_types(config, layers)
    if kinds is None:
        every = config.data.get("sliding_window_pattern", 4)
        if isinstance(every, str):
            raise config.error("layer_types", "is missing beside a `sliding_window_pattern` in letters")
        step = config.int("sliding_window_pattern", default=4) if config.has("sliding_window") else 1
        kinds = tuple(
            "full_attention" if (index + 1) % step == 0 else "sliding_attention" for index in range(layers)
        )
    many = config.list("sliding_windows") if config.has("sliding_windows") else None
    windows: list[int | None] = []
    for index, kind in enumerate(kinds):
        if kind == "full_attention":
            windows.append(None)
        elif many is None:
            windows.append(config.int("sliding_window", default=0, minimum=0) or None)
        elif index < len(many):
            one = Config({"sliding_windows": many[index]}, config.path)
            windows.append(one.int("sliding_windows", default=0, minimum=0) or None)
        else:
            raise config.error("sliding_windows", f"names {len(many)} layers, but there are {layers}")
    return tuple(windows)


def exaone_moe(config: Config) -> Draught:
    """ExaoneMoeForCausalLM (K-EXAONE): norms on Q and K, a bias per expert, one dense draft layer."""
    sizes = read_heads(config)
    inner = config.int("intermediate_size")
    count, expert_size = config.int("num_experts", maximum=1 << 16), config.int("moe_intermediate_size")
    shared = config.int("num_shared_experts", default=1, minimum=0, maximum=1 << 10)
    biased = config.bool("attention_bias", default=False) or config.bool("bias", default=False)
    common: tuple[Item, ...] = (
        *projections(sizes, bias=biased, output_bias=biased),
        *qk_norms(sizes, "head"),
        norm("layer_norms", sizes.hidden, copies=2),
    )
    mlps: dict[str, tuple[Item, ...]] = {
        "dense": gated_mlp("mlp", sizes.hidden, inner, bias=config.bool("mlp_bias", default=False)),
        "sparse": routed_mlp(
            sizes.hidden,
            count,
            expert_size,
            correction="e_score_correction_bias",
            shared=expert_size * shared,
        ),
    }
    items = {kind: (*common, *mlp) for kind, mlp in mlps.items()}
    if config.has("mlp_layer_types"):
        kinds = _kinds(config, "mlp_layer_types", sizes.layers, _MLPS)
    else:
        dense_layers = config.int("first_k_dense_replace", default=1, minimum=0)
        kinds = tuple("dense" if index < dense_layers else "sparse" for index in range(sizes.layers))
    windows = _exaone_windows(config, sizes.layers)

    def layer(index: int) -> Layer:
        return items[kinds[index]], (grouped(sizes.kv_heads, sizes.head_dim, window=windows[index]),)

    drafts = config.int("num_nextn_predict_layers", default=0, minimum=0, maximum=16)
    draft_items = (
        *items["dense"],
        column("fc", sizes.hidden, 2 * sizes.hidden),
        norm("pre_fc_norms_and_norm", sizes.hidden, copies=3),
    )
    return stack(
        config, sizes, layer, intermediate=inner,
        draft=tuple(
            Block(prefixes=(f"mtp.layers.{index}",), items=draft_items,
                  keeps=(grouped(sizes.kv_heads, sizes.head_dim, window=windows[0]),))
            for index in range(drafts)
        ),
        experts_per_token=config.int("num_experts_per_tok", default=8),
    )  # fmt: skip


def cohere2_moe(config: Config) -> Draught:
    """Cohere2MoeForCausalLM: one norm per layer, the head always tied, windows one token wider than stated."""
    sizes = read_heads(config, head_dim=128)
    expert_size = config.int("intermediate_size")
    count = config.int("num_experts", maximum=1 << 16)
    shared = config.int("num_shared_experts", default=0, minimum=0, maximum=1 << 10)
    dense_layers = config.int("first_k_dense_replace", default=0, minimum=0)
    common: tuple[Item, ...] = (*projections(sizes), norm("input_layernorm", sizes.hidden))
    if config.has("mlp_layer_types"):
        mlps = _kinds(config, "mlp_layer_types", sizes.layers, _MLPS)
    else:
        mlps = tuple("dense" if index < dense_layers else "sparse" for index in range(sizes.layers))
    items: dict[str, tuple[Item, ...]] = {
        "sparse": (*common, *routed_mlp(sizes.hidden, count, expert_size, shared=expert_size * shared))
    }
    widest = expert_size
    if "dense" in mlps:
        widest = config.int("prefix_dense_intermediate_size", default=expert_size)
        items["dense"] = (*common, *gated_mlp("mlp", sizes.hidden, widest))
    types = layer_types(config, sizes.layers)
    if types is None:
        early = config.int("prefix_dense_sliding_window_pattern", default=1)
        late = config.int("sliding_window_pattern", default=4)
        types = tuple(
            "full_attention"
            if ((index + 1) % early == 0 if index < dense_layers else (index - dense_layers + 1) % late == 0)
            else "sliding_attention"
            for index in range(sizes.layers)
        )
    window = config.int("sliding_window", default=4096) + 1

    def layer(index: int) -> Layer:
        own = window if types[index] == "sliding_attention" else None
        return items[mlps[index]], (grouped(sizes.kv_heads, sizes.head_dim, window=own),)

    return stack(
        config, sizes, layer, intermediate=widest, tied=True,
        experts_per_token=config.int("num_experts_per_tok", default=2),
    )  # fmt: skip


ARCHITECTURES: dict[str, Builder] = {
    "ExaoneMoeForCausalLM": exaone_moe,
    "ExaoneMoEForCausalLM": exaone_moe,
    "Cohere2MoeForCausalLM": cohere2_moe,
}
