"""A long trace in two pieces, which two cores simulate at the same time.

The second piece begins some way ahead of the seam, so that it is as busy there as the first leaves it; the first goes
on some way beyond, so that what it has begun ends among the requests that follow. The requests just before the seam are
simulated by both: where both do not answer them alike (a queue that grows for ever, say), the first piece goes on to
the end instead. Pieces do not depend on the machine: with one core the same two are simulated one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import sub

from selfhost.throughput.asked import Limits, Requests
from selfhost.throughput.batching import Batching
from selfhost.throughput.beside import Columns, beside
from selfhost.throughput.step_table import StepTable

# Ours: from here on a second process saves more than it costs; and a piece is many times what it is simulated beyond.
LONG, LEAD = 400_000, 20_000
_LOOK = 2_000  # requests before the seam that are compared
_ALIKE = 0.01  # Ours: of the mean time to an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How a copy fared.

    Args:
        preemptions: how often a sequence lost its place.
        full_seconds: when a request first found no place or no cache, None where none did.
    """

    preemptions: int
    full_seconds: float | None


def answer(
    asked: Requests,
    times: Sequence[float],
    table: StepTable,
    limits: Limits,
    *,
    long: int = LONG,
    lead: int = LEAD,
) -> Answered:
    """Answer a trace with one copy; what becomes of each request is put into `asked`.

    Args:
        asked: the requests.
        times: seconds at which they arrive.
        table: times of steps.
        limits: of the copy.
        long: requests from which on the trace is simulated in two pieces.
        lead: requests by which these overlap, before the seam and after it.
    """
    engine = Batching(asked, table, limits)
    whole = len(times) < max(long, 2 * lead + 2)
    if not whole:
        engine.answer(times, until=lead)
        whole = _behind(asked, times, lead)
    if whole:
        engine.answer(times)
        return Answered(preemptions=engine.preemptions, full_seconds=engine.full_seconds)
    seam = len(times) // 2
    begin = seam - lead

    def second() -> Columns:
        part = asked.since(begin)
        late = Batching(part, table, limits)
        late.answer(times[begin:], until=lead)
        before = late.preemptions
        late.answer(times[begin:])
        full = -1.0 if late.full_seconds is None else late.full_seconds
        return part.started, part.first, part.finished, [late.preemptions - before, full]

    with beside(second) as later:
        engine.answer(times, until=seam)
        before = engine.preemptions
        engine.answer(times, until=seam + lead)
        started, first, finished, (preemptions, full) = later()
    if not _alike(asked.finished, finished, times, seam, lead):
        engine.answer(times)
        return Answered(preemptions=engine.preemptions, full_seconds=engine.full_seconds)
    asked.started[seam:], asked.first[seam:], asked.finished[seam:] = (
        started[lead:],
        first[lead:],
        finished[lead:],
    )
    moments = [at for at in (engine.full_seconds, full) if at is not None and at >= 0]
    return Answered(preemptions=before + int(preemptions), full_seconds=min(moments, default=None))


def _behind(asked: Requests, times: Sequence[float], lead: int) -> bool:
    """Whether requests soon wait longer than their answers take: then a second piece would begin without that queue."""
    some = slice(lead // 4, lead // 2)
    waited: float = sum(map(sub, asked.started[some], times[some]))
    taken: float = sum(map(sub, asked.finished[some], asked.started[some]))
    return waited > taken


def _alike(early: list[float], late: Sequence[float], times: Sequence[float], seam: int, lead: int) -> bool:
    """Whether both pieces answer the last requests before the seam in the same time, on average."""
    look = min(_LOOK, lead // 2)
    ends, others = early[seam - look : seam], late[lead - look : lead]
    if min(early[:seam]) < 0:  # the first piece has not come to the end of its own
        return False
    taken: float = sum(map(sub, ends, times[seam - look : seam]))
    apart: float = sum(map(sub, ends, others))
    return abs(apart) <= _ALIKE * taken
