"""Why the scheduler places a pod nowhere, GPUs apart: taints, CPU and memory, affinity, spread, ports, gates, claims.

Of several reasons the one counts that is met last among the scheduler's filters: that node was nearest to fitting
(kube-scheduler 1.36 default plugins: unschedulable, taints, affinity, ports, resources, volumes, spread, pod affinity).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.cluster.values import part, parts, text
from selfhost.deploy.amounts import CPU, EPHEMERAL, MEMORY, amounts, requests_of, shown
from selfhost.deploy.capacity import has_ended, is_gpu
from selfhost.deploy.causes._nodes import (
    AUTOSCALER_SECONDS,
    BUSY_SECONDS,
    labels_bar,
    listed,
    reasons,
    scales_not,
    scales_up,
    waiting,
    words_of,
)
from selfhost.deploy.causes._scene import Scene, Seen, going
from selfhost.deploy.scheduling import obstacles
from selfhost.deploy.types import Cause

RANK = 310
_TAINT = re.compile(r"untolerated taint")
_STATE = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
_CONTROL_PLANE = "node-role.kubernetes.io/"


def scheduling_gated(scene: Scene) -> Iterator[Cause]:
    """Somebody holds the pod back with a scheduling gate: Kueue until its queue has quota, or another controller.

    Way out: look at the queue: `kubectl get workloads,localqueues`.
    """
    for pod in scene.pods:
        gates = [text(one, "name") for one in parts(pod.spec, "schedulingGates")]
        if gates and not pod.scheduled:
            kueue = any(gate.startswith("kueue.x-k8s.io/") for gate in gates)
            yield _cause(
                scene,
                "scheduling-gated",
                pod,
                f"{pod.name} is held back by {listed(gates)}"
                + (": Kueue has not admitted it to its queue yet." if kueue else "."),
                "kubectl get workloads,localqueues says what the queue waits for."
                if kueue
                else "Look at the controller that sets this gate.",
                words=pod.unscheduled_because,
                patience=AUTOSCALER_SECONDS,
            )


def resource_claim(scene: Scene) -> Iterator[Cause]:
    """A claim for devices (DRA) is not there or no driver can allocate it.

    Way out: look at `kubectl get resourceclaims,resourceslices,deviceclasses`; the DRA driver has to run on the node.
    """
    for pod in waiting(scene):
        words = words_of(pod)
        if re.search(
            r"cannot allocate all claims|resourceclaim|ResourceClaim|device class", words
        ) and not any(is_gpu(one.removeprefix("Insufficient ")) for one in reasons(words)):
            yield _cause(
                scene,
                "resource-claim",
                pod,
                f"The devices that {pod.name} claims are not allocated: {_first_reason(words)}.",
                "kubectl get resourceclaims,resourceslices,deviceclasses; the DRA driver has to run on the GPU nodes.",
                words=words,
            )


def insufficient_resources(scene: Scene) -> Iterator[Cause]:
    """The nodes that would do lack CPU, memory or ephemeral storage; says which and how much.

    Way out: free it, add a node, or plan for less.
    """
    for pod in waiting(scene):
        found = reasons(words_of(pod))
        lacking = [one.removeprefix("Insufficient ") for one in found if one.startswith("Insufficient ")]
        if any(is_gpu(one) for one in lacking) or not lacking:
            continue
        asked, free = requests_of(pod.spec), _free(scene, pod)
        if free and any(all(asked.get(one, 0) <= has.get(one, 0) for one in lacking) for _, has in free):
            continue  # has been freed meanwhile: the scheduler looks again
        told = [
            f"{name} has {', '.join(f'{shown(one, max(0, has.get(one, 0)))} of {_called(one)}' for one in lacking)}"
            for name, has in free
        ]
        wants = " and ".join(f"{shown(one, asked.get(one, 0))} of {_called(one)}" for one in lacking)
        yield _cause(
            scene,
            "insufficient-resources",
            pod,
            f"{pod.name} needs {wants}, and no node that would do has as much free"
            + (f": {listed(told)}." if told else "."),
            "Free it, or add a node: kubectl describe nodes shows who asks for what.",
        )


def too_many_pods(scene: Scene) -> Iterator[Cause]:
    """The nodes that would do run as many pods as they may.

    Way out: end pods there, raise the kubelet's maxPods, or add a node.
    """
    for pod in _decided(scene, re.compile(r"Too many pods")):
        yield _cause(
            scene,
            "too-many-pods",
            pod,
            "Every node that would do runs as many pods as it may.",
            "End pods there, raise the kubelet's maxPods, or add a node.",
        )


def untolerated_taint(scene: Scene) -> Iterator[Cause]:
    """The nodes that would do have a taint that the pod does not tolerate; taints of a node's state are another cause.

    Way out: take the taint away, or add nodes without it.
    """
    for pod in waiting(scene) if scene.snapshot.nodes else _decided(scene, _TAINT):
        words = words_of(pod)
        found = reasons(words)
        if not any(_TAINT.search(one) for one in found) or any("Insufficient" in one for one in found):
            continue  # a node that lacks something was nearer
        taints = _taints(scene, pod)
        if scene.snapshot.nodes and not taints:
            continue  # of control planes alone, or of a node's state: something else keeps the pod waiting
        if not taints:  # releases before 1.34 named it
            told = re.findall(r"taint \{([^}]+)\}", words)
            taints = [one for one in told if not _of_state(one)]
            if told and not taints:
                continue
        named = listed(sorted(set(taints))) or "a taint"
        yield _cause(
            scene,
            "untolerated-taint",
            pod,
            f"The nodes that would take {pod.name} have {'a taint' if len(set(taints)) < 2 else 'taints'} that it does "
            f"not tolerate: {named}.",
            "Take the taint away (kubectl taint nodes NODE KEY-), or add nodes without it.",
        )


def nodes_not_ready(scene: Scene) -> Iterator[Cause]:
    """The nodes that would do are not ready, under pressure or cordoned.

    Way out: look at the node: `kubectl describe node NODE`.
    """
    for pod in waiting(scene):
        shut = [
            (text(part(node, "metadata"), "name"), why)
            for node in scene.snapshot.nodes
            for why in [obstacles(node, pod.spec)]
            if why and not labels_bar(why)
        ]
        bad = [
            (name, why)
            for name, why in shut
            if all(
                "not ready" in one or "cordoned" in one or "taint node.kubernetes.io/" in one for one in why
            )
        ]
        usable = [node for node in scene.snapshot.nodes if not obstacles(node, pod.spec)]
        if bad and not usable and len(bad) == len(shut):
            told = [f"{name} {' and '.join(why)}" for name, why in bad]
            yield _cause(
                scene,
                "nodes-not-ready",
                pod,
                f"No node that would take {pod.name} is in order: {listed(told)}.",
                f"kubectl describe node {bad[0][0]}",
            )


def node_affinity(scene: Scene) -> Iterator[Cause]:
    """No node has the labels that the pod asks for.

    Way out: label a node, or render without that selector.
    """
    for pod in _decided(scene, re.compile(r"Pod's node affinity/selector|match node selector")):
        if scene.snapshot.nodes and any(
            not labels_bar(obstacles(node, pod.spec)) for node in scene.snapshot.nodes
        ):
            continue
        why = [
            f"{text(part(node, 'metadata'), 'name')} {obstacles(node, pod.spec)[-1]}"
            for node in scene.snapshot.nodes
            if obstacles(node, pod.spec)
        ]
        yield _cause(
            scene,
            "node-affinity",
            pod,
            f"No node has the labels that {pod.name} asks for" + (f": {listed(why, 3)}." if why else "."),
            "Label a node that is meant (kubectl label node NODE KEY=VALUE), or render without that selector.",
        )


def pod_affinity(scene: Scene) -> Iterator[Cause]:
    """Rules about pods beside it, or about spreading, leave no node.

    Way out: add a node in another place, or relax the rule.
    """
    pattern = re.compile(r"pod topology spread constraints|anti-affinity rules|pod affinity rules")
    for pod in _decided(scene, pattern):
        yield _cause(
            scene,
            "pod-affinity",
            pod,
            f"Rules about where pods stand together or apart leave no node for {pod.name}: "
            f"{_first_reason(words_of(pod), pattern)}.",
            "Add a node in another zone or of another name, or relax the rule.",
        )


def host_port(scene: Scene) -> Iterator[Cause]:
    """A port of the node that the pod asks for is taken on every node that would do.

    Way out: end what holds it, or render without a host port.
    """
    for pod in _decided(scene, re.compile(r"free ports for the requested pod ports")):
        yield _cause(
            scene,
            "host-port",
            pod,
            f"The host port that {pod.name} asks for is taken on every node that would do.",
            "End the pod that holds it, or render without a port of the host.",
        )


def _decided(scene: Scene, pattern: re.Pattern[str]) -> Iterator[Seen]:
    """Waiting pods whose nearest node failed for this: no reason of a later filter is among them."""
    for pod in waiting(scene):
        found = reasons(words_of(pod))
        matching = [one for one in found if pattern.search(one)]
        later = [one for one in found if _order(one) > max((_order(m) for m in matching), default=99)]
        if matching and not later:
            yield pod


_FILTERS = (
    "unschedulable",
    "untolerated taint",
    "affinity/selector",
    "free ports",
    "Insufficient",
    "Too many pods",
    "volume",
    "topology spread",
    "affinity rules",
)


def _order(reason: str) -> int:
    return next((number for number, one in enumerate(_FILTERS) if one in reason), -1)


def _taints(scene: Scene, pod: Seen) -> list[str]:
    """Taints that alone keep the pod from nodes, without those of control planes and of a node's state."""
    found = []
    for node in scene.snapshot.nodes:
        why = obstacles(node, pod.spec)
        if why and all(one.startswith("has the taint ") for one in why):
            found += [one.removeprefix("has the taint ") for one in why]
    return [one for one in found if not _of_state(one)]


