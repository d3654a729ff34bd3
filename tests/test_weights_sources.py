"""Weights from the Hub, a claim, a file server, a node, an image and S3: one volume, one marker, one word."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from selfhost.errors import UsageError
from selfhost.manifests import RenderOptions, render
from selfhost.manifests.options.weights import Source, WeightOptions, parse_source
from selfhost.plan import from_json
from tests.plans import plan
from tests.test_manifests import job_container, kind, kinds, objects, pod, server, unescaped
from tests.validators import problems


def options(uri: str | None, **changes: Any) -> RenderOptions:
    weights = {name: changes.pop(name) for name in tuple(changes) if name.startswith("s3_")}
    return RenderOptions(weights=WeightOptions(uri=uri, **weights), **changes)


def volume(manifests: Any) -> Any:
    return next(one for one in pod(manifests)["volumes"] if one["name"] == "weights")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("hf", Source(kind="hf")),
        ("pvc:models", Source(kind="pvc", name="models")),
        ("pvc:models#qwen/32b", Source(kind="pvc", name="models", directory="qwen/32b")),
        ("nfs://10.0.0.7/export/models", Source(kind="nfs", name="10.0.0.7", path="/export/models")),
        ("nfs://[fd00::7]/m#a", Source(kind="nfs", name="[fd00::7]", path="/m", directory="a")),
        ("hostpath:/data/qwen/", Source(kind="hostpath", name="/data/qwen")),
        ("oci://registry.example:5000/qwen:v1", Source(kind="oci", name="registry.example:5000/qwen:v1")),
        ("s3://models/qwen/32b/", Source(kind="s3", name="models", path="qwen/32b")),
    ],
)
def test_places_are_taken_apart(uri: str, expected: Source) -> None:
    assert parse_source(uri) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "", "pvc:", "pvc:A_b", "nfs://host", "nfs:///x", "nfs://h/a/../b", "hostpath:", "hostpath:/",
        "hostpath:/a/../b",
        "oci://image", "oci://image:latest", "s3://bucket", "s3://b", "s3://bucket/a b", "ftp://x/y", "pvc:a#../b",
        "hostpath:/a#b", "s3://bucket/x#y", 'pvc:a"\nb', "oci://a:1#{{ .Values }}", "nfs://user:secret@host/x",
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused(uri: str) -> None:
    with pytest.raises(UsageError):
        options(uri)


def test_an_existing_claim_is_used_and_not_made() -> None:
    manifests = render(plan(), options=options("pvc:models"))
    assert "PersistentVolumeClaim" not in kinds(manifests)
    assert volume(manifests)["persistentVolumeClaim"] == {"claimName": "models"}
    assert "Job" in kinds(manifests)  # fills what is missing and verifies the rest
    assert server(manifests)["args"][0] == "Qwen/Qwen3-32B"


def test_a_directory_is_named_instead_of_the_repository() -> None:
    manifests = render(plan(), options=options("pvc:models#qwen"))
    args = server(manifests)["args"]
    assert args[0] == "/weights/qwen"
    assert "--served-model-name=Qwen/Qwen3-32B" in args
    assert not any(word.startswith("--revision") for word in args)
    assert "Job" not in kinds(manifests)
    (wait,) = pod(manifests)["initContainers"]
    assert wait["args"][2] == "/weights/qwen/config.json"


def test_the_plan_that_travels_says_what_runs() -> None:
    manifests = render(plan(), options=options("oci://models/qwen:v1"))
    carried = from_json(kind(manifests, "Deployment")["metadata"]["annotations"]["selfhost/plan"])
    assert [word.text for word in carried.engine.args] == [
        unescaped(word) for word in server(manifests)["args"]
    ]
    assert carried.weights.kind == "volume"
    beside = next(document.text for document in manifests.documents if document.name == "plan.json")
    assert from_json(beside).engine.args == plan().engine.args  # what was decided stays as it is


def test_an_image_volume_is_restricted_and_needs_no_claim() -> None:
    manifests = render(
        plan(replicas=2), options=options("oci://models/qwen:v1@sha256:" + "ab" * 32, pod_monitor=False)
    )
    assert volume(manifests)["image"]["reference"].endswith("ab" * 32)
    assert "initContainers" not in pod(manifests)
    assert {"PersistentVolumeClaim", "Job"}.isdisjoint(kinds(manifests))
    (mount,) = (one for one in server(manifests)["volumeMounts"] if one["name"] == "weights")
    assert mount["mountPath"] == server(manifests)["args"][0]
    for document in objects(manifests):
        assert problems(document, "1.36") == []
    inside = render(plan(), options=options("oci://models/qwen:v1#models/32b"))
    assert server(inside)["args"][0] == "/weights/models/32b"


def test_a_node_s_directory_is_refused_where_pods_are_restricted() -> None:
    for level in ("restricted", "baseline"):
        with pytest.raises(UsageError, match=level) as refused:
            render(plan(), options=options("hostpath:/data/qwen", pod_security=level))
        assert "oci://" in (refused.value.hint or "")
    manifests = render(plan(), options=options("hostpath:/data/qwen", pod_security="privileged"))
    assert volume(manifests)["hostPath"] == {"path": "/data/qwen", "type": "Directory"}
    readme = next(document.text for document in manifests.documents if document.name == "README.md")
    assert "enforce=privileged" in readme


def test_a_file_server_is_a_volume_of_the_cluster() -> None:
    manifests = render(plan(replicas=2), options=options("nfs://10.0.0.7/export"))
    share, claim = kind(manifests, "PersistentVolume"), kind(manifests, "PersistentVolumeClaim")
    assert share["spec"]["nfs"] == {"server": "10.0.0.7", "path": "/export"}
    assert share["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert share["spec"]["claimRef"] == {"namespace": "llm", "name": claim["metadata"]["name"]}
    assert claim["spec"]["volumeName"] == share["metadata"]["name"]
    assert claim["spec"]["storageClassName"] == ""
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_s3_is_copied_by_a_job_with_keys_from_a_secret() -> None:
    asked = options("s3://models/qwen/32b", s3_secret="s3-keys", s3_endpoint="https://s3.example:9000")
    manifests = render(plan(), options=asked)
    container = job_container(manifests)
    assert [unescaped(word) for word in container["args"][2:]] == [
        "s3://models/qwen/32b", "/weights/qwen3-32b", "/weights/.selfhost/qwen3-32b",
        "--endpoint-url=https://s3.example:9000",
    ]  # fmt: skip
    secret = {item["name"]: item for item in container["env"] if "valueFrom" in item}
    assert set(secret) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert secret["AWS_ACCESS_KEY_ID"]["valueFrom"]["secretKeyRef"]["name"] == "s3-keys"
    assert server(manifests)["args"][0] == "/weights/qwen3-32b"
    policies = [one for one in objects(manifests) if one["kind"] == "NetworkPolicy"]
    assert {port["port"] for one in policies for rule in one["spec"]["egress"] for port in rule["ports"]} == {
        53,
        443,
        9000,
    }
    assert not any(document.name.endswith(".pyz") for document in manifests.documents)


def test_the_copy_writes_its_marker_last(tmp_path: Path) -> None:
    """The script under a shell of today, with an `aws` that fails and one that does not."""
    manifests = render(plan(), options=options("s3://models/qwen"))
    script = unescaped(job_container(manifests)["args"][0])
    marker, tools = tmp_path / ".selfhost" / "x", tmp_path / "bin"
    tools.mkdir()
    for status in (1, 0):
        (tools / "aws").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit {status}\n')
        (tools / "aws").chmod(0o755)
        done = subprocess.run(
            ["/bin/sh", "-c", script, "copy", "s3://a/b", str(tmp_path / "to dir"), str(marker), "--endpoint-url=u"],
            env={"PATH": f"{tools}:/usr/bin:/bin"}, check=False,
        )  # fmt: skip
        assert done.returncode == status
        assert marker.exists() is (status == 0)
    assert (tmp_path / "asked").read_text().split() == [
        "s3", "sync", "--no-progress", "--endpoint-url=u", "s3://a/b", str(tmp_path / "to"), "dir",
    ]  # fmt: skip


def test_replicas_need_a_volume_that_can_be_shared() -> None:
    for uri in (None, "pvc:models", "nfs://h/x", "s3://models/qwen"):
        with pytest.raises(UsageError, match="ReadWriteOnce") as refused:
            render(plan(replicas=2), options=options(uri, access_mode="ReadWriteOnce"))
        assert refused.value.hint
    render(plan(replicas=2), options=options("oci://a/b:1", access_mode="ReadWriteOnce", pod_monitor=False))


def test_options_of_s3_go_with_s3() -> None:
    with pytest.raises(UsageError, match="--s3-secret"):
        options("pvc:a", s3_secret="x")
    with pytest.raises(UsageError, match="password"):
        options("s3://bucket/x", s3_endpoint="https://user:secret@host")


def test_a_model_that_is_no_repository_is_not_on_the_hub() -> None:
    made = plan(model={"id": "/data/tiny", "origin": "directory", "revision": None}, tensor=1)
    with pytest.raises(UsageError, match="not on the Hub"):
        render(made, options=options("hf"))
    moved = render(made, options=options("pvc:models#somewhere/tiny"))
    assert server(moved)["args"][0] == "/weights/somewhere/tiny"


@pytest.mark.parametrize(
    ("weights", "deletes"), [("oci://models/qwen:v1", False), ("pvc:mine", False), (None, True)]
)
def test_only_a_claim_of_its_own_is_told_how_to_be_deleted(weights: str | None, deletes: bool) -> None:
    given = RenderOptions() if weights is None else options(weights)
    readme = next(one.text for one in render(plan(), options=given).documents if one.name == "README.md")
    assert ("delete deployment,job,pvc" in readme) is deletes


def test_a_volume_of_a_file_server_goes_with_its_claim_and_its_files_stay() -> None:
    """A volume whose claim is gone is bound to no other: it has to be made again."""
    documents = render(plan(), options=options("nfs://nas/export")).documents
    readme = next(one.text for one in documents if one.name == "README.md")
    assert "kubectl delete persistentvolume llm-qwen3-32b-weights" in readme
    assert "which go with it" not in readme
