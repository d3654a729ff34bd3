"""Work + Gpu + Efficiency -> how long one engine step takes, and which resource holds it up.

A roofline in utilization space (Williams et al. 2009, doi 10.1145/1498765.1498785): every kind of kernel takes the
longer of its bytes over a share of the bandwidth and its operations over a share of the peak; the shares are measured
(catalog/efficiency.toml). Layers add a time of their own for the small kernels between, tensor parallelism the time of
its sums, the engine that of scheduling and sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.throughput.efficiency import Efficiency
from selfhost.throughput.work import Attended, Dense, Routed, StageWork, Work


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
        parts = {
            "weights bandwidth": self.weights,
            "compute": self.compute,
            "KV-cache bandwidth": self.cache,
            "communication": self.communication,
            "engine overhead": self.overhead,
        }
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """The clock of one copy of the model: its work on its GPUs, at their measured utilizations.

    Args:
        work: what a step does.
        efficiency: how fast.
        tensor: ranks that add up each layer's outputs.
        rows: tokens that a decoding sequence has in one step: 1, and one for each drafted token.
        graph_tokens: tokens up to which steps run as CUDA graphs.
    """

    work: Work
    efficiency: Efficiency
    tensor: int
    rows: int = 1
    graph_tokens: int = 512

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
        tokens = decoding * self.rows + prefill_tokens
        products = [self._dense(self.work.head, max(1.0, decoding * self.rows))]
        cache = compute = 0.0
        for stage in self.work.stages:
            products += self._products(stage, tokens)
            for kept in stage.attended:
                cache += self._decode_attention(kept, decoding, context_tokens)
                compute += self._prefill_attention(kept, prefill_tokens, prefill_context_tokens)
        draft = self.work.draft
        if draft is not None and self.rows > 1:
            each = [self._dense(self.work.head, max(1.0, decoding)), *self._products(draft, decoding)]
            products += each * (self.rows - 1)
            for kept in draft.attended:
                cache += (self.rows - 1) * self._decode_attention(kept, decoding, context_tokens)
        weights = sum(read for read, math in products if read >= math)
        compute += sum(math for read, math in products if read < math)
        communication = self._communication(tokens)
        small = self._small_kernels()
        launched = weights + compute + cache + communication + small
        return StepCost(
            weights=weights,
            compute=compute,
            cache=cache,
            communication=communication,
            overhead=small + self._not_hidden(tokens, launched) + self._engine(decoding),
        )

    def _products(self, stage: StageWork, tokens: float) -> list[tuple[float, float]]:
        """(seconds by bandwidth, seconds by compute) of each kind of matrix product."""
        return [
            *(self._dense(dense, tokens) for dense in stage.dense),
            *(self._routed(routed, tokens) for routed in stage.routed),
        ]

    def step_seconds(
        self,
        decoding: float,
        context_tokens: float,
        prefill_tokens: float = 0.0,
        prefill_context_tokens: float = 0.0,
    ) -> float:
        """Seconds of one step (`StepClock`)."""
        return self.cost(decoding, context_tokens, prefill_tokens, prefill_context_tokens).seconds

    def _dense(self, dense: Dense, tokens: float) -> tuple[float, float]:
        eff = self.efficiency
        read = dense.bytes / (eff.bandwidth * eff.weights)
        return read, 2.0 * dense.weights * tokens / eff.flops(dense.scheme)

    def _routed(self, routed: Routed, tokens: float) -> tuple[float, float]:
        eff = self.efficiency
        if tokens <= 0:
            return 0.0, 0.0
        tokens = tokens * routed.copies
        # Experts chosen evenly and independently: each stays untouched by a token with 1 - chosen / total.
        touched = routed.local * (1.0 - (1.0 - routed.chosen / routed.total) ** tokens)
        visits = tokens * routed.chosen * (routed.local / routed.total if routed.whole else 1.0)
        read = touched * routed.bytes_per_expert / (eff.bandwidth * eff.experts)
        math = 2.0 * routed.weights_per_expert * visits / eff.expert_flops(routed.scheme)
        return routed.layers * read, routed.layers * math

    def _decode_attention(self, kept: Attended, decoding: float, context_tokens: float) -> float:
        eff = self.efficiency
        seen = min(context_tokens, kept.span_tokens) if kept.span_tokens else context_tokens
        read = decoding * (seen * kept.bytes_per_token + 2.0 * kept.state_bytes)
        math = decoding * seen * kept.decode_per_pair
        return kept.layers * max(read / (eff.bandwidth * eff.cache), math / eff.attention_flops)

    def _prefill_attention(self, kept: Attended, tokens: float, before: float) -> float:
        if tokens <= 0:
            return 0.0
        seen = before + tokens / 2.0
        if kept.span_tokens:
            seen = min(seen, kept.span_tokens)
        return kept.layers * tokens * seen * kept.prefill_per_pair / self.efficiency.attention_flops

    def _communication(self, tokens: float) -> float:
        eff = self.efficiency
        found = 0.0
        if self.tensor > 1:
            share = 2.0 * (self.tensor - 1) / self.tensor  # of a ring all-reduce, what each rank sends
            bytes_each = tokens * self.work.hidden * self.work.element_bytes * share
            found += self.work.reduced * (eff.reduce_seconds + bytes_each / eff.link)
        stages = len(self.work.stages)
        if stages > 1:
            passed = tokens * self.work.hidden * self.work.element_bytes
            found += (stages - 1) * (eff.reduce_seconds + passed / eff.link)
        return found

    def _small_kernels(self) -> float:
        dense, experts = self._layers
        return dense * self.efficiency.layer_seconds + experts * self.efficiency.expert_layer_seconds

    def _not_hidden(self, tokens: float, launched: float) -> float:
        """What launching kernels one by one takes beyond the kernels themselves, in a step without a CUDA graph."""
        if tokens <= self.graph_tokens:
            return 0.0
        return max(0.0, sum(self._layers) * self.efficiency.eager_layer_seconds - launched)

    def _engine(self, decoding: float) -> float:
        return self.efficiency.step_seconds + decoding * self.efficiency.sequence_seconds

    @property
    def _layers(self) -> tuple[int, int]:
        layers = sum(stage.layers for stage in self.work.stages)
        experts = sum(routed.layers for stage in self.work.stages for routed in stage.routed)
        return layers - experts, experts
