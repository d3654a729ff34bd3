"""The target monitor: its objects, what the pod may do, and every query of rules and dashboard against the metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.catalog.xids import xids
from selfhost.engines import engine_names, get_engine, parse_engine, parse_image
from selfhost.errors import UnsupportedError, UsageError
from selfhost.health.types import Action
from selfhost.manifests import Manifests, RenderOptions, render, write_manifests
from selfhost.manifests.engine_metrics import ROLES, EngineMetrics, engine_metrics
from selfhost.manifests.zipapp import LARGEST_BYTES, MONITOR, archives
from selfhost.metrics import ECC_KINDS, HELD_DOWN_REASONS, METRICS, NVLINK_KINDS
from selfhost.plan import Plan
from tests.plans import plan
from tests.promql import check, filled, selectors
from tests.validators import VERSIONS, problems

IMAGE = "registry.example/selfhost:0.1.0"
CASES: dict[str, tuple[Plan, RenderOptions]] = {
    "plain": (plan(), RenderOptions()),
    "own-namespace": (
        plan(image=parse_image("vllm/vllm-openai:v0.32.0@sha256:" + "ab" * 32)),
        RenderOptions(
            namespace="models",
            monitor_namespace="gpu-monitor",
            monitor_image=f"{IMAGE}@sha256:" + "cd" * 32,
            runtime_class="nvidia",
            all_gpu_nodes=True,
            dcgm_names=True,
            api_server="10.0.0.0/28",
        ),
    ),
    "restricted": (
        plan(),
        RenderOptions(host_pid=False, monitor_root=False, pod_monitor=False, monitor_image=IMAGE),
    ),
    "kernel-log": (plan(), RenderOptions(kernel_log=True, monitor_image=IMAGE)),
}
NO_METRICS = ("by", "live_tokens")  # what an engine's roles say besides names
# Change with every word of a metric's help, and are checked query by query instead.
NOT_GOLDEN = {"dashboard.json", "60-configmap-dashboard.yaml", "prometheus-rules.yaml"}
# List the archives, of which there may be more when selfhost grows.
LISTING = {"40-daemonset.yaml", "kustomization.yaml"}
OPERATOR = {"PodMonitor", "PrometheusRule"}
SEVERITIES = {"critical", "warning", "info"}


@cache
def rendered(case: str) -> Manifests:
    made, options = CASES[case]
    return render(made, target="monitor", options=options)


def golden_names(case: str) -> set[str]:
    names = {document.name for document in rendered(case).documents if document.data is None}
    return names - NOT_GOLDEN - (LISTING if case == "plain" else {"80-prometheusrule.yaml"})


def parsed(text: str) -> Any:
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # 10 times as fast with libyaml


@cache
def objects(case: str) -> list[Any]:
    return [parsed(document.text) for document in rendered(case).documents if document.is_object]


def kind(case: str, name: str) -> Any:
    (found,) = (document for document in objects(case) if document["kind"] == name)
    return found


def text(case: str, name: str) -> str:
    return next(document.text for document in rendered(case).documents if document.name == name)


def pod(case: str) -> Any:
    return kind(case, "DaemonSet")["spec"]["template"]["spec"]


def container(case: str) -> Any:
    (found,) = pod(case)["containers"]
    return found


@cache
def board() -> Any:
    return json.loads(text("plain", "dashboard.json"))


@cache
def rules() -> list[tuple[str, Any]]:
    groups = parsed(text("plain", "prometheus-rules.yaml"))["groups"]
    return [(group["name"], rule) for group in groups for rule in group["rules"]]


def alerts() -> dict[str, Any]:
    return {rule["alert"]: rule for _, rule in rules() if "alert" in rule}


@cache
def emitted() -> frozenset[str]:
    return frozenset(CASES["plain"][0].engine.metrics)


@pytest.mark.parametrize("case", CASES)
class TestEveryCase:
    def test_equals_its_golden_files(self, case: str, golden: Callable[[str, str], str]) -> None:
        for document in rendered(case).documents:
            if document.name in golden_names(case):
                stored = golden(f"monitor/{case}/{document.name}", document.text)
                assert document.text == stored, "`pytest --update-golden` writes it"

    def test_is_valid_strictly_for_every_release(self, case: str) -> None:
        for document in objects(case):
            for version in VERSIONS:
                assert problems(document, version) == [], version

    def test_is_in_apply_order_and_its_namespace(self, case: str) -> None:
        _, options = CASES[case]
        rank = [
            "ServiceAccount", "NetworkPolicy", "DaemonSet", "Service", "ConfigMap", "PodMonitor", "PrometheusRule",
        ]  # fmt: skip
        order = [rank.index(document["kind"]) for document in objects(case)]
        assert order == sorted(order)
        where = {document["metadata"]["namespace"] for document in objects(case)}
        own = options.monitor_namespace or options.monitoring_namespace
        assert where == ({own, options.namespace} if case == "own-namespace" else {own})

    def test_takes_no_gpu_and_sees_them_all(self, case: str) -> None:
        resources = container(case)["resources"]
        for which in ("requests", "limits"):
            assert set(resources[which]) == {"cpu", "memory", "ephemeral-storage"}
        environment = {item["name"]: item.get("value") for item in container(case)["env"]}
        assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
        assert environment["NVIDIA_DRIVER_CAPABILITIES"] == "utility"
        field = next(item for item in container(case)["env"] if item["name"] == "NODE_NAME")
        assert field["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}

    def test_may_do_little(self, case: str) -> None:
        spec, context = pod(case), container(case)["securityContext"]
        assert spec["automountServiceAccountToken"] is False
        assert kind(case, "ServiceAccount")["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostIPC"} & set(spec)
        assert context["readOnlyRootFilesystem"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(
            mount.get("readOnly") or mount["mountPath"] == "/tmp" for mount in container(case)["volumeMounts"]
        )
        if case == "kernel-log":
            assert context["privileged"] is True
            return
        assert "privileged" not in context
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}

    def test_host_is_seen_only_as_far_as_asked(self, case: str) -> None:
        _, options = CASES[case]
        paths = {volume["hostPath"]["path"] for volume in pod(case)["volumes"] if "hostPath" in volume}
        expected = {"/var/lib/kubelet/pod-resources"} if options.monitor_root else set()
        assert paths == expected | ({"/dev/kmsg"} if options.kernel_log else set())
        assert pod(case).get("hostPID", False) is options.host_pid
        assert pod(case)["securityContext"]["runAsNonRoot"] is not options.monitor_root
        assert (pod(case)["securityContext"]["runAsUser"] == 0) is options.monitor_root
        level = "restricted" if case == "restricted" else "privileged"
        assert f"pod-security.kubernetes.io/enforce={level}" in text(case, "README.md")

    def test_selectors_find_the_pods(self, case: str) -> None:
        labels = kind(case, "DaemonSet")["spec"]["template"]["metadata"]["labels"].items()
        selecting = [
            kind(case, "DaemonSet")["spec"]["selector"]["matchLabels"],
            kind(case, "Service")["spec"]["selector"],
        ]
        selecting += [
            document["spec"]["selector"]["matchLabels"]
            for document in objects(case)
            if document["kind"] == "PodMonitor"
        ]
        assert all(selector.items() <= labels for selector in selecting)

    def test_probes_ask_what_the_exporter_answers(self, case: str) -> None:
        paths = {
            name: container(case)[name]["httpGet"]
            for name in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        assert {name: probe["path"] for name, probe in paths.items()} == {
            "startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz",
        }  # fmt: skip
        assert {probe["port"] for probe in paths.values()} == {"metrics"}

    def test_kustomization_lists_objects_and_every_config_map_that_is_mounted(self, case: str) -> None:
        made = parsed(text(case, "kustomization.yaml"))
        names = [document.name for document in rendered(case).documents]
        assert made["resources"] == [
            document.name for document in rendered(case).documents if document.is_object
        ]
        generated = {entry["name"]: entry for entry in made["configMapGenerator"]}
        assert all(file in names for entry in generated.values() for file in entry["files"])
        assert all(entry["options"]["disableNameSuffixHash"] for entry in generated.values())
        mounted = set()
        for volume in pod(case)["volumes"]:
            sources = volume.get("projected", {}).get("sources", [volume])
            mounted |= {source["configMap"]["name"] for source in sources if "configMap" in source}
        assert mounted == set(generated)
        namespace = kind(case, "DaemonSet")["metadata"]["namespace"]
        assert {entry["namespace"] for entry in generated.values()} == {namespace}

    def test_is_written_and_written_again(self, case: str, tmp_path: Path) -> None:
        write_manifests(rendered(case), tmp_path)
        paths = write_manifests(rendered(case), tmp_path)
        assert [path.name for path in paths] == [document.name for document in rendered(case).documents]


def test_golden_folder_holds_nothing_else() -> None:
    folder = Path(__file__).parent / "golden" / "monitor"
    for case in CASES:
        assert {path.name for path in (folder / case).iterdir()} == golden_names(case)


def test_runs_on_the_gpu_nodes_of_the_plan() -> None:
    made, _ = CASES["plain"]
    for case, expected in (
        ("plain", {"key": made.gpu.label, "operator": "In", "values": list(made.gpu.label_values)}),
        ("own-namespace", {"key": "nvidia.com/gpu.present", "operator": "In", "values": ["true"]}),
    ):
        required = pod(case)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = required["nodeSelectorTerms"]
        assert term["matchExpressions"] == [expected]
    assert pod("plain")["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert pod("own-namespace")["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in pod("plain")


def test_only_prometheus_reads_the_port() -> None:
    for case, sources in (
        ("plain", [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]),
        (
            "own-namespace",
            [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
                {"ipBlock": {"cidr": "10.0.0.0/28"}},
            ],
        ),
    ):
        policy = next(document for document in objects(case) if document["kind"] == "NetworkPolicy")
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert policy["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": 9835}], "from": sources}]
        assert policy["spec"]["egress"] == [
            {"ports": [{"protocol": "TCP"}], "to": [{"namespaceSelector": {}}]}
        ]


def test_a_namespace_of_its_own_is_let_in_by_the_engine() -> None:
    """The engine's policy knows Prometheus' namespace; policies add up."""
    engine = render(CASES["own-namespace"][0], options=RenderOptions(namespace="models"))
    deployment = next(
        parsed(document.text) for document in engine.documents if document.name == "50-deployment.yaml"
    )
    policies = [document for document in objects("own-namespace") if document["kind"] == "NetworkPolicy"]
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    assert policies[1]["metadata"]["namespace"] == deployment["metadata"]["namespace"] == "models"
    assert policies[1]["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert policies[1]["spec"]["policyTypes"] == ["Ingress"]
    assert len([document for document in objects("plain") if document["kind"] == "NetworkPolicy"]) == 1


def test_image_and_command_go_together() -> None:
    assert container("plain")["image"] == "vllm/vllm-openai:v0.32.0"
    assert container("plain")["command"] == ["python3", "/opt/selfhost/selfhost.pyz"]
    assert container("plain")["args"] == ["monitor", "--serve=:9835", "--plan=/etc/selfhost/plan.json"]
    assert container("restricted")["command"] == ["selfhost"]
    assert container("own-namespace")["args"][-1] == "--dcgm-names"
    assert not any(document.name.endswith(".pyz") for document in rendered("restricted").documents)
    old = render(plan(engine="vllm@0.20"), target="monitor")
    daemon = next(parsed(d.text) for d in old.documents if d.name == "40-daemonset.yaml")
    assert daemon["spec"]["template"]["spec"]["containers"][0]["image"] == "vllm/vllm-openai:v0.32.0"


def test_the_archives_fit_config_maps_and_travel_with_the_manifests() -> None:
    found = {
        document.name: document.content
        for document in rendered("plain").documents
        if document.data is not None
    }
    assert found == archives(MONITOR)
    assert all(len(data) <= LARGEST_BYTES for data in found.values())


def test_another_plan_or_version_starts_the_pods_again() -> None:
    def content(made: Plan) -> str:
        manifests = render(made, target="monitor", options=RenderOptions(monitor_image=IMAGE))
        daemon = next(parsed(d.text) for d in manifests.documents if d.name == "40-daemonset.yaml")
        return str(daemon["spec"]["template"]["metadata"]["annotations"]["selfhost/content"])

    assert content(plan()) == content(plan())
    assert content(plan()) != content(plan(replicas=2))


def test_gpus_that_nvml_does_not_read() -> None:
    with pytest.raises(UnsupportedError, match="NVML"):
        render(plan(gpu="mi300x-192gb", tensor=1), target="monitor")


@pytest.mark.parametrize(
    "options",
    [
        {"monitor_image": "selfhost"}, {"monitor_namespace": "A"}, {"runtime_class": "a b"},
        {"api_server": "10.0.0.1"}, {"api_server": "10.0.0.1/8"}, {"api_server": "x/8"},
        {"kernel_log": True, "monitor_root": False},
    ],
)  # fmt: skip
def test_options_that_are_no_names(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RenderOptions(**options)


@pytest.mark.parametrize("name", sorted(OPERATOR))
def test_objects_of_the_operator_are_there_only_with_it(name: str) -> None:
    assert kind("plain", name)["apiVersion"] == "monitoring.coreos.com/v1"
    assert name not in {document["kind"] for document in objects("restricted")}


def test_scraping_keeps_the_owner_of_a_gpu() -> None:
    """With honorLabels the exporter's own labels win; the target's would name the monitor where there are none."""
    spec = kind("plain", "PodMonitor")["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True
    dropped = re.compile(
        next(rule["regex"] for rule in endpoint["relabelings"] if rule["action"] == "labeldrop")
    )
    assert all(dropped.fullmatch(name) for name in ("namespace", "pod", "container"))
    assert not any(dropped.fullmatch(name) for name in ("node", "job", "instance"))
    labels = kind("plain", "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    job = labels[spec["jobLabel"]]
    assert {
        value
        for _, rule in rules()
        for s in selectors(rule["expr"])
        for name, value in s.values
        if name == "job"
    } == {job}


class TestRules:
    def test_the_operator_gets_the_same_rules(self) -> None:
        plain = parsed(text("plain", "prometheus-rules.yaml"))["groups"]
        assert kind("plain", "PrometheusRule")["spec"]["groups"] == plain
        assert parsed(text("restricted", "prometheus-rules.yaml"))["groups"] == plain

    def test_every_name_and_label_exists(self) -> None:
        for _, rule in rules():
            check(rule["expr"], emitted())

    def test_every_value_of_a_label_exists(self) -> None:
        """A reason, a kind or a code that the exporter never emits would make an alert that never fires."""
        known = {
            "reason": set(HELD_DOWN_REASONS),
            "kind": set(ECC_KINDS) | set(NVLINK_KINDS),
            "xid": {str(code) for code in xids()},
        }
        seen = set()
        for _, rule in rules():
            for selector in selectors(rule["expr"]):
                for name, value in selector.values:
                    if name in known:
                        seen.add(name)
                        assert set(value.split("|")) <= known[name], (selector.name, value)
        assert seen == set(known)

    def test_sentences_name_labels_that_the_alert_has(self) -> None:
        for name, alert in alerts().items():
            has = check(alert["expr"], emitted()) | {"alertname", "severity", "action"}
            for sentence in alert["annotations"].values():
                assert set(re.findall(r"\$labels\.(\w+)", sentence)) <= has, name

    def test_each_says_how_bad_it_is_and_what_to_do(self) -> None:
        for name, alert in alerts().items():
            assert alert["labels"]["severity"] in SEVERITIES, name
            assert alert["labels"]["action"] in Action.__args__, name  # type: ignore[attr-defined]
            assert alert["annotations"]["summary"].endswith("."), name
            assert len(alert["annotations"]["runbook"]) > 40, name
            assert name in text("plain", "README.md")

    def test_names_are_unique_and_records_are_well_formed(self) -> None:
        names = [rule.get("alert") or rule["record"] for _, rule in rules()]
        assert len(set(names)) == len(names)
        assert all(
            re.fullmatch(r"selfhost:[a-z_0-9]+:[a-z_0-9]+", rule["record"])
            for _, rule in rules()
            if "record" in rule
        )
        assert all(re.fullmatch(r"Selfhost[A-Z]\w+", name) for name in alerts())

    def test_every_code_of_the_catalogue_is_in_one_alert_or_harmless(self) -> None:
        """Codes that nobody knows fire too, as `Other` asks for what is none of the rest."""
        fired: dict[int, list[str]] = {}
        for code, xid in {**xids(), 9999: None}.items():
            for name, alert in alerts().items():
                found = next(
                    (s for s in selectors(alert["expr"]) if s.name == "selfhost_gpu_xid_errors_total"), None
                )
                if found is not None:
                    pattern = dict(found.values)["xid"]
                    negative = f'xid!~"{pattern}"' in alert["expr"]
                    if (re.fullmatch(pattern, str(code)) is None) is negative:
                        fired.setdefault(code, []).append(name)
            harmless = xid is not None and xid.severity == "info"
            assert len(fired.get(code, [])) == (0 if harmless else 1), code

    def test_memory_is_held_against_the_plans_own_certainty(self) -> None:
        certainty = CASES["plain"][0].memory.certainty_bytes
        assert alerts()["SelfhostEngineMemoryOverPlan"]["expr"].endswith(f"> {certainty}")

    def test_a_loading_engine_is_not_down(self) -> None:
        load = CASES["plain"][0].clocks.load_seconds.value
        assert alerts()["SelfhostEngineDown"]["for"] == f"{load}s"


def panels() -> list[Any]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in board()["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


class TestDashboard:
    def test_the_config_map_holds_the_same_text(self) -> None:
        config = kind("plain", "ConfigMap")
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert config["data"] == {"dashboard.json": text("plain", "dashboard.json")}
        assert len(json.dumps(config)) < 200_000

    def test_is_what_grafana_imports(self) -> None:
        found = board()
        assert found["schemaVersion"] >= 39
        assert re.fullmatch(r"[-a-zA-Z0-9_]{1,40}", found["uid"])
        assert "__inputs" not in found
        assert "id" not in found  # Grafana gives it one
        types = {panel["type"] for panel in found["panels"]}
        assert types <= {"row", "timeseries", "state-timeline", "table", "stat"}
        for panel in panels():
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["title"]
            assert [target["refId"] for target in panel["targets"]] == list(
                "ABCDEFG"[: len(panel["targets"])]
            )
            assert panel["targets"]

    def test_panels_have_their_own_ids_and_places(self) -> None:
        found = board()["panels"]
        assert [panel["id"] for panel in found] == list(range(1, len(found) + 1))
        taken: set[tuple[int, int]] = set()
        for panel in found:
            place = panel["gridPos"]
            assert 0 <= place["x"] < place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            taken |= cells

    def test_every_panel_asks_the_chosen_data_source(self) -> None:
        chosen = {"type": "prometheus", "uid": "${datasource}"}
        variables = {variable["name"]: variable for variable in board()["templating"]["list"]}
        assert list(variables) == ["datasource", "cluster", "node", "namespace", "gpu"]
        assert variables.pop("datasource")["type"] == "datasource"
        assert all(variable["datasource"] == chosen for variable in variables.values())
        assert all(variable["allValue"] == ".*" for variable in variables.values())
        for panel in panels():
            assert panel["datasource"] == chosen
            assert all(target["datasource"] == chosen for target in panel["targets"])

    def test_every_name_and_label_exists(self) -> None:
        for title, expr in queries():
            assert check(filled(expr), emitted()) is not None, title

    def test_legends_name_labels_that_the_series_have(self) -> None:
        for panel in panels():
            for target in panel["targets"]:
                has = check(filled(target["expr"]), emitted())
                assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= has, panel["title"]

    def test_variables_ask_for_metrics_and_labels_that_exist(self) -> None:
        for variable in board()["templating"]["list"][1:]:
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert match is not None
            assert match[2] in check(filled(match[1]), emitted())

    def test_counters_are_rates_and_gauges_are_not(self) -> None:
        counters = {metric.name for metric in METRICS if metric.kind == "counter"}
        for title, expr in queries():
            for selector in selectors(filled(expr)):
                if selector.name in counters and title != "Xid errors since the exporter started":
                    assert re.search(rf"(rate|increase|changes)\({selector.name}", expr), title
                if selector.name not in counters and selector.name.startswith("selfhost_"):
                    assert f"rate({selector.name}" not in expr, title

    def test_shows_nodes_gpus_engines_and_the_two_together(self) -> None:
        rows = [panel["title"] for panel in board()["panels"] if panel["type"] == "row"]
        assert rows == ["Node health", "GPUs: work", "GPUs: limits and faults", "Engines", "Engine and GPU"]
        joined = [
            panel["title"]
            for panel in panels()
            if {s.name.startswith("vllm:") for t in panel["targets"] for s in selectors(filled(t["expr"]))}
            == {True, False}
        ]
        assert len(joined) >= 3

    def test_every_metric_of_the_plans_engine_that_operations_rely_on_is_shown(self) -> None:
        shown = {
            selector.name.removesuffix("_bucket")
            for _, expr in queries()
            for selector in selectors(filled(expr))
        }
        roles = engine_metrics("vllm", CASES["plain"][0].engine.metrics)
        wanted = {getattr(roles, name) for name in type(roles).__dataclass_fields__ if name not in NO_METRICS}
        assert None not in wanted
        assert wanted <= shown


def test_the_roles_of_an_engines_metrics_are_its_own_names() -> None:
    for name in engine_names():
        emits = get_engine(name).metrics(parse_engine(name))
        roles = ROLES.get(name, EngineMetrics())  # some engines have no metrics
        found = {
            getattr(roles, field) for field in type(roles).__dataclass_fields__ if field not in NO_METRICS
        }
        assert found - {None} <= set(emits)


def test_an_engine_that_emits_less_has_fewer_panels_and_no_broken_query() -> None:
    from dataclasses import replace

    made = plan()
    few = ("vllm:num_requests_running", "vllm:generation_tokens_total")
    fewer = replace(made, engine=replace(made.engine, metrics=few))
    manifests = render(fewer, target="monitor", options=RenderOptions(monitor_image=IMAGE))
    found = json.loads(next(d.text for d in manifests.documents if d.name == "dashboard.json"))
    exprs = [target["expr"] for panel in found["panels"] for target in panel.get("targets", ())]
    groups = parsed(next(d.text for d in manifests.documents if d.name == "prometheus-rules.yaml"))["groups"]
    exprs += [rule["expr"] for group in groups for rule in group["rules"]]
    for expr in exprs:
        check(filled(expr), frozenset(few))
    assert len(found["panels"]) < len(board()["panels"])


def test_queries_of_the_docs_exist_too() -> None:
    page = (Path(__file__).parent.parent / "docs" / "monitoring-in-kubernetes.md").read_text(encoding="utf-8")
    found = re.findall(r"```promql\n(.+?)\n```", page, re.DOTALL)
    assert found
    for expr in found:
        check(expr, emitted())


def test_the_fleet_view_finds_the_pods() -> None:
    from selfhost.fleet.cluster import SELECTOR
    from selfhost.fleet.types import PORT

    key, _, value = SELECTOR.partition("=")
    assert kind("plain", "DaemonSet")["spec"]["template"]["metadata"]["labels"][key] == value
    assert container("plain")["ports"] == [{"name": "metrics", "containerPort": PORT, "protocol": "TCP"}]
