"""Servers on this machine, without a cluster: started, looked at, stopped; each survives the command that made it."""

from selfhost.local.run import Result, up
from selfhost.local.status import status
from selfhost.local.stop import down
from selfhost.local.store import Store
from selfhost.local.types import Seen, Settings

__all__ = ["Result", "Seen", "Settings", "Store", "down", "status", "up"]
