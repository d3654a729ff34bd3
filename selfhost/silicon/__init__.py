"""Step times from tables of measured kernels: an optional provider, run in a process of its own, for what it covers.

The tables are those of aiconfigurator-core (NVIDIA, Apache-2.0), pinned to one release as frozen data. Its memory
figures are not used: it takes the size that a GPU is sold with for what the driver leaves.
"""

from selfhost.silicon.clock import KernelClock
from selfhost.silicon.provider import kernel_clock
from selfhost.silicon.request import SYSTEMS

__all__ = ["SYSTEMS", "KernelClock", "kernel_clock"]
