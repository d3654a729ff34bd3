"""The rights that deploying, watching and taking away a deployment need: exactly these, and which of them are there.

Verbs are those of the requests that selfhost sends: server-side apply is `patch`, and `create` where the object is
new (apiserver pkg/endpoints/handlers/patch.go); a port-forward over a websocket is `get`, and from Kubernetes 1.35
`create` too (gate AuthorizePodWebsocketUpgradeCreatePermission, on since 1.35: kubernetes.io, Feature Gates in
Kubernetes v1.37, and the KEP 4006 note in SIG Auth's report; stored copies, read 2026-11-26).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from selfhost.cluster.kinds import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    JOB,
    LEASE,
    LIMIT_RANGE,
    NAMESPACE,
    NODE,
    POD,
    QUOTA,
    REPLICA_SET,
    STORAGE_CLASS,
    kind_of,
)
from selfhost.cluster.types import Kind, Object
from selfhost.cluster.values import part, parts, text
from selfhost.deploy.rollout import WORKLOADS
from selfhost.deploy.types import Desired


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Right:
    """One verb on one kind of objects.

    Args:
        group: API group, empty for the core one.
        resource: plural, with its subresource: `pods/log`.
        verb: `get`, `list`, `patch`, …
        cluster: for objects without a namespace, or in every namespace.
        because: what it is for.
        needed: without it the deployment fails; else only less is known.
        name: the one object it is for; empty for all.
    """

    group: str
    resource: str
    verb: str
    cluster: bool = False
    because: str = ""
    needed: bool = True
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Which of the rights are there.

    Args:
        granted: by a rule, a review or an answer.
        refused: by a review or an answer.
        unknown: nobody was asked, or no answer came.
        reviewed: whether the server could be asked at all.
    """

    granted: tuple[Right, ...] = ()
    refused: tuple[Right, ...] = ()
    unknown: tuple[Right, ...] = ()
    reviewed: bool = True


def needed(desired: Desired) -> tuple[Right, ...]:
    """Everything that deploy, wait, logs, test, rollback and destroy ask for, each once, by importance."""
    found: dict[tuple[str, str, str, bool, str], Right] = {}
    for right in (
        *_objects(desired),
        *_keeping(),
        *_watching(desired),
        *_trying(),
        *_given(desired),
        *_looking(desired),
    ):
        key = (right.group, right.resource, right.verb, right.cluster, right.name)
        found.setdefault(key, right)
    return tuple(found.values())


def granted_by(rules: Iterable[Object], right: Right) -> bool:
    """Whether rules, as a SelfSubjectRulesReview tells them, give a right for every object (rbac/v1 VerbMatches, …)."""
    return any(_gives(rule, right) for rule in rules)


def _gives(rule: Object, right: Right) -> bool:
    names = _words(rule, "resourceNames")
    if names and right.name not in names:
        return False
    _, slash, subresource = right.resource.partition("/")
    wanted = {"*", right.resource} | ({f"*/{subresource}"} if slash else set())
    return (
        bool({"*", right.verb} & _words(rule, "verbs"))
        and bool({"*", right.group} & _words(rule, "apiGroups"))
        and bool(wanted & _words(rule, "resources"))
    )


def _words(rule: Object, name: str) -> set[str]:
    found = rule.get(name)
    return {str(word) for word in found} if isinstance(found, list) else set()


def _of(
    kind: Kind, verbs: str, because: str, *, cluster: bool = False, needed: bool = True, name: str = ""
) -> Iterator[Right]:
    for verb in verbs.split():
        yield Right(
            group=kind.group,
            resource=kind.plural,
            verb=verb,
            cluster=cluster,
            because=because,
            needed=needed,
            name=name,
        )


def _objects(desired: Desired) -> Iterator[Right]:
    for item in desired.objects:
        kind = kind_of(text(item, "apiVersion"), text(item, "kind"))
        yield from _of(
            kind, "get list create patch delete", "apply, prune and destroy", cluster=not kind.namespaced
        )


def _keeping() -> Iterator[Right]:
    yield from _of(CONFIG_MAP, "get list create patch delete", "revisions, from which a rollback is made")
    yield from _of(LEASE, "get create patch delete list watch", "one deploy of a name at a time")


def _watching(desired: Desired) -> Iterator[Right]:
    yield from _of(POD, "get list watch", "wait, status")
    yield from _of(POD, "delete", "what failed is tried again")
    yield from _of(EVENT, "list watch", "wait, causes")
    kinds = {text(item, "kind") for item in desired.objects}
    for kind in (*WORKLOADS, JOB):
        if kind.name in kinds:
            yield from _of(kind, "list watch", "wait, status")
    if DEPLOYMENT.name in kinds:
        yield from _of(REPLICA_SET, "list", "causes", needed=False)
    yield from _of(CLAIM, "get list", "storage, causes", needed=False)


def _trying() -> Iterator[Right]:
    yield Right(group="", resource="pods/log", verb="get", because="logs, causes")
    for verb in ("get", "create"):
        yield Right(group="", resource="pods/portforward", verb=verb, because="smoke test")


def _given(desired: Desired) -> Iterator[Right]:
    """What rendered Roles give: nobody may give what he has not (rbac escalation check)."""
    for item in desired.objects:
        if text(item, "kind") != "Role":
            continue
        name = text(part(item, "metadata"), "name")
        for rule in parts(item, "rules"):
            for group in sorted(_words(rule, "apiGroups")):
                for resource in sorted(_words(rule, "resources")):
                    for verb in sorted(_words(rule, "verbs")):
                        because = f"the Role {name} gives it, and who gives a right has to have it"
                        yield Right(group=group, resource=resource, verb=verb, because=because)


def _looking(desired: Desired) -> Iterator[Right]:
    """What the preflight alone reads; without it less is known."""
    # asked for in itself: a Role of the namespace may give it
    yield from _of(NAMESPACE, "get", "Pod Security level", needed=False, name=desired.namespace)
    yield from _of(NODE, "list", "GPUs that are free", needed=False, cluster=True)
    yield from _of(POD, "list", "GPUs that are free", needed=False, cluster=True)
    yield from _of(STORAGE_CLASS, "list", "where the weights' volume comes from", needed=False, cluster=True)
    yield from _of(QUOTA, "list", "quota", needed=False)
    yield from _of(LIMIT_RANGE, "list", "limits of pods", needed=False)
