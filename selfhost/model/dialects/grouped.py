"""Checkpoints that name groups of modules and a scheme for each: compressed-tensors and Quark."""

from __future__ import annotations

from collections.abc import Mapping

from selfhost.model.config import Config
from selfhost.model.declared import Declared, Target
from selfhost.model.dialects.floats import ignored
from selfhost.model.patterns import Patterns
from selfhost.quantization.schemes import Fp8, Int8, Mx, Nvfp4, PackedInt, Scheme


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
                return Fp8(granularity="block", block=(block[0], block[1]), whole_blocks=True)
            return Fp8(granularity="channel" if strategy == "channel" else "tensor", static_inputs=static)
        raise weights.error("num_bits", f"is {bits}; float weights have 4 or 8")
    if kind != "int":
        raise weights.error("type", f"is {kind!r}; weights are int or float")
    symmetric = weights.bool("symmetric", default=True)
    # `weight` and `static` reorder the weights themselves; only these need an index, and vLLM 0.32 refuses them.
    ordered = str(weights.data.get("actorder")) in ("group", "dynamic", "True")
    if bits == 8 and inputs is not None and strategy in ("channel", "tensor"):
        return Int8(per_channel=strategy == "channel", static_inputs=static)
    if bits not in (2, 3, 4, 6, 8):
        raise weights.error("num_bits", f"is {bits}; packed integers have 2, 3, 4, 6 or 8")
    return PackedInt(
        name=f"w{bits}a16" if inputs is None else f"w{bits}a8",
        width=bits,
        group=group if strategy == "group" and group and group > 0 else 0,
        zero_points=not symmetric,
        ordered=ordered,
        order_bytes=4 if ordered else 0,
        shape_bytes=16,
    )


def compressed_tensors(config: Config, section: Config) -> Declared:
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


_QUARK_FLOATS = {"fp8_e4m3": 8, "fp8_e5m2": 8, "fp4": 4}


def quark(config: Config, section: Config) -> Declared:
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
        excluded=Patterns(ignored(section, "exclude"), "regex"),
        targets=targets,
    )
