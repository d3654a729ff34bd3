"""A snapshot made ready for questions: pods of the newest revision, what their containers ended with, events, logs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text, texts, whole
from selfhost.deploy.engine_log import plain, shortened
from selfhost.deploy.types import COMPONENT_LABEL, INSTANCE_LABEL, Cause, LogRef, Progress, Snapshot
from selfhost.plan import Plan

_REVISION = (
    "deployment.kubernetes.io/revision"  # on ReplicaSets (kubernetes pkg/controller/deployment/util, 1.36)
)
_LAST_LINES = 12  # Ours: what a process says last is why it ends
_CODE = re.compile(r'raise \w|File "|return |~*\^')  # lines of a traceback that quote the program
_RAISED = re.compile(r"^(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)\b|^Error: ")
# Ours: a container that runs again may well succeed, and loads as long as the first time.
_AGAIN_SECONDS, _MANY = 900.0, 3
_STARTING = ("ContainerCreating", "PodInitializing", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container's last run that is over ended. `message`: what the kubelet kept of its log's end."""

    code: int
    signal: int
    reason: str
    message: str
    started: float | None
    finished: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A container. `log` is of the run in `ended`, `running_log` of the run that goes on."""

    name: str
    init: bool
    image: str
    state: str
    reason: str
    message: str
    ready: bool
    restarts: int
    since: float | None
    ended: Ended | None
    log: str
    running_log: str

    @property
    def failed(self) -> bool:
        """A run of it ended, and not as it should."""
        return self.ended is not None and (self.ended.code != 0 or (self.restarts > 0 and not self.init))


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event. `at`: Unix time it was last seen."""

    reason: str
    message: str
    kind: str
    name: str
    at: float | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A pod of the rollout that is not ready."""

    item: Object
    name: str
    node: str
    component: str
    phase: str
    reason: str
    message: str
    created: float | None
    boxes: tuple[Box, ...]
    events: tuple[Happened, ...]

    @property
    def spec(self) -> Object:
        """As the API server has it."""
        return part(self.item, "spec")

    @property
    def scheduled(self) -> bool:
        """It has a node."""
        return bool(self.node)

    @property
    def unscheduled_because(self) -> str:
        """The scheduler's own words, empty where it said nothing."""
        for one in parts(part(self.item, "status"), "conditions"):
            if text(one, "type") == "PodScheduled" and text(one, "status") == "False":
                return raw(one, "message")
        return ""

    @property
    def starting(self) -> bool:
        """It has a node, and its first container does not run yet."""
        return (
            self.scheduled
            and self.phase == "Pending"
            and all(box.state != "running" and not box.restarts for box in self.boxes if not box.ready)
        )

    @property
    def waits_to_start(self) -> bool:
        """The kubelet is still about to make it: mounts, devices, sandbox."""
        waiting = [box for box in self.boxes if box.state in ("waiting", "")]
        return self.starting and all(box.reason in _STARTING for box in waiting)

    def said(self, *reasons: str) -> Iterator[Happened]:
        """Its events of these reasons, newest first."""
        return (event for event in self.events if event.reason in reasons)

    def condition_since(self, kind: str) -> float | None:
        """When that condition last changed; when the pod was made where it does not say."""
        for one in parts(part(self.item, "status"), "conditions"):
            if text(one, "type") == kind:
                return unix(text(one, "lastTransitionTime")) or self.created
        return self.created


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the causes look at.

    Args:
        snapshot: all of it.
        pods: not ready, of the newest revision, servers after what they wait for.
        events: of everything that is no pod, newest first.
    """

    snapshot: Snapshot
    pods: tuple[Seen, ...]
    events: tuple[Happened, ...] = field(default=())

    @property
    def plan(self) -> Plan | None:
        """What was deployed."""
        return self.snapshot.plan

    @property
    def engine(self) -> str:
        """Its name, vLLM's where nobody knows the plan."""
        return self.snapshot.plan.engine.name if self.snapshot.plan else "vllm"

    def ended(self) -> Iterator[tuple[Seen, Box, Ended]]:
        """Containers of which a run failed."""
        for pod in self.pods:
            for box in pod.boxes:
                if box.failed and box.ended is not None:
                    yield pod, box, box.ended

    def lines(self, pattern: str | re.Pattern[str], *, fatal: bool = False) -> Iterator[Line]:
        """Lines of failed runs that match, the first of each container: what came first caused what follows.

        Args:
            pattern: what is sought.
            fatal: only in an exception's own line or among the last, as engines also warn of what they do without.
        """
        sought = re.compile(pattern) if isinstance(pattern, str) else pattern
        for pod, box, _ in self.ended():
            said = box.log.splitlines()
            found = next(
                (
                    match
                    for number, one in enumerate(said)
                    if (match := sought.search(one))
                    and not _CODE.match(plain(one))
                    and (not fatal or number >= len(said) - _LAST_LINES or _RAISED.search(plain(one)))
                ),
                None,
            )
            if found is not None:
                yield Line(pod=pod, box=box, match=found, text=shortened(found.string))

    def created(self, pattern: str | re.Pattern[str]) -> Iterator[Line]:
        """What the runtime said of containers that it could not make or start, where it matches."""
        sought = re.compile(pattern, re.IGNORECASE) if isinstance(pattern, str) else pattern
        for pod in self.pods:
            for box in pod.boxes:
                said = [box.message] if box.state == "waiting" else []
                said += [box.ended.message] if box.ended is not None and box.state != "running" else []
                said += (
                    [e.message for e in pod.said("Failed")]
                    if said and box.reason != "ImagePullBackOff"
                    else []
                )
                for words in said:
                    if found := sought.search(words):
                        yield Line(pod=pod, box=box, match=found, text=around(found))
                        break


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Words that a cause rests on, and whose they are."""

    pod: Seen
    box: Box
    match: re.Match[str]
    text: str

    def cause(
        self, code: str, sentence: str, hint: str, *more: str, final: bool = True, patience: float = 0.0
    ) -> Cause:
        """A cause that rests on it."""
        again = not final and self.box.state == "running" and self.box.restarts < _MANY
        return Cause(
            code=code,
            sentence=sentence,
            evidence=(self.text, *more),
            hint=hint,
            final=final,
            patience_seconds=_AGAIN_SECONDS if again else patience,
            since=self.box.ended.finished if self.box.ended else self.pod.created,
            pod=self.pod.name,
            node=self.pod.node,
        )


def look(snapshot: Snapshot) -> Scene:
    """Prepare a snapshot."""
    about: dict[str, list[Happened]] = {}
    others: list[Happened] = []
    for event in sorted((_event(item) for item in snapshot.events), key=lambda one: -(one.at or 0.0)):
        if event.kind == "Pod":
            about.setdefault(event.name, []).append(event)
        else:
            others.append(event)
    newest = _newest(snapshot)
    pods = [
        seen(item, tuple(about.get(text(part(item, "metadata"), "name"), ())), snapshot.logs)
        for item in snapshot.pods
        if not going(item) and not _is_ready(item) and _is_of(item, newest) and _counts(item, snapshot)
    ]
    # what others wait for comes first
    pods.sort(key=lambda pod: (pod.component != "download", pod.created or 0.0, pod.name))
    return Scene(snapshot=snapshot, pods=tuple(pods), events=tuple(others))


def seen(item: Object, events: tuple[Happened, ...], logs: Mapping[LogRef, str]) -> Seen:
    """One pod."""
    metadata, status, spec = part(item, "metadata"), part(item, "status"), part(item, "spec")
    name = text(metadata, "name")
    images = {
        text(one, "name"): text(one, "image")
        for one in (*parts(spec, "initContainers"), *parts(spec, "containers"))
    }
    boxes = [_box(one, name, logs, images, init=True) for one in parts(status, "initContainerStatuses")]
    boxes += [_box(one, name, logs, images, init=False) for one in parts(status, "containerStatuses")]
    return Seen(
        item=item,
        name=name,
        node=text(spec, "nodeName"),
        component=texts(metadata, "labels").get(COMPONENT_LABEL, ""),
        phase=text(status, "phase"),
        reason=text(status, "reason"),
        message=raw(status, "message"),
        created=unix(text(metadata, "creationTimestamp")),
        boxes=tuple(boxes),
        events=events,
    )


def _box(
    status: Object, pod: str, logs: Mapping[LogRef, str], images: Mapping[str, str], *, init: bool
) -> Box:
    name, states = text(status, "name"), part(status, "state")
    state = next(
        (key for key in ("running", "terminated", "waiting") if isinstance(states.get(key), dict)), ""
    )
    now, last = part(states, state), part(part(status, "lastState"), "terminated")
    over = now if state == "terminated" else last
    ended = None
    if over:
        ended = Ended(
            code=whole(over, "exitCode") or 0,
            signal=whole(over, "signal") or 0,
            reason=text(over, "reason"),
            message=raw(over, "message"),
            started=unix(text(over, "startedAt")),
            finished=unix(text(over, "finishedAt")),
        )
    current = logs.get(LogRef(pod=pod, container=name), "")
    log = current if state == "terminated" else logs.get(LogRef(pod=pod, container=name, previous=True), "")
    return Box(
        name=name,
        init=init,
        image=images.get(name) or text(status, "image"),
        state=state,
        reason=text(now, "reason"),
        message=raw(now, "message"),
        ready=status.get("ready") is True,
        restarts=whole(status, "restartCount") or 0,
        since=unix(text(now, "startedAt")),
        ended=ended,
        log=log or (ended.message if ended else ""),
        running_log=current if state == "running" else "",
    )


def _event(item: Object) -> Happened:
    about, series = part(item, "involvedObject"), part(item, "series")
    when = (
        text(series, "lastObservedTime"),
        text(item, "lastTimestamp"),
        text(item, "eventTime"),
        text(part(item, "metadata"), "creationTimestamp"),
    )
    return Happened(
        reason=text(item, "reason"),
        message=raw(item, "message") or raw(item, "note"),
        kind=text(about, "kind"),
        name=text(about, "name"),
        at=next((found for one in when if (found := unix(one)) is not None), None),
        count=whole(series, "count") or whole(item, "count") or 1,
    )


def _newest(snapshot: Snapshot) -> frozenset[str]:
    """Names of the ReplicaSets that are a Deployment's newest; empty where they are not known."""
    best: dict[str, tuple[int, str]] = {}
    for item in snapshot.replica_sets:
        metadata = part(item, "metadata")
        number = texts(metadata, "annotations").get(_REVISION, "0")
        owner = next((text(one, "name") for one in parts(metadata, "ownerReferences")), "")
        ranked = (int(number) if number.isdigit() else 0, text(metadata, "name"))
        best[owner] = max(best.get(owner, ranked), ranked)
    return frozenset(name for _, name in best.values())


