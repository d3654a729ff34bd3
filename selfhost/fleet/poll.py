"""One pass over a fleet: every node asked once, none waited for longer than its deadline, the worst first."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from selfhost.errors import ClusterError, UsageError
from selfhost.fleet.fetch import fetch_all
from selfhost.fleet.judge import compare, judge, result_of
from selfhost.fleet.types import FORBIDDEN, SLOW, Answer, NodeAddress, NodeResult

# Ours: an exporter answers from memory in milliseconds, and a first packet that is lost is sent again after one second
# (RFC 6298, section 2.1).
DEADLINE_SECONDS = 2.0
# Ours: well below the 1,024 open files that a process commonly may have.
PARALLEL = 256
# … and through the Kubernetes API, where every request counts against the server's own limit (400 by default).
PARALLEL_ASKED = 32
# What a request may overrun its own deadline by before its thread is given up.
_GRACE_SECONDS = 1.0


def poll(
    nodes: tuple[NodeAddress, ...],
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
    parallel: int = PARALLEL,
    now: Callable[[], float] = time.time,
) -> tuple[NodeResult, ...]:
    """Asks every node for its summary.

    A node that cannot be reached, is slow, lies or is stale is a finding in its result; nothing is raised for it.

    Args:
        nodes: whom to ask.
        deadline_seconds: for each node: connecting, TLS and the whole answer together.
        parallel: how many are asked at once.
        now: our clock, Unix time.

    Raises:
        UsageError: a deadline or a number that is not positive.
        ClusterError: the Kubernetes API lets none of the nodes be read.
    """
    if deadline_seconds <= 0 or parallel < 1:
        raise UsageError("The deadline must be longer than 0 s, and at least one node asked at a time.")
    results: dict[int, NodeResult] = {}

    def done(number: int, answer: Answer) -> None:
        results[number] = judge(nodes[number], answer, now=now())

    for number, node in enumerate(nodes):
        if node.ask is None and not node.url:
            results[number] = result_of(node, node.findings)
    asked = [(number, node) for number, node in enumerate(nodes) if node.ask is not None]
    direct = [(number, node) for number, node in enumerate(nodes) if node.ask is None and node.url]
    if direct:
        fetch_all(
            direct,
            deadline_seconds=deadline_seconds,
            parallel=min(parallel, len(direct), _open_files()),
            done=done,
        )
    if asked:
        _ask_all(asked, deadline_seconds, min(parallel, PARALLEL_ASKED, len(asked)), done)
    _refuse_if_forbidden([results[number] for number, _ in asked])
    return compare(tuple(results[number] for number in range(len(nodes))))


def _open_files() -> int:
    """How many connections this process can have open beside what it has: one too many would look like a dead node."""
    try:
        import resource
    except ImportError:  # not a Unix
        return PARALLEL
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, soft // 2) if soft > 0 else PARALLEL


def _refuse_if_forbidden(asked: list[NodeResult]) -> None:
    """One permission that is missing for every node is one error, not a thousand findings."""
    said = [check.message for result in asked for check in result.findings if check.code == FORBIDDEN]
    if asked and len(said) == len(asked):
        raise ClusterError(
            f"None of {len(asked)} exporters may be read: {said[0][:1].lower()}{said[0][1:]}",
            hint="Give the account a role with the verb get on pods/proxy there, or read the pods with --direct.",
        )


def _ask_all(
    nodes: list[tuple[int, NodeAddress]],
    deadline_seconds: float,
    parallel: int,
    done: Callable[[int, Answer], None],
) -> None:
    """Asks nodes that bring their own way of asking, in threads; one that does not come back is left behind."""
    waiting: queue.SimpleQueue[tuple[int, NodeAddress]] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[int, Answer]] = queue.SimpleQueue()
    started: dict[int, float] = {}
    for task in nodes:
        waiting.put(task)

    def work() -> None:
        while True:
            try:
                number, node = waiting.get_nowait()
            except queue.Empty:
                return
            started[number] = time.monotonic()
            assert node.ask is not None
            answers.put((number, node.ask(deadline_seconds)))

    def another() -> None:
        threading.Thread(target=work, name="selfhost-fleet", daemon=True).start()

    for _ in range(parallel):
        another()
    left = {number for number, _ in nodes}
    while left:
        try:
            number, answer = answers.get(timeout=deadline_seconds / 4)
            if number in left:
                left.remove(number)
                done(number, answer)
        except queue.Empty:
            pass
        late = time.monotonic() - deadline_seconds - _GRACE_SECONDS
        for number in [number for number in left if started.get(number, late) < late]:
            left.remove(number)
            words = f"no answer within {deadline_seconds:g} s"
            done(number, Answer(fault=SLOW, detail=words, seconds=deadline_seconds))
            another()
