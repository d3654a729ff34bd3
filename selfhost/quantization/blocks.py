"""Formats of blocks with their scales inside: bitsandbytes and ggml (GGUF)."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.quantization.schemes import ExpertShape
from selfhost.units import ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsAndBytes:
    """bitsandbytes: nf4 with an fp32 absolute maximum per 64 weights, or int8 with one per row."""

    width: int = 4

    @property
    def id(self) -> str:
        """`bnb-nf4` or `bnb-int8`."""
        return "bnb-nf4" if self.width == 4 else "bnb-int8"

    @property
    def bits(self) -> float:
        """4 or 8."""
        return self.width

    def matrix(self, parts: tuple[int, ...], inputs: int, itemsize: int) -> int:
        """vLLM up to 0.27 keeps nested scales expanded to fp32: 4 + 32/64 bits (bitsandbytes.py)."""
        rows = sum(parts)
        if self.width == 4:
            return rows * inputs // 2 + 4 * ceil_div(rows * inputs, 64)
        return rows * inputs + 4 * rows

    def experts(self, shape: ExpertShape) -> int:
        """The same, expert by expert."""
        up = self.matrix((shape.shards * shape.intermediate,), shape.hidden, shape.itemsize)
        down = self.matrix((shape.hidden,), shape.intermediate, shape.itemsize)
        return shape.local * (up + down) + shape.biases(shape.hidden, shape.intermediate)


# Bytes and weights of one block (ggml-common.h, `block_*` structs).
GGML_BLOCKS = {
    "f32": (4, 1), "f16": (2, 1), "bf16": (2, 1), "q4_0": (18, 32), "q4_1": (20, 32), "q5_0": (22, 32),
    "q5_1": (24, 32), "q8_0": (34, 32), "q8_1": (36, 32), "q2_k": (84, 256), "q3_k": (110, 256),
    "q4_k": (144, 256), "q5_k": (176, 256), "q6_k": (210, 256), "q8_k": (292, 256), "iq4_nl": (18, 32),
    "iq4_xs": (136, 256), "iq3_s": (110, 256), "iq3_xxs": (98, 256), "iq2_xxs": (66, 256), "iq2_xs": (74, 256),
    "iq2_s": (82, 256), "iq1_s": (50, 256), "iq1_m": (56, 256), "mxfp4": (17, 32), "tq1_0": (54, 256),
    "tq2_0": (66, 256),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Gguf:
    """ggml blocks: `block` names the block type of a tensor, `name` the file type.

    `part_blocks` names the block type of each fused part, where a file mixes them.
    """

    name: str = "gguf-q4_k_m"
    block: str = "q4_k"
    part_blocks: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The file type."""
        return self.name

    @property
    def bits(self) -> float:
        """Bits of one weight, its scales included."""
        size, weights = GGML_BLOCKS[self.block]
        return 8 * size / weights

    def matrix(self, parts: tuple[int, ...], inputs: int, itemsize: int) -> int:
        """Whole blocks along the inputs."""
        blocks = self.part_blocks if len(self.part_blocks) == len(parts) else (self.block,) * len(parts)
        total = 0
        for rows, block in zip(parts, blocks, strict=True):
            size, weights = GGML_BLOCKS[block]
            total += rows * ceil_div(inputs, weights) * size
        return total

    def experts(self, shape: ExpertShape) -> int:
        """The same, expert by expert."""
        up = self.matrix((shape.shards * shape.intermediate,), shape.hidden, shape.itemsize)
        down = self.matrix((shape.hidden,), shape.intermediate, shape.itemsize)
        return shape.local * (up + down) + shape.biases(shape.hidden, shape.intermediate)
