"""Back to an earlier revision, from what the cluster keeps alone: no files, no plan, no templates of today."""

from __future__ import annotations

from selfhost.cluster import Api
from selfhost.deploy import revisions
from selfhost.deploy.scale import refuse_blocked
from selfhost.deploy.types import Desired, Head, Revision, Tell
from selfhost.deploy.upgrade import back
from selfhost.errors import ClusterError, UsageError

_SERVED = ("deployed", "superseded")  # states of revisions that were ready once


def deployed(api: Api, namespace: str, name: str) -> tuple[tuple[Head, ...], Revision]:
    """Every revision of a deployment, and the one that was deployed last.

    Raises:
        ClusterError: there is none.
    """
    found = revisions.heads(api, namespace, name)
    good = next((head for head in found if head.state == "deployed"), None)
    if good is not None:
        return found, revisions.load(api, good)
    if found:
        raise ClusterError(
            f"{name} was never ready in namespace {namespace}: revision {found[0].number} is {found[0].state}.",
            hint="`selfhost deploy PLAN` goes on with it.",
        )
    raise nothing_there(api, namespace, name)


def nothing_there(api: Api, namespace: str, name: str) -> ClusterError:
    """That there is no such deployment, and which there are."""
    others = sorted({head.name for head in revisions.heads(api, namespace)})
    there = (
        f"There are: {', '.join(others[:10])}."
        if others
        else "Nothing of selfhost is there; -n names another."
    )
    return ClusterError(f"There is no deployment {name} in namespace {namespace}.", hint=there)


def choose(found: tuple[Head, ...], number: int | None) -> Head:
    """The revision to go back to.

    Args:
        found: revisions of one deployment, the newest first.
        number: which; None for the last that was deployed before the newest.

    Raises:
        UsageError: there is no such revision, or none before.
    """
    name = found[0].name
    if number is None:
        # what differs from the newest: to go back to the same would change nothing
        for head in found[1:]:
            if head.state in _SERVED and head.hash != found[0].hash:
                return head
        raise UsageError(
            f"No revision of {name} before {found[0].number} was ready, or none is kept.",
            hint=f"`selfhost rollback {name} --list` shows what there is.",
        )
    for head in found:
        if head.number == number:
            return head
    kept = ", ".join(str(head.number) for head in found)
    raise UsageError(f"Revision {number} of {name} is not kept.", hint=f"Kept are: {kept}.")


def wanted_of(api: Api, found: tuple[Head, ...], head: Head, tell: Tell = lambda _: None) -> Desired:
    """What a revision had on the cluster, as it is to be there again.

    Args:
        api: the cluster.
        found: every revision, the newest first.
        head: which.
        tell: hears how its pods come back, where that is decided now.

    Raises:
        UsageError: Kubernetes does not change it back in place.
        SelfhostError: it cannot be read.
    """
    wanted = revisions.load(api, head).desired
    now = next((one for one in found if one.state == "deployed"), None)
    before = revisions.load(api, now).desired if now is not None and now.number != head.number else None
    if before is not None:
        refuse_blocked(before, wanted, f"Revision {head.number}")
    there, room = back(api, before, wanted)
    if room is not None:
        tell(room.event())
    return there
