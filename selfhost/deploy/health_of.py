"""Health of a deployment that runs: its engines by one look at their metrics, its nodes by their own monitors.

The engines are reached by a forwarded port, as the kubelet connects from inside the pod: the API server's proxy comes
from outside, where the deployment's NetworkPolicy keeps it out. It is tried where forwarding is not permitted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from selfhost.cluster import Api, ApiError, ForbiddenError, Object, Ref
from selfhost.cluster.kinds import POD
from selfhost.cluster.paths import path_of
from selfhost.cluster.values import json_object, part, text
from selfhost.deploy.channel import NoReplyError
from selfhost.deploy.figures import MemoryFigures, memory_figures, snapshot_of
from selfhost.deploy.smoke_run import forwarded, key_of, log_head, server_of
from selfhost.deploy.types import Desired, Finding, Level
from selfhost.errors import ClusterError
from selfhost.observation import EngineSnapshot, Missing, NodeSnapshot, Observation, Reading, known
from selfhost.observation.node import SCHEMA

# Ours: more replicas than these say the same; each costs the API server a connection.
MOST_ENGINES = 4
_SECONDS = 10.0
_LEVELS: dict[str, Level] = {"ok": "ok", "warn": "warning", "critical": "error", "unknown": "unknown"}
# Paths that tell the engine's release (selfhost/probe/names.py).
_MONITOR = "app.kubernetes.io/name=selfhost-monitor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was seen of one engine."""

    pod: str
    engine: EngineSnapshot
    version: str
    memory: MemoryFigures | None


def engines(api: Api, wanted: Desired, pods: tuple[Object, ...]) -> tuple[Looked, ...]:
    """Look at the engines of pods that are ready, a few of them at most."""
    some = pods[:MOST_ENGINES]
    if not some:
        return ()
    key = key_of(api, wanted, None).value if _guarded(wanted) else None
    with ThreadPoolExecutor(len(some), thread_name_prefix="engine") as pool:
        return tuple(pool.map(lambda pod: _look(api, wanted, pod, key), some))


def findings_of(wanted: Desired, looked: tuple[Looked, ...], *, now: float) -> tuple[Finding, ...]:
    """The monitor's verdicts on the engines: whether they are up, and their memory against the plan; pure."""
    from selfhost.health.engine import engine_up
    from selfhost.health.memory_plan import memory_plan
    from selfhost.health.types import Context

    found: list[Finding] = []
    for one in looked:
        seen = Observation(
            schema=SCHEMA,
            at=now,
            node=NodeSnapshot(host=one.pod),
            engines=(one.engine,),
            engines_looked_for=True,
        )
        context = Context(now=now, plan=wanted.plan)
        for check in (*engine_up((seen,), context), *memory_plan((seen,), context)):
            if check.level in _LEVELS:
                evidence = (check.evidence,) if check.evidence else ()
                found.append(
                    Finding(
                        code=check.code,
                        level=_LEVELS[check.level],
                        message=f"{check.message}.",
                        evidence=evidence,
                    )
                )
        if one.version and one.version.lstrip("v") != wanted.plan.engine.version.lstrip("v"):
            words = f"{one.pod} says it is {wanted.plan.engine.name} {one.version}; the plan says "
            found.append(
                Finding(
                    code="engine-version", level="warning", message=f"{words}{wanted.plan.engine.version}."
                )
            )
    return tuple(found)


