"""StepClock + lengths + load -> the steady state of continuous batching: closed by clients, or open to arrivals.

Every running sequence gets a token in each step; prompts ride along in chunks of the engine's token budget and make
those steps longer (chunked prefill, Agrawal et al. 2024, arXiv:2403.02310). What follows is arithmetic on averages:
Little's law ties requests under way to their rate, and a prompt waits for those before it as in a queue with one server
and equal service times (M/D/1, Pollaczek-Khinchine).
"""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.throughput.types import StepClock

QUEUE = "M/D/1 for prompts before the engine; Little's law for requests under way"
_NEARLY_FULL = 0.98  # Ours: beyond, the formula of an endless queue says nothing about a run that ends
_ROUNDS = 40  # of halving an interval: 1e-12 of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """What one request is, in tokens.

    Args:
        prompt: computed for it, without what the prefix cache holds.
        cached: of the prompt, held by the prefix cache.
        output: generated.
        per_step: tokens that a sequence gets in one step: 1, or more with accepted drafts.
        chunk: tokens of one engine step.
    """

    prompt: float
    cached: float
    output: float
    per_step: float = 1.0
    chunk: int = 8192

    @property
    def context(self) -> float:
        """Tokens that a running sequence has in the cache, on average over its output."""
        return self.cached + self.prompt + self.output / 2.0

    @property
    def steps(self) -> float:
        """Steps after the first token."""
        return max(0.0, self.output - 1.0) / self.per_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one copy of the model gives.

    Args:
        first_seconds: from a request's arrival to its first token.
        alone_seconds: of those, without any wait for other prompts or a free place.
        token_seconds: per token after the first.
        requests_per_second: completed.
        running: sequences under way in the engine.
        waiting: requests that wait for a place.
        saturated: more arrives than is served.
    """

    first_seconds: float
    alone_seconds: float
    token_seconds: float
    requests_per_second: float
    running: float
    waiting: float
    saturated: bool


class _Load:
    """Steps at one number of running sequences."""

    def __init__(self, clock: StepClock, sizes: Lengths, running: float, stages: int) -> None:
        self.clock, self.sizes, self.running = clock, sizes, running
        at_once = max(1.0, running / stages)  # a pipeline holds as many batches as it has stages
        self.decode = clock.step_seconds(at_once, sizes.context)
        self.mixed, self.added = self._prefill(at_once)
        self.added /= stages

    def _prefill(self, at_once: float) -> tuple[float, float]:
        """Seconds of the steps that carry one prompt, and what the prompt alone adds to them."""
        sizes = self.sizes
        if sizes.prompt <= 0:
            return self.decode, 0.0
        budget = max(1.0, sizes.chunk - at_once)
        if sizes.prompt > budget:
            return self._chunks(at_once, budget)
        # As many prompts come in one step as sequences end in it, at least one.
        together = min(budget / sizes.prompt, max(1.0, self.running * sizes.per_step / sizes.output))
        step = self.clock.step_seconds(at_once, sizes.context, together * sizes.prompt, sizes.cached)
        return step, max(0.0, step - self.decode) / together

    def _chunks(self, at_once: float, budget: float) -> tuple[float, float]:
        sizes = self.sizes
        total = added = done = 0.0
        while done < sizes.prompt:
            part = min(budget, sizes.prompt - done)
            step = self.clock.step_seconds(at_once, sizes.context, part, sizes.cached + done)
            total, added, done = total + step, added + max(0.0, step - self.decode), done + part
        return total, added

    @property
    def token(self) -> float:
        """Seconds per output token: a step, and the prompts of others that ride along."""
        others = max(0.0, self.running - 1.0) / max(1.0, self.sizes.output)
        return self.decode / self.sizes.per_step + others * self.added

    def first(self, before: float) -> float:
        """Seconds to the first token without any wait for others: request, the step under way, own prompt."""
        return before + self.decode / 2.0 + self.mixed

    def wait(self, rate: float) -> float:
        """Wait for the prompts before, with arrivals of that rate (Pollaczek-Khinchine, no variance of service)."""
        busy = min(_NEARLY_FULL, rate * self.added)
        return busy / (2.0 * (1.0 - busy)) * self.mixed


def _served(load: _Load, before: float, *, random: bool) -> tuple[float, float, float]:
    """(seconds to the first token, the same alone, requests per second) with so many sequences running."""
    alone = load.first(before)
    rate = load.running / (alone + load.sizes.steps * load.sizes.per_step * load.token)
    wait = load.wait(rate) if random else 0.0
    first = alone + wait
    return first, alone, load.running / (first + load.sizes.steps * load.sizes.per_step * load.token)


def closed(
    clock: StepClock,
    sizes: Lengths,
    *,
    concurrency: float,
    admitted: float,
    before: float = 0.0,
    stages: int = 1,
) -> Served:
    """Clients that each send the next request when the last is answered.

    Args:
        clock: seconds of a step.
        sizes: the request.
        concurrency: clients.
        admitted: sequences that the engine takes at once; the others wait.
        before: seconds of a request outside the engine's steps.
        stages: pipeline stages.
    """
    running = min(concurrency, admitted)
    load = _Load(clock, sizes, running, stages)
    first, alone, rate = _served(load, before, random=running > 1)
    waiting = concurrency - running
    return Served(
        first_seconds=first + waiting / rate,
        alone_seconds=alone,
        token_seconds=load.token,
        requests_per_second=rate,
        running=running,
        waiting=waiting,
        saturated=waiting > 0,
    )


def opened(
    clock: StepClock, sizes: Lengths, *, rate: float, admitted: float, before: float = 0.0, stages: int = 1
) -> Served:
    """Requests that arrive at random, whatever the engine does.

    As many run as Little's law asks for; where the engine cannot run so many, the queue grows and the time to the first
    token is that of a request in the middle of the first minute.

    Args: as `closed`; `rate` in requests per second.
    """
    most = _Load(clock, sizes, admitted, stages)
    _, alone, limit = _served(most, before, random=True)
    if rate >= limit:
        grown = (rate - limit) * 30.0  # requests in the queue after half a minute
        return Served(
            first_seconds=alone + grown / limit,
            alone_seconds=alone,
            token_seconds=most.token,
            requests_per_second=limit,
            running=admitted,
            waiting=grown,
            saturated=True,
        )
    low, high = 0.0, float(admitted)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2.0
        given = _served(_Load(clock, sizes, middle, stages), before, random=True)[2]
        low, high = (middle, high) if given < rate else (low, middle)
    load = _Load(clock, sizes, high, stages)
    first, alone, _ = _served(load, before, random=True)
    return Served(
        first_seconds=first,
        alone_seconds=alone,
        token_seconds=load.token,
        requests_per_second=rate,
        running=high,
        waiting=0.0,
        saturated=False,
    )
