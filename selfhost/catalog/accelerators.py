"""Platforms that engines run on: what a cluster calls their devices and what pods need for them (accelerators.toml)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from selfhost.errors import UnsupportedError

Platform = Literal["cuda", "rocm", "xpu", "hpu", "cpu"]
Spelling = Literal["alias", "label", "pci", "model"]
PLATFORMS: tuple[Platform, ...] = get_args(Platform)
# The platform of a vendor whose devices are all of one, as in plans of before a platform was written down.
OF_VENDOR: dict[str, Platform] = {"NVIDIA": "cuda", "AMD": "rocm"}
_FILE = os.path.join(os.path.dirname(__file__), "accelerators.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceVariable:
    """An environment variable that the runtime below any engine reads."""

    name: str
    value: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """How devices are claimed by Dynamic Resource Allocation.

    Args:
        device_class: DeviceClass that the driver's chart installs.
        mig_class: that of MIG instances, None where there are none.
        driver: name of the driver, which qualifies its attributes.
        attribute: the attribute that tells products apart.
        spelling: how the attribute writes a product: as NVML does, as the node label, as PCI id, as model name.
        memory: whether the driver publishes the capacity `memory`.
        source: where that is known from.
    """

    device_class: str
    mig_class: str | None
    driver: str
    attribute: str
    spelling: Spelling
    memory: bool
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One platform.

    Args:
        platform: its id.
        name: as people call it.
        vendor: as in gpus.toml.
        resources: names of extended resources, the default first; empty where nothing is asked for.
        taints: keys of taints that its nodes may have.
        groups: numbers of the groups that own its device nodes.
        groups_because: which groups these are.
        env: variables for any engine.
        exceptions: what goes beyond Pod Security `restricted`, or is not known to keep it.
        label_note: what its node label does not tell, None where it names the product.
        estimated: memory is sized there by the rules of CUDA, which nobody compared with start-ups.
        claims: Dynamic Resource Allocation, None where there is no driver.
        source, checked: where and when it was read.
    """

    platform: Platform
    name: str
    vendor: str
    resources: tuple[str, ...]
    taints: tuple[str, ...]
    groups: tuple[int, ...]
    groups_because: str
    env: tuple[DeviceVariable, ...]
    exceptions: tuple[str, ...]
    label_note: str | None
    estimated: bool
    claims: Claims | None
    source: str
    checked: str


@cache
def _tables() -> dict[str, Any]:
    import tomllib

    with open(_FILE, "rb") as file:
        return tomllib.load(file)


@cache
def accelerator(platform: Platform) -> Accelerator:
    """The facts of one platform."""
    table = _tables()[platform]
    dra = table.get("dra")
    return Accelerator(
        platform=platform,
        name=table["name"],
        vendor=table["vendor"],
        resources=tuple(table["resources"]),
        taints=tuple(table["taints"]),
        groups=tuple(table["groups"]),
        groups_because=table["groups_because"],
        env=tuple(DeviceVariable(name=name, value=value, because=why) for name, value, why in table["env"]),
        exceptions=tuple(table["exceptions"]),
        label_note=table.get("label_note"),
        estimated=table["evidence"] == "estimate",
        claims=None if dra is None else _claims(dra),
        source=table["source"],
        checked=table["checked"],
    )


def accelerators() -> tuple[Accelerator, ...]:
    """All platforms."""
    return tuple(accelerator(platform) for platform in PLATFORMS)


def platform_of(vendor: str, platform: str | None = None) -> Platform:
    """The platform that was written down, or the only one of the vendor.

    Raises:
        UnsupportedError: neither is known.
    """
    found = platform or OF_VENDOR.get(vendor)
    if found not in PLATFORMS:
        raise UnsupportedError(
            f"Devices of {vendor} are not planned for.", hint=f"Platforms: {', '.join(PLATFORMS)}."
        )
    return found


def _claims(table: dict[str, Any]) -> Claims:
    return Claims(
        device_class=table["class"],
        mig_class=table.get("mig_class"),
        driver=table["driver"],
        attribute=table["attribute"],
        spelling=table["spelling"],
        memory=table["memory"],
        source=table["source"],
    )
