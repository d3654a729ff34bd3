"""Take a deployment away: everything that is selfhost's own and belongs to it, and nothing else.

What there is comes from two sides: the objects of every revision, and everything of the kinds that selfhost writes with
the deployment's labels, so that nothing stays behind after a command that was killed. Revisions go last: a destroy that
is interrupted goes on from them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from selfhost.cluster import AbsentError, Api, ApiError, Kind, Object, Ref, TakenError
from selfhost.cluster import kinds as known
from selfhost.cluster.kinds import KINDS, kind_of
from selfhost.cluster.values import part, parts, text
from selfhost.deploy import revisions
from selfhost.deploy.desired import refs_of
from selfhost.deploy.gone import DEFAULT_GRACE_SECONDS, MARGIN_SECONDS, await_gone
from selfhost.deploy.lock import held
from selfhost.deploy.types import Event, Head, Tell, is_ours, selector_of
from selfhost.errors import ClusterError, SelfhostError

LOCK_WAIT_SECONDS = 120.0  # as a deployment waits for another
WEIGHTS = (known.CLAIM.name, known.VOLUME.name)
# Kinds that selfhost only reads, or that a cluster has for itself.
_READ_ONLY = (
    known.NAMESPACE, known.NODE, known.EVENT, known.SECRET, known.QUOTA, known.LIMIT_RANGE, known.STORAGE_CLASS,
    known.DEFINITION,
)  # fmt: skip
# The order in which they go, the reverse of the order in which they were applied; but what has pods goes before the
# Service and the policies, so that requests in flight are answered. Those of the first line let no new request in, and
# nothing make a new pod.
_FIRST = (
    "HTTPRoute", "Ingress", "ScaledObject", "HorizontalPodAutoscaler", "PodDisruptionBudget",
    "LLMInferenceService", "InferenceService", "LeaderWorkerSet", "Deployment", "StatefulSet", "DaemonSet", "Job",
    "ReplicaSet", "Pod",
)  # fmt: skip
_THEN = (
    "PrometheusRule", "ServiceMonitor", "PodMonitor", "InferencePool", "Service", "LLMInferenceServiceConfig",
    "ConfigMap", "ResourceClaimTemplate", "NetworkPolicy", "RoleBinding", "Role", "ServiceAccount",
    "PersistentVolumeClaim", "PersistentVolume",
)  # fmt: skip
_RANK = {name: number for number, name in enumerate((*_FIRST, *_THEN))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is of a deployment.

    Args:
        name: of the deployment.
        namespace: where it is.
        heads: its revisions, the newest first.
        objects: its own, in the order in which they go, with the uid of each; weights are the last.
        foreign: objects of its revisions that are another owner's by now.
        unread: kinds that may not be listed: of those only what the revisions name is known.
        locked: there is a lock, of a command that runs or was killed.
        grace_seconds: how long its pods may take to end.
    """

    name: str
    namespace: str
    heads: tuple[Head, ...]
    objects: tuple[tuple[Ref, str], ...]
    foreign: tuple[Ref, ...] = ()
    unread: tuple[str, ...] = ()
    locked: bool = False
    grace_seconds: int = DEFAULT_GRACE_SECONDS

    def going(self, *, with_weights: bool) -> tuple[Ref, ...]:
        """What goes."""
        return tuple(ref for ref, _ in self.objects if with_weights or ref.kind not in WEIGHTS)

    def kept(self, *, with_weights: bool) -> tuple[Ref, ...]:
        """What stays although it is its own."""
        return tuple(ref for ref, _ in self.objects if not with_weights and ref.kind in WEIGHTS)

    def nothing(self, *, with_weights: bool) -> bool:
        """Whether nothing is left to do."""
        return not self.heads and not self.locked and not self.going(with_weights=with_weights)


@dataclass(kw_only=True)
class _Search:
    api: Api
    name: str
    namespace: str
    kept: frozenset[Ref]  # revisions, which go last; one that is damaged goes with the others
    objects: dict[Ref, str] = field(default_factory=dict)
    foreign: dict[Ref, None] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def by_labels(self, kind: Kind) -> None:
        """Everything of a kind with the deployment's labels; what another object made goes with that one."""
        try:
            listed = self.api.list(
                kind, self.namespace, labels=selector_of(self.name), metadata_only=True
            ).items
        except AbsentError:
            return  # the cluster has no such kind
        except ApiError as error:
            if error.status != 403:
                raise
            self.unread.append(kind.name)
            return
        for item in listed:
            metadata = part(item, "metadata")
            owned = any(one.get("controller") is True for one in parts(metadata, "ownerReferences"))
            ref = _ref(kind, metadata)
            if not owned and is_ours(item, self.name) and ref not in self.kept:
                self.objects[ref] = text(metadata, "uid")

    def by_revision(self, refs: Iterable[Ref]) -> None:
        """What a revision names and the labels did not find: it is gone, or another owner's, or may not be listed."""
        for ref in refs:
            if ref in self.objects or ref in self.foreign:
                continue
            try:
                live = self.api.get(ref)
            except ApiError:
                if ref.kind not in self.unread:
                    self.unread.append(ref.kind)
                continue
            if live is None:
                continue
            if is_ours(live, self.name):
                self.objects[ref] = text(part(live, "metadata"), "uid")
            else:
                self.foreign[ref] = None


