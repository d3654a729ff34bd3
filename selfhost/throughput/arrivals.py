"""When requests arrive and how long they are: a trace (`trace_csv.py` reads one from a file), or arrivals at random."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import compress

from selfhost.errors import SelfhostError, UsageError

MOST_REQUESTS = 10_000_000  # Ours: about two gigabytes of memory; more is bad input rather than a load


class TraceError(SelfhostError):
    """A trace of arrivals that has gaps or cannot be understood; the message names the line and the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests in the order in which they arrive.

    Args:
        at_seconds: when, the first at 0.
        prompt_tokens, output_tokens: of each.
        name: what it is, in a few words.
    """

    at_seconds: Sequence[float]
    prompt_tokens: Sequence[int]
    output_tokens: Sequence[int]
    name: str

    def __len__(self) -> int:
        return len(self.at_seconds)

    @property
    def duration_seconds(self) -> float:
        """From the first arrival to the last."""
        return self.at_seconds[-1] if self.at_seconds else 0.0

    @property
    def request_rate(self) -> float | None:
        """Requests per second between the first arrival and the last; None where all arrive at once."""
        return (len(self) - 1) / self.duration_seconds if self.duration_seconds > 0 else None

    @property
    def mean_prompt_tokens(self) -> float:
        """Of a request."""
        return sum(self.prompt_tokens) / len(self)

    @property
    def mean_output_tokens(self) -> float:
        """Of a request."""
        return sum(self.output_tokens) / len(self)

    def first(self, requests: int) -> Trace:
        """Its first requests."""
        return Trace(
            at_seconds=self.at_seconds[:requests],
            prompt_tokens=self.prompt_tokens[:requests],
            output_tokens=self.output_tokens[:requests],
            name=self.name if requests >= len(self) else f"first {requests:,} requests of {self.name}",
        )

    def where(self, kept: Sequence[bool]) -> Trace:
        """Those of its requests that are to be kept, with their times."""
        if all(kept):
            return self
        return Trace(
            at_seconds=list(compress(self.at_seconds, kept)),
            prompt_tokens=list(compress(self.prompt_tokens, kept)),
            output_tokens=list(compress(self.output_tokens, kept)),
            name=self.name,
        )

    def at_rate(self, request_rate: float) -> Trace:
        """The same requests in the same rhythm, so many of them a second.

        Raises:
            UsageError: all arrive at once, so that there is no rhythm.
        """
        own = self.request_rate
        if own is None:
            raise UsageError(
                f"All requests of {self.name} arrive at once, so it has no rate to change.",
                hint="Leave --request-rate out.",
            )
        factor = own / request_rate
        return Trace(
            at_seconds=[at * factor for at in self.at_seconds],
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            name=f"{self.name}, brought to {request_rate:g} requests a second",
        )


@contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collection: millions of numbers in lists hold no cycles, and looking for some takes an eighth."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def at_random(
    *,
    request_rate: float,
    requests: int,
    prompt_tokens: int,
    output_tokens: int,
    chance: random.Random,
    burstiness: float = 1.0,
) -> Trace:
    """Requests of equal length whose gaps are drawn from a gamma distribution.

    Args:
        request_rate: requests per second, on average.
        requests: how many.
        prompt_tokens, output_tokens: of each.
        chance: the source of randomness.
        burstiness: coefficient of variation of the gaps: 1 is Poisson, more comes in bursts, less is more regular, 0
            is a metronome. vLLM's benchmark draws from the same distribution and names its shape `--burstiness`
            (vllm/benchmarks/serve.py, 0.11): its number is 1 / burstiness².

    Raises:
        UsageError: a number is out of range.
    """
    if not 0 < request_rate < 1e9:
        raise UsageError(f"--request-rate must be more than 0 requests a second, not {request_rate:g}.")
    if not 1 <= requests <= MOST_REQUESTS:
        raise UsageError(f"--requests must be between 1 and {MOST_REQUESTS:,}, not {requests:,}.")
    if not 0 <= burstiness <= 100:
        raise UsageError(f"--burstiness must be between 0 and 100, not {burstiness:g}.")
    if burstiness == 0:
        gap = partial(float, 1.0 / request_rate)
    elif burstiness == 1:
        gap = partial(chance.expovariate, request_rate)
    else:
        gap = partial(chance.gammavariate, 1.0 / burstiness**2, burstiness**2 / request_rate)
    at, times = 0.0, [0.0] * requests
    for number in range(1, requests):
        at += gap()
        times[number] = at
    kind = (
        "Poisson arrivals"
        if burstiness == 1
        else f"arrivals with a coefficient of variation of {burstiness:g}"
    )
    return Trace(
        at_seconds=times,
        prompt_tokens=[prompt_tokens] * requests,
        output_tokens=[output_tokens] * requests,
        name=f"{requests:,} {kind} at {request_rate:g} a second",
    )
