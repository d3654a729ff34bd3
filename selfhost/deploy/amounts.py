"""Quantities of resources: what pods ask for, counted as the scheduler counts it. All amounts are thousandths."""

from __future__ import annotations

import re
from collections.abc import Iterable

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text
from selfhost.units import GIB, MIB

# Resource -> thousandths: GPUs, cores and bytes alike, exact in whole numbers.
Amounts = dict[str, int]

CPU, MEMORY, EPHEMERAL, PODS = "cpu", "memory", "ephemeral-storage", "pods"
# apimachinery pkg/api/resource/suffix.go (1.37): decimal, binary, and exponents of ten.
_QUANTITY = re.compile(
    r"([+-]?)(\d{1,30})?(?:\.(\d{0,30}))?(n|u|m|[kMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?", re.ASCII
)
_UNITS = {
    "": 10**9, "n": 1, "u": 10**3, "m": 10**6, "k": 10**12, "M": 10**15, "G": 10**18, "T": 10**21, "P": 10**24,
    "E": 10**27, "Ki": 10**9 << 10, "Mi": 10**9 << 20, "Gi": 10**9 << 30, "Ti": 10**9 << 40, "Pi": 10**9 << 50,
    "Ei": 10**9 << 60,
}  # fmt: skip
_TO_MILLI = 10**6  # nanos of a thousandth
# component-helpers/resource/helpers.go (1.37): what a pod as a whole may ask for besides its containers.
_POD_LEVEL = (CPU, MEMORY)


def milli(value: object) -> int | None:
    """Thousandths of a quantity (`1500m`, `2`, `16Gi`, `1e3`), rounded up as the API server does; None for none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    found = _QUANTITY.fullmatch(str(value).strip())
    if found is None or not (found[2] or found[3]):
        return None
    suffix, digits = found[4] or "", found[3] or ""
    number = int((found[2] or "") + digits or "0")
    down = 10 ** len(digits)
    if suffix[:1] in ("e", "E") and suffix != "E" and suffix != "Ei":
        power = int(suffix[1:])
        unit, down = 10 ** (9 + max(0, power)), down * 10 ** max(0, -power)
    else:
        unit = _UNITS[suffix]
    amount: int = -(-number * unit // (down * _TO_MILLI))
    return -amount if found[1] == "-" else amount


def amounts(given: Object) -> Amounts:
    """A list of resources (`requests`, `allocatable`, `hard`) as thousandths; what is no quantity is left out."""
    return {name: found for name, value in given.items() if (found := milli(value)) is not None}


def shown(resource: str, amount: int) -> str:
    """An amount for people: `2`, `7.5 cores`, `24.0 GiB`."""
    name = resource.rpartition(".")[2]
    if resource == CPU or name == CPU:
        return f"{amount / 1000:g}"
    if name in (MEMORY, EPHEMERAL, "storage") or name.startswith("hugepages-"):
        size = amount // 1000
        return f"{size / GIB:.1f} GiB" if abs(size) >= GIB else f"{size / MIB:.0f} MiB"
    return f"{amount // 1000}" if amount % 1000 == 0 else f"{amount / 1000:g}"


def added(*several: Amounts) -> Amounts:
    """The sum."""
    found: Amounts = {}
    for one in several:
        for name, amount in one.items():
            found[name] = found.get(name, 0) + amount
    return found


def most(*several: Amounts) -> Amounts:
    """Of each resource the largest."""
    found: Amounts = {}
    for one in several:
        for name, amount in one.items():
            found[name] = max(found.get(name, amount), amount)
    return found


def requests_of(spec: Object, status: Object | None = None) -> Amounts:
    """What a pod asks of its node: containers, init containers, sidecars, overhead (component-helpers' PodRequests).

    Args:
        spec: of the pod, or of its template; limits stand in for requests that are not given, as the API's defaults.
        status: of a pod that runs, whose containers may have been resized in place: the larger counts.
    """
    return _total(spec, status or {}, "requests")


def limits_of(spec: Object) -> Amounts:
    """What a pod may use at most, summed up in the same way; quotas count it."""
    return _total(spec, {}, "limits")


def container_amounts(container: Object, which: str) -> Amounts:
    """`requests` or `limits` of a container, requests with the API's defaults."""
    resources = part(container, "resources")
    limits = amounts(part(resources, "limits"))
    return limits if which == "limits" else limits | amounts(part(resources, "requests"))


def _total(spec: Object, status: Object, which: str) -> Amounts:
    resized = _resized(status) if which == "requests" else {}

    def of(container: Object) -> Amounts:
        return most(container_amounts(container, which), *resized.get(text(container, "name"), ()))

    running = added(*(of(container) for container in parts(spec, "containers")))
    sidecars: Amounts = {}
    starting: Amounts = {}
    for container in parts(spec, "initContainers"):
        own = of(container)
        if container.get("restartPolicy") == "Always":
            running, sidecars = added(running, own), added(sidecars, own)
            starting = most(starting, sidecars)
        else:
            starting = most(starting, added(own, sidecars))
    total = most(running, starting)
    for name, amount in container_amounts(spec, which).items():
        if name in _POD_LEVEL or name.startswith("hugepages-"):
            total[name] = amount
    return added(total, amounts(part(spec, "overhead")))


def _resized(status: Object) -> dict[str, tuple[Amounts, ...]]:
    """What containers that run were given, where that is told (in-place resize)."""
    found = {}
    for kind in ("containerStatuses", "initContainerStatuses"):
        for one in parts(status, kind):
            given = (
                amounts(part(one, "allocatedResources")),
                amounts(part(part(one, "resources"), "requests")),
            )
            found[text(one, "name")] = tuple(each for each in given if each)
    return found


def short(wanted: Amounts, free: Amounts) -> Iterable[str]:
    """Resources of which less is free than is wanted, in the order of what is wanted; what is not there counts as 0."""
    return (name for name, amount in wanted.items() if amount > max(0, free.get(name, 0)))
