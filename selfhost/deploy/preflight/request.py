"""The roles that are missing, as YAML that can be sent to an administrator: exactly what is needed and not there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from selfhost.cluster.types import Object
from selfhost.cluster.values import printable, text
from selfhost.deploy.preflight.rights import Right

_RBAC = "rbac.authorization.k8s.io/v1"
_GROUP = "rbac.authorization.k8s.io"
_ACCOUNT = "system:serviceaccount:"


def request(rights: Sequence[Right], *, namespace: str, name: str, subject: Object) -> str:
    """Role and RoleBinding, and ClusterRole and ClusterRoleBinding where something of the whole cluster is read.

    Args:
        rights: that are missing.
        namespace: of the deployment.
        name: of the deployment.
        subject: `username` and `groups` of whoever asks.

    Returns:
        YAML; empty where nothing is missing.
    """
    import yaml

    who = _subject(subject)
    objects: list[dict[str, Any]] = []
    for cluster in (False, True):
        wanted = [right for right in rights if right.cluster is cluster]
        if wanted:
            objects += _pair(wanted, who, namespace=namespace, name=name, cluster=cluster)
    if not objects:
        return ""
    asked = printable(text(subject, "username")) or "the user that is named below"
    head = (
        f"# Rights that selfhost needs to deploy {name} in the namespace {namespace}, and that {asked}\n"
        "# does not have. Nothing else is asked for; the Secrets of the namespace are not among it.\n"
        "# To be applied by an administrator: kubectl apply -f FILE\n"
    )
    return head + yaml.safe_dump_all(objects, sort_keys=False, explicit_start=True)


def rules_of(rights: Iterable[Right]) -> list[dict[str, Any]]:
    """Rules with the fewest lines: resources of a group that need the same verbs stand together."""
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for right in rights:
        verbs.setdefault((right.group, right.resource, right.name), []).append(right.verb)
    together: dict[tuple[str, tuple[str, ...], str], list[str]] = {}
    for (group, resource, name), several in verbs.items():
        together.setdefault((group, tuple(dict.fromkeys(several)), name), []).append(resource)
    return [
        {"apiGroups": [group], "resources": resources}
        | ({"resourceNames": [name]} if name else {})
        | {"verbs": list(several)}
        for (group, several, name), resources in together.items()
    ]


def _pair(
    rights: list[Right], who: dict[str, Any], *, namespace: str, name: str, cluster: bool
) -> list[dict[str, Any]]:
    kind = "ClusterRole" if cluster else "Role"
    called = f"selfhost-{namespace}-{name}" if cluster else f"selfhost-{name}"
    metadata = {"name": called} | ({} if cluster else {"namespace": namespace})
    return [
        {"apiVersion": _RBAC, "kind": kind, "metadata": metadata, "rules": rules_of(rights)},
        {
            "apiVersion": _RBAC,
            "kind": f"{kind}Binding",
            "metadata": dict(metadata),
            "roleRef": {"apiGroup": _GROUP, "kind": kind, "name": called},
            "subjects": [who],
        },
    ]


def _subject(given: Object) -> dict[str, Any]:
    user = text(given, "username") or "USER"
    if user.startswith(_ACCOUNT) and user.count(":") == 3:
        _, _, place, account = user.split(":")
        return {"kind": "ServiceAccount", "name": account, "namespace": place}
    return {"apiGroup": _GROUP, "kind": "User", "name": user}
