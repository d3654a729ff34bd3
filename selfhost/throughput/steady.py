"""StepClock + lengths + load -> the steady state of continuous batching: closed by clients, or open to arrivals.

Every running sequence gets a token in each step; prompts ride along in chunks of the engine's token budget and make
those steps longer (chunked prefill, Agrawal et al. 2024, arXiv:2403.02310). What follows is arithmetic on averages:
Little's law ties requests under way to their rate, and a prompt waits for those before it as in a queue with one server
and equal service times (M/D/1, Pollaczek-Khinchine).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from selfhost.throughput.types import StepClock

QUEUE = "M/D/1 for prompts before the engine; Little's law for requests under way"
_NEARLY_FULL = 0.98  # Ours: beyond, the formula of an endless queue says nothing about a run that ends
_CLOSE = 1e-4  # of a share: nearer than any measurement
_ROUNDS = 40
_FULL = 0.999  # of the places: as near as the search for a state comes
_HALF_A_MINUTE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """What one request is, in tokens.

    Args:
        prompt: computed for it, without what the prefix cache holds.
        cached: of the prompt, held by the prefix cache.
        output: generated.
        per_step: tokens that a sequence gets in one step: 1, or more with accepted drafts.
        chunk: tokens of one engine step.
        recomputed: tokens computed twice while others wait for its place, see `recomputed_tokens`.
    """

    prompt: float
    cached: float
    output: float
    per_step: float = 1.0
    chunk: int = 8192
    recomputed: float = 0.0

    @property
    def context(self) -> float:
        """Tokens that a running sequence has in the cache, on average over its output."""
        return self.cached + self.prompt + self.output / 2.0

    @property
    def steps(self) -> float:
        """Steps after the first token."""
        return max(0.0, self.output - 1.0) / self.per_step

    @property
    def most_running(self) -> float:
        """Sequences beyond which prompts come in more slowly than answers end: a step takes so many tokens and no more.

        In each step `running` tokens go to answers, the rest of `chunk` to prompts, and `running` / (1 + steps)
        sequences end.
        """
        return max(1.0, self.chunk * (1.0 + self.steps) / (self.prompt + 1.0 + self.steps))


class Served(NamedTuple):
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


def recomputed_tokens(output: float, *, kept: bool) -> float:
    """Tokens of a request that are computed twice where the KV cache is full and others wait for a place in it.

    vLLM lets a request in as soon as its prompt fits, and when the answers then outgrow the cache it takes the place of
    the newest (preemption by recomputation, Kwon et al. 2023, arXiv:2309.06180, section 4.5). Between two answers that
    end, all those under way together grow by `output` tokens, which newcomers have to give back; what is free at first
    is anything up to a prompt, so that on average they are so many prompts as `output` holds. Prefix caching still has
    half of what it took: while the newest waits, on average half of its blocks are written over.

    Args:
        output: tokens of an answer.
        kept: whether prefix caching is on.
    """
    return output / 2.0 if kept else output


class _State(NamedTuple):
    """The engine with so many sequences decoding, on average.

    Args:
        rate: requests per second that come and go.
        inside: sequences in the engine: those that decode, and those whose prompts are under way.
        clients: requests under way, those too that wait for other prompts or are outside the engine's steps.
        first: seconds to the first token.
        alone: the same without the wait for other prompts.
        token: seconds per token after the first.
    """

    decoding: float
    rate: float
    inside: float
    clients: float
    first: float
    alone: float
    token: float


class _Engine:
    """One copy of the model under requests of one kind."""

    def __init__(self, clock: StepClock, sizes: Lengths, before: float, stages: int, others: float) -> None:
        self.clock, self.sizes, self.before, self.stages = clock, sizes, before, stages
        self.others = others  # share of the load that a request meets besides itself
        self.context = sizes.context
        self.tokens = max(1.0, sizes.steps) * sizes.per_step
        self.again = 1.0  # prompts computed for each that is answered

    def state(self, decoding: float) -> _State:
        """What holds with so many sequences decoding; Little's law gives the rate."""
        sizes = self.sizes
        at_once = max(1.0, decoding / self.stages)  # a pipeline holds as many batches as it has stages
        decode = self.clock.step_seconds(at_once, self.context)
        mixed, added = self._prompt(at_once, decoding, decode)
        added *= self.again / self.stages
        riding = (
            decoding * self.others / max(1.0, sizes.output)
        )  # prompts of others that one step of a sequence meets
        token = decode / sizes.per_step + riding * added
        rate = decoding / (self.tokens * token)
        alone = self.before + decode / 2.0 + mixed  # a request comes in the middle of a step
        busy = min(_NEARLY_FULL, rate * added * self.others)
        first = alone + busy / (2.0 * (1.0 - busy)) * mixed
        return _State(
            decoding=decoding,
            rate=rate,
            inside=decoding + rate * mixed,
            clients=decoding + rate * first,
            first=first,
            alone=alone,
            token=token,
        )

    def _prompt(self, at_once: float, decoding: float, decode: float) -> tuple[float, float]:
        """Seconds of the steps that carry one prompt, and what the prompt alone adds to them."""
        sizes = self.sizes
        budget = max(1.0, sizes.chunk - at_once)
        if sizes.prompt > budget:
            return self._chunks(at_once, decode, budget)
        # As many prompts come in one step as sequences end in it, at least one.
        together = min(budget / sizes.prompt, max(1.0, decoding * sizes.per_step / sizes.output))
        # Several prompts see less of each other than one that is as long as all of them: then it is below zero.
        before = sizes.cached - (together - 1.0) * sizes.prompt / 2.0 if together > 1.0 else sizes.cached
        step = self.clock.step_seconds(at_once, self.context, together * sizes.prompt, before)
        return step, max(0.0, step - decode) / together

    def _chunks(self, at_once: float, decode: float, budget: float) -> tuple[float, float]:
        """The same of a prompt of several steps: all but the last are full, the tokens before them grow evenly."""
        sizes = self.sizes
        full = int(sizes.prompt // budget)
        rest = sizes.prompt - full * budget
        # A step's time is linear in the tokens before it, so that the middle of the full ones stands for each.
        middle = sizes.cached + (full - 1) * budget / 2.0
        step = self.clock.step_seconds(at_once, self.context, budget, middle)
        total, added = full * step, full * max(0.0, step - decode)
        if rest > 0:
            last = self.clock.step_seconds(at_once, self.context, rest, sizes.cached + full * budget)
            total, added = total + last, added + max(0.0, last - decode)
        return total, added

    def fullest(self, most: float, share: Callable[[_State], float]) -> tuple[_State, bool]:
        """The state with the most sequences decoding, up to `most`, whose share is at most 1, and whether that ends it.

        The share grows with the sequences, nearly in a straight line: false position with the Illinois rule (Dowell and
        Jarratt 1971, doi 10.1007/BF01934364) takes four to six evaluations.
        """
        high = self.state(most)
        above = share(high) - 1.0
        if above <= 0:
            return high, False
        left, right, below = 0.0, most, -1.0
        for _ in range(_ROUNDS):
            middle = right - above * (right - left) / (above - below)
            found = self.state(middle)
            off = share(found) - 1.0
            if abs(off) < _CLOSE:
                break
            if off > 0:
                right, above, below = middle, off, below / 2.0
            else:
                left, below, above = middle, off, above / 2.0
        return found, True


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
    # What arrives meets the others alone (arrival theorem, Reiser and Lavenberg 1980, doi 10.1145/322186.322195).
    engine = _Engine(clock, sizes, before, stages, (concurrency - 1.0) / concurrency)
    most = min(concurrency, admitted, sizes.most_running)

    def share(one: _State) -> float:
        return max(one.clients / concurrency, one.inside / admitted)

    found, _ = engine.fullest(most, share)
    if sizes.recomputed and found.inside > _FULL * admitted:
        engine.again += sizes.recomputed / sizes.prompt * min(1.0, max(0.0, concurrency - found.clients))
        found, _ = engine.fullest(most, share)
    waiting = concurrency - found.clients
    waits = waiting > _CLOSE * 2 * concurrency
    return Served(
        first_seconds=found.first + (waiting / found.rate if waits else 0.0),
        alone_seconds=found.alone,
        token_seconds=found.token,
        requests_per_second=found.rate,
        running=min(found.inside, admitted),
        waiting=waiting if waits else 0.0,
        saturated=waits,
    )


def opened(
    clock: StepClock, sizes: Lengths, *, rate: float, admitted: float, before: float = 0.0, stages: int = 1
) -> Served:
    """Requests that arrive at random, whatever the engine does.

    As many run as Little's law asks for; where the engine cannot run so many, the queue grows and the time to the first
    token is that of a request in the middle of the first minute.

    Args: as `closed`; `rate` in requests per second.
    """
    engine = _Engine(clock, sizes, before, stages, 1.0)
    most = min(admitted, sizes.most_running)

    def share(one: _State) -> float:
        return max(one.rate / rate, one.inside / admitted)

    found, _ = engine.fullest(most, share)
    if sizes.recomputed and found.inside > _FULL * admitted:
        engine.again += (
            sizes.recomputed / sizes.prompt * min(1.0, max(0.0, rate - found.rate) * _HALF_A_MINUTE)
        )
        found, _ = engine.fullest(most, share)
    saturated = found.rate < rate * (1.0 - 2 * _CLOSE)
    grown = (rate - found.rate) * _HALF_A_MINUTE if saturated else 0.0
    return Served(
        first_seconds=found.first + grown / found.rate,
        alone_seconds=found.alone,
        token_seconds=found.token,
        requests_per_second=found.rate if saturated else rate,
        running=min(found.inside, admitted),
        waiting=grown,
        saturated=saturated,
    )
