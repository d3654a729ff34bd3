"""Llama and its many relatives: pre-norm decoder layers of grouped-query attention and one MLP."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._rope import parameters, rotary_elements, table
from selfhost.model.families._stack import by_window, layer_windows, stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    gated_mlp,
    norm,
    plain_mlp,
    projections,
    qk_norms,
    read_heads,
)
from selfhost.model.modules import Buffer, Item


def rotary_dim(config: Config, head_dim: int) -> int:
    """Elements of a head that rotate."""
    return max(2, rotary_elements(parameters(config), head_dim))


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a family calls its modules, engine's fused names first."""

    prefix: str = "model"
    layers: str = "layers"
    embed: str = "embed_tokens"
    head: str = "lm_head"
    qkv: str = "self_attn.qkv_proj"
    parts: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj")
    out: str = "o_proj"
    mlp: str = "mlp"
    gated: tuple[str, str, str, str] = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")
    plain: tuple[str, str] = ("up_proj", "down_proj")
    attention: str = "self_attn"


LLAMA = Names()


def decoder(
    config: Config,
    *,
    names: Names = LLAMA,
    attention_bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    gated: bool = True,
    qk_norm: str | None = None,
    norms: int = 2,
    norm_bias: bool = False,
    more: tuple[Item, ...] = (),
    window: tuple[int | None, ...] | None = None,
    tied: bool | None = None,
    tied_default: bool = False,
    heads: Heads | None = None,
    intermediate: int | None = None,
    head_bias: bool = False,
    first: tuple[Item, ...] = (),
    final: tuple[Item, ...] | None = None,
    buffers: tuple[Buffer, ...] | None = None,
) -> Draught:
    """One dense decoder whose layers allocate the same.

    `gated` MLPs have gate and up projections, others one up projection. `qk_norm` is None, or how `qk_norms` holds the
    norms of queries and keys. A layer has `norms` norms of the hidden size, layer norms where `norm_bias`, and `more`
    items. `window` is each layer's, from the configuration when None. For `tied`, `first` and `final` see `stack`.
    """
    sizes = heads or read_heads(config)
    inner = intermediate or config.int("intermediate_size")
    if gated:
        mlp = gated_mlp(names.mlp, sizes.hidden, inner, bias=mlp_bias, names=names.gated)
    else:
        mlp = plain_mlp(names.mlp, sizes.hidden, inner, bias=mlp_bias, names=names.plain)
    items: tuple[Item, ...] = (
        *projections(
            sizes,
            name=names.qkv,
            parts=names.parts,
            out=names.out,
            bias=attention_bias,
            output_bias=output_bias,
        ),
        *mlp,
        norm("layer_norms", sizes.hidden, copies=norms, bias=norm_bias),
        *(qk_norms(sizes, qk_norm, name=names.attention) if qk_norm else ()),
        *more,
    )
    return stack(
        config,
        sizes,
        by_window(items, config, sizes, window or layer_windows(config, sizes.layers)),
        prefix=names.prefix,
        layers_name=names.layers,
        embed=names.embed,
        head_name=names.head,
        head_bias=head_bias,
        tied=tied,
        tied_default=tied_default,
        intermediate=inner,
        first=first,
        final=final if final is not None else (norm("norm", sizes.hidden, bias=norm_bias),),
        buffers=(table(config, sizes.head_dim, sizes.positions),) if buffers is None else buffers,
    )  # fmt: skip


def biases(config: Config) -> tuple[bool, bool]:
    """Biases of the QKV and the output projection as Llama reads them (models/llama.py:287-295)."""
    both = config.bool("attention_bias", default=False) or config.bool("bias", default=False)
    return config.bool("qkv_bias", default=both), both


def llama(config: Config) -> Draught:
    """LlamaForCausalLM: biases only where the configuration says so."""
    qkv, out = biases(config)
    return decoder(
        config, attention_bias=qkv, output_bias=out, mlp_bias=config.bool("mlp_bias", default=False)
    )


def phi3(config: Config) -> Draught:
    """Phi3ForCausalLM: Llama whose checkpoint stores QKV, and gate and up, fused."""
    config = with_defaults(config, "phi3")
    kind = parameters(config).str("rope_type", "type", default="default")
    if kind not in ("default", "longrope", "su", "yarn"):
        raise config.error("rope_scaling", f"has the type {kind!r}, which Phi3 does not have")
    qkv, out = biases(config)
    names = Names(
        parts=("qkv_proj", "qkv_proj", "qkv_proj"),
        gated=("gate_up_proj", "gate_up_proj", "gate_up_proj", "down_proj"),
    )
    return decoder(
        config,
        names=names,
        attention_bias=qkv,
        output_bias=out,
        mlp_bias=config.bool("mlp_bias", default=False),
    )


def mistral(config: Config) -> Draught:
    """MistralForCausalLM: transformers gives it a window of 4096 where the field is absent."""
    given = with_defaults(config, "mistral") if config.str("model_type") == "mistral" else config
    qkv, out = biases(given)
    return decoder(given, attention_bias=qkv, output_bias=out, mlp_bias=given.bool("mlp_bias", default=False))


def ministral3(config: Config) -> Draught:
    """Ministral3ForCausalLM: no window; YaRN from 16384 tokens where no rotary parameters are given."""
    given = with_defaults(config, "ministral3") if config.str("model_type") == "ministral3" else config
    if not given.has("rope_parameters") and not given.has("rope_scaling"):
        yarn = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 16384}
        given = given.replaced(rope_parameters=yarn)
    return decoder(given)


def qwen_windows(config: Config) -> tuple[int | None, ...]:
    """Qwen's windows: only with `use_sliding_window`, for the layers from `max_window_layers` on (Qwen2Config)."""
    layers = config.layers()
    if not config.bool("use_sliding_window", default=False):
        return (None,) * layers
    if config.has("layer_types"):
        return layer_windows(config, layers)
    first = config.int("max_window_layers", minimum=0)
    if 0 < first < layers:
        # vLLM asserts that all or no layers have a window (models/qwen2.py:346-358).
        raise config.error(
            "max_window_layers", "gives some layers a window, which vLLM refuses for this model"
        )
    return ((config.int("sliding_window", default=0, minimum=0) or None) if first == 0 else None,) * layers


def qwen2(config: Config) -> Draught:
    """Qwen2ForCausalLM: QKV biases; the window counts only with `use_sliding_window`."""
    config = with_defaults(config, "qwen2")
    qk_norm = "head" if config.bool("qk_norm", default=False) else None
    return decoder(config, attention_bias=True, qk_norm=qk_norm, window=qwen_windows(config))


def qwen3(config: Config) -> Draught:
    """Qwen3ForCausalLM: a norm per head on Q and K."""
    config = with_defaults(config, "qwen3")
    return decoder(
        config,
        attention_bias=config.bool("attention_bias", default=False),
        qk_norm="head",
        window=qwen_windows(config),
    )


ARCHITECTURES: dict[str, Builder] = {
    "LlamaForCausalLM": llama,
    "LLaMAForCausalLM": llama,
    # Registered under generation classes, so the head stays unless the repository asks for pooling.
    "LlamaModel": llama,
    "MistralModel": mistral,
    "Qwen2Model": qwen2,
    "InternLM3ForCausalLM": llama,
    "IQuestCoderForCausalLM": llama,
    "TeleChat3ForCausalLM": llama,
    "MistralForCausalLM": mistral,
    "Ministral3ForCausalLM": ministral3,
    "MiMoForCausalLM": qwen2,
    "Phi3ForCausalLM": phi3,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
}
