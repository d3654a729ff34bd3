"""One copy of a model in time: continuous batching that goes from event to event instead of from step to step.

What it does is what vLLM's scheduler does (vllm/v1/core/sched/scheduler.py, 0.11, read 2026-11): first come, first
served; a waiting request is let in where a place and the cache for its prompt are free; prompts are cut to what is
left of the step's tokens after the decoding sequences; where the cache runs full the newest sequence loses its place,
waits in front of the queue and is computed again. A step that carries prompts is simulated as such. Steps between,
in which nobody comes, goes or fills the cache, are taken in one go: as many steps at the time of the middle one, as
their times grow evenly with the context.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from selfhost.throughput.step_table import StepTable

_BITS = 32  # of a request's number in a key that sorts by step
_NUMBER = (1 << _BITS) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one copy of the model lets in, and how it works.

    Args:
        sequences: under way at once.
        cache_tokens: that the KV cache holds.
        chunk_tokens: of one engine step.
        prefix_hit_ratio: share of a prompt that need not be computed, as the prefix cache holds it.
        tokens_per_step: that a sequence gets in one step: 1, or more with accepted drafts.
        stages: pipeline stages.
        before_seconds: of a request outside the engine's steps.
    """

    sequences: int
    cache_tokens: int
    chunk_tokens: int
    prefix_hit_ratio: float = 0.0
    tokens_per_step: float = 1.0
    stages: int = 1
    before_seconds: float = 0.0


class Requests:
    """What is asked, by number of the request, and what became of it: seconds, below 0 where it has not happened.

    Args:
        prompts: tokens of each.
        steps: after the first token, of each.
    """

    __slots__ = ("finished", "first", "prompts", "started", "steps")

    def __init__(self, prompts: Sequence[int], steps: Sequence[int]) -> None:
        self.prompts, self.steps = prompts, steps
        self.started = [-1.0] * len(prompts)
        self.first = [-1.0] * len(prompts)
        self.finished = [-1.0] * len(prompts)


