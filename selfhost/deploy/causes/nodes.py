"""What happens to pods with their node: eviction, preemption, a node that is lost or no longer ready.

Words of the kubelet's eviction manager (pkg/kubelet/eviction, 1.36), of its admission (Evicted, OutOf…, NodeAffinity,
NodeShutdown), of the scheduler's preemption and of the node lifecycle controller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.cluster.values import part, parts, text
from selfhost.deploy.causes._scene import Scene, Seen, going, unix
from selfhost.deploy.scheduling import is_ready
from selfhost.deploy.types import Cause

RANK = 220
# The node lifecycle controller calls a node lost after 50 s, and its pods are ended after 300 s (defaults of 1.36).
_LOST_SECONDS = 360.0


def evicted(scene: Scene) -> Iterator[Cause]:
    """The kubelet ended the pod for want of disk or memory: of the node, or beyond the pod's own limits.

    Way out: a larger limit where it was the pod's own, else room on that node.
    """
    for pod in scene.pods:
        if pod.reason != "Evicted":
            continue
        own = re.search(r"Usage of EmptyDir volume \"([\w.-]+)\" exceeds the limit \"(\w+)\"", pod.message)
        beyond = re.search(
            (
                r"ephemeral local storage usage exceeds the total limit of containers (\w+)"
                r"|exceeded its local ephemeral storage limit \"(\w+)\""
            ),
            pod.message,
        )
        low = re.search(
            r"The node was low on resource: ([\w-]+)|The node had condition: \[(\w+)\]", pod.message
        )
        if own:
            why, hint = (
                f"its volume {own[1]} grew beyond {own[2]}",
                f"Raise the sizeLimit of the volume {own[1]}.",
            )
        elif beyond:
            why = f"it wrote more than the {beyond[1] or beyond[2]} of ephemeral storage it may"
            hint = "Raise the ephemeral-storage limit; weights and caches belong on a volume."
        else:
            why = f"{pod.node} was low on {(low[1] or low[2]) if low else 'a resource'}"
            hint = f"Make room on {pod.node}: kubectl describe node {pod.node} shows who uses it."
        yield _cause(
            "evicted",
            pod,
            f"{pod.name} was evicted from {pod.node}: {why}.",
            hint,
            pod.message,
            final=bool(own or beyond),
            patience=120.0,
        )


def preempted(scene: Scene) -> Iterator[Cause]:
    """A pod of higher priority took the place.

    Way out: a PriorityClass (`--priority-class`), or more GPUs.
    """
    for pod in scene.pods:
        event = next(pod.said("Preempted"), None)
        disrupted = next(
            (
                one
                for one in parts(part(pod.item, "status"), "conditions")
                if text(one, "reason") == "PreemptionByScheduler"
            ),
            None,
        )
        if (event is not None or disrupted is not None) and pod.phase == "Failed":
            words = event.message if event is not None else text(disrupted or {}, "message")
            yield _cause(
                "preempted",
                pod,
                f"{pod.name} had to make way for a pod of higher priority.",
                "Deploy with --priority-class, or add GPUs for both.",
                words,
                patience=60.0,
            )


def node_lost(scene: Scene) -> Iterator[Cause]:
    """The node of the pod does not answer any more, or was shut down.

    Way out: `kubectl describe node NODE`; a pod that hangs there goes with `kubectl delete pod --force` once it is off.
    """
    lost = {
        text(part(node, "metadata"), "name"): next(
            (
                text(one, "message")
                for one in parts(part(node, "status"), "conditions")
                if text(one, "type") == "Ready"
            ),
            "",
        )
        for node in scene.snapshot.nodes
        if not is_ready(node)
    }
    for pod in scene.pods:
        gone = pod.reason in ("NodeLost", "Terminated", "NodeShutdown", "Shutdown") or next(
            pod.said("NodeNotReady"), None
        )
        if pod.node in lost or (gone and pod.phase in ("Unknown", "Failed", "Running")):
            words = (
                lost.get(pod.node) or pod.message or next((e.message for e in pod.said("NodeNotReady")), "")
            )
            yield _cause(
                "node-lost",
                pod,
                f"{pod.node}, on which {pod.name} runs, is not ready or gone.",
                f"kubectl describe node {pod.node}",
                words,
                patience=_LOST_SECONDS,
            )


def node_refused(scene: Scene) -> Iterator[Cause]:
    """The kubelet of the chosen node did not take the pod: what the scheduler counted on was not there any more.

    Way out: nothing where another pod is made; else look at that node.
    """
    for pod in scene.pods:
        if pod.phase == "Failed" and re.match(
            r"OutOf\w+|NodeAffinity|NodePorts|TopologyAffinityError|PodOSNotSupported", pod.reason
        ):
            yield _cause(
                "node-refused",
                pod,
                f"The kubelet of {pod.node} did not take {pod.name}: {pod.reason}.",
                f"kubectl describe node {pod.node}; a topology error is of the node's Topology Manager."
                if "Topology" in pod.reason
                else f"kubectl describe node {pod.node}",
                pod.message,
                patience=60.0,
            )


def stuck_terminating(scene: Scene) -> Iterator[Cause]:
    """An earlier pod of the deployment does not end, and holds what the new one waits for.

    Way out: look at its node; `kubectl delete pod NAME --force` where the node is off.
    """
    if not any(not pod.scheduled for pod in scene.pods):
        return
    for item in scene.snapshot.pods:
        metadata = part(item, "metadata")
        until = unix(text(metadata, "deletionTimestamp"))  # the end of its grace
        if going(item) and until is not None and scene.snapshot.now - until > 120.0:
            name, node = text(metadata, "name"), text(part(item, "spec"), "nodeName")
            late = round(scene.snapshot.now - until)
            finalizers = metadata.get("finalizers")
            held = (
                f", held by {', '.join(map(str, finalizers))}"
                if isinstance(finalizers, list) and finalizers
                else ""
            )
            yield Cause(
                code="stuck-terminating",
                sentence=f"The earlier pod {name} on {node or 'no node'} should have ended {late:,} s ago{held}.",
                evidence=(f"deletionTimestamp {text(metadata, 'deletionTimestamp')}",),
                hint=(
                    f"kubectl describe node {node}; where it is off: kubectl -n "
                    f"{scene.snapshot.namespace} delete pod {name} --force"
                ),
                patience_seconds=60.0,
                since=until,
                pod=name,
                node=node,
            )


def _cause(
    code: str, pod: Seen, sentence: str, hint: str, words: str, *, final: bool = False, patience: float
) -> Cause:
    return Cause(
        code=code,
        sentence=sentence,
        evidence=(words[:300],),
        hint=hint,
        final=final,
        patience_seconds=patience,
        since=pod.created,
        pod=pod.name,
        node=pod.node,
    )
