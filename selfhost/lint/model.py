"""What rules look at: objects, pods, containers, engines and metric queries, read once from documents.

`None` is "not said, or not to be known from this text"; a rule that needs the value stays quiet then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from selfhost.lint.nodes import Map, Span
from selfhost.lint.types import Settings, Where

ProbeKind = Literal["startup", "readiness", "liveness"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """One object of a document (or of a `kind: List`)."""

    kind: str
    api_version: str
    name: str
    namespace: str
    labels: Map
    annotations: Map
    body: Map
    where: Where

    def at(self, line: int, path: str = "") -> Where:
        """A place inside the object."""
        return replace(self.where, line=line, path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image reference; `tag` and `digest` are None where it has none."""

    text: str
    repository: str
    tag: str | None
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One entry of `env`.

    Args:
        name: of the variable.
        value: literal value with `$(OTHER)` resolved; None where it comes from elsewhere or cannot be known.
        source: `value`, `secret`, `configmap`, `field`, `resource`, `file`, or `none` for an entry with neither.
        where: its line.
        body: the entry itself.
    """

    name: str
    value: str | None
    source: str
    where: Where
    body: Map


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word of the command line.

    Args:
        text: with what could be resolved.
        known: nothing in it refers to something outside the file.
        line: where it stands.
        span: the scalar it is, None where it is only a part of one (a shell string).
    """

    text: str
    known: bool
    line: int
    span: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One option of the engine's command line.

    Args:
        written: as it stands there, such as `--tensor_parallel_size` or `-tp`.
        key: long name with dashes and without the leading ones; short forms resolved where the engine has them.
        value: None for a switch, or where it cannot be known (see `known`).
        known: False where the value refers to something outside the file.
        where: its line.
        span: scalar that holds the name (and the value, if joined by `=`); None inside a shell string.
        value_span: scalar that holds the value, where that is one of its own.
    """

    written: str
    key: str
    value: str | None
    known: bool
    where: Where
    span: Span | None = None
    value_span: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An inference engine in a container.

    Args:
        name: `vllm`, `sglang`, `tgi`, `triton`, `llamacpp` or `ollama`.
        version: as in the image's tag without `v`, such as `0.11.2`; None where unknown.
        flags: parsed options in order.
        positional: words that belong to no option (vLLM's model).
        complete: the whole command line could be read: what is not in `flags` is not given.
        model: what it loads: a Hub id or a path; None where unknown.
        revision: pinned revision of it, None where not given.
        tensor, pipeline, data: parallel sizes, 1 where not given, None where they cannot be known.
        nodes: pods that form one engine by its own flags (`--nnodes`) or by its group (LWS); None where unknown.
        variables: environment by name, with the launcher's own twins of flags left as they are.
    """

    name: str
    version: str | None = None
    flags: tuple[Flag, ...] = ()
    positional: tuple[Word, ...] = ()
    complete: bool = True
    model: str | None = None
    revision: str | None = None
    tensor: int | None = 1
    pipeline: int | None = 1
    data: int | None = 1
    nodes: int | None = 1

    def flag(self, *keys: str) -> Flag | None:
        """The last flag of these keys (argparse lets the last one win), None where there is none."""
        for flag in reversed(self.flags):
            if flag.key in keys:
                return flag
        return None

    @property
    def release(self) -> tuple[int, ...] | None:
        """Version as numbers, `(0, 11, 2)`; None where it is not one."""
        if self.version is None:
            return None
        parts: list[int] = []
        for part in self.version.split(".")[:3]:
            digits = part[: len(part) - len(part.lstrip("0123456789"))]
            if not digits:
                break
            parts.append(int(digits))
        return tuple(parts) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A probe of a container, with Kubernetes' defaults filled in.

    Args:
        kind: startup, readiness or liveness.
        action: `http`, `tcp`, `exec`, `grpc`, or `none`.
        path: of `http`, without its query.
        port: number or name, None where there is none.
        command: of `exec`.
        headers: names of the request's headers, lower case.
    """

    kind: ProbeKind
    action: str
    path: str | None
    port: str | None
    command: tuple[str, ...]
    headers: tuple[str, ...]
    initial_delay_seconds: int
    period_seconds: int
    timeout_seconds: int
    failures: int
    where: Where
    body: Map

    @property
    def budget_seconds(self) -> int:
        """How long a container may take until this probe gives up on it."""
        return self.initial_delay_seconds + self.period_seconds * self.failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Accelerators a container asks for; None where one of the two is missing or not a number."""

    resource: str
    request: int | None
    limit: int | None
    where: Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A volume mount."""

    name: str
    path: str
    sub_path: str
    where: Where
    body: Map


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume; `kind` is its source's key, such as `emptyDir`, or `none`, or `claim-template` of a StatefulSet."""

    name: str
    kind: str
    body: Map
    where: Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A container port."""

    name: str
    number: int | None
    protocol: str
    where: Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container. `engine` is None for whatever is no inference engine."""

    name: str
    image: Image | None
    init: bool
    words: tuple[Word, ...]
    complete: bool
    variables: tuple[Variable, ...]
    env_from: bool
    ports: tuple[Port, ...]
    probes: tuple[Probe, ...]
    requests: Map
    limits: Map
    accelerators: tuple[Accelerator, ...]
    claims: tuple[str, ...]
    mounts: tuple[Mount, ...]
    engine: Engine | None
    where: Where
    body: Map

    def at(self, line: int, path: str = "") -> Where:
        """A place inside the container; `path` goes on from the container's own."""
        joined = f"{self.where.path}.{path}" if path else self.where.path
        return replace(self.where, line=line, path=joined)

    def variable(self, name: str) -> Variable | None:
        """The last entry of that name (as the kubelet takes it), None where there is none."""
        return next((each for each in reversed(self.variables) if each.name == name), None)

    def probe(self, kind: ProbeKind) -> Probe | None:
        """The probe of that kind."""
        return next((each for each in self.probes if each.kind == kind), None)

    @property
    def gpus(self) -> int | None:
        """Accelerators of the limits (or requests); 0 where none is named, None where it cannot be known (claims)."""
        if self.claims:
            return None
        numbers = [each.limit if each.limit is not None else each.request for each in self.accelerators]
        return None if None in numbers else sum(each for each in numbers if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod, or the template of some.

    Args:
        owner: the object it stands in.
        role: `server`, `leader`, `worker` or `job`.
        replicas: how many (of groups, for a leader or worker); None where an autoscaler or operator decides.
        group_size: pods that form one engine (LWS, Ray), 1 otherwise, None where unknown.
        managed: operator that completes this pod (`kserve`, `dynamo` ...), None where the text is all there is.
        labels: of the pod.
        spec: the pod spec itself.
        grace_seconds: terminationGracePeriodSeconds, None where not given (Kubernetes: 30).
    """

    owner: Object
    role: str
    replicas: int | None
    group_size: int | None
    managed: str | None
    labels: Map
    spec: Map
    containers: tuple[Container, ...]
    volumes: tuple[Volume, ...]
    grace_seconds: int | None
    where: Where

    def at(self, line: int, path: str = "") -> Where:
        """A place inside the pod spec; `path` goes on from the pod's own."""
        joined = f"{self.where.path}.{path}" if path else self.where.path
        return replace(self.where, line=line, path=joined)

    def volume(self, name: str) -> Volume | None:
        """The volume of that name."""
        return next((each for each in self.volumes if each.name == name), None)

    @property
    def mains(self) -> tuple[Container, ...]:
        """Containers that are no init containers."""
        return tuple(each for each in self.containers if not each.init)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A text that names metrics.

    Args:
        kind: `keda`, `hpa`, `rule`, `dashboard` or `adapter`.
        text: PromQL, or for `hpa` the bare name of a metric.
        where: its line.
        span: scalar that holds it, None where it stands inside another text (a dashboard's JSON).
        owner: the object.
        target: `Kind/name` that an autoscaler scales, None elsewhere.
    """

    kind: str
    text: str
    where: Where
    owner: Object
    span: Span | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A document or file that was left alone, and why."""

    file: str
    line: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A document that could not be read as YAML, in one sentence."""

    file: str
    line: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """Everything that was given in one call: rules may look across files.

    Args:
        objects: in the order of the files.
        pods: of all objects.
        queries: of all objects.
        services: of Compose files, as pods.
        duplicates: keys that stand twice in one mapping of an object: place of the later one, key, line of the first.
    """

    objects: tuple[Object, ...] = ()
    pods: tuple[Pod, ...] = ()
    queries: tuple[Query, ...] = ()
    duplicates: tuple[tuple[Where, str, int], ...] = ()
    settings: Settings = field(default_factory=Settings)
    services: tuple[Pod, ...] = ()
    _kinds: dict[str, list[Object]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for item in self.objects:
            self._kinds.setdefault(item.kind, []).append(item)

    def engines(self) -> Iterator[tuple[Pod, Container, Engine]]:
        """Every engine with its container and pod."""
        for pod in self.pods:
            for container in pod.containers:
                if container.engine is not None:
                    yield pod, container, container.engine

    def of_kind(self, *kinds: str) -> Iterator[Object]:
        """Objects of these kinds, of whatever group."""
        return chain.from_iterable(self._kinds.get(kind, ()) for kind in kinds)
