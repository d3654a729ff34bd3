"""`selfhost status` and `selfhost test` over a deployment: on the API fake, and on a real control plane where given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import selfhost.cli
from selfhost.cluster import Ref
from selfhost.deploy.channel import NoReplyError
from selfhost.deploy.overview import overview
from selfhost.deploy.settings import Settings
from selfhost.deploy.smoke_run import attempt, forwarded, smoke_of
from selfhost.deploy.status import Status, status
from selfhost.deploy.types import Event
from selfhost.errors import ClusterError
from tests import clusters
from tests.conftest import Cli
from tests.simulator import faults
from tests.worlds import PRODUCT, World, fake_world, real_world

SCHEMAS = Path(selfhost.cli.__file__).parent / "schemas"
QUIET = Settings(timeout_seconds=90, preflight=False, smoke=False)
NAME = "qwen"
READABLE = [
    "configmaps", "deployments", "events", "jobs", "networkpolicies", "persistentvolumeclaims", "podmonitors", "pods",
    "pods/log", "prometheusrules", "replicasets", "serviceaccounts", "services",
]  # fmt: skip


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=clusters.NEEDED)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One deployment that is ready, on a node with eight GPUs; every test looks at it and leaves it as it was."""
    if request.param == "fake":
        with fake_world(tmp_path_factory.mktemp("world")) as made:
            yield deployed(made)
    else:
        with real_world(request.getfixturevalue("plane")) as made:
            yield deployed(made)


def deployed(world: World) -> World:
    world.sim.node("gpu-1", gpus=8, product=PRODUCT)
    assert world.deploy(world.wanted(), QUIET).ended == "ready"
    return world


def look(world: World, **more: Any) -> Status:
    return status(world.api(), world.namespace, NAME, **more)


def change(world: World, kind: str, version: str, name: str, patch: dict[str, Any], manager: str) -> None:
    """What somebody else does, under a name of theirs."""
    plural = {"Deployment": "deployments", "Service": "services"}[kind]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    path = f"{root}/namespaces/{world.namespace}/{plural}/{name}?fieldManager={manager}"
    world.sim.client.ask("PATCH", path, patch, "application/merge-patch+json")


def repair(world: World) -> None:
    """As it was deployed."""
    assert world.deploy(world.wanted(), replace(QUIET, force_conflicts=True)).ended == "ready"


def test_a_row_of_the_overview(world: World) -> None:
    api = world.api()
    (row,) = overview(api, world.namespace)
    assert (row.name, row.model, row.revision, row.state) == (NAME, "Qwen/Qwen3-32B", 1, "deployed")
    assert (row.ready, row.wanted, row.gpus, row.trouble, row.well) == (1, 1, 1, "", True)
    assert (row.engine, row.version) == ("vllm", "0.32.0")
    assert len(api.requests) == 3


def test_what_is_well(world: World) -> None:
    found = look(world)
    assert (found.healthy, found.drifted, found.drift) == (True, False, ())
    assert found.causes == ()
    assert list(found.versions.running) == [found.versions.planned]
    assert found.versions.old == ()
    assert found.endpoints == (f"http://{NAME}.{world.namespace}.svc:8000/v1",)
    assert {finding.code: finding.level for finding in found.findings}["engine-up"] == "ok"
    assert [pod.ready for pod in found.pods if pod.component == "server"] == [True]
    assert found.events


def test_memory_stands_next_to_the_plan(world: World) -> None:
    ((_, memory),) = look(world).memory
    terms = {term.name: term for term in memory.terms}
    assert terms["KV cache"].error_bytes is not None
    assert terms["weights"].error_ratio is not None
    assert memory.kv_tokens_predicted == world.wanted().plan.memory.kv_tokens


def test_the_smoke_test_costs_three_requests(world: World) -> None:
    api = world.api()
    tried = attempt(api, world.wanted(), timeout_seconds=30)
    assert tried.smoke.passed, tried.smoke.checks
    assert tried.smoke.connections == 1
    assert [request.rpartition("/")[2] for request in api.requests] == ["pods", "portforward", "log"]
    assert tried.smoke.stream is not None
    assert tried.smoke.memory is not None


def test_a_changed_field_names_who_did_it(world: World) -> None:
    change(world, "Service", "v1", NAME, {"spec": {"sessionAffinity": "ClientIP"}}, "kubectl-edit")
    patch = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 600}}}}
    change(world, "Deployment", "apps/v1", NAME, patch, "somebodys-tool")
    try:
        found = look(world, monitors=False)
        changed = {(one.ref.kind, one.path): one for one in found.drift}
        grace = changed["Deployment", "spec.template.spec.terminationGracePeriodSeconds"]
        assert (grace.what, grace.live, grace.owner) == ("changed", "600", "somebodys-tool")
        assert grace.wanted == str(world.wanted().plan.clocks.grace_seconds.value)
        added = changed["Service", "spec.sessionAffinity"]
        assert (added.what, added.live, added.owner) == ("added", "ClientIP", "kubectl-edit")
        assert found.drifted
    finally:
        change(world, "Service", "v1", NAME, {"spec": {"sessionAffinity": "None"}}, "kubectl-edit")
        repair(world)


