"""What a quantization does to each tensor: a class per scheme (schemes.py), and SCHEMES, their `--quant` names."""

from __future__ import annotations

from selfhost.quantization.blocks import BitsAndBytes, Gguf
from selfhost.quantization.schemes import Fp8, Int8, Mx, Nvfp4, PackedInt, Scheme

PLAIN = ("bf16", "fp16")

# The defaults of llm-compressor, AutoAWQ, GPTQModel, AutoRound and ModelOpt (group sizes of their published recipes).
SCHEMES: dict[str, Scheme] = {
    "fp8": Fp8(granularity="channel"),
    "fp8-tensor": Fp8(granularity="tensor"),
    "fp8-block": Fp8(granularity="block"),
    "int8": Int8(),
    "awq-int4": PackedInt(name="awq-int4", width=4, group=128, zero_points=True, refines_groups=True),
    "gptq-int4": PackedInt(
        name="gptq-int4", width=4, group=128, zero_points=True, zero_points_in_fallback=False, refines_groups=True,
        spare_biases=True, cuts_groups=True,
    ),
    "gptq-int8": PackedInt(
        name="gptq-int8", width=8, group=128, zero_points=True, zero_points_in_fallback=False, refines_groups=True,
        spare_biases=True, cuts_groups=True,
    ),
    # Groups are halved where they do not divide a size, as published checkpoints of such models have them.
    "w4a16": PackedInt(name="w4a16", width=4, group=128, shape_bytes=16, refines_groups=True),
    "w8a16": PackedInt(name="w8a16", width=8, group=0, shape_bytes=16),
    "autoround-int4": PackedInt(
        name="autoround-int4", width=4, group=128, zero_points=True, zero_points_in_fallback=False,
        refines_groups=True, spare_biases=True, cuts_groups=True,
    ),
    "nvfp4": Nvfp4(),
    "nvfp4a16": Nvfp4(weight_only=True),
    "mxfp4": Mx(width=4),
    "mxfp8": Mx(width=8),
    "bnb-nf4": BitsAndBytes(width=4),
    "bnb-int8": BitsAndBytes(width=8),
}  # fmt: skip

# llama.cpp's file types: the block most tensors get, the one that attention values and the second MLP matrix get in
# some layers, and the output head's (llama-quant.cpp `llama_tensor_get_type`, 2026-09).
GGUF_FILES: dict[str, tuple[str, str, str]] = {
    "q2_k": ("q2_k", "q3_k", "q6_k"),
    "q3_k_s": ("q3_k", "q3_k", "q6_k"),
    "q3_k_m": ("q3_k", "q4_k", "q6_k"),
    "q3_k_l": ("q3_k", "q5_k", "q6_k"),
    "q4_0": ("q4_0", "q4_0", "q6_k"),
    "q4_1": ("q4_1", "q4_1", "q6_k"),
    "q4_k_s": ("q4_k", "q5_k", "q6_k"),
    "q4_k_m": ("q4_k", "q6_k", "q6_k"),
    "q5_0": ("q5_0", "q5_0", "q6_k"),
    "q5_k_s": ("q5_k", "q5_k", "q6_k"),
    "q5_k_m": ("q5_k", "q6_k", "q6_k"),
    "q6_k": ("q6_k", "q6_k", "q6_k"),
    "q8_0": ("q8_0", "q8_0", "q8_0"),
    "iq4_xs": ("iq4_xs", "iq4_xs", "q6_k"),
    "iq4_nl": ("iq4_nl", "iq4_nl", "q6_k"),
}


def names() -> tuple[str, ...]:
    """Every value of `--quant`."""
    return (*PLAIN, *SCHEMES, *(f"gguf-{name}" for name in GGUF_FILES))


__all__ = ["GGUF_FILES", "PLAIN", "SCHEMES", "Gguf", "names"]
