"""How large things are: Kubernetes quantities, and a model's weights by its name."""

from __future__ import annotations

import re
from functools import lru_cache

from selfhost.catalog.models import find
from selfhost.lint.model import Engine
from selfhost.lint.nodes import Value, text_of
from selfhost.units import GIB

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/, 2026-11-21.
_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?([kMGTP]|[KMGTP]i)?$")
_EXPERTS = re.compile(r"(?<![a-z0-9.])(\d{1,3})x(\d{1,3}(?:\.\d)?)b(?![a-z])")
_BILLIONS = re.compile(r"(?<![a-z0-9.])(\d{1,4}(?:\.\d{1,2})?)b(?![a-z])")
# Bits of a weight by what a checkpoint or an option calls its quantization; the first that matches.
_BITS = (
    (re.compile(r"(?<![a-z])(awq|gptq|int4|4bit|w4a16|nvfp4|mxfp4|fp4|bnb|nf4|q4|iq4|bitsandbytes)"), 4.5),
    (re.compile(r"q5"), 5.5),
    (re.compile(r"q6"), 6.6),
    (re.compile(r"(?<![a-z])(fp8|int8|8bit|w8a8|w8a16|q8)"), 8.0),
)


def quantity(value: Value) -> int | None:
    """Bytes of a Kubernetes quantity such as `16Gi` or `500M`; None for what is none, or has an exponent or milli."""
    found = _QUANTITY.match((text_of(value) or "").strip())
    if found is None:
        return None
    unit = _UNITS[found[3] or ""]
    fraction = int(found[2]) * unit // 10 ** len(found[2]) if found[2] else 0
    return int(found[1]) * unit + fraction


def weight_bytes(engine: Engine) -> int | None:
    """Stored weights of the engine's model: parameters by the catalogue or the name, bits by names and options."""
    if not engine.model:
        return None
    option = engine.flag("quantization", "quantize")
    return _weights(engine.model, (option.value or "") if option else "")


@lru_cache(maxsize=4096)
def _weights(model: str, option: str) -> int | None:
    parameters = _parameters(model)
    if parameters is None:
        return None
    return int(parameters * _bits(model, option) / 8)


def _parameters(model: str) -> float | None:
    bundled = find(model) if not model.startswith(("/", ".")) else None
    if bundled is not None and bundled.entry.parameters:
        return float(bundled.entry.parameters)
    name = model.lower().rstrip("/").rpartition("/")[2].replace("_", "-")
    experts = _EXPERTS.search(name)
    if experts is not None:
        return int(experts[1]) * float(experts[2]) * 1e9
    sizes = [float(found[1]) for found in _BILLIONS.finditer(name)]
    return max(sizes) * 1e9 if sizes else None  # 235B-A22B: all of them are loaded


def _bits(model: str, option: str) -> float:
    bundled = find(model) if not model.startswith(("/", ".")) else None
    declared = str(bundled.config.get("quantization_config") or "") if bundled is not None else ""
    name = f"{model.rpartition('/')[2]} {declared[:200]}".lower()
    for text in (name, option.lower() if option.lower() not in ("fp8", "bitsandbytes") else ""):
        for pattern, bits in _BITS:
            if pattern.search(text):
                return bits
    return 16.0  # fp8 and bitsandbytes as options quantize while loading: what is read is 16 bits wide


def shown(size: int) -> str:
    """Bytes as whole GiB, or MiB below one."""
    return f"{size / GIB:.0f} GiB" if size >= GIB else f"{size >> 20} MiB"
