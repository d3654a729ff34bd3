"""Every fault that can be made, deployed as `selfhost deploy` does it: it ends with its own cause, and with no other.

On the API fake, and on a real control plane where one is given. Where a cause deserves patience, the clock of the wait
is ten times as fast as the wall's.
"""

from __future__ import annotations

import inspect
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from selfhost.deploy.run import deploy
from selfhost.deploy.settings import Result, Settings
from selfhost.deploy.types import Desired, Event
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.manifests.options.weights import WeightOptions
from selfhost.plan import Plan
from tests import clusters
from tests.fakes.kube.admission import Webhook
from tests.plans import plan
from tests.simulator import crashes, faults
from tests.simulator.box import Behaviour
from tests.worlds import PRODUCT, Object, World, a_plan, fake_world, real_world

pytestmark = pytest.mark.timeout(240)  # the first that is asked for waits for many

SPEED = 10.0
AT_ONCE = 12
SETTINGS = Settings(preflight=False, smoke=False, timeout_seconds=90.0)
LEAN: dict[str, Any] = {"pod_monitor": False, "scaling": ScalingOptions(rules=False)}
HAVE = WeightOptions(uri="pvc:have#qwen")  # no download
# What is refused or fails is among these; the others of a deployment are applied in tests/test_deploy.py.
NEEDED = {"ConfigMap", "ServiceAccount", "PersistentVolumeClaim", "PersistentVolume", "Job", "Deployment"}
PATIENT_SECONDS = 300.0
BROKEN, NOBODY = "broken-storage", "nobodys-storage"
POLICY, AWAY = "no-servers.example.com", "away.example.com"
LABEL = "selfhost.test/refuses"  # on a namespace: what refuses there
Made = tuple[Result, list[Event]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fault and its explanation.

    Args:
        code: of the cause.
        says: what its sentence has to match.
        fault: what the containers do.
        component: whose.
        options: of rendering.
        change: of the plan.
        node: facts of a node of its own, of a product that no other has.
        before: what is done in the cluster first.
        without: kinds of objects that are left out, as somebody may have deleted them.
        hears: what is done when the deployment says something.
        patient: whether it may heal, and is given time.
    """

    code: str
    says: str
    fault: Behaviour | None = None
    component: str = "server"
    options: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Plan], Plan] = lambda of: of
    node: dict[str, Any] | None = None
    before: Callable[[World, str], None] = lambda world, name: None
    without: str = ""
    hears: Callable[[World, str, Event], None] = lambda world, name, event: None
    patient: bool = False


def _server(code: str, says: str, fault: Behaviour, *, patient: bool = False) -> Case:
    return Case(code=code, says=says, fault=fault, patient=patient)


def _download(code: str, says: str, fault: Behaviour) -> Case:
    return Case(code=code, says=says, fault=fault, component="download")


def _with(code: str, says: str, *, patient: bool = False, **options: Any) -> Case:
    return Case(code=code, says=says, options=options, patient=patient)


def _node(code: str, says: str, *, change: Callable[[Plan], Plan] = lambda of: of, **facts: Any) -> Case:
    return Case(code=code, says=says, node=facts, change=change, patient=True)


def _two_gpus(of: Plan) -> Plan:
    return replace(plan(tensor=2), name=of.name)


def _object(kind: str, spec: Object) -> Callable[[World, str], None]:
    def before(world: World, _: str) -> None:
        metadata = {"name": "theirs", "namespace": world.namespace}
        world.make({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec})

    return before


def _refused_by(policy: str) -> Callable[[World, str], None]:
    def before(world: World, _: str) -> None:
        world.sim.client.ask(
            "PATCH",
            f"/api/v1/namespaces/{world.namespace}",
            {"metadata": {"labels": {LABEL: policy}}},
            "application/merge-patch+json",
        )

    return before


def _holder(world: World, name: str) -> None:
    """Somebody else's pod on the only GPU."""
    box = {
        "name": "main", "image": "registry.example.com/theirs:1",
        "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
            "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
        },
    }  # fmt: skip
    spec = {"containers": [box], "nodeName": f"node-of-{name}"}
    metadata = {"name": "theirs", "namespace": world.namespace}
    account = f"/api/v1/namespaces/{world.namespace}/serviceaccounts/default"
    while world.sim.client.try_ask("GET", account) is None:  # a namespace gets it a moment later
        time.sleep(0.05)
    world.make({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def _not_ready(world: World, name: str) -> None:
    world.sim.not_ready(f"node-of-{name}", "container runtime network not ready: cni plugin not initialized")


def _node_goes_down(world: World, name: str, event: Event) -> None:
    if event.type == "progress" and event.facts.get("stage") in ("starting", "loading"):
        node = f"node-of-{name}"
        if world.sim.nodes[node].up:
            world.sim.down(node)


TAINT = {"key": "team", "value": "research", "effect": "NoSchedule"}
CASES: dict[str, Case] = {
    # the image
    "image not found": _server("image-not-found", "vllm/vllm-openai:v0.32.0", faults.image_not_found()),
    "image denied": _server("image-unauthorised", "vllm/vllm-openai", faults.image_denied()),
    "image unauthorised": _server("image-unauthorised", "vllm/vllm-openai", faults.image_unauthorized()),
    "registry unreachable": _server(
        "image-registry-unreachable", r"docker\.io", faults.registry_unreachable("registry-1.docker.io"), patient=True
    ),
    "registry times out": _server(
        "image-registry-unreachable", r"docker\.io", faults.registry_times_out("registry-1.docker.io"), patient=True
    ),
    "registry limits": _server("image-rate-limited", "docker|limit", faults.registry_limits(), patient=True),
    "no space for the image": _server("image-disk-full", "gpu-1", faults.image_no_space(), patient=True),
    "image of another machine": _server("image-wrong-platform", "vllm/vllm-openai", faults.image_of_other_machine()),
    # the node's kubelet and its devices
    "devices unavailable": _server("device-plugin", "gpu-1", faults.device_unavailable(), patient=True),
    "devices unhealthy": _server("device-plugin", "gpu-1", faults.device_unhealthy(), patient=True),
    "out of GPUs": _server("node-refused", "gpu-1.*OutOf", faults.out_of_gpus(), patient=True),
    "mount fails": _server("volume-not-mounted", "weights", faults.failed_mount(), patient=True),
    "attached elsewhere": _server("volume-in-use", "pvc-1|another node", faults.attached_elsewhere(), patient=True),
    "Secret missing": _server("secret-or-config-missing", "api-key", faults.missing_secret(), patient=True),
    "ConfigMap missing": _server("secret-or-config-missing", "settings", faults.missing_config_map(), patient=True),
    "must not be root": _server("container-config", "root", faults.must_not_be_root()),
    "no NVIDIA runtime": _server("container-toolkit", "gpu-1", faults.no_nvidia_runtime(), patient=True),
    "driver too old for the image": _server("driver-too-old", "gpu-1.*13", faults.driver_too_old_for_image()),
    # the engine
    "driver too old": _server("driver-too-old", "gpu-1", crashes.driver_too_old()),
    "out of GPU memory": _server("gpu-memory", r"gpu-1: 2\.79 GiB short", crashes.cuda_out_of_memory()),
    "no memory for the cache": _server("no-kv-cache", "KV cache", crashes.no_memory_for_cache()),
    "cache too small": _server("kv-cache-too-small", "7.31 GiB", crashes.cache_too_small()),
    "GPU in use": _server("gpu-shared", r"57\.8 of 79\.2 GiB.*51\.4 GiB short", crashes.gpu_in_use()),
    "unknown flag": _server("unknown-option", "--no-such-flag", crashes.unknown_flag()),
    "architecture": _server("architecture-unsupported", "Qwen9ForCausalLM", crashes.unsupported_architecture()),
    "start limit": _server("engine-start-limit", "600", crashes.start_limit()),
    "weights missing": _server("weights-missing", "Qwen/Qwen3-32B|weights", crashes.weights_missing()),
    "NCCL": _server("nccl|shared-memory", "shm|NCCL|shared memory", crashes.nccl_failed()),
    "port in use": _server("port-in-use", "8000", crashes.port_in_use()),
    "GPU fell off": _server("broken-gpu", "gpu-1", crashes.gpu_fell_off()),
    "no GPU seen": _server("no-cuda-device", "GPU", crashes.no_gpu_seen()),
    "cannot write": _server("permission-denied", "/home/selfhost/.cache", crashes.cannot_write()),
    "host memory": _server("oom-killed", "memory", crashes.out_of_memory()),
    "signal": _server("crash-loop", "139|SIGSEGV", crashes.crash_loop()),
    "never listens": _server("startup-probe", "startup", crashes.never_listens()),
    "evicted": _server("evicted", "gpu-1.*ephemeral-storage", crashes.evicted(after_seconds=300.0), patient=True),
    "scratch full": _server("evicted", "home.*10Gi", crashes.scratch_full(after_seconds=300.0)),
    # the download
    "gated": _download("gated-model", "Qwen/Qwen3-32B", crashes.download_gated()),
    "refused": _download("gated-model", "Qwen/Qwen3-32B", crashes.download_refused(has_token=True)),
    "not found": _download("revision-missing", "Qwen/Qwen3-32B", crashes.download_not_found()),
    "unauthorised": _download("revision-missing|gated-model", "Qwen/Qwen3-32B", crashes.download_unauthorized()),
    "no space": _download("download-disk-full", "3.20 GiB|full", crashes.download_no_space()),
    "no network": _download("download-network", "Hub.*Qwen/Qwen3-32B", crashes.download_no_network()),
    "download killed": _download("oom-killed", "download", crashes.download_killed()),
    # nodes
    "no GPU free": Case(
        code="insufficient-gpus", says="node-of-.* has 0 of 1", node={"gpus": 1}, before=_holder, patient=True
    ),
    "too few GPUs": _node("insufficient-gpus", "2 nvidia.com/gpu.*more than 1", gpus=1, change=_two_gpus),
    "another product": Case(code="no-such-gpu", says="H100 SXM 80GB.*GPU-OF", patient=True),
    "taint": _node("untolerated-taint", "team.*research", taints=(TAINT,)),
    "cordoned": _node("gpus-cordoned", "node-of-.* cordoned", unschedulable=True),
    "not ready": Case(
        code="nodes-not-ready", says="node-of-.* not ready", node={}, before=_not_ready, patient=True
    ),
    "lost": Case(
        code="node-lost", says="node-of-.* not ready", node={}, fault=crashes.never_listens(), hears=_node_goes_down,
        patient=True,
    ),
    "too little CPU": _node("insufficient-resources", "CPU.*node-of-.* has 3 of CPU", cpu="3"),
    "too little memory": _node("insufficient-resources", "memory.*node-of-", memory="8Gi"),
    "GPUs unhealthy": _node("gpus-not-advertised", "node-of-", gpus=2, unhealthy=2),
    # storage
    "no such class": _with("storage-class-missing", "no-such-class", storage_class="no-such-class"),
    "provisioner fails": _with("volume-not-provisioned", "quota", storage_class=BROKEN, patient=True),
    "provisioner away": _with("volume-not-provisioned", r"nobody\.example\.com", storage_class=NOBODY, patient=True),
    "no such claim": _with(
        "claim-missing", "no-such-claim", weights=WeightOptions(uri="pvc:no-such-claim"), patient=True
    ),
    # what the API server refuses
    "quota": Case(
        code="quota", says="theirs.*nvidia.com/gpu", patient=True,
        before=_object("ResourceQuota", {"hard": {"requests.nvidia.com/gpu": "0"}}),
    ),
    "LimitRange": Case(
        code="limit-range", says="memory per Container is 1Gi",
        before=_object("LimitRange", {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]}),
    ),
    "Pod Security": _with(
        "pod-security", "restricted.*hostPath", weights=WeightOptions(uri="hostpath:/models/qwen"),
        pod_security="privileged",
    ),
    "webhook": Case(code="policy-refused", says=POLICY, before=_refused_by(POLICY)),
    "webhook away": Case(code="webhook-unreachable", says=AWAY, before=_refused_by(AWAY), patient=True),
    "no ServiceAccount": Case(code="service-account-missing", says="case-", without="ServiceAccount", patient=True),
    "no PriorityClass": _with(
        "priority-class-missing", "no-such-priority",
        scaling=ScalingOptions(priority_class="no-such-priority", rules=False),
    ),
    "no Secret with the key": _with(
        "secret-or-config-missing", "no-such-secret",
        access=AccessOptions(api_key_secret="no-such-secret"), patient=True,
    ),
}  # fmt: skip
NO_DEFAULT = Case(code="storage-class-missing", says="no default", patient=True)
# What is no fault of a deployment: it gets ready with these, or they are parts of others.
WELL = {
    "slow_pull", "healthy", "another_engine", "download_of", "crash",
    "goes_deaf",  # after it was ready: of `status` and the monitor
}  # fmt: skip


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=clusters.NEEDED)])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Made]]]:
    """Every case, many at once, each in a namespace of its own."""
    if request.param == "fake":
        with fake_world(tmp_path_factory.mktemp("world")) as world, ThreadPoolExecutor(AT_ONCE) as pool:
            yield deployed(world, pool)
    else:
        plane = request.getfixturevalue("plane")
        if not plane.own:
            pytest.skip("classes and policies of the whole cluster are the tests' own server's alone")
        with real_world(plane) as world, ThreadPoolExecutor(AT_ONCE) as pool:
            yield deployed(world, pool)


