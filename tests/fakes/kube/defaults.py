"""What the API server fills in where an object says nothing (pkg/apis/*/v1/defaults.go of Kubernetes 1.36)."""

from __future__ import annotations

import uuid
from typing import Any

from tests.fakes.kube.kinds import Kind, Shape, own_kinds, shape_of
from tests.fakes.kube.wire import Object, at, clone, quantity

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def defaulted(kind: Kind, item: Object) -> Object:
    """An object with its defaults; its own is left as it is."""
    made = clone(item)
    own = kind in own_kinds()
    maker = _MAKERS.get(kind.name) if own else None
    if not own:
        _schema_defaults(made, shape_of(kind))
    elif maker is not None and at(made, "spec") is not None:
        maker(made, made["spec"])
    elif kind.name == "Secret":
        made["data"] = (made.get("data") or {}) | _encoded(made.pop("stringData", None) or {})
        made.setdefault("type", "Opaque")
        if not made["data"]:
            del made["data"]
    elif kind.name == "StorageClass":
        made.setdefault("reclaimPolicy", "Delete")
        made.setdefault("volumeBindingMode", "Immediate")
    elif kind.name == "Namespace":
        made["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = made["metadata"]["name"]
    elif kind.name == "LimitRange":
        for limit in at(made, "spec", "limits") or ():
            _limit(limit)
    return tidy(made, shape_of(kind)) if own else made


def tidy(item: Object, shape: Shape) -> Object:
    """Less the lists and maps that are empty: Go leaves them out (omitempty)."""
    result = {}
    for name, value in item.items():
        below = shape.field(name)
        if value == [] or (value == {} and below is not None and below.free):
            continue
        result[name] = _tidied(value, below) if below is not None else value
    return result


def _tidied(value: Any, shape: Shape) -> Any:
    if isinstance(value, dict):
        return tidy(value, shape)
    if isinstance(value, list):
        inner = shape.item()
        return [_tidied(one, inner) for one in value]
    return value


def _limit(limit: Object) -> None:
    """Of a LimitRange: what is given unasked follows from what is allowed."""
    if limit.get("type") != "Container":
        return
    given = (limit.get("max") or {}) | (limit.get("default") or {})
    asked = (limit.get("min") or {}) | given | (limit.get("defaultRequest") or {})
    limit |= {"default": given} if given else {}
    limit |= {"defaultRequest": asked} if asked else {}


def _encoded(texts: dict[str, str]) -> dict[str, str]:
    import base64

    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}


def _schema_defaults(value: Any, shape: Shape) -> None:
    """Those that stand in a definition's schema."""
    if isinstance(value, dict):
        for name, default in shape.defaults.items():
            value.setdefault(name, clone(default))
        for name, inner in value.items():
            below = shape.field(name)
            if below is not None and name != "metadata":
                _schema_defaults(inner, below)
    elif isinstance(value, list):
        for one in value:
            _schema_defaults(one, shape.item())


def _set(place: Object, **values: Any) -> None:
    for name, value in values.items():
        if place.get(name) is None:
            place[name] = value


