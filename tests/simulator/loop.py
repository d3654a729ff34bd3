"""Many small lives on few threads: generators that say how long they sleep, as coroutines with a clock of their own."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Generator
from typing import Any

Life = Generator[float, None, Any]
THREADS = 4


class Task:
    """A generator that runs. `end()` closes it after the step that it is in."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.ended = False
        self.over = False  # nothing of it runs any more

    def end(self) -> None:
        self.ended = True


class Loop:
    """Runs tasks until it is closed. What a task raises is kept in `errors`, and ends it alone."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._work, daemon=True, name=f"simulator-{index}")
            for index in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def spawn(self, life: Life, after: float = 0.0) -> Task:
        """Begin a life."""
        task = Task(life)
        self._push(time.monotonic() + after, task)
        return task

    def _push(self, when: float, task: Task) -> None:
        with self._changed:
            heapq.heappush(self._heap, (when, next(self._numbers), task))
            self._changed.notify()

    def _next(self) -> Task | None:
        with self._changed:
            while not self._closed:
                if not self._heap:
                    self._changed.wait()
                    continue
                wait = self._heap[0][0] - time.monotonic()
                if wait <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(min(wait, threading.TIMEOUT_MAX))
        return None

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                if task.ended:
                    task.life.close()
                    task.over = True
                    continue
                wait = next(task.life)
            except StopIteration:
                task.over = True
            except ConnectionError:
                task.over = True  # the server is away for good, or the simulator ends
            except Exception:
                task.over = True
                self.errors.append(traceback.format_exc())
            else:
                self._push(time.monotonic() + min(wait, 3600.0), task)

    def close(self) -> None:
        """End every task and thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)
        for _, _, task in self._heap:
            try:
                task.life.close()
            except Exception:  # what a task does at its end may need a server that is gone
                task.over = True
