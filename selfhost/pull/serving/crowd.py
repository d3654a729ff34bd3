"""How many connections there may be at once: who gets a seat, who waits for one, and who is sent away.

A connection takes a seat with its first request and keeps it until it ends. One that only waits for its client's next
request gives way to one that has a request, so that idle clients and such as never finish a request keep nobody out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

OPEN_PER_SEAT = 4  # connections that have asked for nothing yet cost a thread each, and are bounded too
IDLE_SECONDS = 0.5  # a client that has just connected gets this long to ask


class Member(Protocol):
    """A connection."""

    def hang_up(self) -> None:
        """End it as soon as what has arrived is answered."""
        ...


class Crowd:
    """The connections of one server."""

    def __init__(self, seats: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without any.

        Args:
            seats: most connections that are served at once.
            clock: seconds that only grow.
        """
        self.seats = seats
        self._clock = clock
        self._idle_since: dict[Member, float | None] = {}  # None while a request is answered
        self._seated: set[Member] = set()
        self._queue = 0
        self._change = threading.Condition()

    def __len__(self) -> int:
        with self._change:
            return len(self._idle_since)

    @property
    def is_crowded(self) -> bool:
        """Somebody waits for a seat."""
        return self._queue > 0

    def admit(self, member: Member) -> bool:
        """Take a new connection in, or say that there are too many even to listen to."""
        with self._change:
            if len(self._idle_since) >= self.seats * OPEN_PER_SEAT and not self._make_room(
                set(self._idle_since)
            ):
                return False
            self._idle_since[member] = self._clock()
            return True

    def sit(self, member: Member, *, patience_seconds: float) -> bool:
        """Give a connection with a request a seat; False where none gets free in time."""
        until = self._clock() + patience_seconds
        with self._change:
            self._idle_since[member] = None
            if member in self._seated:
                return True
            self._queue += 1
            try:
                while len(self._seated) >= self.seats:
                    left = until - self._clock()
                    if left <= 0:
                        return False
                    self._make_room(self._seated)
                    self._change.wait(min(left, IDLE_SECONDS))
            finally:
                self._queue -= 1
            self._seated.add(member)
            return True

    def rest(self, member: Member) -> None:
        """A connection waits for its client's next request."""
        with self._change:
            self._idle_since[member] = self._clock()
            self._change.notify_all()

    def leave(self, member: Member) -> None:
        """A connection has ended."""
        with self._change:
            self._idle_since.pop(member, None)
            self._seated.discard(member)
            self._change.notify_all()

    def hang_up(self, *, idle_only: bool) -> None:
        """End every connection, or every one that waits for its client."""
        with self._change:
            members = [who for who, since in self._idle_since.items() if since is not None or not idle_only]
        for member in members:
            member.hang_up()

    def wait_empty(self, seconds: float) -> bool:
        """Wait until every connection has ended; False where some have not in time."""
        with self._change:
            return self._change.wait_for(lambda: not self._idle_since, timeout=seconds)

    def _make_room(self, among: set[Member]) -> bool:
        """Hang up on the connection that has been idle the longest."""
        idle = [(since, who) for who in among if (since := self._idle_since.get(who)) is not None]
        since, longest = min(idle, key=lambda pair: pair[0], default=(0.0, None))
        if longest is None or self._clock() - since < IDLE_SECONDS:
            return False
        longest.hang_up()
        self._idle_since[longest] = self._clock()  # it is going; ask another one next
        return True