def pod_spec(spec: Object) -> None:
    """Of a pod or a template of pods."""
    _set(spec, restartPolicy="Always", terminationGracePeriodSeconds=30, dnsPolicy="ClusterFirst")
    _set(spec, securityContext={}, schedulerName="default-scheduler")
    if spec.get("serviceAccountName") and not spec.get("serviceAccount"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif spec.get("serviceAccount") and not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for one in spec.get(name) or ():
            _container(one)
    for volume in spec.get("volumes") or ():
        _volume(volume)


def _container(one: Object) -> None:
    image = str(one.get("image") or "")
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    latest = tag == "latest" or (not tag and "@" not in image)
    _set(one, resources={}, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    _set(one, imagePullPolicy="Always" if latest else "IfNotPresent")
    for port in one.get("ports") or ():
        _set(port, protocol="TCP")
    for name in _PROBES:
        probe = one.get(name)
        if probe is not None:
            _set(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _http(probe)
            if "grpc" in probe:
                _set(probe["grpc"], service="")
    for hook in (one.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _http(hook)
    for variable in one.get("env") or ():
        reference = at(variable, "valueFrom", "fieldRef")
        if reference is not None:
            _set(reference, apiVersion="v1")
    for kind in ("limits", "requests"):
        found = at(one, "resources", kind)
        if found:
            one["resources"][kind] = {name: str(value) for name, value in found.items()}


def _http(place: Object) -> None:
    if place.get("httpGet") is not None:
        _set(place["httpGet"], path="/", scheme="HTTP")


def _volume(volume: Object) -> None:
    for name in ("configMap", "secret", "downwardAPI", "projected"):
        if volume.get(name) is not None:
            _set(volume[name], defaultMode=420)
    if volume.get("hostPath") is not None:
        _set(volume["hostPath"], type="")
    for source in at(volume, "projected", "sources") or ():
        if source.get("serviceAccountToken") is not None:
            _set(source["serviceAccountToken"], expirationSeconds=3600)
    for one in at(volume, "downwardAPI", "items") or ():
        if one.get("fieldRef") is not None:
            _set(one["fieldRef"], apiVersion="v1")
    image = volume.get("image")
    if image is not None:
        reference = str(image.get("reference") or "")
        latest = reference.endswith(":latest") or ":" not in reference.rpartition("/")[2]
        _set(image, pullPolicy="Always" if latest else "IfNotPresent")
    claim = at(volume, "ephemeral", "volumeClaimTemplate", "spec")
    if claim is not None:
        _set(claim, volumeMode="Filesystem")
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}


def _template(spec: Object) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    pod_spec(template.setdefault("spec", {}))


def _deployment(_: Object, spec: Object) -> None:
    _template(spec)
    _set(spec, replicas=1, strategy={}, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    _set(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        _set(spec["strategy"], rollingUpdate={})
        _set(spec["strategy"]["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")


def _replica_set(_: Object, spec: Object) -> None:
    _template(spec)
    _set(spec, replicas=1)


def _stateful_set(_: Object, spec: Object) -> None:
    _template(spec)
    _set(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady", updateStrategy={})
    _set(spec["updateStrategy"], type="RollingUpdate")
    _set(spec, persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Retain"})
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        _set(spec["updateStrategy"], rollingUpdate={"partition": 0})


def _daemon_set(item: Object, spec: Object) -> None:
    _template(spec)
    item["metadata"].setdefault("annotations", {}).setdefault("deprecated.daemonset.template.generation", "1")
    _set(spec, revisionHistoryLimit=10, updateStrategy={})
    _set(spec["updateStrategy"], type="RollingUpdate")
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        _set(spec["updateStrategy"], rollingUpdate={"maxUnavailable": 1, "maxSurge": 0})


def _job(item: Object, spec: Object) -> None:
    _template(spec)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        _set(spec, completions=1)
    _set(spec, parallelism=1, completionMode="NonIndexed", suspend=False, manualSelector=False)
    _set(spec, backoffLimit=6, podReplacementPolicy="TerminatingOrFailed")


def _service(item: Object, spec: Object) -> None:
    _set(spec, type="ClusterIP", sessionAffinity="None")
    for port in spec.get("ports") or ():
        _set(port, protocol="TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port["port"]
    if spec["type"] != "ExternalName":
        _set(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
        if not spec.get("clusterIP"):
            number = uuid.uuid4().int
            spec["clusterIP"] = f"10.0.{number % 250 + 1}.{number // 256 % 250 + 1}"
        _set(spec, clusterIPs=[spec["clusterIP"]])


def _claim(item: Object, spec: Object) -> None:
    _set(spec, volumeMode="Filesystem")


def _persistent_volume(item: Object, spec: Object) -> None:
    _set(spec, persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")


def _pod(item: Object, spec: Object) -> None:
    pod_spec(spec)
    _set(spec, enableServiceLinks=True)
    for one in [*(spec.get("initContainers") or ()), *spec.get("containers", ())]:
        limits = at(one, "resources", "limits") or {}
        if limits:
            one["resources"]["requests"] = limits | (one["resources"].get("requests") or {})
    _set(item.setdefault("status", {}), phase="Pending")
    for one in item["status"].get("conditions") or ():
        one.setdefault("lastProbeTime", None)
        one.setdefault("lastTransitionTime", None)


def quality(spec: Object) -> str:
    """Quality of service (pkg/apis/core/v1/helper/qos)."""
    given, guaranteed = False, True
    for one in [*(spec.get("initContainers") or ()), *spec.get("containers", ())]:
        limits, requests = (at(one, "resources", name) or {} for name in ("limits", "requests"))
        for name in ("cpu", "memory"):
            given = given or name in limits or name in requests
            equal = name in limits and quantity(limits[name]) == quantity(requests.get(name, 0))
            guaranteed = guaranteed and equal
    return "BestEffort" if not given else "Guaranteed" if guaranteed else "Burstable"


def _policy(_: Object, spec: Object) -> None:
    _set(spec, policyTypes=["Ingress", "Egress"] if spec.get("egress") is not None else ["Ingress"])
    for rule in [*(spec.get("ingress") or ()), *(spec.get("egress") or ())]:
        for port in rule.get("ports") or ():
            _set(port, protocol="TCP")


def _autoscaler(_: Object, spec: Object) -> None:
    _set(spec, minReplicas=1)


_MAKERS = {
    "Deployment": _deployment, "ReplicaSet": _replica_set, "StatefulSet": _stateful_set, "DaemonSet": _daemon_set,
    "Job": _job, "Service": _service, "PersistentVolumeClaim": _claim, "PersistentVolume": _persistent_volume,
    "Pod": _pod, "NetworkPolicy": _policy, "HorizontalPodAutoscaler": _autoscaler,
}  # fmt: skip
