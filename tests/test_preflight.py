"""Each check says what would fail, at the right level and with a way out, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from selfhost.cli._deploying import code_of_findings
from selfhost.deploy.preflight import findings_of, fits
from selfhost.deploy.preflight.checks import checks
from selfhost.deploy.preflight.checks.cluster import release_of
from selfhost.deploy.preflight.checks.secrets import entries
from selfhost.deploy.preflight.facts import Facts, Served, Unread
from selfhost.deploy.preflight.pod_security import violations
from selfhost.deploy.preflight.request import rules_of
from selfhost.deploy.preflight.rights import Right, Rights, granted_by, needed
from selfhost.deploy.types import Desired, Finding
from selfhost.manifests.options import RenderOptions
from tests.deployments import facts, node, options, own_pod, pod, storage_class, wanted


def found(
    cluster: Facts, what: RenderOptions | None = None, before: Desired | None = None, **plan: Any
) -> dict[str, Finding]:
    """The worst finding of each code."""
    ranks = ("ok", "unknown", "warning", "error")
    told: dict[str, Finding] = {}
    for one in findings_of(cluster, wanted("kubernetes", what, **plan), before=before):
        if one.code not in told or ranks.index(one.level) > ranks.index(told[one.code].level):
            told[one.code] = one
    return told


def test_a_cluster_that_has_everything_has_no_finding_but_good_ones() -> None:
    told = findings_of(facts(), wanted())
    assert {one.level for one in told} == {"ok"}
    assert [one.message for one in told] == [
        "cluster 1.36", "APIs", "rights", "Pod Security restricted", "2 of 8 free GPUs on gpu-1", "driver 580 ≥ 580",
        "storage fast",
    ]  # fmt: skip
    assert fits(told)
    assert code_of_findings(told) == 0


@pytest.mark.parametrize(
    "gap", ["nodes", "pods", "storage_classes", "claims", "quotas", "limits", "services"]
)
def test_what_may_not_be_read_is_unknown_and_names_the_permission(gap: str) -> None:
    unread = Unread(what=gap, permission=f"list {gap}")
    told = [one for one in findings_of(facts(**{gap: unread}), wanted()) if one.level != "ok"]
    assert [one.level for one in told] == ["unknown"]
    assert f"no permission to list {gap}" in told[0].message
    assert told[0].hint


CASES: list[tuple[str, str, str, Facts, RenderOptions | None]] = [
    ("namespace", "error", "There is no namespace llm.", facts(namespace=None), None),
    ("namespace", "error", "being deleted",
     facts(namespace={"metadata": {"name": "llm", "deletionTimestamp": "2026-11-26T00:00:00Z"}}), None),
    ("cluster", "error", "Kubernetes 1.29 lacks the pre-stop pause", facts(version={"gitVersion": "v1.29.4"}), None),
    ("cluster", "error", "older than 1.29", facts(version={"gitVersion": "v1.28.0"}), None),
    ("cluster", "warning", "newer than 1.37", facts(version={"gitVersion": "v1.39.1-eks-1"}), None),
    ("cluster", "unknown", "does not tell its release", facts(version={}), None),
    ("cluster", "error", "lacks the device claims", facts(version={"gitVersion": "v1.33.1"}),
     options(gpus={"dra": True})),
    ("kubelet", "warning", "1 of 1 nodes have a kubelet older than the device claims",
     facts(nodes=(node() | {"status": node()["status"] | {"nodeInfo": {"kubeletVersion": "v1.33.0"}}},)),
     options(gpus={"dra": True})),
    ("apis", "error", "does not know PodMonitor",
     facts(served=Served(versions=dict.fromkeys(("v1", "apps/v1", "batch/v1", "networking.k8s.io/v1")))), None),
    ("apis", "unknown", "does not tell which APIs", facts(served=None), None),
    ("gpus", "error", "it needs 2 GPUs on one node", facts(nodes=(node(gpus=1),)), None),
    ("gpus", "error", "it needs 2 GPUs", facts(pods=(pod("other", gpus=7),)), None),
    ("gpus", "warning", "find no room", facts(nodes=(node("c", 0, labels={"karpenter.sh/nodepool": "gpu"}),)), None),
    ("room", "error", "cpu, memory or storage is short",
     facts(pods=(pod("hog", gpus=0, spec={"containers": [{"name": "c", "resources": {"requests": {"cpu": "125"}}}]}),)),
     None),
    ("device-plugin", "error", "No node of the cluster has nvidia.com/gpu.", facts(nodes=(node("c", 0),)), None),
    ("device-plugin", "error", "gpu-1 has GPUs by label, and none to hand out", facts(nodes=(node(healthy=0),)), None),
    ("device-plugin", "warning", "gpu-2 has GPUs by label", facts(nodes=(node(), node("gpu-2", healthy=0))), None),
    ("gpu-health", "warning", "not healthy on gpu-1", facts(nodes=(node(healthy=7),)), None),
    ("gpu-labels", "error", "No node has the label nvidia.com/gpu.product",
     facts(nodes=(node() | {"metadata": {"name": "gpu-1", "labels": {}}},)), None),
    ("dra-driver", "error", "No node publishes devices of the driver gpu.nvidia.com", facts(),
     options(gpus={"dra": True})),
    ("driver", "warning", "gpu-1 has driver 550.90.07, and CUDA 13 of the image needs 580",
     facts(nodes=(node(driver="550.90.07"),)), None),
    ("driver", "error", "gpu-1 has driver 470.82.01", facts(nodes=(node(driver="470.82.01"),)), None),
    ("driver", "unknown", "gpu-1 does not tell the driver", facts(nodes=(node(driver=""),)), None),
    ("driver", "unknown", "Which CUDA the image brings is not known", facts(),
     options(image="registry.example.com/own:1")),
    ("architecture", "warning", "gpu-1 is arm64", facts(nodes=(node(labels={"kubernetes.io/arch": "arm64"}),)), None),
    ("storage-class", "error", "has no default StorageClass", facts(storage_classes=()), None),
    ("storage-class", "error", "There is no StorageClass slow.", facts(), options(storage_class="slow")),
    ("storage-class", "warning", "2 StorageClasses are marked as default; the newest is taken: new",
     facts(storage_classes=(
         storage_class("old"),
         {**storage_class("new"), "metadata": {**storage_class("new")["metadata"],
                                               "creationTimestamp": "2026-01-01T00:00:00Z"}},
     )), None),
    ("storage-class", "error", "makes no volumes that several nodes can mount (EBS",
     facts(storage_classes=(storage_class(provisioner="ebs.csi.aws.com"),)), options(access_mode="ReadWriteMany")),
    ("storage-class", "warning", "maybe in a zone without a free GPU",
     facts(storage_classes=(storage_class(provisioner="ebs.csi.aws.com", volumeBindingMode="Immediate"),),
           nodes=(node(labels={"topology.kubernetes.io/zone": "a"}),
                  node("b", labels={"topology.kubernetes.io/zone": "b"}))), None),
    ("claim", "error", "There is no PersistentVolumeClaim models", facts(),
     options(weights={"uri": "pvc:models#qwen"})),
    ("pod-security", "error", "enforces Pod Security restricted, which refuses pods", facts(),
     options(weights={"uri": "hostpath:/models"}, pod_security="privileged")),
    ("secret", "error", "There is no Secret k with the entry `api-key`.", facts(),
     options(access={"api_key_secret": "k"})),
    ("image-pull-secret", "error", "There is no Secret reg to pull images with.", facts(),
     options(access={"image_pull_secrets": ("reg",)})),
    ("priority-class", "error", "There is no PriorityClass high.", facts(),
     options(scaling={"priority_class": "high"})),
    ("rights", "error", "1 right that deploying needs in llm is missing: patch deployments.apps.",
     facts(rights=Rights(refused=(Right(group="apps", resource="deployments", verb="patch", because="apply"),))), None),
    ("rights-to-look", "warning", "list nodes",
     facts(rights=Rights(refused=(Right(group="", resource="nodes", verb="list", cluster=True, needed=False),))), None),
    ("rights", "unknown", "1 rights could not be asked for",
     facts(rights=Rights(unknown=(Right(group="apps", resource="deployments", verb="patch"),))), None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "level", "words", "cluster", "what"),
    CASES,
    ids=[f"{case[0]}-{index}" for index, case in enumerate(CASES)],
)
def test_what_would_fail_is_said_with_a_way_out(
    code: str, level: str, words: str, cluster: Facts, what: RenderOptions | None
) -> None:
    told = found(cluster, what)
    assert code in told, f"{sorted(told)}"
    assert told[code].level == level, told[code]
    assert words in told[code].message
    assert told[code].hint.endswith((".", ")")) or any(
        word in told[code].hint for word in ("kubectl", "docker")
    )
    assert told[code].message.endswith(".")


def test_every_finding_that_is_not_good_has_a_way_out() -> None:
    for _, _, _, cluster, what in CASES:
        for one in findings_of(cluster, wanted("kubernetes", what)):
            assert one.level == "ok" or one.hint, one


def test_gpus_that_are_missing_end_with_another_code_than_anything_else() -> None:
    short = findings_of(facts(nodes=(node(gpus=1),), storage_classes=()), wanted())
    assert code_of_findings(short) == 4
    assert code_of_findings(findings_of(facts(storage_classes=()), wanted())) == 5
    assert not fits(short)


def test_without_the_right_to_list_pods_what_no_node_could_hold_is_certain_all_the_same() -> None:
    blind = Unread(what="pods", permission="list pods of every namespace")
    assert found(facts(pods=blind))["gpus"].level == "unknown"
    assert found(facts(pods=blind, nodes=(node(gpus=1),)))["gpus"].level == "error"


def test_an_upgrade_with_surge_needs_both_and_says_how_it_goes_without() -> None:
    surging = options(surge=True, access_mode="ReadWriteMany")
    before = wanted(gpu="h200-sxm-141gb")
    mine = own_pod(wanted("kubernetes", surging))
    told = found(facts(nodes=(node(gpus=2),), pods=(mine,)), surging, before)
    assert told["gpus"].level == "error"
    assert "while the old pods still run" in told["gpus"].message
    assert told["gpus"].hint.startswith("Leave --surge out")
    spare = found(facts(nodes=(node(gpus=8),), pods=(mine,)), surging, before)
    assert spare["gpus"].message == "2 of 6 free GPUs on gpu-1"
    still = found(facts(nodes=(node(gpus=2),), pods=(mine,)), None, before)
    assert still["gpus"].message == "2 GPUs on gpu-1, once one old pod ends"


def test_a_taint_in_the_way_is_what_has_to_go() -> None:
    taint = {"key": "team", "value": "b", "effect": "NoSchedule"}
    told = found(facts(nodes=(node() | {"spec": {"taints": [taint]}},)))["gpus"]
    assert told.message.endswith("find no room: a server pod needs 2 GPUs on one node.")
    assert "has the taint team=b:NoSchedule" in told.evidence[0]
    assert told.hint.startswith("Take the taint off the node")


def test_pods_that_wait_for_gpus_too_are_named() -> None:
    told = found(facts(nodes=(node(gpus=1),), pods=(pod("train", "", 8),)))
    assert told["gpus"].evidence[-1] == "waiting for GPUs too: others/train"


def secret(name: str, *keys: str) -> Any:
    fields: Any = {"f:data": {".": {}, **{f"f:{key}": {} for key in keys}}, "f:type": {}}
    return {"metadata": {"name": name, "managedFields": [{"manager": "kubectl-create", "fieldsV1": fields}]}}


def test_entries_of_a_secret_are_known_without_its_data() -> None:
    assert entries(secret("k", "api-key", "other")) == frozenset(("api-key", "other"))
    assert entries({"metadata": {"name": "k"}}) is None
    asked = options(access={"api_key_secret": "k"})
    assert found(facts(secrets=(secret("k", "api-key"),)), asked)["secret"].level == "ok"
    lacking = found(facts(secrets=(secret("k", "key"),)), asked)["secret"]
    assert lacking.message == "Secret k has no entry `api-key`, which is read (it has key)."


def test_a_pull_secret_has_to_be_of_the_type_that_kubelets_read() -> None:
    asked = options(access={"image_pull_secrets": ("reg",)})
    there = secret("reg", ".dockerconfigjson")
    assert found(facts(secrets=(there,), pull_secrets=(there,)), asked)["image-pull-secret"].level == "ok"
    wrong = found(facts(secrets=(there,)), asked)["image-pull-secret"]
    assert "not of the type kubernetes.io/dockerconfigjson" in wrong.message


def test_the_hubs_token_is_missed_only_where_the_repository_asks_for_one() -> None:
    assert "secret" not in found(facts())
    free = wanted()
    licence = free.plan.licence
    assert licence is not None
    gated = replace(free, plan=replace(free.plan, licence=replace(licence, gate="auto")))
    told = [one for one in findings_of(facts(), gated) if one.code == "secret"]
    assert "asks for a token, and there is no Secret hf-token" in told[0].message
    assert not [
        one for one in findings_of(facts(secrets=(secret("hf-token", "token"),)), gated) if not fits((one,))
    ]


def claim(**spec: Any) -> Any:
    item = next(one for one in wanted().objects if one["kind"] == "PersistentVolumeClaim")
    return {"metadata": item["metadata"], "spec": item["spec"] | spec, "status": {"phase": "Bound"}}


def test_a_claim_that_is_there_is_used_again_or_said_to_be_another() -> None:
    def told(item: Any, **more: Any) -> Finding | None:
        return found(facts(claims=(item,), **more)).get("claim")

    assert told(claim()) is None
    small = {"resources": {"requests": {"storage": "10Gi"}}}
    large = told(claim(resources={"requests": {"storage": "900Gi"}}))
    assert large is not None
    assert "cannot shrink" in large.message
    grown = told(claim(**small))
    assert grown is not None
    assert "does not let volumes grow" in grown.message
    growing = (storage_class(allowVolumeExpansion=True),)
    assert told(claim(**small, storageClassName="fast"), storage_classes=growing) is None
    shared = told(claim(accessModes=["ReadWriteMany"]))
    assert shared is not None
    assert "cannot be changed to ReadWriteOnce" in shared.message
    foreign = told(claim() | {"metadata": {"name": claim()["metadata"]["name"]}})
    assert foreign is not None
    assert "is not selfhost's" in foreign.message
    lost = told(claim() | {"status": {"phase": "Lost"}})
    assert lost is not None
    assert "has lost its volume" in lost.message


def quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> Any:
    return {
        "metadata": {"name": "q"},
        "spec": {"hard": hard} | spec,
        "status": {"hard": hard, "used": used or {}},
    }


@pytest.mark.parametrize(
    ("hard", "used", "level"),
    [
        ({"requests.nvidia.com/gpu": "2"}, {}, "ok"),
        ({"requests.nvidia.com/gpu": "2"}, {"requests.nvidia.com/gpu": "1"}, "error"),
        ({"limits.memory": "20Gi"}, {}, "error"), ({"requests.cpu": "9"}, {}, "error"), ({"cpu": "11"}, {}, "ok"),
        ({"pods": "1"}, {}, "error"), ({"count/pods": "2"}, {}, "ok"),
        ({"requests.storage": "10Gi"}, {}, "error"), ({"persistentvolumeclaims": "1"}, {}, "ok"),
        ({"count/deployments.apps": "0"}, {}, "error"), ({"services": "5"}, {"services": "5"}, "error"),
        ({"configmaps": "1"}, {}, "error"), ({"secrets": "0"}, {}, "ok"),
    ],
)  # fmt: skip
def test_a_quota_is_counted_as_the_api_server_counts(
    hard: dict[str, str], used: dict[str, str], level: str
) -> None:
    assert found(facts(quotas=(quota(hard, used),)))["quota"].level == level


def test_a_quota_of_other_pods_is_not_counted() -> None:
    hard = {"requests.nvidia.com/gpu": "0"}
    others = quota(hard, scopes=["BestEffort"])
    selector = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}
    high = quota(hard, scopeSelector=selector)
    assert found(facts(quotas=(others, high)))["quota"].level == "ok"
    asked = options(scaling={"priority_class": "high"})
    assert found(facts(quotas=(high,)), asked)["quota"].level == "error"


def test_old_pods_that_end_first_give_their_part_of_the_quota_back() -> None:
    before, hard = wanted(gpu="h200-sxm-141gb"), {"requests.nvidia.com/gpu": "2"}
    full = quota(hard, {"requests.nvidia.com/gpu": "2"})
    told = found(facts(quotas=(full,), pods=(own_pod(wanted()),)), None, before)
    assert told["quota"].level == "ok"


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"type": "Container", "max": {"memory": "8Gi"}}, "limit of 24.0 GiB memory, at most 8.0 GiB"),
        ({"type": "Container", "min": {"cpu": "10"}}, "asks for 8 cpu, at least 10"),
        ({"type": "Container", "maxLimitRequestRatio": {"cpu": "1"}}, "more than 1 times the request"),
        ({"type": "Pod", "max": {"cpu": "4"}}, "pod server has a limit of 16 cpu, at most 4"),
        ({"type": "Container", "max": {"hugepages-2Mi": "1Gi"}}, "has no limit of hugepages-2Mi"),
        ({"type": "PersistentVolumeClaim", "max": {"storage": "5Gi"}}, "70.0 GiB storage, at most 5.0 GiB"),
        ({"type": "Container", "max": {"cpu": "32"}, "default": {"cpu": "1"}}, ""),
    ],
)  # fmt: skip
def test_a_limit_range_is_kept_or_said(limit: Any, words: str) -> None:
    item = {"metadata": {"name": "r"}, "spec": {"limits": [limit]}}
    told = found(facts(limits=(item,)))["limit-range"]
    assert told.level == ("error" if words else "ok")
    assert any(words in line for line in told.evidence) or not words


def test_names_of_others_and_what_cannot_be_changed() -> None:
    mine = next(one for one in wanted().objects if one["kind"] == "Deployment")
    assert "name" not in found(facts(deployments=(mine,)))
    foreign = {
        "metadata": {"name": mine["metadata"]["name"], "managedFields": [{"manager": "helm"}]},
        "spec": {},
    }
    told = found(facts(deployments=(foreign,)))["name"]
    assert "is not selfhost's (managed by helm)" in told.message
    other = mine | {"spec": mine["spec"] | {"selector": {"matchLabels": {"app": "old"}}}}
    assert found(facts(deployments=(other,)))["selector"].level == "error"


def test_a_service_that_would_take_these_pods_for_its_own_is_named() -> None:
    def service(**selector: str) -> Any:
        return {"metadata": {"name": "all"}, "spec": {"selector": selector}}

    told = found(facts(services=(service(**{"app.kubernetes.io/name": "vllm"}),)))["service"]
    assert told.level == "warning"
    assert "Service all of another owner" in told.message
    assert "service" not in found(facts(services=(service(app="other"), service())))


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (lambda spec: spec.update(hostNetwork=True), "baseline", "hostNetwork"),
        (
            lambda spec: spec["volumes"].append({"name": "v", "hostPath": {"path": "/"}}),
            "baseline",
            "hostPath",
        ),
        (lambda spec: spec["volumes"].append({"name": "v", "nfs": {}}), "restricted", "of a kind"),
        (
            lambda spec: spec["containers"][0]["securityContext"].update(privileged=True),
            "baseline",
            "privileged",
        ),
        (
            lambda spec: spec["containers"][0]["securityContext"].update(runAsUser=0),
            "restricted",
            "runs as root",
        ),
        (lambda spec: spec["containers"][0].pop("securityContext"), "restricted", "may escalate"),
        (lambda spec: None, "restricted", ""),
    ],
)
def test_levels_of_pod_security(change: Callable[[Any], Any], level: str, words: str) -> None:
    import copy

    item = next(one for one in wanted().objects if one["kind"] == "Deployment")
    spec = copy.deepcopy(item["spec"]["template"]["spec"])
    change(spec)
    against = violations(spec, level)
    assert bool(against) == bool(words)
    assert not words or any(words in line for line in against)
    assert violations(spec, "privileged") == ()


def test_releases_are_read_as_vendors_write_them() -> None:
    told = [
        release_of({"gitVersion": text})
        for text in ("v1.33.5-gke.100", "v1.31.2+k3s1", "v0.0.0-master+8e1", "")
    ]
    assert told == [(1, 33), (1, 31), None, None]
    assert release_of({"gitVersion": "v0.0.0-master+8e1", "major": "1", "minor": "36"}) == (1, 36)
    assert release_of({"gitVersion": "", "major": "1", "minor": "30+"}) == (1, 30)


def test_rights_are_exactly_those_of_the_objects_and_of_watching_them() -> None:
    rights = needed(wanted())
    told = {str(right) for right in rights}
    assert {"patch deployments.apps", "create jobs.batch", "delete services", "get pods/log"} <= told
    assert not any("secrets" in right for right in told)
    assert not any("httproutes" in right or "inferenceservices" in right for right in told)
    assert len(rights) == len({(one.group, one.resource, one.verb, one.cluster, one.name) for one in rights})
    gateway = options(access={"expose": "gateway", "gateway": "edge/infra", "host": "a.example.com"})
    assert "patch httproutes.gateway.networking.k8s.io" in {
        str(one) for one in needed(wanted("gateway", gateway))
    }


def test_rules_grant_by_wildcards_and_subresources_and_never_by_the_name_of_one_object() -> None:
    log = Right(group="", resource="pods/log", verb="get")
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    assert granted_by([everything], log)
    assert granted_by([{"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}], log)
    assert not granted_by([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}], log)
    assert not granted_by([everything | {"resourceNames": ["one"]}], log)
    assert not granted_by([everything | {"apiGroups": ["apps"]}], log)


def test_resources_that_need_the_same_verbs_share_a_rule() -> None:
    rights = [
        Right(group="apps", resource=resource, verb=verb)
        for resource in ("deployments", "replicasets")
        for verb in ("list", "watch")
    ]
    assert rules_of(rights) == [
        {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["list", "watch"]}
    ]


def test_checks_are_found_by_their_folder() -> None:
    assert len(checks()) == len(set(checks())) > 10
