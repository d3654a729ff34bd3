"""What NVML's return codes mean, in words, and which of them say that a whole GPU is gone.

Codes of nvmlReturn_t: nvml.h of r615 (nvidia-ml-py 13.615.71), read 2026-11-21. pynvml's own texts end at code 20 and
call a newer one "Unknown Error", so they are not used.
"""

from __future__ import annotations

from functools import lru_cache

from selfhost.observation import Missing
from selfhost.observation.reading import FUNCTION_NOT_FOUND, GPU_IS_LOST, NOT_SUPPORTED, RESET_REQUIRED

SUCCESS = 0
UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NO_PERMISSION = 4
NOT_FOUND = 6
INSUFFICIENT_SIZE = 7
DRIVER_NOT_LOADED = 9
TIMEOUT = 10
LIBRARY_NOT_FOUND = 12
CORRUPTED_INFOROM = 14
MISMATCH = 18
NO_DATA = 21
VERSION_MISMATCH = 25
UNKNOWN = 999

# The GPU as a whole is gone or stuck: no further call of it is worth asking in the same poll.
GPU_FAULTS = frozenset((GPU_IS_LOST, RESET_REQUIRED))
# An older function, or an older version of the struct, may still answer. 2 is what some drivers say to a version they
# do not know, before 25 existed (CUDA 12).
TRY_OLDER = frozenset((INVALID_ARGUMENT, NOT_SUPPORTED, FUNCTION_NOT_FOUND, VERSION_MISMATCH))
# Answers that fail without saying anything about the GPU's state: rights, and a counter not sampled yet.
HARMLESS = frozenset((NO_PERMISSION, NO_DATA))

TEXTS = {
    UNINITIALIZED: "NVML is not initialised",
    INVALID_ARGUMENT: "NVML calls the question invalid",
    NOT_SUPPORTED: "not supported by this board",
    NO_PERMISSION: "no permission: ask as root, or see NVreg_RestrictProfilingToAdminUsers",
    NOT_FOUND: "not found",
    INSUFFICIENT_SIZE: "the answer did not fit",
    8: "the board lacks external power",
    DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    TIMEOUT: "timed out",
    11: "the kernel reports an interrupt problem",
    LIBRARY_NOT_FOUND: "NVML's library is not here",
    FUNCTION_NOT_FOUND: "the driver is older than this reading",
    CORRUPTED_INFOROM: "the InfoROM is corrupt",
    GPU_IS_LOST: "the GPU is lost: it has fallen off the bus or is no longer reachable",
    RESET_REQUIRED: "the GPU must be reset before it can be used again",
    17: "the operating system blocked the question",
    MISMATCH: "NVML's library and the loaded driver differ in version",
    19: "in use",
    20: "NVML ran out of memory",
    NO_DATA: "no data yet",
    22: "vGPU: ECC on this board does not allow it",
    23: "out of resources",
    24: "the frequency is not supported",
    VERSION_MISMATCH: "the driver knows no version of this reading that is known here",
    26: "deprecated",
    27: "not ready",
    28: "the GPU was not found",
    29: "invalid state",
    UNKNOWN: "NVML answers with an unknown error",
}

# Where NVML as a whole cannot be used: what is wrong, and the one thing to do about it.
CANNOT_OPEN = {
    DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded: load it (modprobe nvidia), and read the kernel log "
    "if it refuses",
    LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not here: install the NVIDIA driver, or start this container with "
    "the NVIDIA runtime (--gpus all)",
    FUNCTION_NOT_FOUND: "the libnvidia-ml.so.1 that was found has no nvmlInit, so it is not the driver's: look for "
    "another file of that name (ldconfig -p, LD_LIBRARY_PATH)",
    MISMATCH: "NVML's library and the loaded driver differ in version: the driver was upgraded without a reboot. "
    "Running engines go on, new ones cannot start: reboot at the next window",
    NO_PERMISSION: "NVML may not be used by this user: check the rights of /dev/nvidiactl",
    UNKNOWN: "NVML cannot be initialised (unknown error): in a container, restart it, as its devices may have been "
    "taken away; on the host, read the kernel log",
}


@lru_cache(maxsize=256)
def missing(code: int) -> Missing:
    """The Missing for what NVML answered; the same object for the same code."""
    return Missing(missing=TEXTS.get(code, f"NVML error {code}"), code=code)


def cannot_open(code: int) -> Missing:
    """Why NVML cannot be used at all, with what to do."""
    text = CANNOT_OPEN.get(
        code, f"NVML cannot be initialised ({TEXTS.get(code, 'unlisted error')}, code {code})"
    )
    return Missing(missing=text, code=code)


class GpuFault(Exception):  # noqa: N818 - control flow inside this package; never leaves it
    """A call answered that the GPU as a whole is gone. Caught where the GPU's lane began."""

    def __init__(self, reason: Missing) -> None:
        super().__init__(reason.missing)
        self.reason = reason
