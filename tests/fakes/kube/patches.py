"""Patches that are no apply: RFC 7386, RFC 6902, and the strategic merge of Kubernetes."""

from __future__ import annotations

from typing import Any

from tests.fakes.kube.fieldsets import element
from tests.fakes.kube.kinds import Kind, Shape, shape_of
from tests.fakes.kube.wire import Object, RefusalError, clone


def patched(kind: Kind, live: Object, change: Any, form: str) -> Object:
    """An object with a patch applied.

    Raises:
        RefusalError: no such form, or the patch does not fit.
    """
    if form == "application/merge-patch+json":
        result: Object = merge_patch(clone(live), change)
        return result
    if form == "application/json-patch+json":
        found: Object = _json_patch(clone(live), change)
        return found
    if form == "application/strategic-merge-patch+json":
        made: Object = _strategic(clone(live), change, shape_of(kind))
        return made
    raise RefusalError(
        415, "UnsupportedMediaType", "415: Unsupported Media Type", details={}
    )  # fmt: skip


def merge_patch(target: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def _strategic(target: Any, change: Any, shape: Shape) -> Any:
    """Maps merge, lists with keys merge by them, `$patch: delete` takes an item away; other lists are replaced."""
    if isinstance(change, dict) and shape.form in ("struct", "unknown", "atomic"):
        result = dict(target) if isinstance(target, dict) else {}
        for name, value in change.items():
            if name.startswith("$"):
                continue
            if value is None:
                result.pop(name, None)
            else:
                result[name] = _strategic(result.get(name), value, shape.field(name) or shape)
        return result
    if isinstance(change, list) and shape.form == "keyed" and isinstance(target, list):
        gone = {element(one, shape) for one in change if one.get("$patch") == "delete"}
        wanted = [one for one in change if one.get("$patch") != "delete"]
        left = [one for one in target if element(one, shape) not in gone]
        old = {element(one, shape): one for one in left}
        laid = {
            element(one, shape): _strategic(old.get(element(one, shape)), one, shape.item()) for one in wanted
        }
        return _ordered(list(old), old, laid)
    return change


def _ordered(order: list[str], old: dict[str, Any], laid: dict[str, Any]) -> list[Any]:
    """What the patch names first, unless what only the live list has stood in front of it (mergeSortedSlice)."""
    left, right = [key for key in order if key not in laid], list(laid)
    result = []
    while left or right:
        if not right or (left and right[0] in old and order.index(left[0]) < order.index(right[0])):
            result.append(old[left.pop(0)])
        else:
            result.append(laid[right.pop(0)])
    return result


def _json_patch(target: Any, change: Any) -> Any:
    for one in change:
        path = [part.replace("~1", "/").replace("~0", "~") for part in one["path"].split("/")[1:]]
        target = _operate(target, path, one)
    return target


def _operate(target: Any, path: list[str], one: Object) -> Any:
    if not path:
        return one.get("value")
    place = target
    try:
        for part in path[:-1]:
            place = place[int(part)] if isinstance(place, list) else place[part]
        last: Any = path[-1]
        if isinstance(place, list):
            last = len(place) if last == "-" else int(last)
        match one["op"]:
            case "add" if isinstance(place, list):
                place.insert(last, one["value"])
            case "add":
                place[last] = one["value"]
            case "replace":
                place[last]  # it has to be there
                place[last] = one["value"]
            case "remove":
                del place[last]
            case "test":
                if place[last] != one["value"]:
                    raise RefusalError(
                        422, "Invalid", "the server rejected our request due to an error in our request"
                    )
    except (KeyError, IndexError, TypeError, ValueError):
        raise RefusalError(
            422, "Invalid", "the server rejected our request due to an error in our request"
        ) from None
    return target
