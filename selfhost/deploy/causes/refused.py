"""Pods that the API server does not accept: quota, limits, Pod Security, policies, objects that are missing.

A ReplicaSet and a Job say so in an event FailedCreate, a Deployment in its condition ReplicaFailure (kubernetes
pkg/controller/controller_utils.go and deployment/sync.go, 1.36).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from selfhost.cluster.values import part, parts, text
from selfhost.deploy.causes._scene import Scene, going, raw, unix
from selfhost.deploy.causes._words import refusal
from selfhost.deploy.types import Cause

RANK = 100


def quota(scene: Scene) -> Cause | None:
    """A ResourceQuota of the namespace leaves no room for the pods.

    Pods of ours that are still ending count too, and while some are the quota is not called the cause.

    Way out: raise the quota, or scale something else down: `kubectl describe quota`.
    """
    return None if any(going(pod) for pod in scene.snapshot.pods) else _first(scene, "quota")


def limit_range(scene: Scene) -> Cause | None:
    """A LimitRange of the namespace does not allow what a container asks for.

    Way out: have it changed, or deploy into another namespace.
    """
    return _first(scene, "limit-range")


def pod_security(scene: Scene) -> Cause | None:
    """The namespace's Pod Security level, or OpenShift's constraints, do not allow the pod.

    Way out: another namespace, or without the option that needs more.
    """
    return _first(scene, "pod-security")


def policy_refused(scene: Scene) -> Cause | None:
    """An admission webhook or a ValidatingAdmissionPolicy refuses the pod; its name and words are given.

    Way out: change what it objects to, or have its owner make an exception.
    """
    return _first(scene, "policy-refused")


def webhook_unreachable(scene: Scene) -> Cause | None:
    """An admission webhook that has to agree does not answer.

    Way out: have its pods looked at.
    """
    return _first(scene, "webhook-unreachable")


def service_account_missing(scene: Scene) -> Cause | None:
    """The service account of the pods does not exist.

    Way out: deploy again, which makes it.
    """
    return _first(scene, "service-account-missing")


def priority_class_missing(scene: Scene) -> Cause | None:
    """The PriorityClass of the pods does not exist.

    Way out: name one that exists: `kubectl get priorityclasses`.
    """
    return _first(scene, "priority-class-missing")


def runtime_class_missing(scene: Scene) -> Cause | None:
    """The RuntimeClass of the pods does not exist.

    Way out: name one that exists, or install what brings it.
    """
    return _first(scene, "runtime-class-missing")


def pods_refused(scene: Scene) -> Cause | None:
    """The API server refuses the pods for another reason; its words are given.

    Way out: change what it objects to.
    """
    for words, what, since in _refusals(scene):
        if refusal(words) is None and ("is forbidden" in words or "is invalid" in words):
            return Cause(
                code="pods-refused",
                sentence=f"The API server does not accept {what}.",
                evidence=(words[:400],),
                hint="Change what it objects to.",
                patience_seconds=60.0,
                since=since,
            )
    return None


def _first(scene: Scene, code: str) -> Cause | None:
    for words, what, since in _refusals(scene):
        found = refusal(words, what=what)
        if found is not None and found.code == code:
            return replace(found, since=since)
    return None


def _refusals(scene: Scene) -> Iterator[tuple[str, str, float | None]]:
    """What controllers were told when they made pods: words, whose pods, since when."""
    snapshot = scene.snapshot
    for item in (*snapshot.workloads, *snapshot.replica_sets):
        name = text(part(item, "metadata"), "name")
        for one in parts(part(item, "status"), "conditions"):
            if text(one, "type") == "ReplicaFailure" and text(one, "status") == "True":
                yield raw(one, "message"), f"pods of {name}", unix(text(one, "lastTransitionTime"))
    made = [text(part(pod, "metadata"), "name") for pod in snapshot.pods]
    for event in scene.events:
        # once a pod of it is there, an earlier refusal explains nothing any more
        if event.reason == "FailedCreate" and not any(pod.startswith(f"{event.name}-") for pod in made):
            yield event.message, f"pods of {event.name}", event.at
