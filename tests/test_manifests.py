"""Rendered manifests: golden files, Kubernetes' own schemas, the rules of a deployment, and hostile text as data."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfhost.catalog.gpus import find_gpu
from selfhost.engines import Argument, EnvVar, parse_image
from selfhost.errors import OutputError, UnsupportedError, UsageError
from selfhost.licence import Declared, Use, judge
from selfhost.manifests import Document, Manifests, RenderOptions, render, write_manifests
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.network import NetworkOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.manifests.zipapp import pull_archive
from selfhost.plan import Plan, from_json, to_json
from selfhost.units import GIB, MIB
from selfhost.workload import Split, Workload
from tests.plans import budget, plan
from tests.validators import VERSIONS, problems

CASES: dict[str, tuple[Plan, RenderOptions]] = {
    "plain": (plan(), RenderOptions()),
    "one-gpu": (plan(gpu="h200-sxm-141gb", tensor=1), RenderOptions(pod_monitor=False)),
    "replicas": (
        plan(replicas=3, image=parse_image("vllm/vllm-openai:v0.32.0@sha256:" + "ab" * 32)),
        RenderOptions(namespace="models", storage_class="fast", gateway_namespace="gateway", surge=True),
    ),
    "directory": (
        plan(model={"id": "/data/tiny llama", "origin": "directory", "revision": None}, tensor=1),
        RenderOptions(read_only_root=False),
    ),
    "unpinned": (plan(model={"origin": "catalogue", "revision": None}), RenderOptions()),
    "amd": (plan(gpu="mi300x-192gb", tensor=1), RenderOptions()),
    "mirror": (
        plan(
            gpu="h200-sxm-141gb",
            tensor=1,
            image=parse_image("registry.example:5000/vllm/vllm-openai:v0.32.0@sha256:" + "cd" * 32),
        ),
        RenderOptions(
            pull_image="registry.example:5000/selfhost:0.1.0@sha256:" + "ef" * 32,
            hub_endpoint="http://hub.models.svc:8765",
            pod_monitor=False,
        ),
    ),
    "old-engine": (
        plan(engine="vllm@0.11", workload=Workload(max_model_len=16384, kv_dtype="fp8")),
        RenderOptions(),
    ),
    "autoscaled": (
        plan(),
        RenderOptions(scaling=ScalingOptions(autoscale="keda", max_replicas=4, min_replicas=2)),
    ),
    "exposed": (
        plan(),
        RenderOptions(
            access=AccessOptions(
                expose="gateway", host="llm.example.org", gateway="public/gateways", api_key_secret="llm-key"
            )
        ),
    ),
    "behind-a-proxy": (
        plan(),
        RenderOptions(
            network=NetworkOptions(
                https_proxy="http://proxy.example:3128",
                cluster_cidrs=("10.96.0.0/12",),
                ca_config_map="company-ca",
            )
        ),
    ),
}


@cache
def rendered(case: str) -> Manifests:
    made, options = CASES[case]
    return render(made, options=options)


@lru_cache(maxsize=16)
def objects(manifests: Manifests) -> list[Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 10 times as fast where libyaml is there
    return [yaml.load(document.text, loader) for document in manifests.documents if document.is_object]


def kind(manifests: Manifests, name: str) -> Any:
    (found,) = (document for document in objects(manifests) if document["kind"] == name)
    return found


def kinds(manifests: Manifests) -> list[str]:
    return [document["kind"] for document in objects(manifests)]


def job_container(manifests: Manifests) -> Any:
    (container,) = kind(manifests, "Job")["spec"]["template"]["spec"]["containers"]
    return container


def texts(manifests: Manifests) -> dict[str, str]:
    return {document.name: document.text for document in manifests.documents if document.data is None}


def pod(manifests: Manifests) -> Any:
    return kind(manifests, "Deployment")["spec"]["template"]["spec"]


def server(manifests: Manifests) -> Any:
    (container,) = pod(manifests)["containers"]
    return container


def variables(manifests: Manifests) -> dict[str, str]:
    return {item["name"]: item["value"] for item in server(manifests)["env"] if "value" in item}


def unescaped(text: str) -> str:
    """What Kubernetes makes of a word without references: `$$` becomes `$`."""
    assert "$(" not in text.replace("$$", "")
    return text.replace("$$", "$")


def in_bytes(quantity: str) -> int:
    for suffix, size in (("Gi", GIB), ("Mi", MIB)):
        if quantity.endswith(suffix):
            return int(quantity[:-2]) * size
    return int(quantity)


@pytest.mark.parametrize("case", CASES)
class TestEveryCase:
    def test_equals_its_golden_files(self, case: str, golden: Callable[[str, str], str]) -> None:
        for name, text in texts(rendered(case)).items():
            stored = golden(f"kubernetes/{case}/{name}", text)
            assert text == stored, "`pytest --update-golden` writes it"

    def test_golden_folder_holds_nothing_else(self, case: str) -> None:
        folder = Path(__file__).parent / "golden" / "kubernetes" / case
        assert {path.name for path in folder.iterdir()} == set(texts(rendered(case)))

    def test_is_valid_strictly_for_every_release(self, case: str) -> None:
        for document in objects(rendered(case)):
            for version in VERSIONS:
                assert problems(document, version) == [], version

    def test_is_in_apply_order(self, case: str) -> None:
        rank = [
            "ServiceAccount", "NetworkPolicy", "PersistentVolumeClaim", "Job", "Deployment", "Service",
            "HTTPRoute",
            "PodDisruptionBudget", "ScaledObject", "PodMonitor", "PrometheusRule",
        ]  # fmt: skip
        order = [rank.index(name) for name in kinds(rendered(case))]
        assert order == sorted(order)

    def test_is_in_one_namespace(self, case: str) -> None:
        _, options = CASES[case]
        assert {document["metadata"]["namespace"] for document in objects(rendered(case))} == {
            options.namespace
        }

    def test_is_the_same_every_time(self, case: str) -> None:
        made, options = CASES[case]
        assert render(from_json(to_json(made)), options=options) == rendered(case)

    def test_carries_its_plan(self, case: str) -> None:
        made, _ = CASES[case]
        annotations = kind(rendered(case), "Deployment")["metadata"]["annotations"]
        assert from_json(annotations["selfhost/plan"]) == made
        assert (
            sum(len(key) + len(value) for key, value in annotations.items()) < 200_000
        )  # the limit is 256 KiB

    def test_arguments_come_from_the_plan_alone(self, case: str) -> None:
        made, _ = CASES[case]
        container = server(rendered(case))
        assert [unescaped(word) for word in container["args"]] == [
            argument.text for argument in made.engine.args
        ]
        assert tuple(container["command"]) == made.engine.command
        assert variables(rendered(case)) == {item.name: item.value for item in made.engine.env}

    def test_clocks_agree(self, case: str) -> None:
        made, _ = CASES[case]
        load = made.clocks.load_seconds.value
        deployment, container = kind(rendered(case), "Deployment"), server(rendered(case))
        start = container["startupProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] >= load
        assert deployment["spec"]["progressDeadlineSeconds"] > load
        ready = variables(rendered(case)).get("VLLM_ENGINE_READY_TIMEOUT_S")
        assert ready in (None, str(load))
        if "Job" in kinds(rendered(case)):
            assert kind(rendered(case), "Job")["spec"]["activeDeadlineSeconds"] >= load

    def test_ends_gracefully(self, case: str) -> None:
        container = server(rendered(case))
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = [
            int(word.partition("=")[2])
            for word in container["args"]
            if word.startswith("--shutdown-timeout=")
        ]
        assert pod(rendered(case))["terminationGracePeriodSeconds"] > sleep + sum(drain)

    def test_probes_ask_the_health_path_patiently(self, case: str) -> None:
        container = server(rendered(case))
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[name]
            assert probe["httpGet"] == {"path": "/health", "port": "http"}
            assert probe["timeoutSeconds"] >= 5
        patience = {
            name: container[name]["periodSeconds"] * container[name]["failureThreshold"]
            for name in ("readinessProbe", "livenessProbe")
        }
        assert patience["livenessProbe"] > patience["readinessProbe"]

    def test_gpus_are_those_of_the_split(self, case: str) -> None:
        made, _ = CASES[case]
        for which in ("requests", "limits"):
            assert server(rendered(case))["resources"][which][made.gpu.resource] == str(made.split.gpus)

    def test_shared_memory_is_limited_and_counted(self, case: str) -> None:
        made, _ = CASES[case]
        volumes = {volume["name"]: volume for volume in pod(rendered(case))["volumes"]}
        shm = volumes["shm"]["emptyDir"]
        assert shm["medium"] == "Memory"
        assert in_bytes(shm["sizeLimit"]) == made.pod.shared_memory_bytes.value
        assert (
            in_bytes(server(rendered(case))["resources"]["limits"]["memory"])
            > in_bytes(shm["sizeLimit"]) + 8 * GIB
        )

    def test_scratch_space_is_requested(self, case: str) -> None:
        volumes = pod(rendered(case))["volumes"]
        disks = [
            v["emptyDir"] for v in volumes if "emptyDir" in v and v["emptyDir"].get("medium") != "Memory"
        ]
        limit = in_bytes(server(rendered(case))["resources"]["requests"]["ephemeral-storage"])
        assert limit >= sum(in_bytes(disk["sizeLimit"]) for disk in disks)

    def test_pods_are_restricted(self, case: str) -> None:
        _, options = CASES[case]
        templates = [
            d["spec"]["template"]["spec"]
            for d in objects(rendered(case))
            if d["kind"] in ("Deployment", "Job")
        ]
        for spec in templates:
            assert spec["automountServiceAccountToken"] is False
            assert spec["enableServiceLinks"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["runAsUser"] >= 10000
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
            allowed = {"name", "emptyDir", "persistentVolumeClaim", "secret", "configMap"}
            assert all(set(volume) <= allowed for volume in spec["volumes"])
            for container in [*spec.get("initContainers", []), *spec["containers"]]:
                context = container["securityContext"]
                assert context["allowPrivilegeEscalation"] is False
                assert context["capabilities"] == {"drop": ["ALL"]}
                assert context["readOnlyRootFilesystem"] is (
                    options.read_only_root or container["name"] != "server"
                )
                assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
                assert container["resources"]["limits"]["memory"]
        assert kind(rendered(case), "ServiceAccount")["automountServiceAccountToken"] is False

    def test_network_is_closed_but_for_what_is_named(self, case: str) -> None:
        policies = [document for document in objects(rendered(case)) if document["kind"] == "NetworkPolicy"]
        for policy in policies:
            assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
            open_ports = {port.get("port") for rule in policy["spec"]["egress"] for port in rule["ports"]}
            component = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            # A mirror in the cluster is reached at any port of its namespace, as policies see pods and no Services.
            ports: dict[str, set[int | None]] = {"mirror": {443, 8765, None}, "behind-a-proxy": {3128}}
            outside = ports.get(case, {443})
            assert open_ports == ({53} if component == "server" else {53} | outside)

    def test_selectors_find_the_pods(self, case: str) -> None:
        deployment = kind(rendered(case), "Deployment")
        labels = deployment["spec"]["template"]["metadata"]["labels"].items()
        selectors = [
            deployment["spec"]["selector"]["matchLabels"],
            kind(rendered(case), "Service")["spec"]["selector"],
        ]
        optional = {"PodMonitor", "PodDisruptionBudget"} & set(kinds(rendered(case)))
        selectors += [kind(rendered(case), name)["spec"]["selector"]["matchLabels"] for name in optional]
        assert all(selector.items() <= labels for selector in selectors)
        if "Job" in kinds(rendered(case)):
            job = kind(rendered(case), "Job")["spec"]["template"]["metadata"]["labels"].items()
            assert not any(selector.items() <= job for selector in selectors)

    def test_weights_are_read_only_for_the_server(self, case: str) -> None:
        made, _ = CASES[case]
        mounts = {mount["name"]: mount for mount in server(rendered(case))["volumeMounts"]}
        assert mounts["weights"] == {
            "name": "weights",
            "mountPath": made.weights.mount_path,
            "readOnly": True,
        }
        (wait,) = pod(rendered(case))["initContainers"]
        assert wait["args"][2].startswith(made.weights.mount_path)

    def test_every_derived_value_says_why(self, case: str) -> None:
        made, _ = CASES[case]
        text = "\n".join(document.text for document in rendered(case).documents)
        derived = [made.clocks.load_seconds, made.clocks.progress_deadline_seconds, made.clocks.grace_seconds]
        derived += [made.clocks.startup_failures, made.clocks.pre_stop_seconds, made.weights.volume_bytes]
        derived += [
            made.pod.memory_bytes,
            made.pod.shared_memory_bytes,
            made.pod.cpu_request,
            made.pod.ephemeral_bytes,
        ]
        assert all(f"# {value.because}" in text or f"; {value.because}" in text for value in derived)
        assert all(f" # {argument.because}" in text for argument in made.engine.args)

    def test_kustomization_lists_the_objects(self, case: str) -> None:
        documents = {document.name: document for document in rendered(case).documents}
        listed = yaml.safe_load(documents["kustomization.yaml"].text)["resources"]
        assert listed == [name for name, document in documents.items() if document.is_object]


def test_kubernetes_validate_agrees() -> None:
    for document in objects(rendered("replicas")):
        if document["kind"] not in ("PodMonitor", "PrometheusRule"):
            kubernetes_validate.validate(document, "1.37", strict=True)
    deployment = kind(rendered("plain"), "Deployment")
    typo = deployment | {"spec": deployment["spec"] | {"replica": 1}}
    assert any("replica" in problem for problem in problems(typo, "1.29"))


def test_a_disruption_budget_needs_two_replicas() -> None:
    assert "PodDisruptionBudget" not in kinds(rendered("plain"))
    assert kind(rendered("replicas"), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_the_strategy_follows_the_spare_gpus() -> None:
    strategy = {
        case: kind(rendered(case), "Deployment")["spec"]["strategy"]["rollingUpdate"] for case in CASES
    }
    assert strategy["plain"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert strategy["replicas"] == {"maxSurge": 1, "maxUnavailable": 0}
    text = next(d.text for d in rendered("plain").documents if d.name == "50-deployment.yaml")
    assert "down until the new one is ready" in text


def test_replicas_share_a_volume_that_can_be_shared() -> None:
    assert kind(rendered("replicas"), "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]
    assert kind(rendered("plain"), "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOnce"]
    with pytest.raises(UsageError, match="ReadWriteOnce"):
        render(plan(replicas=2), options=RenderOptions(access_mode="ReadWriteOnce"))
    with pytest.raises(UsageError, match="surge"):
        render(plan(), options=RenderOptions(surge=True))
    render(plan(), options=RenderOptions(surge=True, access_mode="ReadWriteMany"))


def test_the_download_is_pinned_and_its_token_is_a_file() -> None:
    made, _ = CASES["plain"]
    container = job_container(rendered("plain"))
    pull, reference, ready, *_ = container["args"]
    assert (pull, reference) == ("pull", f"{made.weights.location}@{made.model.revision}")
    environment = {item["name"]: item["value"] for item in container["env"]}
    assert environment["HF_TOKEN_PATH"] == "/var/run/secrets/selfhost/token"
    assert "HF_TOKEN" not in environment
    assert environment["HF_HUB_CACHE"] == variables(rendered("plain"))["HF_HUB_CACHE"]
    (wait,) = pod(rendered("plain"))["initContainers"]
    assert ready == f"--ready-file={wait['args'][2]}"


def words(made: Plan) -> list[str]:
    """Words of the download beyond those that every download has."""
    return [unescaped(word) for word in job_container(render(made))["args"][3:]]


def test_a_pull_chooses_files_by_itself() -> None:
    made = plan(licence=None)
    assert made.weights.skip
    assert words(made) == []
    more = replace(made.weights, skip=(*made.weights.skip, "figures $/*"))
    assert words(replace(made, weights=more)) == ["--exclude=figures $/*"]


def test_weights_that_are_pickles_are_asked_for() -> None:
    assert words(plan(safetensors=False, licence=None)) == ["--allow-pickle"]


def test_code_of_the_model_comes_along_where_the_server_runs_it() -> None:
    made = plan(licence=None)
    flag = Argument(flag="--trust-remote-code", because="by hand")
    trusting = replace(made, engine=replace(made.engine, args=(*made.engine.args, flag)))
    assert words(trusting) == ["--trust-remote-code"]


@pytest.mark.parametrize(
    ("licence", "use", "accepted", "expected"),
    [
        ("llama3.3", None, (), []),
        ("apache-2.0", "research", (), ["--use=research"]),
        ("llama3.3", "commercial", ("llama3.3",), ["--use=commercial", "--accept-licence=llama3.3"]),
    ],
)
def test_the_licence_is_judged_again_for_the_planned_use(
    licence: str, use: Use | None, accepted: tuple[str, ...], expected: list[str]
) -> None:
    verdict = judge(Declared(licence=licence, gate="none"), use=use, accepted=accepted)
    assert words(plan(licence=verdict)) == expected


def images(manifests: Manifests) -> tuple[str, str]:
    """Images of the server and of the download."""
    return server(manifests)["image"], job_container(manifests)["image"]


def test_the_download_runs_in_an_image_that_can() -> None:
    """Engines before 0.24 may have a Hub library that a pull cannot use."""
    assert images(rendered("plain")) == ("vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:v0.32.0")
    assert images(render(plan(engine="vllm@0.24")))[1] == "vllm/vllm-openai:v0.24.0"
    for old in ("vllm@0.23", "vllm@0.19.1"):
        assert images(render(plan(engine=old)))[1] == "vllm/vllm-openai:v0.32.0"
    assert "may be too old" in texts(rendered("old-engine"))["40-job-download.yaml"]
    assert images(render(plan(engine="vllm@0.20", gpu="mi300x-192gb", tensor=1))) == (
        "vllm/vllm-openai-rocm:v0.20.0",
        "vllm/vllm-openai-rocm:v0.32.0",
    )


def test_an_older_engine_from_a_mirror_downloads_from_that_mirror() -> None:
    mirror = RenderOptions(image="registry.example/cache/vllm/vllm-openai:v0.20.0")
    _, image = images(render(plan(engine="vllm@0.20"), options=mirror))
    assert image == "registry.example/cache/vllm/vllm-openai:v0.32.0"
    own = RenderOptions(image="registry.example/engine:v0.20.0-patched")
    assert images(render(plan(engine="vllm@0.20"), options=own))[1] == "vllm/vllm-openai:v0.32.0"


def test_selfhost_comes_in_an_archive_unless_the_image_has_it() -> None:
    manifests = rendered("plain")
    assert job_container(manifests)["command"] == ["python3", "/opt/selfhost/selfhost.pyz"]
    (generated,) = yaml.safe_load(texts(manifests)["kustomization.yaml"])["configMapGenerator"]
    job = kind(manifests, "Job")
    assert generated["name"] == job["metadata"]["name"]
    assert generated["files"] == ["selfhost.pyz"]
    assert generated["options"]["disableNameSuffixHash"] is True
    assert generated["options"]["labels"] == job["metadata"]["labels"]
    volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["selfhost"]["configMap"]["name"] == generated["name"]
    mounts = {mount["name"]: mount for mount in job_container(manifests)["volumeMounts"]}
    assert mounts["selfhost"] == {"name": "selfhost", "mountPath": "/opt/selfhost", "readOnly": True}
    assert manifests.documents[-1].content == pull_archive()

    installed = rendered("mirror")
    assert job_container(installed)["command"] == ["selfhost"]
    assert "configMapGenerator" not in texts(installed)["kustomization.yaml"]
    assert "configMap" not in texts(installed)["40-job-download.yaml"]
    assert all(document.data is None for document in installed.documents)
    assert all(document.data is None for document in rendered("directory").documents)


@pytest.mark.parametrize(
    ("endpoint", "ports"),
    [
        (None, [443]),
        ("https://hub.example", [443]),
        ("https://hub.example:8443/hub", [443, 8443]),
        ("http://hub.example", [80, 443]),
        ("http://10.0.0.7:8765", [443, 8765]),
        ("http://[fd00::7]:8765", [443, 8765]),
    ],
)
def test_the_port_of_the_hub_is_open(endpoint: str | None, ports: list[int]) -> None:
    manifests = render(plan(), options=RenderOptions(hub_endpoint=endpoint))
    policies = [document for document in objects(manifests) if document["kind"] == "NetworkPolicy"]
    names, hub = policies[1]["spec"]["egress"]
    assert [port["port"] for port in names["ports"]] == [53, 53]
    assert [port["port"] for port in hub["ports"]] == ports
    assert [peer["ipBlock"]["cidr"] for peer in hub["to"]] == ["0.0.0.0/0", "::/0"]
    assert hub["to"][0]["ipBlock"]["except"] == ["169.254.0.0/16"]


def test_another_download_is_another_job() -> None:
    """Kubernetes refuses a change of a Job's pod, so a new commit or image makes a new name."""
    made = plan()
    other = replace(made, model=replace(made.model, revision="0" * 40))
    mirror = RenderOptions(image="mirror.example/vllm/vllm-openai:v0.32.0")
    names = {
        kind(manifests, "Job")["metadata"]["name"]
        for manifests in (render(made), render(other), render(made, options=mirror))
    }
    assert len(names) == 3
    assert all(len(name) <= 63 for name in names)
    assert kind(render(replace(made, replicas=2)), "Job")["metadata"]["name"] in names


