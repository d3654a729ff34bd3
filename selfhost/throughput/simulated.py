"""Model, GPUs, engine and trace -> Simulation of the deployment, and what it would be with slower or faster steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfhost.errors import NoRoomError
from selfhost.model.spec import ModelSpec
from selfhost.throughput.arrivals import Trace, uncollected
from selfhost.throughput.asked import Limits
from selfhost.throughput.estimate import ACCEPTANCE, admission, clock_of, tokens_per_step
from selfhost.throughput.scaled import ScaledClock
from selfhost.throughput.simulate import Balance, Simulation, simulate
from selfhost.throughput.types import StepClock, Traffic
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion

MOST_FOR_RANGE = 100_000  # Ours: requests up to which two more simulations take no more than a second or two


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A deployment under a trace.

    Args:
        typical: with the clock's own step times.
        clock_spread: 80 % of the measurements lay within the clock's times, divided or multiplied by 1 and this.
        faster, slower: with step times at those ends; None for a trace that is too long to be simulated three times.
    """

    typical: Simulation
    clock_spread: float
    faster: Simulation | None
    slower: Simulation | None


def traffic_of(trace: Trace, *, prefix_hit_ratio: float = 0.0, acceptance: float | None = None) -> Traffic:
    """The load of a trace by its means, as the steady state knows it: a rate, or clients where all arrive at once."""
    rate = trace.request_rate
    return Traffic(
        prompt_tokens=max(1, round(trace.mean_prompt_tokens)),
        output_tokens=max(1, round(trace.mean_output_tokens)),
        concurrency=len(trace) if rate is None else None,
        request_rate=rate,
        prefix_hit_ratio=prefix_hit_ratio,
        acceptance=acceptance,
    )


def simulate_deployment(
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    gpu: Gpu,
    engine: EngineVersion,
    trace: Trace,
    traffic: Traffic,
    *,
    replicas: int = 1,
    clock: StepClock | None = None,
    balance: Balance | None = None,
    ttft_goal_ms: float | None = None,
    tpot_goal_ms: float | None = None,
) -> Simulated:
    """Answer a trace with a deployment.

    The KV cache holds as many tokens as the requests of mean length that `admission` counts.

    Args:
        spec, workload, split, gpu, engine, replicas, clock: as in `estimate`.
        trace: what arrives at the whole deployment.
        traffic: its prefix hits and acceptance, and means (`traffic_of`).
        balance: how copies are chosen, in turn if None.
        ttft_goal_ms, tpot_goal_ms: what a request has to meet.

    Raises:
        UnsupportedError: the combination is impossible.
        NoRoomError: not one request of mean length fits.
    """
    step, used = clock_of(spec, workload, split, gpu, engine)
    admitted = admission(spec, workload, split, gpu, engine, traffic)
    if admitted.requests < 1:
        raise NoRoomError(
            f"Not one request of {traffic.prompt_tokens + traffic.output_tokens:,} tokens fits on {gpu.name}.",
            short_bytes=admitted.budget.short_bytes,
            hint="`selfhost size` with the same options says what is missing and what would help.",
        )
    held = traffic.prompt_tokens + -(-traffic.output_tokens // 2)
    accepted = ACCEPTANCE if traffic.acceptance is None else traffic.acceptance
    limits = Limits(
        sequences=admitted.budget.max_num_seqs,
        cache_tokens=int((admitted.budget.max_concurrency or 0.0) * held),
        chunk_tokens=admitted.chunk_tokens,
        prefix_hit_ratio=traffic.prefix_hit_ratio if workload.prefix_caching else 0.0,
        tokens_per_step=tokens_per_step(workload.speculative_tokens, accepted) if step.rows > 1 else 1.0,
        stages=split.pipeline,
        before_seconds=used.efficiency.request_seconds,
    )

    def at(factor: float) -> Simulation:
        return simulate(
            trace,
            ScaledClock(clock or step, factor) if factor != 1.0 else clock or step,
            limits,
            copies=split.data * replicas,
            balance=balance or "round-robin",
            ttft_goal_ms=ttft_goal_ms,
            tpot_goal_ms=tpot_goal_ms,
        )

    several = len(trace) <= MOST_FOR_RANGE
    with uncollected():
        return Simulated(
            typical=at(1.0),
            clock_spread=used.spread,
            faster=at(1.0 / (1.0 + used.spread)) if several else None,
            slower=at(1.0 + used.spread) if several else None,
        )
