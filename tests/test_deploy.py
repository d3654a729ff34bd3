"""`selfhost deploy` end to end: against the API fake, and against a real control plane where one is given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfhost.cluster import ConflictError
from selfhost.deploy import revisions
from selfhost.deploy.settings import Preview, Result, Settings
from selfhost.deploy.types import Desired
from selfhost.errors import ClusterError
from tests import clusters
from tests.simulator import crashes, faults
from tests.worlds import PRODUCT, World, a_plan, fake_world, real_world, with_flag

# What a real scheduler and a real controller manager need on a busy machine; nothing waits for it in vain.
SECONDS = Settings(timeout_seconds=90, smoke=False)  # the first deployment's test is enough
SPARE: dict[str, Any] = {
    "surge": True,
    "access_mode": "ReadWriteMany",
}  # a pod beside the old one, on any node


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=clusters.NEEDED)])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if request.param == "fake":
        with fake_world(tmp_path_factory.mktemp("world")) as world:
            yield world
    else:
        with real_world(request.getfixturevalue("plane")) as world:
            yield world


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    """The cluster with one node of eight GPUs, nothing amiss, and a namespace of the test's own."""
    shared.namespace = shared.new_namespace()
    shared.sim.well()
    shared.sim.node("gpu-1", gpus=8, product=PRODUCT)
    yield shared
    clean(shared)


def clean(world: World) -> None:
    """Give the node back what the test's pods hold."""
    for path in ("/apis/apps/v1", "/apis/batch/v1"):
        kinds = ("deployments",) if "apps" in path else ("jobs",)
        for kind in kinds:
            place = f"{path}/namespaces/{world.namespace}/{kind}"
            for item in world.sim.client.ask("GET", place)["items"]:
                world.sim.client.try_ask(
                    "DELETE", f"{place}/{item['metadata']['name']}?propagationPolicy=Background"
                )


def states(world: World) -> list[tuple[int, str]]:
    return [(head.number, head.state) for head in revisions.heads(world.api(), world.namespace, "qwen")]


def test_a_first_deployment_serves_within_sixty_requests(world: World) -> None:
    before = world.objects()
    api = world.api()
    result = world.deploy(world.wanted(), SECONDS, api=api, smoke=True)
    assert (result.ended, result.message) == ("ready", result.message), result
    assert states(world) == [(1, "deployed")]
    assert len(api.requests) <= 60, api.requests
    kinds = {(kind, name) for kind, _, name in world.objects() - before}
    assert {("Deployment", "qwen"), ("Service", "qwen"), ("ConfigMap", "qwen.selfhost.v1")} <= kinds
    assert not any(kind == "Lease" for kind, _ in kinds)
    assert [event.type for event in world.told if event.type in ("preview", "smoke", "ready")] == [
        "preview", "smoke", "ready",
    ]  # fmt: skip


def test_deploying_the_same_again_changes_nothing(world: World) -> None:
    wanted = world.wanted()
    assert world.deploy(wanted, SECONDS).ended == "ready"
    versions = world.get("apps/v1", "Deployment", "qwen")
    before = world.objects()
    asked: list[Preview] = []

    def confirm(_: Desired, preview: Preview) -> bool:
        asked.append(preview)
        return True

    assert world.deploy(wanted, SECONDS, confirm=confirm).ended == "ready"
    after = world.get("apps/v1", "Deployment", "qwen")
    assert versions is not None
    assert after is not None
    assert after["metadata"]["resourceVersion"] == versions["metadata"]["resourceVersion"]
    assert (asked, world.objects(), states(world)) == ([], before, [(1, "deployed")])


def test_no_is_no_and_a_dry_run_changes_nothing(world: World) -> None:
    before = world.objects()
    assert world.deploy(world.wanted(), SECONDS, confirm=lambda *_: False).ended == "dry-run"
    result = world.deploy(world.wanted(), SECONDS, dry_run=True)
    assert result.ended == "dry-run"
    assert result.preview is not None
    assert len(result.preview.created) == len(world.wanted().objects)
    assert world.objects() <= before, "volumes of an earlier test may still go"


def test_an_upgrade_without_a_spare_gpu_drains_first(world: World) -> None:
    world.sim.node("gpu-1", gpus=1, product=PRODUCT)
    assert world.deploy(world.wanted(), SECONDS).ended == "ready"
    changed = world.wanted(with_flag(a_plan(), "--max-num-seqs", "7"))
    api = world.api()
    result = world.deploy(changed, SECONDS, api=api)
    assert result.ended == "ready", result
    assert len([one for one in api.requests if one.startswith("GET") and one.endswith(".selfhost.v1")]) == 1
    assert any(event.facts.get("stage") == "draining" for event in world.told)
    assert result.preview is not None
    assert result.preview.report is not None
    assert result.preview.report.effects.restarts
    assert (result.preview.report.effects.downtime_seconds or 0) > 0
    assert states(world) == [(2, "deployed"), (1, "superseded")]


