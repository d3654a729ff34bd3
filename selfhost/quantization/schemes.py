"""Weight formats as vLLM allocates them on one rank: values, scales, zero points and the padding of their kernels.

Each class answers two questions in bytes: one linear layer (`matrix`), and the routed experts of one layer (`experts`).
Sources are files of vLLM 0.32.0 under model_executor/layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from selfhost.units import ceil_div, round_up


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertShape:
    """The routed experts of one layer as one rank holds them.

    Args:
        local: experts on the rank.
        total: experts of the layer.
        hidden: hidden size.
        intermediate: intermediate size of one expert on the rank, before padding.
        shards: 2 for gated MLPs (w1 and w3), 1 otherwise.
        divided: whether TP divides the intermediate size.
        biased: experts carry biases.
        itemsize: bytes of one element of the model's dtype.
        compute_capability: e.g. 90; None off NVIDIA.
        activation: name of the activation, as some kernels exist for some only.
        engine: (major, minor) of vLLM.
    """

    local: int
    total: int
    hidden: int
    intermediate: int
    shards: int
    divided: bool
    biased: bool
    itemsize: int
    compute_capability: int | None
    activation: str = "silu"
    engine: tuple[int, int] = (0, 32)

    @property
    def blackwell(self) -> bool:
        """Data-centre Blackwell (SM 100/103), where vLLM prefers FlashInfer's TRTLLM kernels."""
        return self.compute_capability is not None and 100 <= self.compute_capability < 110

    def biases(self, hidden: int, intermediate: int) -> int:
        """Bytes of the biases, if any, at padded sizes."""
        return self.local * (self.shards * intermediate + hidden) * self.itemsize if self.biased else 0


class Scheme(Protocol):
    """One weight format."""

    @property
    def id(self) -> str:
        """Name for people and for `--quant`."""

    @property
    def bits(self) -> float:
        """Bits of one weight without its scales."""

    def matrix(self, parts: tuple[int, ...], inputs: int, itemsize: int) -> int:
        """Bytes of one linear layer on a rank: `parts` output rows of each fused part, `inputs` columns."""

    def experts(self, shape: ExpertShape) -> int:
        """Bytes of the routed experts of one layer on a rank."""


def group_refusal(
    scheme: Scheme, parts: tuple[int, ...], inputs: int, *, rows_divided: bool, inputs_divided: bool
) -> str | None:
    """Why the engine refuses a linear layer's shard: its groups or blocks would be cut.

    vLLM 0.32 quantization/utils/fp8_utils.py:1296 (`validate_fp8_block_shape`), utils/marlin_utils.py:324,
    auto_awq.py:819.

    Args:
        scheme: the weight format.
        parts: output rows of each fused part on the rank.
        inputs: input columns on the rank.
        rows_divided: tensor parallel divides the outputs.
        inputs_divided: tensor parallel divides the inputs.
    """
    if isinstance(scheme, Fp8) and scheme.granularity == "block":
        rows, columns = scheme.block
        if inputs_divided and inputs % columns:
            return f"blocks of {columns} do not divide the {inputs:,} inputs of a rank"
        # Fused matrices of unequal or odd parts are allowed to cut blocks (layers/linear.py:549).
        if len(parts) == 1 and rows_divided and parts[0] % rows:
            return f"blocks of {rows} do not divide the {parts[0]:,} output rows of a rank"
    if isinstance(scheme, PackedInt) and scheme.whole_groups and inputs_divided and inputs % scheme.group:
        return f"groups of {scheme.group} do not divide the {inputs:,} inputs of a rank"
    return None


def expert_refusal(scheme: Scheme, shape: ExpertShape) -> str | None:
    """Why the engine refuses the experts' shard (compressed_tensors_moe_wna16.py:238, fp8_utils.py:1347)."""
    size = shape.intermediate
    if isinstance(scheme, Fp8) and scheme.granularity == "block" and scheme.whole_blocks:
        rows, columns = scheme.block
        if size % rows or (shape.divided and size % columns):
            return f"blocks of {rows} do not divide the experts' {size:,} columns of a rank"
    if isinstance(scheme, PackedInt) and scheme.group and not scheme.refines_groups and size % scheme.group:
        return f"groups of {scheme.group} do not divide the experts' {size:,} columns of a rank"
    return None


