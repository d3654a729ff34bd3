"""What an explanation needs besides what the watches tell: claims, nodes and who is on them, and the ends of logs.

Read once something looks wrong, as a rollout that goes well never asks for it.
"""

from __future__ import annotations

from dataclasses import replace

from selfhost.cluster import Api, ApiError, Kind, Object, Ref
from selfhost.cluster.kinds import CLAIM, NODE, POD, REPLICA_SET
from selfhost.cluster.values import part, text
from selfhost.deploy.types import INSTANCE_LABEL, LogRef, Snapshot
from selfhost.errors import ClusterError

# Ours: a traceback of an engine's worker and of its server is some 150 lines, and the start-up lines before it count.
TAIL_LINES = 1500
# A pod of one of these phases holds nothing of its node any more.
_ENDED = "status.phase!=Succeeded,status.phase!=Failed"


def gather(api: Api, seen: Snapshot) -> Snapshot:
    """The snapshot with everything that may be read; what may not be stays empty.

    Args:
        api: the cluster.
        seen: what is known already.
    """
    labels = f"{INSTANCE_LABEL}={seen.name}"
    mine = {text(part(pod, "metadata"), "uid") for pod in seen.pods}
    everyone = _list(api, POD, fields=_ENDED)
    full = replace(
        seen,
        claims=_list(api, CLAIM, seen.namespace, labels),
        replica_sets=_list(api, REPLICA_SET, seen.namespace, labels),
        nodes=_list(api, NODE),
        others=tuple(pod for pod in everyone if text(part(pod, "metadata"), "uid") not in mine),
    )
    return replace(full, logs=logs_of(api, full))


def logs_of(api: Api, seen: Snapshot) -> dict[LogRef, str]:
    """The ends of the logs that an explanation asks for; those that cannot be read are left out."""
    from selfhost.deploy.causes import wanted_logs

    found: dict[LogRef, str] = {}
    for wanted in wanted_logs(seen):
        pod = Ref(api_version=POD.api_version, kind=POD.name, namespace=seen.namespace, name=wanted.pod)
        try:
            found[wanted] = api.log(pod, wanted.container, previous=wanted.previous, tail_lines=TAIL_LINES)
        except ClusterError:
            continue
    return found


def _list(
    api: Api, kind: Kind, namespace: str = "", labels: str = "", *, fields: str = ""
) -> tuple[Object, ...]:
    try:
        items = api.list(kind, namespace, labels=labels, fields=fields).items
    except ApiError:
        return ()
    return tuple({"apiVersion": kind.api_version, "kind": kind.name} | item for item in items)