def test_what_nobody_waits_for_is_applied_and_goes_on_later(world: World) -> None:
    assert world.deploy(world.wanted(), SECONDS, wait=False).ended == "applied"
    assert states(world) == [(1, "pending")]
    assert world.deploy(world.wanted(), SECONDS).ended == "ready"
    assert states(world) == [(1, "deployed")]


def test_replicas_that_are_taken_over_are_drained_first_too(world: World) -> None:
    assert world.deploy(world.wanted(), SECONDS).ended == "ready"
    metadata = {"name": "qwen", "namespace": world.namespace}
    world.make(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 1}},
        manager="the-autoscaler",
    )
    changed = world.wanted(with_flag(a_plan(), "--max-num-seqs", "7"))
    assert world.deploy(changed, SECONDS, force_conflicts=True).ended == "ready"
    assert any(event.facts.get("stage") == "draining" for event in world.told)
    assert not any("not drained first" in event.message for event in world.told)


def test_an_upgrade_with_a_spare_gpu_starts_the_new_pod_beside_the_old(world: World) -> None:
    world.sim.node("gpu-1", gpus=2, product=PRODUCT)
    assert world.deploy(world.wanted(**SPARE), SECONDS).ended == "ready"
    changed = world.wanted(with_flag(a_plan(), "--max-num-seqs", "7"), **SPARE)
    result = world.deploy(changed, SECONDS)
    assert result.ended == "ready", result
    assert not any(event.facts.get("stage") == "draining" for event in world.told)
    assert result.preview is not None
    assert result.preview.report is not None
    assert result.preview.report.effects.downtime_seconds == 0


def test_an_upgrade_that_fails_goes_back(world: World) -> None:
    assert world.deploy(world.wanted(), SECONDS).ended == "ready"
    before = world.objects()
    # the pod of the new plan alone: the old one, made again, is well
    world.sim.behave(crashes.no_memory_for_cache(), deployment="qwen", component="server", times=1)
    result = world.deploy(world.wanted(with_flag(a_plan(), "--max-num-seqs", "7")), SECONDS)
    assert result.ended == "rolled-back", result
    assert result.cause is not None
    assert result.cause.code == "no-kv-cache"
    assert states(world)[0] == (3, "deployed")
    live = world.get("apps/v1", "Deployment", "qwen")
    assert live is not None
    assert "--max-num-seqs=7" not in live["spec"]["template"]["spec"]["containers"][0]["args"]
    pods = {one for one in world.objects() if one[0] in ("Pod", "ReplicaSet")}
    kept = {one for one in world.objects() - before if one not in pods}
    assert {name for _, _, name in kept} == {"qwen.selfhost.v2", "qwen.selfhost.v3"}


def test_a_first_deployment_that_fails_is_left_for_inspection(world: World) -> None:
    world.sim.behave(faults.image_not_found(), deployment="qwen", component="server")
    result = world.deploy(world.wanted(), SECONDS)
    assert result.ended == "failed", result
    assert result.cause is not None
    assert result.cause.code == "image-not-found"
    assert states(world) == [(1, "failed")]
    assert world.get("apps/v1", "Deployment", "qwen") is not None
    # and once what was wrong is mended, the same command goes on under the same number
    world.sim.well()
    assert world.deploy(world.wanted(), SECONDS).ended == "ready"
    assert states(world) == [(1, "deployed")]


def test_fields_of_another_manager_are_conflicts_named_with_their_owner(world: World) -> None:
    assert world.deploy(world.wanted(), SECONDS).ended == "ready"
    world.make(
        {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "qwen", "namespace": world.namespace}, "spec": {"replicas": 2},
        },
        manager="the-autoscaler",
    )  # fmt: skip
    before = world.get("apps/v1", "Deployment", "qwen")
    with pytest.raises(ConflictError, match="the-autoscaler") as raised:
        world.deploy(world.wanted(with_flag(a_plan(), "--max-num-seqs", "7")), SECONDS)
    assert any(claim.field.endswith("replicas") for claim in raised.value.claims)
    assert states(world) == [(1, "deployed")]
    now = world.get("apps/v1", "Deployment", "qwen")
    assert before is not None
    assert now is not None
    assert now["spec"] == before["spec"]
    assert world.deploy(world.wanted(), SECONDS, force_conflicts=True).ended == "ready"
    now = world.get("apps/v1", "Deployment", "qwen")
    assert now is not None
    assert now["spec"]["replicas"] == 1


def test_an_object_of_another_owner_stops_everything(world: World) -> None:
    service = {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "qwen", "namespace": world.namespace, "labels": {"app.kubernetes.io/managed-by": "Helm"}},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "other"}},
    }  # fmt: skip
    world.make(service, manager="helm")
    before = world.objects()
    with pytest.raises(ClusterError, match=r"Service .*/qwen is there already.*Helm"):
        world.deploy(world.wanted(), SECONDS, preflight=False)
    assert world.objects() == before
    assert world.deploy(world.wanted(), SECONDS).ended == "refused"
    assert world.objects() == before