def _of_state(taint: str) -> bool:
    return taint.startswith((*_STATE, _CONTROL_PLANE))


def _free(scene: Scene, pod: Seen) -> list[tuple[str, dict[str, int]]]:
    """What nodes have left that nothing else keeps the pod from."""
    found = []
    for node in scene.snapshot.nodes:
        if obstacles(node, pod.spec):
            continue
        name = text(part(node, "metadata"), "name")
        left = dict(amounts(part(part(node, "status"), "allocatable")))
        for other in (*scene.snapshot.pods, *scene.snapshot.others):
            if text(part(other, "spec"), "nodeName") == name and not has_ended(other) and not going(other):
                for one, amount in requests_of(part(other, "spec")).items():
                    left[one] = left.get(one, 0) - amount
        found.append((name, left))
    return found


def _called(resource: str) -> str:
    return {CPU: "CPU", MEMORY: "memory", EPHEMERAL: "ephemeral storage"}.get(resource, resource)


def _first_reason(words: str, pattern: re.Pattern[str] | None = None) -> str:
    found = [one for one in reasons(words) if pattern is None or pattern.search(one)]
    return found[-1] if found else words.rstrip(". ")[:200]


def _cause(
    scene: Scene,
    code: str,
    pod: Seen,
    sentence: str,
    hint: str,
    *,
    words: str = "",
    patience: float = BUSY_SECONDS,
) -> Cause:
    coming = scales_up(pod)
    patience = AUTOSCALER_SECONDS if coming else patience
    since = pod.condition_since("PodScheduled")
    return Cause(
        code=code,
        sentence=sentence if not coming else f"{sentence.rstrip('.')}; an autoscaler is adding a node.",
        evidence=((words or words_of(pod))[:400], coming or scales_not(pod)),
        hint=hint,
        final=bool(scene.snapshot.nodes) and since is not None and scene.snapshot.now - since >= patience,
        patience_seconds=patience,
        since=since,
        pod=pod.name,
    )