def deployed(world: World, pool: ThreadPoolExecutor) -> dict[str, Future[Made]]:
    world.sim.node("gpu-1", gpus=200, product=PRODUCT, cpu="4000", memory="32768Gi", ephemeral="90000Gi")
    found: dict[str, Future[Made]] = {"no default class": Future()}
    _default(world, default=False)
    found["no default class"].set_result(carried_out(world, "case-none", NO_DEFAULT))
    _default(world, default=True)
    world.sim.storage(BROKEN, default=False, wait=False)
    world.sim.provisioner.refusals[BROKEN] = "rpc error: code = ResourceExhausted desc = disk quota exceeded"
    world.sim.storage(NOBODY, default=False, wait=False, provisioner="nobody.example.com")
    _policies(world)
    for number, (name, case) in enumerate(CASES.items()):
        found[name] = pool.submit(carried_out, world, f"case-{number}", case)
    return found


def carried_out(shared: World, name: str, case: Case) -> Made:
    """Deploy a case, and hear what is said."""
    world = replace(shared, told=[])  # with a namespace of its own
    of = replace(case.change(a_plan()), name=name)
    if case.node is not None or case is CASES["another product"]:
        product = f"GPU-OF-{name.upper()}"
        of = replace(of, gpu=replace(of.gpu, label_values=(product,)))
        if case.node is not None:
            world.sim.node(f"node-of-{name}", product=product, **case.node)
    if case.fault is not None:
        container = "download" if case.component == "download" else "server"
        world.sim.behave(case.fault, deployment=name, container=container)
    case.before(world, name)
    options = LEAN | case.options
    if (
        case.component == "server"
        and not {"weights", "storage_class"} & set(case.options)
        and case is not NO_DEFAULT
    ):
        _claim(world)
        options["weights"] = HAVE
    wanted = world.wanted(of, **options)
    kinds = NEEDED - {case.without}
    wanted = replace(wanted, objects=tuple(one for one in wanted.objects if one["kind"] in kinds))

    def tell(event: Event) -> None:
        world.told.append(event)
        case.hears(world, name, event)

    began, speed = time.monotonic(), SPEED if case.patient else 1.0
    settings = replace(SETTINGS, timeout_seconds=PATIENT_SECONDS) if case.patient else SETTINGS
    result = deploy(
        world.api(), wanted, settings, tell, lambda *_: True,
        monotonic=lambda: began + (time.monotonic() - began) * speed,
    )  # fmt: skip
    _end(world, wanted)
    return result, world.told