def test_what_is_no_longer_wanted_is_pruned_and_what_is_another_owners_stays(world: World) -> None:
    assert world.deploy(world.wanted(), SECONDS).ended == "ready"
    world.make(
        {
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "qwen-of-somebody", "namespace": world.namespace}, "data": {"a": "b"},
        }
    )  # fmt: skip
    before = world.objects()
    result = world.deploy(world.wanted(pod_monitor=False), SECONDS)
    assert result.ended == "ready", result
    gone = {(kind, name) for kind, _, name in before - world.objects()}
    assert gone == {("PodMonitor", "qwen"), ("PrometheusRule", "qwen")}


def test_drift_is_shown_and_repaired_under_the_same_revision(world: World) -> None:
    assert world.deploy(world.wanted(), SECONDS).ended == "ready"
    place = f"/api/v1/namespaces/{world.namespace}/services/qwen"
    world.sim.client.ask("DELETE", place)
    change = {"spec": {"progressDeadlineSeconds": 7}}
    path = f"/apis/apps/v1/namespaces/{world.namespace}/deployments/qwen?fieldManager=kubectl-edit"
    world.sim.client.ask("PATCH", path, change, "application/merge-patch+json")
    with pytest.raises(ConflictError, match=r"kubectl-edit.*progressDeadlineSeconds"):
        world.deploy(world.wanted(), SECONDS)
    shown = world.deploy(world.wanted(), SECONDS, dry_run=True, force_conflicts=True).preview
    assert shown is not None
    assert [ref.kind for ref in shown.created] == ["Service"]
    fields = {field.path: (field.old, field.new) for change in shown.changes for field in change.fields}
    assert fields == {
        "spec.progressDeadlineSeconds": ("7", str(a_plan().clocks.progress_deadline_seconds.value))
    }
    assert world.deploy(world.wanted(), SECONDS, force_conflicts=True).ended == "ready"
    assert world.get("v1", "Service", "qwen") is not None
    assert states(world) == [(1, "deployed")]


def test_two_deployments_of_one_name_at_the_same_time(world: World) -> None:
    plans = [a_plan(), with_flag(a_plan(), "--max-num-seqs", "7")]
    results: dict[int, Result | ClusterError] = {}

    def run(number: int) -> None:
        try:
            wanted = world.wanted(plans[number])
            api = world.api()
            from selfhost.deploy.run import deploy

            results[number] = deploy(api, wanted, SECONDS, lambda _: None, lambda *_: True)
        except ClusterError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    ended = [one.ended if isinstance(one, Result) else one.message for one in results.values()]
    assert len(ended) == 2
    assert set(ended) <= {"ready", "superseded"}, ended
    assert "ready" in ended, ended
    found = states(world)
    assert [state for _, state in found if state == "deployed"] == ["deployed"]
    assert found[0][1] == "deployed"
    assert not any(kind == "Lease" for kind, _, _ in world.objects())


def test_a_quota_stops_it_before_anything_is_changed(world: World) -> None:
    world.make(
        {
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": world.namespace},
            "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
        }
    )  # fmt: skip
    before = world.objects()
    result = world.deploy(world.wanted(), SECONDS)
    assert result.ended == "refused", result
    assert any(one.code == "quota" and one.level == "error" for one in result.findings), result.findings
    assert world.objects() == before
    # without the preflight the pod is what is refused, and the cause is named
    failed = world.deploy(world.wanted(), SECONDS, preflight=False, timeout_seconds=6)
    assert failed.ended == "failed"
    assert failed.cause is not None
    assert "quota" in failed.cause.code, failed.cause


def test_too_many_requests_and_an_api_server_that_goes_away(tmp_path: Path) -> None:
    with fake_world(tmp_path, pace=0.02) as world:
        world.sim.node("gpu-1", gpus=1, product=PRODUCT)
        assert world.fake is not None
        world.fake.throttle(5, seconds=0)
        timers = [
            threading.Timer(0.6, world.fake.restart, (0.3,)),
            threading.Timer(1.6, world.fake.expire_watches),
            threading.Timer(2.2, world.fake.restart, (0.3,)),
        ]
        for timer in timers:
            timer.start()
        result = world.deploy(world.wanted(), replace(SECONDS, preflight=True))
        for timer in timers:
            timer.cancel()
        assert result.ended == "ready", result
        assert states(world) == [(1, "deployed")]


@clusters.NEEDED
def test_the_real_api_server_is_restarted_in_the_middle(shared: World) -> None:
    if shared.plane is None or not shared.plane.own:
        pytest.skip("only the tests' own server may be restarted")
    shared.namespace = shared.new_namespace()
    shared.sim.node("gpu-1", gpus=8, product=PRODUCT)
    shared.sim.behave(faults.slow_pull(3000.0), deployment="qwen")  # six seconds at this pace
    timer = threading.Timer(2.0, shared.plane.restart_server)
    timer.start()
    result = shared.deploy(shared.wanted(), SECONDS)
    timer.join()
    assert result.ended == "ready", result
    shared.sim.well()
    clean(shared)
