"""Engines from outside: their metrics, their health path, the GPUs they run on, what their log says of memory.

Nothing here raises for an engine that is down, slow or lying: what could not be read is a Missing with its reason.
"""

from selfhost.probe.join import join
from selfhost.probe.names import ENGINES, EngineNames, Series, metric_names
from selfhost.probe.scrape import scrape, scrape_all
from selfhost.probe.startup import read_startup_log

__all__ = [
    "ENGINES", "EngineNames", "Series", "join", "metric_names", "read_startup_log", "scrape", "scrape_all",
]  # fmt: skip
