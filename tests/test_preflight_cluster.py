"""The preflight over a real connection: the fake API server, and the real one where KUBEBUILDER_ASSETS has it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from selfhost.cluster import Api, connect
from selfhost.deploy.preflight import MOST_REQUESTS, findings_of, gather
from selfhost.deploy.preflight.gather import subject_of
from selfhost.deploy.preflight.request import request
from selfhost.deploy.types import Finding
from selfhost.plan import to_json
from tests import crds, plans
from tests.clusters import WHOLE, ControlPlane
from tests.conftest import Cli
from tests.deployments import node, options, storage_class, wanted
from tests.fakes.kube import Kube, kube_api

SPACE = "preflight"
SCHEMA = Path("selfhost/cli/schemas/preflight.json")


@dataclass(frozen=True, kw_only=True)
class Server:
    """An API server.

    Args:
        config: a kubeconfig of its administrator.
        make: makes an object.
        user: a kubeconfig of a new user, who may do what rules of a Role say.
        folder: for files.
    """

    config: str
    make: Callable[[Any], None]
    user: Callable[[list[Any]], str]
    folder: Path

    def api(self, config: str = "") -> Api:
        return Api(connect(None, config or self.config), patience_seconds=5)


@pytest.fixture(scope="module", params=["fake", "real"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the namespace, a node with eight GPUs, a default StorageClass and two Secrets."""
    folder = tmp_path_factory.mktemp("server")
    if request.param == "real":
        if not WHOLE:
            pytest.skip("no control plane: set KUBEBUILDER_ASSETS")
        found = _real(request.getfixturevalue("plane"), folder)
        yield _filled(found)
        for kind, name in (("node", "gpu-preflight"), ("storageclass", "preflight"), ("namespace", SPACE)):
            request.getfixturevalue("plane").run("delete", kind, name, "--wait=false")
    else:
        with kube_api(definitions=crds.definitions(), controllers=False) as kube:
            yield _filled(_fake(kube, folder))


def _filled(found: Server) -> Server:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    found.make(_whole("v1", "Namespace", {"metadata": {"name": SPACE, "labels": labels}}))
    found.make(_whole("v1", "Node", node("gpu-preflight")))
    found.make(_whole("storage.k8s.io/v1", "StorageClass", storage_class("preflight")))
    secret = {"metadata": {"name": "k", "namespace": SPACE}, "stringData": {"api-key": "hush"}}
    found.make(_whole("v1", "Secret", secret))
    registry = {"metadata": {"name": "reg", "namespace": SPACE}, "type": "kubernetes.io/dockerconfigjson"}
    found.make(_whole("v1", "Secret", registry) | {"stringData": {".dockerconfigjson": '{"auths":{}}'}})
    return found


