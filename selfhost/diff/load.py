"""A side of the comparison: a plan.json, a folder of a rendering, or a stream of objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from selfhost.diff import files
from selfhost.errors import SelfhostError, UsageError
from selfhost.lint.files import Text, gather
from selfhost.lint.nodes import Map, Seq, Value
from selfhost.lint.read import read
from selfhost.plan import SCHEMA, Plan, from_json

_KUSTOMIZATION = "Kustomization"
_CARRIED = "selfhost/plan"

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side.

    Args:
        name: as given.
        plan: the plan, where there is one.
        objects: Kubernetes objects by kind, namespace and name, and other files by theirs; empty for a plan alone.
        made: names of ConfigMaps that kustomize makes of files, and that are no objects here.
    """

    name: str
    plan: Plan | None
    objects: dict[Key, dict[str, Plain]]
    made: frozenset[str] = frozenset()


def load(name: str, stdin: BinaryIO | None) -> Side:
    """Read a side.

    Args:
        name: a file, a folder, or `-`.
        stdin: what `-` reads.

    Raises:
        SelfhostError: it cannot be read, or holds neither a plan nor objects.
    """
    if name != "-" and not Path(name).exists():
        raise UsageError(
            f"There is no {name}.", hint="Name a plan.json, a folder of `selfhost render`, or - for one."
        )
    texts, unread = gather((name,), stdin)
    if unread:
        raise SelfhostError(f"{unread[0].file}:{unread[0].line}: {unread[0].message}")
    plan: Plan | None = None
    objects: dict[Key, dict[str, Plain]] = {}
    for text in texts:
        if _of_a_chart(
            Path(text.name)
        ):  # its templates are no objects yet, its own values the same for every plan
            continue
        found = _plan(text)
        if found is not None:
            plan = found
        else:
            objects |= _objects(text)
    for unit_name, content in files.units(Path(name)).items():
        objects[(files.UNIT, "", unit_name)] = files.unit(content)
    made = frozenset(one for value in objects.values() for one in _made(value))
    objects = {key: value for key, value in objects.items() if not _is_aside(value)}
    carried = [value for value in map(_carried, objects.values()) if value is not None]
    if carried:  # what runs: a rendering may have put the weights elsewhere than the plan beside it says
        plan = from_json(carried[0])
    if plan is None and not objects:
        raise UsageError(
            f"{name} holds neither a plan nor a Kubernetes object.", hint="Name a plan.json or a rendering."
        )
    return Side(name=name, plan=plan, objects=objects, made=made)


def _of_a_chart(path: Path) -> bool:
    return any((folder / "Chart.yaml").is_file() for folder in path.parents)


def _plan(text: Text) -> Plan | None:
    """The plan that a file is, None where it is none."""
    if not text.content.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text.content)
    except ValueError:
        return None
    if isinstance(found, dict) and str(found.get("schema", "")).startswith(SCHEMA.rpartition("/")[0]):
        return from_json(text.content)
    return None


def _objects(text: Text) -> dict[Key, dict[str, Plain]]:
    documents, unread = read(text.name, text.content)
    if unread:
        raise SelfhostError(f"{unread[0].file}:{unread[0].line}: {unread[0].message}")
    found: dict[Key, dict[str, Plain]] = {}
    kind = files.kind_of(text.name)
    for document in documents:
        for one in _each(plain(document.body)):
            if kind is not None and "apiVersion" not in one:
                found[(kind, "", Path(text.name).name)] = one
            else:
                found |= _keyed(one)
    return found


def _made(value: dict[str, Plain]) -> list[str]:
    """Names of the ConfigMaps that a kustomization makes of files."""
    generators = value.get("configMapGenerator") if value.get("kind") == _KUSTOMIZATION else None
    found = generators if isinstance(generators, list) else []
    return [str(one.get("name")) for one in found if isinstance(one, dict)]


def _is_aside(value: dict[str, Plain]) -> bool:
    """Whether it is a kustomization, or what Helm makes for a test and takes away."""
    metadata = value.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    hook = isinstance(annotations, dict) and "helm.sh/hook" in annotations
    return hook or value.get("kind") == _KUSTOMIZATION


def _each(value: Plain) -> list[dict[str, Plain]]:
    """The objects of a document, which may be a List."""
    if not isinstance(value, dict):
        return []
    if value.get("kind") == "List" and isinstance(value.get("items"), list):
        return [one for item in value["items"] for one in _each(item)]  # type: ignore[union-attr]
    return [value]


def _keyed(value: dict[str, Plain]) -> dict[Key, dict[str, Plain]]:
    metadata = value.get("metadata")
    if value.get("kind") == _KUSTOMIZATION:
        return {(_KUSTOMIZATION, "", ""): value}
    if not isinstance(metadata, dict) or "apiVersion" not in value:
        return {}
    name, namespace = metadata.get("name"), metadata.get("namespace")
    return {(str(value.get("kind")), str(namespace or ""), str(name or "")): value}


def _carried(value: dict[str, Plain]) -> str | None:
    metadata = value.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    carried = annotations.get(_CARRIED) if isinstance(annotations, dict) else None
    return carried if isinstance(carried, str) else None


def plain(value: Value) -> Plain:
    """Values without their places."""
    if isinstance(value, Map):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Seq):
        return [plain(item) for item in value]
    return value
