"""What a Kubernetes API server answers with when it refuses, and small readers of objects that several parts need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar, cast

Object = dict[str, Any]
Path = tuple[str, ...]
Some = TypeVar("Some")


class RefusalError(Exception):
    """An answer of 400 and above: the body is a Status object."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Object | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.details, self.headers = details, dict(headers or {})

    def body(self) -> Object:
        said: Object = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
        }  # fmt: skip
        said |= {"reason": self.reason} if self.reason else {}
        said |= {"details": self.details} if self.details is not None else {}
        return said | {"code": self.code}


def clone(value: Some) -> Some:
    """A copy of JSON, as copy.deepcopy makes one, without its bookkeeping of what JSON never has."""
    copied: Any = value
    if isinstance(value, dict):
        copied = {name: clone(one) if isinstance(one, (dict, list)) else one for name, one in value.items()}
    elif isinstance(value, list):
        copied = [clone(one) if isinstance(one, (dict, list)) else one for one in value]
    return cast("Some", copied)


def success(details: Object) -> Object:
    """The Status object of what is done."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def invalid(kind: str, group: str, name: str, causes: Iterable[tuple[str, str, str]]) -> RefusalError:
    """422: (field, reason, message) for each cause, worded as apimachinery does (pkg/api/errors, NewInvalid)."""
    found = list(dict.fromkeys(causes))
    said = [f"{field}: {message}" for field, _, message in found]
    words = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    details: Object = {"name": name} if name else {}
    details |= {"group": group} if group else {}
    details |= {
        "kind": kind,
        "causes": [
            {"reason": reason, "message": message, "field": field} for field, reason, message in found
        ],
    }
    return RefusalError(
        422,
        "Invalid",
        f'{f"{kind}.{group}" if group else kind} "{name}" is invalid: {words}',
        details=details,
    )


def go(value: Any) -> str:
    """A value as field.Invalid prints it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def now() -> str:
    """The time as metav1.Time."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_now() -> str:
    """The time as metav1.MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str | None) -> float:
    """Unix time of a metav1.Time, 0 of none."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


_SUFFIXES = {
    "m": Decimal("0.001"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50),
}  # fmt: skip


def quantity(value: Any) -> Decimal:
    """A resource.Quantity as a number."""
    text = str(value).strip()
    head = text.rstrip("".join({letter for suffix in _SUFFIXES for letter in suffix}))
    suffix = text[len(head) :]
    if head.endswith(("e", "E")):  # 1e3
        return Decimal(text)
    return Decimal(head) * _SUFFIXES[suffix]


def quantity_text(value: Decimal, like: str = "") -> str:
    """A number as a quantity: with the suffix of another where it divides, else plain or in thousandths."""
    head = like.rstrip("".join({letter for suffix in _SUFFIXES for letter in suffix}))
    suffix = like[len(head) :]
    unit = _SUFFIXES.get(suffix, Decimal(1))
    if value and value % unit == 0 and unit >= 1:
        return f"{int(value / unit)}{suffix}"
    if value == value.to_integral_value():
        return str(int(value))
    return f"{int(value * 1000)}m"


def at(item: Any, *path: str) -> Any:
    """What is at a path of mappings, None where there is nothing."""
    for name in path:
        if not isinstance(item, dict):
            return None
        item = item.get(name)
    return item


def labels_of(item: Object) -> dict[str, str]:
    """An object's labels."""
    return at(item, "metadata", "labels") or {}


def name_of(item: Object) -> str:
    """An object's name."""
    return str(at(item, "metadata", "name") or "")


def namespace_of(item: Object) -> str:
    """An object's namespace, empty where it has none."""
    return str(at(item, "metadata", "namespace") or "")


def uid_of(item: Object) -> str:
    """An object's UID."""
    return str(at(item, "metadata", "uid") or "")


def deleting(item: Object) -> bool:
    """Whether an object is on its way out."""
    return bool(at(item, "metadata", "deletionTimestamp"))


def owners_of(item: Object) -> list[Object]:
    """Whom it belongs to."""
    return at(item, "metadata", "ownerReferences") or []


def controller_of(item: Object) -> Object | None:
    """The owner that manages it."""
    return next((one for one in owners_of(item) if one.get("controller")), None)


def condition(item: Object, kind: str) -> Object | None:
    """A condition of its status."""
    found: list[Object] = at(item, "status", "conditions") or []
    return next((one for one in found if one.get("type") == kind), None)


def holds(item: Object, kind: str) -> bool:
    """Whether a condition is True."""
    found = condition(item, kind)
    return found is not None and found.get("status") == "True"


def pod_specs(item: Object) -> Iterator[tuple[str, Object]]:
    """Where an object holds pod specs: (path, spec)."""
    kind = item.get("kind")
    if kind == "Pod":
        yield "spec", item.get("spec") or {}
    elif kind == "CronJob":
        yield (
            "spec.jobTemplate.spec.template.spec",
            at(item, "spec", "jobTemplate", "spec", "template", "spec") or {},
        )
    elif kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"):
        yield "spec.template.spec", at(item, "spec", "template", "spec") or {}
