"""Recurrent layers: a state of fixed size per sequence, whatever its length.

Shapes and dtypes: vLLM 0.32 model_executor/layers/mamba/mamba_utils.py:52-160 (dtypes), :163-330 (shapes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfhost.attention.rank import RankCache, Setting, share
from selfhost.dtypes import itemsize

# `conv_dtype` and `state_dtype` are canonical names (selfhost/dtypes.py) or "auto": for the convolution state the
# model's dtype, for the recurrent state the convolution state's dtype (Kimi delta attention: float32). A family whose
# config names one (Qwen3.5 `mamba_ssm_dtype`, Nemotron-H `mamba_ssm_cache_dtype`, default float32) passes it on.


def _state(
    conv_elements: int,
    state_elements: int,
    conv_dtype: str,
    state_dtype: str,
    setting: Setting,
    *,
    checkpoint_blocks: int = 0,
) -> RankCache:
    """A state page: convolution window, then recurrent matrices."""
    conv = setting.model_dtype if conv_dtype == "auto" else conv_dtype
    state = conv if state_dtype == "auto" else state_dtype
    total = conv_elements * itemsize(conv) + state_elements * itemsize(state)
    return RankCache(reach="state", state_bytes=total, checkpoint_blocks=checkpoint_blocks)


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
        channels = share(self.intermediate, setting.tensor)
        conv = channels * (self.conv_kernel - 1)
        return _state(conv, channels * self.state_size, self.conv_dtype, self.state_dtype, setting)


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
        tensor = setting.tensor
        # B and C groups are replicated so that every rank has those of its heads (mamba_utils.py:269-277).
        groups = self.groups if self.groups % tensor == 0 else tensor
        inner = self.heads * self.head_dim if self.intermediate is None else self.intermediate
        channels = share(inner + 2 * groups * self.state_size, tensor)
        conv = channels * (self.conv_kernel - 1 + setting.speculative_tokens)
        state = share(self.heads, tensor) * self.head_dim * self.state_size
        # A prefill exports one state from its middle (mamba_mixer2.py:1098-1108).
        return _state(conv, state, self.conv_dtype, self.state_dtype, setting, checkpoint_blocks=1)


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
        channels = share(
            2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim, setting.tensor
        )
        conv = channels * (self.conv_kernel - 1 + setting.speculative_tokens)
        state = share(self.value_heads, setting.tensor) * self.value_dim * self.key_dim
        return _state(conv, state, self.conv_dtype, self.state_dtype, setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class KimiDeltaState:
    """Kimi delta attention (Kimi-Linear, Kimi K3): `heads` square matrices of `head_dim`, float32 unless named."""

    kind: ClassVar[str] = "kimi-delta"
    heads: int
    head_dim: int
    conv_kernel: int
    conv_dtype: str = "auto"
    state_dtype: str = "auto"
    flash_prefill: bool = False
    """Whether FlashKDA runs the prefill, which keeps one more state per request: Kimi K3's implementation with a
    bounded gate (`gate_lower_bound`) and heads of 128 (vLLM 0.32 models/kimi_k3/nvidia/kda.py:463-500); not
    Kimi-Linear's."""

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        channels = share(3 * self.heads * self.head_dim, setting.tensor)
        conv = channels * (self.conv_kernel - 1 + setting.speculative_tokens)
        state = share(self.heads, setting.tensor) * self.head_dim * self.head_dim
        dtype = "float32" if self.state_dtype == "auto" else self.state_dtype
        exports = self.flash_prefill and setting.sm_major in (9, 10, 12)
        return _state(conv, state, self.conv_dtype, dtype, setting, checkpoint_blocks=int(exports))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConvState:
    """Short convolution (LFM2): `dim` channels, kernel of `kernel` tokens (conv_L_cache).

    `replicated`: every rank keeps all channels (Qwen4's n-gram layers).
    """

    kind: ClassVar[str] = "short-conv"
    dim: int
    kernel: int
    conv_dtype: str = "auto"
    replicated: bool = False

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        channels = self.dim if self.replicated else share(self.dim, setting.tensor)
        conv = channels * (self.kernel - 1 + setting.speculative_tokens)
        return _state(conv, 0, self.conv_dtype, "auto", setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearState:
    """Lightning attention (MiniMax-Text-01, Bailing/Ling 2.5 linear): `heads` square matrices of `head_dim`."""

    kind: ClassVar[str] = "linear"
    heads: int
    head_dim: int
    state_dtype: str = "auto"

    def of_rank(self, setting: Setting) -> RankCache | None:
        """What one tensor-parallel rank keeps."""
        state = share(self.heads, setting.tensor) * self.head_dim * self.head_dim
        return _state(0, state, "auto", self.state_dtype, setting)
