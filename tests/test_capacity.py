"""What is free on nodes is counted as the scheduler counts it, and a rollout is placed at its widest."""

from __future__ import annotations

from typing import Any

import pytest

from selfhost.deploy.amounts import limits_of, milli, requests_of, shown
from selfhost.deploy.capacity import Wanted, fit, free_gpus
from selfhost.deploy.claims import claimed_by, supply_of
from selfhost.deploy.scheduling import obstacles
from selfhost.deploy.surge import room_beside, steps, workloads
from tests.deployments import H100, node, options, own_pod, pod, wanted


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2", 2000), ("1500m", 1500), ("0.5", 500), (".5", 500), ("16Gi", 16 * 2**30 * 1000), ("1e3", 10**6),
        ("1E", 10**21), ("12E2", 12 * 10**5), ("100n", 1), ("1k", 10**6), ("-3", -3000), (4, 4000), ("1e-3", 1),
        ("", None), ("Gi", None), ("1 Gi", None), ("0x10", None), (True, None), (None, None), (".", None),
    ],
)  # fmt: skip
def test_quantities_are_read_as_the_api_server_reads_them(text: object, amount: int | None) -> None:
    assert milli(text) == amount


def test_amounts_are_shown_for_people() -> None:
    found = [shown("cpu", 7500), shown("memory", 24 * 2**30 * 1000), shown("nvidia.com/gpu", 2000)]
    assert found == ["7.5", "24.0 GiB", "2"]


def container(cpu: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}}} | more


def test_requests_of_a_pod_are_those_of_the_scheduler() -> None:
    spec: dict[str, Any] = {
        "containers": [container("1"), {"name": "d", "resources": {"limits": {"cpu": "2"}}}],
        "initContainers": [
            container("2", restartPolicy="Always"), container("4"), container("1", restartPolicy="Always"),
        ],
        "overhead": {"cpu": "250m"},
    }  # fmt: skip
    # running: 1 + 2 + sidecars 2 + 1 = 6; starting: 4 beside the sidecar of 2 = 6
    assert requests_of(spec)["cpu"] == 6250
    spec["initContainers"][1] = container("9")
    assert requests_of(spec)["cpu"] == 11250
    assert limits_of(spec)["cpu"] == 2250


def test_a_pods_own_resources_stand_in_for_its_containers() -> None:
    spec = {"containers": [container("1")], "resources": {"requests": {"cpu": "3", "nvidia.com/gpu": "8"}}}
    assert requests_of(spec) == {"cpu": 3000}