def nodes(api: Api, names: tuple[str, ...], *, now: Callable[[], float] = time.time) -> tuple[Finding, ...]:
    """What the monitors of nodes say of them, through the API server's proxy; nothing where none runs or may be asked.

    Args:
        api: the cluster.
        names: of the nodes.
        now: Unix time.
    """
    from selfhost.fleet import kube
    from selfhost.fleet.judge import judge
    from selfhost.fleet.types import PORT, NodeAddress

    if not names:
        return ()
    try:
        pods = api.list(POD, labels=_MONITOR).items
    except ApiError:
        return ()
    reader = kube.Api(api.connection)
    found: list[Finding] = []
    for pod in pods:
        metadata, node = part(pod, "metadata"), text(part(pod, "spec"), "nodeName")
        if node not in names or text(part(pod, "status"), "phase") != "Running":
            continue
        namespace, name = text(metadata, "namespace"), text(metadata, "name")
        ask = partial(reader.ask, namespace, name, PORT)
        address = NodeAddress(name=node, ask=ask, certain=True)
        api.count("GET", f"/api/v1/namespaces/{namespace}/pods/{name}:{PORT}/proxy")
        result = judge(address, ask(_SECONDS), now=now())
        for check in result.checks:
            if check.level in ("warn", "critical", "unknown"):
                gpu = "" if check.gpu is None else f" GPU {check.gpu}:"
                words = f"node {node}:{gpu} {check.message.rstrip('.')}."
                action = "" if check.action == "none" else check.action.replace("_", " ")
                found.append(Finding(code=check.code, level=_LEVELS[check.level], message=words, hint=action))
        if not found and result.level == "ok":
            found.append(Finding(code="node", level="ok", message=f"node {node}: its monitor finds nothing."))
    return tuple(found)


def _guarded(wanted: Desired) -> bool:
    key = wanted.plan.engine.key
    return key is not None and key.guards_metrics and wanted.options.access.api_key_secret is not None


def _look(api: Api, wanted: Desired, pod: Object, key: str | None) -> Looked:
    plan = wanted.plan
    name = text(part(pod, "metadata"), "name")
    ref = Ref(api_version="v1", kind="Pod", namespace=wanted.namespace, name=name)
    container, port = server_of(pod, plan)
    try:
        health, page, version = _forwarded(api, ref, port, wanted, key)
    except ForbiddenError:
        health, page, version = _proxied(api, ref, port, wanted)
    except ClusterError as error:
        health, page, version = Missing(missing=error.message.rstrip(".")), None, ""
    why = health.missing if isinstance(health, Missing) else "its metrics cannot be read"
    engine = snapshot_of(
        plan, page, log_head(api, ref, container), now=time.time(), url=f"http://{name}:{port}", why=why,
        health_status=health,
    )  # fmt: skip
    return Looked(pod=name, engine=engine, version=version, memory=memory_figures(plan, engine))


def _forwarded(
    api: Api, pod: Ref, port: int, wanted: Desired, key: str | None
) -> tuple[Reading[int], str | None, str]:
    engine = wanted.plan.engine
    health: Reading[int]
    page: str | None = None
    version = ""
    with forwarded(api, pod, port) as channel:
        try:
            health = channel.ask(engine.health_path, seconds=_SECONDS).status
            if engine.metrics and engine.metrics_port in (None, port):
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                answer = channel.ask(engine.metrics_path, headers=headers, seconds=_SECONDS)
                page = answer.body.decode("utf-8", errors="replace") if answer.status == 200 else None
            if engine.name == "vllm":
                version = text(channel.ask("/version", seconds=_SECONDS).json, "version")
        except NoReplyError as error:
            health = Missing(missing=str(error))
    return health, page, version


def _proxied(api: Api, pod: Ref, port: int, wanted: Desired) -> tuple[Reading[int], str | None, str]:
    """The same through the API server's proxy, which says nothing of a key."""
    base = f"{path_of(pod)}:{port}/proxy"
    what = f"ask Pod {pod.namespace}/{pod.name} through the API server"

    def read(path: str) -> bytes:
        with api.stream(f"{base}{path}", {}, what=what, seconds=_SECONDS) as response:
            return bytes(response.read())

    engine = wanted.plan.engine
    try:
        read(engine.health_path)
        page = read(engine.metrics_path).decode("utf-8", errors="replace") if engine.metrics else None
        version = text(json_object(read("/version")), "version") if engine.name == "vllm" else ""
    except ClusterError as error:
        return Missing(missing=error.message.rstrip(".")), None, ""
    return 200, page, version


__all__ = ["Looked", "engines", "findings_of", "known", "nodes"]
