"""Devices that pods claim (Dynamic Resource Allocation): which there are on a node, which are free; pure.

Read off ResourceSlices and ResourceClaims (resource.k8s.io/v1 and v1beta1, Kubernetes 1.37). Of CEL, in which claims
choose, the three forms are understood that selfhost renders; any other is said to be unknown rather than guessed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text, whole
from selfhost.deploy.amounts import milli

Device = tuple[str, str, str]  # driver, pool, name: what an allocation names
_ONE_OF = re.compile(r'device\.attributes\["([^"]+)"\]\.(\w+) in \[([^\]]*)\]')
_IS = re.compile(r'device\.attributes\["([^"]+)"\]\.(\w+) == "([^"]*)"')
_AT_LEAST = re.compile(r'device\.capacity\["([^"]+)"\]\.(\w+)\.compareTo\(quantity\("([^"]+)"\)\) >= 0')


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One kind of device that a claim takes: class, how many, and CEL expressions that have to be true."""

    device_class: str
    count: int
    expressions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """One request of a claim: the first of its choices that is free."""

    choices: tuple[Choice, ...]

    @property
    def count(self) -> int:
        """Devices of the first choice."""
        return self.choices[0].count if self.choices else 0

    @property
    def understood(self) -> bool:
        """Whether every expression is of a form that can be told here."""
        return all(_parsed(word) is not None for choice in self.choices for word in choice.expressions)


@dataclass(kw_only=True)
class Supply:
    """Devices by node: all, and those that are allocated. Changed while pods are placed.

    Args:
        devices: of each node, with their attributes and capacities.
        taken: devices that a claim has.
        holders: pods that hold a device, by device.
    """

    devices: dict[str, dict[Device, Object]]
    taken: set[Device] = field(default_factory=set)
    holders: dict[Device, frozenset[tuple[str, str]]] = field(default_factory=dict)

    def without(self, leaving: Collection[tuple[str, str]]) -> Supply:
        """As it is once these pods have ended."""
        gone = set(leaving)
        freed = {device for device, pods in self.holders.items() if pods and pods <= gone}
        return Supply(devices=self.devices, taken=self.taken - freed, holders=self.holders)

    def lacks(self, node: str, wanted: Sequence[Claimed]) -> tuple[str, ...]:
        """What claims would not get on a node, a phrase each."""
        taken = set(self.taken)
        found = []
        for claim in wanted:
            if not self._choose(node, claim, taken):
                first = claim.choices[0]
                fitting = self._matching(node, first)
                free = sum(device not in self.taken for device in fitting)
                found.append(
                    f"{free} of {len(fitting)} devices of class {first.device_class} free that the claim takes, "
                    f"{first.count} needed"
                    if fitting
                    else f"no device of class {first.device_class} that the claim takes"
                )
        return tuple(found)

    def take(self, node: str, wanted: Sequence[Claimed]) -> None:
        """Allocate."""
        for claim in wanted:
            self._choose(node, claim, self.taken)

    def _choose(self, node: str, claim: Claimed, taken: set[Device]) -> bool:
        for choice in claim.choices:
            free = [device for device in self._matching(node, choice) if device not in taken]
            if len(free) >= choice.count:
                taken.update(free[: choice.count])
                return True
        return False

    def _matching(self, node: str, choice: Choice) -> list[Device]:
        return [
            device
            for device, told in self.devices.get(node, {}).items()
            # classes choose by driver, and are named as their driver is (catalog/accelerators.toml), MIG's apart
            if _of_class(device[0], told, choice.device_class)
            and all(_holds(word, told) for word in choice.expressions)
        ]


def supply_of(slices: Iterable[Object], claims: Iterable[Object]) -> Supply:
    """The devices of a cluster.

    Args:
        slices: ResourceSlices.
        claims: ResourceClaims of every namespace.
    """
    newest: dict[tuple[str, str], int] = {}
    kept = tuple(slices)
    for one in kept:
        spec = part(one, "spec")
        pool = part(spec, "pool")
        key = (text(spec, "driver"), text(pool, "name"))
        newest[key] = max(newest.get(key, 0), whole(pool, "generation") or 0)
    devices: dict[str, dict[Device, Object]] = {}
    for one in kept:
        spec = part(one, "spec")
        driver, pool = text(spec, "driver"), part(spec, "pool")
        if (whole(pool, "generation") or 0) < newest[driver, text(pool, "name")]:
            continue  # of before the driver published anew
        for device in parts(spec, "devices"):
            node = text(spec, "nodeName") or text(device, "nodeName")
            told = part(device, "basic") or device  # v1beta1 keeps them in `basic`
            devices.setdefault(node, {})[driver, text(pool, "name"), text(device, "name")] = told
    taken: dict[Device, frozenset[tuple[str, str]]] = {}
    for claim in claims:
        metadata, status = part(claim, "metadata"), part(claim, "status")
        pods = frozenset(
            (text(metadata, "namespace"), text(user, "name"))
            for user in parts(status, "reservedFor")
            if text(user, "resource") == "pods"
        )
        for result in parts(part(part(status, "allocation"), "devices"), "results"):
            if result.get("adminAccess") is not True:
                taken[text(result, "driver"), text(result, "pool"), text(result, "device")] = pods
    return Supply(devices=devices, taken=set(taken), holders=taken)


def claimed_by(spec: Object, templates: Iterable[Object]) -> tuple[Claimed, ...]:
    """What a pod claims by the templates that it names; those of others are not known and left out."""
    by_name = {text(part(one, "metadata"), "name"): one for one in templates}
    found: list[Claimed] = []
    for claim in parts(spec, "resourceClaims"):
        template = by_name.get(text(claim, "resourceClaimTemplateName"), {})
        for request in parts(part(part(part(template, "spec"), "spec"), "devices"), "requests"):
            given = parts(request, "firstAvailable") or (part(request, "exactly") or request,)
            found.append(Claimed(choices=tuple(map(_choice, given))))
    return tuple(found)


def _choice(given: Object) -> Choice:
    expressions = (text(part(one, "cel"), "expression") for one in parts(given, "selectors"))
    return Choice(
        device_class=text(given, "deviceClassName"),
        count=whole(given, "count") or 1,
        expressions=tuple(expressions),
    )


def _of_class(driver: str, told: Object, name: str) -> bool:
    """Whether a class takes a device: NVIDIA's tell whole GPUs and MIG instances apart by the attribute `type`."""
    kind = text(part(part(told, "attributes"), "type"), "string")
    if name == "mig.nvidia.com":
        return driver == "gpu.nvidia.com" and kind == "mig"
    if name == "gpu.nvidia.com":
        return driver == name and kind in ("", "gpu")
    return driver == name


def _parsed(word: str) -> re.Match[str] | None:
    return _ONE_OF.fullmatch(word) or _IS.fullmatch(word) or _AT_LEAST.fullmatch(word)


def _holds(word: str, told: Object) -> bool:
    found = _parsed(word)
    if found is None:
        return False
    driver, name = found[1], found[2]
    if found.re is _AT_LEAST:
        size = _value(part(told, "capacity"), driver, name)
        have, least = milli(size.get("value")), milli(found[3])
        return have is not None and least is not None and have >= least
    value = text(_value(part(told, "attributes"), driver, name), "string")
    if found.re is _IS:
        return value == found[3]
    return value in [one.strip().strip('"') for one in found[3].split('", "')]


def _value(given: Object, driver: str, name: str) -> Object:
    """Of an attribute; names without a domain are the driver's own."""
    return part(given, name) or part(given, f"{driver}/{name}")
