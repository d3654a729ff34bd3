"""What somebody else does to what a deployment keeps on the cluster: revisions damaged, names taken, locks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from selfhost.cluster import Api
from selfhost.deploy import revisions
from selfhost.deploy.destroy import destroy, find
from selfhost.deploy.lock import LostLockError, held
from selfhost.deploy.run import deploy
from selfhost.deploy.settings import Settings
from selfhost.deploy.types import INSTANCE_LABEL, MANAGED_LABEL, Desired, Event
from selfhost.errors import ClusterError
from selfhost.manifests.options.scaling import ScalingOptions
from tests.simulator import crashes
from tests.worlds import PRODUCT, World, a_plan, fake_world, with_flag

QUIET = Settings(timeout_seconds=60, preflight=False, smoke=False)
MERGE = "application/merge-patch+json"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with fake_world(tmp_path_factory.mktemp("world")) as world:
        world.sim.node("gpu-1", gpus=64, product=PRODUCT, cpu="999", memory="9999Gi", ephemeral="9999Gi")
        yield world


@pytest.fixture
def world(shared: World) -> World:
    shared.namespace = shared.new_namespace()
    return shared


def changed(world: World) -> Desired:
    return world.wanted(with_flag(a_plan(), "--max-num-seqs", "7"))


def patch_revision(world: World, change: dict[str, Any]) -> None:
    path = f"/api/v1/namespaces/{world.namespace}/configmaps/qwen.selfhost.v1"
    world.sim.client.ask("PATCH", path, change, MERGE)


def states(world: World) -> list[tuple[int, str]]:
    return [(head.number, head.state) for head in revisions.heads(world.api(), world.namespace, "qwen")]


@pytest.mark.parametrize("state", ["deployed", "pending"])
def test_a_damaged_revision_stands_in_nobodys_way(state: str, world: World) -> None:
    assert world.deploy(world.wanted(), QUIET).ended == "ready"
    patch_revision(
        world,
        {"binaryData": {"revision.json.gz": "AAAA"}, "metadata": {"labels": {"selfhost/state": state}}},
    )
    assert world.deploy(changed(world), QUIET).ended == "ready"
    notes = [event.message for event in world.told if event.type == "note"]
    assert [one for one in notes if "damaged" in one] == [
        "Revision 1 of qwen cannot be read: it is damaged; going on without it"
    ]
    assert states(world)[0] == (2, "deployed")


def test_a_name_that_something_else_has_is_skipped_and_destroy_takes_what_is_ours(world: World) -> None:
    assert world.deploy(world.wanted(), QUIET).ended == "ready"
    patch_revision(world, {"metadata": {"labels": {"selfhost/state": None}}})  # no revision any more
    foreign = {"name": "qwen.selfhost.v2", "namespace": world.namespace}
    world.make({"apiVersion": "v1", "kind": "ConfigMap", "metadata": foreign, "data": {"a": "b"}})
    assert world.deploy(changed(world), QUIET).ended == "ready"
    assert states(world) == [(3, "deployed")]
    there = find(world.api(), world.namespace, "qwen")
    destroy(world.api(), there, with_weights=True, tell=lambda _: None)
    left = {(kind, name) for kind, space, name in world.objects() if space}
    assert left == {("ConfigMap", "qwen.selfhost.v2")}


def test_an_object_of_another_deployment_is_called_that(world: World) -> None:
    labels = {MANAGED_LABEL: "selfhost", INSTANCE_LABEL: "other"}
    metadata = {"name": "qwen", "namespace": world.namespace, "labels": labels}
    world.make(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}
    )
    with pytest.raises(ClusterError, match="belongs to selfhost's deployment other"):
        world.deploy(world.wanted(), QUIET)


def lease(world: World, hours: float) -> None:
    """A lock of another machine, whose clock, or ours, is wrong by some hours."""
    then = (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    metadata = {"name": "qwen.selfhost", "labels": {MANAGED_LABEL: "selfhost", INSTANCE_LABEL: "qwen"}}
    spec = {
        "holderIdentity": "bob@far/1/2/3",
        "leaseDurationSeconds": 60,
        "acquireTime": then,
        "renewTime": then,
    }
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
    world.sim.client.ask("POST", LEASES.format(world.namespace), body)


@pytest.mark.parametrize("hours", [1, -1, 14])
def test_a_clock_that_is_hours_off_takes_nobodys_lock(hours: int, world: World) -> None:
    lease(world, hours)
    with (
        pytest.raises(ClusterError, match="bob@far deploys qwen"),
        held(world.api(), world.namespace, "qwen", wait_seconds=0.2),
    ):
        pytest.fail("it was taken")


def test_a_lock_of_days_ago_is_taken_over(world: World) -> None:
    lease(world, 50)
    with held(world.api(), world.namespace, "qwen", wait_seconds=0.2):
        pass
    assert not any(kind == "Lease" and space == world.namespace for kind, space, _ in world.objects())


def test_a_renewal_whose_answer_was_lost_is_no_lost_lock(world: World) -> None:
    now = [0.0]

    class Deaf(Api):
        """Hears the first answer to a change of the Lease too late, and asks again."""

        lost = False

        def _once(self, method: str, path: str, *args: Any) -> Any:
            answer = super()._once(method, path, *args)
            if method == "PATCH" and not self.lost:
                self.lost = True
                return super()._once(method, path, *args)
            return answer

    api = Deaf(world.api().connection)
    with held(api, world.namespace, "qwen", wait_seconds=1, monotonic=lambda: now[0]) as lock:
        now[0] = 30.0
        lock.keep()
        assert api.lost
        path = f"{LEASES.format(world.namespace)}/qwen.selfhost"
        world.sim.client.ask("PATCH", path, {"spec": {"holderIdentity": "bob@far/1/2/3"}}, MERGE)
        now[0] = 60.0
        with pytest.raises(LostLockError, match="Another command deploys qwen"):
            lock.keep()


def test_what_is_destroyed_during_the_wait_is_not_waited_for(world: World) -> None:
    assert world.deploy(world.wanted(), QUIET).ended == "ready"
    world.sim.behave(crashes.never_listens(), deployment="qwen", component="server")

    def tell(event: Event) -> None:
        world.told.append(event)
        if "deadline_seconds" in event.facts:
            there = find(world.api(), world.namespace, "qwen")
            destroy(world.api(), there, with_weights=True, tell=lambda _: None)

    result = world.deploy(changed(world), QUIET, tell=tell)
    world.sim.well()
    assert (result.ended, result.message) == (
        "superseded",
        "somebody deleted what this deploys; nothing more is done",
    )
    assert not any(event.type == "rollback" for event in world.told)
    assert not {kind for kind, space, _ in world.objects() if space}


def test_destroy_takes_what_was_applied_while_it_looked(world: World) -> None:
    early = find(world.api(), world.namespace, "qwen")
    assert early.nothing(with_weights=True)
    assert world.deploy(world.wanted(), QUIET).ended == "ready"
    stale = replace(find(world.api(), world.namespace, "qwen"), objects=())
    destroy(world.api(), stale, with_weights=True, tell=lambda _: None)
    assert not {kind for kind, space, _ in world.objects() if space}


@pytest.mark.parametrize(("target", "kind"), [("lws", "LeaderWorkerSet"), ("kserve", "InferenceService")])
def test_a_controller_that_does_not_run_is_named(target: str, kind: str, world: World) -> None:
    result = world.deploy(world.wanted(target=target), QUIET, timeout_seconds=3)
    assert result.cause is not None
    assert result.cause.sentence == (
        f"qwen was not ready within 3 s. No controller has taken up {kind} qwen: it has no status yet."
    )
    assert result.cause.hint.startswith(f"Look whether the controller of {kind} runs")
    waits = f"waits for the controller of {kind} qwen"
    assert any(event.message == waits for event in world.told if event.type == "progress")


def test_a_revision_that_is_deleted_meanwhile_is_named(world: World) -> None:
    def tell(event: Event) -> None:
        if "deadline_seconds" in event.facts:
            path = f"/api/v1/namespaces/{world.namespace}/configmaps/qwen.selfhost.v1"
            world.sim.client.ask("DELETE", path)

    with pytest.raises(ClusterError, match="Somebody deleted revision 1 of qwen meanwhile"):
        world.deploy(world.wanted(), QUIET, tell=tell)
    assert world.deploy(world.wanted(), QUIET).ended == "ready"
    assert states(world) == [(1, "deployed")]


def test_replicas_of_an_autoscaler_are_not_drained_first(world: World) -> None:
    scaling = ScalingOptions(autoscale="hpa", max_replicas=3, target_requests=4)
    options: dict[str, Any] = {"access_mode": "ReadWriteMany", "scaling": scaling}
    assert world.deploy(world.wanted(**options), QUIET).ended == "ready"
    scale = f"/apis/apps/v1/namespaces/{world.namespace}/deployments/qwen/scale"
    world.sim.client.ask("PATCH", f"{scale}?fieldManager=hpa", {"spec": {"replicas": 2}}, MERGE)
    result = world.deploy(world.wanted(with_flag(a_plan(), "--max-num-seqs", "7"), **options), QUIET)
    assert result.ended == "ready"
    assert world.sim.client.ask("GET", scale)["spec"]["replicas"] == 2
    assert not any(event.facts.get("stage") == "draining" for event in world.told)


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_hours_off_hides_no_event(hours: int, world: World) -> None:
    def clock() -> float:
        return time.time() + 3600 * hours

    moments: list[float] = []

    def tell(event: Event) -> None:
        if "deadline_seconds" in event.facts:
            moments.append(clock() + api.ahead_seconds)

    api = Api(world.api().connection, clock=clock)
    quota = {"requests.nvidia.com/gpu": "0"}
    metadata = {"name": "none", "namespace": world.namespace}
    world.make({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": quota}})
    settings = replace(QUIET, timeout_seconds=5)
    result = deploy(api, world.wanted(), settings, tell, lambda *_: True, clock=clock)
    assert result.cause is not None
    assert "quota" in result.cause.code, result.cause
    assert abs(moments[0] - time.time()) < 60
