"""What failed is tried again from the start: what stands in a back-off would not notice that it may work now.

A Job that has given up is made anew, and pods that do not serve are, as a kubelet waits up to five minutes between
two tries (kubelet MaxContainerBackOff, 1.37).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from selfhost.cluster import Api, Ref
from selfhost.cluster.kinds import JOB, POD, ref_of
from selfhost.cluster.types import Kind, Object
from selfhost.cluster.values import part, text
from selfhost.deploy.apply import Tried
from selfhost.deploy.rollout import condition
from selfhost.deploy.types import Desired, is_ours, selector_of


def fresh_start(
    api: Api, wanted: Desired, tried: tuple[Tried, ...], keep: Callable[[], object]
) -> tuple[Tried, ...]:
    """Take away what has given up.

    Args:
        api: the cluster.
        wanted: what is deployed again.
        tried: its dry-run.
        keep: called before each request that changes something.

    Returns:
        The dry-run, as if what was taken away had not been there.
    """
    gone: set[Ref] = set()
    for one in tried:
        if (
            one.ref.kind == JOB.name
            and one.live is not None
            and condition(one.live, "Failed").get("status") == "True"
        ):
            keep()
            api.delete(one.ref, uid=text(part(one.live, "metadata"), "uid"), propagation="Background")
            gone.add(one.ref)
    for pod in _of_kind(api, POD, wanted):
        if (
            condition(pod, "Ready").get("status") != "True"
            and text(part(pod, "status"), "phase") != "Succeeded"
        ):
            keep()
            api.delete(ref_of(pod), uid=text(part(pod, "metadata"), "uid"))
    return tuple(replace(one, live=None) if one.ref in gone else one for one in tried)


def _of_kind(api: Api, kind: Kind, wanted: Desired) -> tuple[Object, ...]:
    found = api.list(kind, wanted.namespace, labels=selector_of(wanted.name)).items
    whole = ({"apiVersion": kind.api_version, "kind": kind.name} | item for item in found)
    return tuple(item for item in whole if is_ours(item, wanted.name))
