"""What the server says of itself: version, health, and which kinds it serves."""

from __future__ import annotations

from tests.fakes.kube.kinds import Kind
from tests.fakes.kube.store import Store
from tests.fakes.kube.wire import Object

_HEALTH = ("/healthz", "/readyz", "/livez")


def answer(store: Store, path: str, minor: int) -> Object | str | None:
    """The answer to a question about the server, None of any other address."""
    path = path.rstrip("/")
    if path in _HEALTH:
        return "ok"
    if path == "/version":
        return {
            "major": "1", "minor": str(minor), "gitVersion": f"v1.{minor}.0", "gitCommit": "0" * 40,
            "gitTreeState": "clean", "buildDate": "2026-04-22T00:00:00Z", "goVersion": "go1.26.2", "compiler": "gc",
            "platform": "linux/amd64",
        }  # fmt: skip
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    groups = _groups(store)
    if path == "/apis":
        listed = [_group(name, versions) for name, versions in groups.items() if name]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    words = path.strip("/").split("/")
    if words[0] == "apis" and len(words) == 2 and words[1] in groups:
        return {"kind": "APIGroup", "apiVersion": "v1"} | _group(words[1], groups[words[1]])
    group, version = ("", words[1]) if words[0] == "api" and len(words) == 2 else ("", "")
    if words[0] == "apis" and len(words) == 3:
        group, version = words[1], words[2]
    if not version or version not in groups.get(group, ()):
        return None
    found = [one for one in store.kinds if (one.group, one.version) == (group, version)]
    name = f"{group}/{version}" if group else version
    resources = [row for kind in found for row in _rows(kind)]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}


def _groups(store: Store) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind in store.kinds:
        versions = found.setdefault(kind.group, [])
        if kind.version not in versions:
            versions.append(kind.version)
    found.setdefault("authorization.k8s.io", ["v1"])
    return found


def _group(name: str, versions: list[str]) -> Object:
    listed = [{"groupVersion": f"{name}/{one}", "version": one} for one in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _rows(kind: Kind) -> list[Object]:
    row: Object = {
        "name": kind.plural, "singularName": kind.name.lower(), "namespaced": kind.namespaced, "kind": kind.name,
        "verbs": kind.verbs,
    }  # fmt: skip
    rows = [row]
    if kind.status:
        rows.append(
            row | {"name": f"{kind.plural}/status", "singularName": "", "verbs": ["get", "patch", "update"]}
        )
    if kind.scale:
        rows.append(
            row | {"name": f"{kind.plural}/scale", "singularName": "", "kind": "Scale", "group": "autoscaling",
                   "version": "v1", "verbs": ["get", "patch", "update"]}
        )  # fmt: skip
    if kind.name == "Pod":
        rows += [
            row | {"name": f"pods/{name}", "singularName": "", "verbs": ["create", "get"]}
            for name in ("log", "portforward", "binding", "eviction")
        ]
    return rows
