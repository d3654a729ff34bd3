"""Work + Gpu + Efficiency -> how long one engine step takes, and which resource holds it up.

A roofline in utilization space (Williams et al. 2009, doi 10.1145/1498765.1498785): every kind of kernel takes the
longer of its bytes over a share of the bandwidth and its operations over a share of the peak; the shares are measured
(catalog/efficiency.toml). Layers add a time of their own for the small kernels between, tensor parallelism the time of
its sums, the engine that of scheduling and sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.throughput.efficiency import Efficiency
from selfhost.throughput.work import Dense, StageWork, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Seconds of one step by what takes them."""

    weights: float
    compute: float
    cache: float
    communication: float
    overhead: float

    @property
    def seconds(self) -> float:
        """All of it: kernels of a step run one after the other."""
        return self.weights + self.compute + self.cache + self.communication + self.overhead

    @property
    def binds(self) -> str:
        """The largest part, in words."""
        return _largest((self.weights, self.compute, self.cache, self.communication, self.overhead))


_PARTS = ("weights bandwidth", "compute", "KV-cache bandwidth", "communication", "engine overhead")


def _largest(parts: tuple[float, float, float, float, float]) -> str:
    return _PARTS[parts.index(max(parts))]


# Rows of one kind of kernel, with everything that the load does not change multiplied out.
DenseRow = tuple[float, float, float]
"""(seconds to read the weights, operations of a token, operations per second)."""
RoutedRow = tuple[int, int, float, int, float, float, float, float]
"""(layers, copies, share untouched by a token, experts here, seconds to read one, visits of a token, operations of a
visit, operations per second)."""
AttendedRow = tuple[int, float, int, float, float, float, float, float]
"""(layers, cache bytes of a token, span, state bytes, bytes per second, operations of a pair when decoding, the same
over prompts, operations per second)."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """The kernels of some layers."""

    dense: tuple[DenseRow, ...]
    routed: tuple[RoutedRow, ...]
    attended: tuple[AttendedRow, ...]

    def products(self, tokens: float) -> tuple[float, float]:
        """Seconds of the matrix products that the bandwidth holds up, and of those that the compute does."""
        weights = compute = 0.0
        for read, each, speed in self.dense:
            math = each * tokens / speed
            if read >= math:
                weights += read
            else:
                compute += math
        if tokens <= 0:
            return weights, compute
        for layers, copies, untouched, local, expert, share, each, speed in self.routed:
            together = tokens * copies
            # Experts chosen evenly and independently: each stays untouched by a token with 1 - chosen / total.
            read = layers * (local * (1.0 - untouched**together) * expert)
            math = layers * (each * (together * share) / speed)
            if read >= math:
                weights += read
            else:
                compute += math
        return weights, compute

    def decode_attention(self, decoding: float, context_tokens: float) -> float:
        """Seconds in which decoding sequences read their caches."""
        total = 0.0
        for layers, per_token, span, state, bandwidth, each, _, speed in self.attended:
            seen = span if 0 < span < context_tokens else context_tokens
            read = decoding * (seen * per_token + state) / bandwidth
            math = decoding * seen * each / speed
            total += layers * max(read, math)
        return total

    def prefill_attention(self, tokens: float, before: float) -> float:
        """Seconds of attention over a prompt's tokens."""
        total, middle = 0.0, max(0.5, before + tokens / 2.0)
        for layers, _, span, _, _, _, each, speed in self.attended:
            total += layers * tokens * (span if 0 < span < middle else middle) * each / speed
        return total


def _rows(stages: tuple[StageWork, ...], eff: Efficiency) -> _Rows:
    read_expert = eff.bandwidth * eff.experts
    return _Rows(
        dense=tuple(_dense(one, eff) for stage in stages for one in stage.dense),
        routed=tuple(
            (
                one.layers,
                one.copies,
                1.0 - one.chosen / one.total,
                one.local,
                one.bytes_per_expert / read_expert,
                one.chosen * (one.local / one.total if one.whole else 1.0),
                2.0 * one.weights_per_expert,
                eff.expert_flops(one.scheme),
            )
            for stage in stages
            for one in stage.routed
        ),
        attended=tuple(
            (
                one.layers,
                one.bytes_per_token,
                one.span_tokens,
                2.0 * one.state_bytes,
                eff.bandwidth * eff.cache,
                one.decode_per_pair,
                one.prefill_per_pair,
                eff.attention_flops,
            )
            for stage in stages
            for one in stage.attended
        ),
    )


def _dense(dense: Dense, eff: Efficiency) -> DenseRow:
    return dense.bytes / (eff.bandwidth * eff.weights), 2.0 * dense.weights, eff.flops(dense.scheme)


