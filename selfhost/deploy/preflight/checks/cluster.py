"""The cluster itself: its release against what the objects use, and whether every kind of them is served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from selfhost.cluster.kinds import kind_of
from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text
from selfhost.deploy.preflight.facts import Look, Unread
from selfhost.deploy.preflight.needs import pod_specs
from selfhost.deploy.types import Finding

# Releases whose APIs the manifests are checked against (tests/), and the newest that is known (2026-11).
OLDEST, NEWEST = (1, 29), (1, 37)
_RELEASE = re.compile(r"v?(\d{1,3})\.(\d{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What a pod uses and which release brought it, on by default.

    Stages: kubernetes.io, Feature Gates in Kubernetes v1.37 (a stored copy, read 2026-11-26).
    """

    what: str
    since: tuple[int, int]
    hint: str
    source: str


_SLEEP = Feature(
    what="the pre-stop pause (lifecycle.preStop.sleep)",
    since=(1, 30),
    hint="Upgrade the cluster: without the pause requests are lost whenever a pod ends.",
    source="KEP-3960, gate PodLifecycleSleepAction: on since 1.30, stable in 1.34",
)
_IMAGE = Feature(
    what="the image volume of the weights",
    since=(1, 35),
    hint="Take another source of weights (--weights), or turn the gate ImageVolume on.",
    source="KEP-4639, gate ImageVolume: beta in 1.33, on since 1.35, stable in 1.36",
)
_CLAIMS = Feature(
    what="the device claims (--dra)",
    since=(1, 34),
    hint="Leave --dra out: GPUs are then counted as an extended resource.",
    source="KEP-4381, gate DynamicResourceAllocation: stable and on since 1.34",
)
# API group -> what has to be installed, and how it is done without.
_OPTIONS = {
    "monitoring.coreos.com/PodMonitor": ("the Prometheus operator", "--no-pod-monitor leaves it out"),
    "monitoring.coreos.com/PrometheusRule": ("the Prometheus operator", "--no-rules leaves it out"),
    "monitoring.coreos.com/ServiceMonitor": ("the Prometheus operator", "--no-pod-monitor leaves it out"),
    "keda.sh/ScaledObject": ("KEDA", "--autoscale hpa, or no --autoscale, does without"),
    "gateway.networking.k8s.io/HTTPRoute": ("the Gateway API", "--expose ingress, or none, does without"),
    "inference.networking.k8s.io/InferencePool": (
        "the Gateway API Inference Extension",
        "--target kubernetes does without",
    ),
    "leaderworkerset.x-k8s.io/LeaderWorkerSet": (
        "LeaderWorkerSet (kubernetes-sigs/lws)",
        "--target kubernetes does without, on one node",
    ),
    "serving.kserve.io/InferenceService": ("KServe", "--target kubernetes does without"),
    "serving.kserve.io/LLMInferenceService": ("KServe", "--kserve-kind InferenceService does without"),
    "serving.kserve.io/LLMInferenceServiceConfig": ("KServe", "--kserve-kind InferenceService does without"),
    "resource.k8s.io/ResourceClaimTemplate": ("Kubernetes 1.34", "leave --dra out"),
}


def release_of(version: Object) -> tuple[int, int] | None:
    """Major and minor number of a release; None where it has none.

    Builds of a checkout say v0.0.0-master and the release in `major` and `minor`, which some clouds end with a plus.
    """
    told = f"v{text(version, 'major')}.{text(version, 'minor')}"
    for words in (text(version, "gitVersion"), told):
        found = _RELEASE.match(words)
        if found is not None and int(found[1]):
            return int(found[1]), int(found[2])
    return None


