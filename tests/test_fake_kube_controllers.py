"""The fake's controllers and scheduler do what the real ones do: the same steps on both, where there is a real one.

No simulator: pods are moved by hand, so that every state in between can be looked at.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from tests import clusters
from tests.fakes.kube import kube_api
from tests.kube_dialogues.steps import MERGE, STRATEGIC, container, deployment, obj
from tests.simulator.client import Client, RefusalError

Object = dict[str, Any]
WAIT_SECONDS = 20.0
_PODS, _DEPLOYMENTS = "/api/v1/namespaces/NS/pods", "/apis/apps/v1/namespaces/NS/deployments"
_SETS, _JOBS = "/apis/apps/v1/namespaces/NS/replicasets", "/apis/batch/v1/namespaces/NS/jobs"
pytestmark = pytest.mark.timeout(180)  # a real control plane starts in between


@dataclass(kw_only=True)
class Place:
    """A cluster with two nodes of two GPUs each that nobody runs, and a namespace."""

    client: Client
    namespace: str
    nodes: tuple[str, ...] = ()

    def ask(self, method: str, path: str, body: Any = None, form: str = "application/json") -> Object:
        found: Object = self.client.ask(method, path.replace("NS", self.namespace), body, form)
        return found

    def gone(self, path: str) -> bool:
        return self.client.try_ask("GET", path.replace("NS", self.namespace)) is None

    def until(self, test: Callable[[], Any], what: str = "") -> Any:
        ends = time.monotonic() + WAIT_SECONDS
        while not (found := test()):
            assert time.monotonic() < ends, what or "not in time"
            time.sleep(0.02)
        return found

    def pods(self, app: str) -> list[Object]:
        found: list[Object] = self.ask("GET", f"{_PODS}?labelSelector=app%3D{app}")["items"]
        return found

    def bound(self, app: str) -> bool:
        """Whether it has pods, and each of them a node."""
        found = self.pods(app)
        return bool(found) and all(one["spec"].get("nodeName") for one in found)

    def node_of(self, name: str) -> str:
        return str(self.ask("GET", f"{_PODS}/{name}")["spec"].get("nodeName") or "")

    def untainted(self, node: str) -> bool:
        return not self.ask("GET", f"/api/v1/nodes/{node}")["spec"].get("taints")

    def running(self, app: str) -> list[Object]:
        return [one for one in self.pods(app) if not one["metadata"].get("deletionTimestamp")]

    def status(self, pod: Object, status: Object) -> None:
        self.ask("PATCH", f"{_PODS}/{pod['metadata']['name']}/status", {"status": status}, STRATEGIC)

    def ready(self, app: str) -> None:
        """All pods that are to stay are ready."""
        for pod in self.running(app):
            said = {"type": "Ready", "status": "True", "lastTransitionTime": _now()}
            self.status(pod, {"phase": "Running", "conditions": [said]})

    def reap(self, app: str) -> None:
        """Pods that are to go go, as their kubelet has it."""
        for pod in self.pods(app):
            if pod["metadata"].get("deletionTimestamp"):
                self.ask("DELETE", f"{_PODS}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})

    def sizes(self, app: str) -> list[int]:
        """Replicas that are wanted of each ReplicaSet, oldest revision first."""
        found = self.ask("GET", f"{_SETS}?labelSelector=app%3D{app}")["items"]
        revision = "deployment.kubernetes.io/revision"
        return [
            one["spec"]["replicas"]
            for one in sorted(found, key=lambda one: int(one["metadata"]["annotations"][revision]))
        ]

    def state(self, app: str) -> dict[str, str]:
        """Conditions of a Deployment: type -> status and reason."""
        found = self.ask("GET", f"{_DEPLOYMENTS}/{app}")["status"].get("conditions") or []
        return {one["type"]: f"{one['status']} {one['reason']}" for one in found}

    def events(self, kind: str, name: str) -> set[tuple[str, str, str]]:
        found = self.ask("GET", "/api/v1/namespaces/NS/events")["items"]
        return {
            (one["type"], one["reason"], _plain(one["message"], name))
            for one in found
            if one["involvedObject"]["kind"] == kind and one["involvedObject"]["name"].startswith(name)
        }

    def make_pod(self, name: str, gpus: int = 0, **spec: Any) -> None:
        asked = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
        body = {"containers": [container(resources=asked)], "nodeSelector": {"place": self.namespace}} | spec
        self.ask("POST", _PODS, obj("v1", "Pod", name, {"spec": body}))

    def unschedulable(self, name: str) -> str:
        """Why a pod has no node; once it is said."""

        def said() -> str:
            conditions = self.ask("GET", f"{_PODS}/{name}")["status"].get("conditions") or []
            return next((one.get("message", "") for one in conditions if one["status"] == "False"), "")

        text: str = self.until(said, f"{name} is not called unschedulable")
        return re.sub(
            r"^0/\d+ nodes are available: (\d+ node\(s\) didn't match Pod's node affinity/selector, )?",
            "",
            text,
        )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(message: str, name: str) -> str:
    return re.sub(rf"\b{name}-[a-z0-9]{{5,10}}(-[a-z0-9]{{5}})?\b", f"{name}-X", message)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.ControlPlane]:
    yield from clusters.control_plane(tmp_path_factory.mktemp("plane"))


@pytest.fixture(params=["fake", pytest.param("real", marks=clusters.NEEDED)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "fake":
        with kube_api(pace=20.0) as kube:
            yield from _place(kube.url, kube.token)
    else:
        real: clusters.ControlPlane = request.getfixturevalue("plane")
        yield from _place(real.address, real.token)


def _place(address: str, token: str) -> Iterator[Place]:
    client = Client(address, token)
    found = Place(client=client, namespace=f"selfhost-test-{uuid4().hex[:8]}")
    found.ask("POST", "/api/v1/namespaces", obj("v1", "Namespace", found.namespace))
    found.nodes = tuple(f"{found.namespace}-{number}" for number in (1, 2))
    for name in found.nodes:
        has = {"cpu": "8", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": "2"}
        node = obj("v1", "Node", name, labels={"place": found.namespace, "kubernetes.io/hostname": name})
        found.ask("POST", "/api/v1/nodes", node)
        said = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": _now(), "lastTransitionTime": _now()}  # fmt: skip
        status = {"status": {"allocatable": has, "capacity": has, "conditions": [said]}}
        found.ask("PATCH", f"/api/v1/nodes/{name}/status", status, MERGE)
    found.until(lambda: not found.gone("/api/v1/namespaces/NS/serviceaccounts/default"))
    for name in found.nodes:  # the node's controller takes away what admission put on it
        found.until(partial(found.untainted, name))
    try:
        yield found
    finally:
        for kind in ("/apis/apps/v1/namespaces/NS/deployments", _JOBS, _PODS):
            found.ask("DELETE", kind, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})
        for name in found.nodes:
            found.ask("DELETE", f"/api/v1/nodes/{name}")
        client.close()


def _deployment(place: Place, name: str, replicas: int = 2, **spec: Any) -> Object:
    return deployment(name, replicas, pod={"nodeSelector": {"place": place.namespace}}, **spec)


def _upgrade(place: Place, name: str) -> None:
    change = {"spec": {"template": {"spec": {"containers": [container(image="example/engine:2")]}}}}
    place.ask("PATCH", f"{_DEPLOYMENTS}/{name}", change, MERGE)


def test_an_update_with_room_starts_the_new_pod_first(place: Place) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    place.ask("POST", _DEPLOYMENTS, _deployment(place, "roll", strategy=strategy))
    place.until(lambda: len(place.pods("roll")) == 2)
    assert place.state("roll")["Available"] == "False MinimumReplicasUnavailable"
    place.ready("roll")
    place.until(lambda: place.state("roll").get("Progressing") == "True NewReplicaSetAvailable")
    _upgrade(place, "roll")
    place.until(lambda: len(place.pods("roll")) == 3)
    assert place.sizes("roll") == [2, 1]
    place.ready("roll")
    place.until(lambda: place.sizes("roll") == [1, 2])
    assert place.state("roll")["Available"] == "True MinimumReplicasAvailable"
    place.until(lambda: len(place.running("roll")) == 3)
    place.ready("roll")
    place.until(lambda: place.sizes("roll") == [0, 2])
    place.reap("roll")
    place.until(lambda: place.state("roll").get("Progressing") == "True NewReplicaSetAvailable")
    assert (
        place.ask("GET", f"{_DEPLOYMENTS}/roll")["metadata"]["annotations"][
            "deployment.kubernetes.io/revision"
        ]
        == "2"
    )
    assert {message for _, _, message in place.events("Deployment", "roll")} == {
        "Scaled up replica set roll-X from 0 to 2", "Scaled up replica set roll-X from 0 to 1",
        "Scaled down replica set roll-X from 2 to 1", "Scaled up replica set roll-X from 1 to 2",
        "Scaled down replica set roll-X from 1 to 0",
    }  # fmt: skip


def test_an_update_without_room_ends_an_old_pod_first(place: Place) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    place.ask("POST", _DEPLOYMENTS, _deployment(place, "drain", strategy=strategy))
    place.until(lambda: len(place.pods("drain")) == 2)
    place.ready("drain")
    place.until(lambda: place.state("drain").get("Progressing") == "True NewReplicaSetAvailable")
    _upgrade(place, "drain")
    place.until(lambda: place.sizes("drain") == [1, 1])
    place.until(lambda: len(place.running("drain")) == 2)
    time.sleep(0.3)
    assert place.sizes("drain") == [1, 1], "one is gone and one is new until that is ready"
    place.reap("drain")
    place.ready("drain")
    place.until(lambda: place.sizes("drain") == [0, 2])


def test_recreate_waits_for_the_old_pods_to_go(place: Place) -> None:
    place.ask("POST", _DEPLOYMENTS, _deployment(place, "re", strategy={"type": "Recreate"}))
    place.until(lambda: len(place.pods("re")) == 2)
    place.ready("re")
    place.until(lambda: place.state("re").get("Available") == "True MinimumReplicasAvailable")
    _upgrade(place, "re")
    place.until(lambda: not place.running("re"))
    time.sleep(0.3)
    assert place.sizes("re") == [0], "no new pod beside one that still ends"
    place.reap("re")
    place.until(lambda: place.sizes("re") == [0, 2])
    place.until(lambda: len(place.running("re")) == 2)


def test_a_pause_holds_the_rollout_and_a_deadline_ends_it(place: Place) -> None:
    place.ask("POST", _DEPLOYMENTS, _deployment(place, "slow", 1, progressDeadlineSeconds=1))
    place.until(lambda: place.state("slow").get("Progressing") == "False ProgressDeadlineExceeded")
    place.ask("PATCH", f"{_DEPLOYMENTS}/slow", {"spec": {"paused": True}}, MERGE)
    _upgrade(place, "slow")
    generation = place.ask("GET", f"{_DEPLOYMENTS}/slow")["metadata"]["generation"]
    place.until(
        lambda: place.ask("GET", f"{_DEPLOYMENTS}/slow")["status"].get("observedGeneration") == generation
    )
    assert len(place.sizes("slow")) == 1
    place.ask("PATCH", f"{_DEPLOYMENTS}/slow", {"spec": {"paused": False}}, MERGE)
    place.until(lambda: len(place.sizes("slow")) == 2)


def test_quota_and_pod_security_show_at_the_replica_set(place: Place) -> None:
    hard = {"requests.nvidia.com/gpu": "1"}
    quotas = "/api/v1/namespaces/NS/resourcequotas"
    place.ask("POST", quotas, obj("v1", "ResourceQuota", "gpus", {"spec": {"hard": hard}}))
    place.until(lambda: place.ask("GET", f"{quotas}/gpus")["status"].get("used"))
    gpus = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    place.ask("POST", _DEPLOYMENTS, _deployment(place, "big", 1, container=gpus))
    words = (
        'pods "big-X" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=2, '
        "used: requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=1"
    )
    place.until(lambda: place.state("big").get("ReplicaFailure") == "True FailedCreate")
    assert ("Warning", "FailedCreate", f"Error creating: {words}") in place.events("ReplicaSet", "big")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    place.ask("PATCH", "/api/v1/namespaces/NS", {"metadata": {"labels": labels}}, MERGE)
    place.ask("POST", _DEPLOYMENTS, _deployment(place, "lax", 1))
    place.until(lambda: place.events("ReplicaSet", "lax"))
    (refusal,) = {
        message for _, reason, message in place.events("ReplicaSet", "lax") if reason == "FailedCreate"
    }
    assert refusal.startswith(
        'Error creating: pods "lax-X" is forbidden: violates PodSecurity "restricted:latest": '
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)'
    )


def test_the_scheduler_says_why(place: Place) -> None:
    helpless = "no new claims to deallocate, preemption: 0/N nodes are available: "
    helpless += "N Preemption is not helpful for scheduling."

    def said(name: str) -> str:
        return re.sub(
            r"0/\d+ nodes are available: \d+ Pre", "0/N nodes are available: N Pre", place.unschedulable(name)
        )

    place.make_pod("many", 4)
    assert said("many") == f"2 Insufficient nvidia.com/gpu. {helpless}"
    place.make_pod("lost", 0, volumes=[{"name": "w", "persistentVolumeClaim": {"claimName": "w"}}])
    assert said("lost") == 'persistentvolumeclaim "w" not found. not found'
    for number in (1, 2):
        place.make_pod(f"fits-{number}", 2)
        place.until(partial(place.node_of, f"fits-{number}"))
    place.make_pod("late", 1)
    assert said("late").startswith(
        "2 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/"
    )
    assert "2 No preemption victims found for incoming pod" in said("late")
    taint = {"spec": {"taints": [{"key": "gpu", "value": "x", "effect": "NoSchedule"}]}}
    place.ask("PATCH", f"/api/v1/nodes/{place.nodes[0]}", taint, MERGE)
    place.ask("DELETE", f"{_PODS}/fits-1", {"gracePeriodSeconds": 0})
    place.ask("DELETE", f"{_PODS}/fits-2", {"gracePeriodSeconds": 0})
    place.until(lambda: place.ask("GET", f"{_PODS}/late")["spec"].get("nodeName") == place.nodes[1])
    place.make_pod("shy", 2)
    assert said("shy").startswith("1 Insufficient nvidia.com/gpu, ") or "untolerated taint" in said("shy")
    assert (
        "Normal",
        "Scheduled",
        f"Successfully assigned {place.namespace}/late to {place.nodes[1]}",
    ) in place.events("Pod", "late")


def _job(place: Place, name: str, **spec: Any) -> None:
    pod = {
        "restartPolicy": "Never", "containers": [container()], "nodeSelector": {"place": place.namespace},
    }  # fmt: skip
    body = {"template": {"metadata": {"labels": {"app": name}}, "spec": pod}} | spec
    place.ask("POST", _JOBS, obj("batch/v1", "Job", name, {"spec": body}))
    place.until(lambda: place.pods(name))


def _ends(place: Place, name: str) -> Object:
    def over() -> Object | None:
        status: Object = place.ask("GET", f"{_JOBS}/{name}")["status"]
        found = {one["type"]: one for one in status.get("conditions") or ()}
        return found if {"Complete", "Failed"} & set(found) else None

    found: Object = place.until(over)
    return found


def _phase(place: Place, name: str, phase: str) -> None:
    terminated = {"exitCode": 0 if phase == "Succeeded" else 1, "finishedAt": _now()}
    state = {"name": "c", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    place.status(
        place.pods(name)[0],
        {"phase": phase, "containerStatuses": [state | {"state": {"terminated": terminated}}]},
    )


def test_jobs_end_well_badly_and_late(place: Place) -> None:
    _job(place, "good")
    assert place.pods("good")[0]["metadata"]["finalizers"] == ["batch.kubernetes.io/job-tracking"]
    _phase(place, "good", "Succeeded")
    assert set(_ends(place, "good")) == {"SuccessCriteriaMet", "Complete"}
    _job(place, "bad", backoffLimit=0)
    _phase(place, "bad", "Failed")
    assert _ends(place, "bad")["Failed"]["message"] == "Job has reached the specified backoff limit"
    _job(place, "late", activeDeadlineSeconds=1)
    place.until(lambda: not place.running("late"))
    place.reap("late")
    assert _ends(place, "late")["Failed"]["reason"] == "DeadlineExceeded"
    assert ("Normal", "Completed", "Job completed") in place.events("Job", "good")


def test_dependants_go_with_their_owner(place: Place) -> None:
    """In the background, in the foreground (the owner waits), and not at all."""
    for name in ("back", "front", "orphan"):
        place.ask("POST", _DEPLOYMENTS, _deployment(place, name, 1))
        place.until(partial(place.bound, name))
    place.ask("DELETE", f"{_DEPLOYMENTS}/back", {"propagationPolicy": "Background"})
    assert place.gone(f"{_DEPLOYMENTS}/back")
    place.until(lambda: not place.running("back"))
    place.ask("DELETE", f"{_DEPLOYMENTS}/front", {"propagationPolicy": "Foreground"})
    place.until(lambda: not place.running("front"))
    assert place.ask("GET", f"{_DEPLOYMENTS}/front")["metadata"]["finalizers"] == ["foregroundDeletion"]
    place.reap("front")
    place.until(lambda: place.gone(f"{_DEPLOYMENTS}/front"))
    place.ask("DELETE", f"{_DEPLOYMENTS}/orphan", {"propagationPolicy": "Orphan"})
    place.until(lambda: place.gone(f"{_DEPLOYMENTS}/orphan"))
    (left,) = place.ask("GET", f"{_SETS}?labelSelector=app%3Dorphan")["items"]
    assert "ownerReferences" not in left["metadata"]
    place.ask("DELETE", f"{_SETS}/{left['metadata']['name']}", {"propagationPolicy": "Background"})


def test_a_claim_stays_while_a_pod_uses_it(place: Place) -> None:
    claims = "/api/v1/namespaces/NS/persistentvolumeclaims"
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "none",
    }
    place.ask("POST", claims, obj("v1", "PersistentVolumeClaim", "w", {"spec": spec}))
    place.make_pod("user", volumes=[{"name": "w", "persistentVolumeClaim": {"claimName": "w"}}])
    assert place.unschedulable("user") == "pod has unbound immediate PersistentVolumeClaims. not found"
    place.ask("PATCH", f"{_PODS}/user", {"metadata": {"finalizers": ["example.com/hold"]}}, MERGE)
    volume = {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "none",
        "hostPath": {"path": "/x"}, "claimRef": {"namespace": place.namespace, "name": "w"},
    }  # fmt: skip
    name = f"pv-{place.namespace}"
    place.ask("POST", "/api/v1/persistentvolumes", obj("v1", "PersistentVolume", name, {"spec": volume}))
    place.until(lambda: place.ask("GET", f"{claims}/w")["status"]["phase"] == "Bound")
    place.until(lambda: place.ask("GET", f"{_PODS}/user")["spec"].get("nodeName"))
    place.ask("DELETE", f"{claims}/w")
    time.sleep(0.3)
    assert place.ask("GET", f"{claims}/w")["metadata"]["deletionTimestamp"]
    place.ask("PATCH", f"{_PODS}/user", {"metadata": {"finalizers": None}}, MERGE)
    place.ask("DELETE", f"{_PODS}/user", {"gracePeriodSeconds": 0})
    place.until(lambda: place.gone(f"{claims}/w"))
    place.until(
        lambda: place.ask("GET", f"/api/v1/persistentvolumes/{name}")["status"]["phase"] == "Released"
    )
    place.ask("DELETE", f"/api/v1/persistentvolumes/{name}")


def test_a_namespace_goes_with_what_is_in_it(place: Place) -> None:
    name = f"{place.namespace}-more"
    place.ask("POST", "/api/v1/namespaces", obj("v1", "Namespace", name))
    place.ask("POST", f"/api/v1/namespaces/{name}/configmaps", obj("v1", "ConfigMap", "m"))
    place.ask("DELETE", f"/api/v1/namespaces/{name}")
    with pytest.raises(RefusalError, match=r"because it is being terminated|not found"):
        place.ask("POST", f"/api/v1/namespaces/{name}/configmaps", obj("v1", "ConfigMap", "n"))
    place.until(lambda: place.gone(f"/api/v1/namespaces/{name}"))
