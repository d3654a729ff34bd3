"""One deployment as it is: plan against running, version, memory, health, and why it is not ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from selfhost.cluster import Api, ApiError, Object
from selfhost.cluster.kinds import EVENT, ref_of
from selfhost.cluster.values import part, parts, printable, text, whole
from selfhost.deploy.drift import Drift, drift
from selfhost.deploy.figures import MemoryFigures
from selfhost.deploy.overview import Row, Seen, near, rows, see
from selfhost.deploy.pod_words import PodLine, pod_line, unix
from selfhost.deploy.revisions import load
from selfhost.deploy.rollout import is_new
from selfhost.deploy.smoke_run import is_ready
from selfhost.deploy.types import Cause, Finding, Head, Revision, Snapshot
from selfhost.errors import ClusterError, SelfhostError
from selfhost.hush import hushed

LAST_EVENTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """An event: what Kubernetes or one of its controllers did or could not do."""

    at: float | None
    warning: bool
    reason: str
    about: str
    message: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What runs against what was planned.

    Args:
        planned: image of the plan, empty where there is no plan.
        running: image -> pods that serve with it.
        old: pods that are not of the newest revision.
    """

    planned: str = ""
    running: dict[str, tuple[str, ...]] = field(default_factory=dict)
    old: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A deployment as it is.

    Args:
        row: in a line.
        head: the newest revision, None for what was applied by other means.
        running: the revision that it is compared with: the newest, or, where that failed, the last that was deployed.
        pods: of it.
        versions: planned against running.
        drift: fields that are not as deployed.
        memory: of its engines next to the plan, by pod.
        findings: of the monitors.
        causes: why it is not ready, the most certain first.
        endpoints: addresses.
        events: the last.
        notes: what could not be looked at.
    """

    row: Row
    head: Head | None
    running: Revision | None
    pods: tuple[PodLine, ...]
    versions: Versions
    drift: tuple[Drift, ...] = ()
    memory: tuple[tuple[str, MemoryFigures], ...] = ()
    findings: tuple[Finding, ...] = ()
    causes: tuple[Cause, ...] = ()
    endpoints: tuple[str, ...] = ()
    events: tuple[EventLine, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether something is not as it was deployed."""
        return any(one.what != "unknown" for one in self.drift)

    @property
    def healthy(self) -> bool:
        """Whether it serves as it should. What is paused does, by somebody's wish."""
        wrong = self.causes or any(one.level == "error" for one in self.findings)
        return not wrong and (self.row.well or (self.row.paused and self.row.state in ("", "deployed")))


def status(
    api: Api,
    namespace: str,
    name: str,
    *,
    monitors: bool = True,
    now: Callable[[], float] = time.time,
) -> Status:
    """Look at a deployment.

    Args:
        api: the cluster.
        namespace: where it is.
        name: of it.
        monitors: whether engines and the nodes' monitors are asked.
        now: Unix time.

    Raises:
        ClusterError: there is none of that name, or it cannot be read.
    """
    seen = see(api, namespace, name)
    row = next((one for one in rows(seen) if one.name == name), None)
    if row is None:
        raise absent(api, namespace, name)
    head = seen.heads[0] if seen.heads else None
    notes: list[str] = []
    running = _running(api, seen, notes)
    if running is None:
        return Status(
            row=row, head=head, running=None, pods=tuple(map(pod_line, seen.pods)), versions=_versions(seen, None),
            notes=(*notes, "no revision is kept of it: nothing to compare with"),
        )  # fmt: skip
    with ThreadPoolExecutor(4, thread_name_prefix="status") as pool:
        drifting = pool.submit(drift, api, running.desired)
        told = pool.submit(_events, api, namespace)
        checked = pool.submit(_health, api, running, seen, monitors, now())
        events = told.result()
        causes = _causes(api, row, running, seen, events, now())
        findings, memory = checked.result()
        return Status(
            row=row,
            head=head,
            running=running,
            pods=tuple(map(pod_line, seen.pods)),
            versions=_versions(seen, running),
            drift=drifting.result(),
            memory=memory,
            findings=findings,
            causes=causes,
            endpoints=endpoints(running.desired.objects),
            events=last_events(events, running.desired.objects, seen.pods),
            notes=tuple(notes),
        )


def absent(api: Api, namespace: str, name: str) -> ClusterError:
    """There is none of that name; what may have been meant."""
    found = rows(see(api, namespace))
    meant = near(name, (one.name for one in found))
    names = ", ".join(one.name for one in found[:8])
    hint = f"Did you mean {meant}?" if meant else f"There are {names}." if names else None
    return ClusterError(
        f"There is no deployment {name} in the namespace {namespace}.",
        hint=hint or "`selfhost status --all-namespaces` lists those of every namespace.",
    )