def test_a_container_that_was_resized_holds_what_it_was_given() -> None:
    spec = {"containers": [container("1")]}
    status = {"containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "3"}}]}
    assert requests_of(spec, status)["cpu"] == 3000


def test_free_gpus_are_allocatable_less_what_pods_hold() -> None:
    nodes = [
        node("a", 8, healthy=7),
        node("b", 4, unschedulable=True),
        node("c", 0),
        node("d", 2, ready=False),
    ]
    pods = [
        pod("one", "a", 3), pod("done", "a", 2, phase="Succeeded"), pod("waits", "", 8), pod("two", "b", 1),
    ]  # fmt: skip
    found = {one.node: one for one in free_gpus(nodes, pods)}
    assert {name: one.free for name, one in found.items()} == {"a": 4, "b": 0, "d": 0}
    assert (found["a"].capacity, found["a"].allocatable, found["a"].requested) == (8, 7, 3)
    assert (found["a"].product, found["b"].closed, found["d"].closed) == (H100, "cordoned", "not ready")


def test_mig_instances_are_counted_by_their_own_names() -> None:
    mig = node("a", 0)
    mig["status"]["allocatable"]["nvidia.com/mig-3g.40gb"] = "2"
    mig["status"]["allocatable"]["example.com/fpga"] = "1"
    assert [(one.resource, one.free) for one in free_gpus([mig], [])] == [("nvidia.com/mig-3g.40gb", 2)]


@pytest.mark.parametrize(
    ("there", "spec", "why"),
    [
        (node(), {}, ()),
        (node(unschedulable=True), {}, ("is cordoned",)),
        (node(ready=False), {}, ("is not ready",)),
        (node(taints=[{"key": "team", "value": "b", "effect": "NoSchedule"}]), {},
         ("has the taint team=b:NoSchedule",)),
        (node(taints=[{"key": "team", "value": "b", "effect": "NoExecute"}]),
         {"tolerations": [{"key": "team", "value": "b"}]}, ()),
        (node(taints=[{"key": "team", "value": "b", "effect": "NoSchedule"}]),
         {"tolerations": [{"key": "team", "value": "c"}]}, ("has the taint team=b:NoSchedule",)),
        (node(taints=[{"key": "x", "effect": "PreferNoSchedule"}]), {}, ()),
        (node(taints=[{"key": "x", "effect": "NoSchedule"}], unschedulable=True),
         {"tolerations": [{"operator": "Exists"}]}, ()),
        (node(), {"nodeSelector": {"pool": "a"}}, ("has no label pool (a is wanted)",)),
        (node(labels={"pool": "b"}), {"nodeSelector": {"pool": "a"}}, ("has pool=b (a is wanted)",)),
    ],
)  # fmt: skip
def test_what_keeps_a_pod_from_a_node(there: Any, spec: Any, why: tuple[str, ...]) -> None:
    assert obstacles(there, spec) == why


def test_terms_of_a_node_affinity_are_alternatives_and_expressions_are_not() -> None:
    def affinity(*terms: Any) -> Any:
        required = {"nodeSelectorTerms": list(terms)}
        return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}

    def rule(key: str, operator: str, *values: str) -> Any:
        return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}

    here = node(labels={"gpus": "8"})
    assert obstacles(here, affinity(rule("gpus", "In", "4"), rule("gpus", "Gt", "7"))) == ()
    assert obstacles(here, affinity(rule("gpus", "Lt", "8"))) == ("has gpus=8",)
    assert obstacles(here, affinity(rule("gpus", "NotIn", "4"), {})) == ()
    assert obstacles(here, affinity(rule("zone", "Exists"))) == ("has no label zone",)
    assert obstacles(here, affinity(rule("gpus", "DoesNotExist"))) == ("has gpus=8",)
    assert obstacles(here, affinity({})) == ("is asked for by no label at all",)


def gpu_pod(gpus: int, cpu: str = "1") -> Any:
    asked = {"nvidia.com/gpu": str(gpus), "cpu": cpu}
    return {"containers": [{"name": "c", "resources": {"requests": asked}}]}


def test_pods_go_where_the_fewest_gpus_are_left_over() -> None:
    found = fit([node("a", 8), node("b", 2)], [], [Wanted(what="server", spec=gpu_pod(2))])
    assert found.placed == (("server", "b", 1),)


def test_what_a_node_lacks_is_said_and_the_nearest_comes_first() -> None:
    nodes = [node("cpu-1", 0), node("cpu-2", 0), node("a", 8), node("b", 8, unschedulable=True)]
    found = fit(nodes, [pod("other", "a", 7)], [Wanted(what="server", spec=gpu_pod(2), count=2)])
    assert found.missing == (("server", 2),)
    assert found.lines() == (
        "a: 1 of 8 nvidia.com/gpu free, 2 needed", "cpu-1, cpu-2: has no nvidia.com/gpu", "b: is cordoned",
    )  # fmt: skip


def test_memory_cores_and_places_of_pods_count_too() -> None:
    few = node("a", 8)
    few["status"]["allocatable"]["pods"] = "1"
    found = fit([few], [pod("other", "a")], [Wanted(what="server", spec=gpu_pod(2, "200"))])
    assert found.lines() == ("a: 127 of 128 cpu free, 200 needed, has no place for one more pod",)


def test_a_first_deployment_needs_all_its_pods_at_once() -> None:
    (step,) = steps(wanted(), None, [])
    assert [(one.what, one.count) for one in step.wanted] == [("download", 1), ("server", 1)]


def test_without_surge_the_old_pods_gpus_are_free_by_then() -> None:
    found, before = wanted(), wanted(gpu="h200-sxm-141gb")
    here = [node("gpu-1", 2)]
    pods = [own_pod(found)]
    for step in steps(found, before, pods):
        assert fit(here, pods, step.wanted, leaving=step.leaving).fits
    assert not room_beside(found, here, pods).fits
    assert room_beside(found, [*here, node("gpu-2", 2)], pods).fits


