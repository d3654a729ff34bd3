"""Engines scraped beside the GPUs: a few threads, a deadline each, and none that was late is waited for again."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from selfhost.monitor.edges import Edges
from selfhost.monitor.sources import Sources
from selfhost.observation import EngineAddress, EngineSnapshot, known

# Ours: more engines than this on a node are scraped in turns.
MOST_THREADS = 8
# Ours: an engine that was found and whose process is gone is reported as down this long, then forgotten.
FORGET_SECONDS = 600.0
# Ours: an engine that takes longer than this is not waited for in the observations that follow.
PROMPT_SECONDS = 0.5


@dataclass(slots=True)
class _Watched:
    address: EngineAddress
    named: bool
    seen_at: float
    snapshot: EngineSnapshot | None = None
    in_flight: bool = False
    late: bool = False


class EngineWatch:
    """Keeps the newest snapshot of every engine that was named or found."""

    def __init__(self, sources: Sources, edges: Edges) -> None:
        self._sources = sources
        self._edges = edges
        self._changed = threading.Condition()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        self._stopping = False
        self._discovering = False
        self._discovered = False
        now = time.monotonic()
        self._watched = {
            address.url: _Watched(address=address, named=True, seen_at=now) for address in sources.engines
        }

    @property
    def looked_for(self) -> bool:
        """Whether engines were named, or a search for them has come to its end."""
        return bool(self._sources.engines) or self._discovered

    def discover(self, pids: tuple[int, ...]) -> None:
        """Search for engines among the node's processes, or for the processes of those that were named.

        A search that is still going on is not doubled.
        """
        with self._changed:
            wanted = self._sources.discover_engines or bool(self._sources.engines)
            if self._discovering or self._stopping or not wanted:
                return
            self._discovering = True
        self._submit(lambda: self._discover(pids))

    def kick(self) -> None:
        """Have every engine scraped that is not being scraped."""
        with self._changed:
            if self._stopping:
                return
            due = [watched for watched in self._watched.values() if not watched.in_flight]
            for watched in due:
                watched.in_flight = True
        for watched in due:
            self._submit(lambda watched=watched: self._scrape(watched))  # type: ignore[misc]

    def settle(self, timeout_seconds: float, *, for_late: bool = False) -> None:
        """Wait for the search and for the scrapes under way; for engines that were late last time only if asked to."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or not self._waited_for(for_late), timeout=max(0.0, timeout_seconds)
            )
            for watched in self._watched.values():
                watched.late |= watched.in_flight

    def snapshots(self) -> tuple[EngineSnapshot, ...]:
        """The newest of each engine, by address; metrics that are being read anew are as old as they are."""
        now = self._edges.clock()
        with self._changed:
            return tuple(_aged(self._watched[url], now) for url in sorted(self._watched))

    def stop(self) -> None:
        """End the threads once they come back from what they are at; nobody waits for them."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            threads = self._threads
        for _ in range(threads):
            self._work.put(None)

    def _waited_for(self, for_late: bool) -> bool:
        return self._discovering or any(
            watched.in_flight and (for_late or not watched.late) for watched in self._watched.values()
        )

    def _submit(self, job: Callable[[], None]) -> None:
        with self._changed:
            wanted = min(MOST_THREADS, 1 + len(self._watched))
            start, self._threads = max(0, wanted - self._threads), max(self._threads, wanted)
        for _ in range(start):
            threading.Thread(target=self._run, name="selfhost-engine", daemon=True).start()
        self._work.put(job)

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            job()

    def _discover(self, pids: tuple[int, ...]) -> None:
        try:
            found = self._edges.find_engines(pids)
        except Exception:  # a search that fails finds nothing; what was named is watched all the same
            found = ()
        now = time.monotonic()
        with self._changed:
            for address in found:
                if self._sources.discover_engines or address.url in self._watched:
                    self._take(address, now)
            self._watched = {
                url: watched
                for url, watched in self._watched.items()
                if watched.named or now - watched.seen_at < FORGET_SECONDS
            }
            self._discovering, self._discovered = False, True
            self._changed.notify_all()

    def _take(self, address: EngineAddress, now: float) -> None:
        watched = self._watched.get(address.url)
        if watched is None:
            self._watched[address.url] = _Watched(address=address, named=False, seen_at=now)
            return
        watched.seen_at = now
        # What the user said of an engine stands; its processes are what the search is for.
        engine = watched.address.engine or address.engine
        watched.address = replace(watched.address, pids=address.pids or watched.address.pids, engine=engine)

    def _scrape(self, watched: _Watched) -> None:
        began = time.monotonic()
        snapshot: EngineSnapshot | None = None
        try:
            snapshot = self._edges.scrape(
                watched.address,
                self._sources.engine_timeout_seconds,
                self._edges.clock(),
                watched.snapshot,
            )
        except (
            Exception
        ):  # the edge promises not to; a thread that ended would be missed by every other engine
            snapshot = watched.snapshot
        with self._changed:
            watched.snapshot = snapshot
            watched.in_flight = False
            watched.late = time.monotonic() - began > PROMPT_SECONDS
            self._changed.notify_all()


def _aged(watched: _Watched, now: float) -> EngineSnapshot:
    snapshot = watched.snapshot
    address = watched.address
    if snapshot is None:
        return EngineSnapshot(
            name=address.url, url=address.url, engine=address.engine or "unknown", at=now, pids=address.pids
        )
    if snapshot.pids != address.pids:  # they were found while it was being asked
        snapshot = replace(snapshot, pids=address.pids)
    if watched.in_flight and now > snapshot.at and known(snapshot.metrics_age_seconds):
        age = snapshot.metrics_age_seconds + now - snapshot.at
        return replace(snapshot, at=now, metrics_age_seconds=age)
    return snapshot
