"""What is asked of an estimate of speed, and what it answers: ranges, what binds, and where each number comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from selfhost.errors import UsageError

Kind = Literal["measured", "kernel tables", "roofline"]
MOST_TOKENS = 10**8  # of one request, as bad input rather than a load


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number that is known within bounds: `low` and `high` hold what similar measurements scattered over."""

    low: float
    typical: float
    high: float

    def scaled(self, factor: float) -> Range:
        """The same range in another unit, or of so many times as much."""
        return Range(low=self.low * factor, typical=self.typical * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The load on the whole deployment.

    Args:
        prompt_tokens, output_tokens: of one request, on average.
        concurrency: requests that are always under way (closed loop); None with `request_rate`.
        request_rate: requests that arrive in a second at random (open loop, Poisson); None with `concurrency`.
        prefix_hit_ratio: share of the prompt that the prefix cache already holds (0-1).
        acceptance: share of drafted tokens that the model accepts, None for the usual share.
    """

    prompt_tokens: int
    output_tokens: int
    concurrency: int | None = None
    request_rate: float | None = None
    prefix_hit_ratio: float = 0.0
    acceptance: float | None = None

    def __post_init__(self) -> None:
        for flag, tokens in (
            ("--prompt-tokens", self.prompt_tokens),
            ("--output-tokens", self.output_tokens),
        ):
            if not 1 <= tokens <= MOST_TOKENS:
                raise UsageError(f"{flag} must be between 1 and {MOST_TOKENS:,}, not {tokens:,}.")
        if (self.concurrency is None) == (self.request_rate is None):
            raise UsageError("Give either --concurrency or --request-rate, not both and not neither.")
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"--concurrency must be at least 1, not {self.concurrency}.")
        if self.request_rate is not None and not 0 < self.request_rate < 1e9:
            raise UsageError(
                f"--request-rate must be more than 0 requests a second, not {self.request_rate:g}."
            )
        if not 0 <= self.prefix_hit_ratio <= 1:
            raise UsageError(f"--prefix-hit-ratio must be between 0 and 1, not {self.prefix_hit_ratio:g}.")
        if self.acceptance is not None and not 0 <= self.acceptance <= 1:
            raise UsageError(f"--acceptance must be between 0 and 1, not {self.acceptance:g}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a number comes from.

    Args:
        number: which it is: `ttft_ms`, `tpot_ms`, `output_tokens_per_second`, `concurrency_admitted`.
        kind: measured, kernel tables or roofline.
        because: one sentence: the utilizations used, the engine version and GPU they were measured on, and, where they
            were measured elsewhere, the transfer.
        sources: where those measurements were published.
        date: newest of them, YYYY-MM or YYYY-MM-DD.
    """

    number: str
    kind: Kind
    because: str
    sources: tuple[str, ...]
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Speed of the whole deployment under a traffic.

    Args:
        ttft_ms: time to the first token; under open load with the wait in the queue.
        tpot_ms: time per output token after the first.
        output_tokens_per_second: of all GPUs together.
        requests_per_second: that are completed, typically.
        concurrency_admitted: requests under way at once that the KV cache and the engine's own limit admit.
        running: requests under way at once, typically.
        binds: what limits it: `weights bandwidth`, `KV-cache bandwidth`, `compute`, `communication`, `engine overhead`,
            `KV-cache memory`, `engine batch limit` or `offered load`.
        saturated: more arrives than is served, so that the queue grows.
        queue: name of the queue model behind `ttft_ms`, None without queueing.
        gpus: of the whole deployment.
        notes: sentences for the user about what was assumed.
    """

    ttft_ms: Range
    tpot_ms: Range
    output_tokens_per_second: Range
    requests_per_second: float
    concurrency_admitted: int
    running: float
    binds: str
    saturated: bool
    queue: str | None
    gpus: int
    notes: tuple[str, ...]
    provenance: tuple[Provenance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the curve of a deployment: what so many requests at once get."""

    concurrency: int
    ttft_ms: Range
    tpot_ms: Range
    output_tokens_per_second: Range
    binds: str


class StepClock(Protocol):
    """How long one engine step of one copy of the model takes."""

    def step_seconds(
        self,
        decoding: float,
        context_tokens: float,
        prefill_tokens: float = 0.0,
        prefill_context_tokens: float = 0.0,
    ) -> float:
        """Seconds of one step.

        Args:
            decoding: sequences that get one token each; a fraction where it is an average.
            context_tokens: tokens that each of them has in the cache, on average.
            prefill_tokens: prompt tokens in the same step.
            prefill_context_tokens: tokens in the cache before those, on average over them (earlier chunks, prefix);
                less than none where they are of several prompts, which do not see each other.
        """
