"""What an earlier revision had and this one has not goes, once this one serves; under the lock, as all changes."""

from __future__ import annotations

import time
from collections.abc import Callable

from selfhost.cluster import Api, Ref
from selfhost.deploy import revisions
from selfhost.deploy.apply import remove
from selfhost.deploy.desired import refs_of
from selfhost.deploy.lock import held
from selfhost.deploy.types import Desired, Event, Head, Tell

# Ours: a command that applies meanwhile needs seconds, and then supersedes this one.
_WAIT_SECONDS = 120.0
# Weights are expensive to fetch again: they go when somebody says so.
_KEPT = ("PersistentVolumeClaim", "PersistentVolume")


def prune(
    api: Api,
    wanted: Desired,
    head: Head,
    earlier: tuple[Ref, ...],
    tell: Tell,
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> bool:
    """Delete what is no longer wanted and is selfhost's own.

    Args:
        api: the cluster.
        wanted: what serves now.
        head: its revision.
        earlier: objects that earlier revisions may have made.
        tell: hears of it.
        monotonic: a clock that only goes forward, in seconds.

    Returns:
        Whether this is still the newest revision; nothing is deleted where it is not.
    """
    mine = set(refs_of(wanted.objects))
    gone = [ref for ref in earlier if ref not in mine and ref.kind not in _KEPT]
    if not gone:
        return True
    with held(api, wanted.namespace, wanted.name, wait_seconds=_WAIT_SECONDS, monotonic=monotonic) as lock:
        found = revisions.heads(api, wanted.namespace, wanted.name)
        if found and found[0].number > head.number:
            return False
        deleted, foreign = remove(api, gone, wanted.name, before_each=lock.keep)
    for ref in deleted:
        tell(Event(type="prune", message=f"{ref} deleted", facts={"kind": ref.kind, "name": ref.name}))
    for ref in foreign:
        tell(Event(type="note", message=f"{ref} is no longer wanted, but another owner's: left alone"))
    return True