# First release after the last that was seen to pad MXFP4 experts on Hopper.
UNPADDED_MXFP4 = (0, 20)


def unquantized_experts(shape: ExpertShape, itemsize: int) -> int:
    """Experts in a plain dtype.

    On SM 100 the TRTLLM kernel rounds the intermediate size up to 128 (fused_moe/oracle/unquantized.py:384); Hopper
    prefers Triton, which does not (same file :76).
    """
    intermediate = shape.intermediate
    if shape.blackwell and not shape.biased and shape.activation in ("silu", "relu2"):
        intermediate = round_up(intermediate, 128)
    weights = shape.local * (shape.shards + 1) * shape.hidden * intermediate * itemsize
    return weights + shape.biases(shape.hidden, intermediate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp8:
    """8-bit floats with fp32 scales per tensor, per output channel, or per block.

    Args:
        granularity: "tensor", "channel" or "block".
        block: rows and columns of a block.
        static_inputs: activation scales are stored.
        expert_input_shards: input scales per fused part of w13 (ModelOpt) rather than one.
        scale_bytes: bytes of one block scale: 4 (fp32) or 1 (e8m0, DeepSeek V4).
        whole_blocks: experts whose blocks would be cut are refused rather than refined (compressed-tensors).
    """

    granularity: str = "tensor"
    block: tuple[int, int] = (128, 128)
    static_inputs: bool = False
    expert_input_shards: bool = False
    scale_bytes: int = 4
    whole_blocks: bool = False

    @property
    def id(self) -> str:
        """`fp8`, or `fp8-block` for block scales."""
        return "fp8-block" if self.granularity == "block" else "fp8"

    @property
    def bits(self) -> float:
        """8."""
        return 8

    def matrix(self, parts: tuple[int, ...], inputs: int, itemsize: int) -> int:
        """quantization/utils/fp8_utils.py:1412 (block), modelopt.py:2110 (tensor)."""
        rows = sum(parts)
        total = rows * inputs
        if self.granularity == "block":
            total += self.scale_bytes * ceil_div(rows, self.block[0]) * ceil_div(inputs, self.block[1])
        elif self.granularity == "channel":
            total += 4 * rows
        else:
            total += 4 * len(parts)
        if self.static_inputs:
            total += 4 * len(parts)
        return total

    def experts(self, shape: ExpertShape) -> int:
        """quantization/fp8.py:540-628.

        Blocks that TP cannot divide are refined, or the shard is padded (fused_moe/oracle/fp8.py:290-345).
        """
        intermediate, hidden = shape.intermediate, shape.hidden
        if self.granularity == "block":
            rows, columns = self.block
            if intermediate % rows or (shape.divided and intermediate % columns):
                refined = math.gcd(rows, columns, intermediate, hidden)
                if refined >= 32:
                    rows = columns = refined
                elif shape.divided and rows == columns:
                    intermediate = round_up(intermediate, rows)
            weights = (shape.shards + 1) * hidden * intermediate
            scales = shape.shards * ceil_div(intermediate, rows) * ceil_div(hidden, columns)
            scales += ceil_div(hidden, rows) * ceil_div(intermediate, columns)
        else:
            weights = (shape.shards + 1) * hidden * intermediate
            per_channel = self.granularity == "channel"
            scales = shape.shards * intermediate + hidden if per_channel else shape.shards + 1
        if self.static_inputs:
            scales += (shape.shards if self.expert_input_shards else 1) + 1
        return shape.local * (weights + 4 * scales) + shape.biases(hidden, intermediate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8:
    """W8A8 integers with fp32 scales per output channel (or per tensor)."""

    per_channel: bool = True
    static_inputs: bool = False

    @property
    def id(self) -> str:
        """`int8`."""
        return "int8"

    @property
    def bits(self) -> float:
        """8."""
        return 8

    def matrix(self, parts: tuple[int, ...], inputs: int, itemsize: int) -> int:
        """compressed_tensors/schemes/compressed_tensors_w8a8_int8.py."""
        rows = sum(parts)
        return (
            rows * inputs + 4 * (rows if self.per_channel else len(parts)) + (8 if self.static_inputs else 0)
        )

    def experts(self, shape: ExpertShape) -> int:
        """compressed_tensors_moe: int8 weights, fp32 scale per output channel."""
        weights = (shape.shards + 1) * shape.hidden * shape.intermediate
        scales = 4 * (shape.shards * shape.intermediate + shape.hidden)
        return shape.local * (weights + scales) + shape.biases(shape.hidden, shape.intermediate)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedInt:
    """Weight-only integers packed in int32 with a scale (and perhaps a zero point) per group of inputs.

    Args:
        name: `awq-int4`, `gptq-int4`, `w4a16`, ...
        width: bits of one weight.
        group: inputs that share a scale; 0 means one scale per output channel.
        zero_points: packed zero points are stored.
        zero_points_in_fallback: they are kept where experts fall back from Marlin (AWQ yes, symmetric GPTQ no).
        refines_groups: experts whose sizes the group does not divide get halved groups (quantization/moe_wna16.py:278).
        ordered: the checkpoint reorders activations within groups (GPTQ's desc_act); vLLM from 0.32 on refuses it.
        order_bytes: bytes per input of an activation-order index (compressed-tensors' g_idx).
        shape_bytes: fixed bytes a matrix (compressed-tensors stores the original shape).
        spare_biases: experts get biases whether the checkpoint has them or not (GPTQ).
        cuts_groups: a rank may hold part of a group (GPTQ keeps the scales of whole groups then).
    """

    name: str = "w4a16"
    width: int = 4
    group: int = 128
    zero_points: bool = False
    zero_points_in_fallback: bool = True
    refines_groups: bool = False
    ordered: bool = False
    order_bytes: int = 0
    shape_bytes: int = 0
    spare_biases: bool = False
    cuts_groups: bool = False

    @property
    def whole_groups(self) -> bool:
        """Whether a shard must hold whole groups."""
        return self.group > 0 and not self.cuts_groups

    @property
    def id(self) -> str:
        """The method's name."""
        return self.name

    @property
    def bits(self) -> float:
        """Bits of one packed weight."""
        return self.width

    def matrix(self, parts: tuple[int, ...], inputs: int, itemsize: int) -> int:
        """quantization/auto_awq.py, auto_gptq.py, compressed_tensors_wNa16.py `create_weights`."""
        rows = sum(parts)
        groups = ceil_div(inputs, self.group) if self.group else 1
        total = rows * inputs * self.width // 8 + rows * groups * itemsize
        if self.zero_points:
            total += rows * groups * self.width // 8
        return total + inputs * self.order_bytes + self.shape_bytes

    def experts(self, shape: ExpertShape) -> int:
        """The same per expert for w13 and w2 (quantization/auto_gptq.py, auto_awq.py, moe_wna16.py).

        GPTQ allocates expert biases always and drops them after loading when the checkpoint has none
        (auto_gptq.py:582-627); they are counted, as they must fit.
        """
        up, inner, hidden = shape.shards * shape.intermediate, shape.intermediate, shape.hidden
        group, zero_points = self.group, self.zero_points
        if self.refines_groups and group and (inner % group or hidden % group):
            zero_points = zero_points and self.zero_points_in_fallback
            while group > 1 and (inner % group or hidden % group):
                group //= 2
        one = (up * hidden + hidden * inner) * self.width // 8
        cells = up * (ceil_div(hidden, group) if group else 1) + hidden * (
            ceil_div(inner, group) if group else 1
        )
        one += cells * shape.itemsize
        if zero_points:
            one += cells * self.width // 8
        one += self.order_bytes * 2 * (hidden + inner) + self.shape_bytes * 2
        if self.spare_biases and group == self.group and not shape.biased:
            one += (up + hidden) * shape.itemsize
        return shape.local * one + shape.biases(hidden, inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvfp4:
    """4-bit floats, an e4m3 scale per 16 inputs and fp32 scales per fused part.

    Args:
        weight_only: no activation scale (W4A16).
    """

    group: int = 16
    weight_only: bool = False

    @property
    def id(self) -> str:
        """`nvfp4`."""
        return "nvfp4"

    @property
    def bits(self) -> float:
        """4."""
        return 4

    def matrix(self, parts: tuple[int, ...], inputs: int, itemsize: int) -> int:
        """quantization/modelopt.py:1992-2035."""
        rows = sum(parts)
        scales = 4 * len(parts) * (1 if self.weight_only else 2)
        return rows * inputs // 2 + rows * ceil_div(inputs, self.group) + scales

    def experts(self, shape: ExpertShape) -> int:
        """quantization/modelopt.py:892-985; the TRTLLM and FlashInfer kernels keep input scales of all experts."""
        cells = (shape.shards + 1) * shape.hidden * shape.intermediate
        one = cells // 2 + shape.shards * shape.intermediate * (shape.hidden // self.group)
        one += shape.hidden * (shape.intermediate // self.group) + 4 * (shape.shards + 1)
        total = shape.local * one + shape.total * 4 * (shape.shards + 1)
        return total + shape.biases(shape.hidden, shape.intermediate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mx:
    """OCP microscaling floats: an e8m0 scale per 32 inputs (MXFP4, MXFP8).

    Args:
        width: 4 or 8 bits.
        rounding: how the expert kernel rounds sizes: "gpt_oss" (MXFP4 oracle) or "none".
    """

    width: int = 4
    group: int = 32
    rounding: str = "gpt_oss"

    @property
    def id(self) -> str:
        """`mxfp4` or `mxfp8`."""
        return f"mxfp{self.width}"

    @property
    def bits(self) -> float:
        """4 or 8."""
        return self.width

    def matrix(self, parts: tuple[int, ...], inputs: int, itemsize: int) -> int:
        """Values and one scale byte per group."""
        rows = sum(parts)
        return rows * inputs * self.width // 8 + rows * ceil_div(inputs, self.group)

    def padded(self, shape: ExpertShape) -> tuple[int, int]:
        """Hidden and intermediate size after the kernel's rounding (fused_moe/oracle/mxfp4.py:816-885).

        Hopper runs Triton for gpt-oss' activation (intermediate to 64), SM 100 TRTLLM (256 and 128), everything else
        Marlin (256 and 128). Hopper too rounded to 256 and 128 up to 0.19: gpt-oss-20b held 13.64 GiB there
        (start-up logs 040-042 of tests/data/startup_logs.json), 12.8 by 0.32's code.
        """
        if self.rounding != "gpt_oss" or self.width != 4:
            return shape.hidden, shape.intermediate
        capability = shape.compute_capability
        if capability == 90 and shape.activation == "swigluoai" and shape.engine >= UNPADDED_MXFP4:
            return shape.hidden, round_up(shape.intermediate, 64)
        if capability is None:
            return round_up(shape.hidden, 256), round_up(shape.intermediate, 256)
        return round_up(shape.hidden, 256), round_up(shape.intermediate, 128)

    def experts(self, shape: ExpertShape) -> int:
        """quantization/mxfp4.py:197-260."""
        hidden, intermediate = self.padded(shape)
        rows = shape.shards * intermediate
        one = (rows * hidden + hidden * intermediate) * self.width // 8
        one += rows * ceil_div(hidden, self.group) + hidden * ceil_div(intermediate, self.group)
        return shape.local * one + shape.biases(hidden, intermediate)
