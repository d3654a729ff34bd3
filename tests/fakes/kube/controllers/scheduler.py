"""A pod's node, or why there is none, in the words of kube-scheduler 1.36."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from tests.fakes.kube import selectors
from tests.fakes.kube.controllers.claims import SELECTED_NODE, used_by
from tests.fakes.kube.controllers.tools import Tools, set_condition
from tests.fakes.kube.quotas import pod_usage
from tests.fakes.kube.verbs import bind
from tests.fakes.kube.wire import (
    Object,
    at,
    deleting,
    labels_of,
    name_of,
    namespace_of,
    now,
    quantity,
    uid_of,
)

_COMPONENT = "default-scheduler"
_TAINTED = "node(s) had untolerated taint(s)"
_UNHELPFUL, _NO_VICTIMS = (
    "Preemption is not helpful for scheduling",
    "No preemption victims found for incoming pod",
)


def sync(tools: Tools, namespace: str, name: str) -> float | None:
    """Find a node for a pod, or say why there is none."""
    pod = tools.find("Pod", namespace, name)
    if pod is None or deleting(pod) or at(pod, "spec", "nodeName"):
        return None
    if at(pod, "spec", "schedulerName") != _COMPONENT or at(pod, "spec", "schedulingGates"):
        return None
    nodes = tools.all("Node")
    if not nodes:
        _unschedulable(tools, pod, "no nodes available to schedule pods")
        return None
    claims, trouble = _claims(tools, pod)
    if trouble:
        # what follows is what preemption says of it: there is no status to look at
        _unschedulable(tools, pod, f"0/{len(nodes)} nodes are available: {trouble}. not found")
        return None
    waits = [one for one in claims if at(one, "status", "phase") != "Bound"]
    reasons: Counter[str] = Counter()
    hopeless = 0
    fitting = []
    for node in nodes:
        said, final = _refusals(tools, pod, node, claims)
        reasons.update(said)
        hopeless += bool(said) and final
        if not said:
            fitting.append(node)
    if not fitting:
        listed = ", ".join(sorted(f"{count} {text}" for text, count in reasons.items()))
        victims = Counter({_UNHELPFUL: hopeless, _NO_VICTIMS: len(nodes) - hopeless})
        _unschedulable(
            tools, pod, f"0/{len(nodes)} nodes are available: {listed}. {_preemption(len(nodes), victims)}"
        )
        return None
    node = min(fitting, key=lambda one: (_load(tools, one), name_of(one)))
    if waits:
        for claim in waits:
            if SELECTED_NODE not in (at(claim, "metadata", "annotations") or {}):
                tools.change(
                    claim, {"metadata": {"annotations": {SELECTED_NODE: name_of(node)}}}, "kube-scheduler"
                )
        return None  # the claim's binding brings the pod back here
    _bind(tools, pod, node)
    return None


def _preemption(count: int, reasons: Counter[str]) -> str:
    listed = ", ".join(sorted(f"{number} {text}" for text, number in reasons.items() if number))
    return f"no new claims to deallocate, preemption: 0/{count} nodes are available: {listed}."


def _bind(tools: Tools, pod: Object, node: Object) -> None:
    bind(tools.verbs, pod, name_of(node))
    tools.event(
        pod, "Normal", "Scheduled",
        f"Successfully assigned {namespace_of(pod)}/{name_of(pod)} to {name_of(node)}", _COMPONENT,
    )  # fmt: skip


def _unschedulable(tools: Tools, pod: Object, message: str) -> None:
    old = next((one for one in at(pod, "status", "conditions") or () if one["type"] == "PodScheduled"), None)
    if old is not None and old.get("message") == message:
        return
    conditions = set_condition(
        list(at(pod, "status", "conditions") or ()),
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
         "lastProbeTime": None, "lastTransitionTime": now(),
         "observedGeneration": at(pod, "metadata", "generation")},
    )  # fmt: skip
    tools.status(pod, (at(pod, "status") or {}) | {"conditions": conditions}, "kube-scheduler")
    tools.event(pod, "Warning", "FailedScheduling", message, _COMPONENT)


def _claims(tools: Tools, pod: Object) -> tuple[list[Object], str]:
    """Claims of a pod, and what is wrong with them wherever it goes."""
    found = []
    for name in used_by(pod):
        claim = tools.find("PersistentVolumeClaim", namespace_of(pod), name)
        if claim is None:
            return [], f'persistentvolumeclaim "{name}" not found'
        if deleting(claim):
            return [], f'persistentvolumeclaim "{name}" is being deleted'
        if at(claim, "status", "phase") != "Bound":
            kind = tools.find("StorageClass", "", str(at(claim, "spec", "storageClassName") or ""))
            if kind is None or kind.get("volumeBindingMode") != "WaitForFirstConsumer":
                return [], "pod has unbound immediate PersistentVolumeClaims"
        found.append(claim)
    return found, ""


def _of_its_state(node: Object) -> list[Object]:
    """What the node lifecycle controller makes of a node's conditions (controller/nodelifecycle, 1.36)."""
    keys = {"False": "node.kubernetes.io/not-ready", "Unknown": "node.kubernetes.io/unreachable"}
    ready = next((one for one in at(node, "status", "conditions") or () if one["type"] == "Ready"), None)
    key = keys.get(ready["status"]) if ready is not None else None
    return [] if key is None else [{"key": key, "effect": "NoSchedule"}]


