"""What is said to fit is what the real scheduler places, on nodes made at random."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from selfhost.cluster.values import part, text
from selfhost.deploy.capacity import Wanted, fit
from tests.clusters import NEEDED, ControlPlane
from tests.deployments import node


def _nodes(chance: random.Random, prefix: str) -> list[Any]:
    found = []
    for number in range(4):
        spec: dict[str, Any] = {"unschedulable": True} if chance.random() < 0.2 else {}
        if chance.random() < 0.4:
            key = chance.choice(("nvidia.com/gpu", f"{prefix}.example.com/team"))
            spec["taints"] = [{"key": key, "value": "b", "effect": "NoSchedule"}]
        labels = {"test": prefix, "pool": chance.choice("ab")}
        found.append(node(f"{prefix}-{number}", chance.choice((0, 1, 2, 4, 8)), labels=labels, **spec))
    return found


def _pod(name: str, space: str, prefix: str, gpus: int, pools: list[str], cpu: str) -> Any:
    asked = {"nvidia.com/gpu": str(gpus), "cpu": cpu, "memory": "1Gi"}
    rules = [
        {"key": "test", "operator": "In", "values": [prefix]},
        {"key": "pool", "operator": "In", "values": pools},
    ]
    terms = {"nodeSelectorTerms": [{"matchExpressions": rules}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {"requests": asked, "limits": asked}}],
            "initContainers": [{"name": "i", "image": "i", "resources": {"requests": {"cpu": "1"}}}],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
            "terminationGracePeriodSeconds": 0,
        },
    }


@NEEDED
@pytest.mark.parametrize("seed", range(8))
def test_the_scheduler_places_as_many_pods_as_are_said_to_fit(seed: int, plane: ControlPlane) -> None:
    if not plane.own:
        pytest.skip("nodes are made on the tests' own control plane alone")
    chance, prefix, space = random.Random(seed), f"fit{seed}", plane.namespace("privileged")
    nodes = _nodes(chance, prefix)
    for one in nodes:
        plane.client.ask("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node"} | one)
    gpus, count, cpu = chance.choice((1, 2, 3)), 10, chance.choice(("1", "60"))
    pools = chance.choice((["a"], ["b"], ["a", "b"]))
    made = [_pod(f"p{number}", space, prefix, gpus, pools, cpu) for number in range(count)]
    deadline = time.monotonic() + 60
    while (
        plane.run("-n", space, "get", "serviceaccount", "default").returncode and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    for one in made:
        plane.client.ask("POST", f"/api/v1/namespaces/{space}/pods", one)
    wanted = Wanted(what="p", spec=made[0]["spec"], count=count)
    expected = sum(number for _, _, number in fit(nodes, (), (wanted,)).placed)
    said: list[str] = []
    while time.monotonic() < deadline:
        pods = plane.client.ask("GET", f"/api/v1/namespaces/{space}/pods")["items"]
        said = [text(part(pod, "spec"), "nodeName") for pod in pods]
        looked = [one["spec"].get("nodeName") or one["status"].get("conditions") for one in pods]
        # a node that is new is not ready for a moment: the scheduler looks again once it is
        if all(looked) and sum(map(bool, said)) == expected:
            break
        time.sleep(0.2)
    assert sum(map(bool, said)) == expected, json.dumps(said)
    time.sleep(0.5)  # nor does any come after that
    pods = plane.client.ask("GET", f"/api/v1/namespaces/{space}/pods")["items"]
    assert sum(bool(text(part(pod, "spec"), "nodeName")) for pod in pods) == expected
    for one in nodes:
        plane.client.ask("DELETE", f"/api/v1/nodes/{one['metadata']['name']}")
