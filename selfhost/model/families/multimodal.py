"""Composite models: a language model built by its own family, with vision and audio towers around it.

vLLM builds the language part with `init_vllm_registered_model` on a section of the configuration
(models/utils.py:624) and names it `language_model.`; `--language-model-only` leaves out what `_mark_tower_model`
covers (models/interfaces.py:339), which are the Blocks with `tower=True` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from selfhost.attention import FullAttention, SlidingWindow
from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught
from selfhost.model.modules import Block, Buffer, Embedding, Item, Matrix, Part, Vector

# Class of the language model by the section's `model_type` where the section names none: transformers'
# MODEL_FOR_CAUSAL_LM_MAPPING_NAMES (5.19), as vLLM takes it (config/vllm.py:934-946).
CAUSAL: dict[str, str] = {
    "bailing_moe": "BailingMoeForCausalLM",
    "cohere": "CohereForCausalLM",
    "cohere2": "Cohere2ForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "granite": "GraniteForCausalLM",
    "granitemoehybrid": "GraniteMoeHybridForCausalLM",
    "lfm2": "Lfm2ForCausalLM",
    "lfm2_moe": "Lfm2MoeForCausalLM",
    "llama": "LlamaForCausalLM",
    "ministral3": "Ministral3ForCausalLM",
    "mistral": "MistralForCausalLM",
    "mistral4": "Mistral4ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "nemotron_h": "NemotronHForCausalLM",
    "opt": "OPTForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}

# Sizes that published text sections leave to transformers' classes (5.19, models/*/configuration_*.py).
SIZES: dict[str, dict[str, int | bool]] = {
    "llama": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "vocab_size": 32000, "max_position_embeddings": 2048,
    },
    "mistral": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 131072,
    },
    "opt": {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 50272, "ffn_dim": 3072,
        "max_position_embeddings": 2048,
    },
    "qwen2": {
        "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 151936, "max_position_embeddings": 32768,
    },
    "qwen3": {
        "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 32768,
    },
}  # fmt: skip

Prefixes = tuple[str, ...]


def text_config(
    config: Config,
    *names: str,
    model_type: str = "",
    outer_tie: bool | None = None,
    forward_tie: bool = False,
    more: Mapping[str, object] | None = None,
) -> Config:
    """The language model's section with its class's sizes and the outer rule on tied embeddings.

    Args:
        names: fields under which the section may stand; the whole configuration where none is there.
        model_type: type of the section where it states none.
        outer_tie: default of the outer class's `tie_word_embeddings`, which replaces the section's own value
            (config/vllm.py:955-985); None where that class has no such field.
        forward_tie: the outer class takes over a tie that only the section states.
        more: values that the composite class forces upon the section.
    """
    section = config.optional_section(*(names or ("text_config",))) or config
    kind = section.str("model_type", default=model_type)
    data: dict[str, object] = {**SIZES.get(kind, {}), "model_type": kind, **section.data, **(more or {})}
    if config.has("quantization_config"):
        # One quantization for all parts; some text families ask which.
        data.setdefault("quantization_config", config.data["quantization_config"])
    if section is not config and (outer_tie is not None or config.has("tie_word_embeddings")):
        inner = (
            Config(data, section.path).bool("tie_word_embeddings", default=False) if forward_tie else False
        )
        data["tie_word_embeddings"] = config.bool("tie_word_embeddings", default=bool(outer_tie)) or inner
    return Config(data, section.path)


def language(
    section: Config,
    architecture: str | None = None,
    *,
    prefixes: Prefixes = ("model.language_model", "language_model.model", "model"),
    positions_factor: int = 4,
) -> Draught:
    """The language part, built by its own family and renamed.

    Args:
        architecture: class that vLLM asks for; else the section's own, else by its model type.
        prefixes: what the family's `model` is called by checkpoints and by vLLM.
        positions_factor: rows of a multimodal rotary table per position (rotary_embedding/mrope.py:347).

    Raises:
        ConfigError: the language model's class is unknown.
    """
    from selfhost.model.families import builder

    name = architecture or _stated(section)
    build = builder(name)
    if build is None:
        raise section.error("architectures", f"asks for {name!r}, which selfhost does not know")
    if positions_factor == 1:
        section = _plain_rotation(section)
    return renamed(build(section), prefixes)


def _stated(section: Config) -> str:
    names = section.strings("architectures", default=())
    if names:
        return names[0]
    kind = section.str("model_type")
    if kind not in CAUSAL:
        raise section.error("model_type", f"is {kind[:40]!r}, whose language model selfhost does not know")
    return CAUSAL[kind]


def _plain_rotation(section: Config) -> Config:
    """Without `mrope_section`, for families whose multimodal positions never exceed the tokens.

    models/qwen3_vl.py:1818.
    """
    data = dict(section.data)
    for field in ("rope_scaling", "rope_parameters"):
        value = data.get(field)
        if isinstance(value, Mapping):
            data[field] = {key: one for key, one in value.items() if key != "mrope_section"}
    return Config(data, section.path)


def renamed(draught: Draught, prefixes: Prefixes) -> Draught:
    """A copy whose `model` goes by each of the prefixes; the head also by their parents."""

    def names(block: Block) -> Block:
        found: list[str] = []
        for old in block.prefixes:
            head, dot, rest = old.partition(".")
            if head == "model":
                found += [f"{prefix}{dot}{rest}" for prefix in prefixes]
            elif old:
                found += [f"language_model.{old}", old]
            else:
                found += ["", "language_model"]
        return replace(block, prefixes=tuple(dict.fromkeys(found)))

    return replace(
        draught,
        first=names(draught.first),
        layers=tuple(names(block) for block in draught.layers),
        last=names(draught.last),
        draft=tuple(names(block) for block in draught.draft),
    )


def with_towers(
    draught: Draught,
    towers: tuple[Block, ...],
    *,
    modality: str,
    buffers: tuple[Buffer, ...] = (),
    bidirectional: bool = False,
) -> Draught:
    """The language part with its towers.

    Args:
        modality: what goes in, e.g. `text+image+video`.
        buffers: the towers' buffers.
        bidirectional: image tokens attend both ways, which limits the attention kernels.
    """
    if bidirectional:
        draught = replace(draught, layers=tuple(_both_ways(block) for block in draught.layers))
    return replace(
        draught,
        facts=replace(draught.facts, modality=modality),
        towers=(*draught.towers, *towers),
        buffers=(*draught.buffers, *(replace(buffer, tower=True) for buffer in buffers)),
    )


def _both_ways(block: Block) -> Block:
    keeps = tuple(
        replace(kept, prefix_bidirectional=True) if isinstance(kept, (FullAttention, SlidingWindow)) else kept
        for kept in block.keeps
    )
    return replace(block, keeps=keeps)


# ---- towers
def part(config: Config, name: str) -> Config:
    """A tower's section; its class's defaults apply where it is absent."""
    return config.optional_section(name) or Config({}, config.name(name))


def encoder(
    prefixes: Prefixes, count: int, items: tuple[Item, ...], *, replicated: bool = False
) -> tuple[Block, ...]:
    """`count` equal layers of a tower."""
    return tuple(
        Block(
            prefixes=tuple(f"{one}.{index}" for one in prefixes),
            items=items,
            tower=True,
            replicated=replicated,
        )
        for index in range(count)
    )


def unquantized(block: Block) -> Block:
    """A copy that is built without quantization."""
    items = tuple(
        replace(item, quantizable=False) if isinstance(item, Matrix) else item for item in block.items
    )
    return replace(block, items=items)


def stage(prefixes: Prefixes, *items: Item, replicated: bool = False) -> Block:
    """What a tower holds beside its layers."""
    return Block(prefixes=prefixes, items=items, tower=True, replicated=replicated)


def conv(name: str, outputs: int, inputs: int, *, bias: bool = False) -> Vector:
    """A convolution, whole on every rank and never quantized; `inputs` is channels x kernel."""
    return Vector(name=name, units=outputs, unit=inputs + (1 if bias else 0))


def plain(name: str, outputs: int, inputs: int, *, bias: bool = True, copies: int = 1) -> Vector:
    """torch's own linear layer: whole on every rank and never quantized."""
    return Vector(name=name, units=outputs, unit=inputs + (1 if bias else 0), copies=copies)


