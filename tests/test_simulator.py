"""The node simulator does what kubelets do, on the fake API server and, where there is one, on a real control plane."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from selfhost.deploy.desired import desired
from selfhost.manifests import RenderOptions
from tests import clusters, crds, plans
from tests.fakes.kube import kube_api
from tests.simulator import Behaviour, Simulator, crashes, faults
from tests.simulator.client import Client

Object = dict[str, Any]
APPLY = "application/apply-patch+yaml"
SECONDS = 40.0
DEFINITIONS = ("podmonitors.monitoring.coreos.com", "prometheusrules.monitoring.coreos.com")


@dataclass(kw_only=True)
class Place:
    """A cluster with simulated nodes, and a namespace in it."""

    client: Client
    sim: Simulator
    namespace: str
    config: Path
    made: list[str] = field(default_factory=list)

    def get(self, plural: str, name: str = "", root: str = "/api/v1") -> Object:
        path = f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")
        return self.client.ask("GET", path)

    def items(self, plural: str, root: str = "/api/v1") -> list[Object]:
        return list(self.get(plural, root=root).get("items") or ())

    def until(self, look: Callable[[], Any]) -> Any:
        """What a look finds, as soon as it finds anything."""
        deadline = time.monotonic() + SECONDS
        while not (found := look()):
            assert time.monotonic() < deadline, json.dumps(
                [self.items("pods"), self.events()], indent=1, default=str
            )
            time.sleep(0.05)
        return found

    def events(self, pod: str = "") -> list[tuple[str, str, str]]:
        found = self.items("events")
        return [
            (one["type"], one["reason"], one["message"])
            for one in found
            if pod in ("", one["involvedObject"]["name"])
        ]

    def pod(self, name: str = "server-1", **changes: Any) -> Object:
        """A pod that runs the engine, made on the server; the words are more of its spec."""
        container: Object = {
            "name": "server",
            "image": "vllm/vllm-openai:v0.32.0",
            "command": ["vllm", "serve"],
            "args": ["Qwen/Qwen3-32B", "--port=8000", "--max-model-len=16384", "--enable-auto-tool-choice"],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "ports": [{"name": "http", "containerPort": 8000}],
            "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}},
            "startupProbe": _probe(10, 60),
            "readinessProbe": _probe(5, 3),
            "livenessProbe": _probe(15, 5),
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        container |= changes.pop("container", {})
        spec: Object = {
            "containers": [container],
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 5,
        }
        labels = {"app.kubernetes.io/instance": "tried", "app.kubernetes.io/component": "server"}
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": spec | changes,
        }
        return self.client.ask("POST", f"/api/v1/namespaces/{self.namespace}/pods", document)

    def state(self, name: str = "server-1") -> Object:
        """The status of its container, empty before there is one."""
        status = self.get("pods", name).get("status") or {}
        found = status.get("containerStatuses") or [{}]
        return cast(Object, found[0])

    def ready(self, name: str = "server-1") -> bool:
        return bool(self.state(name).get("ready"))

    def log(self, name: str = "server-1", query: str = "") -> str:
        connection = self.client.connection()
        path = f"{self.client.prefix}/api/v1/namespaces/{self.namespace}/pods/{name}/log?{query}"
        connection.request("GET", path, headers=self.client.headers)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return text if reply.status == 200 else f"{reply.status} {text}"


def _probe(period: int, failures: int) -> Object:
    get = {"path": "/health", "port": "http"}
    return {"httpGet": get, "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 5}


@pytest.fixture(params=["fake", pytest.param("real", marks=clusters.NEEDED)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        if request.param == "fake":
            wanted = tuple(one for one in crds.definitions() if one["metadata"]["name"] in DEFINITIONS)
            kube = stack.enter_context(kube_api(definitions=wanted, pace=0.02))
            config = Path(kube.kubeconfig(tmp_path / "config"))
            address, token = kube.url, kube.token
        else:
            plane: clusters.ControlPlane = request.getfixturevalue("plane")
            address, token, config = plane.address, plane.token, plane.config
        client = Client(address, token)
        stack.callback(client.close)
        sim = stack.enter_context(Simulator(address, token, pace=0.002))
        namespace = (
            f"selfhost-{tmp_path.name.lower().replace('_', '-')[:30].strip('-')}-{time.time_ns() % 10**6}"
        )
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        client.ask("POST", "/api/v1/namespaces", document)
        sim.node("gpu-1")
        sim.storage("standard")
        found = Place(client=client, sim=sim, namespace=namespace, config=config)
        if request.param == "real":
            found.until(lambda: _has_account(found))
        yield found
        if request.param == "real":
            plane.empty(namespace)
        stack.callback(lambda: client.try_ask("DELETE", f"/api/v1/namespaces/{namespace}"))


def _has_account(place: Place) -> bool:
    return any(one["metadata"]["name"] == "default" for one in place.items("serviceaccounts"))


def test_a_plan_comes_to_life(place: Place) -> None:
    """Claim bound, weights downloaded, engine loaded and ready, with the kubelet's events and the programs' logs."""
    for item in desired(plans.plan(), "kubernetes", RenderOptions(namespace=place.namespace)).objects:
        _apply(place, item)
    apps = "/apis/apps/v1"
    place.until(
        lambda: place.get("deployments", "qwen3-32b", apps).get("status", {}).get("availableReplicas")
    )
    (claim,) = place.items("persistentvolumeclaims")
    assert claim["status"]["phase"] == "Bound"
    (job,) = place.items("jobs", "/apis/batch/v1")
    place.until(
        lambda: place.get("jobs", job["metadata"]["name"], "/apis/batch/v1")["status"].get("succeeded")
    )
    said = place.events()
    reasons = {reason for _, reason, _ in said}
    assert {"Scheduled", "Pulling", "Pulled", "Created", "Started"} <= reasons
    assert any("Image size: 9683412117 bytes." in message for _, _, message in said)
    (server,) = (
        one
        for one in place.items("pods")
        if one["metadata"]["labels"]["app.kubernetes.io/component"] == "server"
    )
    log = place.log(server["metadata"]["name"], "container=server")
    assert "Loading safetensors checkpoint shards: 100% Completed | 17/17" in log
    assert "GPU KV cache size: 317,648 tokens" in log
    assert "Application startup complete." in log
    (download,) = (
        one for one in place.items("pods") if one is not server and "job-name" in one["metadata"]["labels"]
    )
    pulled = place.log(download["metadata"]["name"])
    assert "of 61.02 GiB pulled · 800 MiB/s" in pulled
    assert pulled.endswith("17 files, 61.02 GiB, all verified.\n")


def _apply(place: Place, item: Object) -> None:
    version, kind = item["apiVersion"], item["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    resources = place.client.ask("GET", root)["resources"]
    plural = next(one["name"] for one in resources if one["kind"] == kind and "/" not in one["name"])
    path = f"{root}/namespaces/{place.namespace}/{plural}/{item['metadata']['name']}"
    place.client.ask("PATCH", f"{path}?fieldManager=selfhost", item, APPLY)


IMAGE = "vllm/vllm-openai:v0.32.0"
WAITING = {
    "image-not-found": (faults.image_not_found(), "ImagePullBackOff", f"{IMAGE}: not found"),
    "image-denied": (faults.image_denied(), "ImagePullBackOff", "may require authorization"),
    "registry": (faults.registry_unreachable(), "ImagePullBackOff", "no such host"),
    "image-space": (faults.image_no_space(), "ImagePullBackOff", "no space left on device"),
    "secret": (faults.missing_secret(), "CreateContainerConfigError", 'secret "api-key" not found'),
    "runtime": (faults.no_nvidia_runtime(), "CreateContainerError", "libnvidia-ml.so.1"),
    "driver": (crashes.driver_too_old(), "CrashLoopBackOff", "back-off 10s restarting failed container=server"),
    "loop": (crashes.crash_loop(), "CrashLoopBackOff", "back-off 10s restarting failed container=server"),
}  # fmt: skip


@pytest.mark.parametrize("name", WAITING)
def test_a_container_that_waits_says_why(place: Place, name: str) -> None:
    behaviour, reason, words = WAITING[name]
    place.sim.behave(behaviour, deployment="tried")
    place.sim.pace = 0.02 if reason == "CrashLoopBackOff" else 0.002
    place.pod()

    def waits() -> Object | None:
        found = (place.state().get("state") or {}).get("waiting") or {}
        return found if found.get("reason") == reason and words in found.get("message", "") else None

    place.until(waits)
    kinds = {kind for kind, why, _ in place.events("server-1") if why in ("Failed", "BackOff")}
    assert "Warning" in kinds


ENDED = {
    "cuda-memory": (crashes.cuda_out_of_memory(), 1, "Error", "CUDA out of memory. Tried to allocate 3.91 GiB"),
    "kv-cache": (crashes.cache_too_small(), 1, "Error", "is larger than the available KV cache"),
    "flag": (crashes.unknown_flag(), 2, "Error", "unrecognized arguments: --no-such-flag"),
    "oom": (crashes.out_of_memory(), 137, "OOMKilled", ""),
    "never-listens": (crashes.never_listens(), 137, "Error", "Starting to load model"),
    "deaf": (crashes.goes_deaf(), 137, "Error", "output_handler failed"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDED)
def test_a_container_that_ended_says_how(place: Place, name: str) -> None:
    """Exit code and reason, the end of its log as message, and its whole log as that of the run before."""
    behaviour, code, reason, words = ENDED[name]
    place.sim.behave(behaviour, deployment="tried", times=1)
    place.pod()
    place.until(lambda: place.state().get("restartCount"))
    last = place.state()["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (code, reason)
    assert words in place.log(query="previous=true")
    probes = [message for _, why, message in place.events("server-1") if why == "Killing"]
    wanted = {"never-listens": "startup", "deaf": "liveness"}.get(name)
    if wanted:
        assert f"Container server failed {wanted} probe, will be restarted" in probes
    else:
        assert not probes


def test_a_crash_that_passes_ends_ready(place: Place) -> None:
    place.sim.behave(crashes.crash("first try", only=1))
    place.pod()
    place.until(place.ready)
    assert place.state()["restartCount"] == 1


def test_a_rejected_pod_fails(place: Place) -> None:
    place.sim.behave(faults.device_unavailable(requested=1))
    place.pod()
    place.until(lambda: place.get("pods", "server-1")["status"]["phase"] == "Failed")
    status = place.get("pods", "server-1")["status"]
    assert status["reason"] == "UnexpectedAdmissionError"
    assert status["message"].startswith(
        "Pod was rejected: Allocate failed due to requested number of devices"
    )


def test_an_evicted_pod_fails(place: Place) -> None:
    place.sim.behave(crashes.scratch_full())
    place.pod()
    place.until(lambda: place.get("pods", "server-1")["status"]["phase"] == "Failed")
    assert place.get("pods", "server-1")["status"]["reason"] == "Evicted"
    assert (
        "Warning",
        "Evicted",
        'Usage of EmptyDir volume "home" exceeds the limit "10Gi". ',
    ) in place.events()


def test_what_a_pod_refers_to_is_looked_for(place: Place) -> None:
    """A ConfigMap that is no volume yet, and a Secret that is no variable yet, hold the pod until they are made."""
    key = {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "key"}}}
    mounts = [{"name": "files", "mountPath": "/files"}]
    volumes = [{"name": "files", "configMap": {"name": "files"}}]
    place.pod(container={"env": [key], "volumeMounts": mounts}, volumes=volumes)
    said = 'MountVolume.SetUp failed for volume "files" : configmap "files" not found'
    place.until(lambda: ("Warning", "FailedMount", said) in place.events("server-1"))
    _add(place, "configmaps", "ConfigMap", "files", {"data": {"a": "b"}})
    place.until(lambda: ("Warning", "Failed", 'Error: secret "keys" not found') in place.events("server-1"))
    _add(place, "secrets", "Secret", "keys", {"stringData": {"key": "s3cr3t"}})
    place.until(place.ready)
    status, body = _ask(place, "/v1/models", {})
    assert (status, body) == (401, {"error": "Unauthorized"})
    status, body = _ask(place, "/v1/models", {"Authorization": "Bearer s3cr3t"})
    assert status == 200
    assert body["data"][0]["id"] == "Qwen/Qwen3-32B"


def _add(place: Place, plural: str, kind: str, name: str, body: Object) -> None:
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}} | body
    place.client.ask("POST", f"/api/v1/namespaces/{place.namespace}/{plural}", document)


def _ask(place: Place, path: str, headers: dict[str, str], body: Object | None = None) -> tuple[int, Any]:
    """A request to the engine over a forwarded port, by the official client."""
    from kubernetes import client, config
    from kubernetes.stream import portforward

    loader: Any = config
    api = loader.new_client_from_config(str(place.config))
    core = client.CoreV1Api(api)
    forward = portforward(
        core.connect_get_namespaced_pod_portforward, "server-1", place.namespace, ports="8000"
    )
    connection = http.client.HTTPConnection("engine", timeout=20)
    connection.sock = forward.socket(8000)
    connection.sock.setblocking(True)
    text = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, body=text, headers=headers)
    reply = connection.getresponse()
    said = reply.read().decode()
    connection.close()
    forward.close()
    api.close()
    return reply.status, json.loads(said) if said.startswith("{") else said


def test_the_engine_answers_over_a_forwarded_port(place: Place) -> None:
    place.pod()
    place.until(place.ready)
    assert _ask(place, "/health", {})[0] == 200
    status, said = _ask(
        place, "/v1/completions", {}, {"model": "Qwen/Qwen3-32B", "prompt": "a", "max_tokens": 4}
    )
    assert (status, said["usage"]["completion_tokens"]) == (200, 4)
    status, text = _ask(place, "/metrics", {})
    assert 'kv_cache_size_tokens="317648",num_gpu_blocks="19853"' in text
    tool = {
        "type": "function",
        "function": {"name": "look", "parameters": {"properties": {"n": {"type": "integer"}}}},
    }
    asked = {"messages": [{"role": "user", "content": "?"}], "tools": [tool], "stream": False}
    status, said = _ask(place, "/v1/chat/completions", {}, asked)
    call = said["choices"][0]["message"]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("look", {"n": 7})
    streamed = {"messages": [], "stream": True, "max_tokens": 3, "stream_options": {"include_usage": True}}
    status, text = _ask(place, "/v1/chat/completions", {}, streamed)
    assert text.count("data: ") == 6  # the role, three words, usage, the end
    assert text.endswith("data: [DONE]\n\n")


def test_logs_follow_and_end(place: Place) -> None:
    """A log that is followed ends with its container; tailLines and refusals are as the kubelet has them."""
    place.sim.behave(faults.slow_pull(500.0))
    place.pod(restartPolicy="Never")
    place.until(lambda: place.state().get("state", {}).get("waiting"))
    assert 'container \\"server\\" in pod \\"server-1\\" is waiting to start' in place.log()
    place.sim.behave(crashes.crash("the end", after="loading"))
    place.until(
        lambda: (
            place.state().get("state", {}).get("running") or place.state().get("state", {}).get("terminated")
        )
    )
    assert place.log(query="follow=true").endswith("the end\n")
    assert place.log(query="tailLines=1") == "the end\n"


def test_a_deleted_pod_stops_and_is_gone(place: Place) -> None:
    place.pod()
    place.until(place.ready)
    path = f"/api/v1/namespaces/{place.namespace}/pods/server-1"
    place.client.ask("DELETE", path)
    place.until(lambda: not place.items("pods"))
    assert ("Normal", "Killing", "Stopping container server") in place.events("server-1")


def test_a_claim_of_nobodys_class_stays_pending(place: Place) -> None:
    """Without a provisioner nothing is made; a provisioner that refuses says why."""
    place.sim.storage("strange", default=False, provisioner="nobody.example.com", wait=False)
    place.sim.storage("full", default=False, wait=False)
    place.sim.provisioner.refusal = "rpc error: code = ResourceExhausted desc = not enough free space"
    for name in ("strange", "full"):
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "70Gi"}},
            "storageClassName": name,
        }
        _add(place, "persistentvolumeclaims", "PersistentVolumeClaim", name, {"spec": spec})
    said = 'failed to provision volume with StorageClass "full": rpc error: code = ResourceExhausted desc = not enough '
    place.until(lambda: ("Warning", "ProvisioningFailed", said + "free space") in place.events())
    assert {one["status"]["phase"] for one in place.items("persistentvolumeclaims")} == {"Pending"}
    assert not [why for _, why, _ in place.events("strange") if why == "Provisioning"]


def test_a_node_that_is_gone(place: Place) -> None:
    """Its condition is unknown, its pods stay as they are, and nobody answers for their logs."""
    place.pod()
    place.until(place.ready)
    place.sim.down("gpu-1")
    node = place.client.ask("GET", "/api/v1/nodes/gpu-1")
    ready = next(one for one in node["status"]["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["message"]) == ("Unknown", "Kubelet stopped posting node status.")
    assert place.log().startswith("5")
    place.sim.up("gpu-1")
    place.until(place.ready)


def test_every_fault_of_the_catalogue_is_a_behaviour() -> None:
    made = [
        made()
        for module in (faults, crashes)
        for name, made in vars(module).items()
        if getattr(made, "__module__", "") == module.__name__
        and not name.startswith("_")
        and name not in ("crash", "download_of", "slow_pull", "another_engine")
    ]
    assert len(made) > 40
    assert all(isinstance(one, Behaviour) for one in made)
    assert len({one.name for one in made}) > 35
