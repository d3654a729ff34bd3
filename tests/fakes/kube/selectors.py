"""Label and field selectors, in their written form and in that of objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.kube.wire import Object, RefusalError, at, labels_of, name_of, namespace_of

Test = Callable[[Object], bool]
_TERM = re.compile(
    r"\s*(?:(?P<not>!)\s*(?P<absent>[^\s,!=()]+)"
    r"|(?P<key>[^\s,!=()]+)\s*(?:(?P<op>==|=|!=)\s*(?P<value>[^\s,()]*)"
    r"|\s(?P<set>in|notin)\s*\((?P<values>[^)]*)\))?)\s*(?:,|$)"
)
# What a list of a kind may be chosen by besides its name and namespace (pkg/apis/*/v1/conversion.go).
_FIELDS = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase",
             "status.podIP", "status.podIPs", "status.nominatedNodeName", "spec.hostNetwork"),
    "events": ("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
               "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
               "reportingComponent", "source", "type"),
    "nodes": ("spec.unschedulable",), "namespaces": ("status.phase",), "secrets": ("type",),
    "jobs": ("status.successful",), "replicasets": ("status.replicas",),
}  # fmt: skip


def labels(text: str) -> Test:
    """A label selector.

    Raises:
        RefusalError: not one.
    """
    tests: list[Test] = []
    place = 0
    while place < len(text):
        found = _TERM.match(text, place)
        if found is None:
            word = text[place:].split()[1] if len(text[place:].split()) > 1 else text
            raise RefusalError(
                400, "BadRequest",
                f"unable to parse requirement: found '{word}', expected: in, notin, =, ==, !=, gt, lt",
            )  # fmt: skip
        tests.append(_label_test(found))
        place = found.end()
    return lambda item: all(test(item) for test in tests)


def _label_test(found: re.Match[str]) -> Test:
    key, op, value = found["key"], found["op"], found["value"]
    if found["absent"]:
        absent = found["absent"]
        return lambda item: absent not in labels_of(item)
    if found["set"]:
        values = {one.strip() for one in found["values"].split(",")}
        if found["set"] == "in":
            return lambda item: labels_of(item).get(key) in values
        return lambda item: labels_of(item).get(key) not in values
    if op is None:
        return lambda item: key in labels_of(item)
    if op == "!=":
        return lambda item: labels_of(item).get(key) != value
    return lambda item: labels_of(item).get(key) == value


def fields(text: str, plural: str) -> Test:
    """A field selector.

    Raises:
        RefusalError: of a field that this kind is not chosen by.
    """
    tests: list[Test] = []
    known = ("metadata.name", "metadata.namespace", *_FIELDS.get(plural, ()))
    for term in filter(None, text.split(",")):
        found = re.fullmatch(r"\s*([^\s=!]+)\s*(==|=|!=)\s*(.*?)\s*", term)
        if found is None:
            raise RefusalError(400, "BadRequest", f"invalid selector: '{text}'; can't understand '{term}'")
        path, op, value = found.groups()
        if path not in known:
            raise RefusalError(
                400, "BadRequest",
                f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
                if plural not in _FIELDS else f"field label not supported: {path}",
            )  # fmt: skip
        tests.append(_field_test(path, value, equal=op != "!="))
    return lambda item: all(test(item) for test in tests)


def _field_test(path: str, value: str, *, equal: bool) -> Test:
    def test(item: Object) -> bool:
        if path == "metadata.name":
            found: Any = name_of(item)
        elif path == "metadata.namespace":
            found = namespace_of(item)
        else:
            found = at(item, *path.split("."))
        text = "" if found is None else str(found).lower() if isinstance(found, bool) else str(found)
        if path == "spec.unschedulable" and not text:
            text = "false"
        return (text == value) is equal

    return test


def matches(selector: Mapping[str, Any] | None, found: Mapping[str, str]) -> bool:
    """Whether a LabelSelector of an object takes these labels; one that is absent takes none."""
    if selector is None:
        return False
    if any(found.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(expression(one, found) for one in selector.get("matchExpressions") or ())


def expression(one: Mapping[str, Any], found: Mapping[str, str]) -> bool:
    """One requirement of a LabelSelector or NodeSelector."""
    key, values = one["key"], list(one.get("values") or ())
    match one["operator"]:
        case "In":
            return found.get(key) in values
        case "NotIn":
            return found.get(key) not in values
        case "Exists":
            return key in found
        case "DoesNotExist":
            return key not in found
        case "Gt":
            return found.get(key, "").isdecimal() and int(found[key]) > int(values[0])
        case "Lt":
            return found.get(key, "").isdecimal() and int(found[key]) < int(values[0])
    return False
