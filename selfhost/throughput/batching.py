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
from heapq import heapify, heappop, heappush

from selfhost.throughput.asked import Limits, Requests
from selfhost.throughput.step_table import KEY, StepTable

_BITS = 32  # of a request's number in a key that sorts by step
_NUMBER = (1 << _BITS) - 1
_NEVER = 1 << 62  # a step that is not reached


class Batching:
    """One copy of the model.

    Either `answer` a whole trace, or advance it to each arrival and then put its number into `queue`.

    Attributes:
        now: seconds; the end of the last step that began.
        running: sequences that decode.
        preemptions: how often a sequence lost its place.
        full_seconds: when a request first found no place or no cache, None where none did.
    """

    __slots__ = (
        "_before", "_blocked", "_cache", "_chunk", "_context", "_done", "_grown", "_growth", "_heap", "_held", "_lags",
        "_left", "_limits", "_next", "_order", "_partial", "_places", "_requests", "_stale", "_step", "_table",
        "full_seconds", "now", "preemptions", "queue", "running",
    )  # fmt: skip

    def __init__(self, requests: Requests, table: StepTable, limits: Limits) -> None:
        self._requests, self._table, self._limits = requests, table, limits
        drafted = limits.tokens_per_step
        self._growth: float = int(drafted) if drafted == int(drafted) else drafted
        self._places, self._cache, self._chunk = limits.sequences, limits.cache_tokens, limits.chunk_tokens
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
        self._lags: dict[int, float] = {}  # seconds by which a request is behind in a pipeline
        self._partial = -1  # request whose prompt is under way in chunks
        self._left = 0  # tokens of it to be computed
        self._before = 0  # tokens of it in the cache
        self._next = 0  # request of a whole trace that arrives next
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

    def answer(self, times: Sequence[float], *, until: int | None = None) -> None:
        """All requests, or those up to one, from where it ended the last time.

        Args:
            times: seconds at which all of them arrive, by number.
            until: stop about where this one is let in, with requests under way.
        """
        upcoming = [*times, math.inf]
        last = len(times) if until is None else until
        number, queue = self._next, self.queue
        while number < last or (queue and until is None):
            if not (self._partial >= 0 or self._grown or self._limits.stages > 1):
                waits = number - len(queue)
                number = self._hurry(upcoming, waits, last)
                for _ in range(min(len(queue), number - waits)):
                    queue.popleft()
                number += len(queue)
            while upcoming[number] <= self.now and len(queue) < self._places:  # no step lets more in
                queue.append(number)
                number += 1
            self.advance(max(upcoming[number], math.nextafter(self.now, math.inf)))
        self._next = number
        if until is None:
            self.advance(math.inf)

    def _hurry(self, upcoming: list[float], number: int, last: int) -> int:
        """The same as `advance`, in fewer moves, while no prompt is cut and no sequence loses its place.

        Who waits is known by number here, so that there is no queue.

        Args:
            upcoming: seconds of arrivals, and infinity after the last.
            number: the first that waits or is to arrive.
            last: where to stop, before that one is let in.

        Returns:
            The first that waits or is to arrive at the end.
        """
        requests, heap, order, each = self._requests, self._heap, self._order, self._growth
        self._forget()
        needs, seen, prompts, steps_of = requests.needs, requests.pairs, requests.prompts, requests.steps
        started, first, finished = requests.started, requests.first, requests.finished
        table = self._table  # its `decode` and `mixed` are written out below
        lines, shift, carrying, fine = table.decoding, table.shift, table.carrying, table.fine
        sequence_keys, context_keys = table.sequence_keys, table.context_keys
        token_keys, before_keys = table.token_keys, table.before_keys
        now, step, running, context = self.now, self._step, self.running, self._context
        places, cache, chunk, at = self._places, self._cache, self._chunk, upcoming[number]
        soonest = heap[0] >> _BITS if heap else _NEVER  # step in which a sequence ends
        blocked, full = False, self.full_seconds
        while True:
            begin, tokens, pairs = number, 0, 0.0
            growth: float = running * each
            size = context + growth
            room = chunk - running if running < chunk else 1
            end = begin if blocked else begin + places - running
            while at <= now and tokens < room and number < end:
                grown = size + prompts[number]
                if grown > cache:
                    break
                size = grown
                tokens += needs[number]
                pairs += seen[number]
                number += 1
                at = upcoming[number]
            if tokens > room or number > last:
                number = begin
                break
            if tokens:
                key = sequence_keys[running] + token_keys[tokens]
                key += context_keys[int(context / (running or 1)) >> fine]
                key += before_keys[int(pairs / tokens) >> fine] if 2.0 * pairs != tokens * tokens else 0
                start, slope = carrying[key]
                step += 1
                began, now, context = now, now + start + slope * tokens, size
                for one in range(begin, number):
                    started[one] = began
                    first[one] = now
                    key = step + steps_of[one] << _BITS | one
                    heappush(heap, key)
                    order.append(key)
                soonest = heap[0] >> _BITS
                running += number - begin
            elif running:
                if at <= now and not blocked:
                    blocked, full = True, now if full is None else full
                steps = soonest - step
                mean = (context + growth * (steps - 1) * 0.5) / running
                start, slope = lines[running << KEY | int(mean) >> shift]
                seconds = start + slope * mean
                steps = (
                    min(steps, int((at - now) / seconds) + 1) if now < at < now + steps * seconds else steps
                )
                if context + steps * growth > cache:
                    break
                now += seconds * steps
                step += steps
                context += steps * growth
            elif at < math.inf:
                now = at
            else:
                break
            while soonest <= step:
                one = heappop(heap) & _NUMBER
                finished[one] = now
                context -= prompts[one] + steps_of[one] * each
                running -= 1
                soonest = heap[0] >> _BITS if heap else _NEVER
                blocked = False
        self.now, self._step, self.running, self._context, self._held = now, step, running, context, context
        self.full_seconds = full
        return number

    def _forget(self) -> None:
        """Entries of the heap whose sequence lost its place leave it."""
        if self._stale:
            self._heap[:] = [key for key in self._heap if key not in self._stale]
            heapify(self._heap)
            self._stale.clear()

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
        room = self._cache - self._held
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
            if key in self._stale:
                self._stale.remove(key)
                continue
            number = key & _NUMBER
            requests.finished[number] = now + self._lags.pop(number, 0.0) if self._lags else now
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
        mean, lag = self._context / running if running else 0.0, 0.0
        seconds = self._table.mixed(running, mean, tokens, pairs)
        if limits.stages > 1:  # other batches are under way in the stages that these prompts are not in
            without = self._table.decode(running, mean) if running else 0.0
            lag = (seconds - without) * (1.0 - 1.0 / limits.stages)
            seconds -= lag
        self.now += seconds
        self._step += 1
        if running:
            self._context += growth
            self._held += growth
            if self._heap[0] >> _BITS <= self._step:
                self._finish()
        if self._done:
            self._join(lag)
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
        prompts, needs, started, grown = requests.prompts, requests.needs, requests.started, self._grown
        places = limits.sequences - self.running - len(self._done)
        space = limits.cache_tokens - self._held - growth
        while queue and room > 0 and places > 0:
            number = queue[0]
            size: float = prompts[number]
            need = needs[number]
            cached = prompts[number] - need
            if number in grown:
                size = grown[number]
                need = math.ceil(size) - cached
            if size > space:
                break
            queue.popleft()
            if started[number] < 0:
                started[number] = self.now
            self._held += size
            space -= size
            places -= 1
            take = min(room, need)
            tokens += take
            room -= take
            pairs += take * (cached + take * 0.5)
            if take < need:
                self._partial, self._left, self._before = number, need - take, cached + take
                break
            self._done.append(number)
        return tokens, pairs

    def _join(self, lag: float) -> None:
        """Requests whose prompts are computed have their first token, after a lag, and decode from now on."""
        requests, at_seconds = self._requests, self.now + lag
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
            if lag:
                self._lags[number] = lag
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
