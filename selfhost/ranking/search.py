"""Every GPU x count x weight format x engine: what carries a load, how fast, for how much, and what misses it.

Each combination takes as few replicas as hold the requests in memory, keep up with the arrivals and meet the goals.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selfhost.engines import Engine, EngineVersion, get_engine, layers_only
from selfhost.errors import NoRoomError, UnsupportedError
from selfhost.memory import Bill, MemoryBudget
from selfhost.model.spec import ModelSpec
from selfhost.place import NODE_GPUS, admitting, shortage, splits
from selfhost.ranking.costs import Pricing
from selfhost.ranking.types import Found, Load, Missed, Option
from selfhost.serving import serving_for
from selfhost.sizing import bill_for
from selfhost.throughput.estimate import Deployed, must_generate
from selfhost.throughput.types import Estimate
from selfhost.units import ceil_div
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu

# Ours: eight nodes. More replicas than that are no question of which GPU to take.
MOST_GPUS = 64
SLOW = "too slow"  # how the reason begins where the model fits
# Ours: what somebody chooses between: as published, half of 16 bits, and a quarter, with and without units for it.
_FORMATS = ("fp8", "w4a16", "nvfp4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is searched for, and where.

    Args:
        spec: the model.
        gpus: kinds to try.
        engines: releases to try.
        quantizations: values of `--quant` to try; None for the checkpoint as it is.
        workload: the whole deployment's context and concurrency, and the engine's knobs.
        load: its traffic and goals.
        split: the only one to try; None for all of a node, and two nodes where that is not enough.
        expert: whole experts on ranks, for splits that are searched.
        replicas: so many, None for as few as it takes.
        pricing: prices, None to leave cost out.
    """

    spec: ModelSpec
    gpus: tuple[Gpu, ...]
    engines: tuple[EngineVersion, ...]
    quantizations: tuple[str | None, ...]
    workload: Workload
    load: Load
    split: Split | None = None
    expert: bool = False
    replicas: int | None = None
    pricing: Pricing | None = None


def sensible_quantizations(spec: ModelSpec) -> tuple[str | None, ...]:
    """The checkpoint's own format, and those that it is usually published in besides."""
    own = spec.quantization or ""
    return (None, *(name for name in _FORMATS if not own.startswith(name)))


def search(question: Question) -> Found:
    """Try every combination.

    Raises:
        UnsupportedError: the model generates no tokens.
        UsageError: an unknown `--quant`.
    """
    must_generate(question.spec)
    # What is found is kept, so that looking for garbage among it takes a fifth of the time and finds none.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _searched(question)
    finally:
        if collecting:
            gc.enable()


def _searched(question: Question) -> Found:
    options: list[Option] = []
    missed: dict[str, Missed] = {}
    tried = 0
    for engine in question.engines:
        for quantization in question.quantizations:
            one = _Try(question, engine, quantization)
            for gpu in question.gpus:
                for found in one.on(gpu):
                    tried += 1
                    if isinstance(found, Option):
                        options.append(found)
                    elif gpu.id not in missed or _nearer(found, missed[gpu.id]):
                        missed[gpu.id] = found
    placed = {option.gpu.id for option in options}
    left = [miss for gpu_id, miss in missed.items() if gpu_id not in placed]
    left.sort(key=lambda miss: (*_distance(miss), miss.gpu_id))
    return Found(options=tuple(options), missed=tuple(left), tried=tried)


def _distance(miss: Missed) -> tuple[int, int]:
    """Goals and loads that are missed come before memory, and that before what an engine cannot run at all."""
    if miss.short_bytes is not None:
        return 1, miss.short_bytes * miss.split.gpus
    return (0, 0) if miss.because.startswith(SLOW) else (2, 0)


def _nearer(one: Missed, other: Missed) -> bool:
    return _distance(one) < _distance(other)


