"""A real API server for tests: etcd and kube-apiserver on loopback, or the cluster that KUBECONFIG names.

KUBEBUILDER_ASSETS: a folder with etcd, kube-apiserver and kubectl, as controller projects have. KUBECONFIG: a cluster
on which namespaces may be made; everything but those and the definitions it lacks is a dry run there. Objects travel
through `kubectl proxy` over one connection, a few milliseconds each.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest

from tests import crds

ASSETS, CONFIG = os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("KUBECONFIG")
NEEDED = pytest.mark.skipif(
    not ASSETS and not CONFIG, reason="no API server: set KUBEBUILDER_ASSETS or KUBECONFIG"
)
START_SECONDS = 90
MANAGER = "tests"
Level = Literal["restricted", "baseline", "privileged"]
_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')  # RFC 7234, 5.5: code, agent, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said: an object, or why there is none; and its warnings."""

    status: int
    body: Mapping[str, Any]
    warnings: tuple[str, ...]

    @property
    def objection(self) -> str:
        """Why the object was refused, or what it was warned of; empty when it was taken as it is."""
        if self.status >= 300:
            return str(self.body.get("message") or self.status)
        return "; ".join(self.warnings)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """An API server as kubectl reaches it.

    Args:
        command: kubectl and what it takes to reach the server.
        port: of `kubectl proxy` on loopback.
        own: whether the server is the tests' own, where anything may be left behind.
        config: a file that Helm reaches it with.
        connections: what is open to the proxy, one at most.
    """

    command: tuple[str, ...]
    port: int
    own: bool
    config: Path
    connections: list[http.client.HTTPConnection] = field(default_factory=list, init=False)
    _kinds: dict[str, dict[str, tuple[str, bool]]] = field(default_factory=dict, init=False)

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """kubectl."""
        return subprocess.run(
            [*self.command, *words], input=stdin, capture_output=True, text=True, check=False, timeout=120
        )

    def ask(self, method: str, path: str, document: Any = None, kind: str = "application/json") -> Answer:
        """One request."""
        if not self.connections:
            self.connections.append(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60))
        (connection,) = self.connections
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body=body, headers={"Content-Type": kind})
        reply = connection.getresponse()
        text = reply.read().decode()
        json_said = "json" in (reply.headers.get("Content-Type") or "")
        said = json.loads(text) if json_said else {"message": text.strip()}
        found = [text for line in reply.headers.get_all("Warning", ()) for text in _WARNING.findall(line)]
        return Answer(status=reply.status, body=said, warnings=tuple(found))

    def path(self, document: dict[str, Any], namespace: str, *, named: bool) -> str:
        """Where an object is, or the collection it is made in."""
        version, kind = document["apiVersion"], document["kind"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if kind not in self._kinds.get(version, {}):
            listed = self.ask("GET", root)
            assert listed.status == 200, f"{version} is not served: {listed.objection}"
            self._kinds[version] = {
                one["kind"]: (one["name"], one["namespaced"])
                for one in listed.body["resources"]
                if "/" not in one["name"]
            }
        plural, namespaced = self._kinds[version][kind]
        place = f"/namespaces/{namespace}/{plural}" if namespaced else f"/{plural}"
        return f"{root}{place}" + (f"/{document['metadata']['name']}" if named else "")

    def create(self, document: dict[str, Any], namespace: str, unknown: str = "Strict") -> Answer:
        """What the server says to making an object, without making it.

        Args:
            document: the object.
            namespace: where it is asked for, whatever itself says.
            unknown: what becomes of fields that its kind has not: `Strict` or `Ignore`.
        """
        text = document | {"metadata": document["metadata"] | {"namespace": namespace}}
        path = self.path(document, namespace, named=False)
        return self.ask("POST", f"{path}?dryRun=All&fieldValidation={unknown}", text)

    def apply(self, document: dict[str, Any], namespace: str) -> Answer:
        """As `kubectl apply --server-side`, always with one field manager."""
        text = document | {"metadata": document["metadata"] | {"namespace": namespace}}
        path = self.path(document, namespace, named=True)
        query = f"fieldManager={MANAGER}&fieldValidation=Strict"
        return self.ask("PATCH", f"{path}?{query}", text, "application/apply-patch+yaml")

    def namespace(self, level: Level) -> str:
        """A new namespace of a level of Pod Security."""
        name = f"selfhost-test-{uuid4().hex[:8]}"
        labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        made = self.ask("POST", "/api/v1/namespaces", document)
        assert made.status == 201, made.objection
        return name

    def release(self) -> int:
        """Minor number of the server's release."""
        return int(str(self.ask("GET", "/version").body["minor"]).rstrip("+"))


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def serve(folder: Path) -> Iterator[Cluster]:
    """A cluster with the definitions of tests/schemas/, until the generator is closed."""
    processes: list[subprocess.Popen[bytes]] = []
    opened: list[http.client.HTTPConnection] = []
    try:
        if ASSETS:
            command, config = _start(folder, Path(ASSETS).absolute(), processes)
        else:
            kubectl = shutil.which("kubectl")
            if kubectl is None:
                pytest.skip("kubectl is not installed")
            command, config = (kubectl,), Path(CONFIG or "")
        port = _proxy(folder, command, processes)
        cluster = Cluster(command=command, port=port, own=bool(ASSETS), config=config)
        opened = cluster.connections
        _define(cluster)
        yield cluster
    finally:
        for connection in opened:
            connection.close()
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


def _begin(folder: Path, name: str, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)


def _start(
    folder: Path, assets: Path, processes: list[subprocess.Popen[bytes]]
) -> tuple[tuple[str, ...], Path]:
    """etcd and kube-apiserver on loopback, with one token that may do everything: kubectl's command, and its file."""
    store, peer, port = free_port(), free_port(), free_port()
    key, tokens = folder / "sa.key", folder / "tokens.csv"
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is needed to make the server's signing key")
    subprocess.run([openssl, "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    token = uuid4().hex
    tokens.write_text(f"{token},admin,1,system:masters\n", encoding="utf-8")
    urls, peers = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{peer}"
    commands = {
        "etcd": (
            str(assets / "etcd"), f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={urls}",
            f"--advertise-client-urls={urls}", f"--listen-peer-urls={peers}", "--unsafe-no-fsync",
        ),
        "server": (
            str(assets / "kube-apiserver"), f"--etcd-servers={urls}", f"--cert-dir={folder / 'certs'}",
            f"--secure-port={port}", "--bind-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/16",
            "--service-account-issuer=https://localhost", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
            # so that Pod Security is what refuses a privileged pod, and the server needs no route out
            "--allow-privileged", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
        ),
    }  # fmt: skip
    for name, command in commands.items():
        processes.append(_begin(folder, name, command))
    kubectl = assets / "kubectl"
    program = str(kubectl) if kubectl.exists() else (shutil.which("kubectl") or "kubectl")
    config = folder / "kubeconfig.json"  # nothing of whoever runs the tests
    address = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    config.write_text(
        json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": address}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }),
        encoding="utf-8",
    )  # fmt: skip
    reach = (program, f"--kubeconfig={config}", f"--cache-dir={folder / 'cache'}")
    _until_ready([*reach, "get", "--raw", "/readyz"], processes[-1], folder / "server.log")
    return reach, config


def _until_ready(question: list[str], server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while subprocess.run(question, capture_output=True, check=False, timeout=60).returncode != 0:
        text = log.read_text(encoding="utf-8", errors="replace")
        assert server.poll() is None, text[-3000:]
        assert time.monotonic() < deadline, text[-3000:]
        time.sleep(0.5)


def _proxy(folder: Path, command: tuple[str, ...], processes: list[subprocess.Popen[bytes]]) -> int:
    port = free_port()
    processes.append(_begin(folder, "proxy", (*command, "proxy", f"--port={port}")))
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return port
        except OSError:
            text = (folder / "proxy.log").read_text(encoding="utf-8", errors="replace")
            assert time.monotonic() < deadline, text
            assert processes[-1].poll() is None, text
            time.sleep(0.1)


def _define(cluster: Cluster) -> None:
    """Every definition of tests/schemas/ is served; a cluster's own is left as it is."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for definition in crds.definitions():
        made = cluster.ask("POST", path, definition)
        assert made.status in (201, 409), made.objection
    deadline = time.monotonic() + START_SECONDS
    for definition in crds.definitions():
        spec = definition["spec"]
        (version, *_) = (one["name"] for one in spec["versions"] if one["served"])
        while not _served(cluster, f"/apis/{spec['group']}/{version}", spec["names"]["plural"]):
            assert time.monotonic() < deadline, f"{definition['metadata']['name']} is not served"
            time.sleep(0.5)


def _served(cluster: Cluster, path: str, plural: str) -> bool:
    """Whether objects of a kind can be made: it is listed once its definition is established."""
    listed = cluster.ask("GET", path).body.get("resources", ())
    return any(one["name"] == plural for one in listed)
