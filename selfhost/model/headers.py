"""Tensor headers against the configuration: sizes that disagree are refused, GGUF block types come from the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from selfhost.errors import MalformedAnswerError
from selfhost.model.modules import Block, Embedding, Experts, Matrix
from selfhost.model.raw import TensorHeader
from selfhost.model.spec import ModelSpec
from selfhost.quantization.blocks import GGML_BLOCKS
from selfhost.units import gib

_PLAIN_FLOATS = ("float64", "float32", "bfloat16", "float16")
# Elements are stored one by one, so their number must be the configuration's.
_UNPACKED = (*_PLAIN_FLOATS, "float8_e4m3fn", "float8_e5m2", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the headers say about a model.

    Args:
        dtypes: stored dtype of each weight that a module takes, by the checkpoint's name without `.weight`.
        notes: sentences for the user.
    """

    dtypes: Mapping[str, str]
    notes: tuple[str, ...]


def _expected(block: Block) -> Iterator[tuple[str, int]]:
    """Name and number of elements of every weight of a block, under each of its prefixes."""
    for prefix in block.prefixes or ("",):
        dot = f"{prefix}." if prefix else ""
        for item in block.items:
            if isinstance(item, Matrix):
                rows = sum(part.units * part.unit for part in item.parts)
                yield dot + item.name, rows * item.inputs
                # Several parts may lie in one tensor (gated delta net's q, k and v).
                stored: dict[str, int] = {}
                for part in item.parts:
                    stored[part.name] = stored.get(part.name, 0) + part.units * part.unit * item.inputs
                for name, elements in stored.items():
                    yield dot + name, elements
            elif isinstance(item, Embedding):
                yield dot + item.name, item.rows * item.width
            elif isinstance(item, Experts):
                for index in range(item.count):
                    for name in item.names:
                        yield f"{dot}{item.name}.{index}.{name}", item.hidden * item.intermediate


def examine(spec: ModelSpec, tensors: tuple[TensorHeader, ...]) -> Stored:
    """Compare headers with what the configuration implies.

    Args:
        spec: the model before equal layers are joined, so that each layer has its own name.
        tensors: headers of the weights.

    Raises:
        MalformedAnswerError: a stored weight has another size than the configuration implies.
    """
    weights = {t.name.removesuffix(".weight"): t for t in tensors if t.name.endswith(".weight")}
    dtypes: dict[str, str] = {}
    claimed: set[str] = set()
    prefixes: list[str] = []
    for block in (spec.first, *spec.layers, spec.last, *spec.towers, *spec.draft):
        prefixes.extend(f"{prefix}." for prefix in block.prefixes if prefix)
        for name, elements in _expected(block):
            tensor = weights.get(name)
            if tensor is None or name in claimed:
                continue
            claimed.add(name)
            dtypes[name] = tensor.dtype
            held = 1
            for size in tensor.shape:
                held *= size
            if held != elements and (tensor.dtype in _UNPACKED or tensor.dtype in GGML_BLOCKS):
                raise MalformedAnswerError(
                    f"The weights and config.json disagree: {tensor.name} holds {held:,} elements, the configuration "
                    f"implies {elements:,}.",
                    hint="The files come from different models, or the download is incomplete.",
                )
    inside = tuple(sorted(set(prefixes)))
    known = _under(inside, tensors)
    total = sum(t.bytes for t in tensors)
    loose = total - known
    notes: tuple[str, ...] = ()
    if loose > total // 1000:
        notes = (f"{gib(loose)} GiB of the stored tensors belong to no part that the engine loads.",)
    return Stored(dtypes=dtypes, notes=notes)


def _under(prefixes: tuple[str, ...], tensors: tuple[TensorHeader, ...]) -> int:
    """Bytes of tensors that belong to a block, or stand outside any numbered layer (norms, heads, embeddings)."""
    layers = frozenset(p for p in prefixes if p.rstrip(".").rpartition(".")[2].isdigit())
    total = 0
    for tensor in tensors:
        parts = tensor.name.split(".")
        numbered = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if numbered is None or ".".join(parts[: numbered + 1]) + "." in layers or not layers:
            total += tensor.bytes
    return total


def main_dtype(tensors: tuple[TensorHeader, ...]) -> str | None:
    """The plain float dtype with the most bytes: what the engine takes when config.json states none."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        if tensor.dtype in _PLAIN_FLOATS:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.bytes
    return max(sizes, key=sizes.__getitem__) if sizes else None
