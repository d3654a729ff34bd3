"""GPUs through NVML: the one place that knows pynvml; everything it says is a reading or a Missing with its code.

`open_nvml` loads and initialises the library in the thread that will poll, `NvmlReader.poll` reads the lanes asked for.
"""

from selfhost.nvml.library import open_library
from selfhost.nvml.reader import Lane, NodeReadings, NvmlReader, open_nvml

__all__ = ["Lane", "NodeReadings", "NvmlReader", "open_library", "open_nvml"]
