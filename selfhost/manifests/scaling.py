"""How many replicas there are, and what changes their number: KEDA's ScaledObject or a HorizontalPodAutoscaler."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests.engine_metrics import EngineMetrics, engine_metrics
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Noted, Number
from selfhost.manifests.queries import DEPLOYMENT_PODS, Scope, scope_of
from selfhost.plan import Plan

NODE_KEY, ZONE_KEY = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
# Kubernetes' limits (autoscaling/v2: stabilizationWindowSeconds of HPAScalingRules, periodSeconds of HPAScalingPolicy).
LONGEST_WINDOW_SECONDS, LONGEST_PERIOD_SECONDS = 3600, 1800
# Ours: a fifth of a replica is kept free for what comes while the next one loads, and a quarter of it may queue.
FULL_PERCENT, QUEUE_SHARE = 80, 4
POLL_SECONDS = 30  # KEDA's default, and the PodMonitor's interval: asking more often gives the same answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Fewest and most replicas. `scaled`: something in the cluster changes their number."""

    least: int
    most: int
    scaled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleTarget:
    """The object whose replicas are changed, named as the plan where it has no name, and how its pods are named."""

    api_version: str = "apps/v1"
    kind: str = "Deployment"
    name: str | None = None
    pods: str = DEPLOYMENT_PODS


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One question of KEDA to Prometheus, whose answer is one number. Replicas = the number / the threshold."""

    name: str
    query: Noted
    threshold: Noted
    activation: Noted
    ignore_null: Noted


@dataclass(frozen=True, slots=True, kw_only=True)
class PodsMetric:
    """A metric of each pod for the HPA, and its average that is aimed at."""

    name: str
    average: Noted


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRule:
    """A rule of prometheus-adapter, which serves a metric of pods to the HPA."""

    name: str
    series: str
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How quickly replicas come and go: both follow from how long one loads and drains."""

    up_period: Number
    down_window: Number
    down_period: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Everything about the number of replicas.

    Args:
        keda: KEDA scales.
        hpa: the HPA scales by itself.
        least: fewest replicas.
        most: most replicas.
        target: the object that is scaled.
        behaviour: how quickly.
        triggers: for KEDA.
        metrics: for the HPA.
        adapter: for the prometheus-adapter that the HPA needs.
        server: address of Prometheus.
        authentication: name of KEDA's TriggerAuthentication.
        probe_metric: a metric of the adapter, by which a reader sees whether it works.
        to_zero: no replica is kept while nobody asks.
        idle_seconds: how long nobody has to ask for that.
        cost: what that costs, in words.
    """

    keda: bool
    hpa: bool
    least: Number
    most: Number
    target: ScaleTarget
    behaviour: Behaviour
    poll: Number
    triggers: tuple[Trigger, ...]
    metrics: tuple[PodsMetric, ...]
    adapter: tuple[AdapterRule, ...]
    server: Noted
    authentication: str | None
    probe_metric: str
    to_zero: bool
    idle_seconds: Number
    cost: str


def replicas_of(plan: Plan, options: RenderOptions) -> Replicas:
    """Fewest and most replicas.

    Raises:
        UsageError: the plan has more than autoscaling may make.
    """
    asked = options.scaling
    if asked.autoscale is None or asked.max_replicas is None:
        return Replicas(least=plan.replicas, most=plan.replicas, scaled=False)
    if plan.replicas > asked.max_replicas:
        raise UsageError(
            f"The plan has {plan.replicas} replicas, and --max-replicas is {asked.max_replicas}.",
            hint=f"Write --max-replicas {plan.replicas} or more, or plan for fewer.",
        )
    least = 0 if asked.scale_to_zero else asked.min_replicas or plan.replicas
    return Replicas(least=least, most=asked.max_replicas, scaled=True)


def spread_keys(options: RenderOptions) -> tuple[str, ...]:
    """Labels of nodes over whose values replicas are spread."""
    return (ZONE_KEY, NODE_KEY) if options.scaling.spread == "zone" else (NODE_KEY,)


def scaling(plan: Plan, options: RenderOptions, *, target: ScaleTarget | None = None) -> Scaling | None:
    """What scales the replicas of a plan, None where nothing does.

    Args:
        plan: the decision.
        options: what the cluster decides.
        target: the object whose replicas change; the Deployment of target kubernetes if absent.

    Raises:
        UsageError: numbers that contradict the plan.
        UnsupportedError: an engine that does not say how many requests wait.
    """
    replicas, asked = replicas_of(plan, options), options.scaling
    if not replicas.scaled:
        return None
    metrics = engine_metrics(plan.engine.name, plan.engine.metrics)
    if metrics.waiting is None:
        raise UnsupportedError(
            f"--autoscale: {plan.engine.name} {plan.engine.version} has no metric of requests that wait.",
            hint="Plan for vllm or sglang, or leave it out: the number of replicas in the plan stays.",
        )
    aim = target or ScaleTarget()
    load = plan.clocks.load_seconds.value
    return Scaling(
        keda=asked.autoscale == "keda",
        hpa=asked.autoscale == "hpa",
        least=Number(value=replicas.least, because=_least_reason(plan, options)),
        most=Number(value=replicas.most, because=f"at most {_gpus(plan, replicas.most)}"),
        target=aim,
        behaviour=behaviour(plan),
        poll=Number(value=POLL_SECONDS, because="metrics are read as often"),
        triggers=_triggers(plan, options, metrics, aim) if asked.autoscale == "keda" else (),
        metrics=_pods_metrics(plan, options, metrics) if asked.autoscale == "hpa" else (),
        adapter=_adapter(plan, metrics) if asked.autoscale == "hpa" else (),
        server=_server(options),
        authentication=asked.trigger_authentication,
        probe_metric=_adapted(plan, "waiting"),
        to_zero=asked.scale_to_zero,
        idle_seconds=Number(value=load, because="gone only after as long as it would take to come back"),
        cost=_cost(plan) if asked.scale_to_zero else "",
    )


def behaviour(plan: Plan) -> Behaviour:
    """How quickly replicas come and go."""
    load, grace = plan.clocks.load_seconds.value, plan.clocks.grace_seconds.value
    up, window = min(load, LONGEST_PERIOD_SECONDS), min(load, LONGEST_WINDOW_SECONDS)
    more = f"; {LONGEST_PERIOD_SECONDS} s is Kubernetes' limit" if up < load else ""
    longest = f"; {LONGEST_WINDOW_SECONDS} s is Kubernetes' limit" if window < load else ""
    return Behaviour(
        up_period=Number(
            value=up,
            because=f"those that were added take up to {load} s to load and no request till then{more}",
        ),
        down_window=Number(
            value=window,
            because=f"one that took up to {load} s to load is kept for as long after the last peak{longest}",
        ),
        down_period=Number(
            value=min(grace, LONGEST_PERIOD_SECONDS), because=f"one at a time: each has {grace} s to drain"
        ),
    )


def headline(plan: Plan, options: RenderOptions) -> tuple[str, ...]:
    """What autoscaling may take, in words."""
    replicas, asked = replicas_of(plan, options), options.scaling
    if not replicas.scaled:
        return ()
    what = "KEDA" if asked.autoscale == "keda" else "The HPA"
    noun = "replica" if replicas.most == 1 else "replicas"
    lines = [f"{what} keeps {replicas.least} to {replicas.most} {noun}: at most {_gpus(plan, replicas.most)}"]
    if asked.scale_to_zero:
        lines.append(f"SCALED TO ZERO: {_cost(plan)}")
    return tuple(lines)


def _gpus(plan: Plan, replicas: int) -> str:
    return f"{replicas * plan.gpu.count} x {plan.gpu.name}"


def _cost(plan: Plan) -> str:
    load = plan.clocks.load_seconds.value
    return (
        f"after a quiet time a request finds no server for up to {load} s of loading, more where a node has to be made "
        "and the image pulled; what stands in front has to hold it or say 503"
    )


def _least_reason(plan: Plan, options: RenderOptions) -> str:
    asked = options.scaling
    if asked.scale_to_zero:
        return f"none while nobody asks: {_cost(plan)}"
    if asked.min_replicas is None:
        return "as planned"
    more = f"; the plan has {plan.replicas}" if asked.min_replicas != plan.replicas else ""
    return f"as asked{more}"


def _server(options: RenderOptions) -> Noted:
    asked = options.scaling.prometheus_url
    if asked is not None:
        return Noted(value=asked, because="as asked")
    return Noted(
        value=f"http://prometheus-operated.{options.monitoring_namespace}.svc:9090",
        because="the Service that the Prometheus operator makes beside its Prometheus",
    )


def _held(plan: Plan) -> tuple[int, str]:
    """Requests that one replica holds at once, and why that many."""
    memory = plan.memory
    planned, length = memory.concurrency, f"{memory.max_model_len:,} tokens"
    room = planned if memory.max_concurrency is None else int(memory.max_concurrency)
    held = max(1, min(memory.max_num_seqs, max(planned, room)))
    return held, f"{held:,} requests of {length} that one replica holds (planned for {planned:,})"


def _aim(plan: Plan, options: RenderOptions) -> Noted:
    asked = options.scaling.target_requests
    if asked is not None:
        return Noted(value=str(asked), because="requests in flight for each replica, as asked")
    held, words = _held(plan)
    return Noted(
        value=str(max(1, held * FULL_PERCENT // 100)),
        because=f"{FULL_PERCENT} % of the {words}: the rest comes while another loads",
    )


def queue_length(plan: Plan, options: RenderOptions) -> int:
    """Requests that may wait for each replica."""
    return int(_queue(plan, options).value)


def _queue(plan: Plan, options: RenderOptions) -> Noted:
    asked = options.scaling.target_requests
    held, words = (asked, f"{asked:,} that are aimed at") if asked is not None else _held(plan)
    return Noted(value=str(max(1, held // QUEUE_SHARE)), because=f"a quarter of the {words} may queue")


def _triggers(
    plan: Plan, options: RenderOptions, metrics: EngineMetrics, target: ScaleTarget
) -> tuple[Trigger, ...]:
    """Requests in flight, those that wait, and what wakes the first replica; KEDA takes what asks for most replicas."""
    scope = scope_of(plan, options.namespace, pods=target.pods)
    asked = options.scaling
    null = (
        Noted(value="true", because="with no replica there are no metrics")
        if asked.scale_to_zero
        else Noted(value="false", because="no series is a scrape that broke, no empty queue: replicas stay")
    )
    activation = Noted(value="0", because="one request is work")
    found = []
    if metrics.running is not None:
        query = Noted(
            value=_in_flight(scope, metrics),
            because="in flight: grows with the load alone, not with replicas",
        )
        found.append(
            Trigger(
                name="in-flight",
                query=query,
                threshold=_aim(plan, options),
                activation=activation,
                ignore_null=null,
            )
        )
    query = Noted(
        value=scope.total(metrics.waiting or ""), because="admitted by no rank yet: the cache is full"
    )
    found.append(
        Trigger(
            name="waiting",
            query=query,
            threshold=_queue(plan, options),
            activation=activation,
            ignore_null=null,
        )
    )
    if asked.wake_query is not None:
        woken = Noted(
            value=f"clamp_max(sum({asked.wake_query}), 1)",
            because="requests with no replica there: at most one",
        )
        one = Noted(value="1", because="wakes the first replica; the others come by the engine's metrics")
        always = Noted(value="true", because="nothing in front has been asked yet")
        found.append(
            Trigger(name="wake", query=woken, threshold=one, activation=activation, ignore_null=always)
        )
    return tuple(found)


def _in_flight(scope: Scope, metrics: EngineMetrics) -> str:
    return f"{scope.total(metrics.running or '')} + {scope.total(metrics.waiting or '')}"


def _pods_metrics(plan: Plan, options: RenderOptions, metrics: EngineMetrics) -> tuple[PodsMetric, ...]:
    found = [PodsMetric(name=_adapted(plan, "waiting"), average=_queue(plan, options))]
    if metrics.running is not None:
        found.insert(0, PodsMetric(name=_adapted(plan, "in_flight"), average=_aim(plan, options)))
    return tuple(found)


def _adapter(plan: Plan, metrics: EngineMetrics) -> tuple[AdapterRule, ...]:
    """Rules that hold for every deployment of this engine: the HPA asks for its own pods only."""
    ranks = scope_of(plan, "").ranks
    name = metrics.waiting or ""
    waiting = _by_pod(name, ranks)
    found = [AdapterRule(name=_adapted(plan, "waiting"), series=_found(name), query=waiting)]
    if metrics.running is not None:
        both = f"{_by_pod(metrics.running, ranks)} + {waiting}"
        found.insert(
            0, AdapterRule(name=_adapted(plan, "in_flight"), series=_found(metrics.running), query=both)
        )
    return tuple(found)


def _adapted(plan: Plan, what: str) -> str:
    """Name that the adapter gives a metric: one for each engine, as a name has one rule."""
    return f"selfhost_{plan.engine.name}_requests_{what}"


def _found(metric: str) -> str:
    return f'{metric}{{namespace!="",pod!=""}}'


def _by_pod(metric: str, ranks: tuple[str, ...]) -> str:
    """One number for each pod: ranks added up, and a pod that is scraped twice counted once."""
    once = f"max by ({', '.join(('<<.GroupBy>>', *ranks))}) ({metric}{{<<.LabelMatchers>>}})"
    return f"sum by (<<.GroupBy>>) ({once})"
