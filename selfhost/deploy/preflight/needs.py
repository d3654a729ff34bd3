"""What the objects of a deployment rest on that is not among them: Secrets, classes, Gateways, claims; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text
from selfhost.deploy.types import Desired


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SecretUse:
    """A Secret that something refers to. `key`: an entry it has to have; `optional`: it may be absent."""

    name: str
    key: str = ""
    optional: bool = False
    tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Names by kind.

    Args:
        secrets: with the entries that are read.
        pull_secrets: names of registry credentials.
        claims: PersistentVolumeClaims that pods mount or that are made.
        own_claims: of them those that are made.
        priority_classes, runtime_classes: named by pods.
        ingress: IngressClasses that are named; an empty name is the cluster's default.
        gateways: namespace and name.
        devices: whether devices are claimed (DRA).
    """

    secrets: tuple[SecretUse, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    own_claims: tuple[Object, ...] = ()
    priority_classes: tuple[str, ...] = ()
    runtime_classes: tuple[str, ...] = ()
    ingress: tuple[str, ...] = ()
    gateways: tuple[tuple[str, str], ...] = ()
    devices: bool = False


@dataclass(kw_only=True)
class _Found:
    secrets: set[SecretUse] = field(default_factory=set)
    pull: set[str] = field(default_factory=set)
    claims: set[str] = field(default_factory=set)
    priority: set[str] = field(default_factory=set)
    runtime: set[str] = field(default_factory=set)


def needs_of(desired: Desired) -> Needs:
    """What a deployment rests on."""
    found = _Found()
    own: list[Object] = []
    made = {
        text(part(item, "metadata"), "name") for item in desired.objects if text(item, "kind") == "Secret"
    }
    ingress: set[str] = set()
    gateways: set[tuple[str, str]] = set()
    devices = False
    for item in desired.objects:
        kind = text(item, "kind")
        spec = part(item, "spec")
        _walk(spec, found)
        if kind == "PersistentVolumeClaim":
            own.append(item)
            found.claims.add(text(part(item, "metadata"), "name"))
        elif kind == "Ingress":
            ingress.add(text(spec, "ingressClassName"))
            for tls in parts(spec, "tls"):
                if text(tls, "secretName"):
                    found.secrets.add(SecretUse(name=text(tls, "secretName"), tls=True))
        elif kind == "HTTPRoute":
            for parent in parts(spec, "parentRefs"):
                if (text(parent, "kind") or "Gateway") == "Gateway":
                    place = text(parent, "namespace") or desired.namespace
                    gateways.add((place, text(parent, "name")))
        elif kind == "ResourceClaimTemplate":
            devices = True
    return Needs(
        secrets=tuple(sorted(use for use in found.secrets if use.name not in made)),
        pull_secrets=tuple(sorted(found.pull - made)),
        claims=tuple(sorted(found.claims)),
        own_claims=tuple(own),
        priority_classes=tuple(sorted(found.priority)),
        runtime_classes=tuple(sorted(found.runtime)),
        ingress=tuple(sorted(ingress)),
        gateways=tuple(sorted(gateways)),
        devices=devices,
    )


def pod_specs(value: Any) -> Iterator[Object]:
    """Every pod spec in an object, at any depth: a mapping with `containers`."""
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield value
        for inner in value.values():
            yield from pod_specs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pod_specs(inner)


def _walk(value: Any, found: _Found) -> None:
    if isinstance(value, list):
        for inner in value:
            _walk(inner, found)
    if not isinstance(value, dict):
        return
    if isinstance(value.get("containers"), list):
        found.pull.update(text(one, "name") for one in parts(value, "imagePullSecrets"))
        found.priority |= {text(value, "priorityClassName")} - {""}
        found.runtime |= {text(value, "runtimeClassName")} - {""}
        for volume in parts(value, "volumes"):
            found.claims |= {text(part(volume, "persistentVolumeClaim"), "claimName")} - {""}
            _of_volume(part(volume, "secret"), found)
    for key in ("secretKeyRef", "credentials"):  # of a variable; of a PodMonitor's authorization
        given = part(value, key)
        if text(given, "name"):
            optional = given.get("optional") is True
            found.secrets.add(SecretUse(name=text(given, "name"), key=text(given, "key"), optional=optional))
    given = part(value, "secretRef")
    if text(given, "name"):
        found.secrets.add(SecretUse(name=text(given, "name"), optional=given.get("optional") is True))
    for inner in value.values():
        _walk(inner, found)


def _of_volume(given: Object, found: _Found) -> None:
    name, optional = text(given, "secretName"), given.get("optional") is True
    if name:
        keys = [text(item, "key") for item in parts(given, "items")] or [""]
        found.secrets.update(SecretUse(name=name, key=key, optional=optional) for key in keys)
