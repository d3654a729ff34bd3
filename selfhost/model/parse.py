"""RawModel -> ModelSpec, once: architecture, dtype, quantization and blocks, every refusal naming its field."""

from __future__ import annotations

from dataclasses import replace

from selfhost.dtypes import canonical
from selfhost.errors import ConfigError
from selfhost.model.config import Config
from selfhost.model.families import builder
from selfhost.model.families.common import Draught
from selfhost.model.modules import Block, Buffer, Item
from selfhost.model.raw import RawModel
from selfhost.model.spec import ModelSpec
from selfhost.model.declared import Declared, read_declared
from selfhost.weights import item_parameters


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
    dtype = read_dtype(config, draught)
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
        facts=replace(draught.facts, pooling=True) if raw.pooling else draught.facts,
        first=draught.first,
        layers=draught.layers,
        last=draught.last,
        towers=draught.towers,
        tied=draught.tied,
        draft=draught.draft,
        buffers=tuple(_resolve(buffer, dtype) for buffer in draught.buffers),
        model_type=config.str("model_type"),
        parameters=parameters,
        licence=raw.licence,
    )
    return quantize(spec, declared)


def read_architecture(config: Config) -> str:
    """The class name that selects the family; the first of `architectures`, as vLLM takes it."""
    names = config.strings("architectures", default=())
    if not names:
        raise config.error("architectures", "is missing", hint="config.json of a language model names its class there.")
    for name in names:
        if builder(name) is not None:
            return name
    return names[0]


def read_dtype(config: Config, draught: Draught) -> str:
    """The dtype vLLM runs in: float32 and unstated become bfloat16 (config/model.py `_get_and_verify_dtype`)."""
    text = draught.dtype
    if text is None:
        for section in (config, *(s for n in ("text_config", "llm_config", "language_config", "thinker_config")
                                  if isinstance(config.data.get(n), dict) and (s := config.section(n)))):
            text = section.str("dtype", "torch_dtype", default="") or text
            if text:
                break
    if not text:
        return "bfloat16"
    name = canonical(text)
    if name is None:
        raise config.error("dtype", f"is {text!r}, not an element type")
    return name if name in ("float16", "bfloat16") else "bfloat16"


def _resolve(buffer: Buffer, dtype: str) -> Buffer:
    return replace(buffer, dtype=dtype) if buffer.dtype == "model" else buffer


def quantize(spec: ModelSpec, declared: Declared | None) -> ModelSpec:
    """A copy whose modules carry the schemes that `declared` gives them; equal layers become one object."""
    known: dict[tuple[int, tuple[object, ...]], Block] = {}
    kept: list[tuple[Item, ...]] = []  # keeps ids unique while `known` uses them

    by_items: dict[int, tuple[object, ...]] = {}
    uniform = declared is not None and declared.uniform

    def one(block: Block) -> Block:
        schemes: tuple[object, ...] = ()
        if uniform and not block.tower and id(block.items) in by_items:
            schemes = by_items[id(block.items)]
        elif declared is not None:
            schemes = tuple(declared.scheme_for(block, item, layers=len(spec.layers)) for item in block.items)
            if not block.tower:
                kept.append(block.items)
                by_items[id(block.items)] = schemes
        key = (id(block.items), (*schemes, block.keeps, block.tower, block.replicated))
        found = known.get(key)
        if found is None:
            kept.append(block.items)
            items = block.items
            if declared is not None:
                items = tuple(
                    item if scheme is None or not hasattr(item, "scheme") else replace(item, scheme=scheme)  # type: ignore[call-arg,arg-type]
                    for item, scheme in zip(items, schemes, strict=True)
                )
            found = replace(block, items=items)
            known[key] = found
        return found

    return replace(
        spec,
        first=one(spec.first),
        layers=tuple(one(block) for block in spec.layers),
        last=one(spec.last),
        towers=tuple(one(block) for block in spec.towers),
        draft=tuple(one(block) for block in spec.draft),
        scheme=declared.main if declared else None,
        quantization=declared.method if declared else None,
        kv_dtype=declared.kv_dtype if declared else None,
    )
