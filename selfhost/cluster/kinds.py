"""Kinds of objects that selfhost reads or writes: their plural and whether a namespace holds them.

Of the Kubernetes API 1.37 and of the definitions that the custom resources' projects publish (2026-11); a table instead
of the server's discovery, which would cost a request for each group.
"""

from __future__ import annotations

from selfhost.cluster.types import Kind, Object, Ref
from selfhost.cluster.values import part, text
from selfhost.errors import UnsupportedError

_CORE = "v1"
NAMESPACE = Kind(api_version=_CORE, name="Namespace", plural="namespaces", namespaced=False)
NODE = Kind(api_version=_CORE, name="Node", plural="nodes", namespaced=False)
POD = Kind(api_version=_CORE, name="Pod", plural="pods")
EVENT = Kind(api_version=_CORE, name="Event", plural="events")
CONFIG_MAP = Kind(api_version=_CORE, name="ConfigMap", plural="configmaps")
SECRET = Kind(api_version=_CORE, name="Secret", plural="secrets")
SERVICE = Kind(api_version=_CORE, name="Service", plural="services")
CLAIM = Kind(api_version=_CORE, name="PersistentVolumeClaim", plural="persistentvolumeclaims")
VOLUME = Kind(api_version=_CORE, name="PersistentVolume", plural="persistentvolumes", namespaced=False)
QUOTA = Kind(api_version=_CORE, name="ResourceQuota", plural="resourcequotas")
LIMIT_RANGE = Kind(api_version=_CORE, name="LimitRange", plural="limitranges")
SERVICE_ACCOUNT = Kind(api_version=_CORE, name="ServiceAccount", plural="serviceaccounts")
DEPLOYMENT = Kind(api_version="apps/v1", name="Deployment", plural="deployments")
REPLICA_SET = Kind(api_version="apps/v1", name="ReplicaSet", plural="replicasets")
STATEFUL_SET = Kind(api_version="apps/v1", name="StatefulSet", plural="statefulsets")
DAEMON_SET = Kind(api_version="apps/v1", name="DaemonSet", plural="daemonsets")
JOB = Kind(api_version="batch/v1", name="Job", plural="jobs")
LEASE = Kind(api_version="coordination.k8s.io/v1", name="Lease", plural="leases")
STORAGE_CLASS = Kind(
    api_version="storage.k8s.io/v1", name="StorageClass", plural="storageclasses", namespaced=False
)
DEFINITION = Kind(
    api_version="apiextensions.k8s.io/v1",
    name="CustomResourceDefinition",
    plural="customresourcedefinitions",
    namespaced=False,
)
ROUTE = Kind(api_version="gateway.networking.k8s.io/v1", name="HTTPRoute", plural="httproutes")
LEADER_WORKER_SET = Kind(
    api_version="leaderworkerset.x-k8s.io/v1", name="LeaderWorkerSet", plural="leaderworkersets"
)
INFERENCE_SERVICE = Kind(
    api_version="serving.kserve.io/v1beta1", name="InferenceService", plural="inferenceservices"
)
LLM_INFERENCE_SERVICE = Kind(
    api_version="serving.kserve.io/v1alpha2", name="LLMInferenceService", plural="llminferenceservices"
)

KINDS: tuple[Kind, ...] = (
    NAMESPACE, NODE, POD, EVENT, CONFIG_MAP, SECRET, SERVICE, CLAIM, VOLUME, QUOTA, LIMIT_RANGE, SERVICE_ACCOUNT,
    DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB, LEASE, STORAGE_CLASS, DEFINITION, ROUTE,
    LEADER_WORKER_SET, INFERENCE_SERVICE, LLM_INFERENCE_SERVICE,
    Kind(api_version="networking.k8s.io/v1", name="NetworkPolicy", plural="networkpolicies"),
    Kind(api_version="networking.k8s.io/v1", name="Ingress", plural="ingresses"),
    Kind(api_version="policy/v1", name="PodDisruptionBudget", plural="poddisruptionbudgets"),
    Kind(api_version="autoscaling/v2", name="HorizontalPodAutoscaler", plural="horizontalpodautoscalers"),
    Kind(api_version="rbac.authorization.k8s.io/v1", name="Role", plural="roles"),
    Kind(api_version="rbac.authorization.k8s.io/v1", name="RoleBinding", plural="rolebindings"),
    Kind(api_version="resource.k8s.io/v1", name="ResourceClaimTemplate", plural="resourceclaimtemplates"),
    Kind(api_version="keda.sh/v1alpha1", name="ScaledObject", plural="scaledobjects"),
    Kind(api_version="monitoring.coreos.com/v1", name="PodMonitor", plural="podmonitors"),
    Kind(api_version="monitoring.coreos.com/v1", name="ServiceMonitor", plural="servicemonitors"),
    Kind(api_version="monitoring.coreos.com/v1", name="PrometheusRule", plural="prometheusrules"),
    Kind(api_version="inference.networking.k8s.io/v1", name="InferencePool", plural="inferencepools"),
    Kind(
        api_version="serving.kserve.io/v1alpha2", name="LLMInferenceServiceConfig", plural="llminferenceserviceconfigs"
    ),
)  # fmt: skip
_BY_NAME = {(kind.api_version, kind.name): kind for kind in KINDS}


def kind_of(api_version: str, name: str) -> Kind:
    """The kind of that name.

    Raises:
        UnsupportedError: none that selfhost writes.
    """
    found = _BY_NAME.get((api_version, name))
    if found is None:
        raise UnsupportedError(f"selfhost does not write objects of the kind {name} ({api_version}).")
    return found


def ref_of(item: Object, namespace: str = "") -> Ref:
    """Which object it is.

    Args:
        item: the object.
        namespace: where it goes when it does not say.
    """
    kind = kind_of(text(item, "apiVersion"), text(item, "kind"))
    metadata = part(item, "metadata")
    place = (text(metadata, "namespace") or namespace) if kind.namespaced else ""
    return Ref(api_version=kind.api_version, kind=kind.name, namespace=place, name=text(metadata, "name"))