def _fake(kube: Kube, folder: Path) -> Server:
    names = iter(range(100))

    def user(rules: list[Any]) -> str:
        name = f"user-{next(names)}"
        bind: Any = {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}}
        bind |= {"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]}
        for kind, body in (("Role", {"rules": rules}), ("RoleBinding", bind)):
            metadata = {"metadata": {"name": name, "namespace": SPACE}}
            kube.add(_whole("rbac.authorization.k8s.io/v1", kind, metadata | body))
        return kube.kubeconfig(folder / name, token=kube.user(name))

    def make(item: Any) -> None:
        kube.add(item)

    return Server(
        config=kube.kubeconfig(folder / "config"),
        make=make,
        user=user,
        folder=folder,
    )


def _real(plane: ControlPlane, folder: Path) -> Server:
    def make(item: Any) -> None:
        said = plane.run("create", "-f", "-", stdin=json.dumps(item))
        assert said.returncode == 0, said.stderr
        if item["kind"] == "Node":
            patch, name = json.dumps({"status": item["status"]}), item["metadata"]["name"]
            said = plane.run("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)
            assert said.returncode == 0, said.stderr

    def user(rules: list[Any]) -> str:
        return str(plane.user(SPACE, rules))

    return Server(config=str(plane.config), make=make, user=user, folder=folder)


def _whole(version: str, kind: str, item: Any) -> Any:
    return {"apiVersion": version, "kind": kind} | item


def _told(findings: tuple[Finding, ...]) -> dict[str, str]:
    return {one.code: one.level for one in findings if one.level != "ok"}


def test_an_administrator_costs_few_requests(server: Server) -> None:
    api, found = server.api(), wanted(options=options(namespace=SPACE))
    facts = gather(api, found)
    told = _told(findings_of(facts, found))
    told.pop("cluster", None)  # a server that was built without a version tells none
    assert told == {}
    assert facts.requests == len(api.requests) <= MOST_REQUESTS
    assert not facts.rights.refused
    assert not facts.rights.unknown


def test_secrets_are_judged_without_a_look_at_their_data(server: Server) -> None:
    asked = options(namespace=SPACE, access={"api_key_secret": "k", "image_pull_secrets": ("reg",)})
    facts = gather(server.api(), wanted(options=asked))
    assert "hush" not in repr(facts)
    assert "aHVzaA" not in repr(facts)
    told = {one.code: one.level for one in findings_of(facts, wanted(options=asked))}
    assert (told["secret"], told["image-pull-secret"]) == ("ok", "ok")
    swapped = options(namespace=SPACE, access={"api_key_secret": "reg", "image_pull_secrets": ("k",)})
    wrong = _told(findings_of(gather(server.api(), wanted(options=swapped)), wanted(options=swapped)))
    assert (wrong["secret"], wrong["image-pull-secret"]) == ("error", "error")


def test_what_an_administrator_is_asked_for_is_enough_and_no_more(server: Server) -> None:
    """A user without rights, the request applied by an administrator, and the same user again."""
    found = wanted(options=options(namespace=SPACE))
    config = server.user([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}])
    api = server.api(config)
    before = gather(api, found)
    told = _told(findings_of(before, found))
    assert told["rights"] == "error"
    assert {told["gpus"], told["quota"], told["storage-class"]} == {"unknown"}
    text = request(before.rights.refused, namespace=SPACE, name=found.name, subject=subject_of(api))
    assert "secrets" not in text.partition("---")[2]
    assert "hush" not in text
    for item in yaml.safe_load_all(text):
        server.make(item)
    after = gather(server.api(config), found)
    told = _told(findings_of(after, found))
    told.pop("cluster", None)
    assert told == {}
    assert after.requests <= MOST_REQUESTS
    assert not request(after.rights.refused, namespace=SPACE, name=found.name, subject={})


def test_a_namespace_that_is_missing_and_kinds_that_are_not_served(server: Server) -> None:
    missing = wanted(options=options(namespace="nowhere"))
    told = {one.code: one for one in findings_of(gather(server.api(), missing), missing)}
    assert (told["namespace"].level, told["namespace"].hint) == ("error", "--create-namespace makes it.")


def test_the_command_says_what_it_found_and_ends_with_its_code(
    server: Server, cli: Cli, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(to_json(plans.plan()), encoding="utf-8")
    words = ("preflight", plan, "--kubeconfig", server.config, "--namespace", SPACE)
    ran = cli(*words)
    assert ran.code == 0, ran.out + ran.err
    assert ran.out.startswith(f"qwen3-32b can be deployed in namespace {SPACE}")
    assert "2 of 8 free GPUs on gpu-preflight" in " ".join(ran.out.split())
    large = tmp_path / "large.json"
    large.write_text(to_json(plans.plan(tensor=2, gpu="h200-sxm-141gb")), encoding="utf-8")
    ran = cli("preflight", large, *words[2:], "--json")
    assert ran.code == 4
    jsonschema.validate(ran.json(), json.loads(SCHEMA.read_text(encoding="utf-8")))
    gpus = next(one for one in ran.json()["findings"] if one["code"] == "gpus")
    assert gpus["evidence"][0].startswith("gpu-preflight: has nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3")
    ran = cli(*words, "--api-key-secret", "absent")
    assert ran.code == 5
    assert "ERROR There is no Secret absent with the entry `api-key`." in " ".join(ran.out.split())
    asked = cli(*words, "--request")
    assert (asked.code, asked.out) == (0, "")
    config = server.user([])
    ran = cli("preflight", plan, "--kubeconfig", config, "--namespace", SPACE, "--request")
    assert ran.code == 0
    kinds = [item["kind"] for item in yaml.safe_load_all(ran.out)]
    assert kinds == ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"]