def test_waiting_for_weights_ends(tmp_path: Path) -> None:
    import subprocess

    script = unescaped(pod(rendered("plain"))["initContainers"][0]["args"][0])
    there = subprocess.run(["/bin/sh", "-c", script, "weights", str(tmp_path), "9"], check=False)
    assert there.returncode == 0
    absent = subprocess.run(
        ["/bin/sh", "-c", script, "weights", str(tmp_path / "absent"), "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert absent.returncode == 1
    assert "the weights are not on the volume" in absent.stderr


def test_what_is_not_pinned_is_said() -> None:
    unpinned = texts(rendered("unpinned"))
    assert "NOT PINNED" in unpinned["40-job-download.yaml"]
    assert "NOT PINNED" in unpinned["README.md"]
    assert not any("NOT PINNED" in document.text for document in rendered("plain").documents)


def test_files_on_a_volume_are_not_downloaded() -> None:
    assert "Job" not in kinds(rendered("directory"))
    assert len([name for name in kinds(rendered("directory")) if name == "NetworkPolicy"]) == 1


def test_gpus_that_no_node_has() -> None:
    with pytest.raises(UnsupportedError, match="16 GPUs") as error:
        render(plan(split=Split(tensor=8, pipeline=2)))
    assert error.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"namespace": "Prod"}, {"namespace": "a\nb"}, {"namespace": ""}, {"namespace": "x" * 64},
        {"storage_class": "a b"}, {"token_secret": "../x"}, {"hub_endpoint": "ftp://x"},
        {"hub_endpoint": 'https://x"y'}, {"hub_endpoint": "https://"}, {"hub_endpoint": "https://:8"},
        {"hub_endpoint": "https://x:0"}, {"hub_endpoint": "https://x:99999"}, {"hub_endpoint": "http://[x"},
        {"pull_image": "selfhost"}, {"pull_image": "selfhost:latest"}, {"access_mode": "ReadOnlyMany"},
        {"gateway_namespace": "*"}, {"monitoring_namespace": "a_b"},
    ],
)  # fmt: skip
def test_options_that_are_no_names(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RenderOptions(**options)


def test_an_image_from_a_mirror_is_everywhere() -> None:
    text = "mirror.example:5000/vllm/vllm-openai:v0.32.0@sha256:" + "cd" * 32
    manifests = render(plan(), options=RenderOptions(image=text))
    templates = [
        d["spec"]["template"]["spec"] for d in objects(manifests) if d["kind"] in ("Deployment", "Job")
    ]
    images = {
        c["image"] for spec in templates for c in [*spec.get("initContainers", []), *spec["containers"]]
    }
    assert images == {text}
    carried = from_json(kind(manifests, "Deployment")["metadata"]["annotations"]["selfhost/plan"])
    assert carried.engine.image.reference == text
    with pytest.raises(UsageError, match="pinned"):
        RenderOptions(image="vllm/vllm-openai:latest")


def test_a_mig_instance_is_asked_for_as_the_mixed_strategy_names_it() -> None:
    instance = find_gpu("h100-sxm-80gb:3g.40gb")
    small = budget(instance, Split(), weights_bytes=8 * GIB, kv_needed_bytes=4 * GIB)
    manifests = render(plan(gpu=instance.id, tensor=1, budget=small))
    spec = pod(manifests)
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"] == [
        {
            "key": "nvidia.com/mig-3g.40gb.product",
            "operator": "In",
            "values": ["NVIDIA-H100-80GB-HBM3-MIG-3g.40gb"],
        }
    ]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == "1"
    tolerated = ["nvidia.com/gpu", "nvidia.com/mig-3g.40gb"]
    assert [toleration["key"] for toleration in spec["tolerations"]] == tolerated
    readme = next(document.text for document in manifests.documents if document.name == "README.md")
    assert "strategy mixed" in readme


