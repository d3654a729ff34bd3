"""`quantization_config` in its many dialects -> `Declared`.

The rules are vLLM 0.32's (model_executor/layers/quantization/*, transformers_utils/model_arch_config_convertor.py:250).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.declared import Declared, Target, gguf_file
from selfhost.model.patterns import Patterns
from selfhost.quantization.schemes import BitsAndBytes, Fp8, Int8, Mx, Nvfp4, PackedInt, Scheme


def read_declared(config: Config, extra: Mapping[str, object] | None) -> Declared | None:
    """Read the quantization a checkpoint declares, None for none.

    Raises:
        ConfigError: a method or a setting that selfhost does not know, by its field.
    """
    section = None
    for place in (
        config,
        *(
            config.section(n)
            for n in ("text_config", "llm_config", "language_config")
            if isinstance(config.data.get(n), Mapping)
        ),
    ):
        section = place.optional_section("quantization_config", "compression_config")
        if section is not None:
            break
    if section is None and extra is not None:
        section = Config(extra, "quantization_config")
    if section is None or not section.data:
        return None
    try:
        return _read(config, section)
    except ValueError as error:
        raise section.error("ignore", str(error)) from error


def _read(config: Config, section: Config) -> Declared | None:
    method = (
        section.str("quant_method", default="").lower().replace("compressed_tensors", "compressed-tensors")
    )
    producer = section.optional_section("producer")
    by_modelopt = producer is not None and producer.str("name", default="") == "modelopt"
    if method.startswith("modelopt") or (by_modelopt and method == "" and section.has("quantization")):
        return _modelopt(config, section)
    if not method:
        # Without a method or ModelOpt's producer vLLM sees no quantization (model_arch_config_convertor.py:271-290).
        return None
    reader = READERS.get(method)
    if reader is None:
        raise section.error(
            "quant_method",
            f"is {method!r}, which selfhost does not know",
            hint="Known: " + ", ".join(sorted(READERS)) + ".",
        )
    return reader(config, section)


def _ignored(section: Config, *fields: str) -> tuple[str, ...]:
    for name in fields:
        if section.has(name):
            return section.strings(name)
    return ()


def _fp8(config: Config, section: Config) -> Declared:
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
    model_type = config.str("model_type")
    if model_type.startswith("deepseek_v4"):
        kind = config.str("expert_dtype", default=section.str("expert_dtype", default="fp4"))
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
        if kind not in ("fp4", "fp8"):
            raise config.error("expert_dtype", f"is {kind!r}; DeepSeek V4 has fp4 or fp8 experts")
    elif section.str("store_dtype", default="") == "mxfp4":
        experts = Mx(width=4)
    entries = _ignored(section, "ignored_layers", "modules_to_not_convert", "ignore")
    return Declared(method="fp8", main=main, experts=experts, excluded=Patterns(entries, "exact"))


def _weights_scheme(weights: Config, layout: str, inputs: Config | None) -> Scheme:
    """One `weights` entry of compressed-tensors."""
    bits = weights.int("num_bits", maximum=16)
    kind = weights.str("type", default="int")
    strategy = weights.str("strategy", default="tensor" if not weights.has("group_size") else "group")
    group = weights.int("group_size", default=None, minimum=-1)
    # `dynamic` is true, false or "local" (scales per group made at run time beside a stored global one).
    static = inputs is not None and inputs.data.get("dynamic") in (False, None, "local")
    if kind == "float":
        if bits == 4:
            if group == 32 or "mxfp4" in layout:
                return Mx(width=4, rounding="none")
            return Nvfp4(group=group or 16, weight_only=inputs is None)
        if bits == 8:
            if group == 32:
                return Mx(width=8)
            if strategy == "block":
                block = weights.ints("block_structure", minimum=1)
                return Fp8(granularity="block", block=(block[0], block[1]))
            return Fp8(granularity="channel" if strategy == "channel" else "tensor", static_inputs=static)
        raise weights.error("num_bits", f"is {bits}; float weights have 4 or 8")
    if kind != "int":
        raise weights.error("type", f"is {kind!r}; weights are int or float")
    symmetric = weights.bool("symmetric", default=True)
    ordered = weights.data.get("actorder") is not None
    if bits == 8 and inputs is not None and strategy in ("channel", "tensor"):
        return Int8(per_channel=strategy == "channel", static_inputs=static)
    if bits not in (2, 3, 4, 6, 8):
        raise weights.error("num_bits", f"is {bits}; packed integers have 2, 3, 4, 6 or 8")
    return PackedInt(
        name=f"w{bits}a16" if inputs is None else f"w{bits}a8",
        width=bits,
        group=group if strategy == "group" and group and group > 0 else 0,
        zero_points=not symmetric,
        order_bytes=4 if ordered else 0,
        shape_bytes=16,
    )


def _compressed_tensors(config: Config, section: Config) -> Declared:
    """compressed_tensors/compressed_tensors.py: groups of targets, an ignore list."""
    layout = section.str("format", default="")
    targets: list[Target] = []
    main: Scheme | None = None
    groups = section.section("config_groups")
    for name in groups.data:
        group = groups.section(name)
        if not group.has("weights"):
            continue
        weights = group.section("weights")
        inputs = group.optional_section("input_activations")
        kind = group.str("format", default=layout)
        scheme = _weights_scheme(weights, kind, inputs)
        names = group.strings("targets", default=("Linear",))
        if "Linear" in names or "RoutedExperts" in names:
            main = scheme
        specific = tuple(n for n in names if n not in ("Linear", "RoutedExperts"))
        if specific:
            targets.append(Target(patterns=Patterns(specific, "regex"), scheme=scheme))
    if main is None and not targets:
        return Declared(method="compressed-tensors", main=None)
    return Declared(
        method="compressed-tensors",
        main=main or targets[0].scheme,
        excluded=Patterns(section.strings("ignore", default=()), "regex"),
        targets=tuple(targets),
        only_targets=main is None,
        kv_dtype=_stored_kv(section),
    )


def _stored_kv(section: Config) -> str | None:
    """`kv_cache_scheme` of compressed-tensors: 8-bit floats are kept as such (layers/attention/attention.py:287)."""
    if not isinstance(section.data.get("kv_cache_scheme"), Mapping):
        return None
    scheme = section.section("kv_cache_scheme")
    return "fp8" if scheme.int("num_bits", default=16, maximum=64) == 8 else None


def _awq(config: Config, section: Config) -> Declared:
    """quantization/auto_awq.py: zero points per group, packed along the outputs."""
    bits = section.int("bits", "w_bit", maximum=8)
    group = section.int("group_size", "q_group_size", minimum=-1)
    scheme = PackedInt(
        name=f"awq-int{bits}", width=bits, group=max(group, 0), zero_points=section.bool("zero_point", default=True),
        refines_groups=True,
    )  # fmt: skip
    entries = _ignored(section, "modules_to_not_convert")
    return Declared(
        method="awq",
        main=scheme,
        excluded=Patterns(entries, "substring"),
        heads=section.bool("lm_head", default=False),
    )


def _gptq(config: Config, section: Config) -> Declared:
    """quantization/auto_gptq.py: packed zero points always, per-module overrides in `dynamic`."""
    bits = section.int("bits", maximum=8)
    group = section.int("group_size", minimum=-1)
    ordered = section.bool("desc_act", default=False)

    def scheme(width: int, size: int) -> PackedInt:
        return PackedInt(
            name=f"gptq-int{width}", width=width, group=max(size, 0), zero_points=True, zero_points_in_fallback=False,
            refines_groups=True, ordered=ordered and size > 0, spare_biases=True,
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


def _autoround(config: Config, section: Config) -> Declared:
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
        zero_points_in_fallback=False, spare_biases="awq" not in packing,
    )  # fmt: skip


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


def _modelopt_scheme(section: Config, algorithm: str) -> Scheme:
    scheme: Scheme | None = _MODELOPT.get(algorithm.upper())
    if scheme is None:
        raise section.error(
            "quant_algo",
            f"is {algorithm!r}, which selfhost does not know",
            hint="Known: " + ", ".join(_MODELOPT) + ".",
        )
    return scheme


def _modelopt(config: Config, section: Config) -> Declared | None:
    """quantization/modelopt.py: one algorithm with wildcards that exclude, or an algorithm per module."""
    nested = section.optional_section("quantization")
    source = nested or section
    algorithm = source.str("quant_algo", default="")
    if not algorithm:
        return None
    kv = source.str("kv_cache_quant_algo", default="")
    if not kv and (scheme := source.optional_section("kv_cache_scheme")) is not None:
        kv = "FP8" if scheme.int("num_bits", default=16, maximum=32) == 8 else ""
    entries = _ignored(source, "exclude_modules", "ignore")
    if (
        config.str("model_type").startswith("deepseek_v4")
        and section.str("quant_method", default="") == "fp8"
    ):
        return _fp8(config, section)
    kv_dtype = _kv_dtype(kv)
    if algorithm.upper() != "MIXED_PRECISION":
        return Declared(
            method="modelopt", main=_modelopt_scheme(source, algorithm),
            experts=_MODELOPT["FP8"] if algorithm.upper() == "FP8_PER_CHANNEL_PER_TOKEN" else None,
            excluded=Patterns(_spread(entries), "modelopt"),
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


def _mxfp4(config: Config, section: Config) -> Declared:
    """quantization/mxfp4.py: only the routed experts."""
    entries = _ignored(section, "modules_to_not_convert")
    wild = tuple(entry.replace(".*.", ".[0-9]*.") if "*" in entry else entry for entry in entries)
    return Declared(
        method="mxfp4", main=Mx(width=4), excluded=Patterns(wild, "exact"), only_experts=True, towers=False
    )


def _bitsandbytes(config: Config, section: Config) -> Declared:
    entries = _ignored(section, "llm_int8_skip_modules")
    width = 4 if section.bool("load_in_4bit", default=False) else 8
    return Declared(
        method="bitsandbytes", main=BitsAndBytes(width=width), excluded=Patterns(entries, "regex")
    )


def _gguf(config: Config, section: Config) -> Declared:
    """A GGUF file: block types by file type; exact bytes come from its tensor headers."""
    return gguf_file(section.str("file_type", default="q4_k_m").lower().removeprefix("gguf-"))


def _fbgemm(config: Config, section: Config) -> Declared:
    """quantization/fbgemm_fp8.py: one fp32 scale per output channel."""
    return Declared(
        method="fbgemm_fp8",
        main=Fp8(granularity="channel"),
        excluded=Patterns(_ignored(section, "modules_to_not_convert"), "exact"),
    )


_QUARK_FLOATS = {"fp8_e4m3": 8, "fp8_e5m2": 8, "fp4": 4}


def _quark(config: Config, section: Config) -> Declared:
    """quantization/quark: one global scheme, an exclude list, schemes per module in `layer_quant_config`."""

    def scheme(entry: Config) -> Scheme:
        weight = entry.section("weight")
        kind = weight.str("dtype")
        inputs = entry.optional_section("input_tensors")
        granularity = weight.str("qscheme", default="per_tensor")
        static = inputs is not None and not inputs.bool("is_dynamic", default=False)
        if kind == "fp4":
            return Mx(width=4)
        if kind in _QUARK_FLOATS:
            return Fp8(
                granularity="channel" if granularity == "per_channel" else "tensor", static_inputs=static
            )
        if kind == "int8":
            return Int8(per_channel=granularity == "per_channel", static_inputs=static)
        raise weight.error(
            "dtype", f"is {kind!r}, which selfhost does not know", hint="Known: fp8_e4m3, int8, fp4."
        )

    layers = section.optional_section("layer_quant_config")
    targets = tuple(
        Target(patterns=Patterns((name,), "modelopt"), scheme=scheme(layers.section(name)))
        for name in (layers.data if layers else ())
        if layers is not None
    )
    return Declared(
        method="quark",
        main=scheme(section.section("global_quant_config")),
        excluded=Patterns(_ignored(section, "exclude"), "regex"),
        targets=targets,
    )


def _experts_int8(config: Config, section: Config) -> Declared:
    return Declared(method="experts_int8", main=Int8(), only_experts=True)


READERS: dict[str, Callable[[Config, Config], Declared]] = {
    "fp8": _fp8,
    "deepseek_v4_fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "compressed-tensors": _compressed_tensors,
    "awq": _awq,
    "gptq": _gptq,
    "auto-round": _autoround,
    "intel/auto-round": _autoround,
    "inc": _autoround,
    "mxfp4": _mxfp4,
    "bitsandbytes": _bitsandbytes,
    "experts_int8": _experts_int8,
    "gguf": _gguf,
    "quark": _quark,
}
