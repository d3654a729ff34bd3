"""One file from the Hub onto the disk, whatever happens on the way; only its hash says that it is there."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event, Lock

from selfhost.errors import MalformedAnswerError, PullError
from selfhost.hub.remote import Hub
from selfhost.pull.hashing import Hashes
from selfhost.pull.part import Part
from selfhost.pull.stream import Pieces, RetryLaterError, http_pieces, xet_pieces
from selfhost.pull.types import Listing

# Tries in a row that bring no byte. With waits of 1, 2, 4 … 60 s that is about three minutes of nothing.
TRIES = 8
LONGEST_WAIT_SECONDS = 60.0
LONGEST_ASKED_WAIT_SECONDS = 900.0  # a Retry-After beyond this is told to the user instead of slept through
XET_LEAST_BYTES = (
    16 << 20
)  # below this the extra round trips for a token and a map of chunks cost more than they bring


class Stopped(Exception):  # noqa: N818 -- no error: another part of the pull failed or the user interrupted it
    """The pull ends; what is there stays."""


@dataclass(slots=True)
class Throttle:
    """A bandwidth limit that all connections share.

    Args:
        bytes_per_second: None for no limit.
        clock: seconds that only grow.
        sleep: waits; returns true when the pull is stopping.
    """

    bytes_per_second: int | None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    _free_at: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def take(self, size_bytes: int) -> None:
        """Wait until so many bytes may have come."""
        if self.bytes_per_second is None:
            return
        with self._lock:
            now = self.clock()
            self._free_at = max(self._free_at, now) + size_bytes / self.bytes_per_second
            wait = self._free_at - now
        if wait > 0:
            self.sleep(wait)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the connections of one pull share.

    Args:
        hub: whom to ask.
        listing: repository and commit.
        throttle: the bandwidth limit.
        stop: set when the pull ends.
        got: told how many bytes came over the network.
        notice: told in a sentence what is tried again and when.
    """

    hub: Hub
    listing: Listing
    throttle: Throttle
    stop: Event
    got: Callable[[int], None]
    notice: Callable[[str], None]


def fetch(line: Line, part: Part) -> Hashes:
    """Bring one file whole and right onto the disk.

    Args:
        line: how it comes.
        part: where it grows; what it holds already is kept, and dropped once if the whole is then wrong.

    Returns:
        The hashes of the content, which are those of the Hub.

    Raises:
        PullError: the peer gave nothing for too long, or asks to wait for too long.
        MalformedAnswerError: the content is not what the Hub lists, twice.
        SelfhostError: a refusal that stays, or the disk's.
        Stopped: the pull ends.
    """
    file = part.file
    for attempt in (1, 2):
        _fill(line, part, xet=attempt == 1)
        hashes = part.hashes()
        if hashes.match(file.etag):
            part.sync()
            return hashes
        part.restart()
        line.notice(
            f"{file.path}: its bytes do not have the hash that the Hub lists; once more from the start"
        )
    raise MalformedAnswerError(
        f"{file.path} of {line.listing.repo} came twice with other bytes than the Hub's hash says.",
        hint="the mirror, a proxy or the network changes it; ask another HF_ENDPOINT.",
    )


def _fill(line: Line, part: Part, *, xet: bool) -> None:
    failures = 0
    lies = 0
    while part.missing_bytes:
        before = part.done_bytes
        try:
            with closing(_pieces(line, part, xet=xet)) as pieces:
                for piece in pieces:
                    if line.stop.is_set():
                        raise Stopped
                    part.write(piece)
                    line.got(len(piece))
                    line.throttle.take(len(piece))
            if part.missing_bytes:
                raise RetryLaterError(f"{part.file.path}: the answer broke off.")
        except MalformedAnswerError:
            lies += 1
            if lies == 3:
                raise
            _wait(line, part, f"{part.file.path}: the answer made no sense", None, lies)
        except RetryLaterError as error:
            xet = xet and part.done_bytes > before  # a storage that gives nothing is left for plain HTTP
            failures = 1 if part.done_bytes > before else failures + 1
            if failures > TRIES:
                raise PullError(
                    f"{error.message.rstrip('.')}; {TRIES} tries in a row brought nothing.",
                    hint="check the network, then run the same command: it goes on from here.",
                ) from None
            _wait(line, part, error.message, error.after_seconds, failures)


def _pieces(line: Line, part: Part, *, xet: bool) -> Pieces:
    if xet and part.missing_bytes >= XET_LEAST_BYTES and part.file.sha256 is not None:
        pieces = xet_pieces(line.hub, line.listing, part.file, part.done_bytes)
        if pieces is not None:
            return pieces
    return http_pieces(line.hub, line.listing, part.file, part.done_bytes)


def _wait(line: Line, part: Part, why: str, asked: float | None, failures: int) -> None:
    """Wait before a further try: as long as the peer asked for, else longer each time, with some chance in it."""
    if asked is not None and asked > LONGEST_ASKED_WAIT_SECONDS:
        raise PullError(
            f"{why.rstrip('.')}; the Hub asks to wait {asked:,.0f} s.",
            hint="run the same command after that: it goes on from here.",
        )
    seconds = asked if asked is not None else min(LONGEST_WAIT_SECONDS, 2.0 ** (failures - 1))
    seconds *= 1 + random.random() / 4
    if failures > 1 or asked is not None:
        line.notice(f"{why.rstrip('.')}; again in {seconds:.0f} s")
    if line.stop.wait(seconds if failures > 1 or asked is not None else 0.2):
        raise Stopped
