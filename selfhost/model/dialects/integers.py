"""Checkpoints in integers and ggml blocks: AWQ, GPTQ, AutoRound, bitsandbytes, GGUF."""

from __future__ import annotations

from collections.abc import Mapping

from selfhost.model.config import Config
from selfhost.model.declared import Declared, Target, gguf_file
from selfhost.model.dialects.floats import ignored
from selfhost.model.patterns import Patterns
from selfhost.quantization.blocks import BitsAndBytes
from selfhost.quantization.schemes import Fp8, Int8, Mx, PackedInt, Scheme


def awq(config: Config, section: Config) -> Declared:
    """quantization/auto_awq.py: zero points per group, packed along the outputs."""
    bits = section.int("bits", "w_bit", maximum=8)
    group = section.int("group_size", "q_group_size", minimum=-1)
    scheme = PackedInt(
        name=f"awq-int{bits}", width=bits, group=max(group, 0), zero_points=section.bool("zero_point", default=True),
        refines_groups=True,
    )  # fmt: skip
    entries = ignored(section, "modules_to_not_convert")
    return Declared(
        method="awq",
        main=scheme,
        excluded=Patterns(entries, "substring"),
        heads=section.bool("lm_head", default=False),
    )


def gptq(config: Config, section: Config) -> Declared:
    """quantization/auto_gptq.py: packed zero points always, per-module overrides in `dynamic`."""
    bits = section.int("bits", maximum=8)
    group = section.int("group_size", minimum=-1)
    ordered = section.bool("desc_act", default=False)

    def scheme(width: int, size: int) -> PackedInt:
        return PackedInt(
            name=f"gptq-int{width}", width=width, group=max(size, 0), zero_points=True, zero_points_in_fallback=False,
            refines_groups=True, ordered=ordered and size > 0, spare_biases=True, cuts_groups=True,
        )  # fmt: skip

    skipped: list[str] = []
    targets: list[Target] = []
    dynamic = section.optional_section("dynamic")
    for pattern in dynamic.data if dynamic else ():
        assert dynamic is not None
        if pattern.startswith("-:"):
            skipped.append(pattern[2:])
            continue
        override = Config(
            value if isinstance(value := dynamic.data[pattern], Mapping) else {}, dynamic.name(pattern)
        )
        width = override.int("bits", default=bits, maximum=8)
        chosen = scheme(width, override.int("group_size", default=group, minimum=-1))
        targets.append(Target(patterns=Patterns((pattern.removeprefix("+:"),), "gptq"), scheme=chosen))
    inside: list[str] = []
    for entry in section.list("modules_in_block_to_quantize", default=()):
        inside.extend(str(name) for name in entry) if isinstance(entry, list) else inside.append(str(entry))
    if inside:
        targets.append(Target(patterns=Patterns(inside, "substring"), scheme=scheme(bits, group)))
    return Declared(
        method="gptq",
        main=scheme(bits, group),
        excluded=Patterns(skipped, "gptq"),
        targets=tuple(targets),
        only_targets=bool(inside),
        heads=section.bool("lm_head", default=False),
        towers=True,
    )


def autoround(config: Config, section: Config) -> Declared:
    """quantization/inc: AutoRound in GPTQ or AWQ packing, or block FP8; `extra_config` overrides by name."""
    bits = section.int("bits", maximum=16)
    packing = section.str("packing_format", default="auto_round:auto_gptq")
    kind = section.str("data_type", default="int")
    if (
        kind in ("fp", "fp8")
        and section.has("group_size")
        and isinstance(section.data["group_size"], (list, tuple))
    ):
        block = section.ints("group_size", minimum=1)
        main: Scheme = Fp8(granularity="block", block=(block[0], block[1]))
    elif "mx_fp" in kind:
        main = Mx(width=bits)
    else:
        main = _autoround_int(bits, section.int("group_size", minimum=-1), packing)
    targets: list[Target] = []
    skipped: list[str] = []
    extra = section.optional_section("extra_config")
    for name in extra.data if extra else ():
        assert extra is not None
        entry = extra.section(name) if isinstance(extra.data[name], Mapping) else Config({}, extra.name(name))
        width = entry.int("bits", default=bits, maximum=32)
        regex = any(c in name for c in "*^$\\[(|")
        if width >= 16:
            skipped.append(("re:" + name) if regex else name)
        else:
            size = entry.int("group_size", default=128, minimum=-1)
            pattern = Patterns((("re:" + name) if regex else name,), "regex")
            targets.append(Target(patterns=pattern, scheme=_autoround_int(width, size, packing)))
    blocks = section.data.get("block_name_to_quantize", section.data.get("to_quant_block_names"))
    listed = blocks.split(",") if isinstance(blocks, str) else blocks if isinstance(blocks, list) else []
    names = tuple(str(name).strip() for name in listed)
    if names:
        targets.append(Target(patterns=Patterns(names, "substring"), scheme=main))
    return Declared(
        method="auto-round",
        main=main,
        excluded=Patterns(skipped, "regex"),
        targets=tuple(targets),
        only_targets=bool(names),
    )


def _autoround_int(bits: int, group: int, packing: str) -> PackedInt:
    return PackedInt(
        name="auto-round", width=bits, group=max(group, 0), zero_points=True, refines_groups=True,
        zero_points_in_fallback=False, spare_biases="awq" not in packing, cuts_groups="awq" not in packing,
    )  # fmt: skip


def bitsandbytes(config: Config, section: Config) -> Declared:
    """nf4 or int8, as vLLM up to 0.27 loads them (quantization/bitsandbytes.py)."""
    entries = ignored(section, "llm_int8_skip_modules")
    width = 4 if section.bool("load_in_4bit", default=False) else 8
    return Declared(
        method="bitsandbytes", main=BitsAndBytes(width=width), excluded=Patterns(entries, "regex")
    )


def experts_int8(config: Config, section: Config) -> Declared:
    """quantization/experts_int8.py: only the routed experts."""
    return Declared(method="experts_int8", main=Int8(), only_experts=True)


def gguf(config: Config, section: Config) -> Declared:
    """A GGUF file: block types by file type; exact bytes come from its tensor headers."""
    return gguf_file(section.str("file_type", default="q4_k_m").lower().removeprefix("gguf-"))