def weights(name: str, *sizes: int) -> Vector:
    """A bare parameter: position table, class token, layer scale."""
    total = 1
    for size in sizes:
        total *= size
    return Vector(name=name, units=total)


def fused(
    name: str, heads: int, head_dim: int, inputs: int, *, bias: bool, part: str = "", whole_unless: int = 0
) -> Matrix:
    """QKV of a tower in one checkpoint tensor; `part` names it where vLLM renames it."""
    one = Part(name=part or name, units=heads, unit=head_dim)
    return Matrix(
        name=name,
        parts=(one, one, one),
        inputs=inputs,
        division="column",
        bias=bias,
        whole_unless=whole_unless,
    )


def table(name: str, rows: int, width: int) -> Embedding:
    """An embedding that every rank holds whole."""
    return Embedding(name=name, rows=rows, width=width, divided=False)


def floats(name: str, elements: int, dtype: str = "float32") -> Buffer:
    """A tower's buffer."""
    return Buffer(name=name, elements=elements, dtype=dtype, tower=True)


def scaled(section: Config, field: str, width: int, *, default: float) -> int:
    """`width` times a ratio, rounded down as Python does.

    Raises:
        ConfigError: the ratio leaves nothing.
    """
    size = int(width * section.float(field, default=default))
    if size < 1:
        raise section.error(field, f"is {section.data.get(field)}, which leaves no width")
    return size


def pair(config: Config, field: str, *, default: int | None = None) -> tuple[int, int]:
    """A size given once or as [height, width]."""
    value = config.data.get(field)
    if isinstance(value, (list, tuple)):
        sizes = config.ints(field, minimum=1)
        if len(sizes) != 2:
            raise config.error(field, f"should have two sizes, not {len(sizes)}")
        return sizes[0], sizes[1]
    one = (
        config.int(field, maximum=1 << 20)
        if default is None
        else config.int(field, default=default, maximum=1 << 20)
    )
    return one, one


ARCHITECTURES: dict[str, Builder] = {}