class _Try:
    """One engine and one weight format, on one GPU after another."""

    def __init__(self, question: Question, engine: EngineVersion, quantization: str | None) -> None:
        self.question, self.engine = question, engine
        self.driver: Engine = get_engine(engine.engine)
        self.engine_text = str(engine)
        # What was given with --quant is tried as None: the search then changes nothing.
        self.quantization = quantization or question.workload.quantization
        self.workload = replace(question.workload, quantization=self.quantization)
        self._one = replace(self.workload, concurrency=1)
        spec = question.spec
        # As if it had been published in the format, for engines that do not make it while loading.
        self.published = None if quantization is None else replace(spec, quantization=quantization)
        self._shapes = _by_count(splits(expert=question.expert, layers_only=layers_only(self.driver)))
        self._shares = {self.workload.concurrency: self.workload, 1: self._one}
        self._objections: dict[tuple[object, ...], str | bool] = {}

    def on(self, gpu: Gpu) -> Iterator[Option | Missed]:
        """Every split on one kind of GPU."""
        if (self.quantization or "").startswith("nvfp4") and not gpu.fp4_flops and self.published is not None:
            return  # it would be unpacked to 16 bits: what w4a16 is for
        question = self.question
        if question.split is not None:
            yield self._outcome(gpu, question.split)
            return
        fits = False
        for count, shapes in self._shapes:
            if fits and count > NODE_GPUS:
                return  # several nodes for one replica only where one is not enough
            found = self._of_count(gpu, shapes)
            fits = fits or isinstance(found, Option)
            yield found

    def _of_count(self, gpu: Gpu, shapes: tuple[Split, ...]) -> Option | Missed:
        """The tensor split, or the pipeline of as many GPUs where the model does not divide."""
        found = self._outcome(gpu, shapes[0])
        for shape in shapes[1:]:
            if isinstance(found, Option) or found.short_bytes is not None:
                break
            found = self._outcome(gpu, shape)
        return found

    def _outcome(self, gpu: Gpu, split: Split) -> Option | Missed:
        against = self._objection(gpu, split)
        if isinstance(against, str):
            return self._missed(gpu, split, against)
        try:
            return self._sized(gpu, split, made_here=against)
        except NoRoomError as error:
            return self._missed(gpu, split, error.message.rstrip("."), error.short_bytes)
        except UnsupportedError as error:
            return self._missed(gpu, split, error.message.rstrip("."))

    def _objection(self, gpu: Gpu, split: Split) -> str | bool:
        """Why the engine would not start; else whether it makes the weights itself."""
        # An engine objects to what a device is, not to how much memory it has: one answer serves all that are alike.
        kind = (gpu.platform, gpu.compute_capability, gpu.gfx, gpu.mig_profile is None, split)
        found = self._objections.get(kind)
        if found is None:
            found = self._objections[kind] = self._asked(gpu, split)
        return found

    def _asked(self, gpu: Gpu, split: Split) -> str | bool:
        # How many requests one replica takes at once is found later; that the engine takes one is what counts here.
        spec, load = self.question.spec, self._one
        against = self.driver.object_to(serving_for(spec, self.engine, gpu, split, load))
        if against is None:
            return True
        if self.published is not None:
            other = self.driver.object_to(serving_for(self.published, self.engine, gpu, split, load))
            if other is None:
                return False
            against = other
        return against.because

    def _missed(self, gpu: Gpu, split: Split, because: str, short_bytes: int | None = None) -> Missed:
        return Missed(
            gpu_id=gpu.id,
            split=split,
            engine=self.engine_text,
            quantization=self.quantization,
            because=because,
            short_bytes=short_bytes,
        )

    def _sized(self, gpu: Gpu, split: Split, *, made_here: bool) -> Option | Missed:
        question = self.question
        held = self._held(gpu, split)
        if held is None:
            bill = self._bill(gpu, split, self._share(question.replicas or MOST_GPUS))[1]
            budget = bill if isinstance(bill, MemoryBudget) else bill.budget(brief=True)
            return self._missed(gpu, split, shortage(budget), budget.short_bytes)
        replicas, workload, bill = held
        found = self._quick_enough(gpu, split, workload, replicas)
        if isinstance(found, str):
            return self._missed(gpu, split, f"{SLOW}: {found}")
        replicas, speed = found
        if replicas != held[0]:
            workload, bill = self._bill(gpu, split, self._share(replicas))
        pricing = question.pricing
        return Option(
            gpu=gpu,
            engine=self.engine,
            quantization=self.quantization,
            split=split,
            replicas=replicas,
            workload=workload,
            bill=bill,
            estimate=speed,
            cost=None if pricing is None else pricing.cost(gpu, split.gpus * replicas, speed),
            published=made_here,
        )

    def _share(self, replicas: int) -> Workload:
        """The load of one of so many replicas."""
        each = ceil_div(self.workload.concurrency, replicas)
        if each not in self._shares:
            self._shares[each] = replace(self.workload, concurrency=each)
        return self._shares[each]

    def _bill(self, gpu: Gpu, split: Split, workload: Workload) -> tuple[Workload, Bill | MemoryBudget]:
        spec, engine = self.question.spec, self.engine
        found = bill_for(spec, workload, split, gpu, engine)
        enough = admitting(workload, split, found)
        if enough is None:
            return workload, found
        return enough, bill_for(spec, enough, split, gpu, engine)

    def _held(self, gpu: Gpu, split: Split) -> tuple[int, Workload, Bill | MemoryBudget] | None:
        """The fewest replicas whose memory holds the requests, with the load and the bill of one; None for none."""
        question, whole = self.question, self.workload
        replicas = question.replicas or 1
        most = max(replicas, MOST_GPUS // split.gpus)
        workload, bill = self._bill(gpu, split, self._share(replicas))
        if question.replicas is None and not bill.fits:
            each = int(bill.max_concurrency or 0) * split.data
            replicas = ceil_div(whole.concurrency, each) if each else most + 1
            while replicas <= most:
                workload, bill = self._bill(gpu, split, self._share(replicas))
                if bill.fits or workload.concurrency <= split.data:
                    break
                replicas += 1
        return (replicas, workload, bill) if bill.fits else None

    def _quick_enough(
        self, gpu: Gpu, split: Split, workload: Workload, replicas: int
    ) -> tuple[int, Estimate] | str:
        """The fewest replicas that keep up and meet the goals, with their speed; else by how much they miss."""
        question = self.question
        load, traffic = question.load, question.load.traffic
        deployed = Deployed(question.spec, workload, split, gpu, self.engine, traffic, brief=True)
        found = deployed.under(traffic, replicas=replicas)
        missing = _missing(found, load)
        most = MOST_GPUS // split.gpus
        if missing is None or question.replicas is not None or replicas >= most:
            return missing or (replicas, found)
        enough = deployed.under(traffic, replicas=most)
        missing = _missing(enough, load)
        if missing is not None:
            return f"{missing}, even with {most} replicas" if most > 1 else missing
        low, high = replicas, most  # too few, enough
        while high - low > 1:
            middle = (low + high) // 2
            one = deployed.under(traffic, replicas=middle)
            if _missing(one, load) is None:
                high, enough = middle, one
            else:
                low = middle
        return high, enough


def _by_count(tried: tuple[Split, ...]) -> tuple[tuple[int, tuple[Split, ...]], ...]:
    counts = dict.fromkeys(split.gpus for split in tried)
    return tuple((count, tuple(split for split in tried if split.gpus == count)) for count in counts)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def _missing(found: Estimate, load: Load) -> str | None:
    """What an estimate lacks of the load and its goals, None where nothing."""
    rate, clients = load.traffic.request_rate, load.traffic.concurrency
    if rate is not None and found.saturated:
        return f"{_rounded(found.requests_per_second)} of {_rounded(rate)} requests a second are served"
    if clients is not None and found.concurrency_admitted < clients:
        return f"{found.concurrency_admitted:,} of {clients:,} requests are let in at once"
    for name, value, goal in (
        ("TTFT", found.ttft_ms.typical, load.ttft_goal_ms),
        ("TPOT", found.tpot_ms.typical, load.tpot_goal_ms),
    ):
        if goal is not None and value > goal:
            return f"{name} {_rounded(value)} ms where {_rounded(goal)} are wanted"
    return None