def _claim(world: World) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Gi"}}}
    metadata = {"name": "have", "namespace": world.namespace}
    world.make({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    world.sim.volumes[("claim", world.namespace, "have")] = {"qwen/config.json"}
    while ((world.get("v1", "PersistentVolumeClaim", "have") or {}).get("status") or {}).get(
        "phase"
    ) != "Bound":
        time.sleep(0.05)


def _end(world: World, wanted: Desired) -> None:
    """What fails again and again need not go on."""
    for root, plural in (("/apis/apps/v1", "deployments"), ("/apis/batch/v1", "jobs")):
        place = f"{root}/namespaces/{world.namespace}/{plural}"
        for item in world.sim.client.ask("GET", place)["items"]:
            path = f"{place}/{item['metadata']['name']}?propagationPolicy=Background"
            world.sim.client.try_ask("DELETE", path)


def _default(world: World, *, default: bool) -> None:
    place = "/apis/storage.k8s.io/v1/storageclasses"
    note = {"storageclass.kubernetes.io/is-default-class": "true" if default else "false"}
    for item in world.sim.client.ask("GET", place)["items"]:
        path = f"{place}/{item['metadata']['name']}"
        world.sim.client.ask(
            "PATCH", path, {"metadata": {"annotations": note}}, "application/merge-patch+json"
        )


def _policies(world: World) -> None:
    """Pods of servers are refused in namespaces that are labelled so, by a policy or for want of an answer."""
    if world.fake is not None:
        kube = world.fake

        def refused(by: str) -> Callable[[Object], bool]:
            def wanted(item: Object) -> bool:
                space = kube.get("Namespace", item["metadata"].get("namespace", "")) or {}
                labels = space.get("metadata", {}).get("labels") or {}
                return item["kind"] == "Pod" and labels.get(LABEL) == by

            return wanted

        kube.admission.webhooks += [
            Webhook(name=POLICY, wanted=refused(POLICY), message="no servers here"),
            Webhook(name=AWAY, wanted=refused(AWAY), message="", away=True),
        ]
        return
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]
    group = "/apis/admissionregistration.k8s.io/v1"
    webhook = {
        "name": AWAY, "rules": rules, "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": 1,
        "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:9/"},
        "namespaceSelector": {"matchLabels": {LABEL: AWAY}},
    }  # fmt: skip
    world.sim.client.try_ask("POST", f"{group}/validatingwebhookconfigurations", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": AWAY}, "webhooks": [webhook],
    })  # fmt: skip
    policy = {
        "failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": "false", "message": "no servers here"}],
    }  # fmt: skip
    world.sim.client.try_ask("POST", f"{group}/validatingadmissionpolicies", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY}, "spec": policy,
    })  # fmt: skip
    binding = {
        "policyName": POLICY, "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {LABEL: POLICY}}},
    }  # fmt: skip
    world.sim.client.try_ask("POST", f"{group}/validatingadmissionpolicybindings", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY}, "spec": binding,
    })  # fmt: skip


