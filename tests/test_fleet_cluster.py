"""A cluster's exporters through the Kubernetes API, by the official client over the wire."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from selfhost.errors import ClusterError
from selfhost.fleet import NodeAddress, nodes_of_cluster, poll, render
from tests.fakes.exporters import summary
from tests.fakes.kubernetes_api import TOKEN, Cluster, api_server, node, pod, status


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with api_server(Cluster()) as served:
        yield served


def find(
    cluster: Cluster, tmp_path: Path, namespace: str | None = None, *, direct: bool = False
) -> tuple[NodeAddress, ...]:
    return nodes_of_cluster(
        namespace=namespace, kubeconfig=cluster.kubeconfig(tmp_path / "config"), direct=direct
    )


def test_every_node_is_read_through_the_api_server(cluster: Cluster, tmp_path: Path) -> None:
    for number in range(12):
        cluster.nodes.append(node(f"n{number}"))
        cluster.pods.append(pod(f"monitor-{number}", f"n{number}"))
        cluster.answers[f"monitor-{number}"] = summary(f"10.0.0.{number}", host=f"n{number}")
    cluster.page = 5
    results = poll(find(cluster, tmp_path, "gpu"))
    assert [result.level for result in results] == ["ok"] * 12
    assert [result.name for result in results] == [f"n{number}" for number in range(12)]
    assert sum(path.startswith("/api/v1/namespaces/gpu/pods?") for path in cluster.requests) == 3
    assert "/api/v1/namespaces/gpu/pods/monitor-3:9835/proxy/api/v1/summary" in cluster.requests


def test_the_roles_of_the_docs_are_what_is_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "monitoring-in-kubernetes.md").read_text(encoding="utf-8")
    found = re.findall(r"```yaml\n(.+?)\n```", page, re.DOTALL)
    roles = [role for text in found for role in yaml.safe_load_all(text) if role["kind"].endswith("Role")]
    granted = {
        (role["metadata"].get("namespace"), verb, resource)
        for role in roles
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }
    cluster.nodes.append(node("n0"))
    cluster.pods.append(pod("monitor-0", "n0", namespace="monitoring"))
    cluster.answers["monitor-0"] = summary("10.0.0.1", host="n0")
    poll(find(cluster, tmp_path, "monitoring"))
    asked = set()
    for path in cluster.requests:
        words = urlsplit(path).path.removeprefix("/api/v1/").split("/")
        namespace = words[1] if words[0] == "namespaces" else None
        kind = "pods/proxy" if "proxy" in words else words[-1]
        asked.add((namespace, "get" if kind == "pods/proxy" else "list", kind))
    assert granted == asked


def test_trouble_that_the_api_server_knows_of(cluster: Cluster, tmp_path: Path) -> None:
    cluster.nodes = [
        node("dead", ready="Unknown"),
        node("bare"),
        node("mig", gpus=2, resource="nvidia.com/mig-1g.10gb"),
        node("labelled", gpus=0, **{"nvidia.com/gpu.present": "true"}),
        node("cpu-only", gpus=0),
        node("starting"),
        node("fine"),
        {"metadata": {"name": "odd"}, "status": {"capacity": {"nvidia.com/gpu": "1"}}},
    ]
    cluster.pods = [
        pod("m-dead", "dead"),
        pod("m-starting", "starting", phase="Pending"),
        pod("m-fine", "fine"),
        pod("m-old", "bare", deletionTimestamp="2026-11-21T00:00:00Z"),
        pod("m-unscheduled", ""),
    ]
    cluster.answers["m-fine"] = summary("10.0.0.1", host="fine")
    results = {result.name: result for result in poll(find(cluster, tmp_path))}
    codes = {name: [check.code for check in result.findings] for name, result in results.items()}
    assert codes == {
        "dead": ["node-not-ready", "node-unreachable"],
        "bare": ["node-no-exporter"],
        "mig": ["node-no-exporter"],
        "labelled": ["node-no-exporter"],
        "starting": ["node-no-exporter"],
        "odd": ["node-not-ready", "node-no-exporter"],
        "fine": [],
    }
    assert results["dead"].level == "critical"
    assert "kubelet stopped posting" in results["dead"].findings[0].message
    assert "connection refused" in results["dead"].findings[1].message
    assert "gpu/m-starting is pending" in results["starting"].findings[0].message
    assert next(iter(render(tuple(results.values())))).startswith("7 nodes:")


def test_exporters_that_are_slow_old_or_lie(cluster: Cluster, tmp_path: Path) -> None:
    names = ("slow", "drip", "old", "lie", "gone", "busy", "large")
    cluster.nodes = [node(name) for name in names]
    cluster.pods = [pod(name, name) for name in names]
    cluster.answers = {
        "slow": 5.0,
        "drip": b"x" * 2000,
        "old": (404, "404 page not found"),
        "lie": (200, "<html>"),
        "gone": (404, status(404, 'pods "gone" not found')),
        "busy": (500, "oops"),
        "large": (200, "x" * (2 << 20)),
    }
    started = time.monotonic()
    results = poll(find(cluster, tmp_path), deadline_seconds=0.5)
    assert time.monotonic() - started < 5
    assert {result.name: result.findings[0].code for result in results} == {
        "slow": "node-slow",
        "drip": "node-slow",
        "old": "node-other",
        "lie": "node-lying",
        "gone": "node-unreachable",
        "busy": "node-other",
        "large": "node-lying",
    }


def test_pods_are_read_at_their_own_addresses(cluster: Cluster, tmp_path: Path) -> None:
    cluster.nodes = [node("a"), node("b"), node("c")]
    cluster.pods = [pod("a", "a", ip="127.0.0.9"), pod("b", "b", ip="fd00::9"), pod("c", "c", ip="")]
    found = find(cluster, tmp_path, direct=True)
    assert [one.url for one in found] == ["http://127.0.0.9:9835", "http://[fd00::9]:9835", ""]
    assert [check.code for check in found[2].findings] == ["node-no-exporter"]
    assert not any("proxy" in path for path in cluster.requests)


@pytest.mark.parametrize(
    ("resource", "namespace", "words"),
    [
        ("pods", "gpu", "list on pods in the namespace gpu"),
        ("pods", None, "list on pods in the whole cluster"),
        ("nodes", "gpu", "list on nodes in the whole cluster"),
    ],
)
def test_a_permission_that_is_missing_is_named(
    cluster: Cluster, tmp_path: Path, resource: str, namespace: str | None, words: str
) -> None:
    cluster.forbidden = frozenset((resource,))
    with pytest.raises(ClusterError, match=f"No permission to list {resource}") as caught:
        find(cluster, tmp_path, namespace)
    assert words in str(caught.value.hint)
    assert 'User "jane"' in caught.value.message


def test_a_proxy_that_may_not_be_used_is_one_error(cluster: Cluster, tmp_path: Path) -> None:
    cluster.nodes = [node("a"), node("b")]
    cluster.pods = [pod("a", "a"), pod("b", "b")]
    cluster.forbidden = frozenset(("proxy",))
    with pytest.raises(ClusterError, match="None of 2 exporters") as caught:
        poll(find(cluster, tmp_path))
    assert "get on pods/proxy" in str(caught.value.hint)
    assert "in the namespace gpu" in caught.value.message


def test_credentials_that_are_not_accepted(cluster: Cluster, tmp_path: Path) -> None:
    config = cluster.kubeconfig(tmp_path / "config", token="old-token")
    with pytest.raises(ClusterError, match="does not accept the credentials") as caught:
        nodes_of_cluster("test", kubeconfig=config)
    assert "old-token" not in f"{caught.value.message} {caught.value.hint}"


def test_a_program_that_gives_no_credentials_is_one_error(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = Path(cluster.kubeconfig(tmp_path / "config"))
    data = yaml.safe_load(config.read_text(encoding="utf-8"))
    version = "client.authentication.k8s.io/v1"
    data["users"][0]["user"] = {
        "exec": {"apiVersion": version, "command": "false", "interactiveMode": "Never"}
    }
    config.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(ClusterError, match="credentials of the current context cannot be had: exec"):
        nodes_of_cluster(kubeconfig=str(config))
    assert capfd.readouterr().err == ""


def test_an_api_server_that_drips_is_not_waited_for(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfhost.fleet.kube._LIST_SECONDS", 0.5)
    cluster.dripping = True
    began = time.monotonic()
    with pytest.raises(ClusterError, match="did not list pods"):
        find(cluster, tmp_path)
    assert time.monotonic() - began < 5


def test_contexts_and_kubeconfigs_that_are_not_there(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster.kubeconfig(tmp_path / "config")
    with pytest.raises(ClusterError, match="has no context other") as caught:
        nodes_of_cluster("other", kubeconfig=config)
    assert "It has test" in str(caught.value.hint)
    with pytest.raises(ClusterError, match="no kubeconfig that can be used"):
        nodes_of_cluster(kubeconfig=str(tmp_path / "none"))
    (tmp_path / "broken").write_text("a: [", encoding="utf-8")
    with pytest.raises(ClusterError, match="kubeconfig"):
        nodes_of_cluster(kubeconfig=str(tmp_path / "broken"))
    (tmp_path / "text").write_text("just text", encoding="utf-8")
    with pytest.raises(ClusterError, match="kubeconfig"):
        nodes_of_cluster(kubeconfig=str(tmp_path / "text"))


def test_neither_kubeconfig_nor_a_pods_account(tmp_path: Path) -> None:
    code = (
        "from selfhost.fleet import nodes_of_cluster\n"
        "try: nodes_of_cluster()\nexcept Exception as e: print(type(e).__name__, e.message, e.hint)"
    )
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin", "KUBECONFIG": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.startswith("ClusterError There is no kubeconfig")
    assert "KUBECONFIG" in done.stdout


def test_an_api_server_that_is_not_there_or_is_none(cluster: Cluster, tmp_path: Path) -> None:
    dead = cluster.kubeconfig(tmp_path / "dead", server="http://127.0.0.1:9")
    with pytest.raises(ClusterError, match="cannot be reached"):
        nodes_of_cluster(kubeconfig=dead)
    with pytest.raises(ClusterError, match="answered 404"):
        nodes_of_cluster(
            kubeconfig=cluster.kubeconfig(tmp_path / "c", server=f"http://127.0.0.1:{cluster.port}/x")
        )


def test_without_the_client_the_error_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['kubernetes'] = None\nfrom selfhost.fleet import nodes_of_cluster\n"
        "try: nodes_of_cluster()\nexcept Exception as e: print(type(e).__name__, e.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ClusterError pip install 'selfhost[cluster]'")


def test_the_token_is_nowhere_to_be_seen(cluster: Cluster, tmp_path: Path) -> None:
    cluster.nodes, cluster.pods = [node("a")], [pod("a", "a")]
    found = find(cluster, tmp_path)
    assert TOKEN not in repr(found) + repr(poll(found))


def test_the_package_loads_nothing_heavy() -> None:
    heavy = "('kubernetes', 'urllib3', 'rich', 'yaml', 'requests')"
    code = f"import sys, selfhost.fleet; print([m for m in sys.modules if m.startswith({heavy})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
