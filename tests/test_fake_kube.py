"""The Kubernetes API fake answers as a real API server does, and does what tests ask of it.

tests/data/kube-answers.json.gz is what kube-apiserver 1.36 answered to the dialogues of tests/kube_dialogues.py; where
there is such a server (KUBEBUILDER_ASSETS), it is asked again. `--update-golden` writes the file from it.
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from selfhost.cluster import Api, connect
from selfhost.cluster.kinds import CONFIG_MAP, DEPLOYMENT, LEADER_WORKER_SET, POD
from selfhost.cluster.types import (
    AbsentError,
    ApiError,
    ConflictError,
    ForbiddenError,
    Ref,
    RefusedError,
    TakenError,
)
from selfhost.cluster.watch import Wanted, Watcher
from tests import apiservers
from tests.fakes.kube import Kube, kube_api
from tests.kube_dialogues import DIALOGUES, transcript
from tests.kube_dialogues.steps import Ask, Step, config, deployment, obj

ANSWERS = Path(__file__).parent / "data" / "kube-answers.json.gz"
_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')
NAMESPACE = "llm"


def asker(connection: http.client.HTTPConnection, token: str) -> Ask:
    """Requests over one connection, as an administrator who can be anybody."""

    def ask(step: Step) -> tuple[int, Any, tuple[str, ...]]:
        headers = {"Content-Type": step.form, "User-Agent": "tests/1"}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Impersonate-User": step.user} if step.user else {}
        body = None if step.body is None else json.dumps(step.body)
        connection.request(step.method, step.path, body=body, headers=headers)
        reply = connection.getresponse()
        raw = reply.read().decode()
        said = json.loads(raw) if "json" in (reply.headers.get("Content-Type") or "") else raw
        warnings = [
            text for line in reply.headers.get_all("Warning") or () for text in _WARNING.findall(line)
        ]
        return reply.status, said, tuple(warnings)

    return ask


def told(answers: list[list[Any]]) -> Any:
    """As JSON has it."""
    return json.loads(json.dumps(answers))


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(ANSWERS.read_bytes()))
    return found


@pytest.fixture(scope="module")
def bare() -> Iterator[Kube]:
    """The server alone: no controllers, as the real one is started."""
    with kube_api(controllers=False, service_accounts=False) as kube:
        yield kube


@pytest.fixture
def kube() -> Iterator[Kube]:
    with kube_api(pace=50.0) as made:
        made.add(obj("v1", "Namespace", NAMESPACE))
        yield made


@pytest.fixture
def api(kube: Kube, tmp_path: Path) -> Api:
    return Api(connect(None, kube.kubeconfig(tmp_path / "config")))


def ref(kind: str = "ConfigMap", name: str = "m", api_version: str = "v1") -> Ref:
    return Ref(api_version=api_version, kind=kind, namespace=NAMESPACE, name=name)


def here(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"metadata": item["metadata"] | {"namespace": NAMESPACE}}


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_fake_answers_as_the_real_server_did(name: str, bare: Kube, answers: dict[str, Any]) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", bare.port, timeout=30)) as connection:
        found = told(transcript(name, asker(connection, bare.token), f"d-{uuid4().hex[:8]}"))
    for step, real, fake in zip(DIALOGUES[name], answers[name], found, strict=True):
        assert fake == real, f"{step.method} {step.path}"


@apiservers.NEEDED
@pytest.mark.timeout(300)  # every definition of tests/schemas/ takes a real server a second
def test_the_real_server_still_answers_so(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not apiservers.ASSETS:
        pytest.skip("a cluster's own admission and release would answer differently")
    server = apiservers.serve(tmp_path_factory.mktemp("server"))
    assert isinstance(server, Generator)
    cluster: apiservers.Cluster = next(server)
    with (
        closing(server),
        closing(http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=60)) as connection,
    ):
        found = {
            name: told(transcript(name, asker(connection, ""), f"d-{uuid4().hex[:8]}")) for name in DIALOGUES
        }
    if request.config.getoption("--update-golden"):
        text = json.dumps(found, indent=1, sort_keys=True).encode()
        ANSWERS.write_bytes(gzip.compress(text, mtime=0))
    real = json.loads(gzip.decompress(ANSWERS.read_bytes()))
    assert {name: found[name] == real[name] for name in found} == dict.fromkeys(found, True)


def test_what_is_applied_twice_is_written_once(kube: Kube, api: Api) -> None:
    first = api.apply(here(deployment(replicas=0)))
    kube.until(
        lambda: (kube.get("Deployment", "web", NAMESPACE) or {})["status"].get("observedGeneration") == 1
    )
    before = kube.get("Deployment", "web", NAMESPACE)
    again = api.apply(here(deployment(replicas=0)))
    assert first.created
    assert not again.created
    assert again.object == before
    assert again.object["metadata"]["generation"] == 1
    changed = api.apply(here(deployment(replicas=0, paused=True))).object["metadata"]
    assert changed["generation"] == 2
    assert int(changed["resourceVersion"]) > int(again.object["metadata"]["resourceVersion"])


def test_a_dry_run_leaves_nothing(kube: Kube, api: Api) -> None:
    before = kube.objects()
    said = api.apply(here(config(a="1")), dry_run=True)
    assert said.created
    assert said.object["data"] == {"a": "1"}
    assert kube.objects() == before


def test_the_client_sees_conflicts_and_refusals(kube: Kube, api: Api) -> None:
    kube.add(here(config(a="1")), manager="somebody")
    with pytest.raises(ConflictError, match="somebody owns") as conflict:
        api.apply(here(config(a="2")))
    assert [(claim.manager, claim.field) for claim in conflict.value.claims] == [("somebody", ".data.a")]
    api.apply(here(config(a="2")), force=True)
    assert (kube.get("ConfigMap", "m", NAMESPACE) or {})["data"] == {"a": "2"}
    api.apply(here(deployment()))
    with pytest.raises(RefusedError, match="immutable"):
        api.apply(here(deployment() | {"spec": deployment("other")["spec"]}))
    with pytest.raises(TakenError):
        api.delete(ref(), uid="another")
    with pytest.raises(AbsentError):
        api.list(LEADER_WORKER_SET)  # its definition is not there


def test_watches_tell_every_change_once(kube: Kube, api: Api) -> None:
    kube.add(here(obj("v1", "ConfigMap", "old", labels={"app": "x"})))
    with Watcher(api, [Wanted(kind=CONFIG_MAP, namespace=NAMESPACE, labels="app=x")]) as watcher:
        first = watcher.next(5)
        assert first is not None
        assert (first.type, [one["metadata"]["name"] for one in first.items]) == ("listed", ["old"])
        kube.until(lambda: kube.watches)
        made = kube.add(
            here(obj("v1", "ConfigMap", "new", labels={"app": "x"})), here(obj("v1", "ConfigMap", "other"))
        )
        kube.change(made[0], {"data": {"a": "1"}})
        kube.change(made[1], {"metadata": {"labels": {"app": "x"}}})
        kube.change(made[0], {"metadata": {"labels": {"app": "y"}}})
        api.delete(ref(name="old"))
        seen = [watcher.next(5) for _ in range(5)]
    assert [(one.type, one.items[0]["metadata"]["name"]) for one in seen if one] == [
        ("set", "new"), ("set", "new"), ("set", "other"), ("gone", "new"), ("gone", "old"),
    ]  # fmt: skip


def test_watches_expire_and_are_begun_again(kube: Kube, api: Api) -> None:
    with Watcher(api, [Wanted(kind=CONFIG_MAP, namespace=NAMESPACE)]) as watcher:
        assert (found := watcher.next(5)) is not None
        assert found.type == "listed"
        kube.until(lambda: kube.watches)
        kube.expire_watches()
        kube.add(here(config(a="1")))
        again = watcher.next(5)
        assert again is not None
        assert again.type == "listed"
    assert sum(str(one) == f"GET /api/v1/namespaces/{NAMESPACE}/configmaps" for one in kube.requests) >= 3


def test_a_watch_from_before_what_is_kept_is_told_so(kube: Kube) -> None:
    kube.expire_watches()
    with closing(http.client.HTTPConnection("127.0.0.1", kube.port, timeout=5)) as connection:
        connection.request(
            "GET",
            "/api/v1/pods?watch=true&resourceVersion=1",
            headers={"Authorization": f"Bearer {kube.token}"},
        )
        reply = connection.getresponse()
        told_so = json.loads(reply.readline())
    assert (reply.status, told_so["type"]) == (200, "ERROR")
    assert (told_so["object"]["code"], told_so["object"]["reason"]) == (410, "Expired")
    assert told_so["object"]["message"].startswith("too old resource version: 1 (")


def test_bookmarks(tmp_path: Path) -> None:
    with (
        kube_api(controllers=False, bookmark_seconds=0.05) as kube,
        closing(http.client.HTTPConnection("127.0.0.1", kube.port, timeout=5)) as connection,
    ):
        kube.add(config(a="1"))
        path = "/api/v1/pods?watch=true&resourceVersion=101&allowWatchBookmarks=true&timeoutSeconds=2"
        connection.request("GET", path, headers={"Authorization": f"Bearer {kube.token}"})
        line = json.loads(connection.getresponse().readline())
    assert line["type"] == "BOOKMARK"
    assert line["object"]["kind"] == "Pod"
    assert line["object"]["metadata"]["resourceVersion"] == str(kube.store.version)


def test_long_lists_come_in_pages(kube: Kube, api: Api) -> None:
    kube.add(*(here(config(f"m-{number:04}")) for number in range(1100)))
    found = api.list(CONFIG_MAP, NAMESPACE)
    names = [one["metadata"]["name"] for one in found.items]
    assert len(names) == len(set(names)) == 1101  # kube-root-ca.crt too
    assert names == sorted(names)
    only = api.list(CONFIG_MAP, NAMESPACE, metadata_only=True).items
    assert {one["kind"] for one in only} == {"PartialObjectMetadata"}
    assert "data" not in only[0]


def test_a_server_that_restarts_keeps_what_it_has(kube: Kube, api: Api) -> None:
    api.apply(here(config(a="1")))
    with Watcher(api, [Wanted(kind=CONFIG_MAP, namespace=NAMESPACE)]) as watcher:
        assert watcher.next(5) is not None
        kube.until(lambda: kube.watches)
        kube.restart(0.3)
        began = time.monotonic()
        assert api.get(ref()) is not None
        assert time.monotonic() - began >= 0.2
        kube.change(kube.get("ConfigMap", "m", NAMESPACE) or {}, {"data": {"b": "2"}})
        seen = []
        while (one := watcher.next(5)) is not None and one.type != "set":
            seen.append(one.type)
    assert one is not None
    assert one.items[0]["data"] == {"a": "1", "b": "2"}
    assert set(seen) <= {"trouble", "listed"}


def test_faults_are_answered_as_often_as_asked(kube: Kube, tmp_path: Path) -> None:
    waits: list[float] = []
    api = Api(connect(None, kube.kubeconfig(tmp_path / "config")), sleep=waits.append)
    kube.throttle(2, seconds=3)
    kube.fail_next("GET", "configmaps", code=503)
    assert api.get(ref()) is None
    assert len([one for one in kube.requests if one.agent]) == 4
    assert max(waits) == 3
    kube.fail_next(code=500, reason="InternalError", message="etcdserver: leader changed", times=1)
    assert api.get(ref()) is None


def test_users_are_permitted_what_roles_say(kube: Kube, tmp_path: Path) -> None:
    token = kube.user("alice")
    alice = Api(connect(None, kube.kubeconfig(tmp_path / "alice", token=token)))
    with pytest.raises(ForbiddenError, match='User "alice" cannot list resource "pods" in API group ""'):
        alice.list(POD, NAMESPACE)
    version = "rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": ["", "apps"], "resources": ["pods", "deployments"], "verbs": ["*"]}]
    subject = {"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}
    binding = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [subject],
    }
    kube.add(
        here(obj(version, "Role", "r", {"rules": rules})), here(obj(version, "RoleBinding", "r", binding))
    )
    assert alice.list(POD, NAMESPACE).items == ()
    assert alice.apply(here(deployment())).created
    kube.deny("alice", verbs=("delete",), resources=("deployments",))
    with pytest.raises(ForbiddenError, match="cannot delete resource"):
        alice.delete(ref("Deployment", "web", "apps/v1"))
    review = alice.ask(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", what="ask",
        body={"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
              "spec": {"namespace": NAMESPACE}},
    )  # fmt: skip
    assert rules[0] in review["status"]["resourceRules"]
    stranger = Api(connect(None, kube.kubeconfig(tmp_path / "nobody", token="none")))
    with pytest.raises(ForbiddenError, match="does not accept the credentials"):
        stranger.list(DEPLOYMENT, NAMESPACE)


def test_webhooks_refuse_and_are_away(kube: Kube, api: Api) -> None:
    kube.refuse(lambda item: item["kind"] == "Deployment", "no team label", name="labels.example.com")
    with pytest.raises(
        RefusedError, match=r'admission webhook "labels\.example\.com" denied the request: no team'
    ):
        api.apply(here(deployment()))
    kube.lose_webhook(lambda item: item["kind"] == "ConfigMap")
    with pytest.raises(ApiError, match="failed calling webhook") as error:
        Api(api.connection, patience_seconds=0.0).apply(here(config(a="1")))
    assert error.value.status == 500


def test_two_at_once_never_lose_a_write(kube: Kube, api: Api) -> None:
    """Optimistic locking: of two who write over one version, one is told."""
    api.apply(here(config(n="0")))
    tries: list[int] = []

    def count() -> None:
        for _ in range(10):
            while True:
                item = api.get(ref())
                assert item is not None
                tries.append(1)
                change = {
                    "metadata": {"resourceVersion": item["metadata"]["resourceVersion"]},
                    "data": {"n": str(int(item["data"]["n"]) + 1)},
                }
                try:
                    api.patch(ref(), change)
                    break
                except TakenError:
                    continue

    threads = [threading.Thread(target=count) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (kube.get("ConfigMap", "m", NAMESPACE) or {})["data"]["n"] == "40"
    assert len(tries) >= 40
