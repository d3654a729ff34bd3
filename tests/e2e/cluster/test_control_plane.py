"""What kubectl applies of a rendered plan gets ready on a real control plane, and goes again without a trace."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from selfhost.deploy.desired import desired
from selfhost.manifests import RenderOptions
from tests import plans
from tests.clusters import NEEDED, ControlPlane
from tests.simulator import Simulator

pytestmark = NEEDED
SECONDS = 60.0


def _apply(plane: ControlPlane, namespace: str) -> None:
    wanted = desired(plans.plan(), "kubernetes", RenderOptions(namespace=namespace))
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(wanted.objects)})
    done = plane.run("apply", "--server-side", "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr


def _available(plane: ControlPlane, namespace: str) -> dict[str, Any]:
    """The Deployment, once it is available."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/qwen3-32b"
    deadline = time.monotonic() + SECONDS
    while True:
        found = plane.client.ask("GET", path)
        if (found.get("status") or {}).get("availableReplicas"):
            return found
        assert time.monotonic() < deadline, plane.run("describe", "pods", "-n", namespace).stdout
        time.sleep(0.1)


def test_what_was_applied_gets_ready(plane: ControlPlane, sim: Simulator, namespace: str) -> None:
    before = plane.objects()
    _apply(plane, namespace)
    _available(plane, namespace)
    log = plane.run("logs", "-n", namespace, "deploy/qwen3-32b", "-c", "server")
    assert log.stdout.endswith("Application startup complete.\n"), log.stderr
    new = {
        (kind, name.split("-")[0]) for _, kind, place, name in plane.objects() - before if place == namespace
    }
    assert {kind for kind, _ in new} >= {"Deployment", "Job", "PersistentVolumeClaim", "Service", "Pod"}
    wanted = desired(plans.plan(), "kubernetes", RenderOptions(namespace=namespace))
    for item in wanted.objects:
        # not waited for: the claim stays until the pods that mount it are gone
        gone = plane.run("delete", "--wait=false", "-n", namespace, item["kind"], item["metadata"]["name"])
        assert gone.returncode == 0, gone.stderr
    deadline = time.monotonic() + SECONDS
    while left := plane.objects() - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_a_server_that_is_started_again(plane: ControlPlane, sim: Simulator, namespace: str) -> None:
    """The control plane and the nodes go on from where they were."""
    if not plane.own:
        pytest.skip("the API server of KUBECONFIG is not ours to restart")
    _apply(plane, namespace)
    again = threading.Thread(target=plane.restart_server, kwargs={"away_seconds": 1.0})
    again.start()
    again.join()
    _available(plane, namespace)
    assert plane.run("get", "nodes").stdout.count(" Ready") == len(sim.nodes)


def test_users_may_do_what_their_roles_permit(plane: ControlPlane, sim: Simulator, namespace: str) -> None:
    config = plane.user(namespace, [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}])
    assert plane.run("get", "pods", "-n", namespace, config=config).returncode == 0
    refused = plane.run("get", "secrets", "-n", namespace, config=config)
    assert 'cannot list resource "secrets" in API group "" in the namespace' in refused.stderr


def test_pods_wait_where_gpus_are_taken(plane: ControlPlane, sim: Simulator, namespace: str) -> None:
    """The real scheduler says what is short."""
    for node in tuple(sim.nodes.values()):
        node.gpus = 1
        sim.refresh(node)
    _apply(plane, namespace)
    deadline = time.monotonic() + SECONDS
    while True:
        listed = plane.client.ask("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        said = [one["message"] for one in listed if one["reason"] == "FailedScheduling"]
        if any("2 Insufficient nvidia.com/gpu" in message for message in said):
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
