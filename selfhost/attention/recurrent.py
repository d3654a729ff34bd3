"""Recurrent layers: a state of fixed size per sequence, whatever its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfhost.attention.rank import RankCache, Setting

# `conv_dtype` and `state_dtype` are canonical names (selfhost/dtypes.py) or "auto": for the convolution state the
# model's dtype, for the recurrent state the convolution state's dtype (Kimi delta attention: float32). A family whose
# config names one (Qwen3.5 `mamba_ssm_dtype`, Nemotron-H `mamba_ssm_cache_dtype`, default float32) passes it on.


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba1State:
    """Mamba 1 (Falcon-Mamba, Jamba): `intermediate` channels of `state_size`, a convolution of `conv_kernel`."""

    kind: ClassVar[str] = "mamba1"
    intermediate: int
    state_size: int
    conv_kernel: int
    conv_dtype: str = "auto"
    state_dtype: str = "auto"

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2State:
    """Mamba 2 (Nemotron-H, Bamba, Falcon-H1, Zamba2, Granite 4, Plamo 2).

    Attributes:
        heads: mamba heads.
        head_dim: width of one head.
        state_size: ssm_state_size / d_state.
        groups: n_groups (B and C are shared inside a group).
        conv_kernel: convolution width.
        intermediate: convolution channels of x where they are not `heads` x `head_dim`; None when they are.
    """

    kind: ClassVar[str] = "mamba2"
    heads: int
    head_dim: int
    state_size: int
    groups: int
    conv_kernel: int
    intermediate: int | None = None
    conv_dtype: str = "auto"
    state_dtype: str = "auto"

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDeltaState:
    """Gated delta net (Qwen3-Next, Qwen3.5): `value_heads` matrices of value_dim x key_dim."""

    kind: ClassVar[str] = "gated-delta"
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv_kernel: int
    conv_dtype: str = "auto"
    state_dtype: str = "auto"

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class KimiDeltaState:
    """Kimi delta attention (Kimi-Linear, Kimi K3): `heads` square matrices of `head_dim`, float32 unless named."""

    kind: ClassVar[str] = "kimi-delta"
    heads: int
    head_dim: int
    conv_kernel: int
    conv_dtype: str = "auto"
    state_dtype: str = "auto"
    checkpoint_blocks: int = 1
    """Extra blocks for prefill checkpoints: 1 for Kimi K3's kernel, 0 for implementations without them."""

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConvState:
    """Short convolution (LFM2): `dim` channels, kernel of `kernel` tokens (conv_L_cache)."""

    kind: ClassVar[str] = "short-conv"
    dim: int
    kernel: int
    conv_dtype: str = "auto"

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearState:
    """Lightning attention (MiniMax-Text-01, Bailing/Ling 2.5 linear): `heads` square matrices of `head_dim`."""

    kind: ClassVar[str] = "linear"
    heads: int
    head_dim: int
    state_dtype: str = "auto"

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        raise NotImplementedError