class Batching:
    """One copy of the model.

    `queue` takes the numbers of requests that arrived by `now`; the caller advances it to each arrival first.

    Attributes:
        now: seconds; the end of the last step that began.
        running: sequences that decode.
        preemptions: how often a sequence lost its place.
        full_seconds: when a request first found no place or no cache, None where none did.
    """

    __slots__ = (
        "_before", "_blocked", "_context", "_done", "_grown", "_growth", "_heap", "_held", "_left", "_limits", "_order",
        "_partial", "_requests", "_stale", "_step", "_table", "full_seconds", "now", "preemptions", "queue", "running",
    )  # fmt: skip

    def __init__(self, requests: Requests, table: StepTable, limits: Limits) -> None:
        self._requests, self._table, self._limits = requests, table, limits
        drafted = limits.tokens_per_step
        self._growth: float = int(drafted) if drafted == int(drafted) else drafted
        self.now = 0.0
        self.running = 0
        self.queue: deque[int] = deque()
        self.preemptions = 0
        self.full_seconds: float | None = None
        self._step = 0  # steps so far
        self._held: float = 0  # tokens in the cache or set aside for a prompt under way
        self._context: float = 0  # of those, of sequences that decode
        self._heap: list[int] = []  # (step of its last token, number) of each, as one integer
        self._order: list[int] = []  # the same in the order in which they came, with some that have gone
        self._stale: set[int] = set()  # entries of the heap whose sequence lost its place
        self._grown: dict[int, float] = {}  # tokens to compute again, by request that lost its place
        self._partial = -1  # request whose prompt is under way in chunks
        self._left = 0  # tokens of it to be computed
        self._before = 0  # tokens of it in the cache
        self._done: list[int] = []
        self._blocked = False  # the head of the queue cannot be let in before a sequence ends

    @property
    def load(self) -> int:
        """Requests that wait or are under way."""
        return self.running + len(self.queue) + (self._partial >= 0)

    @property
    def wakes_seconds(self) -> float:
        """Until when nothing changes unless a request arrives: the next sequence's end, or now."""
        if self._partial >= 0 or (self.queue and not self._blocked):
            return self.now
        if not self.running:
            return math.inf
        steps = (self._heap[0] >> _BITS) - self._step
        return self.now + steps * self._table.decode(self.running, self._context / self.running)

    def advance(self, until: float) -> None:
        """Let it work until the first step that ends at or after a moment; for ever: until all is answered."""
        while self.now < until:
            if self._partial >= 0 or (self.queue and not self._blocked):
                if self._prefill():
                    continue
                self._blocked = True
                if self.full_seconds is None:
                    self.full_seconds = self.now
            if self.running:
                self._decode(math.inf if self._blocked else until)
            elif until < math.inf:
                self.now = until
            else:
                return

    def _decode(self, until: float) -> None:
        """Steps in which nothing but tokens is added, to the next end, the next arrival or a full cache."""
        growth = self._growth * self.running
        room = self._limits.cache_tokens - self._held
        if growth > room:
            self._preempt()
            return
        heap = self._heap
        while self._stale and heap[0] in self._stale:
            self._stale.remove(heappop(heap))
        steps = (heap[0] >> _BITS) - self._step
        if steps * growth > room:
            steps = int(room // growth)
        seconds = self._table.decode(
            self.running, (self._context + growth * (steps - 1) * 0.5) / self.running
        )
        if self.now + steps * seconds > until:
            steps = min(steps, max(1, math.ceil((until - self.now) / seconds)))
        self.now += steps * seconds
        self._step += steps
        self._context += steps * growth
        self._held += steps * growth
        if heap[0] >> _BITS <= self._step:
            self._finish()

    def _finish(self) -> None:
        """Sequences whose last token is out leave."""
        requests, heap, now = self._requests, self._heap, self.now
        end = (self._step + 1) << _BITS
        while heap and heap[0] < end:
            key = heappop(heap)
            if self._stale and key in self._stale:
                self._stale.remove(key)
                continue
            number = key & _NUMBER
            requests.finished[number] = now
            tokens = requests.prompts[number] + requests.steps[number] * self._growth
            self._context -= tokens
            self._held -= tokens
            self.running -= 1
        if not self.running:  # what rounding left
            self._held -= self._context
            self._context = 0
        self._blocked = False

    def _prefill(self) -> bool:
        """One step that carries prompts; False where none can be computed now."""
        growth = self._growth * self.running
        limits = self._limits
        if self._held + growth > limits.cache_tokens:
            self._preempt()
            return True
        tokens, pairs = self._admit(max(1, limits.chunk_tokens - self.running), growth)
        if not tokens:
            return False
        running = self.running
        added = self._table.prompts(running, tokens, pairs)
        lag = 0.0
        if limits.stages > 1:  # other batches are under way in the stages that these prompts are not in
            lag = added - added / limits.stages
            added /= limits.stages
        if running:
            added += self._table.decode(running, self._context / running)
        self.now += added
        self._step += 1
        if running:
            self._context += growth
            self._held += growth
            if self._heap[0] >> _BITS <= self._step:
                self._finish()
        if self._done:
            self._join(self.now + lag)
        return True

    def _admit(self, room: int, growth: float) -> tuple[int, float]:
        """(prompt tokens, pairs) of the next step; the requests whose prompts it ends are in `_done`."""
        requests, limits, queue = self._requests, self._limits, self.queue
        tokens, pairs = 0, 0.0
        if self._partial >= 0:
            tokens = min(room, self._left)
            pairs = tokens * (self._before + tokens * 0.5)
            room -= tokens
            self._left -= tokens
            self._before += tokens
            if self._left:
                return tokens, pairs
            self._done.append(self._partial)
            self._partial = -1
        places = limits.sequences - self.running - len(self._done)
        space = limits.cache_tokens - self._held - growth
        while queue and room > 0 and places > 0:
            number = queue[0]
            prompt = requests.prompts[number]
            size: float = self._grown.get(number, prompt) if self._grown else prompt
            if size > space:
                break
            queue.popleft()
            if requests.started[number] < 0:
                requests.started[number] = self.now
            self._held += size
            space -= size
            places -= 1
            cached = int(prompt * limits.prefix_hit_ratio)
            need = max(1, math.ceil(size) - cached)  # the last token of a prompt is always computed
            take = min(need, room)
            tokens += take
            room -= take
            pairs += take * (cached + take * 0.5)
            if take < need:
                self._partial, self._left, self._before = number, need - take, cached + take
                break
            self._done.append(number)
        return tokens, pairs

    def _join(self, at_seconds: float) -> None:
        """Requests whose prompts are computed have their first token, and decode from now on."""
        requests = self._requests
        for number in self._done:
            size: float = requests.prompts[number]
            steps = requests.steps[number]
            if self._grown and number in self._grown:
                size = self._grown.pop(number)
                steps -= round((size - requests.prompts[number]) / self._growth)
            else:
                requests.first[number] = at_seconds
            if steps <= 0:
                requests.finished[number] = at_seconds
                self._held -= size
                continue
            key = self._step + steps << _BITS | number
            heappush(self._heap, key)
            self._order.append(key)
            self.running += 1
            self._context += size
        self._done.clear()

    def _preempt(self) -> None:
        """The newest sequence loses its place: its tokens leave the cache, and all of them are computed again."""
        requests = self._requests
        key = self._order.pop()
        while requests.finished[key & _NUMBER] >= 0:
            key = self._order.pop()
        number = key & _NUMBER
        left = (key >> _BITS) - self._step
        tokens = requests.prompts[number] + (requests.steps[number] - left) * self._growth
        self._stale.add(key)
        self._grown[number] = tokens + self._growth  # and the token that it was about to compute
        self.queue.appendleft(number)
        self.running -= 1
        self._context -= tokens
        self._held -= tokens
        self.preemptions += 1