def test_an_unknown_target() -> None:
    with pytest.raises(UsageError, match="nomad"):
        render(plan(), target="nomad")
    with pytest.raises(UsageError):
        render(plan(), target="../templates")


NASTY = [
    "x\n  privileged: true", 'a"b', "a'b", "a: b", "# no", "- x", "{{ plan }}", "{% include 'x' %}", "$(HOME)",
    "$$(HOME)", "`id`", "; rm -rf /", "\u2028x: y", "\x85x: y", "\ufeff", "\\", "\\n", "!!python/object:os.system",
    "&a *a", "%YAML",
    "---\nkind: Pod", "yes", "null", "1e3", "\U0001f600", "\t", "", " ", "|", ">", "@", "\x7f", "\x1b[31m",
]  # fmt: skip
anything = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)
EXAMPLE = CASES["plain"][0]


def server_marker(manifests: Manifests) -> str:
    (wait,) = pod(manifests)["initContainers"]
    marker: str = wait["args"][2]
    return unescaped(marker)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything, anything, anything, anything)
def test_any_text_in_a_plan_is_data(model_id: str, because: str, value: str, source: str) -> None:
    engine = replace(
        EXAMPLE.engine,
        args=(
            Argument(value=model_id, because=because),
            Argument(flag="--flag", value=value, because=because),
        ),
        env=(EnvVar(name="NAME", value=value, because=because),),
    )
    nasty = replace(
        EXAMPLE,
        model=replace(EXAMPLE.model, id=model_id, source=source, revision=None),
        licence=None,
        weights=replace(EXAMPLE.weights, location=model_id, skip=(value,)),
        engine=engine,
        gpu=replace(EXAMPLE.gpu, name=value),
        pod=replace(EXAMPLE.pod, cpu_request=replace(EXAMPLE.pod.cpu_request, because=because)),
        clocks=replace(EXAMPLE.clocks, load_seconds=replace(EXAMPLE.clocks.load_seconds, because=because)),
    )
    manifests = render(nasty)
    assert kinds(manifests) == kinds(rendered("plain"))
    container = server(manifests)
    assert [unescaped(word) for word in container["args"]] == [model_id, f"--flag={value}"]
    assert unescaped(variables(manifests)["NAME"]) == value
    plain = server(rendered("plain"))
    assert {k: v for k, v in container.items() if k not in ("args", "env")} == {
        k: v for k, v in plain.items() if k not in ("args", "env")
    }
    marker = server_marker(manifests)
    found = [unescaped(word) for word in job_container(manifests)["args"]]
    assert found == ["pull", model_id, f"--ready-file={marker}", "--allow-pickle", f"--exclude={value}"]
    assert from_json(kind(manifests, "Deployment")["metadata"]["annotations"]["selfhost/plan"]) == nasty


