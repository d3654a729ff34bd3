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
    """One key of a Secret of the namespace.

    Args:
        name: of the Secret.
        key: of it.
        optional: pods start without it.
    """

    name: str
    key: str
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable: a value escaped for Kubernetes' own expansion, a Secret's key or a field of the pod.

    Args:
        name: as the process sees it.
        because: why it is set.
        value: its text, escaped for Kubernetes' own expansion.
        secret: the key of a Secret that it holds.
        pod_field: the field of the pod that it holds.
    """

    name: str
    because: str
    value: str | None = None
    secret: SecretKey | None = None
    pod_field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyDir:
    """A volume that lives as long as its pod.

    Args:
        size: how much may be written to it.
        memory: it is memory of the node, and counts as such.
    """

    size: Noted
    memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileItem:
    """A key of a Secret or a ConfigMap, and the file it becomes.

    Args:
        key: in the Secret or the ConfigMap.
        path: of the file, below where it is mounted.
    """

    key: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A Secret or a ConfigMap as files.

    Args:
        name: of the Secret or the ConfigMap.
        items: the files.
        optional: pods start without it.
        because: what it is for.
    """

    name: str
    items: tuple[FileItem, ...]
    optional: bool = False
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume of a pod; exactly one of the kinds is set.

    Args:
        name: by which containers mount it.
        claim: a PersistentVolumeClaim.
        empty: made for the pod.
        image: an OCI image that is mounted.
        host_path: a directory of the node.
        config_map: files of a ConfigMap.
        secret: files of a Secret.
    """

    name: str
    claim: str | None = None
    empty: EmptyDir | None = None
    image: Noted | None = None
    host_path: Noted | None = None
    config_map: Files | None = None
    secret: Files | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Where a container sees a volume.

    Args:
        name: of the volume.
        path: in the container.
        read_only: nothing is written to it.
        sub_path: the part of the volume that is mounted.
    """

    name: str
    path: str
    read_only: bool = False
    sub_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that a container listens on.

    Args:
        name: by which probes and Services call it.
        number: above 1023, as the process is not root.
    """

    name: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcHealth:
    """gRPC's health protocol instead of a path.

    Args:
        port: where it is asked.
        service: which it is asked for.
    """

    port: int
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What the kubelet asks a server; workers, which serve nothing, are not asked. With `grpc` it asks no path.

    Args:
        ready_path: answers 200 once requests are served.
        live_path: answers 200 while the process is worth keeping.
        port: name of the port that is asked.
        grpc: asked instead of the paths.
        period: seconds between the questions at start.
        startup_failures: how many of them may fail: times the period, the start-up budget.
        timeout: seconds that an answer may take.
        live_timeout: the same for life, which is doubted later.
    """

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
    """An accelerator as a container asks for it from a device plugin.

    Args:
        name: of the device plugin's resource.
        count: how many, whole.
    """

    name: str
    count: Noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of a pod, or one that runs before.

    Args:
        name: in the pod.
        image: pinned by tag or digest.
        command: what is started; the image's own where it is empty.
        args: its arguments, escaped for Kubernetes' own expansion.
        env: its environment.
        ports: what it listens on.
        cpu_request: cores that are kept for it.
        cpu_limit: cores that it may take.
        memory_request: memory that is kept for it.
        memory_limit: memory past which it is killed.
        ephemeral: local disk that it may write.
        devices: accelerators by resource.
        claims: claims of the pod (DRA) that it uses.
        probes: what the kubelet asks it.
        pre_stop: seconds that it goes on serving while endpoints forget the pod.
        pre_stop_command: sleeps where the kubelet is not to do it.
        restart: with Always, one that runs before goes on beside the others (a sidecar; Kubernetes 1.29).
        user_id: numeric user and group; 0 is root.
        as_root: why it has to be root, None where it is not.
        read_only_root: its root file system cannot be written.
        root_because: why that is so.
        mounts: where it sees the pod's volumes.
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
    """A label that a node has to have, and why.

    Args:
        key: of the label.
        values: any one of which it has to have.
        because: why.
    """

    key: str
    values: tuple[str, ...]
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim on devices (DRA) that is made for each pod from a ResourceClaimTemplate.

    Args:
        name: by which containers use it.
        template: name of the ResourceClaimTemplate.
    """

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

    Args:
        labels: of the pod.
        selector: those that find it.
        annotations: of the pod.
        service_account: whose name it runs under.
        grace: seconds from the request to end until it is killed: pre-stop and drain have to fit.
        nodes: labels that its node has to have.
        spread: replicas are spread over what spread_keys name.
        spread_keys: labels of nodes that stand for what may be lost at once.
        taints: of nodes that it may run on all the same.
        restart: what happens when a container ends; Always where it is left out.
        calls_api: what it asks the API server for, None where it has no account there.
        beside: labels of pods on whose node it rather runs.
        priority_class: which pods go first.
        runtime_class: how containers are run, where the node's default is another.
        pull_secrets: Secrets that images are pulled with.
        user_id: numeric user and group of its processes, and group of its volumes.
        groups: more groups of its processes.
        groups_because: which those are.
        resource_claims: claims on devices (DRA).
        init: containers that run before.
        containers: those that run.
        volumes: what they mount.
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
