"""A whole control plane for tests: API server, scheduler and controller manager on loopback, or KUBECONFIG's cluster.

KUBEBUILDER_ASSETS: a folder with etcd, kube-apiserver, kube-scheduler, kube-controller-manager and kubectl. Nodes are
not among them: tests.simulator brings those. Users are told apart by their tokens, and may do what their roles permit.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests import crds
from tests.apiservers import ASSETS, CONFIG, START_SECONDS, Level, free_port
from tests.simulator.client import Client, RefusalError

Object = dict[str, Any]
PROGRAMS = ("etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager", "kubectl")
WHOLE = bool(ASSETS) and all((Path(ASSETS or "") / name).exists() for name in PROGRAMS)
NEEDED = pytest.mark.skipif(
    not WHOLE and not CONFIG,
    reason="no cluster: set KUBEBUILDER_ASSETS (with kube-scheduler and kube-controller-manager too) or KUBECONFIG",
)
LARGE_DEFINITION = 100_000  # characters
USERS = 12  # whose tokens the server knows from its start


@dataclass(kw_only=True)
class ControlPlane:
    """A cluster without nodes of its own, or KUBECONFIG's.

    Args:
        address: of its API server.
        token: of an administrator.
        config: a kubeconfig of that administrator.
        kubectl: the program.
        folder: for files.
        own: whether it is the tests' own: it can be restarted, and its kubelets are reached on loopback.
        commands: name -> command of each process.
        processes: those that run.
    """

    address: str
    token: str
    config: Path
    kubectl: str
    folder: Path
    own: bool
    commands: dict[str, tuple[str, ...]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client = Client(self.address, self.token)
        self._users = itertools.count()

    def run(
        self, *words: str, stdin: str = "", config: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """kubectl."""
        command = [
            self.kubectl,
            f"--kubeconfig={config or self.config}",
            f"--cache-dir={self.folder / 'cache'}",
        ]
        return subprocess.run(
            [*command, *words], input=stdin, capture_output=True, text=True, check=False, timeout=120
        )

    def namespace(self, level: Level = "restricted", *, name: str = "") -> str:
        """A new namespace of a level of Pod Security."""
        name = name or f"selfhost-test-{uuid4().hex[:8]}"
        labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.client.ask("POST", "/api/v1/namespaces", document)
        return name

    def define(self, *names: str) -> None:
        """Serve definitions of tests/schemas/; a cluster's own are left as they are.

        Args:
            names: which; all but the largest, which take the server seconds each, where none is named.
        """
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        found = [
            one
            for one in crds.definitions()
            if (one["metadata"]["name"] in names if names else len(json.dumps(one)) < LARGE_DEFINITION)
        ]
        assert len(found) >= len(names), f"tests/schemas has not all of {names}"
        for definition in found:
            self.client.try_ask("POST", path, definition)
        deadline = time.monotonic() + START_SECONDS
        for definition in found:
            while not _served(self.client, definition):
                assert time.monotonic() < deadline, f"{definition['metadata']['name']} is not served"
                time.sleep(0.2)

    def empty(self, namespace: str) -> None:
        """Delete what runs in a namespace, and wait for its pods: the nodes that they are on must still be there."""
        for root, plural in (
            ("/apis/apps/v1", "deployments"),
            ("/apis/apps/v1", "statefulsets"),
            ("/apis/batch/v1", "jobs"),
            ("/api/v1", "pods"),
        ):
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
            self.client.ask("DELETE", f"{root}/namespaces/{namespace}/{plural}", options)
        deadline = time.monotonic() + START_SECONDS
        while left := self.client.ask("GET", f"/api/v1/namespaces/{namespace}/pods").get("items"):
            assert time.monotonic() < deadline, f"pods stay: {[one['metadata']['name'] for one in left]}"
            time.sleep(0.1)

    def remove(self, namespace: str) -> None:
        """Delete a namespace with all that is in it, and wait for that."""
        self.empty(namespace)
        self.client.try_ask("DELETE", f"/api/v1/namespaces/{namespace}")
        deadline = time.monotonic() + START_SECONDS
        while self.client.try_ask("GET", f"/api/v1/namespaces/{namespace}") is not None:
            assert time.monotonic() < deadline, f"namespace {namespace} stays"
            time.sleep(0.2)

    def objects(self, *, events: bool = False) -> set[tuple[str, str, str, str]]:
        """Every object of the cluster that can be listed: (apiVersion, kind, namespace, name).

        Args:
            events: with Events and Leases, which come and go by themselves.
        """
        found: set[tuple[str, str, str, str]] = set()
        for version, resource in self._resources():
            if not events and resource["name"] in ("events", "leases", "componentstatuses"):
                continue
            root = f"/apis/{version}" if "/" in version else f"/api/{version}"
            try:
                listed = self.client.ask("GET", f"{root}/{resource['name']}")
            except RefusalError:
                continue
            for item in listed.get("items") or ():
                metadata = item["metadata"]
                found.add((version, resource["kind"], metadata.get("namespace", ""), metadata["name"]))
        return found

    def _resources(self) -> Iterator[tuple[str, Object]]:
        groups = self.client.ask("GET", "/apis")["groups"]
        versions = ["v1", *(one["preferredVersion"]["groupVersion"] for one in groups)]
        for version in versions:
            root = f"/apis/{version}" if "/" in version else f"/api/{version}"
            for resource in self.client.ask("GET", root).get("resources") or ():
                if "list" in resource["verbs"] and "/" not in resource["name"]:
                    yield version, resource

    def user(
        self, namespace: str, rules: Sequence[Mapping[str, Any]], cluster_rules: Sequence[Any] = ()
    ) -> Path:
        """A new user: its kubeconfig.

        Args:
            namespace: where its rules hold.
            rules: of a Role.
            cluster_rules: of a ClusterRole, everywhere.
        """
        name = f"user-{next(self._users)}"
        assert not self.own or name in self.tokens, "more users than the server knows tokens of"
        subject: Object = {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        if not self.own:
            name = f"selfhost-test-{uuid4().hex[:8]}"
            subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
            self._make("/api/v1", namespace, "serviceaccounts", "v1", "ServiceAccount", {}, name)
        rbac, group = "/apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
        version = f"{group}/v1"
        for scope, found, kind in ((namespace, rules, "Role"), ("", cluster_rules, "ClusterRole")):
            if found:
                unique = f"{name}-{uuid4().hex[:6]}"
                self._make(rbac, scope, f"{kind.lower()}s", version, kind, {"rules": list(found)}, unique)
                binding = {
                    "roleRef": {"apiGroup": group, "kind": kind, "name": unique},
                    "subjects": [subject],
                }
                self._make(rbac, scope, f"{kind.lower()}bindings", version, f"{kind}Binding", binding, unique)
        token = self.tokens[name] if self.own else self._service_token(namespace, name)
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(kubeconfig(self.address, token)), encoding="utf-8")
        return path

    def _make(
        self, root: str, namespace: str, plural: str, version: str, kind: str, body: Object, name: str
    ) -> None:
        place = f"/namespaces/{namespace}/{plural}" if namespace else f"/{plural}"
        document = {"apiVersion": version, "kind": kind, "metadata": {"name": name}} | body
        self.client.ask("POST", f"{root}{place}", document)

    def _service_token(self, namespace: str, name: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        document = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return str(self.client.ask("POST", path, document)["status"]["token"])

    def stop_server(self) -> None:
        """The API server ends, as in an upgrade of the control plane."""
        assert self.own
        process = self.processes.pop("kube-apiserver")
        process.kill()  # a polite end waits a minute for watches
        process.wait(timeout=60)

    def start_server(self) -> None:
        """It is there again, on the same port, with the same store."""
        self._begin("kube-apiserver")
        self._until_ready()

    def restart_server(self, *, away_seconds: float = 0.0) -> None:
        """Stop it and start it."""
        self.stop_server()
        time.sleep(away_seconds)
        self.start_server()

    def _begin(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.commands[name], stdout=log, stderr=subprocess.STDOUT, cwd=self.folder
            )

    def _until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        server, log = self.processes["kube-apiserver"], self.folder / "kube-apiserver.log"
        while True:
            try:
                connection = self.client.connection()
                connection.timeout = 5
                connection.request("GET", "/readyz", headers=self.client.headers)
                ready = connection.getresponse().status == 200
                connection.close()
            except OSError:
                ready = False
            if ready:
                return
            text = log.read_text(encoding="utf-8", errors="replace")
            assert server.poll() is None, text[-3000:]
            assert time.monotonic() < deadline, text[-3000:]
            time.sleep(0.1)

    def close(self) -> None:
        """End what was started."""
        self.client.close()
        for process in reversed(list(self.processes.values())):
            process.kill()  # nothing of it is kept
        for process in self.processes.values():
            process.wait(timeout=30)


def kubeconfig(address: str, token: str) -> Object:
    """One context, `it`."""
    cluster: Object = {"server": address}
    if address.startswith("https"):
        cluster["insecure-skip-tls-verify"] = True
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }  # fmt: skip


def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """A cluster with the definitions of tests/schemas/, until the generator is closed."""
    plane = _own(folder, Path(ASSETS or "").absolute()) if WHOLE else _given(folder)
    try:
        plane.define()
        yield plane
    finally:
        plane.close()


def _given(folder: Path) -> ControlPlane:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    port, config = free_port(), Path(CONFIG or "")
    # Whatever credentials the kubeconfig has: the proxy shows them, and those who ask it need none.
    proxy = (kubectl, f"--kubeconfig={config}", "proxy", f"--port={port}")
    plane = ControlPlane(
        address=f"http://127.0.0.1:{port}", token="", config=config, kubectl=kubectl, folder=folder, own=False,
        commands={"proxy": proxy},
    )  # fmt: skip
    plane._begin("proxy")
    plane.client.ask("GET", "/version")
    return plane


def _own(folder: Path, assets: Path) -> ControlPlane:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is needed to make the server's signing key")
    store, peer, port = free_port(), free_port(), free_port()
    key, tokens, config = folder / "sa.key", folder / "tokens.csv", folder / "kubeconfig.json"
    subprocess.run([openssl, "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    users = {f"user-{index}": uuid4().hex for index in range(USERS)}
    inner = {"system:kube-scheduler": uuid4().hex, "system:kube-controller-manager": uuid4().hex}
    admin, address = uuid4().hex, f"https://127.0.0.1:{port}"
    rows = [f"{admin},admin,1,system:masters"]
    rows += [f"{token},{name},{name}" for name, token in users.items()]
    rows += [f"{token},{name},{name},system:masters" for name, token in inner.items()]
    tokens.write_text("\n".join(rows) + "\n", encoding="utf-8")
    config.write_text(json.dumps(kubeconfig(address, admin)), encoding="utf-8")
    for name, token in inner.items():
        path = folder / f"{name.removeprefix('system:')}.json"
        path.write_text(json.dumps(kubeconfig(address, token)), encoding="utf-8")
    urls, peers = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{peer}"
    fast = ("--kube-api-qps=500", "--kube-api-burst=1000", "--leader-elect=false", "--secure-port=0")
    commands = {
        "etcd": (
            str(assets / "etcd"), f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={urls}",
            f"--advertise-client-urls={urls}", f"--listen-peer-urls={peers}", "--unsafe-no-fsync",
        ),
        "kube-apiserver": (
            str(assets / "kube-apiserver"), f"--etcd-servers={urls}", f"--cert-dir={folder / 'certs'}",
            f"--secure-port={port}", "--bind-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/16",
            "--service-account-issuer=https://localhost", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC", "--allow-privileged", "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none", "--kubelet-preferred-address-types=InternalIP",
            "--shutdown-delay-duration=0s", "--shutdown-watch-termination-grace-period=0s",
        ),
        "kube-scheduler": (
            str(assets / "kube-scheduler"), f"--kubeconfig={folder / 'kube-scheduler.json'}", *fast,
        ),
        "kube-controller-manager": (
            str(assets / "kube-controller-manager"),
            f"--kubeconfig={folder / 'kube-controller-manager.json'}", *fast,
            f"--service-account-private-key-file={key}", "--use-service-account-credentials=false",
            "--pvclaimbinder-sync-period=1s", "--namespace-sync-period=2s",
            # A machine that is busy with tests renews leases late; tests that want a dead node say so.
            "--node-monitor-grace-period=10m", "--concurrent-deployment-syncs=10",
            "--controllers=*,-node-ipam-controller,-node-route-controller,-service-lb-controller",
        ),
    }  # fmt: skip
    plane = ControlPlane(
        address=address, token=admin, config=config, kubectl=str(assets / "kubectl"), folder=folder, own=True,
        commands=commands, tokens=users,
    )  # fmt: skip
    try:
        for name in commands:
            plane._begin(name)
            if name == "kube-apiserver":
                plane._until_ready()
    except BaseException:
        plane.close()
        raise
    return plane


def _served(client: Client, definition: Object) -> bool:
    spec = definition["spec"]
    (version, *_) = (one["name"] for one in spec["versions"] if one["served"])
    try:
        listed = client.ask("GET", f"/apis/{spec['group']}/{version}").get("resources") or ()
    except RefusalError:
        return False
    return any(one["name"] == spec["names"]["plural"] for one in listed)