@pytest.mark.timeout(600)
def test_each_fault_ends_a_deployment_with_its_own_cause(made: dict[str, Future[Made]]) -> None:
    """One test for all of them: they run at the same time, and two workers would run them twice."""
    assert len(made) == len(CASES) + 1
    wrong: dict[str, str] = {}
    for name, future in made.items():
        case = CASES.get(name, NO_DEFAULT)
        if objection := amiss(case, *future.result(timeout=400)):
            wrong[name] = objection
    assert wrong == {}


def amiss(case: Case, result: Result, told: list[Event]) -> str:
    """What is not as it should be, empty where all is."""
    cause = result.cause
    if result.ended != "failed" or cause is None:
        return f"it ended {result.ended}: {result.message}"
    if not re.fullmatch(case.code, cause.code) or not re.search(case.says, cause.sentence):
        return f"{cause.code}: {cause.sentence}"
    if not cause.sentence.endswith(".") or not cause.hint:
        return f"no sentence or no way out: {cause}"
    named = [event.facts["code"] for event in told if "code" in event.facts]
    if set(named) != {cause.code} or named.count(cause.code) > 2:  # a note where it lasts, and the failure
        return f"other causes were named too: {named}"
    return ""


def test_every_fault_that_can_be_made_is_deployed() -> None:
    able = {
        name
        for module in (crashes, faults)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    used = set(
        re.findall(r"(?:crashes|faults)\.(\w+)\(", inspect.getsource(inspect.getmodule(_server) or crashes))
    )
    assert able - used == WELL
    assert threading.active_count() < 200