def release(look: Look) -> Iterator[Finding]:
    """Whether the cluster's release has what the pods use."""
    found = release_of(look.facts.version)
    if found is None:
        yield Finding(
            code="cluster",
            level="unknown",
            message="The cluster does not tell its release.",
            hint="The dry-run shows whether it takes the objects; `kubectl version` asks in the same way.",
            evidence=(f"API server {text(look.facts.version, 'gitVersion') or 'without a version'}",),
        )
        return
    name = ".".join(map(str, found))
    evidence = (f"API server {text(look.facts.version, 'gitVersion') or name}",)
    wrong = False
    if found < OLDEST:
        yield Finding(
            code="cluster",
            level="error",
            message=f"Kubernetes {name} is older than {OLDEST[0]}.{OLDEST[1]}, the oldest that is rendered for.",
            hint="Upgrade the cluster.",
            evidence=evidence,
        )
        return
    for feature in _used(look):
        if found < feature.since:
            wrong = True
            yield Finding(
                code="cluster",
                level="error",
                message=f"Kubernetes {name} lacks {feature.what}: it is of {feature.since[0]}.{feature.since[1]}.",
                hint=feature.hint,
                evidence=(*evidence, feature.source),
            )
    if found > NEWEST:
        yield Finding(
            code="cluster",
            level="warning",
            message=f"Kubernetes {name} is newer than {NEWEST[0]}.{NEWEST[1]}, the newest that selfhost knows.",
            hint="The dry-run shows whether it takes the objects; a newer selfhost may know it.",
            evidence=evidence,
        )
    yield from _kubelets(look, found)
    if not wrong:
        yield Finding(code="cluster", level="ok", message=f"cluster {name}", evidence=evidence)


def _used(look: Look) -> Iterator[Feature]:
    specs = [spec for item in look.desired.objects for spec in pod_specs(item)]
    containers = [one for spec in specs for one in parts(spec, "containers")]
    if any(part(part(part(one, "lifecycle"), "preStop"), "sleep") for one in containers):
        yield _SLEEP
    if any("image" in volume for spec in specs for volume in parts(spec, "volumes")):
        yield _IMAGE
    if any(text(item, "kind") == "ResourceClaimTemplate" for item in look.desired.objects):
        yield _CLAIMS


def _kubelets(look: Look, server: tuple[int, int]) -> Iterator[Finding]:
    """Kubelets may be three releases older than the API server (version skew policy), and run the pods' features."""
    if isinstance(look.facts.nodes, Unread):
        return
    needs = [feature for feature in _used(look) if feature.since <= server]
    for feature in needs:
        old = []
        for node in look.facts.nodes:
            told = text(part(part(node, "status"), "nodeInfo"), "kubeletVersion")
            found = release_of({"gitVersion": told})
            if found is not None and found < feature.since:
                old.append(f"{text(part(node, 'metadata'), 'name')}: kubelet {told}")
        if old:
            yield Finding(
                code="kubelet",
                level="warning",
                message=f"{len(old)} of {len(look.facts.nodes)} nodes have a kubelet older than {feature.what} "
                f"({feature.since[0]}.{feature.since[1]}).",
                hint="Upgrade these nodes, or keep the pods away from them.",
                evidence=tuple(old[:5]),
            )


def kinds(look: Look) -> Iterator[Finding]:
    """Whether every kind of the objects is served."""
    served = look.facts.served
    if served is None:
        yield Finding(
            code="apis",
            level="unknown",
            message="The API server does not tell which APIs it has.",
            hint="The dry-run shows it; `kubectl api-resources` asks in the same way.",
        )
        return
    missing: dict[str, tuple[str, str]] = {}
    for item in look.desired.objects:
        kind = kind_of(text(item, "apiVersion"), text(item, "kind"))
        if not served.has(kind.api_version, kind.plural):
            missing[f"{kind.group}/{kind.name}"] = (kind.api_version, kind.group)
    for name, (api_version, group) in missing.items():
        short = name.partition("/")[2]
        what, without = _OPTIONS.get(name, ("the API", "render for another target"))
        others = served.of_group(group) if group else ()
        kept = [version for version in others if (served.versions[version] or frozenset())]
        told = f" (it has {', '.join(others)})" if kept and api_version not in served.versions else ""
        yield Finding(
            code="apis",
            level="error",
            message=f"The cluster does not know {short} ({api_version}){told}.",
            hint=f"Install {what}, or {without}."
            if not without.startswith("--")
            else f"Install {what}; {without}.",
        )
    if not missing:
        yield Finding(code="apis", level="ok", message="APIs")


CHECKS = (release, kinds)
