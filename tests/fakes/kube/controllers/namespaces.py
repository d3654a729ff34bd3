"""Namespaces: what every new one has, and the end of one with all that is in it."""

from __future__ import annotations

from tests.fakes.kube.controllers.tools import Tools
from tests.fakes.kube.wire import Object, RefusalError, at, deleting, namespace_of


def sync(tools: Tools, _: str, name: str) -> float | None:
    """One step."""
    item = tools.find("Namespace", "", name)
    if item is None:
        return None
    if not deleting(item):
        fill(tools, name)
        return None
    left = [one for one in tools.store.everything() if namespace_of(one) == name]
    for one in left:
        if not deleting(one):
            tools.delete(one)
    if any(namespace_of(one) == name and one["kind"] != "Event" for one in tools.store.everything()):
        return None
    for one in [one for one in tools.store.everything() if namespace_of(one) == name]:
        tools.delete(one)
    spec = {key: value for key, value in (item.get("spec") or {}).items() if key != "finalizers"}
    tools.verbs.finish(tools.kind("Namespace"), item | {"spec": spec})
    return None


def fill(tools: Tools, name: str) -> None:
    """What every namespace has, where it lacks it."""
    made: list[Object] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": name},
         "data": {"ca.crt": "-----BEGIN CERTIFICATE-----\n"}},
    ]  # fmt: skip
    for one in made:
        if tools.find(one["kind"], name, at(one, "metadata", "name")) is None:
            try:
                tools.create(one)
            except RefusalError as refusal:
                if refusal.code not in (403, 404, 409):
                    raise
