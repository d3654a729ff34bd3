"""What is wrong with an object for a release of Kubernetes: its own kinds by its schemas, others by their definitions.

Strictly: a field nobody defined, a kind nobody knows and a name that is in a list twice are problems too. Validators
are compiled once (jsonschema-rs), so that one object against one release takes less than a millisecond.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate

from tests import crds

VERSIONS = tuple(f"1.{minor}" for minor in range(29, 38))
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
# Lists of a pod that server-side apply merges by a key, which then has to be there once.
_KEYS = {
    "containers": ("name",), "initContainers": ("name",), "env": ("name",), "volumes": ("name",),
    "volumeMounts": ("mountPath",), "ports": ("containerPort", "port", "protocol"),
}  # fmt: skip


@cache
def _registry(version: str) -> jsonschema_rs.Registry:
    """The definitions of a release."""
    text = (SCHEMAS / f"v{version}.0-local-strict" / "_definitions.json").read_text(encoding="utf-8")
    return jsonschema_rs.Registry([("/api/_definitions.json", json.loads(text))])


@cache
def validator(version: str, api_version: str, kind: str) -> jsonschema_rs.Draft202012Validator | None:
    """kubernetes-validate's strict schema of a kind of Kubernetes' own, None where the release has no such kind."""
    group, _, number = api_version.rpartition("/")
    suffix = f"{group.removesuffix('.k8s.io').removesuffix('.authorization')}-{number}" if group else number
    path = SCHEMAS / f"v{version}.0-local-strict" / f"{kind.lower()}-{suffix}.json"
    if not path.is_file():
        return None
    schema = json.loads(path.read_text(encoding="utf-8"))
    named = {"group": group, "kind": kind, "version": number}
    if named not in schema.get("x-kubernetes-group-version-kind", ()):
        return None
    return jsonschema_rs.Draft202012Validator(schema, registry=_registry(version))


def problems(document: Mapping[str, Any], version: str = "1.37") -> list[str]:
    """What a release of Kubernetes, with the custom resources of tests/schemas/, has against an object.

    Args:
        document: any object.
        version: a release of Kubernetes, as 1.37.
    """
    kind, api_version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(api_version, str):
        return ["kind or apiVersion is missing"]
    said = crds.problems(document)
    if said is None:
        core = validator(version, api_version, kind)
        if core is None:
            return [
                f"{api_version} {kind}: no such kind in Kubernetes {version}, nor a definition in tests/schemas"
            ]
        said = [f"{'.'.join(map(str, e.instance_path))}: {e.message}" for e in core.iter_errors(document)]
        metadata = document.get("metadata")
        if not isinstance(metadata, Mapping) or not metadata.get("name"):
            said.append("metadata.name is missing")
    return [f"{kind}: {text}" for text in [*said, *_twice(document)]]


def _twice(value: Any, path: str = "") -> Iterable[str]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _twice(item, f"{path}[{number}]")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name in _KEYS and isinstance(item, list) and all(isinstance(part, Mapping) for part in item):
                keys = [tuple(part.get(key) for key in _KEYS[name]) for part in item]
                yield from (
                    f"{path}.{name}: {key} is there twice" for key in set(keys) if keys.count(key) > 1
                )
            yield from _twice(item, f"{path}.{name}" if path else name)
