"""The exporter as a process: serves until SIGTERM or SIGINT, then ends within two seconds whatever NVML does."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from selfhost.exporter.exporter import Exporter
from selfhost.exporter.server import Server
from selfhost.monitor import Poller

if TYPE_CHECKING:
    from selfhost.health import Baseline
    from selfhost.health.suppressions import Suppression
    from selfhost.plan import Plan

# Ours: what a poll under way is given to end in; one that hangs is left, and ends with the process.
_STOP_SECONDS = 1.0
# Ours: an answer takes the interpreter some ten times; while an observation is judged and rendered, each of them waits
# this long instead of the interpreter's own 5 ms.
_SWITCH_SECONDS = 0.0005


def serve(
    poller: Poller,
    host: str,
    port: int,
    *,
    dcgm_names: bool = False,
    baseline: Baseline | None = None,
    plan: Plan | None = None,
    suppressions: tuple[Suppression, ...] = (),
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve a poller's observations; returns once a signal came.

    Args:
        poller: not started yet.
        host: name or address to listen on; empty for every interface.
        port: 0 has the system choose.
        dcgm_names: also dcgm-exporter's metrics.
        baseline, plan, suppressions: for the checks.
        announce: told the URL once requests are taken.

    Raises:
        UsageError: the address cannot be listened on.
    """
    exporter = Exporter(
        poller, dcgm_names=dcgm_names, baseline=baseline, plan=plan, suppressions=suppressions
    )
    server = Server(exporter, host, port)
    done = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        done.set()

    if threading.current_thread() is threading.main_thread():
        before = {which: signal.signal(which, end) for which in (signal.SIGTERM, signal.SIGINT)}
    switching = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        poller.start()
        server.start()
        if announce is not None:
            announce(server.url)
        done.wait()
    finally:
        server.stop()
        poller.stop(patience_seconds=_STOP_SECONDS)
        sys.setswitchinterval(switching)
        for which, handler in before.items():
            signal.signal(which, handler)
