"""What a search for GPUs is asked, and what it answers: options with their speed and cost, and what was left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from selfhost.errors import UsageError
from selfhost.memory import Bill, MemoryBudget
from selfhost.throughput.types import Estimate, Range, Traffic
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion

Rank = Literal["gpus", "cost", "capital", "latency", "throughput", "room"]
RANKS: tuple[Rank, ...] = ("gpus", "cost", "capital", "latency", "throughput", "room")
_HARDLY = 1e-3  # of a request: what a search for the steady state leaves open


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The traffic of the whole deployment, and what its users may wait at most.

    Args:
        traffic: lengths, and clients or a rate.
        ttft_goal_ms: longest typical time to the first token, None for any.
        tpot_goal_ms: longest typical time per output token, None for any.
    """

    traffic: Traffic
    ttft_goal_ms: float | None = None
    tpot_goal_ms: float | None = None

    def __post_init__(self) -> None:
        for flag, goal in (("--ttft-goal", self.ttft_goal_ms), ("--tpot-goal", self.tpot_goal_ms)):
            if goal is not None and not 0 < goal < 1e9:
                raise UsageError(f"{flag} must be more than 0 ms, not {goal:g}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an option costs; a price that nobody knows is None, never 0.

    Args:
        currency: of every amount.
        tier, term: of the rent.
        per_hour: rent of all its GPUs for an hour.
        per_million_output_tokens: that rent over the tokens generated under the load.
        capital: to buy it: GPUs, the servers around them and, of several nodes, their network.
        capital_because: what the capital is made of.
        sources: where the prices are from.
        date: of the oldest of them; None without any.
    """

    currency: str
    tier: str
    term: str
    per_hour: Range | None
    per_million_output_tokens: Range | None
    capital: Range | None
    capital_because: str | None
    sources: tuple[str, ...]
    date: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to serve the load.

    Args:
        gpu: the kind of GPU.
        engine: the release.
        quantization: value of `--quant`, None for the checkpoint as it is.
        split: how one replica is divided.
        replicas: how many of it share the load.
        workload: of one replica.
        bill: what the fullest GPU of a replica holds, decided.
        estimate: speed of all replicas under the load.
        cost: None where no prices were asked for.
        published: the engine makes these weights itself; else they have to be published in the format first.
    """

    gpu: Gpu
    engine: EngineVersion
    quantization: str | None
    split: Split
    replicas: int
    workload: Workload
    bill: Bill | MemoryBudget
    estimate: Estimate
    cost: Cost | None
    published: bool

    @property
    def budget(self) -> MemoryBudget:
        """The bill in numbers, without its printable lines; written out for the few that are looked at."""
        return self.bill if isinstance(self.bill, MemoryBudget) else self.bill.budget(brief=True)

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.split.gpus * self.replicas

    @property
    def spare(self) -> int:
        """Whole requests at once that would be let in beside those under way."""
        return self.estimate.concurrency_admitted - math.ceil(self.estimate.running - _HARDLY)

    @property
    def room(self) -> float:
        """How many times the requests under way would be let in."""
        return self.estimate.concurrency_admitted / max(1.0, self.estimate.running)


class Missed(NamedTuple):
    """An option that carries the model and not the load, or not within its goals.

    Args:
        gpu_id: the kind of GPU.
        split: of one replica.
        engine: name and version.
        quantization: value of `--quant`, None for the checkpoint as it is.
        because: how far it misses, in words.
        short_bytes: per GPU, where memory is what is missing.
    """

    gpu_id: str
    split: Split
    engine: str
    quantization: str | None
    because: str
    short_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found.

    Args:
        options: that carry the load within its goals, in no order.
        missed: for each kind of GPU without an option, its nearest miss.
        tried: combinations of GPU, split, format and engine.
    """

    options: tuple[Option, ...]
    missed: tuple[Missed, ...]
    tried: int