# Writing: all or nothing, and nothing of anybody else's.


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_every_document(tmp_path: Path) -> None:
    written = write_manifests(rendered("plain"), tmp_path / "new" / "out")
    assert [path.name for path in written] == [document.name for document in rendered("plain").documents]
    assert names(tmp_path / "new" / "out") == sorted(
        document.name for document in rendered("plain").documents
    )


def test_writes_over_its_own_files_and_takes_away_what_is_not_needed(tmp_path: Path) -> None:
    write_manifests(rendered("replicas"), tmp_path)
    assert "70-poddisruptionbudget.yaml" in names(tmp_path)
    write_manifests(rendered("plain"), tmp_path)
    assert names(tmp_path) == sorted(document.name for document in rendered("plain").documents)
    assert json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))["replicas"] == 1


def test_an_archive_of_an_earlier_rendering_is_its_own(tmp_path: Path) -> None:
    write_manifests(rendered("plain"), tmp_path)
    assert (tmp_path / "selfhost.pyz").read_bytes() == pull_archive()
    write_manifests(rendered("mirror"), tmp_path)
    assert "selfhost.pyz" not in names(tmp_path)


def test_renders_beside_the_plan_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(to_json(EXAMPLE), encoding="utf-8")
    write_manifests(rendered("plain"), tmp_path)
    assert names(tmp_path) == sorted(document.name for document in rendered("plain").documents)


