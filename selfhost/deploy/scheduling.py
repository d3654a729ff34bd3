"""Why the scheduler would not put a pod on a node, whatever is free there: labels, taints, cordons, readiness; pure.

Follows the filters of kube-scheduler 1.37 (pkg/scheduler/framework/plugins: nodeaffinity, tainttoleration,
nodeunschedulable) and component-helpers/scheduling/corev1. Spreading is rendered as a wish (ScheduleAnyway), which
never keeps a pod from a node; what others demand of the pods beside theirs is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text, texts

_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_UNREADY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_HARD = ("NoSchedule", "NoExecute")


def obstacles(node: Object, spec: Object) -> tuple[str, ...]:
    """What keeps a pod from a node, a phrase each; empty where nothing does.

    Args:
        node: as the API server tells it.
        spec: of the pod.
    """
    return (*_state(node, spec), *_taints(node, spec), *_labels(node, spec))


def is_ready(node: Object) -> bool:
    """Whether the kubelet says that pods can run; a node that says nothing counts as ready, as for the scheduler."""
    for condition in parts(part(node, "status"), "conditions"):
        if text(condition, "type") == "Ready":
            return text(condition, "status") == "True"
    return True


def is_cordoned(node: Object) -> bool:
    """Whether somebody keeps new pods away from it."""
    return part(node, "spec").get("unschedulable") is True


def _state(node: Object, spec: Object) -> Iterator[str]:
    if is_cordoned(node) and not _tolerated({"key": _UNSCHEDULABLE, "effect": "NoSchedule"}, spec):
        yield "is cordoned"
    if not is_ready(node):
        yield "is not ready"


def _taints(node: Object, spec: Object) -> Iterator[str]:
    for taint in parts(part(node, "spec"), "taints"):
        key, effect = text(taint, "key"), text(taint, "effect")
        if effect not in _HARD or key == _UNSCHEDULABLE or _tolerated(taint, spec):
            continue
        if key in _UNREADY and not is_ready(node):
            continue  # said already
        value = text(taint, "value")
        yield f"has the taint {key}{f'={value}' if value else ''}:{effect}"


def _tolerated(taint: Object, spec: Object) -> bool:
    return any(_tolerates(one, taint) for one in parts(spec, "tolerations"))


def _tolerates(toleration: Object, taint: Object) -> bool:
    effect, key = text(toleration, "effect"), text(toleration, "key")
    if effect and effect != text(taint, "effect"):
        return False
    if key and key != text(taint, "key"):
        return False
    if (text(toleration, "operator") or "Equal") == "Exists":
        return True
    return bool(key) and text(toleration, "value") == text(taint, "value")


def _labels(node: Object, spec: Object) -> Iterator[str]:
    labels = texts(part(node, "metadata"), "labels")
    for key, wanted in texts(spec, "nodeSelector").items():
        if labels.get(key) != wanted:
            yield _differs(key, labels, wanted)
    required = part(
        part(part(spec, "affinity"), "nodeAffinity"), "requiredDuringSchedulingIgnoredDuringExecution"
    )
    terms = parts(required, "nodeSelectorTerms")
    if not required:
        return
    tried = [tuple(_term(term, labels, text(part(node, "metadata"), "name"))) for term in terms]
    usable = [
        found for found, term in zip(tried, terms, strict=True) if term
    ]  # an empty term matches nothing
    if not usable:
        yield "is asked for by no label at all"
    elif all(usable):
        yield min(usable, key=len)[0]


def _term(term: Object, labels: dict[str, str], name: str) -> Iterator[str]:
    for rule in parts(term, "matchExpressions"):
        if not _matches(rule, labels):
            yield _told(rule, labels)
    for rule in parts(term, "matchFields"):
        if not _matches(rule, {"metadata.name": name}):
            yield "is not named"


def _matches(rule: Object, labels: dict[str, str]) -> bool:
    key, values = text(rule, "key"), _values(rule)
    value = labels.get(key)
    match text(rule, "operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            if value is None or not _whole(value) or len(values) != 1 or not _whole(values[0]):
                return False
            return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    return False


def _whole(value: str) -> bool:
    return value.removeprefix("-").isdecimal() and len(value) < 20


def _values(rule: Object) -> tuple[str, ...]:
    values = rule.get("values")
    return tuple(str(value) for value in values) if isinstance(values, list) else ()


def _told(rule: Object, labels: dict[str, str]) -> str:
    key, operator = text(rule, "key"), text(rule, "operator")
    if operator == "In":
        return _differs(key, labels, " or ".join(_values(rule)))
    return f"has {key}={labels[key]}" if key in labels else f"has no label {key}"


def _differs(key: str, labels: dict[str, str], wanted: str) -> str:
    if key not in labels:
        return f"has no label {key} ({wanted} is wanted)"
    return f"has {key}={labels[key]} ({wanted} is wanted)"
