"""What Kubernetes takes where a value of a chart ends up, as JSON Schema: forms of names, quantities, ports, paths.

The forms are those of the API's own validation (apimachinery, pkg/util/validation and pkg/api/resource; core/v1
validation, Kubernetes 1.37, read on 2026-11-26). Patterns keep to what Go's regexp and ECMAScript read alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfhost.manifests.chart.trace import Use

Form = Mapping[str, Any]

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_PREFIX = rf"({_LABEL}(\.{_LABEL})*/)?"
_WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"

DNS_LABEL: Form = {"pattern": f"^{_LABEL}$", "maxLength": 63}
DNS_NAME: Form = {"pattern": rf"^{_LABEL}(\.{_LABEL})*$", "maxLength": 253}
CLASS_NAME: Form = {"pattern": rf"^({_LABEL}(\.{_LABEL})*)?$", "maxLength": 253}  # empty: no class at all
SERVICE_NAME: Form = {"pattern": r"^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
PORT_NAME: Form = {"pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 15}
QUALIFIED: Form = {"pattern": f"^{_PREFIX}{_WORD}$", "maxLength": 317}
LABEL_VALUE: Form = {"pattern": f"^({_WORD})?$", "maxLength": 63}
VARIABLE: Form = {"pattern": r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"}
FILE_KEY: Form = {"pattern": r"^[-._a-zA-Z0-9]+$", "maxLength": 253}
QUANTITY: Form = {"pattern": r"^[0-9]*[1-9][0-9]*(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"}
WHOLE_COUNT: Form = {"pattern": r"^[1-9][0-9]{0,3}$"}
IMAGE: Form = {
    "pattern": r"^[a-z0-9][-a-z0-9._/]*(:[0-9]{1,5}/[-a-z0-9._/]+)?"
    r"(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$",
}
ABSOLUTE: Form = {"pattern": r"^/[^:]*$"}
RELATIVE: Form = {"pattern": r"^[^/]"}
URL_PATH: Form = {"pattern": r"^/[!-~]*$"}
CIDR: Form = {"pattern": r"^[0-9a-fA-F:.]+/[0-9]{1,3}$"}
PORT: Form = {"minimum": 1, "maximum": 65535}
UNPRIVILEGED_PORT: Form = {"minimum": 1024, "maximum": 65535}
SECONDS: Form = {"minimum": 1, "maximum": 2147483647}
FROM_ZERO: Form = {"minimum": 0, "maximum": 2147483647}
USER: Form = {"minimum": 0, "maximum": 2147483647}
GROUP: Form = {"minimum": 0, "maximum": 2147483647}

# Where a value stands (the end of its place) -> what stands there. The longest end that fits decides.
_VALUES: Mapping[str, Form] = {
    "metadata.name": DNS_NAME,
    "metadata.namespace": DNS_LABEL,
    "labels.*": LABEL_VALUE,
    "matchLabels.*": LABEL_VALUE,
    "kubernetes.io/metadata.name": DNS_LABEL,
    "spec.replicas": {"minimum": 0, "maximum": 1000},
    "spec.progressDeadlineSeconds": SECONDS,
    "spec.activeDeadlineSeconds": SECONDS,
    "spec.backoffLimit": {"minimum": 0, "maximum": 100},
    "terminationGracePeriodSeconds": SECONDS,
    "rollingUpdate.maxSurge": {"minimum": 0, "maximum": 1000},
    "rollingUpdate.maxUnavailable": {"minimum": 0, "maximum": 1000},
    "serviceAccountName": DNS_NAME,
    "priorityClassName": DNS_NAME,
    "runtimeClassName": DNS_NAME,
    "storageClassName": CLASS_NAME,
    "imagePullSecrets.[].name": DNS_NAME,
    "restartPolicy": {"enum": ["Always", "OnFailure", "Never"]},
    "topologyKey": QUALIFIED,
    "matchExpressions.[].key": QUALIFIED,
    "matchExpressions.[].values.[]": LABEL_VALUE,
    "tolerations.[].key": QUALIFIED,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "supplementalGroups.[]": GROUP,
    "containers.[].name": DNS_LABEL,
    "initContainers.[].name": DNS_LABEL,
    "image": IMAGE,
    "reference": IMAGE,
    "env.[].name": VARIABLE,
    "secretKeyRef.name": DNS_NAME,
    "secretKeyRef.key": FILE_KEY,
    "ports.[].name": PORT_NAME,
    "containerPort": UNPRIVILEGED_PORT,
    "ports.[].port": PORT,
    "requests.cpu": QUANTITY,
    "limits.cpu": QUANTITY,
    "requests.memory": QUANTITY,
    "limits.memory": QUANTITY,
    "requests.ephemeral-storage": QUANTITY,
    "limits.ephemeral-storage": QUANTITY,
    "requests.storage": QUANTITY,
    "capacity.storage": QUANTITY,
    "sizeLimit": QUANTITY,
    "requests.*": WHOLE_COUNT,
    "limits.*": WHOLE_COUNT,
    "httpGet.path": URL_PATH,
    "httpGet.port": PORT_NAME,
    "periodSeconds": {"minimum": 1, "maximum": 3600},
    "timeoutSeconds": {"minimum": 1, "maximum": 3600},
    "failureThreshold": {"minimum": 1, "maximum": 100000},
    "sleep.seconds": SECONDS,
    "volumeMounts.[].name": DNS_LABEL,
    "mountPath": ABSOLUTE,
    "subPath": RELATIVE,
    "volumes.[].name": DNS_LABEL,
    "claimName": DNS_NAME,
    "claimRef.name": DNS_NAME,
    "claimRef.namespace": DNS_LABEL,
    "hostPath.path": ABSOLUTE,
    "nfs.path": ABSOLUTE,
    "nfs.server": {"minLength": 1, "maxLength": 253},
    "configMap.name": DNS_NAME,
    "secretName": DNS_NAME,
    "items.[].key": FILE_KEY,
    "items.[].path": RELATIVE,
    "claims.[].name": DNS_LABEL,
    "resourceClaims.[].name": DNS_LABEL,
    "resourceClaimTemplateName": DNS_NAME,
    "accessModes.[]": {"enum": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]},
    "ipBlock.cidr": CIDR,
    "podMetricsEndpoints.[].port": PORT_NAME,
    "podMetricsEndpoints.[].path": URL_PATH,
}
# Keys that are values themselves, by the key they stand below.
_KEYS: Mapping[str, Form] = {
    "labels": QUALIFIED,
    "matchLabels": QUALIFIED,
    "annotations": QUALIFIED,
    "data": FILE_KEY,
    "binaryData": FILE_KEY,
    "requests": QUALIFIED,
    "limits": QUALIFIED,
}


def forms(use: Use) -> Iterator[Form]:
    """What a place asks of the value that stands there: nothing, or one form."""
    if use.role == "key":
        above = use.place[-2] if len(use.place) > 1 else ""
        if above in _KEYS:
            yield _KEYS[above]
        return
    if use.role != "value":
        return
    for length in range(len(use.place), 0, -1):
        end = ".".join(use.place[-length:])
        if end in _VALUES:
            yield _VALUES[end]
            return
