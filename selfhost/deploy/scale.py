"""More replicas, fewer, or none for a while: what a revision becomes, and what cannot be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from selfhost.cluster import Api, Object
from selfhost.cluster.kinds import DEPLOYMENT, LEADER_WORKER_SET
from selfhost.cluster.values import part, text, texts
from selfhost.deploy.apply import side_of
from selfhost.deploy.desired import desired
from selfhost.deploy.drain import BESIDE
from selfhost.deploy.gone import MARGIN_SECONDS, await_gone
from selfhost.deploy.rollout import PAUSED_ANNOTATION
from selfhost.deploy.types import COMPONENT_LABEL, Desired, Event, Tell, selector_of
from selfhost.diff import compare
from selfhost.errors import UnsupportedError, UsageError

# KEDA 2 (concepts/scaling-deployments, "Pausing autoscaling"): the number at which a ScaledObject holds its target.
_KEDA_PAUSED = "autoscaling.keda.sh/paused-replicas"
_SERVE_THEMSELVES = (DEPLOYMENT.name, LEADER_WORKER_SET.name)


def scaled(before: Desired, replicas: int) -> Desired:
    """The same deployment with another number of replicas.

    Args:
        before: what is deployed.
        replicas: from 1.

    Raises:
        UsageError: none at all, or a number that something else decides, or that the weights' volume does not allow.
    """
    name, asked = before.name, before.options.scaling
    if replicas == 0:
        raise UsageError(
            f"{name} cannot be scaled to none.",
            hint=f"`selfhost pause {name} -n {before.namespace}` gives its GPUs back and keeps the weights.",
        )
    if asked.autoscale is not None:
        who = "KEDA" if asked.autoscale == "keda" else "a HorizontalPodAutoscaler"
        least = 0 if asked.scale_to_zero else asked.min_replicas or before.plan.replicas
        raise UsageError(
            f"The replicas of {name} are {who}'s to decide, between {least} and {asked.max_replicas}.",
            hint=f"Set those: selfhost upgrade {name} -n {before.namespace} --min-replicas {replicas} "
            f"--max-replicas {max(replicas, asked.max_replicas or 1)}.",
        )
    if not 1 <= replicas <= 1000:
        raise UsageError(f"Replicas must be between 1 and 1000, not {replicas:,}.")
    wanted = desired(replace(before.plan, replicas=replicas), before.target, before.options)
    refuse_blocked(before, wanted, f"{replicas} replicas")
    return wanted


def refuse_blocked(before: Desired, wanted: Desired, what: str) -> None:
    """Refuse what Kubernetes does not change in place, before anything is tried.

    Args:
        before: what is deployed.
        wanted: what is to be.
        what: is asked for, for the sentence.

    Raises:
        UsageError: a field that cannot be changed.
    """
    blocked = compare(side_of(before), side_of(wanted)).effects.blocked
    if not blocked:
        return
    if any(words.startswith("PersistentVolumeClaim") and "accessModes" in words for words in blocked):
        modes = [_modes(one) for one in (before, wanted)]
        raise UsageError(
            f"{what}: the weights of {before.name} are on a {modes[0]} volume, and that needs {modes[1]}.",
            hint="A claim's access mode cannot be changed: destroy with --with-weights and deploy with "
            "--access-mode ReadWriteMany, or use nfs:// or oci:// weights.",
        )
    raise UsageError(
        f"{what} of {before.name} cannot be done in place: {blocked[0]}.",
        hint=f"`selfhost destroy {before.name} -n {before.namespace}` (weights are kept), then deploy it.",
    )


def paused(before: Desired) -> tuple[Object, ...]:
    """The objects that stop a deployment: its workloads without replicas, and what would bring them back, held.

    Raises:
        UnsupportedError: another controller makes the pods.
    """
    found = tuple(_paused(before))
    if not any(text(item, "kind") in _SERVE_THEMSELVES for item in found):
        raise UnsupportedError(
            f"The pods of {before.name} are made by KServe's controller, which selfhost does not stop.",
            hint=f"kubectl -n {before.namespace} annotate inferenceservice {before.name} serving.kserve.io/stop=true",
        )
    return found


def _paused(before: Desired) -> Iterator[Object]:
    for item in before.objects:
        metadata = part(item, "metadata")
        if text(item, "kind") == "ScaledObject":
            yield _noted(item, {_KEDA_PAUSED: "0"})
        elif (
            text(item, "kind") in _SERVE_THEMSELVES
            and texts(metadata, "labels").get(COMPONENT_LABEL) not in BESIDE
        ):
            yield _noted(item, {PAUSED_ANNOTATION: "true"}) | {"spec": part(item, "spec") | {"replicas": 0}}


def pause(
    api: Api,
    before: Desired,
    *,
    keep: Callable[[], object],
    tell: Tell,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Take a deployment to no replica, and watch its pods go; everything else stays as it is.

    Args:
        api: the cluster.
        before: what is deployed.
        keep: called before each write, and now and then; raises where nothing may be changed any more.
        tell: hears of it.
        monotonic: a clock that only goes forward, in seconds.

    Raises:
        UnsupportedError: another controller makes the pods.
        ClusterError: pods do not end.
    """
    objects = paused(before)
    grace = before.plan.clocks.grace_seconds.value
    for item in objects:
        keep()
        # an autoscaler owns the number of replicas; it leaves a target alone that has none
        api.apply(item, force=True)
        kind, name = text(item, "kind"), text(part(item, "metadata"), "name")
        tell(Event(type="apply", message=f"{kind} {name}", facts={"kind": kind, "name": name}))

    def left(count: int) -> None:
        if count:
            words = f"draining: {count} {'pod' if count == 1 else 'pods'} left, {grace} s each"
            tell(Event(type="progress", message=words, facts={"stage": "draining", "pods": count}))

    components = f"{COMPONENT_LABEL} notin ({','.join((*BESIDE, 'download'))})"
    await_gone(
        api, before.namespace, f"{selector_of(before.name)},{components}", seconds=grace + MARGIN_SECONDS, keep=keep,
        left=left, monotonic=monotonic,
    )  # fmt: skip


def _noted(item: Object, more: dict[str, str]) -> Object:
    metadata = part(item, "metadata")
    return item | {"metadata": metadata | {"annotations": texts(metadata, "annotations") | more}}


def _modes(desired_: Desired) -> str:
    for item in desired_.objects:
        found = part(item, "spec").get("accessModes")
        if text(item, "kind") == "PersistentVolumeClaim" and isinstance(found, list):
            return ", ".join(str(one) for one in found)
    return "another"
