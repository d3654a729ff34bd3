"""Sources -> Observations: one poller thread over NVML with a watchdog, engines beside it, and recordings of both.

- `observe_once(sources, *, deadline_seconds) -> Observation`: in time even when NVML hangs, then with what there is.
- `watch_once(sources, *, baseline, deadline_seconds, window_seconds) -> tuple[Observation, ...]`: as many observations
  as the checks ask for.
- `Poller(sources)`: `start()`, `latest()`, `history()`, `stop()`.
- `Recorder(path)` and `replay(path)`.
"""

from selfhost.monitor.once import observe_once, watch_once
from selfhost.monitor.poller import Poller
from selfhost.monitor.recording import Recorder, RecordingError, replay
from selfhost.monitor.sources import Sources

__all__ = ["Poller", "Recorder", "RecordingError", "Sources", "observe_once", "replay", "watch_once"]