def test_with_surge_old_and_new_are_there_together() -> None:
    surging, before = (
        wanted(options=options(surge=True, access_mode="ReadWriteMany")),
        wanted(gpu="h200-sxm-141gb"),
    )
    pods = [own_pod(surging)]
    widest, end = steps(surging, before, pods)
    assert (widest.name, len(widest.leaving), len(end.leaving)) == ("during the rollout", 0, 1)
    assert not fit([node("gpu-1", 3)], pods, widest.wanted).fits
    assert fit([node("gpu-1", 4)], pods, widest.wanted).fits


def test_a_workload_that_stays_as_it_is_adds_no_pods() -> None:
    (step,) = steps(wanted(), wanted(), [own_pod(wanted())])
    assert step.wanted == ()


def test_pods_of_another_deployment_of_the_same_engine_are_not_its_own() -> None:
    other = own_pod(wanted())
    other["metadata"]["labels"] = other["metadata"]["labels"] | {"app.kubernetes.io/instance": "other"}
    step = steps(wanted(), None, [other])[-1]
    assert step.leaving == frozenset()


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("kubernetes", ["download", "server"]),
        ("hybrid", ["download", "proxy", "server"]),
        ("gateway", ["download", "picker", "server"]),
        ("kserve", ["download", "server"]),
    ],
)
def test_workloads_of_every_target(target: str, names: list[str]) -> None:
    extra = options(proxy={"fallback_model": "openai/gpt-5"}) if target == "hybrid" else None
    if target == "gateway":
        extra = options(access={"expose": "gateway", "gateway": "edge/infra", "host": "a.example.com"})
    found = workloads(wanted(target, extra).objects)
    assert sorted(group.what for one in found for group in one.groups) == names


def test_a_group_on_several_nodes_asks_for_all_of_them() -> None:
    from selfhost.workload import Split

    found = wanted("lws", None, split=Split(tensor=8, pipeline=2))
    step = steps(found, None, [])[-1]
    counts = {one.what: one.count for one in step.wanted}
    assert counts == {"download": 1, "leader": 1, "worker": 1}
    assert not fit([node("a", 8)], [], step.wanted).fits
    assert fit([node("a", 8), node("b", 8)], [], step.wanted).fits


def slices(count: int, product: str = "NVIDIA H100 80GB HBM3", memory: str = "81559Mi") -> Any:
    devices = [
        {
            "name": f"gpu-{number}",
            "attributes": {"type": {"string": "gpu"}, "productName": {"string": product}},
            "capacity": {"memory": {"value": memory}},
        }
        for number in range(count)
    ]
    spec = {"driver": "gpu.nvidia.com", "nodeName": "gpu-1", "pool": {"name": "gpu-1", "generation": 1}}
    return {"spec": spec | {"devices": devices}}


def test_claimed_devices_are_chosen_as_the_claim_says() -> None:
    found = wanted(options=options(gpus={"dra": True}))
    template = next(one for one in found.objects if one["kind"] == "ResourceClaimTemplate")
    spec = next(one for one in found.objects if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    (claim,) = claimed_by(spec, [template])
    assert claim.understood
    held = {
        "metadata": {"namespace": "others", "name": "c"},
        "status": {
            "reservedFor": [{"resource": "pods", "name": "p"}],
            "allocation": {
                "devices": {"results": [{"driver": "gpu.nvidia.com", "pool": "gpu-1", "device": "gpu-0"}]}
            },
        },
    }
    supply = supply_of([slices(2)], [held])
    assert supply.lacks("gpu-1", (claim,)) == (
        "1 of 2 devices of class gpu.nvidia.com free that the claim takes, 2 needed",
    )
    assert supply.without([("others", "p")]).lacks("gpu-1", (claim,)) == ()
    small = supply_of([slices(2, memory="40Gi")], [])
    assert small.lacks("gpu-1", (claim,)) == ("no device of class gpu.nvidia.com that the claim takes",)
    assert supply_of([slices(2, product="NVIDIA L4")], []).lacks("gpu-1", (claim,))
