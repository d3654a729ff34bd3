"""`--quant`: what a model would weigh in another format, as the usual tools would produce it for vLLM."""

from __future__ import annotations

from dataclasses import replace

from selfhost.errors import UsageError
from selfhost.model.declared import Declared, gguf_file
from selfhost.model.modules import Block, Vector
from selfhost.model.parse import quantize
from selfhost.model.spec import ModelSpec
from selfhost.quantization import PLAIN, SCHEMES, names

# How the checkpoint would declare it; everything else arrives as compressed-tensors.
METHODS = {
    "fp8-tensor": "fp8",
    "fp8-block": "fp8",
    "awq-int4": "awq",
    "gptq-int4": "gptq",
    "gptq-int8": "gptq",
    "autoround-int4": "auto-round",
    "nvfp4": "modelopt",
    "nvfp4a16": "modelopt",
    "mxfp4": "mxfp4",
    "bnb-nf4": "bitsandbytes",
    "bnb-int8": "bitsandbytes",
}


def wanted(name: str) -> Declared | None:
    """What `--quant NAME` does to a model: None for plain 16-bit weights.

    Routers, norms, embeddings and towers stay as they are, as the tools leave them; the output head too (only GGUF
    files quantize it).

    Raises:
        UsageError: an unknown name.
    """
    if name in PLAIN:
        return None
    if name.startswith("gguf-"):
        return gguf_file(name.removeprefix("gguf-"))
    scheme = SCHEMES.get(name)
    if scheme is None:
        raise UsageError(f"--quant {name[:80]!r} is not known.", hint=_closest(name))
    return Declared(method=METHODS.get(name, "compressed-tensors"), main=scheme, towers=False)


def _closest(name: str) -> str:
    """What was probably meant, else all there is."""
    from difflib import get_close_matches

    wanted = name.lower().replace("_", "-")
    turned = "-".join(reversed(wanted.split("-")))  # int4-awq, as benchmarks write it
    if turned in names():
        return f"Did you mean {turned}?"
    known = {one.replace("_", "-"): one for one in names()}
    close = [known[one] for one in known if wanted and one.startswith(wanted)]
    close = close or [known[one] for one in get_close_matches(wanted, known, n=3)]
    return f"Did you mean {' or '.join(close[:4])}?" if close else f"Use one of {', '.join(names())}."


def _bare(block: Block, known: dict[int, Block]) -> Block:
    """The block without schemes; the same block always gives the same object."""
    found = known.get(id(block))
    if found is None:
        found = block
        if any(not isinstance(item, Vector) and item.scheme is not None for item in block.items):
            items = tuple(
                item if isinstance(item, Vector) or item.scheme is None else replace(item, scheme=None)
                for item in block.items
            )
            found = replace(block, items=items)
        known[id(block)] = found
    return found


def requantize(spec: ModelSpec, name: str) -> ModelSpec:
    """The model as it would be in another weight format; its declared KV dtype goes with its old format.

    Args:
        spec: the model as its checkpoint declares it.
        name: a value of `--quant`.

    Raises:
        UsageError: an unknown name.
    """
    if spec.scheme is not None and spec.scheme.id == name:
        return spec  # in that format already, with what its makers left out of it
    declared = wanted(name)
    known: dict[int, Block] = {}
    bare = spec.with_blocks(
        first=_bare(spec.first, known),
        layers=tuple(_bare(block, known) for block in spec.layers),
        last=_bare(spec.last, known),
        towers=tuple(_bare(block, known) for block in spec.towers),
        draft=tuple(_bare(block, known) for block in spec.draft),
    )
    changed = quantize(bare, declared)
    return replace(changed, dtype="float16") if name == "fp16" else changed
