"""NVIDIA ModelOpt checkpoints: one algorithm with wildcards that exclude, or an algorithm per module."""

from __future__ import annotations

from selfhost.model.config import Config
from selfhost.model.declared import Declared, Target
from selfhost.model.dialects.floats import fp8, ignored
from selfhost.model.patterns import Patterns
from selfhost.quantization.schemes import Fp8, Mx, Nvfp4, Scheme

_MODELOPT: dict[str, Scheme] = {
    "FP8": Fp8(granularity="tensor", static_inputs=True, expert_input_shards=True),
    "FP8_PER_CHANNEL_PER_TOKEN": Fp8(granularity="channel"),
    "FP8_PB_WO": Fp8(granularity="block"),
    "FP8_BLOCK_SCALES": Fp8(granularity="block"),
    "NVFP4": Nvfp4(),
    "W4A16_NVFP4": Nvfp4(weight_only=True),
    "NVFP4_AWQ": Nvfp4(),
    "MXFP8": Mx(width=8),
}


# Parts of names that vLLM leaves unquantized whatever the list says (quantization/modelopt.py:244).
_NEVER = ("vision_tower", "vision_model", "vit_large_projector")


def _modelopt_scheme(section: Config, algorithm: str) -> Scheme:
    scheme: Scheme | None = _MODELOPT.get(algorithm.upper())
    if scheme is None:
        raise section.error(
            "quant_algo",
            f"is {algorithm!r}, which selfhost does not know",
            hint="Known: " + ", ".join(_MODELOPT) + ".",
        )
    return scheme


def modelopt(config: Config, section: Config) -> Declared | None:
    """quantization/modelopt.py: one algorithm with wildcards that exclude, or an algorithm per module."""
    nested = section.optional_section("quantization")
    source = nested or section
    algorithm = source.str("quant_algo", default="")
    if not algorithm:
        return None
    kv = source.str("kv_cache_quant_algo", default="")
    if not kv and (scheme := source.optional_section("kv_cache_scheme")) is not None:
        kv = "FP8" if scheme.int("num_bits", default=16, maximum=32) == 8 else ""
    entries = ignored(source, "exclude_modules", "ignore")
    if (
        config.str("model_type").startswith("deepseek_v4")
        and section.str("quant_method", default="") == "fp8"
    ):
        return fp8(config, section)
    kv_dtype = _kv_dtype(kv)
    if algorithm.upper() != "MIXED_PRECISION":
        return Declared(
            method="modelopt", main=_modelopt_scheme(source, algorithm),
            experts=_MODELOPT["FP8"] if algorithm.upper() == "FP8_PER_CHANNEL_PER_TOKEN" else None,
            excluded=Patterns((*_spread(entries), *_NEVER), "modelopt"),
            heads=True, kv_dtype=kv_dtype,
        )  # fmt: skip
    by_algorithm: dict[str, list[str]] = {}
    layers = source.section("quantized_layers")
    for name in layers.data:
        by_algorithm.setdefault(layers.section(name).str("quant_algo"), []).append(name)
    targets = tuple(
        Target(patterns=Patterns(names, "exact"), scheme=_modelopt_scheme(source, name))
        for name, names in by_algorithm.items()
    )
    return Declared(
        method="modelopt", main=targets[0].scheme if targets else None, excluded=Patterns(_spread(entries), "modelopt"),
        targets=targets, only_targets=True, kv_dtype=kv_dtype,
    )  # fmt: skip


def _spread(entries: tuple[str, ...]) -> tuple[str, ...]:
    """`path*` stands for `path` and everything under it (modelopt.py `apply_vllm_mapper`)."""
    spread: list[str] = []
    for entry in entries:
        if len(entry) >= 2 and entry[-1] == "*" and entry[-2] != ".":
            spread += [entry[:-1], entry[:-1] + ".*"]
        else:
            spread.append(entry)
    return tuple(spread)


def _kv_dtype(text: str) -> str | None:
    """MODELOPT_TO_VLLM_KV_CACHE_DTYPE_MAP (utils/torch_utils.py); unknown ones fall back to auto, as in vLLM."""
    return {"FP8": "fp8", "NVFP4": "nvfp4"}.get(text.upper())
