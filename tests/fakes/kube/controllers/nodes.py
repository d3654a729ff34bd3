"""Taints of nodes by their conditions (pkg/controller/nodelifecycle, 1.36); nobody is evicted here."""

from __future__ import annotations

from tests.fakes.kube.controllers.tools import Tools
from tests.fakes.kube.wire import Object, at, now

_PREFIX = "node.kubernetes.io/"
_PRESSURES = {
    "MemoryPressure": "memory-pressure",
    "DiskPressure": "disk-pressure",
    "PIDPressure": "pid-pressure",
    "NetworkUnavailable": "network-unavailable",
}


def sync(tools: Tools, _: str, name: str) -> float | None:
    """One step."""
    item = tools.find("Node", "", name)
    if item is None:
        return None
    states = {one["type"]: one.get("status") for one in at(item, "status", "conditions") or ()}
    wanted = {_PREFIX + taint for kind, taint in _PRESSURES.items() if states.get(kind) == "True"}
    if states.get("Ready") != "True":
        wanted.add(_PREFIX + ("unreachable" if states.get("Ready") == "Unknown" else "not-ready"))
    if at(item, "spec", "unschedulable"):
        wanted.add(_PREFIX + "unschedulable")
    known = {_PREFIX + one for one in (*_PRESSURES.values(), "unreachable", "not-ready", "unschedulable")}
    taints: list[Object] = at(item, "spec", "taints") or []
    kept = [
        one for one in taints
        if one["key"] not in known or one["effect"] != "NoSchedule" or one["key"] in wanted
    ]  # fmt: skip
    new = sorted(wanted - {one["key"] for one in kept})
    kept += [{"key": key, "effect": "NoSchedule", "timeAdded": now()} for key in new]
    if kept != taints:
        tools.change(item, {"spec": {"taints": kept or None}})
    return None
