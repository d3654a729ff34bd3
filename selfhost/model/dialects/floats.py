"""Checkpoints in 8-bit and 4-bit floats without groups of targets: fp8, FBGEMM, MXFP4."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.declared import Declared
from selfhost.model.patterns import Patterns
from selfhost.quantization.schemes import Fp8, Mx, Nvfp4, Scheme


def ignored(section: Config, *fields: str) -> tuple[str, ...]:
    """The first of several lists of excluded modules that is there."""
    for name in fields:
        if section.has(name):
            return section.strings(name)
    return ()


def fp8(config: Config, section: Config) -> Declared:
    """quantization/fp8.py; DeepSeek V4 has MXFP4 or NVFP4 experts (models/deepseek_v4/quant_config.py)."""
    block = section.ints("weight_block_size", minimum=1, default=())
    static = section.str("activation_scheme", default="dynamic") == "static"
    main: Scheme
    if block:
        if len(block) != 2:
            raise section.error("weight_block_size", f"should have two dimensions, not {len(block)}")
        main = Fp8(granularity="block", block=(block[0], block[1]))
    else:
        main = Fp8(granularity="tensor", static_inputs=static)
    experts: Scheme | None = None
    mode = "exact"
    if config.str("model_type").startswith("deepseek_v4"):
        main, experts = _deepseek_v4(config, section, main, block)
    elif block and any(
        name.startswith("BailingMoeV3") for name in config.strings("architectures", default=())
    ):
        # Ling 3 names its exclusions by their ends, and its experts' format apart (models/bailing_moe_v3.py:229-260).
        mode = "suffix"
        if section.str("scale_fmt", default="") == "ue8m0" and isinstance(main, Fp8):
            main = replace(main, scale_bytes=1)
        if section.str("routed_experts_quant_method", default="") == "mxfp4":
            experts = Mx(width=4)
    elif section.str("store_dtype", default="") == "mxfp4":
        experts = Mx(width=4)
    entries = ignored(section, "ignored_layers", "modules_to_not_convert", "ignore")
    return Declared(method="fp8", main=main, experts=experts, excluded=Patterns(entries, mode))


def _deepseek_v4(
    config: Config, section: Config, main: Scheme, block: tuple[int, ...]
) -> tuple[Scheme, Scheme | None]:
    """Schemes of most weights and of the experts (models/deepseek_v4/quant_config.py)."""
    kind = config.str("expert_dtype", default=section.str("expert_dtype", default="fp4"))
    if kind not in ("fp4", "fp8"):
        raise config.error("expert_dtype", f"is {kind!r}; DeepSeek V4 has fp4 or fp8 experts")
    experts: Scheme | None = None
    if section.str("moe_quant_algo", default="").upper() == "NVFP4":
        experts = Nvfp4()
    elif kind == "fp4":
        experts = Mx(width=4)
    if kind == "fp4" and isinstance(main, Fp8):
        # Checkpoints with fp4 experts store the scales of the rest as e8m0 (quant_config.py `is_scale_e8m0`).
        main = replace(main, scale_bytes=1)
        if block == (32, 32):
            # V4.1's scales are of 32 x 32 values; vLLM spreads them to one per row and 32 inputs (:245-262).
            main = Mx(width=8)
    return main, experts


def fbgemm(config: Config, section: Config) -> Declared:
    """quantization/fbgemm_fp8.py: one fp32 scale per output channel."""
    return Declared(
        method="fbgemm_fp8",
        main=Fp8(granularity="channel"),
        excluded=Patterns(ignored(section, "modules_to_not_convert"), "exact"),
    )


def mxfp4(config: Config, section: Config) -> Declared:
    """quantization/mxfp4.py: only the routed experts."""
    entries = ignored(section, "modules_to_not_convert")
    wild = tuple(entry.replace(".*.", ".[0-9]*.") if "*" in entry else entry for entry in entries)
    return Declared(
        method="mxfp4", main=Mx(width=4), excluded=Patterns(wild, "exact"), only_experts=True, towers=False
    )
