"""What the stages of a deployment hand on to each other: what is wanted, what was seen, findings, causes, events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from selfhost.cluster.types import Object, Ref

if TYPE_CHECKING:  # `selfhost status` of hundreds reads no plan, and need not wait for what reads one
    from selfhost.manifests import RenderOptions
    from selfhost.plan import Plan

# Labels and annotations of everything that selfhost makes on a cluster.
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "selfhost"
PLAN_ANNOTATION = "selfhost/plan"  # the plan, on the workload
HASH_ANNOTATION = "selfhost/plan-hash"  # of that plan, on the workload

Level = Literal["ok", "warning", "error", "unknown"]
State = Literal["pending", "deployed", "failed", "superseded"]
# In the order in which a pod goes through them.
Stage = Literal[
    "scheduling", "pulling", "downloading", "starting", "loading", "compiling", "warming", "ready"
]
EventType = Literal[
    "preflight",
    "preview",
    "apply",
    "progress",
    "failed",
    "rollback",
    "ready",
    "smoke",
    "prune",
    "note",
    "done",
]


def selector_of(name: str) -> str:
    """Label selector of everything that belongs to the deployment of that name."""
    return f"{MANAGED_LABEL}={MANAGED_BY},{INSTANCE_LABEL}={name}"


def is_ours(item: Object, name: str) -> bool:
    """Whether a live object is selfhost's own and belongs to the deployment of that name."""
    metadata = item.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    found = labels if isinstance(labels, dict) else {}
    return found.get(MANAGED_LABEL) == MANAGED_BY and found.get(INSTANCE_LABEL) == name


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What is to be on the cluster.

    Args:
        plan: the decision.
        target: whose templates made the objects.
        options: what they were rendered with.
        objects: in the order in which they are applied, each with its namespace.
        plan_hash: SHA-256 of the plan's JSON, 16 hexadecimal digits.
        hash: SHA-256 of the objects, 16 hexadecimal digits: two of the same hash are the same deployment.
    """

    plan: Plan
    target: str
    options: RenderOptions
    objects: tuple[Object, ...]
    plan_hash: str
    hash: str

    @property
    def name(self) -> str:
        """Of the deployment."""
        return self.plan.name

    @property
    def namespace(self) -> str:
        """Where everything of it is."""
        return self.options.namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check of the preflight, or of `status`, found.

    Args:
        code: stable, in kebab case: `gpus`, `rights`, `storage-class`.
        level: `error` stops a deployment; `unknown` is what could not be looked at.
        message: one sentence.
        hint: what to do, a sentence or a command; empty where nothing has to be done.
        evidence: lines that the sentence rests on.
    """

    code: str
    level: Level
    message: str
    hint: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LogRef:
    """A container's log. `previous`: of the run before its last restart."""

    pod: str
    container: str
    previous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of a deployment at one moment, as the API server tells it.

    Args:
        name: of the deployment.
        namespace: where it is.
        now: Unix time of the moment, seconds.
        plan: what was deployed; None where nobody knows.
        workloads: Deployments, LeaderWorkerSets, InferenceServices of it.
        replica_sets: of its Deployments.
        pods: of it, the download's too.
        jobs: its downloads.
        claims: its PersistentVolumeClaims.
        events: of its namespace.
        nodes: of the cluster; empty where they may not be listed.
        others: pods of the whole cluster that are not of it; empty where they may not be listed.
        logs: the ends of logs that were read.
        objects: as they were wanted, for what an explanation quotes of them.
    """

    name: str
    namespace: str
    now: float
    plan: Plan | None = None
    workloads: tuple[Object, ...] = ()
    replica_sets: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    jobs: tuple[Object, ...] = ()
    claims: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()
    nodes: tuple[Object, ...] = ()
    others: tuple[Object, ...] = ()
    logs: Mapping[LogRef, str] = field(default_factory=dict)
    objects: tuple[Object, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a deployment does not get ready.

    Args:
        code: stable, in kebab case: `insufficient-gpus`, `image-not-found`, `gpu-memory`.
        sentence: the cause in one sentence, with names and figures, capital in front, full stop at its end.
        evidence: lines it rests on: an event's message, the engine's own line, a container's exit code.
        hint: the way out: a command, or what somebody has to do.
        final: waiting longer cannot help; else it counts once it has lasted for `patience_seconds`.
        patience_seconds: how long it may last before it is called the cause, as an autoscaler may still add a node.
        since: Unix time at which it began, as far as is known.
        pod: where it shows.
        node: where it shows.
    """

    code: str
    sentence: str
    evidence: tuple[str, ...] = ()
    hint: str = ""
    final: bool = False
    patience_seconds: float = 0.0
    since: float | None = None
    pod: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a pod has come.

    Args:
        stage: what it is at.
        pod: which; empty before there is one.
        done: of `total`, in `unit`.
        total: None where nobody knows it.
        unit: `bytes`, `shards`, `graphs` or empty.
        detail: a phrase for people, as `64 of 71 GiB, 412 MiB/s`.
    """

    stage: Stage
    pod: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a command of this package says while it works: a line for people, an object for programs.

    Args:
        type: what it is about.
        message: one sentence or phrase.
        facts: whatever else a program wants, JSON alone.
    """

    type: EventType
    message: str
    facts: Mapping[str, object] = field(default_factory=dict)


Tell = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What was deployed once, as it is kept on the cluster.

    Args:
        number: from 1.
        state: `pending` from before its first object is applied until it is ready or has failed.
        desired: everything that is needed to deploy it again.
        created: UTC time in ISO 8601.
        by: user and host.
        because: `deploy`, `upgrade: …`, `rollback to 3`.
    """

    number: int
    state: State
    desired: Desired
    created: str
    by: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A revision without its content, which a list of hundreds does not read."""

    name: str
    namespace: str
    number: int
    state: State
    hash: str
    plan_hash: str
    target: str
    model: str
    created: str
    by: str
    because: str
    ref: Ref
    version: str