def _is_of(item: Object, newest: frozenset[str]) -> bool:
    owners = [
        text(one, "name")
        for one in parts(part(item, "metadata"), "ownerReferences")
        if text(one, "kind") == "ReplicaSet"
    ]
    return not newest or not owners or any(name in newest for name in owners)


def _counts(item: Object, snapshot: Snapshot) -> bool:
    """Not a pod that ended well, nor a failed one in whose place another is already at work."""
    phase, metadata = text(part(item, "status"), "phase"), part(item, "metadata")
    if phase == "Succeeded":
        return False
    mine = _owners(item)
    if any(
        text(part(job, "metadata"), "name") in mine and (whole(part(job, "status"), "succeeded") or 0) > 0
        for job in snapshot.jobs
    ):
        return False
    return phase != "Failed" or not any(
        mine & _owners(other)
        and text(part(other, "metadata"), "creationTimestamp") > text(metadata, "creationTimestamp")
        and text(part(other, "status"), "phase") in ("Running", "Succeeded")
        for other in snapshot.pods
    )


def _owners(item: Object) -> frozenset[str]:
    return frozenset(text(one, "name") for one in parts(part(item, "metadata"), "ownerReferences"))


def going(item: Object) -> bool:
    """It is being deleted."""
    return "deletionTimestamp" in part(item, "metadata")


