"""How far a pull is: bytes, speed and time left, on one living line in a terminal and on plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from selfhost.units import size_text

WINDOW_SECONDS = 10.0
LIVE_SECONDS = 0.25
PLAIN_SECONDS = 10.0  # a log line every so often says that the pull is alive


class Progress:
    """Counts what every connection brings and tells it now and then."""

    def __init__(
        self,
        total_bytes: int,
        out: TextIO | None,
        *,
        verb: str = "pulled",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count.

        Args:
            total_bytes: how much there is in all.
            out: where lines go; None keeps quiet.
            verb: what has happened to the bytes that are counted.
            clock: seconds that only grow.
        """
        self.total_bytes = total_bytes
        self.done_bytes = 0
        self.network_bytes = 0
        self._out = out
        self._verb = verb
        self._clock = clock
        self._live = out is not None and out.isatty()
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, int]] = deque(((clock(), 0),))
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        if self._out is not None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="selfhost-progress")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._wipe()

    def got(self, size_bytes: int) -> None:
        """Bytes came over the network."""
        with self._lock:
            self.done_bytes += size_bytes
            self.network_bytes += size_bytes

    def had(self, size_bytes: int) -> None:
        """Bytes were there already, or are not right after all (a negative number)."""
        with self._lock:
            self.done_bytes += size_bytes

    def notice(self, text: str) -> None:
        """Tell something that happened, in a line of its own."""
        if self._out is None:
            return
        with self._lock:
            self._wipe()
            self._write(f"{text}\n")

    def line(self) -> str:
        """The present state in one line."""
        with self._lock:
            now, network, done = self._clock(), self.network_bytes, self.done_bytes
        speed = self._speed(now, network)
        text = f"{size_text(done)} of {size_text(self.total_bytes)} {self._verb}"
        if speed > 0:
            text += f" · {size_text(round(speed))}/s"
            if done < self.total_bytes:
                text += f" · {time_text((self.total_bytes - done) / speed)} left"
        return text

    def _speed(self, now: float, network: int) -> float:
        """Bytes a second over the last seconds."""
        self._seen.append((now, network))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0]
        return (network - before) / (now - then) if now > then else 0.0

    def _run(self) -> None:
        while not self._ended.wait(LIVE_SECONDS if self._live else PLAIN_SECONDS):
            text = self.line()
            with self._lock:
                self._write(f"\r\x1b[2K{text[:78]}" if self._live else f"{text}\n")

    def _wipe(self) -> None:
        if self._live:
            self._write("\r\x1b[2K")

    def _write(self, text: str) -> None:
        # A terminal that hung up, or a log that nobody reads any more, ends no pull.
        with suppress(OSError):
            print(text, end="", file=self._out, flush=True)


def time_text(seconds: float) -> str:
    """Seconds for people: `about 3 min`, `1 h 20 min`, `12 s`."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes // 1440} days"