def test_what_an_autoscaler_sets_is_no_drift(world: World) -> None:
    path = f"/apis/apps/v1/namespaces/{world.namespace}/deployments/{NAME}?fieldManager=kubectl-rollout"
    note = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}
    world.sim.client.ask("PATCH", path, note, "application/merge-patch+json")
    assert [one for one in look(world, monitors=False).drift if one.ref.kind == "Deployment"] == []


def test_what_is_gone_is_missed(world: World) -> None:
    ref = Ref(api_version="v1", kind="Service", namespace=world.namespace, name=NAME)
    assert world.api().delete(ref)
    try:
        found = look(world, monitors=False)
        assert [(one.what, str(one.ref)) for one in found.drift] == [("missing", f"Service {NAME}")]
    finally:
        repair(world)


def test_a_name_that_is_nearly_right(world: World) -> None:
    with pytest.raises(ClusterError, match="no deployment qwn") as caught:
        status(world.api(), world.namespace, "qwn")
    assert caught.value.hint == "Did you mean qwen?"


def test_the_commands(world: World, cli: Cli) -> None:
    reach = ("-n", world.namespace, "--kubeconfig", str(world.config))
    every = cli("status", *reach)
    assert every.code == 0, every.err
    assert every.out.splitlines()[0] == f"1 deployment in the namespace {world.namespace}, all well."
    one = cli("status", NAME, *reach)
    assert one.code == 0, one.out + one.err
    assert one.out.splitlines()[0] == f"{NAME} serves, 1 of 1 ready."
    tried = cli("test", NAME, *reach)
    assert tried.code == 0, tried.out + tried.err
    assert "first token after" in tried.out
    for ran in (every, one, tried):
        assert max(map(len, ran.out.splitlines())) <= 80, ran.out


@pytest.mark.parametrize(
    ("words", "schema"), [(("status",), "status"), (("status", NAME), "status"), (("test", NAME), "test")]
)
def test_json_follows_its_schema(world: World, cli: Cli, words: tuple[str, ...], schema: str) -> None:
    for asked in (("--json",), ("--output", "json")):
        ran = cli(*words, "-n", world.namespace, "--kubeconfig", str(world.config), *asked)
        assert ran.code == 0, ran.err
        document = json.loads((SCHEMAS / f"{schema}.json").read_text(encoding="utf-8"))
        jsonschema.validate(ran.json(), document)


def test_nothing_of_that_name(world: World, cli: Cli) -> None:
    for command in ("status", "test"):
        ran = cli(command, "qwne", "-n", world.namespace, "--kubeconfig", str(world.config))
        assert ran.code == 1
        assert "Did you mean qwen?" in ran.err


def test_who_may_only_read_learns_as_much_as_that_permits(world: World, cli: Cli, tmp_path: Path) -> None:
    config = reader(world, tmp_path)
    found = status(world.api(config=config), world.namespace, NAME)
    assert not found.drifted
    assert {finding.code: finding.level for finding in found.findings}["engine-up"] != "ok"
    change(world, "Deployment", "apps/v1", NAME, {"spec": {"progressDeadlineSeconds": 77}}, "somebody")
    try:
        (only,) = status(world.api(config=config), world.namespace, NAME, monitors=False).drift
        assert (only.path, only.live, only.owner) == ("spec.progressDeadlineSeconds", "77", "somebody")
    finally:
        repair(world)
    ran = cli("test", NAME, "-n", world.namespace, "--kubeconfig", str(config))
    assert ran.code == 1
    assert "No permission to forward port 8000" in ran.err
    told: list[Event] = []
    assert (
        smoke_of(world.api(config=config), world.wanted(), QUIET, told.append) is None
    )  # no fault of the deployment
    assert [event.type for event in told] == ["note"]


def reader(world: World, folder: Path) -> Path:
    """A kubeconfig of somebody who may get and list, and nothing else."""
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]
    rules = [rule | {"resources": READABLE} for rule in rules]
    if world.fake is None:
        assert world.plane is not None
        return world.plane.user(world.namespace, rules)
    group, place = "rbac.authorization.k8s.io", {"name": "reader", "namespace": world.namespace}
    world.make(
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": place, "rules": rules},
        {
            "apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": place,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "User", "name": "reader", "apiGroup": group}],
        },
    )  # fmt: skip
    return Path(world.fake.kubeconfig(folder / "reader", token=world.fake.user("reader")))


def test_nothing_listens_on_a_port(world: World) -> None:
    (pod,) = (one.name for one in look(world, monitors=False).pods if one.component == "server")
    ref = Ref(api_version="v1", kind="Pod", namespace=world.namespace, name=pod)
    with forwarded(world.api(), ref, 4711) as channel, pytest.raises(NoReplyError, match="4711"):
        channel.ask("/health", seconds=10)


def test_trouble_is_a_word_and_has_a_cause(world: World, cli: Cli) -> None:
    """Last of all, as it leaves a revision that failed."""
    home, world.namespace = world.namespace, world.new_namespace()
    try:
        with world.sim.behaving(faults.image_not_found(), container="server"):
            result = world.deploy(world.wanted(), replace(QUIET, timeout_seconds=20))
            assert result.ended == "failed"
            (row,) = overview(world.api(), world.namespace)
            assert not row.well
            found = look(world)
            assert not found.healthy
            assert found.causes
            ran = cli("status", NAME, "-n", world.namespace, "--kubeconfig", str(world.config))
            assert ran.code == 5
            assert found.causes[0].sentence[:30] in ran.out.replace("\n           ", " ")
    finally:
        world.namespace = home
