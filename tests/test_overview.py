"""Deployments in a line, pods in a word, drift in fields: from plain objects, as an API server tells them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from selfhost.cli._status_watch import State
from selfhost.cluster import Change
from selfhost.cluster.kinds import DEPLOYMENT, POD
from selfhost.cluster.types import Object
from selfhost.deploy.drift import Drift, compare
from selfhost.deploy.overview import Seen, near, rows
from selfhost.deploy.pod_words import age, pod_line, unix
from selfhost.deploy.status import endpoints, last_events
from tests.deployments import options, wanted

LABELS = {
    "app.kubernetes.io/managed-by": "selfhost", "app.kubernetes.io/instance": "a",
    "app.kubernetes.io/component": "server", "app.kubernetes.io/name": "vllm", "app.kubernetes.io/version": "0.32.0",
}  # fmt: skip


def workload(
    *, ready: int = 1, replicas: int = 1, limits: dict[str, str] | None = None, **more: Any
) -> Object:
    container = {"name": "server", "resources": {"limits": limits or {"nvidia.com/gpu": "2", "rdma/ib": "1"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "llm", "labels": LABELS, "generation": 1} | more.pop("metadata", {}),
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [container]}}} | more,
        "status": {
            "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas,
            "availableReplicas": ready, "readyReplicas": ready,
        },
    }  # fmt: skip


def pod(**status: Any) -> Object:
    return {
        "metadata": {
            "name": "a-1",
            "namespace": "llm",
            "labels": LABELS,
            "creationTimestamp": "2026-11-26T12:00:00Z",
        },
        "spec": {"nodeName": "gpu-1", "containers": [{"name": "server", "image": "vllm:1"}]},
        "status": {"phase": "Running"} | status,
    }


def waiting(reason: str) -> dict[str, Any]:
    return {
        "containerStatuses": [{"name": "server", "restartCount": 3, "state": {"waiting": {"reason": reason}}}]
    }


def row_of(seen: Seen) -> Any:
    (row,) = rows(seen)
    return row


def test_gpus_are_counted_and_other_devices_are_not() -> None:
    row = row_of(Seen(workloads=(workload(replicas=3, ready=3),)))
    assert (row.gpus, row.ready, row.wanted, row.revision, row.well) == (6, 3, 3, None, True)


def test_gpus_of_claims_stand_in_the_plan() -> None:
    carried = {"annotations": {"selfhost/plan": '{"gpu": {"count": 4, "resource": "nvidia.com/gpu"}}'}}
    item = workload(limits={"cpu": "1"}, metadata=carried)
    assert row_of(Seen(workloads=(item,))).gpus == 4
    assert row_of(Seen(workloads=(workload(limits={"cpu": "1"}),))).gpus == 0


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (waiting("CrashLoopBackOff"), "CrashLoopBackOff"),
        (waiting("ContainerCreating"), "Restarted"),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        ({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
         "Unschedulable"),
        ({"containerStatuses": [{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}, "OOMKilled"),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, ""),
        ({"phase": "Succeeded"}, ""),
    ],
)  # fmt: skip
def test_a_pod_in_a_word(status: dict[str, Any], word: str) -> None:
    line = pod_line(pod(**status))
    assert line.trouble == word
    assert line.ready == (word == "" and status.get("phase") != "Succeeded")


def test_what_is_wrong_with_pods_is_the_deployments_trouble() -> None:
    seen = Seen(workloads=(workload(ready=0),), pods=(pod(**waiting("ImagePullBackOff")),))
    row = row_of(seen)
    assert (row.trouble, row.restarts, row.well) == ("ImagePullBackOff", 3, False)


def test_what_only_starts_is_no_fault_yet() -> None:
    row = row_of(Seen(workloads=(workload(ready=0),), pods=(pod(),)))
    assert (row.trouble, row.well) == ("Starting", False)


def test_the_controllers_refusal_is_trouble() -> None:
    item = workload(ready=0)
    item["status"]["conditions"] = [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}]
    assert row_of(Seen(workloads=(item,))).trouble == "FailedCreate"


def test_a_pause_is_somebodys_wish() -> None:
    item = workload(ready=0, replicas=0, metadata={"annotations": {"selfhost/paused": "1"}})
    row = row_of(Seen(workloads=(item,)))
    assert (row.paused, row.well) == (True, True)


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "-"), (-3, "0s"), (119, "119s"), (150, "2m"), (7300, "2h"), (200000, "2d")]
)
def test_ages(seconds: float | None, words: str) -> None:
    assert age(seconds) == words
    assert unix("no time") is None


def test_a_name_that_was_meant() -> None:
    assert near("qwen3-32", ("qwen3-32b", "llama")) == "qwen3-32b"
    assert near("x", ("qwen3-32b",)) == ""


def deployed(kind: str) -> Object:
    return copy.deepcopy(next(item for item in wanted().objects if item["kind"] == kind))


def owned(manager: str, fields: dict[str, Any], **more: str) -> Object:
    return {
        "manager": manager,
        "operation": "Update",
        "time": "2026-11-26T12:00:00Z",
        "fieldsV1": fields,
    } | more


def test_nothing_differs() -> None:
    item = deployed("Deployment")
    assert list(compare(item, item, item)) == []


def test_a_flag_of_the_engine_was_changed() -> None:
    item, live = deployed("Deployment"), deployed("Deployment")
    container = live["spec"]["template"]["spec"]["containers"][0]
    container["args"] = [word.replace("16384", "4096") for word in container["args"]]
    path: dict[str, Any] = {"f:containers": {'k:{"name":"server"}': {"f:args": {}}}}
    path = {"f:spec": {"f:template": {"f:spec": path}}}
    live["metadata"]["managedFields"] = [owned("kubectl-edit", path)]
    (found,) = compare(item, live, item)
    assert isinstance(found, Drift)
    assert found.path.endswith("args[--max-model-len]")
    assert (found.wanted, found.live, found.owner) == ("16384", "4096", "kubectl-edit")


def test_what_was_added_is_named_with_its_owner() -> None:
    item, live = deployed("Service"), deployed("Service")
    live["spec"]["externalTrafficPolicy"] = "Local"
    live["metadata"]["managedFields"] = [owned("somebody", {"f:spec": {"f:externalTrafficPolicy": {}}})]
    (found,) = compare(item, live, live)
    assert (found.what, found.path, found.live, found.owner) == (
        "added", "spec.externalTrafficPolicy", "Local", "somebody",
    )  # fmt: skip


@pytest.mark.parametrize("manager", ["kube-controller-manager", "keda-operator", "kubectl-rollout"])
def test_controllers_work_by_right(manager: str) -> None:
    item, live = deployed("Service"), deployed("Service")
    live["spec"]["externalTrafficPolicy"] = "Local"
    live["metadata"]["managedFields"] = [owned(manager, {"f:spec": {"f:externalTrafficPolicy": {}}})]
    assert list(compare(item, live, live)) == []


def test_a_variable_that_is_a_key_is_not_shown() -> None:
    item, live = deployed("Deployment"), deployed("Deployment")
    live["spec"]["template"]["spec"]["containers"][0]["env"].append(
        {"name": "HF_TOKEN", "value": "abc-secret"}
    )
    env: dict[str, Any] = {'k:{"name":"HF_TOKEN"}': {".": {}, "f:name": {}, "f:value": {}}}
    path = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"server"}': {"f:env": env}}}}}}
    live["metadata"]["managedFields"] = [owned("kubectl", path)]
    found = tuple(compare(item, live, live))
    assert found
    assert "abc-secret" not in repr(found)


def test_who_may_not_apply_sees_what_the_revision_names() -> None:
    item, live = deployed("Service"), deployed("Service")
    live["spec"] |= {"clusterIP": "10.0.0.9", "internalTrafficPolicy": "Cluster"}  # the server's own defaults
    assert list(compare(item, live, None)) == []
    live["spec"]["ports"][0]["port"] = 9999
    assert [one.what for one in compare(item, live, None)] == ["changed"]


def test_a_pause_and_a_canary_are_no_drift() -> None:
    item, live = deployed("Deployment"), deployed("Deployment")
    live["spec"]["replicas"] = 0
    live["metadata"]["annotations"]["selfhost/paused"] = "1"
    assert list(compare(item, live, item)) == []


def test_addresses_from_outside_come_first() -> None:
    found = wanted(
        options=options(
            access={"expose": "ingress", "host": "llm.example.com"}, gateway_namespace="ingress-nginx"
        )
    )
    assert endpoints(found.objects) == (
        "http://llm.example.com/v1", "http://qwen3-32b.llm.svc:8000/v1",
    )  # fmt: skip


def test_only_its_own_events_and_each_kind_once() -> None:
    def event(name: str, reason: str, at: str, kind: str = "Pod", count: int = 1) -> Object:
        return {
            "involvedObject": {"kind": kind, "name": name}, "reason": reason, "type": "Warning",
            "lastTimestamp": f"2026-11-26T12:00:{at}Z", "message": "m\x1b[2J", "count": count,
        }  # fmt: skip

    events = (
        event("a-1", "BackOff", "05", count=4), event("a-1", "BackOff", "01"), event("b-1", "BackOff", "02"),
        event("a-77", "FailedCreate", "03", kind="ReplicaSet"),
        event("a-canary-78", "SuccessfulCreate", "06", kind="ReplicaSet"),
        event("a", "ScalingReplicaSet", "04", kind="Deployment"),
    )  # fmt: skip
    found = last_events(events, (workload(),), (pod(),))
    assert [(one.reason, one.count) for one in found] == [
        ("FailedCreate", 1),
        ("ScalingReplicaSet", 1),
        ("BackOff", 5),
    ]
    assert "\x1b" not in found[0].message


def test_a_watch_tells_what_changed_and_nothing_twice() -> None:
    state = State()
    state.take(Change(kind=DEPLOYMENT, type="listed", items=(workload(ready=0),)))
    state.take(Change(kind=POD, type="listed", items=(pod(),)))
    assert [row.trouble for row in state.fresh()] == ["Starting"]
    assert state.fresh() == ()
    state.take(Change(kind=POD, type="set", items=(pod(**waiting("CrashLoopBackOff")),)))
    assert [row.trouble for row in state.fresh()] == ["CrashLoopBackOff"]
    state.take(Change(kind=POD, type="gone", items=(pod(),)))
    state.take(Change(kind=DEPLOYMENT, type="set", items=(workload(),)))
    assert [(row.trouble, row.ready) for row in state.fresh()] == [("", 1)]
    assert state.take(Change(kind=POD, type="trouble", because="The API server does not answer.")) is False