def _refusals(tools: Tools, pod: Object, node: Object, claims: list[Object]) -> tuple[list[str], bool]:
    """Why a node does not take a pod: the first filter's reasons; whether no pod that goes could help."""
    spec = pod["spec"]
    taints = [*(at(node, "spec", "taints") or []), *_of_its_state(node)]
    cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if at(node, "spec", "unschedulable") and not _tolerated(cordon, spec):
        return ["node(s) were unschedulable"], True
    for taint in taints:
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerated(taint, spec):
            return [_TAINTED], True
    if not _chosen(spec, node):
        return ["node(s) didn't match Pod's node affinity/selector"], True
    short = _short(tools, pod, node)
    if short:
        return [text for text, _ in short], all(final for _, final in short)
    for claim in claims:
        volume = tools.find("PersistentVolume", "", str(at(claim, "spec", "volumeName") or ""))
        terms = (
            at(volume, "spec", "nodeAffinity", "required", "nodeSelectorTerms")
            if volume is not None
            else None
        )
        if terms and not _any_term(terms, node):
            return ["node(s) didn't match PersistentVolume's node affinity"], True
    if not _apart(tools, pod, node):
        return ["node(s) didn't match pod anti-affinity rules"], False
    return [], False


def _tolerated(taint: Object, spec: Object) -> bool:
    return any(
        one.get("effect") in (None, "", taint["effect"])
        and (
            (one.get("operator") == "Exists" and one.get("key") in (None, "", taint["key"]))
            or (one.get("key") == taint["key"] and (one.get("value") or "") == (taint.get("value") or "")
                and one.get("operator", "Equal") == "Equal")
        )
        for one in spec.get("tolerations") or ()
    )  # fmt: skip


def _chosen(spec: Object, node: Object) -> bool:
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    needed = at(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    return needed is None or _any_term(needed.get("nodeSelectorTerms") or [], node)


def _any_term(terms: list[Any], node: Object) -> bool:
    named = {"metadata.name": name_of(node)}
    return any(
        all(selectors.expression(one, labels_of(node)) for one in term.get("matchExpressions") or ())
        and all(selectors.expression(one, named) for one in term.get("matchFields") or ())
        and (term.get("matchExpressions") or term.get("matchFields"))
        for term in terms
    )


def _apart(tools: Tools, pod: Object, node: Object) -> bool:
    """Required anti-affinity by host."""
    terms = at(pod, "spec", "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    others = [
        one for one in tools.all("Pod", namespace_of(pod)) if at(one, "spec", "nodeName") == name_of(node)
    ]
    return not any(
        selectors.matches(term.get("labelSelector"), labels_of(other))
        for term in terms or ()
        for other in others
    )


def _place(tools: Tools, pod: Object) -> str:
    """A pod's node, or the one that is kept for it while its volume is made there."""
    node = at(pod, "spec", "nodeName")
    if node:
        return str(node)
    for name in used_by(pod):
        claim = tools.find("PersistentVolumeClaim", namespace_of(pod), name)
        if claim is not None and at(claim, "status", "phase") != "Bound":
            chosen = at(claim, "metadata", "annotations", SELECTED_NODE)
            if chosen:
                return str(chosen)
    return ""


def _asked(tools: Tools, pod: Object) -> dict[str, Decimal]:
    """What a pod asks for, which never changes."""
    if uid_of(pod) not in tools.asked:
        tools.asked[uid_of(pod)] = {
            name.removeprefix("requests."): value
            for name, value in pod_usage(pod["spec"]).items()
            if name.startswith("requests.") and value
        }
    return tools.asked[uid_of(pod)]


def _taken(tools: Tools, node: Object, but: Object | None = None) -> dict[str, Decimal]:
    """What pods on a node ask for; those that are over ask for nothing, and one is left out."""
    sums: Counter[str] = Counter()
    found: dict[str, Decimal] = {}
    for one in tools.all("Pod"):
        if (
            at(one, "status", "phase") in ("Succeeded", "Failed")
            or one is but
            or _place(tools, one) != name_of(node)
        ):
            continue
        sums["pods"] += 1
        for key, value in _asked(tools, one).items():
            found[key] = found.get(key, Decimal(0)) + value
    return found | {"pods": Decimal(sums["pods"])}


def _short(tools: Tools, pod: Object, node: Object) -> list[tuple[str, bool]]:
    """What a node has too little of, and whether it never has enough."""
    has: Any = at(node, "status", "allocatable") or at(node, "status", "capacity") or {}
    taken = _taken(tools, node, pod)
    needed = _asked(tools, pod)
    found = []
    if taken["pods"] + 1 > quantity(has.get("pods", 110)):
        found.append(("Too many pods", False))
    for name, value in needed.items():
        total = quantity(has.get(name, 0))
        if taken.get(name, Decimal(0)) + value > total:
            found.append((f"Insufficient {name}", value > total))
    return found


def _load(tools: Tools, node: Object) -> Decimal:
    """How full a node is, by processors and memory."""
    has: Any = at(node, "status", "allocatable") or {}
    taken = _taken(tools, node)
    return sum(
        (
            taken.get(name, Decimal(0)) / max(quantity(has.get(name, 1)), Decimal(1))
            for name in ("cpu", "memory")
        ),
        Decimal(0),
    )
