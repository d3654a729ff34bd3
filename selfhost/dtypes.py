"""Element types: how many bytes one holds and the names each source gives it."""

from __future__ import annotations

# Canonical name -> bits. Sub-byte types are stored packed.
BITS = {
    "float64": 64, "float32": 32, "bfloat16": 16, "float16": 16, "float8_e4m3fn": 8, "float8_e5m2": 8,
    "float8_e8m0fnu": 8, "float4_e2m1fn": 4, "int64": 64, "int32": 32, "int16": 16, "int8": 8, "int4": 4,
    "uint64": 64, "uint32": 32, "uint16": 16, "uint8": 8, "bool": 8,
}  # fmt: skip

# Safetensors header names (https://github.com/huggingface/safetensors, tensor.rs `Dtype`).
SAFETENSORS = {
    "F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F4": "float4_e2m1fn", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16",
    "U8": "uint8", "BOOL": "bool",
}  # fmt: skip

ALIASES = {
    "bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32",
    "torch.bfloat16": "bfloat16", "torch.float16": "float16", "torch.float32": "float32",
}  # fmt: skip


def canonical(name: str) -> str | None:
    """Canonical name for a dtype as configs spell it, None when unknown."""
    name = ALIASES.get(name, name)
    return name if name in BITS else None


def itemsize(name: str) -> int:
    """Whole bytes of one element of a canonical dtype of at least 8 bits."""
    return BITS[name] // 8
