"""The static lane of one GPU: who it is and what it can do, read once and kept when it is lost."""

from __future__ import annotations

import re
from dataclasses import fields as fields_of
from typing import Any

from selfhost.nvml import codes, tables, values
from selfhost.nvml.fields import Fields
from selfhost.nvml.library import Library
from selfhost.nvml.question import Asked, Question
from selfhost.observation import GpuIdentity, Missing, Reading, known

# nvmlDeviceArchitecture_t (nvml.h r615).
ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada",
    9: "Hopper",
    10: "Blackwell",
    13: "Rubin",
}
# Systems whose CPU and GPU share one memory of which NVML has no figure: GB10 (DGX Spark) and NVIDIA's Jetson and Drive
# chips. Only listed names: any other board that gives no figure has a fault, not the host's memory. GB100 and GB200 are
# boards with memory of their own, so names are whole words. Sources: NVIDIA's pages on DGX Spark and Jetson Thor, and
# issues of nvitop (208), nvtop (411) and all-smi (80, 146); read 2026-11-21.
UNIFIED = re.compile(r"\b(GB10|Thor|Orin|Xavier)\b", re.IGNORECASE)
SHARED_MEMORY = Missing(missing="this board shares the system's memory", code=3)

SIMPLE = {
    "minor": tables.MINOR,
    "vbios": tables.VBIOS,
    "compute_capability": tables.COMPUTE_CAPABILITY,
    "pcie_max_generation": tables.PCIE_MAX_GENERATION,
    "pcie_max_width": tables.PCIE_MAX_WIDTH,
    "pcie_device_generation": tables.PCIE_DEVICE_GENERATION,
    "sm_clock_max_mhz": tables.SM_CLOCK_MAX,
    "power_limit_default_watts": tables.POWER_LIMIT_DEFAULT,
    "shutdown_celsius": tables.THRESHOLDS["shutdown"],
    "slowdown_celsius": tables.THRESHOLDS["slowdown"],
    "memory_max_celsius": tables.THRESHOLDS["memory_max"],
    "gpu_max_celsius": tables.THRESHOLDS["gpu_max"],
}
MARGINS = ("margin_shutdown", "margin_slowdown", "margin_memory_max", "margin_gpu_max")


def unknown_identity(index: int, reason: Missing) -> GpuIdentity:
    """A GPU of which nothing could be read but that it is there."""
    return GpuIdentity(
        index=index,
        uuid=f"unknown-{index}",
        pci_address="unknown",
        name="unknown GPU",
        serial=reason,
        minor=reason,
    )


def architecture(number: Reading[int]) -> Reading[str]:
    """The generation's name; a newer one than this table knows is told by its number."""
    if isinstance(number, Missing):
        return number
    return ARCHITECTURES.get(number, f"architecture {number}")


class IdentityReader:
    """Asks one GPU who it is. The first fault ends the questions, and what was answered until then is kept."""

    def __init__(self, library: Library, handle: Any, driver: tuple[int, ...]) -> None:
        self._library = library
        self._handle = handle
        self._driver = driver
        self.fault: Missing | None = None

    def _ask(self, question: Question[Any], *, anyway: bool = False) -> Reading[Any]:
        """`anyway`: a lost GPU may still say its name, which the driver keeps."""
        if self.fault is not None and not anyway:
            return self.fault
        try:
            return Asked(self._library, self._handle, question).read()
        except codes.GpuFault as fault:
            self.fault = fault.reason
            return fault.reason

    def read(self, index: int) -> GpuIdentity:
        """Everything of the static lane; `fault` says afterwards whether the GPU gave up on the way."""
        uuid = self._ask(tables.UUID, anyway=True)
        name = self._ask(tables.NAME, anyway=True)
        pci = self._ask(tables.PCI_ADDRESS, anyway=True)
        serial = self._ask(tables.SERIAL, anyway=True)
        simple = {key: self._ask(question) for key, question in SIMPLE.items()}
        fields = self._fields()
        margins: dict[str, Any] = {
            f"{key}_celsius": value if isinstance(value, Missing) else values.margin_celsius(value)
            for key, value in fields.items()
            if key in MARGINS
        }
        generation = architecture(self._ask(tables.ARCHITECTURE))
        gpm = self._ask(tables.GPM_SUPPORT) is True
        # The last one: a GPU that must be reset fails it and may have answered all the others.
        memory = self._ask(tables.MEMORY)
        total: Reading[int] = memory if isinstance(memory, Missing) else memory[0]
        unified = known(name) and UNIFIED.search(name) is not None
        return GpuIdentity(
            index=index,
            uuid=uuid if known(uuid) else f"unknown-{index}",
            pci_address=pci if known(pci) else "unknown",
            name=name if known(name) else "unknown GPU",
            serial=serial,
            architecture=generation,
            memory_total_bytes=SHARED_MEMORY if unified and not known(total) else total,
            unified_memory=unified and not known(total),
            nvlink_count=fields["nvlink_count"],
            tensor_activity=gpm,
            **simple,
            **margins,
        )

    def _fields(self) -> dict[str, Any]:
        if self.fault is not None:
            return dict.fromkeys(tables.STATIC_FIELDS, self.fault)
        try:
            return Fields(self._library, self._handle, tables.STATIC_FIELDS, self._driver).read()
        except codes.GpuFault as fault:
            self.fault = fault.reason
            return dict.fromkeys(tables.STATIC_FIELDS, fault.reason)


def kept(old: GpuIdentity, new: GpuIdentity) -> GpuIdentity:
    """The new identity, with what the old one knew where the new one does not.

    A name, a UUID or an address that is only a stand-in never replaces a real one.
    """
    merged: dict[str, Any] = {}
    for field in fields_of(GpuIdentity):
        before, after = getattr(old, field.name), getattr(new, field.name)
        stand_in = (
            isinstance(after, Missing)
            or (isinstance(after, str) and after.startswith("unknown"))
            or after is False
        )
        merged[field.name] = before if stand_in and known(before) else after
    return GpuIdentity(**merged)
