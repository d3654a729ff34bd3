"""Everything the checks look at, read once and with few requests; what may not be read is said, never guessed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from selfhost.cluster import Api, Kind, Object, collection_path
from selfhost.cluster.kinds import (
    CLAIM,
    DEPLOYMENT,
    LIMIT_RANGE,
    NODE,
    POD,
    QUOTA,
    SECRET,
    SERVICE,
    STORAGE_CLASS,
)
from selfhost.cluster.types import AbsentError, ApiError, ForbiddenError, Ref
from selfhost.cluster.values import part, parts, text
from selfhost.deploy.preflight.facts import Facts, Read, Served, Unread
from selfhost.deploy.preflight.needs import Needs, needs_of
from selfhost.deploy.preflight.rights import Right, Rights, granted_by, needed
from selfhost.deploy.types import Desired
from selfhost.errors import ClusterError

# Of the 60 that a deployment of one model may cost (its dry-run, applying and waiting take the rest).
MOST_REQUESTS = 15
_RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
_ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# Kubernetes "Aggregated Discovery" (GA in 1.30, on by default since 1.27); older servers answer with the groups alone.
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
PRIORITY_CLASS = Kind(
    api_version="scheduling.k8s.io/v1", name="PriorityClass", plural="priorityclasses", namespaced=False
)
RUNTIME_CLASS = Kind(
    api_version="node.k8s.io/v1", name="RuntimeClass", plural="runtimeclasses", namespaced=False
)
INGRESS_CLASS = Kind(
    api_version="networking.k8s.io/v1", name="IngressClass", plural="ingressclasses", namespaced=False
)
GATEWAY = Kind(api_version="gateway.networking.k8s.io/v1", name="Gateway", plural="gateways")
SLICE = Kind(
    api_version="resource.k8s.io/v1", name="ResourceSlice", plural="resourceslices", namespaced=False
)
DEVICE_CLAIM = Kind(api_version="resource.k8s.io/v1", name="ResourceClaim", plural="resourceclaims")
_Readings: TypeAlias = Iterator[tuple[str, Kind, str, dict[str, str], bool]]


def gather(api: Api, desired: Desired, *, most: int = MOST_REQUESTS) -> Facts:
    """Read a cluster.

    Args:
        api: the cluster.
        desired: what is to be deployed, which decides what is looked at.
        most: requests, reviews of rights that are missing apart: what would be more is left out and said.

    Raises:
        ClusterError: the API server does not answer, or does not accept the credentials.
    """
    begun = len(api.requests)
    wants = needs_of(desired)
    read: dict[str, Any] = {"version": _version(api)}
    read["served"] = _served(api)
    rules, complete = _rules(api, desired.namespace)
    read["namespace"] = _namespace(api, desired.namespace)
    for name, kind, namespace, query, bare in _readings(desired, wants):
        if len(api.requests) - begun >= most:
            read[name] = Unread(what=kind.plural, because=f"{most} requests are used up")
        else:
            read[name] = _list(api, kind, namespace, query, bare)
    rights = _rights(api, desired, rules, complete, read, left=max(0, most - len(api.requests) + begun))
    return Facts(**read, rights=rights, requests=len(api.requests) - begun)


def subject_of(api: Api) -> Object:
    """Who asks: `username` and `groups`, as the server knows them; empty where it does not tell (before 1.28)."""
    body: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        found = api.ask(
            "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body, what="ask who we are"
        )
    except ApiError:
        return {}
    return part(part(found, "status"), "userInfo")


def _readings(desired: Desired, wants: Needs) -> _Readings:
    """What is listed, the most important first: name of the fact, kind, namespace, query, metadata alone."""
    place = desired.namespace
    yield "nodes", NODE, "", {}, False
    yield "pods", POD, "", {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}, False
    yield "quotas", QUOTA, place, {}, False
    yield "limits", LIMIT_RANGE, place, {}, False
    if wants.claims:
        yield "storage_classes", STORAGE_CLASS, "", {}, False
        yield "claims", CLAIM, place, {}, False
    if wants.devices:
        yield "slices", SLICE, "", {}, False
        yield "device_claims", DEVICE_CLAIM, "", {}, False
    if wants.secrets or wants.pull_secrets:
        yield "secrets", SECRET, place, {}, True
    if wants.pull_secrets:
        query = {"fieldSelector": "type=kubernetes.io/dockerconfigjson"}
        yield "pull_secrets", SECRET, place, query, True
    made = {text(item, "kind") for item in desired.objects}
    if DEPLOYMENT.name in made:
        yield "deployments", DEPLOYMENT, place, {}, False
    if wants.priority_classes:
        yield "priority_classes", PRIORITY_CLASS, "", {}, True
    if wants.runtime_classes:
        yield "runtime_classes", RUNTIME_CLASS, "", {}, True
    if wants.ingress:
        yield "ingress_classes", INGRESS_CLASS, "", {}, True
    if wants.gateways:
        yield "gateways", GATEWAY, wants.gateways[0][0] if len(wants.gateways) == 1 else "", {}, True
    if SERVICE.name in made:
        yield "services", SERVICE, place, {}, False


def _version(api: Api) -> Object:
    try:
        return api.ask("GET", "/version", what="ask for the version")
    except ForbiddenError as error:
        if error.status == 401:
            raise
        return {}
    except ApiError:
        return {}


def _served(api: Api) -> Served | None:
    try:
        found = api.ask("GET", "/apis", what="ask which APIs there are", accept=_DISCOVERY)
    except ApiError:
        return None
    versions: dict[str, frozenset[str] | None] = {"v1": None}
    for group in parts(found, "items"):  # APIGroupDiscoveryList
        name = text(part(group, "metadata"), "name")
        for version in parts(group, "versions"):
            plurals = frozenset(text(one, "resource") for one in parts(version, "resources"))
            # an aggregated API that does not answer is listed without its kinds
            versions[f"{name}/{text(version, 'version')}"] = plurals or None
    for group in parts(found, "groups"):  # APIGroupList
        for version in parts(group, "versions"):
            versions[text(version, "groupVersion")] = None
    return Served(versions=versions) if len(versions) > 1 else None


def _namespace(api: Api, name: str) -> Object | Unread | None:
    try:
        return api.get(Ref(api_version="v1", kind="Namespace", namespace="", name=name))
    except ForbiddenError:
        return Unread(what=f"namespace {name}", permission="get namespaces")


def _list(api: Api, kind: Kind, namespace: str, query: dict[str, str], bare: bool) -> Read:
    """Objects in one answer: without a limit the server gives them out of its own cache, whole and up to date."""
    where = f" in {namespace}" if namespace else ""
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" if bare else None
    try:
        found = api.ask(
            "GET",
            collection_path(kind, namespace),
            query=query,
            what=f"list {kind.plural}{where}",
            accept=accept,
        )
    except ForbiddenError:
        spread = "" if namespace or not kind.namespaced else " of every namespace"
        return Unread(what=f"{kind.plural}{where}", permission=f"list {kind.plural}{spread}")
    except AbsentError:
        return ()  # the API is not served: a check of its own says so
    except ApiError as error:
        return Unread(what=f"{kind.plural}{where}", because=error.message)
    return parts(found, "items")


def _rules(api: Api, namespace: str) -> tuple[tuple[Object, ...] | None, bool]:
    """The rules of a SelfSubjectRulesReview, and whether it holds all; None where it cannot be asked for."""
    body: Object = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    try:
        found = api.ask("POST", _RULES, body=body, what="ask which rights there are")
    except ForbiddenError as error:
        if error.status == 401:
            raise
        return None, False
    except ApiError:
        return None, False
    status = part(found, "status")
    return parts(status, "resourceRules"), status.get("incomplete") is not True


def _rights(
    api: Api,
    desired: Desired,
    rules: tuple[Object, ...] | None,
    complete: bool,
    read: dict[str, Any],
    *,
    left: int,
) -> Rights:
    """Granted is what a rule grants; refused only what a review, or an answer, refuses.

    Where the rules are all there are, what they do not grant is asked for right by right: each will be refused, and
    nothing is deployed then, so their number does not count. Where an authorizer keeps its rules to itself (a cloud's
    own), one review asks for everything first, and the others for as many as are left.
    """
    granted: list[Right] = []
    refused: list[Right] = []
    open_ones: list[Right] = []
    for right in needed(desired):
        seen = _seen(right, read)
        if seen is not None:
            (granted if seen else refused).append(right)
        elif rules is not None and not right.cluster and granted_by(rules, right):
            granted.append(right)
        else:
            open_ones.append(right)
    if open_ones and not complete and left > 0:
        everything = Right(group="*", resource="*", verb="*")
        left -= 1
        if _review(api, desired.namespace, everything) is True:
            granted += (right for right in open_ones if not right.cluster)
            open_ones = [right for right in open_ones if right.cluster]
    unknown: list[Right] = []
    for number, right in enumerate(open_ones):
        answer = _review(api, desired.namespace, right) if complete or number < left else None
        (unknown if answer is None else granted if answer else refused).append(right)
    return Rights(
        granted=tuple(granted),
        refused=tuple(refused),
        unknown=tuple(unknown),
        reviewed=rules is not None,
    )


def _seen(right: Right, read: dict[str, Any]) -> bool | None:
    """What reading has shown already: a list that was answered is permitted. None where it was not read."""
    facts = {
        ("nodes", "list", True): "nodes",
        ("pods", "list", True): "pods",
        ("storageclasses", "list", True): "storage_classes",
        ("resourcequotas", "list", False): "quotas",
        ("limitranges", "list", False): "limits",
        ("namespaces", "get", False): "namespace",
    }
    name = facts.get((right.resource, right.verb, right.cluster))
    if right.group not in ("", "storage.k8s.io") or name is None:
        return None
    if name not in read:
        return True  # nothing here needs it
    found = read[name]
    if isinstance(found, Unread):
        return False if found.permission else None
    return True


def _review(api: Api, namespace: str, right: Right) -> bool | None:
    resource, _, subresource = right.resource.partition("/")
    attributes = {"verb": right.verb, "group": right.group, "resource": resource}
    attributes |= {"subresource": subresource} if subresource else {}
    attributes |= {"name": right.name} if right.name else {}
    attributes |= {} if right.cluster else {"namespace": namespace}
    body: Object = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        found = api.ask("POST", _ACCESS, body=body, what=f"ask for the right to {right}")
    except ClusterError:
        return None
    return part(found, "status").get("allowed") is True
