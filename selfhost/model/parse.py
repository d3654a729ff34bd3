"""RawModel -> ModelSpec, once: architecture, dtype, quantization and blocks, every refusal naming its field."""

from __future__ import annotations

from dataclasses import replace

from selfhost.dtypes import canonical
from selfhost.errors import ConfigError
from selfhost.model.config import Config
from selfhost.model.declared import Declared
from selfhost.model.dialects import read_declared
from selfhost.model.encoders import image_encoder
from selfhost.model.families import builder
from selfhost.model.families._base_models import BASE_MODELS
from selfhost.model.families._pooling import without_head
from selfhost.model.families.common import Draught
from selfhost.model.headers import examine, main_dtype
from selfhost.model.modules import Block, Buffer, Vector
from selfhost.model.raw import RawModel, TensorHeader
from selfhost.model.spec import ModelSpec
from selfhost.quantization.schemes import Scheme
from selfhost.weights import item_parameters

# Model types that vLLM refuses to run in float16 (config/model.py:2379-2384).
_NO_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "glm4")


def parse_model(raw: RawModel) -> ModelSpec:
    """Understand a model or refuse it.

    Raises:
        ConfigError: a field is missing, absurd or unknown; the error names it.
    """
    config = Config(raw.config)
    architecture = read_architecture(config)
    build = builder(architecture)
    if build is None:
        raise ConfigError(
            f"The configuration's `architectures` names {architecture!r}, which selfhost does not know.",
            field="architectures",
            hint="`selfhost models --architectures` lists the known ones; a family file adds one (CONTRIBUTING.md).",
        )
    try:
        draught = build(config)
    except RecursionError as error:
        raise ConfigError("The configuration nests too deeply.", field="architectures") from error
    if raw.pooling and not draught.facts.pooling:
        draught = without_head(draught)
    dtype = read_dtype(config, draught, raw.tensors)
    facts = replace(
        draught.facts, max_context_tokens=read_context_limit(config, draught.facts.max_context_tokens)
    )
    if draught.towers:
        facts = replace(facts, image_encoder=image_encoder(config, config.str("model_type")))
    declared = read_declared(config, raw.quantization)
    parameters = sum(
        item_parameters(item)
        for block in (draught.first, *draught.layers, draught.last, *draught.towers)
        for item in block.items
    )
    spec = ModelSpec(
        id=raw.id,
        revision=raw.revision,
        architecture=architecture,
        origin=raw.origin,
        source=raw.source,
        dtype=dtype,
        facts=replace(facts, pooling=True) if raw.pooling else facts,
        first=draught.first,
        layers=draught.layers,
        last=draught.last,
        towers=draught.towers,
        tied=draught.tied,
        draft=draught.draft,
        buffers=tuple(_resolve(buffer, dtype) for buffer in draught.buffers),
        parameters=parameters,
        licence=raw.licence,
    )
    if raw.tensors:
        stored = examine(spec, raw.tensors)
        spec = replace(spec, notes=(*spec.notes, *stored.notes))
        if declared is not None and declared.file_blocks is not None:
            declared = replace(declared, stored=stored.dtypes)
    return quantize(spec, declared)


def read_architecture(config: Config) -> str:
    """The class name that selects the family; the first of `architectures`, as vLLM takes it."""
    names = config.strings("architectures", default=())
    base = BASE_MODELS.get(config.str("model_type"))
    if not names and base is not None:
        # Without the field vLLM takes transformers' base model, which it uses for pooling
        # (transformers_utils/config.py:876-886).
        return base
    if not names:
        raise config.error(
            "architectures", "is missing", hint="config.json of a language model names its class there."
        )
    for name in names:
        if builder(name) is not None:
            return name
    return names[0]


