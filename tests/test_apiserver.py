"""A real API server with Pod Security `restricted` takes every rendered object, where one is given.

The definitions of tests/schemas/ are installed first, so that custom resources are judged too, rules in CEL included.
Objects of the matrix that are the same but for their plan are asked about once.

KUBEBUILDER_ASSETS: a folder with etcd, kube-apiserver and kubectl, as controller projects have; a server is started on
loopback. KUBECONFIG: a cluster on which namespaces may be made; everything but the namespace and
definitions it lacks is a dry run.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from selfhost.manifests.zipapp import ARCHIVE_FILE, pull_archive
from tests import crds
from tests.matrix import CASES as MATRIX
from tests.matrix import objects
from tests.podsecurity import pods

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path for path in (GOLDEN / "kubernetes").iterdir() if path.is_dir())
CASES.append(GOLDEN / "monitor" / "restricted")  # the monitor's others need a namespace that is not
ASSETS, CONFIG = os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("KUBECONFIG")
pytestmark = [
    pytest.mark.skipif(
        not ASSETS and not CONFIG, reason="no API server: set KUBEBUILDER_ASSETS or KUBECONFIG"
    ),
    pytest.mark.timeout(300),
]
START_SECONDS = 90
# What a pod names and the server would look for.
ELSEWHERE = {"serviceAccountName", "priorityClassName", "runtimeClassName"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """An API server as kubectl reaches it."""

    command: tuple[str, ...]

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *words], input=stdin, capture_output=True, text=True, check=False, timeout=60
        )

    def objection(self, document: Any, namespace: str) -> str:
        """What the server, or Pod Security's warnings, say against an object; empty when it is taken."""
        text = json.dumps(document | {"metadata": document["metadata"] | {"namespace": namespace}})
        done = self.run("create", "--dry-run=server", "-f", "-", stdin=text)
        taken = done.returncode == 0 and "would violate PodSecurity" not in done.stderr
        return "" if taken else done.stderr or f"kubectl ended with {done.returncode}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def start(folder: Path, assets: Path, processes: list[subprocess.Popen[bytes]]) -> Cluster:
    """etcd and kube-apiserver on loopback, with one token that may do everything."""
    store, peer, port = free_port(), free_port(), free_port()
    key, tokens = folder / "sa.key", folder / "tokens.csv"
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is needed to make the server's signing key")
    subprocess.run([openssl, "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    token = uuid4().hex
    tokens.write_text(f"{token},admin,1,system:masters\n", encoding="utf-8")
    urls, peers = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{peer}"
    commands = (
        (
            str(assets / "etcd"), f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={urls}",
            f"--advertise-client-urls={urls}", f"--listen-peer-urls={peers}", "--unsafe-no-fsync",
        ),
        (
            str(assets / "kube-apiserver"), f"--etcd-servers={urls}", f"--cert-dir={folder / 'certs'}",
            f"--secure-port={port}", "--bind-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://localhost", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
            # so that Pod Security is what refuses a privileged pod, and the server needs no route out
            "--allow-privileged", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
        ),
    )  # fmt: skip
    for number, command in enumerate(commands):
        with (folder / f"{number}.log").open("wb") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder))
    kubectl = assets / "kubectl"
    program = str(kubectl) if kubectl.exists() else (shutil.which("kubectl") or "kubectl")
    server = f"--server=https://127.0.0.1:{port}"
    nothing_else = ("--kubeconfig=/dev/null", f"--cache-dir={folder / 'cache'}")  # of whoever runs the tests
    cluster = Cluster(
        command=(program, server, f"--token={token}", "--insecure-skip-tls-verify", *nothing_else)
    )
    deadline = time.monotonic() + START_SECONDS
    while cluster.run("get", "--raw", "/readyz").returncode != 0:
        log_text = (folder / "1.log").read_text(encoding="utf-8", errors="replace")
        assert processes[-1].poll() is None, log_text[-3000:]
        assert time.monotonic() < deadline, log_text[-3000:]
        time.sleep(0.5)
    return cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        if ASSETS:
            yield start(tmp_path_factory.mktemp("server"), Path(ASSETS).absolute(), processes)
        else:
            kubectl = shutil.which("kubectl")
            if kubectl is None:
                pytest.skip("kubectl is not installed")
            yield Cluster(command=(kubectl,))
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def defined(cluster: Cluster) -> None:
    """Every definition of tests/schemas/ is served; a cluster's own is left as it is."""
    names = []
    for definition in crds.definitions():
        name = definition["metadata"]["name"]
        made = cluster.run("create", "-f", "-", stdin=json.dumps(definition))
        assert made.returncode == 0 or "AlreadyExists" in made.stderr, made.stderr
        names.append(f"crd/{name}")
    ready = cluster.run("wait", "--for=condition=Established", "--timeout=50s", *names)
    assert ready.returncode == 0, ready.stderr


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that admits restricted pods only."""
    name = f"selfhost-test-{uuid4().hex[:8]}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    made = cluster.run("create", "-f", "-", stdin=json.dumps(document))
    assert made.returncode == 0, made.stderr
    try:
        yield name
    finally:
        cluster.run("delete", "namespace", name, "--wait=false")


def documents(case: Path) -> list[Any]:
    return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(case.glob("[0-9]*.yaml"))]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
@pytest.mark.usefixtures("defined")
def test_every_object_is_taken(case: Path, cluster: Cluster, namespace: str) -> None:
    for document in documents(case):
        assert cluster.objection(document, namespace) == ""


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_their_pods_are_admitted(case: Path, cluster: Cluster, namespace: str) -> None:
    """Pod Security judges pods when they are made, not the Deployments and Jobs that make them."""
    for document in documents(case):
        if document["kind"] in ("Deployment", "Job", "DaemonSet"):
            template = document["spec"]["template"]
            spec = {key: value for key, value in template["spec"].items() if key != "serviceAccountName"}
            metadata = template["metadata"] | {"name": "pod"}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            assert cluster.objection(pod, namespace) == ""


def release(cluster: Cluster) -> int:
    """Minor number of the server's release."""
    version = json.loads(cluster.run("version", "-o", "json").stdout)["serverVersion"]
    return int(version["minor"].rstrip("+"))


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("defined")
def test_the_matrix_is_taken(cluster: Cluster, namespace: str) -> None:
    """Every object of every case for this release, and the pods of those that are restricted."""
    seen: set[str] = set()
    objections = {}
    here = release(cluster)
    for name, case in MATRIX.items():
        if int(case.since.removeprefix("1.")) > here:
            continue
        for document in objects(name):
            metadata = {key: value for key, value in document["metadata"].items() if key != "annotations"}
            bare = document | {"metadata": metadata}
            asked = [bare] if document["kind"] != "PersistentVolume" else []
            if not case.unrestricted:
                asked += [
                    {
                        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"},
                        "spec": {key: value for key, value in pod.items() if key not in ELSEWHERE},
                    }
                    for pod in pods(document)
                    if all("image" in container for container in pod["containers"])
                ]  # fmt: skip
            elif any(pods(document)):
                continue  # its pods are not for this namespace, which warns of the objects that make them
            for one in asked:
                text = json.dumps(one, sort_keys=True)
                if text not in seen:
                    seen.add(text)
                    objection = cluster.objection(one, namespace)
                    if objection:
                        objections[f"{name}: {one['kind']}"] = objection
    assert objections == {}


def test_the_archive_is_taken_with_its_copy_in_an_annotation(cluster: Cluster, namespace: str) -> None:
    """The ConfigMap as `kubectl apply` sends it."""
    config: dict[str, Any] = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "archive", "namespace": namespace},
        "binaryData": {ARCHIVE_FILE: base64.b64encode(pull_archive()).decode()},
    }  # fmt: skip
    copy = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(config)}
    config["metadata"]["annotations"] = copy
    assert cluster.objection(config, namespace) == ""


def test_the_server_does_refuse_a_privileged_pod(cluster: Cluster, namespace: str) -> None:
    container = {"name": "x", "image": "x", "securityContext": {"privileged": True}}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": {"containers": [container]},
    }  # fmt: skip
    assert "violates PodSecurity" in cluster.objection(pod, namespace)
