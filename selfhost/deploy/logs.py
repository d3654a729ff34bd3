"""What the containers of a deployment have written, and write: which there are, their lines, and why one failed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from selfhost.cluster import Api, Object, Ref, RefusedError
from selfhost.cluster.kinds import DEPLOYMENT, EVENT, JOB, LEADER_WORKER_SET, POD
from selfhost.cluster.types import AbsentError, Kind
from selfhost.cluster.values import part, parts, text, texts
from selfhost.deploy.types import COMPONENT_LABEL, Cause, LogRef, Snapshot, selector_of
from selfhost.errors import ClusterError, SelfhostError

# Ours: an engine that serves nobody is silent for as long as nobody asks it.
_SILENT_SECONDS = 24 * 3600.0
_DOWNLOAD = "download"
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A container's log.

    Args:
        ref: whose, and of which run.
        engine: whose lines they are, as `engine_log` knows them; `pull` of a download.
    """

    ref: LogRef
    engine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A line, or why there is none (`missing`)."""

    source: Source
    line: str = ""
    missing: str = ""


def sources(
    pods: tuple[Object, ...],
    *,
    engine: str,
    previous: bool = False,
    download: bool = False,
    every: bool = False,
) -> tuple[Source, ...]:
    """Which logs to read: of the servers, of the download, or of every container.

    Args:
        pods: of the deployment.
        engine: of its plan.
        previous: of the run before the last restart, where there was one.
        download: of what fetches the weights instead.
        every: init containers and the download too.
    """
    found = []
    for pod in sorted(pods, key=lambda one: text(part(one, "metadata"), "creationTimestamp")):
        metadata, status, spec = part(pod, "metadata"), part(pod, "status"), part(pod, "spec")
        fetches = texts(metadata, "labels").get(COMPONENT_LABEL) == _DOWNLOAD
        if not every and fetches != download:
            continue
        inits = [text(one, "name") for one in parts(spec, "initContainers")] if every else []
        ended = {
            text(one, "name")
            for kind in ("initContainerStatuses", "containerStatuses")
            for one in parts(status, kind)
            if part(part(one, "lastState"), "terminated")
        }
        for name in (*inits, *(text(one, "name") for one in parts(spec, "containers"))):
            if previous and name not in ended:
                continue
            ref = LogRef(pod=text(metadata, "name"), container=name, previous=previous)
            found.append(Source(ref=ref, engine="pull" if fetches else engine))
    return tuple(found)


def read(api: Api, namespace: str, wanted: tuple[Source, ...], tail: int | None) -> Iterator[Written]:
    """The lines of one log after the other.

    Args:
        api: the cluster.
        namespace: of the pods.
        wanted: whose.
        tail: how many lines of each, None for all.

    Raises:
        ClusterError: the credentials do not permit it.
    """
    for one in wanted:
        try:
            told = api.log(
                _pod(namespace, one.ref), one.ref.container, previous=one.ref.previous, tail_lines=tail
            )
        except (RefusedError, AbsentError) as error:
            yield Written(source=one, missing=error.message)
            continue
        for line in told.splitlines():
            yield Written(source=one, line=line)


def follow(api: Api, namespace: str, wanted: tuple[Source, ...], tail: int | None) -> Iterator[Written]:
    """Lines of several logs as they come, until every container has ended; a thread for each."""
    came: queue.SimpleQueue[Written | None] = queue.SimpleQueue()

    def run(one: Source) -> None:
        try:
            ref = _pod(namespace, one.ref)
            lines = api.follow_log(ref, one.ref.container, tail_lines=tail, seconds=_SILENT_SECONDS)
            for line in lines:
                came.put(Written(source=one, line=line))
        except (ClusterError, OSError, ValueError) as error:
            came.put(
                Written(source=one, missing=error.message if isinstance(error, ClusterError) else str(error))
            )
        finally:
            came.put(None)

    for one in wanted:
        threading.Thread(target=run, args=(one,), name=f"log-{one.ref.pod}", daemon=True).start()
    left = len(wanted)
    while left:
        try:
            found = came.get(timeout=_LOOK_SECONDS)  # a bounded wait lets Ctrl-C through
        except queue.Empty:
            continue
        if found is None:
            left -= 1
        else:
            yield found


def known_of(api: Api, namespace: str, name: str, *, now: Callable[[], float] = time.time) -> Snapshot:
    """What there is of a deployment, its plan from the newest revision where one is kept.

    Raises:
        ClusterError: it cannot be had.
    """
    from selfhost.deploy.revisions import heads, load

    labels = selector_of(name)
    found = heads(api, namespace, name)
    kept = None
    if found:
        try:
            kept = load(api, found[0]).desired
        except SelfhostError:
            kept = None  # of another release of selfhost: the logs are there all the same
    workloads = (*_all(api, DEPLOYMENT, namespace, labels), *_all(api, LEADER_WORKER_SET, namespace, labels))
    return Snapshot(
        name=name,
        namespace=namespace,
        now=now(),
        plan=kept.plan if kept else None,
        pods=_all(api, POD, namespace, labels),
        workloads=workloads,
        objects=kept.objects if kept else (),
    )


def why(api: Api, seen: Snapshot) -> Cause | None:
    """The cause of a failure, None where nothing has failed."""
    from dataclasses import replace

    from selfhost.deploy.causes import explain
    from selfhost.deploy.evidence import gather

    whole = replace(
        seen,
        jobs=_all(api, JOB, seen.namespace, selector_of(seen.name)),
        events=_all(api, EVENT, seen.namespace, ""),
    )
    causes = explain(whole)
    if not causes:
        return None
    causes = explain(gather(api, whole))
    return causes[0] if causes else None


def _pod(namespace: str, ref: LogRef) -> Ref:
    return Ref(api_version=POD.api_version, kind=POD.name, namespace=namespace, name=ref.pod)


def _all(api: Api, kind: Kind, namespace: str, labels: str) -> tuple[Object, ...]:
    try:
        return api.list(kind, namespace, labels=labels).items
    except AbsentError:  # the cluster has no such kind
        return ()