@pytest.mark.parametrize("name", ["notes.txt", "50-deployment.yaml", ".git", "values.json", "selfhost.pyz"])
def test_leaves_a_folder_of_somebody_else_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("kind: Deployment\n", encoding="utf-8")
    with pytest.raises(OutputError, match=name.replace(".", r"\.")):
        write_manifests(rendered("plain"), tmp_path)
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == "kind: Deployment\n"


def test_does_not_follow_links(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_manifests(rendered("plain"), out)
    (out / "README.md").unlink()
    (out / "README.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError):
        write_manifests(rendered("plain"), out)


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError):
            write_manifests(rendered("plain"), path)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    good = rendered("plain")
    bad = replace(good, documents=(*good.documents, Document(name="x" * 300 + ".yaml", text="x")))
    with pytest.raises(OutputError):
        write_manifests(bad, tmp_path / "out")
    assert names(tmp_path) == []
    write_manifests(good, tmp_path)
    with pytest.raises(OutputError):
        write_manifests(bad, tmp_path)
    assert names(tmp_path) == sorted(document.name for document in good.documents)


def test_what_a_killed_rendering_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".selfhost-abc").mkdir()
    (tmp_path / ".selfhost-abc" / "50-deployment.yaml").write_text("half", encoding="utf-8")
    write_manifests(rendered("plain"), tmp_path)
    assert names(tmp_path) == sorted(document.name for document in rendered("plain").documents)


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    for path in write_manifests(rendered("plain"), tmp_path):
        assert path.stat().st_mode & stat.S_IRUSR
