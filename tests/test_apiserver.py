"""A real API server takes every rendered object, and Pod Security at the level that a README says every pod.

tests/apiservers.py says which server. On one of the tests' own, objects are applied for good, and a second time, which
has to change nothing. Objects of the matrix that are the same but for their plan are asked about once.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from selfhost.manifests import render, write_manifests
from selfhost.manifests.zipapp import ARCHIVE_FILE, pull_archive
from tests.apiservers import NEEDED, Answer, Cluster, Level
from tests.matrix import CASES, objects, rendered
from tests.podsecurity import pods

pytestmark = [NEEDED, pytest.mark.timeout(300)]
GOLDEN = Path(__file__).parent / "golden"
FOLDERS = sorted(path for path in (GOLDEN / "kubernetes").iterdir() if path.is_dir())
# No objects: one machine without a cluster, and a chart whose objects equal those of target kubernetes.
APART = ("compose", "systemd", "helm")
# What a pod names and the server would look for.
ELSEWHERE = {"serviceAccountName", "priorityClassName", "runtimeClassName"}
_LEVEL = re.compile(r"pod-security\.kubernetes\.io/enforce=([a-z]+)")


@pytest.fixture(scope="module")
def namespaces(cluster: Cluster) -> Iterator[dict[Level, str]]:
    """A namespace of each level."""
    made = {level: cluster.namespace(level) for level in get_args(Level)}
    yield made
    for name in made.values():
        cluster.ask("DELETE", f"/api/v1/namespaces/{name}")


def level(name: str) -> Level:
    """What the README of a case has the namespace labelled with."""
    (readme,) = (document.text for document in rendered(name).documents if document.name == "README.md")
    found: set[Level] = set(_LEVEL.findall(readme))
    (said,) = found
    return said


def bare(document: Any) -> Any:
    """The object without its plan, which makes equal objects different."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "annotations"}
    return document | {"metadata": metadata}


def pods_of(document: Any) -> Iterator[dict[str, Any]]:
    """The pods that an object makes: Pod Security refuses these, and of what makes them warns alone.

    KServe writes fields of its own beside those of a pod, and fills containers in that have no image.
    """
    for pod in pods(document):
        if all("image" in container for container in pod["containers"]):
            spec = {key: value for key, value in pod.items() if key not in ELSEWHERE}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}


def twice(cluster: Cluster, document: Any, namespace: str) -> str:
    """What the server has against an object that is applied, and applied again."""
    first = cluster.apply(document, namespace)
    if first.objection:
        return first.objection
    again = cluster.apply(document, namespace)
    # What its number says is left out: the server writes a claim down again though nothing in it is new.
    stated = [
        {**one.body, "metadata": one.body["metadata"] | {"resourceVersion": ""}} for one in (first, again)
    ]
    return again.objection or ("" if stated[0] == stated[1] else "is changed when it is applied again")


@pytest.mark.timeout(600)
def test_the_matrix_is_taken(cluster: Cluster, namespaces: dict[Level, str]) -> None:
    """Every object of every case for this release of Kubernetes, and every pod."""
    seen: set[tuple[str, Level]] = set()
    objections: dict[str, str] = {}
    here = cluster.release()
    for number, (name, case) in enumerate(CASES.items()):
        if case.target in APART or int(case.since.removeprefix("1.")) > here:
            continue
        said, own = level(name), ""
        for document in map(bare, objects(name)):
            key = json.dumps(document, sort_keys=True), said
            if key in seen:
                continue
            seen.add(key)
            if not cluster.own:
                objection = cluster.create(document, namespaces[said]).objection
            else:
                own = own or cluster.namespace(said)
                if document["kind"] == "PersistentVolume":  # of the whole cluster, and other cases have one
                    title = f"{document['metadata']['name']}-{number}"
                    document = document | {"metadata": document["metadata"] | {"name": title}}
                objection = twice(cluster, document, own)
            pod = next(
                (
                    no
                    for pod in pods_of(document)
                    if (no := cluster.create(pod, namespaces[said], "Ignore").objection)
                ),
                "",
            )
            for problem in filter(None, (objection, pod)):
                objections[f"{name}: {document['kind']}"] = problem
    assert objections == {}
    assert len(seen) > 500


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_golden_objects_are_taken_with_their_plan(
    folder: Path, cluster: Cluster, namespaces: dict[Level, str]
) -> None:
    for path in sorted(folder.glob("[0-9]*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert cluster.create(document, namespaces["restricted"]).objection == "", path.name


@pytest.mark.parametrize("words", [(), ("--server-side",)], ids=["client", "server"])
@pytest.mark.parametrize("name", ["crossed/kubernetes-vllm-two", "crossed/lws-vllm-nodes"])
def test_kubectl_applies_the_folder(
    name: str, words: tuple[str, ...], cluster: Cluster, tmp_path: Path
) -> None:
    """As the README says, with the archive; and again, which changes nothing."""
    if not cluster.own:
        pytest.skip("objects would stay behind")
    case, space = CASES[name], cluster.namespace("restricted")
    made = render(case.plan, target=case.target, options=replace(case.options, namespace=space))
    write_manifests(made, tmp_path)
    for _ in range(2):
        done = cluster.run("apply", *words, "-k", str(tmp_path))
        assert done.returncode == 0, done.stderr
        # kubectl says that it asked for an order itself.
        assert [line for line in done.stderr.splitlines() if "Sorting order is set both" not in line] == []
        compared = cluster.run("diff", *words, "-k", str(tmp_path))
        assert compared.stdout == ""


def test_the_archive_is_taken_with_its_copy_in_an_annotation(
    cluster: Cluster, namespaces: dict[Level, str]
) -> None:
    """The ConfigMap as `kubectl apply` sends it."""
    space = namespaces["restricted"]
    config: dict[str, Any] = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "archive", "namespace": space},
        "binaryData": {ARCHIVE_FILE: base64.b64encode(pull_archive()).decode()},
    }  # fmt: skip
    copy = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(config)}
    config["metadata"]["annotations"] = copy
    assert cluster.create(config, space).objection == ""


def test_the_server_does_refuse(cluster: Cluster, namespaces: dict[Level, str]) -> None:
    """A privileged pod, a template of one, a field that nobody defined, and what a definition's rule in CEL forbids."""
    container = {"name": "x", "image": "x", "securityContext": {"privileged": True}}
    space = namespaces["restricted"]

    def of(kind: str, version: str, spec: Any) -> Answer:
        document = {"apiVersion": version, "kind": kind, "metadata": {"name": "bad"}, "spec": spec}
        return cluster.create(document, space)

    assert "violates PodSecurity" in of("Pod", "v1", {"containers": [container]}).objection
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    deployment = of("Deployment", "apps/v1", {"selector": {"matchLabels": labels}, "template": template})
    assert "would violate PodSecurity" in deployment.objection
    assert deployment.status == 201
    assert "unknown field" in of("Service", "v1", {"ports": [{"port": 80}], "prots": []}).objection
    pool = {"selector": {"matchLabels": labels}, "targetPorts": [{"number": 1}, {"number": 1}]}
    assert "port" in of("InferencePool", "inference.networking.k8s.io/v1", pool).objection
