"""Model, GPUs, engine and traffic -> Estimate: latency, throughput, what binds, and where each number comes from."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from selfhost.attention.rank import Setting
from selfhost.errors import NoRoomError, UnsupportedError
from selfhost.memory import NEWEST, Bill, MemoryBudget, Prepared, prepare
from selfhost.model.spec import ModelSpec
from selfhost.sizing import bill_for, budget_for
from selfhost.throughput.efficiency import Efficiency, Utilization, at_peak, efficiency_of
from selfhost.throughput.ranges import around_range, first_range, offered_range, open_range
from selfhost.throughput.scaled import ScaledClock
from selfhost.throughput.steady import QUEUE, Lengths, Served, closed, opened, recomputed_tokens
from selfhost.throughput.step import Step
from selfhost.throughput.types import Estimate, Point, Provenance, StepClock, Traffic
from selfhost.throughput.work import Work, work_of
from selfhost.units import ceil_div
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion

# Share of drafted tokens that is accepted where nobody measured: DeepSeek-V3 reports 85-90 % for its one MTP layer
# (arXiv:2412.19437, 5.4.3, 2024-12). Ours: 0.8, as other prompts than theirs accept less.
ACCEPTANCE = 0.8
# Requests of a step that are tried where the engine's own number leaves no memory: what people set by hand then.
_FEWER = (256, 64, 16)
# Engines that keep no room for answers, and take places back; others let in what fits to its end.
_NO_ROOM_KEPT = ("vllm", "triton", "sglang")


class Admission(NamedTuple):
    """How many requests of a traffic one copy of the model takes at once.

    Args:
        requests: at most.
        binds: `KV-cache memory` or `engine batch limit`.
        chunk_tokens: tokens of one engine step.
        budget: the memory bill behind it; in brief as it was decided, without its lines.
        note: what was changed to let in any, None where nothing was.
    """

    requests: int
    binds: str
    chunk_tokens: int
    budget: MemoryBudget | Bill
    note: str | None


@lru_cache(maxsize=1024)
def _one_of(workload: Workload, held_tokens: int) -> Workload:
    return replace(workload, max_model_len=held_tokens, concurrency=1)


def admission(
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    gpu: Gpu,
    engine: EngineVersion,
    traffic: Traffic,
    *,
    brief: bool = False,
) -> Admission:
    """What the KV cache and the engine's own limit let in.

    Requests start and end at different moments, so that on average each holds its prompt and half of its output.

    Args: as `estimate`; `brief` leaves out the lines of the bill.

    Raises:
        UnsupportedError: the split or the combination is impossible.
    """
    load = _one_of(workload, traffic.prompt_tokens + ceil_div(traffic.output_tokens, 2))
    sized = bill_for if brief else budget_for
    found = sized(spec, load, split, gpu, engine)
    note = None
    if not (found.max_concurrency or 0.0) >= 1 and workload.max_num_seqs is None:
        for most in _FEWER:
            if most >= found.max_num_seqs:
                continue
            smaller = sized(spec, replace(load, max_num_seqs=most), split, gpu, engine)
            if (smaller.max_concurrency or 0.0) >= 1:
                note = (
                    f"At the engine's own {found.max_num_seqs:,} requests a step no KV cache is left, so this is with "
                    f"--max-num-seqs {most}."
                )
                found = smaller
                break
    by_memory = math.floor(found.max_concurrency or 0.0)
    return Admission(
        requests=max(0, min(by_memory, found.max_num_seqs)),
        binds="KV-cache memory" if by_memory <= found.max_num_seqs else "engine batch limit",
        chunk_tokens=found.max_num_batched_tokens,
        budget=found,
        note=note,
    )


def must_generate(spec: ModelSpec) -> None:
    """Refuse a model whose answers are no tokens.

    Raises:
        UnsupportedError: an embedding model or a ranker.
    """
    if spec.facts.pooling or spec.facts.encoder_only:
        raise UnsupportedError(
            f"{spec.id} generates no tokens, so there is no time per output token to estimate.",
            hint="Embeddings and rankers are bound by prompts alone; measure them with the engine's own benchmark.",
        )


def clock_of(
    spec: ModelSpec, workload: Workload, split: Split, gpu: Gpu, engine: EngineVersion
) -> tuple[Step, Utilization]:
    """The clock of one copy, and the utilizations it goes by.

    Raises:
        UnsupportedError: the combination is impossible, or nothing is known of the speed of such a device.
    """
    must_generate(spec)
    used = efficiency_of(gpu, engine, split)
    vendor = "AMD" if gpu.vendor == "AMD" else "NVIDIA"
    capability = gpu.compute_capability
    release = (engine.number[0], engine.number[1]) if engine.engine == "vllm" else NEWEST[:2]
    prepared = prepare(spec, workload, split, vendor, capability, release)
    work = _work(prepared, split, workload.speculative_tokens, capability, gpu.vendor == "NVIDIA")
    rows = 1 + workload.speculative_tokens if work.draft is not None else 1
    graph_tokens = 0 if workload.enforce_eager else used.graph_tokens
    return _step(work, used.efficiency, split.tensor, rows, graph_tokens), used


@lru_cache(maxsize=4096)
def _work(
    prepared: Prepared, split: Split, drafted: int, capability: tuple[int, int] | None, nvidia: bool
) -> Work:
    setting = Setting(
        tensor=split.tensor,
        kv_dtype=prepared.layout.kv_dtype,
        model_dtype=prepared.spec.dtype,
        speculative_tokens=drafted,
        sm_major=capability[0] if capability and nvidia else 0,
    )
    kernels = capability[0] * 10 + capability[1] if capability else None
    return work_of(prepared.spec, split, setting, kernels)


@lru_cache(maxsize=4096)
def _step(work: Work, efficiency: Efficiency, tensor: int, rows: int, graph_tokens: int) -> Step:
    """One clock for all engines that take the same times."""
    return Step(work=work, efficiency=efficiency, tensor=tensor, rows=rows, graph_tokens=graph_tokens)


def tokens_per_step(drafted: int, acceptance: float) -> float:
    """Tokens of a step with speculative decoding: drafts count up to the first that is refused, and one more.

    Leviathan et al. 2023, arXiv:2211.17192, equation 1: (1 - a^(k + 1)) / (1 - a).
    """
    if acceptance >= 1:
        return drafted + 1.0
    return (1.0 - acceptance ** (drafted + 1)) / (1.0 - acceptance)


def _lengths(
    workload: Workload, traffic: Traffic, admitted: Admission, engine: EngineVersion, *, drafts: bool
) -> Lengths:
    fills = engine.engine in _NO_ROOM_KEPT and admitted.binds == "KV-cache memory"
    cached = traffic.prompt_tokens * traffic.prefix_hit_ratio if workload.prefix_caching else 0.0
    accepted = ACCEPTANCE if traffic.acceptance is None else traffic.acceptance
    return Lengths(
        prompt=max(1.0, traffic.prompt_tokens - cached),  # the last token of a prompt is always computed
        cached=cached,
        output=traffic.output_tokens,
        per_step=tokens_per_step(workload.speculative_tokens, accepted) if drafts else 1.0,
        chunk=admitted.chunk_tokens,
        recomputed=recomputed_tokens(traffic.output_tokens, kept=workload.prefix_caching) if fills else 0.0,
    )


def estimate(
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    gpu: Gpu,
    engine: EngineVersion,
    traffic: Traffic,
    *,
    replicas: int = 1,
    clock: StepClock | None = None,
    measured: Provenance | None = None,
) -> Estimate:
    """Speed of a deployment under a traffic.

    Args:
        spec: the model.
        workload: the engine's knobs; its context and concurrency are not used.
        split: how one copy is divided; `data` copies share the traffic.
        gpu: the kind of GPU.
        engine: the release.
        traffic: lengths, and clients or a rate, of the whole deployment.
        replicas: deployments of the split behind one address.
        clock: step times from elsewhere (kernel tables) instead of the roofline.
        measured: where those come from.

    Raises:
        UnsupportedError: the combination is impossible.
        NoRoomError: not one request fits.
    """
    found = Deployed(spec, workload, split, gpu, engine, traffic, clock=clock, measured=measured)
    return found.under(traffic, replicas=replicas)


class Deployed:
    """A copy of a model on its GPUs: what of an estimate does not depend on how many requests come.

    Args: as `estimate`, which see; of `traffic` the lengths alone count here. `brief` leaves the provenance out, for a
        search that makes thousands of estimates.

    Raises:
        UnsupportedError: the combination is impossible.
        NoRoomError: not one request fits.
    """

    __slots__ = (
        "_brief", "_clock", "_engine", "_gpu", "_longest", "_measured", "_sizes", "_split", "_step",
        "_towers", "_used", "admitted",
    )  # fmt: skip

    def __init__(
        self,
        spec: ModelSpec,
        workload: Workload,
        split: Split,
        gpu: Gpu,
        engine: EngineVersion,
        traffic: Traffic,
        *,
        clock: StepClock | None = None,
        measured: Provenance | None = None,
        brief: bool = False,
    ) -> None:
        self._step, self._used = clock_of(spec, workload, split, gpu, engine)
        self.admitted = admission(spec, workload, split, gpu, engine, traffic, brief=brief)
        if self.admitted.requests < 1:
            raise NoRoomError(
                f"Not one request of {traffic.prompt_tokens + traffic.output_tokens:,} tokens fits on {gpu.name}.",
                short_bytes=self.admitted.budget.short_bytes,
                hint="`selfhost size` with the same options says what is missing and what would help.",
            )
        self._longest = spec.facts.max_context_tokens
        self._towers = spec.facts.modality != "text" and not workload.language_model_only
        self._clock = clock or self._step
        self._sizes = _lengths(workload, traffic, self.admitted, engine, drafts=self._step.rows > 1)
        self._split, self._gpu, self._engine = split, gpu, engine
        self._measured, self._brief = measured, brief

    def at(self, traffic: Traffic, concurrency: int, *, replicas: int = 1) -> Point:
        """The point of the curve at so many requests at once; clients and rate of `traffic` are not used."""
        one = self.under(replace(traffic, concurrency=concurrency, request_rate=None), replicas=replicas)
        return Point(
            concurrency=concurrency,
            ttft_ms=one.ttft_ms,
            tpot_ms=one.tpot_ms,
            output_tokens_per_second=one.output_tokens_per_second,
            binds=one.binds,
        )

    def curve(self, traffic: Traffic, *, replicas: int = 1) -> tuple[Point, ...]:
        """Points at 1, 2, 4 … requests at once, up to what is admitted, and twice that."""
        most = self.admitted.requests * self._split.data * replicas
        counts = [1]
        while counts[-1] < most:
            counts.append(min(most, counts[-1] * 2))
        return tuple(self.at(traffic, count, replicas=replicas) for count in (*counts, 2 * most))

    def under(self, traffic: Traffic, *, replicas: int = 1) -> Estimate:
        """The speed of so many replicas under clients or a rate; the lengths have to be those it was made for."""
        split, admitted, spread = self._split, self.admitted, self._used.spread
        copies = split.data * replicas
        served = _served(
            self._clock, self._sizes, traffic, copies, admitted.requests, self._used, split.pipeline
        )
        busy = copies if traffic.concurrency is None else min(copies, traffic.concurrency)
        rate = served.requests_per_second * busy
        least = self._least_seconds(served)
        found = Estimate(
            ttft_ms=first_range(served, spread),
            tpot_ms=around_range(served.token_seconds * 1e3, spread, least * 1e3),
            output_tokens_per_second=offered_range(
                rate * traffic.output_tokens, spread, traffic, served, least / served.token_seconds
            ),
            requests_per_second=rate,
            concurrency_admitted=admitted.requests * copies,
            running=served.running * busy,
            binds=_binds(self._step, self._sizes, served, admitted, traffic, split.pipeline),
            saturated=served.saturated,
            queue=QUEUE if traffic.request_rate is not None or served.waiting else None,
            gpus=split.gpus * replicas,
            notes=tuple(note for note in (admitted.note, self._beyond(traffic), self._apart()) if note),
            provenance=() if self._brief else _provenance(self._used, admitted, self._engine, self._measured),
        )
        if traffic.request_rate is None or self._brief:
            return found
        faster, slower = (
            _served(
                ScaledClock(self._clock, factor), self._sizes, traffic, copies, admitted.requests, self._used,
                split.pipeline,
            )
            for factor in (1 / (1 + spread), 1 + spread)
        )  # fmt: skip
        least = self._least_seconds(faster)
        return open_range(found, traffic, faster, slower, copies=copies, least=least)

    def _beyond(self, traffic: Traffic) -> str | None:
        needed = traffic.prompt_tokens + traffic.output_tokens
        if needed <= self._longest:
            return None
        text = f"{needed:,} tokens are beyond the model's {self._longest:,}: the engine refuses them"
        return text + (
            " unless VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 is set." if self._engine.engine == "vllm" else "."
        )

    def _apart(self) -> str | None:
        if not self._towers:
            return None
        return "What is seen or heard counts as tokens of the prompt; the tower that reads it takes time besides."

    def _least_seconds(self, served: Served) -> float:
        """Seconds per token at the full bandwidth and peak of the GPUs, which no engine goes below."""
        best = _at_peak(self._step.work, self._gpu, self._step.tensor, self._step.rows)
        at_once = max(1.0, served.running / self._split.pipeline)
        return best.step_seconds(at_once, self._sizes.context) / self._sizes.per_step


@lru_cache(maxsize=4096)
def _at_peak(work: Work, gpu: Gpu, tensor: int, rows: int) -> Step:
    return Step(work=work, efficiency=at_peak(gpu), tensor=tensor, rows=rows)


def _served(
    clock: StepClock, sizes: Lengths, traffic: Traffic, copies: int, most: int, used: Utilization, stages: int
) -> Served:
    before = used.efficiency.request_seconds
    if traffic.request_rate is not None:
        rate, clients = traffic.request_rate / copies, None
    else:
        rate, clients = None, max(1.0, (traffic.concurrency or 1) / copies)
        # More places than twice the clients change nothing, and engines that differ in them alone are one case.
        most = min(most, 2 * math.ceil(clients))
    if isinstance(clock, Step):
        return _solved_once(clock, sizes, rate, clients, most, before, stages)
    return _solved(clock, sizes, rate, clients, most, before, stages)


def _solved(
    clock: StepClock, sizes: Lengths, rate: float | None, clients: float | None, most: int, before: float, stages: int
) -> Served:  # fmt: skip
    if rate is not None:
        return opened(clock, sizes, rate=rate, admitted=most, before=before, stages=stages)
    assert clients is not None
    return closed(clock, sizes, concurrency=clients, admitted=most, before=before, stages=stages)


_solved_once = lru_cache(maxsize=4096)(_solved)


def _binds(
    step: Step, sizes: Lengths, served: Served, admitted: Admission, traffic: Traffic, stages: int
) -> str:
    if served.saturated:
        return admitted.binds if served.running > 0.99 * admitted.requests else "engine batch limit"
    if traffic.request_rate is not None:
        return "offered load"
    at_once = max(1.0, served.running / stages)
    prompts = at_once / max(1.0, sizes.output) * sizes.prompt
    # A step has a part of a prompt, which attends to as many tokens as one from the middle of it.
    return step.binds(at_once, sizes.context, prompts, sizes.cached + (sizes.prompt - prompts) / 2.0)


def _provenance(
    used: Utilization, admitted: Admission, engine: EngineVersion, measured: Provenance | None
) -> tuple[Provenance, ...]:
    speed = (
        [replace(measured, number=number) for number in ("ttft_ms", "tpot_ms", "output_tokens_per_second")]
        if measured
        else [
            Provenance(number=number, kind="roofline", because=because, sources=used.sources, date=used.date)
            for number, because in (
                ("ttft_ms", f"{used.because}; {QUEUE}"),
                ("tpot_ms", used.because),
                ("output_tokens_per_second", used.because),
            )
        ]
    )
    terms = admitted.budget.terms if isinstance(admitted.budget, MemoryBudget) else ()
    limit = Provenance(
        number="concurrency_admitted",
        kind="roofline",
        because=f"memory bill of {engine}: {admitted.binds} binds first",
        sources=tuple(dict.fromkeys(term.source for term in terms if term.name == "KV cache")),
        date="2026-11",
    )
    return (*speed, limit)


def curve(
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    gpu: Gpu,
    engine: EngineVersion,
    traffic: Traffic,
    *,
    replicas: int = 1,
    clock: StepClock | None = None,
) -> tuple[Point, ...]:
    """The same deployment at 1, 2, 4 … requests at once, up to what is admitted, and twice that.

    Args: as `estimate`; clients and rate of `traffic` are not used.
    """
    deployed = Deployed(spec, workload, split, gpu, engine, traffic, clock=clock, brief=True)
    return deployed.curve(traffic, replicas=replicas)
