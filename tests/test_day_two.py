"""upgrade, canary, rollback, scale, pause and destroy on the API fake, and on a real control plane where one is given.

Every object is listed before and after: nothing is orphaned, nothing of another owner is touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import selfhost.cli
from selfhost.cluster.kinds import ref_of
from selfhost.deploy import destroy as destroying
from selfhost.deploy import revisions
from selfhost.deploy.canary import BECAUSE, canary_name, live_weight
from selfhost.deploy.desired import desired
from selfhost.deploy.run import deploy
from selfhost.deploy.settings import Settings
from selfhost.deploy.types import Event
from selfhost.errors import SelfhostError
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.options.access import AccessOptions
from tests import clusters
from tests.conftest import Cli, Ran
from tests.simulator import faults
from tests.worlds import PRODUCT, World, a_plan, fake_world, real_world, with_flag

SECONDS = Settings(timeout_seconds=90, smoke=False)
SCHEMAS = Path(selfhost.cli.__file__).parent / "schemas"
EVENT = jsonschema.Draft202012Validator(json.loads((SCHEMAS / "event.json").read_text(encoding="utf-8")))
QUICK = ("--yes", "--no-smoke-test", "--timeout", "90")
# What fits one H100 by the engine's own bill, for flags that are sized again.
SMALL = ("--set", "max-model-len=4k", "--set", "concurrency=1", "--set", "max-num-seqs=32")
Do = Callable[..., Ran]


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
    """One node of eight GPUs, nothing amiss, a namespace of the test's own with somebody else's objects in it."""
    shared.namespace = shared.new_namespace()
    shared.sim.well()
    shared.sim.node("gpu-1", gpus=8, product=PRODUCT)
    theirs = {"app.kubernetes.io/instance": "qwen", "app.kubernetes.io/managed-by": "Helm"}
    for name, labels in (("theirs", theirs), ("qwen-notes", {})):
        metadata = {"name": name, "namespace": shared.namespace, "labels": labels}
        shared.make({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}})
    gateway = {"gatewayClassName": "some", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    shared.sim.client.ask(
        "POST",
        f"/apis/gateway.networking.k8s.io/v1/namespaces/{shared.namespace}/gateways",
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "public"}}
        | {"spec": gateway},
    )
    yield shared
    for name in (canary_name("qwen"), "qwen"):
        there = destroying.find(shared.api(), shared.namespace, name)
        destroying.destroy(shared.api(), there, with_weights=True, tell=lambda _: None)


@pytest.fixture
def do(cli: Cli, world: World) -> Do:
    """`selfhost COMMAND qwen ...` in the world."""

    def call(command: str, *words: str) -> Ran:
        if command != "destroy" and "--list" not in words:
            words = (*words, "--no-smoke-test")  # tests/test_deploy.py and test_smoke.py have it
        return cli(
            command, "qwen", *words, "-n", world.namespace, "--kubeconfig", world.config, "--output", "json"
        )

    return call


def events(ran: Ran) -> list[dict[str, Any]]:
    """What it told, each as the schema has it."""
    found = [json.loads(line) for line in ran.out.splitlines()]
    for one in found:
        EVENT.validate(one)
    return found


def states(world: World, name: str = "qwen") -> list[tuple[int, str, str]]:
    heads = revisions.heads(world.api(), world.namespace, name)
    return [(head.number, head.state, head.because) for head in heads]


def deployment(world: World, name: str = "qwen") -> dict[str, Any]:
    found = world.get("apps/v1", "Deployment", name)
    assert found is not None
    return found


def own(world: World) -> set[tuple[str, str, str]]:
    """What is in the namespace; volumes are the provisioner's, which takes them away by itself."""
    return {one for one in world.objects() if one[1]}


def start(world: World, **options: Any) -> None:
    result = world.deploy(world.wanted(**options), SECONDS)
    assert result.ended == "ready", result


ROUTED: dict[str, Any] = {"access": AccessOptions(expose="gateway", host="llm.example.org", gateway="public")}
SHARED: dict[str, Any] = {"access_mode": "ReadWriteMany"}


# -- upgrade ------------------------------------------------------------------------------------------------------