class Step:
    """The clock of one copy of the model: its work on its GPUs, at their measured utilizations.

    Args:
        work: what a step does.
        efficiency: how fast.
        tensor: ranks that add up each layer's outputs.
        rows: tokens that a decoding sequence has in one step: 1, and one for each drafted token.
        graph_tokens: tokens up to which steps run as CUDA graphs.
    """

    __slots__ = (
        "_draft", "_fixed", "_head", "_launch", "_passed", "_rows", "_small", "efficiency", "graph_tokens", "rows",
        "tensor", "work",
    )  # fmt: skip

    def __init__(
        self, *, work: Work, efficiency: Efficiency, tensor: int, rows: int = 1, graph_tokens: int = 512
    ) -> None:
        self.work, self.efficiency, self.tensor = work, efficiency, tensor
        self.rows, self.graph_tokens = rows, graph_tokens
        self._head = _dense(work.head, efficiency)
        self._rows = _rows(work.stages, efficiency)
        self._draft = _rows((work.draft,), efficiency) if work.draft is not None and rows > 1 else None
        self._fixed, self._passed = self._communication()
        layers = sum(stage.layers for stage in work.stages)
        experts = sum(routed.layers for stage in work.stages for routed in stage.routed)
        self._small = (
            layers - experts
        ) * efficiency.layer_seconds + experts * efficiency.expert_layer_seconds
        self._launch = layers * efficiency.eager_layer_seconds

    def cost(
        self,
        decoding: float,
        context_tokens: float,
        prefill_tokens: float = 0.0,
        prefill_context_tokens: float = 0.0,
    ) -> StepCost:
        """What one step takes, all pipeline stages one after the other.

        Args: as `StepClock.step_seconds`.
        """
        weights, compute, cache, communication, overhead = self._parts(
            decoding, context_tokens, prefill_tokens, prefill_context_tokens
        )
        return StepCost(
            weights=weights, compute=compute, cache=cache, communication=communication, overhead=overhead
        )

    def binds(
        self, decoding: float, context_tokens: float, prefill_tokens: float, prefill_context_tokens: float
    ) -> str:
        """What holds up one step, in words."""
        return _largest(self._parts(decoding, context_tokens, prefill_tokens, prefill_context_tokens))

    def step_seconds(
        self,
        decoding: float,
        context_tokens: float,
        prefill_tokens: float = 0.0,
        prefill_context_tokens: float = 0.0,
    ) -> float:
        """Seconds of one step (`StepClock`)."""
        parts = self._parts(decoding, context_tokens, prefill_tokens, prefill_context_tokens)
        return parts[0] + parts[1] + parts[2] + parts[3] + parts[4]

    def _parts(
        self, decoding: float, context_tokens: float, prefill_tokens: float, before: float
    ) -> tuple[float, float, float, float, float]:
        """Seconds of weights, compute, cache, communication and overhead."""
        rows, eff = self._rows, self.efficiency
        tokens = decoding * self.rows + prefill_tokens
        weights, compute = rows.products(tokens)
        cache = rows.decode_attention(decoding, context_tokens)
        if prefill_tokens > 0:
            compute += rows.prefill_attention(prefill_tokens, before)
        read, each, speed = self._head
        heads: tuple[float, ...] = (decoding * self.rows,)
        if self._draft is not None:
            drafts = self.rows - 1
            more = self._draft.products(decoding)
            weights, compute = weights + drafts * more[0], compute + drafts * more[1]
            cache += drafts * self._draft.decode_attention(decoding, context_tokens)
            heads += (decoding,) * drafts
        for sampled in heads:
            math = each * max(1.0, sampled) / speed
            if read >= math:
                weights += read
            else:
                compute += math
        communication = self._fixed + tokens * self._passed
        overhead = self._small
        if tokens > self.graph_tokens:
            # What launching kernels one by one takes beyond the kernels themselves, in a step without a CUDA graph.
            overhead += max(0.0, self._launch - (weights + compute + cache + communication + self._small))
        return (
            weights,
            compute,
            cache,
            communication,
            overhead + eff.step_seconds + decoding * eff.sequence_seconds,
        )

    def _communication(self) -> tuple[float, float]:
        """Seconds of a step's sums over ranks and of what stages pass on, and those of each token in them."""
        eff, work = self.efficiency, self.work
        row = float(work.hidden * work.element_bytes)
        fixed = each = 0.0
        if self.tensor > 1:
            share = 2.0 * (self.tensor - 1) / self.tensor  # of a ring all-reduce, what each rank sends
            fixed, each = work.reduced * eff.reduce_seconds, work.reduced * share * row / eff.link
        for routed in (one for stage in work.stages for one in stage.routed if one.copies > 1):
            # Tokens of all copies are gathered before experts and scattered after them (vLLM's all2all backend
            # allgather_reducescatter, its default, docs/serving/expert_parallel_deployment.md, 2025-10), a share of
            # them by each tensor rank.
            fixed += 2.0 * routed.layers * eff.outer_seconds
            each += 2.0 * routed.layers * (routed.copies - 1) * row / self.tensor / eff.outer_link
        passed = max(0, len(work.stages) - 1)  # each rank of a stage passes on its share
        return fixed + passed * eff.outer_seconds, each + passed * row / self.tensor / eff.outer_link
