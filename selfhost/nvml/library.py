"""The library behind pynvml: loaded, initialised, called by symbol, and able to say which call is under way.

pynvml finds and initialises libnvidia-ml.so.1 and owns its life; readings call the same library's functions with
arguments that are prepared once. A pynvml getter costs 4 to 8 µs, most of it in making its arguments anew (measured
against a fake library, 2026-11-21).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from selfhost.nvml import codes
from selfhost.observation import Missing
from selfhost.observation.reading import FUNCTION_NOT_FOUND

# What of pynvml is used; a module of that name without them is another package.
NEEDED = ("nvmlInitWithFlags", "nvmlShutdown", "NVMLError", "nvmlLib", "nvmlDeviceGetFieldValues")
# Drivers before CUDA 9.2 lack nvmlInitWithFlags, which is all that pynvml tries.
INIT_FUNCTIONS = ("nvmlInit_v2", "nvmlInit")


class Library:
    """One initialised NVML. Not for two threads at once; `current` may be read from any thread.

    Args:
        handle: pynvml's ctypes.CDLL of libnvidia-ml.so.1.
        shutdown: what undoes the initialisation.
        monotonic: clock of `current`.
    """

    __slots__ = (
        "_functions",
        "_handle",
        "_shutdown",
        "calls",
        "current",
        "failed",
        "gpu",
        "last_failure",
        "monotonic",
    )

    def __init__(self, handle: Any, shutdown: Callable[[], None], monotonic: Callable[[], float]) -> None:
        self._handle = handle
        self._shutdown = shutdown
        self.monotonic = monotonic
        self._functions: dict[str, Any] = {}
        self.current: tuple[str, float] | None = None
        # Index of the GPU that is asked now, None for the node: which of them a call hangs on.
        self.gpu: int | None = None
        self.calls = 0
        # Answers other than success and "no such reading", and the last of them.
        self.failed = 0
        self.last_failure = 0

    def function(self, symbol: str) -> Any | None:
        """The function of that name, None where the driver's library has none."""
        if symbol not in self._functions:
            try:
                # Indexing makes a function object of our own; an attribute would be the one pynvml changes.
                self._functions[symbol] = self._handle[symbol]
            except AttributeError:
                self._functions[symbol] = None
        return self._functions[symbol]

    def run(self, symbol: str, function: Any, arguments: tuple[Any, ...]) -> int:
        """Call a function that exists; its return code."""
        self.calls += 1
        self.current = (symbol, self.monotonic())
        code: int = function(*arguments)
        self.current = None
        return code

    def call(self, symbol: str, *arguments: Any) -> int:
        """Call by name; 13 (function not found) where the driver's library has no such function."""
        function = self.function(symbol)
        if function is None:
            return FUNCTION_NOT_FOUND
        return self.run(symbol, function, arguments)

    def first(self, symbols: tuple[str, ...], *arguments: Any) -> int:
        """Call the newest of several functions with one signature that the library has."""
        for symbol in symbols:
            function = self.function(symbol)
            if function is not None:
                return self.run(symbol, function, arguments)
        return FUNCTION_NOT_FOUND

    def note(self, code: int) -> None:
        """Count an answer that is a failure: not success, not an absent reading."""
        self.failed += 1
        self.last_failure = code

    def close(self) -> None:
        """Shut NVML down; nothing may be called afterwards."""
        self._shutdown()


def _pynvml() -> ModuleType | Missing:
    """nvidia-ml-py's module, or why it cannot be used."""
    try:
        import pynvml
    except ImportError as error:
        return Missing(missing=f"the Python package nvidia-ml-py cannot be imported ({error}): install it")
    module: ModuleType = pynvml
    # The old package called pynvml installs a folder of the same name over nvidia-ml-py's single file.
    if hasattr(module, "__path__") or not all(hasattr(module, name) for name in NEEDED):
        return Missing(
            missing=f"the module pynvml ({getattr(module, '__file__', 'no file')}) is not nvidia-ml-py's: uninstall "
            "the package pynvml and install nvidia-ml-py again"
        )
    return module


def _initialise(pynvml: ModuleType) -> int:
    """nvmlInit, by whichever of its names the library has; the return code."""
    try:
        pynvml.nvmlInitWithFlags(0)
    except pynvml.NVMLError as error:
        code = int(getattr(error, "value", codes.UNKNOWN))
    else:
        return codes.SUCCESS
    if code != FUNCTION_NOT_FOUND:
        return code
    for symbol in INIT_FUNCTIONS:
        try:
            return int(pynvml.nvmlLib[symbol]())
        except AttributeError:
            continue
    return FUNCTION_NOT_FOUND


def open_library(*, monotonic: Callable[[], float] = time.monotonic) -> Library | Missing:
    """Load and initialise NVML in this thread; never raises.

    Returns:
        The library, or a Missing with nvmlReturn_t (12 no library, 9 driver not loaded, 18 library and driver
        differ, …; None where it is Python's side that is wrong) and what to do about it.
    """
    pynvml = _pynvml()
    if isinstance(pynvml, Missing):
        return pynvml
    try:
        code = _initialise(pynvml)
    except Exception as error:
        # A file of that name that is no NVML, or another release's error class: say so instead of ending the program.
        return Missing(missing=f"NVML cannot be loaded ({type(error).__name__}: {error})")
    if code != codes.SUCCESS:
        return codes.cannot_open(code)

    def shutdown() -> None:
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            # Nothing is left to be done with it either way.
            return

    return Library(pynvml.nvmlLib, shutdown, monotonic)