def test_an_upgrade_takes_what_is_deployed_and_changes_what_is_asked(world: World, do: Do) -> None:
    start(world, **SHARED)
    ran = do("upgrade", *SMALL, *QUICK)
    assert ran.code == 0, ran
    args = deployment(world)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--max-num-seqs=32" in args
    assert states(world)[0][:2] == (2, "deployed")
    assert states(world)[0][2] == "upgrade: max-model-len=4k, concurrency=1, max-num-seqs=32"
    told = events(ran)
    preview = next(one for one in told if one["type"] == "preview")
    assert preview["memory"], "the bill before and after"
    assert preview["effects"]["restarts"] is True


def test_where_a_gpu_is_spare_the_new_pod_starts_beside_the_old(world: World, do: Do) -> None:
    start(world, **SHARED)
    told = events(do("upgrade", *SMALL, *QUICK))
    room = next(one for one in told if "surge" in one)
    assert (room["surge"], room["free_gpus"]) == (True, {"gpu-1": 7})
    assert next(one for one in told if one["type"] == "preview")["effects"]["downtime_seconds"] == 0
    assert not any(one.get("stage") == "draining" for one in told)
    assert deployment(world)["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1


def test_where_none_is_spare_it_is_drained_first_and_the_downtime_is_said(world: World, do: Do) -> None:
    world.sim.node("gpu-1", gpus=1, product=PRODUCT)
    start(world, **SHARED)
    told = events(do("upgrade", *SMALL, *QUICK))
    room = next(one for one in told if "surge" in one)
    assert (room["surge"], room["free_gpus"]) == (False, {})
    assert "drained and ends before" in room["message"]
    assert next(one for one in told if one["type"] == "preview")["effects"]["downtime_seconds"] > 0
    assert any(one.get("stage") == "draining" for one in told)
    assert told[-1]["ended"] == "ready"


def test_what_does_not_fit_changes_nothing(world: World, do: Do) -> None:
    start(world)
    before = world.objects()
    ran = do("upgrade", "--set", "gpu-memory-utilization=0.5", *QUICK)
    assert ran.code == 4
    assert "bytes) short" in ran.err
    assert (world.objects(), len(states(world))) == (before, 1)


def test_an_upgrade_that_fails_goes_back_by_itself(world: World, do: Do) -> None:
    start(world, **SHARED)
    with world.sim.behaving(faults.image_not_found(), namespace=world.namespace, component="server", times=1):
        ran = do("upgrade", *SMALL, *QUICK)
    assert ran.code == 5, ran
    assert events(ran)[-1]["ended"] == "rolled-back"
    assert [state for _, state, _ in states(world)] == ["deployed", "failed", "superseded"]


def test_nothing_to_change_and_nothing_there(do: Do, world: World) -> None:
    missing = do("upgrade", "--set", "max-num-seqs=8", *QUICK)
    assert (missing.code, "There is no deployment qwen" in missing.err) == (1, True)
    start(world)
    assert do("upgrade", *QUICK).code == 2
    assert do("upgrade", "--promote", *QUICK).code == 2
    assert do("upgrade", "--promote", "--abort", *QUICK).code == 2


# -- rollback -----------------------------------------------------------------------------------------------------


def test_a_rollback_needs_no_files(world: World, do: Do) -> None:
    start(world, **SHARED)
    before = deployment(world)["spec"]["template"]
    changed = with_flag(a_plan(), "--max-num-seqs", "7")
    assert world.deploy(world.wanted(changed, **SHARED), SECONDS).ended == "ready"
    assert deployment(world)["spec"]["template"] != before
    ran = do("rollback", *QUICK)
    assert ran.code == 0, ran
    assert deployment(world)["spec"]["template"] == before
    assert states(world) == [
        (3, "deployed", "rollback to 1"), (2, "superseded", "deploy"), (1, "superseded", "deploy"),
    ]  # fmt: skip
    listed = do("rollback", "--list").json()
    jsonschema.validate(listed, json.loads((SCHEMAS / "revisions.json").read_text(encoding="utf-8")))
    assert [one["revision"] for one in listed["revisions"]] == [3, 2, 1]
    assert do("rollback", "2", *QUICK).code == 0
    assert states(world)[0] == (4, "deployed", "rollback to 2")


def test_a_rollback_to_a_revision_that_had_spare_gpus_does_without(world: World, do: Do) -> None:
    world.sim.node("gpu-1", gpus=1, product=PRODUCT)
    start(world, surge=True, **SHARED)
    before = deployment(world)["spec"]["template"]
    assert do("upgrade", *SMALL, *QUICK).code == 0
    ran = do("rollback", *QUICK)
    assert ran.code == 0, ran
    assert next(one for one in events(ran) if "surge" in one)["surge"] is False
    assert deployment(world)["spec"]["template"] == before


def test_a_rollback_that_cannot_be_says_so_before_anything(world: World, do: Do) -> None:
    start(world)
    ran = do("rollback", *QUICK)
    assert (ran.code, "No revision of qwen before 1" in ran.err) == (2, True)
    assert do("rollback", "7", *QUICK).code == 2
    assert len(states(world)) == 1


# -- scale and pause ----------------------------------------------------------------------------------------------


def test_more_replicas_and_fewer(world: World, do: Do) -> None:
    start(world, **SHARED)
    before = world.objects()
    assert do("scale", "3", *QUICK).code == 0
    assert deployment(world)["status"]["readyReplicas"] == 3
    assert do("scale", "1", *QUICK).code == 0
    assert deployment(world)["spec"]["replicas"] == 1
    assert [one[2] for one in states(world)] == ["scale to 1", "scale to 3", "deploy"]
    left = {one for one in world.objects() - before if one[0] not in ("ConfigMap", "ReplicaSet", "Pod")}
    assert left == set()


def test_replicas_that_have_no_room(world: World, do: Do) -> None:
    world.sim.node("gpu-1", gpus=2, product=PRODUCT)
    start(world, **SHARED)
    before = world.objects()
    assert do("scale", "3", *QUICK).code == 4
    assert (world.objects(), deployment(world)["spec"]["replicas"]) == (before, 1)


def test_replicas_that_cannot_be(world: World, do: Do) -> None:
    start(world)
    for words, said in (("2", "ReadWriteOnce"), ("0", "selfhost pause")):
        ran = do("scale", words, *QUICK)
        assert (ran.code, said in ran.err) == (2, True), ran
    assert len(states(world)) == 1


def test_a_pause_gives_the_gpus_back_and_keeps_the_rest(world: World, do: Do) -> None:
    start(world)
    before = world.objects()
    dry = do("pause", "--dry-run")
    assert events(dry)[0]["message"].endswith("1 GPU is given back")
    assert (events(dry)[-1]["ended"], world.objects()) == ("dry-run", before)
    ran = do("pause", *QUICK)
    assert ran.code == 0, ran
    assert events(ran)[-1]["ended"] == "paused"
    assert deployment(world)["spec"]["replicas"] == 0
    gone = before - world.objects()
    assert {kind for kind, _, _ in gone} == {"Pod"}
    assert {one for one in world.objects() if one[0] == "Pod" and "download" not in one[2]} == set()
    assert len(states(world)) == 1
    assert do("pause", *QUICK).code == 0, "twice is once"
    back = do("pause", "--resume", *QUICK)
    assert back.code == 0, back
    assert deployment(world)["status"]["readyReplicas"] == 1
    assert "selfhost/paused" not in deployment(world)["metadata"]["annotations"]
    assert len(states(world)) == 1


# -- canary -------------------------------------------------------------------------------------------------------


def weights(world: World) -> list[tuple[str, int]]:
    route = world.get("gateway.networking.k8s.io/v1", "HTTPRoute", "qwen")
    assert route is not None
    return [(one["name"], one["weight"]) for one in route["spec"]["rules"][0]["backendRefs"]]


def test_a_canary_from_a_tenth_of_the_requests_to_all_of_them(world: World, do: Do) -> None:
    start(world, **ROUTED)
    before = world.objects()
    old = deployment(world)
    ran = do("upgrade", "--canary", *SMALL, *QUICK)
    assert ran.code == 0, ran
    assert weights(world) == [("qwen", 90), ("qwen-canary", 10)]
    assert deployment(world)["spec"] == old["spec"], "the first is left alone"
    assert deployment(world, "qwen-canary")["status"]["readyReplicas"] == 1
    assert states(world, "qwen-canary")[0][2].startswith(f"{BECAUSE}qwen: max-model-len")
    assert do("upgrade", "--weight", "50", *QUICK).code == 0
    assert weights(world) == [("qwen", 50), ("qwen-canary", 50)]
    for words in (("upgrade", *SMALL), ("scale", "1"), ("rollback", "1"), ("pause",), ("pause", "--resume")):
        assert do(*words, *QUICK).code == 2, f"first the canary's end: {words}"
    assert weights(world) == [("qwen", 50), ("qwen-canary", 50)]
    promoted = do("upgrade", "--promote", *QUICK)
    assert promoted.code == 0, promoted
    assert weights(world) == [("qwen", 1)]
    args = deployment(world)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--max-num-seqs=32" in args
    assert states(world)[0][2] == "qwen-canary promoted"
    assert all(because != "promote qwen-canary" for _, _, because in states(world))
    _until(lambda: not any("canary" in name for _, _, name in world.objects()))
    passing = ("ConfigMap", "ReplicaSet", "Pod", "Job", "PersistentVolume")
    assert {one for one in world.objects() ^ before if one[0] not in passing} == set()


def test_a_canary_that_is_given_up_leaves_nothing(world: World, do: Do) -> None:
    start(world, **ROUTED)
    before = world.objects()
    assert do("upgrade", "--canary", "--weight", "30", *SMALL, *QUICK).code == 0
    assert weights(world) == [("qwen", 70), ("qwen-canary", 30)]
    ran = do("upgrade", "--abort", *QUICK)
    assert ran.code == 0, ran
    assert weights(world) == [("qwen", 1)]
    _until(lambda: own(world) == {one for one in before if one[1]})


def test_a_canary_that_fails_gets_no_requests(world: World, do: Do) -> None:
    start(world, **ROUTED)
    with world.sim.behaving(faults.image_not_found(), namespace=world.namespace, deployment="qwen-canary"):
        ran = do("upgrade", "--canary", *SMALL, *QUICK)
    assert ran.code == 5, ran
    assert weights(world) == [("qwen", 1)]
    assert do("upgrade", "--abort", *QUICK).code == 0
    _until(lambda: not any("canary" in name for _, _, name in world.objects()))


class _Killed(BaseException):
    """As `kill -9` ends a command: nothing is caught."""


@pytest.mark.parametrize("at", [4, 15])
def test_a_promotion_that_is_killed_goes_on(world: World, do: Do, at: int) -> None:
    """Killed at several moments; at none of them does the route lead to nobody."""
    from selfhost.deploy.canary import promote
    from selfhost.deploy.rollback import deployed

    start(world, **ROUTED)
    assert do("upgrade", "--canary", *SMALL, *QUICK).code == 0
    left = [at]

    def tell(event: Event) -> None:
        if event.type != "progress":
            left[0] -= 1
        if left[0] == 0:
            raise _Killed

    before = deployed(world.api(), world.namespace, "qwen")[1].desired
    tried = deployed(world.api(), world.namespace, "qwen-canary")[1].desired
    try:
        promote(world.api(), before, tried, SECONDS, tell, lambda *_: True, deploy)
    except _Killed:
        first, second = deployment(world), world.get("apps/v1", "Deployment", "qwen-canary")
        ready = {"qwen": first["status"].get("readyReplicas", 0)}
        ready["qwen-canary"] = (second or {}).get("status", {}).get("readyReplicas", 0)
        assert any(ready[name] for name, weight in weights(world) if weight), (weights(world), ready)
    ran = do("upgrade", "--promote", *QUICK)
    assert ran.code == 0 or "has no canary" in ran.err, ran
    assert weights(world) == [("qwen", 1)]
    _until(lambda: not any("canary" in name for _, _, name in world.objects()))
    assert live_weight(world.api(), before) is None


# -- destroy ------------------------------------------------------------------------------------------------------


def test_destroy_takes_everything_of_its_own_and_nothing_else(world: World, do: Do) -> None:
    before = world.objects()
    start(world)
    changed = with_flag(a_plan(), "--max-num-seqs", "7")
    assert world.deploy(world.wanted(changed, pod_monitor=False), SECONDS).ended == "ready"
    dry = do("destroy", "--dry-run")
    assert (dry.code, events(dry)[0]["kept"]) == (0, ["PersistentVolumeClaim/qwen-weights"])
    assert world.get("apps/v1", "Deployment", "qwen") is not None
    ran = do("destroy", "--yes")
    assert ran.code == 0, ran
    left = world.objects() - before
    assert {(kind, name) for kind, space, name in left if space} == {
        ("PersistentVolumeClaim", "qwen-weights")
    }
    assert before <= world.objects()
    again = do("destroy", "--yes")
    assert (again.code, events(again)[-1]["ended"]) == (0, "unchanged")
    everything = do("destroy", "--yes", "--with-weights")
    assert everything.code == 0
    assert events(everything)[0]["message"] == f"-1 object in namespace {world.namespace}"
    assert events(everything)[-1]["message"] == "qwen is gone: 1 object deleted"
    _until(lambda: own(world) <= before)
    assert before <= world.objects()


def _until(test: Callable[[], bool]) -> None:
    import time

    ends = time.monotonic() + 60
    while not test():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_destroy_leaves_what_is_another_owners_by_now(world: World, do: Do) -> None:
    start(world)
    metadata = {"name": "qwen", "namespace": world.namespace}
    labels = {"app.kubernetes.io/managed-by": "somebody"}
    world.make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata | {"labels": labels}})
    ran = do("destroy", "--yes")
    assert ran.code == 0, ran
    assert events(ran)[0]["foreign"] == ["ServiceAccount/qwen"]
    assert world.get("v1", "ServiceAccount", "qwen") is not None
    assert world.get("apps/v1", "Deployment", "qwen") is None


