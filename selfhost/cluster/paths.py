"""Addresses of kinds and objects on an API server (Kubernetes API concepts, 1.37)."""

from __future__ import annotations

from urllib.parse import quote

from selfhost.cluster.kinds import kind_of
from selfhost.cluster.types import Kind, Ref


def root_of(api_version: str) -> str:
    """Where an API version is served."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def collection_path(kind: Kind, namespace: str = "") -> str:
    """Where the objects of a kind are; in every namespace where none is named."""
    place = f"/namespaces/{quote(namespace, safe='')}" if namespace and kind.namespaced else ""
    return f"{root_of(kind.api_version)}{place}/{kind.plural}"


def path_of(ref: Ref) -> str:
    """Where an object is."""
    return f"{collection_path(kind_of(ref.api_version, ref.kind), ref.namespace)}/{quote(ref.name, safe='')}"
