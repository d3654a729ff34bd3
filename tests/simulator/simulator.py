"""Simulated nodes of a cluster: they take the pods that are bound to them, and do with them what a test asks."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.simulator import programs
from tests.simulator.box import Behaviour, Rule
from tests.simulator.client import MERGE, Client, RefusalError
from tests.simulator.events import Recorder
from tests.simulator.kubelet import Kubelets
from tests.simulator.loop import Loop
from tests.simulator.mounts import Volumes
from tests.simulator.nodes import LEASE_SECONDS, Node, conditions
from tests.simulator.pods import PodLife
from tests.simulator.volumes import PROVISIONER, Provisioner, storage_class

Object = dict[str, Any]
IMAGE_BYTES = 9_683_412_117  # about vllm/vllm-openai's, compressed; what Pulled says
PULL_SECONDS = 95.0


class Simulator:
    """Nodes, their kubelets, and a provisioner of volumes.

    Args:
        address: of the API server.
        token: of a user who may do everything.
        pace: seconds of the clock for each second that something takes: 0.01 is a hundred times as fast.
    """

    def __init__(self, address: str, token: str = "", *, pace: float = 0.001) -> None:
        self.client = Client(address, token)
        self.pace = pace
        self.nodes: dict[str, Node] = {}
        self.pods: dict[tuple[str, str], PodLife] = {}
        self.images: dict[str, set[str]] = {}
        self.volumes: Volumes = {}
        self.closed = False
        self.recorder = Recorder(self.client)
        self.provisioner = Provisioner(self)
        self._rules: list[Rule] = []
        self._classes: list[str] = []
        self._lock = threading.RLock()
        self._addresses = itertools.count(2)
        self.loop = Loop()
        self.kubelets = Kubelets(self)
        self._threads = [
            threading.Thread(target=one, daemon=True, name=f"simulator-{one.__name__}")
            for one in (self._watch_pods, self._watch_claims, self._beat)
        ]

    @classmethod
    def of_kubeconfig(cls, path: Path, *, pace: float = 0.001) -> Simulator:
        """For the API server of a kubeconfig that holds a token."""
        client = Client.of_kubeconfig(path)
        scheme = "https" if client.tls else "http"
        token = client.headers.get("Authorization", "").removeprefix("Bearer ")
        return cls(f"{scheme}://{client.host}:{client.port}{client.prefix}", token, pace=pace)

    def __enter__(self) -> Simulator:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the nodes and classes away again; pods that still are on them stay as they are."""
        for name in tuple(self.nodes):
            self._forget(f"/api/v1/nodes/{name}")
            self._forget(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}")
        for name in self._classes:
            self._forget(f"/apis/storage.k8s.io/v1/storageclasses/{name}")
        self.closed = True
        self.client.hang_up()
        for life in tuple(self.pods.values()):
            life.abandon()
        self.loop.close()
        self.kubelets.close()
        for thread in self._threads:
            thread.join(timeout=10)
        self.client.close()
        assert not self.loop.errors, "\n".join(self.loop.errors)

    def _forget(self, path: str) -> None:
        try:
            self.client.try_ask("DELETE", path)
        except (RefusalError, ConnectionError):
            return

    # What a test asks for

    def node(self, name: str, **facts: Any) -> Node:
        """Register a node; the words are fields of `Node`."""
        node = Node(name=name, **facts)
        self.nodes[name] = node
        document = node.document(self.kubelets.port)
        if self.client.try_ask("POST", "/api/v1/nodes", document) is None:
            self.client.ask("PATCH", f"/api/v1/nodes/{name}", {"metadata": document["metadata"]}, MERGE)
        self._renew(node)
        self._node_status(node, node.status(self.kubelets.port))
        return node

    def refresh(self, node: Node) -> None:
        """Tell the API server of changes of a node's facts."""
        document = node.document(self.kubelets.port)
        change = {"metadata": {"labels": document["metadata"]["labels"]}, "spec": document["spec"]}
        self.client.ask("PATCH", f"/api/v1/nodes/{node.name}", change, MERGE)
        self._node_status(node, document["status"])

    def down(self, name: str) -> None:
        """The node's kubelet is gone; its condition is what the node lifecycle controller makes of that.

        After Kubernetes 1.36 pkg/controller/nodelifecycle/node_lifecycle_controller.go.
        """
        node = self.nodes[name]
        node.up = False
        words = conditions("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
        self._node_status(node, {"conditions": words})
        for life in tuple(self.pods.values()):
            if life.node == name:
                life.abandon()

    def up(self, name: str) -> None:
        """The node's kubelet is back, and begins anew with the pods that are bound to it."""
        node = self.nodes[name]
        node.up = True
        self._renew(node)
        self._node_status(node, node.status(self.kubelets.port))
        for key, life in tuple(self.pods.items()):
            if life.node == name:
                self._gone(key)
        for pod in self.client.ask("GET", "/api/v1/pods").get("items") or ():
            if pod["spec"].get("nodeName") == name:
                self._pod(pod)

    def not_ready(self, name: str, message: str) -> None:
        """The node's kubelet says itself that it is not ready."""
        self._node_status(self.nodes[name], {"conditions": conditions("False", "KubeletNotReady", message)})

    def storage(
        self, name: str, *, default: bool = True, wait: bool = True, provisioner: str = PROVISIONER
    ) -> None:
        """Make a StorageClass; `wait` for a pod before a volume is made, as most clusters do."""
        document = storage_class(name, default=default, wait=wait, provisioner=provisioner)
        self.client.try_ask("POST", "/apis/storage.k8s.io/v1/storageclasses", document)
        self._classes.append(name)

    def behave(
        self,
        behaviour: Behaviour,
        *,
        namespace: str = "",
        deployment: str = "",
        component: str = "",
        container: str = "",
        node: str = "",
        pod: str = "",
        times: int = 0,
    ) -> Rule:
        """From now on, containers that match behave so; what was said last counts.

        Args:
            behaviour: one of tests.simulator.faults, or of one's own.
            namespace, deployment, component, container, node, pod: which; empty for any. A deployment is the label
                app.kubernetes.io/instance, a component app.kubernetes.io/component.
            times: for so many pods only, the first that match; 0 for all.
        """
        rule = Rule(
            behaviour=behaviour, namespace=namespace, deployment=deployment, component=component,
            container=container, node=node, pod=pod, times=times,
        )  # fmt: skip
        with self._lock:
            self._rules.append(rule)
        return rule

    def well(self, rule: Rule | None = None) -> None:
        """Take a rule back, or all of them."""
        with self._lock:
            self._rules = [] if rule is None else [one for one in self._rules if one is not rule]

    @contextmanager
    def behaving(self, behaviour: Behaviour, **which: Any) -> Iterator[Rule]:
        """The same for a block."""
        rule = self.behave(behaviour, **which)
        try:
            yield rule
        finally:
            self.well(rule)

    # What its parts ask for

    def behaviour(self, pod: Object, container: str, init: bool, attempt: int) -> Behaviour:
        """How a container of a pod behaves now."""
        found = _usual(pod, container, init)
        with self._lock:
            for rule in self._rules:
                only = rule.behaviour.only
                if (not only or attempt < only) and rule.holds(pod, container):
                    found = rule.behaviour.over(found)
        return found

    def address(self) -> str:
        """An address for a pod."""
        with self._lock:
            number = next(self._addresses)
        return f"10.244.{number // 250}.{number % 250 + 1}"

    def _node_status(self, node: Node, status: Object) -> None:
        self.client.ask("PATCH", f"/api/v1/nodes/{node.name}/status", {"status": status}, MERGE)

    def _renew(self, node: Node) -> None:
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        lease = node.lease()
        change = {"spec": lease["spec"]}
        if self.client.try_ask("PATCH", f"{path}/{node.name}", change, MERGE) is None:
            self.client.try_ask("POST", path, lease)

    def _beat(self) -> None:
        while not self.client.closed.wait(LEASE_SECONDS / 4):
            for node in tuple(self.nodes.values()):
                if node.up:
                    _patiently(lambda node=node: self._renew(node))  # type: ignore[misc]

    def _watch_pods(self) -> None:
        for kind, item in self.client.follow("/api/v1/pods"):
            if kind == "LISTED":
                items = item.get("items") or []
                here = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in items}
                for key in tuple(self.pods):
                    if key not in here:
                        self._gone(key)
                for one in items:
                    _patiently(lambda one=one: self._pod(one))  # type: ignore[misc]
            elif kind == "DELETED":
                self._gone((item["metadata"]["namespace"], item["metadata"]["name"]))
            else:
                _patiently(lambda item=item: self._pod(item))  # type: ignore[misc]

    def _pod(self, pod: Object) -> None:
        metadata = pod["metadata"]
        node = self.nodes.get(pod["spec"].get("nodeName", ""))
        if node is None or not node.up:
            return
        key = (metadata["namespace"], metadata["name"])
        life = self.pods.get(key)
        if life is not None and life.uid != metadata["uid"]:
            self._gone(key)
            life = None
        if life is None:
            if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                if metadata.get("deletionTimestamp"):
                    self.pods[key] = life = PodLife(self, pod)
                    life.stop()
                return
            self.pods[key] = life = PodLife(self, pod)
            if not metadata.get("deletionTimestamp"):
                life.begin()
        life.pod = pod
        if metadata.get("deletionTimestamp"):
            life.stop()

    def _gone(self, key: tuple[str, str]) -> None:
        life = self.pods.pop(key, None)
        if life is not None:
            life.abandon()

    def _watch_claims(self) -> None:
        for kind, item in self.client.follow("/api/v1/persistentvolumeclaims"):
            if kind == "LISTED":
                claims = item.get("items") or []
                _patiently(lambda claims=claims: self.provisioner.listed(claims))  # type: ignore[misc]
            elif kind == "DELETED":
                _patiently(lambda item=item: self.provisioner.deleted(item))  # type: ignore[misc]
            else:
                _patiently(lambda item=item: self.provisioner.changed(item))  # type: ignore[misc]


def _usual(pod: Object, container: str, init: bool) -> Behaviour:
    """How a container behaves where nothing is wrong: by its name, as selfhost's own manifests have it."""
    spec = next(
        one
        for one in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]
        if one["name"] == container
    )
    words = [*(spec.get("command") or ()), *(spec.get("args") or ())]
    program = programs.idle
    if init and spec.get("restartPolicy") != "Always":
        program = programs.await_weights if container == "weights" else programs.finish
    elif "pull" in words and any(word.startswith("--ready-file") for word in words):
        program = programs.download
    elif words[:2] == ["vllm", "serve"]:
        program = programs.serve
    elif pod["spec"].get("restartPolicy") in ("Never", "OnFailure"):
        program = programs.finish
    return Behaviour(program=program, pull_seconds=PULL_SECONDS, image_bytes=IMAGE_BYTES)


def _patiently(act: Callable[[], object]) -> None:
    """What a watch leads to must not end the watch: an object may be gone or refused by then."""
    try:
        act()
    except (RefusalError, ConnectionError):
        return