def find(api: Api, namespace: str, name: str) -> Found:
    """What there is of a deployment; nothing is changed.

    Raises:
        ClusterError: the cluster cannot be asked.
    """
    heads = revisions.heads(api, namespace, name)
    search = _Search(api=api, name=name, namespace=namespace, kept=frozenset(head.ref for head in heads))
    for kind in KINDS:
        if kind not in _READ_ONLY:
            search.by_labels(kind)
    grace = 0
    for head in heads:
        try:
            wanted = revisions.load(api, head).desired
        except ApiError:
            raise
        except SelfhostError:
            continue  # of another release, or damaged: the labels say what there is
        grace = max(grace, wanted.plan.clocks.grace_seconds.value)
        search.by_revision(refs_of(wanted.objects))
    objects = [(ref, uid) for ref, uid in search.objects.items() if ref.kind != known.LEASE.name]
    return Found(
        name=name,
        namespace=namespace,
        heads=heads,
        objects=tuple(sorted(objects, key=lambda one: (_RANK.get(one[0].kind, len(_FIRST)), one[0]))),
        foreign=tuple(search.foreign),
        locked=len(objects) < len(search.objects),
        unread=tuple(kind for kind in search.unread if kind != known.VOLUME.name),
        grace_seconds=grace or DEFAULT_GRACE_SECONDS,
    )


def destroy(
    api: Api,
    found: Found,
    *,
    with_weights: bool,
    tell: Tell,
    timeout_seconds: float | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> tuple[Ref, ...]:
    """Delete what was found, the pods first and the revisions last.

    Args:
        api: the cluster.
        found: by `find`.
        with_weights: the volumes with the weights too.
        tell: hears what happens.
        timeout_seconds: how long pods may take to end; None takes their grace period and a margin.
        monotonic: a clock that only goes forward, in seconds.

    Returns:
        What was deleted, revisions left out.

    Raises:
        ClusterError: the server refuses, pods do not end, or somebody deploys at this moment.
    """
    if found.nothing(with_weights=with_weights):
        return ()

    def waiting(other: str) -> None:
        tell(Event(type="note", message=f"{other} deploys {found.name} at this moment; waiting for it"))

    with held(
        api, found.namespace, found.name, wait_seconds=LOCK_WAIT_SECONDS, waiting=waiting, monotonic=monotonic
    ) as lock:
        found = find(api, found.namespace, found.name)  # somebody may have applied while it was looked for
        goes = set(found.going(with_weights=with_weights))
        first = [(ref, uid) for ref, uid in found.objects if ref in goes and ref.kind in _FIRST]
        then = [(ref, uid) for ref, uid in found.objects if ref in goes and ref.kind not in _FIRST]
        deleted = _delete(api, first, lock.keep, tell)

        def left(count: int) -> None:
            if count:
                words = (
                    f"draining: {count} {'pod' if count == 1 else 'pods'} left, {found.grace_seconds} s each"
                )
                tell(Event(type="progress", message=words, facts={"stage": "draining", "pods": count}))

        seconds = timeout_seconds or found.grace_seconds + MARGIN_SECONDS
        await_gone(
            api, found.namespace, selector_of(found.name), seconds=seconds, keep=lock.keep, left=left,
            monotonic=monotonic,
        )  # fmt: skip
        deleted += _delete(api, then, lock.keep, tell)
        for head in reversed(found.heads):  # the newest last: it is what goes on
            lock.keep()
            try:
                api.delete(head.ref)
            except TakenError:
                continue
    return tuple(deleted)


def _delete(
    api: Api, objects: Iterable[tuple[Ref, str]], keep: Callable[[], object], tell: Tell
) -> list[Ref]:
    """Delete these very objects; one that was made anew under the same name since is not touched."""
    deleted = []
    for ref, uid in objects:
        keep()
        try:
            was_there = api.delete(ref, uid=uid)
        except TakenError:
            tell(Event(type="note", message=f"{ref} was made anew meanwhile: left alone"))
            continue
        except ApiError as error:
            if error.status == 403:
                raise ClusterError(
                    f"{ref} may not be deleted by these credentials; what was deleted before it is gone.",
                    hint="Ask for the verb delete (`selfhost preflight --request` writes the Role), then run it again.",
                ) from None
            raise
        if was_there:
            deleted.append(ref)
            tell(Event(type="prune", message=f"{ref} deleted", facts={"kind": ref.kind, "name": ref.name}))
    return deleted


def _ref(kind: Kind, metadata: Object) -> Ref:
    assert kind_of(kind.api_version, kind.name) is kind
    return Ref(
        api_version=kind.api_version,
        kind=kind.name,
        namespace=text(metadata, "namespace"),
        name=text(metadata, "name"),
    )
