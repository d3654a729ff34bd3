"""What templates/lws/ sees as `plan`: a replica on several nodes, as a LeaderWorkerSet; the rest is target kubernetes'.

Tensor parallelism stays inside a node, where NVLink is; stages and data-parallel ranks lie between nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from selfhost.engines import Argument, EngineVersion, Join, Spreads, get_engine, parse_engine
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import kubernetes
from selfhost.manifests.network import server_policy
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Container, Noted, Number, Pair, PodView, Variable
from selfhost.manifests.quantities import literal
from selfhost.manifests.scaling import ScaleTarget, scaling
from selfhost.manifests.server import server_pod
from selfhost.manifests.watching import watching
from selfhost.plan import Derived, Plan, Pod
from selfhost.units import MIB, ceil_div, round_up

BASE = "kubernetes"
OMIT = frozenset(("50-deployment.yaml",))
# LWS sets these in every container (api/leaderworkerset/v1/leaderworkerset_types.go of v0.9, read 2026-11-26).
LEADER, RANK = "$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)"
WORKER = "worker"
# It has a scale subresource; its leaders, who alone serve and have metrics, are NAME-0, NAME-1 and so on.
SCALED = ScaleTarget(api_version="leaderworkerset.x-k8s.io/v1", kind="LeaderWorkerSet", pods="-[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class View(kubernetes.View):
    """What target kubernetes prints, and the group of pods in place of its Deployment."""

    size: Number
    leader: PodView
    worker: PodView
    member: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a replica lies on nodes.

    Args:
        nodes: pods of a replica.
        gpus: GPUs of each.
    """

    nodes: int
    gpus: int


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: the split cannot be laid on nodes, or the engine cannot run on several.
        UsageError: options that contradict the plan.
    """
    spread = spread_of(plan, options)
    _check(plan, options, spread)
    base = kubernetes.build(plan, options)
    joined = join_of(plan, options, spread)
    node = replace(plan, pod=share(plan.pod, spread.nodes))
    leader = server_pod(node, options, base.storage, gpus=spread.gpus)
    worker = server_pod(node, options, base.storage, gpus=spread.gpus, component=WORKER, serves=False)
    member = (
        Pair(key="app.kubernetes.io/instance", value=plan.name),
        Pair(key="selfhost/group", value=plan.name),
    )
    more = () if joined.note is None else (joined.note,)
    base = replace(
        base,
        headline=(*base.headline, _shape(spread), *more),
        policy=server_policy(plan, options, group=member if spread.nodes > 1 else ()),
        scaling=scaling(plan, options, target=SCALED),
        watching=watching(plan, options, pods=SCALED.pods),
        strategy_because=_strategy(plan, options, spread),
    )
    return View(
        **{field.name: getattr(base, field.name) for field in fields(base)},
        size=Number(value=spread.nodes, because=f"{plan.gpu.count} GPUs / {spread.gpus} of each node"),
        leader=_told(leader, joined, member, leads=True),
        worker=_told(worker, joined, member, leads=False),
        member=member,
    )


def _check(plan: Plan, options: RenderOptions, spread: Spread) -> None:
    if options.nodes.ray and spread.nodes == 1:
        raise UsageError(
            f"--ray joins several nodes, and one holds the {plan.gpu.count} GPUs of a replica.",
            hint="Leave it out.",
        )
    if options.scaling.spread != "node":
        raise UsageError(
            f"--spread {options.scaling.spread} has no effect with --target lws: its pods carry no such constraint.",
            hint="Leave it out, or render with --target kubernetes where a replica fits one node.",
        )


def spread_of(plan: Plan, options: RenderOptions) -> Spread:
    """How a replica lies on nodes: the fewest that hold it, each with the same number of GPUs.

    Raises:
        UnsupportedError: a layer would be divided between nodes, or the parts are not even.
    """
    split, most = plan.split, options.nodes.node_gpus()
    if split.tensor > most:
        raise UnsupportedError(
            f"TP {split.tensor} divides each layer over more GPUs than the {most} of a node: every layer would wait "
            "for the network.",
            hint=f"Plan with --tp {most} --pp {ceil_div(split.tensor * split.pipeline, most)}.",
        )
    nodes = ceil_div(plan.gpu.count, most // split.tensor * split.tensor)
    while plan.gpu.count % nodes or (plan.gpu.count // nodes) % split.tensor:
        nodes += 1
    gpus = plan.gpu.count // nodes
    stages = gpus // split.tensor
    if split.pipeline % stages and stages % split.pipeline:
        raise UnsupportedError(
            f"PP {split.pipeline} x DP {split.data} cannot be laid on {nodes} nodes of {gpus} GPUs evenly.",
            hint="Plan for another --pp or --dp, or say --gpus-per-node.",
        )
    return Spread(nodes=nodes, gpus=gpus)


def join_of(plan: Plan, options: RenderOptions, spread: Spread) -> Join:
    """What each pod is told so that they become one engine.

    Raises:
        UnsupportedError: the engine does not run on several nodes.
    """
    if spread.nodes == 1:
        return Join()
    engine, version = get_engine(plan.engine.name), _version(plan)
    if not isinstance(engine, Spreads):
        raise UnsupportedError(
            f"{engine.name} does not run one replica on several nodes.",
            hint="Plan for vllm or sglang, or for GPUs of one node.",
        )
    seconds = plan.clocks.load_seconds.value
    return engine.join(
        version, plan.split, spread.nodes, leader=LEADER, rank=RANK, ray=options.nodes.ray, seconds=seconds
    )


def _version(plan: Plan) -> EngineVersion:
    return parse_engine(f"{plan.engine.name}@{plan.engine.version}")


def share(pod: Pod, nodes: int) -> Pod:
    """What one node's pod asks for; scratch space is each pod's own."""

    def part(whole: Derived, unit: int) -> Derived:
        value = round_up(ceil_div(whole.value, nodes), unit)
        return whole if nodes == 1 else Derived(value=value, because=f"1/{nodes} of: {whole.because}")

    return replace(
        pod,
        cpu_request=part(pod.cpu_request, 1),
        cpu_limit=part(pod.cpu_limit, 1),
        memory_bytes=part(pod.memory_bytes, MIB),
        shared_memory_bytes=part(pod.shared_memory_bytes, MIB),
    )


def _shape(spread: Spread) -> str:
    if spread.nodes == 1:
        return "one node: a group of one pod"
    return (
        f"{spread.nodes} nodes of {spread.gpus} GPUs for each replica; all pods of a group restart together"
    )


def _strategy(plan: Plan, options: RenderOptions, spread: Spread) -> str:
    if options.surge:
        return f"an update needs {plan.gpu.count} spare GPUs on {spread.nodes} nodes and has no downtime"
    if plan.replicas > 1:
        return f"no spare GPUs: an update takes one group of {plan.replicas} down at a time"
    seconds = plan.clocks.load_seconds.value
    return f"no spare GPUs: an update stops the only group first and is down until it is back, at most {seconds} s"


def _told(pod: PodView, joined: Join, member: tuple[Pair, ...], *, leads: bool) -> PodView:
    """A pod with the words that make it a member of its group."""
    server = pod.containers[0]
    command = joined.leader_command if leads else joined.worker_command
    if leads:
        args = (*_words(joined.leader_before), *server.args, *_words(joined.leader_args))
    elif joined.worker_only is not None:
        args = _words(joined.worker_only)
    else:
        args = (*server.args, *_words(joined.worker_args))
    reach = "the address that the other pods reach this one at"
    own = () if joined.own_address is None else (joined.own_address,)
    env = (
        *server.env,
        *(Variable(name=name, pod_field="status.podIP", because=reach) for name in own),
        *(Variable(name=one.name, value=one.value, because=one.because) for one in joined.env),
    )
    told: Container = replace(
        server, args=args, env=env, command=server.command if command is None else command
    )
    marked = (*pod.labels, *(pair for pair in member if pair.key.startswith("selfhost/")))
    return replace(pod, labels=marked, containers=(told, *pod.containers[1:]))


def _words(arguments: tuple[Argument, ...]) -> tuple[Noted, ...]:
    """Words of the engine's module; what refers to LWS's variables is not escaped."""
    return tuple(
        Noted(
            value=word.text if LEADER in word.text or RANK in word.text else literal(word.text),
            because=word.because,
        )
        for word in arguments
    )


__all__ = ["Spread", "View", "join_of", "share", "spread_of", "view"]