def read_dtype(config: Config, draught: Draught, tensors: tuple[TensorHeader, ...] | None = None) -> str:
    """The dtype vLLM runs in (config/model.py `_get_and_verify_dtype`).

    float32 and unstated become bfloat16, float16 for pooling models that bear it.
    """
    halves = draught.facts.pooling and config.str("model_type") not in _NO_FLOAT16
    preferred = "float16" if halves else "bfloat16"
    sections = (config, text_section(config))
    text = next(filter(None, (section.str("dtype", "torch_dtype") for section in sections)), None)
    if text is None:
        # The repository's own tensors decide (transformers_utils/model_arch_config_convertor.py, safetensors metadata).
        text = (main_dtype(tensors) if tensors else None) or preferred
    name = canonical(text)
    if name is None:
        raise config.error("dtype", f"is {text!r}, not an element type")
    return name if name in ("float16", "bfloat16") else preferred


_LENGTHS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
_TEXT = ("text_config", "llm_config", "language_config", "thinker_config")


def text_section(config: Config) -> Config:
    """The section of the language model: nested in composite configurations, the top otherwise."""
    for name in _TEXT:
        if isinstance(config.data.get(name), dict):
            return text_section(config.section(name))
    return config


def read_context_limit(config: Config, fallback: int) -> int:
    """The longest context the engine takes by default: the shortest stated length, stretched by rope scaling.

    vLLM 0.32 config/model.py `_get_and_verify_max_len`.
    """
    text = text_section(config)
    stated = [text.int(name) for name in _LENGTHS if text.has(name)]
    limit = min(stated) if stated else fallback
    scaling = text.optional_section("rope_parameters") or text.optional_section("rope_scaling")
    if scaling is None or "gemma3" in config.str("model_type"):
        return limit
    kind = scaling.str("rope_type", "type", default="default")
    if kind in ("default", "su", "longrope", "llama3", "mrope") or not scaling.has("factor"):
        return limit
    factor = scaling.float("factor", default=1.0)
    if kind in ("yarn", "deepseek_yarn"):
        limit = scaling.int("original_max_position_embeddings", default=limit)
    return max(1, int(limit * factor))


def _resolve(buffer: Buffer, dtype: str) -> Buffer:
    return replace(buffer, dtype=dtype) if buffer.dtype == "model" else buffer


def quantize(spec: ModelSpec, declared: Declared | None) -> ModelSpec:
    """A copy whose modules carry the schemes that `declared` gives them; equal layers become one object."""
    layers = len(spec.layers)
    uniform = declared is None or declared.uniform
    done: dict[int, Block] = {}
    equal: dict[tuple[object, ...], Block] = {}
    known: dict[tuple[object, ...], tuple[Scheme | None, ...]] = {}

    def schemes_of(block: Block, index: int | None, rule: Declared) -> tuple[Scheme | None, ...]:
        mark = rule.signature(block)
        found = known.get((id(block.items), mark)) if mark is not None else None
        if found is None:
            found = tuple(rule.scheme_for(block, item, layer=index, layers=layers) for item in block.items)
            if mark is not None:
                known[id(block.items), mark] = found
        return found

    def one(block: Block, index: int | None = None) -> Block:
        if uniform and id(block) in done:
            return done[id(block)]
        schemes: tuple[Scheme | None, ...] = ()
        if declared is not None:
            schemes = schemes_of(block, index, declared)
        # `spec` keeps the blocks alive, so ids of their items stay unique here.
        key = (id(block.items), schemes, block.keeps, block.tower, block.replicated)
        found = equal.get(key)
        if found is None:
            found = block
            if any(scheme is not None for scheme in schemes):
                items = tuple(
                    item if scheme is None or isinstance(item, Vector) else replace(item, scheme=scheme)
                    for item, scheme in zip(block.items, schemes, strict=True)
                )
                found = replace(block, items=items)
            equal[key] = found
        done[id(block)] = found
        return found

    return replace(
        spec,
        first=one(spec.first),
        layers=tuple(one(block, index) for index, block in enumerate(spec.layers)),
        last=one(spec.last),
        towers=tuple(one(block) for block in spec.towers),
        draft=tuple(one(block) for block in spec.draft),
        scheme=declared.main if declared else None,
        quantization=declared.method if declared else None,
        kv_dtype=declared.kv_dtype if declared else None,
    )
