"""State-space mixers of both generations: what they allocate and keep, shared by every hybrid family."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.attention import Mamba1State, Mamba2State
from selfhost.model.config import Config
from selfhost.model.families.common import column, norm, row
from selfhost.model.modules import Item, Matrix, Part, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba1:
    """One Mamba 1 mixer (vLLM 0.32 layers/mamba/mamba_mixer.py:88-190); it is never quantized.

    Args:
        rank: rank of the time-step projection.
        norms: learned norms of the time step, B and C (Jamba; Falcon-Mamba's have no weights).
    """

    hidden: int
    inner: int
    state: int
    kernel: int
    rank: int
    bias: bool = False
    conv_bias: bool = True
    norms: bool = False

    def items(self, name: str) -> tuple[Item, ...]:
        """Its parameters, under the module name `name`."""
        gate_and_input = Matrix(
            name=f"{name}.in_proj",
            parts=(
                Part(name=f"{name}.in_proj", units=self.inner),
                Part(name=f"{name}.in_proj", units=self.inner),
            ),
            inputs=self.hidden,
            division="column",
            bias=self.bias,
            quantizable=False,
        )
        normed: tuple[Item, ...] = ()
        if self.norms:
            normed = (
                norm(f"{name}.dt_layernorm", self.rank),
                norm(f"{name}.bc_layernorms", self.state, copies=2),
            )
        return (
            column(f"{name}.conv1d", self.inner, self.kernel, bias=self.conv_bias, quantizable=False),
            gate_and_input,
            row(f"{name}.x_proj", self.rank + 2 * self.state, self.inner, quantizable=False),
            column(f"{name}.dt_proj", self.inner, self.rank, bias=True, quantizable=False),
            Vector(name=f"{name}.A", units=self.inner, unit=self.state, divided=True, dtype="float32"),
            Vector(name=f"{name}.D", units=self.inner, divided=True),
            row(f"{name}.out_proj", self.hidden, self.inner, bias=self.bias, quantizable=False),
            *normed,
        )

    def kept(self) -> Mamba1State:
        """What it keeps per sequence."""
        return Mamba1State(intermediate=self.inner, state_size=self.state, conv_kernel=self.kernel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2:
    """One Mamba 2 mixer (vLLM 0.32 layers/mamba/mamba_mixer2.py:258-500).

    Where TP exceeds the groups each rank holds a group of its own.

    Args:
        inner: width of the state-space path, heads x head_dim.
        norm: the gated norm behind the state space has weights.
        state_dtype: element type of the recurrent state, "auto" for the convolution's.
    """

    hidden: int
    inner: int
    heads: int
    head_dim: int
    state: int
    groups: int
    kernel: int
    bias: bool = False
    conv_bias: bool = True
    norm: bool = True
    state_dtype: str = "auto"

    def items(self, name: str) -> tuple[Item, ...]:
        """Its parameters, under the module name `name`."""
        inner = Part(name=f"{name}.in_proj", units=self.inner)
        group = Part(name=f"{name}.in_proj", units=self.groups, unit=self.state)
        projection = Matrix(
            name=f"{name}.in_proj",
            parts=(inner, inner, group, group, Part(name=f"{name}.in_proj", units=self.heads)),
            inputs=self.hidden,
            division="column",
            bias=self.bias,
        )
        convolution = Matrix(
            name=f"{name}.conv1d",
            parts=(inner, group, group),
            inputs=self.kernel,
            division="column",
            bias=self.conv_bias,
            quantizable=False,
        )
        gated: tuple[Item, ...] = ()
        if self.norm:
            gated = (Vector(name=f"{name}.norm", units=self.inner, divided=True),)
        return (
            convolution,
            projection,
            Vector(name=f"{name}.A", units=self.heads, divided=True, dtype="float32"),
            Vector(name=f"{name}.D", units=self.heads, divided=True),
            Vector(name=f"{name}.dt_bias", units=self.heads, divided=True),
            row(f"{name}.out_proj", self.hidden, self.inner, bias=self.bias),
            *gated,
        )

    def kept(self) -> Mamba2State:
        """What it keeps per sequence."""
        return Mamba2State(
            heads=self.heads,
            head_dim=self.head_dim,
            state_size=self.state,
            groups=self.groups,
            conv_kernel=self.kernel,
            intermediate=self.inner,
            state_dtype=self.state_dtype,
        )


def time_step_rank(config: Config, field: str, hidden: int) -> int:
    """The rank of the time-step projection; "auto" is a sixteenth of the hidden size, rounded up."""
    if config.data.get(field, "auto") in ("auto", None):
        return -(-hidden // 16)
    return config.int(field)


def expanded(config: Config, field: str, hidden: int) -> int:
    """Hidden size times the expansion factor."""
    inner = int(config.float(field, default=2.0) * hidden)
    if inner < 1:
        raise config.error(field, "leaves no channels")
    return inner


def state_dtype(config: Config, *fields: str, default: str) -> str:
    """The recurrent state's element type as a configuration names it."""
    name = config.str(*fields, default=default) or default
    if name not in ("auto", "float32", "float16", "bfloat16"):
        raise config.error(fields[0], f"is {name[:40]!r}, not a state dtype")
    return name