def last_events(
    events: Iterable[Object],
    objects: tuple[Object, ...],
    pods: Iterable[Object],
    most: int = LAST_EVENTS,
) -> tuple[EventLine, ...]:
    """The last events about what belongs to a deployment, the oldest first, of each kind the last; pure."""
    own = {(text(item, "kind"), text(part(item, "metadata"), "name")) for item in objects}
    own |= {("Pod", text(part(pod, "metadata"), "name")) for pod in pods}
    found = []
    for event in events:
        about = part(event, "involvedObject")
        kind, called = text(about, "kind"), text(about, "name")
        # a Deployment's ReplicaSet is called after it, and a hash that has no dash: others' names may begin the same
        of = ("Deployment", called.rpartition("-")[0]) if kind == "ReplicaSet" else (kind, called)
        if of not in own:
            continue
        series = part(event, "series")
        at = next(
            (
                moment
                for stamp in (
                    text(series, "lastObservedTime"), text(event, "lastTimestamp"), text(event, "eventTime"),
                    text(part(event, "metadata"), "creationTimestamp"),
                )
                if (moment := unix(stamp)) is not None
            ),
            None,
        )  # fmt: skip
        found.append(
            EventLine(
                at=at,
                warning=text(event, "type") == "Warning",
                reason=text(event, "reason"),
                about=f"{kind} {called}",
                message=printable(hushed(" ".join(text(event, "message").split()))),
                count=whole(series, "count") or whole(event, "count") or 1,
            )
        )
    kept: dict[tuple[str, str], EventLine] = {}
    for one in sorted(found, key=lambda one: one.at or 0.0):
        earlier = kept.pop((one.reason, one.about), None)
        kept[one.reason, one.about] = replace(one, count=one.count + (earlier.count if earlier else 0))
    return tuple(kept.values())[-most:]


def endpoints(objects: Iterable[Object]) -> tuple[str, ...]:
    """Addresses at which a deployment is called, from outside first; pure."""
    outside: list[str] = []
    inside: list[str] = []
    for item in objects:
        ref, spec = ref_of(item), part(item, "spec")
        if ref.kind == "HTTPRoute":
            names = spec.get("hostnames")
            # which of http and https its Gateway listens for is not said here
            outside += [f"{name}/v1" for name in names or () if isinstance(name, str)]
        elif ref.kind == "Ingress":
            scheme = "https" if parts(spec, "tls") else "http"
            outside += [
                f"{scheme}://{host}/v1" for rule in parts(spec, "rules") if (host := text(rule, "host"))
            ]
        elif ref.kind == "Service" and spec.get("clusterIP") != "None":
            port = next((whole(one, "port") for one in parts(spec, "ports")), None)
            inside.append(f"http://{ref.name}.{ref.namespace}.svc:{port or 80}/v1")
    return tuple(dict.fromkeys(outside + inside))


def _running(api: Api, seen: Seen, notes: list[str]) -> Revision | None:
    """The revision that is meant to run: a failed one was gone back from, or is all that there is."""
    good = next((head for head in seen.heads if head.state in ("deployed", "pending")), None)
    head = good or (seen.heads[0] if seen.heads else None)
    if head is None:
        return None
    try:
        return load(api, head)
    except SelfhostError as error:
        notes.append(error.message.rstrip("."))
        return None


def _events(api: Api, namespace: str) -> tuple[Object, ...]:
    try:
        return api.list(EVENT, namespace).items
    except ApiError:
        return ()


def _versions(seen: Seen, running: Revision | None) -> Versions:
    lines = [(pod, pod_line(pod)) for pod in seen.pods]
    serving = [
        (pod, line)
        for pod, line in lines
        if line.component != "download" and line.stage not in ("Done", "Ending")
    ]
    images: dict[str, tuple[str, ...]] = {}
    for _, line in serving:
        images[line.image] = (*images.get(line.image, ()), line.name)
    if running is None:
        return Versions(running=images)
    old = tuple(line.name for pod, line in serving if not is_new(pod, running.desired))
    return Versions(planned=running.desired.plan.engine.image.reference, running=images, old=old)


def _health(
    api: Api, running: Revision, seen: Seen, monitors: bool, now: float
) -> tuple[tuple[Finding, ...], tuple[tuple[str, MemoryFigures], ...]]:
    if not monitors:
        return (), ()
    from selfhost.deploy.health_of import engines, findings_of, nodes

    lines = [(pod, pod_line(pod)) for pod in seen.pods]
    ready = tuple(
        pod
        for pod, line in lines
        if is_ready(pod) and line.component not in ("download", "worker", "proxy", "picker")
    )
    try:
        looked = engines(api, running.desired, ready)
        found = findings_of(running.desired, looked, now=now)
        found += nodes(api, tuple(sorted({line.node for _, line in lines if line.node})))
    except SelfhostError as error:
        return (Finding(code="health", level="unknown", message=error.message),), ()
    return found, tuple((one.pod, one.memory) for one in looked if one.memory is not None)


def _causes(
    api: Api, row: Row, running: Revision, seen: Seen, events: tuple[Object, ...], now: float
) -> tuple[Cause, ...]:
    """Why it is not ready; nothing is read for one that is."""
    if row.well or row.paused:
        return ()
    from selfhost.deploy.causes import explain
    from selfhost.deploy.evidence import gather

    known = Snapshot(
        name=row.name,
        namespace=row.namespace,
        now=now,
        plan=running.desired.plan,
        workloads=seen.workloads,
        pods=seen.pods,
        events=events,
        objects=running.desired.objects,
    )
    return explain(gather(api, known))
