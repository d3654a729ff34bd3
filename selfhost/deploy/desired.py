"""Plan + target + options -> the objects that are to be on the cluster, in the order in which they are applied."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from selfhost.cluster.kinds import ref_of
from selfhost.cluster.types import Object, Ref
from selfhost.cluster.values import part, parts, text, texts
from selfhost.deploy.types import (
    HASH_ANNOTATION,
    INSTANCE_LABEL,
    MANAGED_BY,
    MANAGED_LABEL,
    PLAN_ANNOTATION,
    Desired,
)
from selfhost.errors import UnsupportedError
from selfhost.manifests import Manifests, RenderOptions, render
from selfhost.plan import Plan, to_json

# Targets whose objects Kubernetes runs as they are, and what applies the others.
TARGETS = ("kubernetes", "lws", "gateway", "kserve", "hybrid")
_OTHERWISE = {
    "helm": "helm upgrade --install",
    "llm-d": "helm upgrade --install, as its README.md says",
    "production-stack": "helm upgrade --install, as its README.md says",
    "compose": "selfhost up --local",
    "systemd": "selfhost up --local",
    "monitor": "kubectl apply -k",
}
_KUSTOMIZATION = "kustomization.yaml"
_HASH_DIGITS = 16
_HOOK = "helm.sh/hook"


def desired(plan: Plan, target: str, options: RenderOptions) -> Desired:
    """Render a plan, and read the objects back as a cluster takes them.

    Args:
        plan: the decision.
        target: one of `TARGETS`.
        options: what the cluster decides.

    Raises:
        UnsupportedError: the target is not applied object by object.
        UsageError: no such target, or options that contradict the plan.
    """
    if target in _OTHERWISE:
        raise UnsupportedError(
            f"Target {target} is not applied object by object.",
            hint=f"Render it (selfhost render --target {target}), then {_OTHERWISE[target]}.",
        )
    found = tuple(_objects(render(plan, target=target, options=options), options.namespace))
    plan_hash = hash_of_plan(plan)
    objects = tuple(_stamped(item, plan_hash) for item in found)
    return Desired(
        plan=plan,
        target=target,
        options=options,
        objects=objects,
        plan_hash=plan_hash,
        hash=_hash(objects),
    )


def with_objects(wanted: Desired, objects: tuple[Object, ...]) -> Desired:
    """The same with other objects: what a step between two deployments needs."""
    return replace(wanted, objects=objects, hash=_hash(objects))


def hash_of(words: str) -> str:
    """The first digits of a text's SHA-256: enough to tell the few revisions of a deployment apart."""
    return hashlib.sha256(words.encode()).hexdigest()[:_HASH_DIGITS]


def hash_of_plan(plan: Plan) -> str:
    """Of what was decided: the same for a plan that is made again, whatever the time is."""
    return hash_of(to_json(replace(plan, provenance=replace(plan.provenance, created=""))))


def refs_of(objects: tuple[Object, ...]) -> tuple[Ref, ...]:
    """Which objects they are."""
    return tuple(ref_of(item) for item in objects)


def _hash(objects: tuple[Object, ...]) -> str:
    return hash_of(json.dumps([_lasting(item) for item in objects], sort_keys=True))


def _objects(manifests: Manifests, namespace: str) -> Iterator[Object]:
    """ConfigMaps that kustomize would make of files come first: what is applied later reads them."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = {document.name: document for document in manifests.documents}
    kustomization: Any = yaml.load(files[_KUSTOMIZATION].text, loader) if _KUSTOMIZATION in files else {}
    for made in parts(kustomization, "configMapGenerator"):
        yield _generated(made, {name: one.content for name, one in files.items()}, namespace)
    for document in manifests.documents:
        if document.is_object and document.data is None:
            for item in yaml.load_all(document.text, loader):
                if isinstance(item, dict) and _HOOK not in texts(part(item, "metadata"), "annotations"):
                    yield _placed(item, namespace)


def _generated(made: Object, files: dict[str, bytes], namespace: str) -> Object:
    """A ConfigMap as kustomize's generator makes it."""
    data: dict[str, str] = {}
    binary: dict[str, str] = {}
    given = made.get("files")
    for word in given if isinstance(given, list) else ():
        key, _, path = str(word).rpartition("=")
        content = files[path]
        try:
            data[key or path] = content.decode("utf-8")
        except UnicodeDecodeError:
            binary[key or path] = base64.b64encode(content).decode("ascii")
    options = part(made, "options")
    metadata: Object = {"name": text(made, "name"), "namespace": namespace}
    metadata |= {"labels": texts(options, "labels")} if texts(options, "labels") else {}
    metadata |= {"annotations": texts(options, "annotations")} if texts(options, "annotations") else {}
    item: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    return item | ({"data": data} if data else {}) | ({"binaryData": binary} if binary else {})


def _lasting(item: Object) -> Object:
    """Without the plan's text, which holds the time it was made at; its hash stands for it."""
    metadata = part(item, "metadata")
    annotations = {
        key: value for key, value in texts(metadata, "annotations").items() if key != PLAN_ANNOTATION
    }
    return item | {"metadata": metadata | {"annotations": annotations}}


def _placed(item: Object, namespace: str) -> Object:
    ref = ref_of(item, namespace)
    return item | {
        "metadata": part(item, "metadata") | ({"namespace": ref.namespace} if ref.namespace else {})
    }


def _stamped(item: Object, plan_hash: str) -> Object:
    """With the labels by which it is found again, and the plan's hash beside the plan."""
    metadata = part(item, "metadata")
    labels = texts(metadata, "labels")
    if labels.get(MANAGED_LABEL) != MANAGED_BY or not labels.get(INSTANCE_LABEL):
        raise UnsupportedError(
            f"{ref_of(item)} is rendered without the labels by which it would be found again."
        )
    annotations = texts(metadata, "annotations")
    if PLAN_ANNOTATION in annotations:
        metadata = metadata | {"annotations": annotations | {HASH_ANNOTATION: plan_hash}}
    return item | {"metadata": metadata}
