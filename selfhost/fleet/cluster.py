"""Exporters of a Kubernetes cluster: found as pods, and read through the API server or at their own addresses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from selfhost.cluster.values import part, text
from selfhost.fleet.judge import finding
from selfhost.fleet.kube import Api, connect
from selfhost.fleet.types import NO_EXPORTER, NOT_READY, PORT, NodeAddress
from selfhost.observation.summary import CheckSummary

SELECTOR = "app.kubernetes.io/name=selfhost-monitor"
# NVIDIA's device plugin calls its resources so (gpu, gpu.shared, mig-1g.10gb, …); GPU feature discovery sets the label.
_RESOURCE = "nvidia.com/"
_LABEL = "nvidia.com/gpu.present"


def nodes_of_cluster(
    context: str | None = None,
    namespace: str | None = None,
    selector: str = SELECTOR,
    *,
    direct: bool = False,
    port: int = PORT,
    kubeconfig: str | None = None,
) -> tuple[NodeAddress, ...]:
    """Every node of a cluster that has GPUs or an exporter, named as Kubernetes names it.

    Args:
        context: of the kubeconfig; its current one by default. Within a pod, the pod's own account.
        namespace: where the exporters run; all by default.
        selector: labels of the exporters' pods.
        direct: read the pods at their own addresses, for those who are in the cluster's network; otherwise through
            the API server, which needs no more than the kubeconfig.
        port: of the exporters.
        kubeconfig: path of the file, where it is not the usual one.

    Returns:
        Addresses for `poll`. A node that is not ready, or has GPUs and no exporter, carries that as a finding.

    Raises:
        ClusterError: no client, no kubeconfig, no such context, no way to the API server, or no permission.
    """
    api = connect(context, kubeconfig)
    where = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods" if namespace else "/api/v1/pods"
    pods = [_pod(item) for item in api.list(where, "pods", labelSelector=selector)]
    found = [_node(item) for item in api.list("/api/v1/nodes", "nodes")]
    return _addresses(api, pods, {node.name: node for node in found}, direct=direct, port=port)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pod:
    name: str
    namespace: str
    node: str
    address: str
    phase: str
    ending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    name: str
    gpus: bool
    trouble: CheckSummary | None


def _addresses(
    api: Api, pods: list[_Pod], nodes: dict[str, _Node], *, direct: bool, port: int
) -> tuple[NodeAddress, ...]:
    found: dict[str, NodeAddress] = {}
    # A pod that runs stands last, and so before another of the same node that does not.
    for pod in sorted(pods, key=lambda pod: (pod.phase == "Running", pod.name)):
        if pod.ending or not pod.node:
            continue
        node = nodes.get(pod.node)
        known = [node.trouble] if node and node.trouble else []
        url, ask = "", None
        if pod.phase != "Running" or (direct and not pod.address):
            words = f"Its exporter {pod.namespace}/{pod.name} is {pod.phase.lower() or 'not running'}."
            known.append(finding(NO_EXPORTER, "unknown", words))
        elif direct:
            url = f"http://[{pod.address}]:{port}" if ":" in pod.address else f"http://{pod.address}:{port}"
        else:
            ask = partial(api.ask, pod.namespace, pod.name, port)
        found[pod.node] = NodeAddress(name=pod.node, url=url, ask=ask, findings=tuple(known), certain=True)
    for node in nodes.values():
        if node.name not in found and node.gpus:
            none = finding(NO_EXPORTER, "unknown", "It has GPUs and no exporter.", "fix_configuration")
            known = [node.trouble, none] if node.trouble else [none]
            found[node.name] = NodeAddress(name=node.name, findings=tuple(known), certain=True)
    return tuple(found[name] for name in sorted(found))


def _pod(item: dict[str, Any]) -> _Pod:
    metadata, spec, status = (part(item, name) for name in ("metadata", "spec", "status"))
    return _Pod(
        name=text(metadata, "name"),
        namespace=text(metadata, "namespace"),
        node=text(spec, "nodeName"),
        address=text(status, "podIP"),
        phase=text(status, "phase"),
        ending="deletionTimestamp" in metadata,
    )


def _node(item: dict[str, Any]) -> _Node:
    metadata, status = part(item, "metadata"), part(item, "status")
    capacity, labels = part(status, "capacity"), part(metadata, "labels")
    gpus = labels.get(_LABEL) == "true" or any(
        name.startswith(_RESOURCE) and str(count) not in ("", "0") for name, count in capacity.items()
    )
    return _Node(name=text(metadata, "name"), gpus=gpus, trouble=_not_ready(status))


def _not_ready(status: dict[str, Any]) -> CheckSummary | None:
    conditions = status.get("conditions")
    for condition in conditions if isinstance(conditions, list) else ():
        if isinstance(condition, dict) and condition.get("type") == "Ready":
            if condition.get("status") == "True":
                return None
            reason = text(condition, "reason") or "no reason given"
            words = f"Kubernetes has it as not ready: {text(condition, 'message') or reason}"
            return finding(NOT_READY, "critical", f"{words.rstrip('.')[:300]}.")
    return finding(NOT_READY, "unknown", "Kubernetes does not say whether it is ready.")
