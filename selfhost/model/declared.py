"""A quantization as a rule: which scheme each module of a model gets, and which stay as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from selfhost.errors import UsageError
from selfhost.model.modules import Block, Embedding, Experts, Item, Matrix, Vector
from selfhost.model.patterns import Patterns, layer_number
from selfhost.quantization import GGUF_FILES
from selfhost.quantization.blocks import GGML_BLOCKS, Gguf
from selfhost.quantization.schemes import Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One group of modules and what becomes of them; `scheme` None leaves them alone."""

    patterns: Patterns
    scheme: Scheme | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A checkpoint's quantization.

    Args:
        method: the method's name (`fp8`, `compressed-tensors`, ...).
        main: scheme of most weights.
        experts: scheme of the routed experts, where it differs.
        excluded: modules left unquantized.
        targets: modules with schemes of their own, first match wins.
        only_targets: modules outside `targets` stay unquantized (MIXED_PRECISION).
        only_experts: only routed experts are quantized (gpt-oss' MXFP4).
        heads: the output head is quantized unless excluded.
        towers: towers are quantized unless excluded.
        kv_dtype: declared KV-cache dtype.
        file_blocks: ggml blocks of a GGUF file: most tensors, the better ones, the output head.
        stored: dtypes of the file's own tensors by name, which decide before `file_blocks`.
    """

    method: str
    main: Scheme | None
    experts: Scheme | None = None
    excluded: Patterns = field(default_factory=lambda: Patterns((), "exact"))
    targets: tuple[Target, ...] = ()
    only_targets: bool = False
    only_experts: bool = False
    heads: bool = False
    towers: bool = True
    kv_dtype: str | None = None
    file_blocks: tuple[Gguf, Gguf, Gguf] | None = None
    stored: Mapping[str, str] = field(default_factory=dict)

    @property
    def uniform(self) -> bool:
        """Whether equal modules get equal schemes in every layer."""
        return not self.excluded and not self.targets and self.file_blocks is None

    def signature(self, block: Block) -> tuple[object, ...] | None:
        """What this rule knows of a block beyond its items; blocks with equal ones get equal schemes.

        None where patterns may tell layers apart in other ways.
        """
        patterns = (self.excluded, *(target.patterns for target in self.targets))
        if self.file_blocks is not None or not all(one.by_layer_only for one in patterns if one):
            return None
        numbers = {layer_number(prefix + ".") for prefix in block.prefixes}
        if len(numbers) != 1:
            return None
        number = numbers.pop()
        shared = tuple(re.sub(r"\.\d+$", "", prefix) for prefix in block.prefixes)
        return (block.tower, block.replicated, shared, *(one.signature(number) for one in patterns))

    def scheme_for(
        self, block: Block, item: Item, *, layer: int | None = None, layers: int = 0
    ) -> Scheme | None:
        """The scheme of one module, None when it stays in the model's dtype.

        Args:
            block: where the module stands.
            item: the module.
            layer: number of the decoder layer, None outside of them.
            layers: decoder layers of the model.
        """
        if self.file_blocks is not None:
            if self.stored:
                return _stored_block(self.file_blocks[0].name, self.stored, block, item)
            return _ggml_block(self.file_blocks, block, item, layer, layers)
        if isinstance(item, Vector) or not item.quantizable:
            return None
        if isinstance(item, Embedding) and not item.head:
            return None
        if block.tower and (not self.towers or block.replicated):
            return None
        whole, parts = _names(block, item)
        number = layer_number(whole[0])
        if self.excluded and _covered(self.excluded, whole, parts, number):
            return None
        for target in self.targets:
            if _covered(target.patterns, whole, parts, number):
                return target.scheme
        if self.only_targets:
            return None
        if isinstance(item, Embedding):
            return self.main if self.heads else None
        if isinstance(item, Experts):
            return self.experts or self.main
        return None if self.only_experts else self.main


def _ggml_block(
    blocks: tuple[Gguf, Gguf, Gguf], block: Block, item: Item, layer: int | None, layers: int
) -> Scheme | None:
    """The block type llama.cpp gives a tensor.

    `use_more_bits` of llama-quant.cpp gives the first and last eighth of the layers, and every third between, the
    better block for attn_v and ffn_down.
    """
    most, better, head = blocks
    if isinstance(item, Vector) or block.tower:
        return None
    if isinstance(item, Embedding):
        return (head if item.head else most) if item.divided else None
    if not item.quantizable:
        return None
    if layer is not None and item.name.rpartition(".")[2] in ("down_proj", "w2", "fc2", "c_proj"):
        eighth = layers // 8
        if layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2:
            return better
    return most


def _stored_block(label: str, stored: Mapping[str, str], block: Block, item: Item) -> Scheme | None:
    """The block types of a module's own tensors; None where the file keeps it in plain floats."""
    if isinstance(item, Vector):
        return None
    whole, parts = _names(block, item)
    found: list[str] = []
    for names in parts if isinstance(item, Matrix) else (*parts, whole):
        found.extend(stored[name] for name in names if name in stored)
    if not found:
        found = [stored[name] for name in whole if name in stored]
    blocks = tuple(kind for kind in found if kind in GGML_BLOCKS)
    if not blocks or all(kind in ("f32", "f16", "bf16") for kind in blocks):
        return None
    if isinstance(item, Matrix) and len(blocks) == len(item.parts):
        return Gguf(name=label, block=blocks[0], part_blocks=blocks)
    return Gguf(name=label, block=max(set(blocks), key=blocks.count))


def _names(block: Block, item: Item) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Full names of a module under each prefix, and of each of its parts."""
    whole: list[str] = []
    parts: list[tuple[str, ...]] = []
    children: tuple[str, ...] = ()
    if isinstance(item, Matrix):
        children = tuple(part.name for part in item.parts)
    elif isinstance(item, Experts):
        children = tuple(f"{item.name}.0.{name}" for name in item.names)
    for prefix in block.prefixes or ("",):
        dot = f"{prefix}." if prefix else ""
        whole.append(dot + item.name)
        parts.append(tuple(dot + child for child in children))
    by_part = tuple(tuple(one[i] for one in parts) for i in range(len(children)))
    return tuple(whole), by_part


def _covered(
    patterns: Patterns, whole: tuple[str, ...], parts: tuple[tuple[str, ...], ...], layer: str | None
) -> bool:
    """Whether the fused module, or every one of its parts, matches."""
    candidates = patterns.candidates(layer)
    if not candidates:
        return False
    if patterns.any(whole, candidates):
        return True
    return bool(parts) and all(patterns.any(part, candidates) for part in parts)


def gguf_file(file_type: str) -> Declared:
    """The quantization of a GGUF file type.

    Raises:
        UsageError: an unknown file type.
    """
    if file_type not in GGUF_FILES:
        raise UsageError(
            f"{file_type!r} is not a GGUF file type.", hint="Known: " + ", ".join(GGUF_FILES) + "."
        )
    most, better, head = (Gguf(name=f"gguf-{file_type}", block=block) for block in GGUF_FILES[file_type])
    return Declared(method="gguf", main=most, file_blocks=(most, better, head))