def own(item: Object, snapshot: Snapshot) -> bool:
    """Whether a pod of the whole cluster is of this deployment after all: one of an earlier revision."""
    metadata = part(item, "metadata")
    return (
        text(metadata, "namespace") == snapshot.namespace
        and texts(metadata, "labels").get(INSTANCE_LABEL) == snapshot.name
    )


def _is_ready(item: Object) -> bool:
    return any(
        text(one, "type") == "Ready" and text(one, "status") == "True"
        for one in parts(part(item, "status"), "conditions")
    )


def raw(item: Object, name: str) -> str:
    """A text with its lines, as an engine's last words have several; "" for anything else."""
    value = item.get(name)
    return value[:20_000] if isinstance(value, str) else ""


def unix(moment: str) -> float | None:
    """Unix time of an RFC 3339 text, None for none."""
    try:
        return datetime.fromisoformat(moment).timestamp() if moment else None
    except ValueError:
        return None


def around(match: re.Match[str], before: int = 120) -> str:
    """What stands around a match in a long message, shortened."""
    start = max(0, match.start() - before)
    words = match.string[start:].replace("\n", " ")
    return shortened(f"…{words}" if start else words)


def reached(found: Progress) -> str:
    """How far an engine had come, for a sentence: of a stage that only begins there is no more to say than its name."""
    return found.stage if found.detail in ("", "begins") else found.detail