def test_destroy_takes_the_canary_too(world: World, do: Do) -> None:
    before = world.objects()
    start(world, **ROUTED)
    assert do("upgrade", "--canary", *SMALL, *QUICK).code == 0
    assert do("destroy", "--yes", "--with-weights").code == 0
    _until(lambda: own(world) <= before)


def test_destroy_takes_what_a_killed_deployment_made(world: World, do: Do) -> None:
    """A revision that never got ready, objects without a revision, and a lock that nobody holds any more."""
    before = world.objects()
    wanted = world.wanted()
    api = world.api()
    for item in wanted.objects[:5]:
        api.apply(item)
    revisions.save(api, wanted, 1, because="deploy", by="x", created="")
    world.make(
        {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "qwen.selfhost", "namespace": world.namespace, "labels": {
                "app.kubernetes.io/managed-by": "selfhost", "app.kubernetes.io/instance": "qwen"}},
            "spec": {"holderIdentity": ""},
        }
    )  # fmt: skip
    assert do("destroy", "--yes", "--with-weights").code == 0
    _until(lambda: own(world) <= before)


@pytest.mark.parametrize("at", [1, 7])
def test_a_destroy_that_is_killed_goes_on(world: World, do: Do, at: int) -> None:
    before = world.objects()
    start(world)
    left = [at]

    def tell(event: Event) -> None:
        left[0] -= event.type == "prune"
        if left[0] == 0:
            raise _Killed

    there = destroying.find(world.api(), world.namespace, "qwen")
    with pytest.raises(_Killed):
        destroying.destroy(world.api(), there, with_weights=True, tell=tell)
    assert len(states(world)) == 1, "revisions go last"
    assert do("destroy", "--yes", "--with-weights").code == 0
    _until(lambda: own(world) <= before)


def test_destroy_of_what_is_not_there(world: World, do: Do) -> None:
    before = world.objects()
    ran = do("destroy", "--yes")
    assert (ran.code, events(ran)[-1]["ended"], world.objects()) == (0, "unchanged", before)


def test_everything_that_selfhost_writes_has_a_place_in_the_order_of_leaving() -> None:
    targets = ("kubernetes", "lws", "gateway", "kserve", "hybrid")
    for target in targets:
        try:
            wanted = desired(a_plan(), target, RenderOptions())
        except SelfhostError:
            continue
        ranks = [destroying._RANK[ref_of(item).kind] for item in wanted.objects]
        assert len(ranks) == len(wanted.objects)
    assert set(destroying.WEIGHTS) == set(destroying._THEN[-2:])
