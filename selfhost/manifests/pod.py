"""A pod as every target prints it: templates/kubernetes/_pod.j2 sees one of these as `pod`.

A Deployment's server, the leader and the workers of a LeaderWorkerSet, prefill and decode differ in what stands in it,
not in how it is printed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A value as it stands in the manifest, and its reason for the comment beside it."""

    value: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A whole number as it stands in the manifest, and its reason for the comment beside it."""

    value: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A label or an annotation."""

    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKey:
    """One key of a Secret of the namespace."""

    name: str
    key: str
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable: a value escaped for Kubernetes' own expansion, a Secret's key or a field of the pod."""

    name: str
    because: str
    value: str | None = None
    secret: SecretKey | None = None
    pod_field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyDir:
    """A volume that lives as long as its pod."""

    size: Noted
    memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileItem:
    """A key of a Secret or a ConfigMap, and the file it becomes."""

    key: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A Secret or a ConfigMap as files. `optional`: pods start without it."""

    name: str
    items: tuple[FileItem, ...]
    optional: bool = False
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume of a pod; exactly one of the kinds is set."""

    name: str
    claim: str | None = None
    empty: EmptyDir | None = None
    image: Noted | None = None
    host_path: Noted | None = None
    config_map: Files | None = None
    secret: Files | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Where a container sees a volume."""

    name: str
    path: str
    read_only: bool = False
    sub_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that a container listens on."""

    name: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcHealth:
    """gRPC's health protocol instead of a path."""

    port: int
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What the kubelet asks a server; workers, which serve nothing, are not asked. With `grpc` it asks no path."""

    ready_path: str
    live_path: str
    port: str
    grpc: GrpcHealth | None = None
    period: Number
    startup_failures: Number
    timeout: Number
    live_timeout: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """An accelerator as a container asks for it from a device plugin."""

    name: str
    count: Noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of a pod, or one that runs before.

    `pre_stop_command` sleeps where the kubelet is not to do it. With `restart` a container that runs before the others
    goes on beside them (a sidecar; Kubernetes 1.29).
    """

    name: str
    image: Noted
    command: tuple[str, ...]
    args: tuple[Noted, ...]
    env: tuple[Variable, ...] = ()
    ports: tuple[Port, ...] = ()
    cpu_request: Noted
    cpu_limit: Noted
    memory_request: Noted
    memory_limit: Noted
    ephemeral: Noted | None = None
    devices: tuple[Resource, ...] = ()
    claims: tuple[str, ...] = ()
    probes: Probed | None = None
    pre_stop: Number | None = None
    pre_stop_command: tuple[str, ...] = ()
    restart: str | None = None
    user_id: int
    as_root: str | None = None
    read_only_root: bool
    root_because: str
    mounts: tuple[Mount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRule:
    """A label that a node has to have, and why."""

    key: str
    values: tuple[str, ...]
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim on devices (DRA) that is made for each pod from a ResourceClaimTemplate."""

    name: str
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What an option adds to the pods of a plan: variables and files for the main container."""

    env: tuple[Variable, ...] = ()
    mounts: tuple[Mount, ...] = ()
    volumes: tuple[Volume, ...] = ()

    def __add__(self, other: Additions) -> Additions:
        return Additions(
            env=self.env + other.env, mounts=self.mounts + other.mounts, volumes=self.volumes + other.volumes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """Everything of a pod.

    `beside` are labels of pods on whose node it rather runs; `calls_api` says what it asks the API server for, None
    where it has no account there.
    """

    labels: tuple[Pair, ...]
    selector: tuple[Pair, ...]
    annotations: tuple[Pair, ...]
    service_account: str
    grace: Number
    nodes: tuple[NodeRule, ...]
    spread: bool
    spread_keys: tuple[str, ...] = ("kubernetes.io/hostname",)
    taints: tuple[str, ...]
    restart: str | None = None
    calls_api: str | None = None
    beside: tuple[Pair, ...] = ()
    priority_class: str | None = None
    runtime_class: str | None = None
    pull_secrets: tuple[str, ...] = ()
    user_id: int
    groups: tuple[int, ...]
    groups_because: str
    resource_claims: tuple[Claim, ...] = ()
    init: tuple[Container, ...]
    containers: tuple[Container, ...]
    volumes: tuple[Volume, ...]

    @property
    def has_affinity(self) -> bool:
        """Whether anything decides on which nodes it runs; a claim on devices does that by itself."""
        return bool(self.nodes or self.beside)
