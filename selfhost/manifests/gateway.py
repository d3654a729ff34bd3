"""What templates/gateway/ sees as `plan`: target kubernetes, an InferencePool and its endpoint picker.

A gateway asks the picker which pod takes a request: the one with the prompt's beginning in its cache, or the idlest.
Read in llm-d/llm-d-inference-scheduler v0.8.0 (deploy/, docs/disaggregation.md, pkg/sidecar) and
kubernetes-sigs/gateway-api-inference-extension v1.5.0 (config/charts/epplib) on 2026-11-26; the picker moved from the
second to the first.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from selfhost.engines import parse_image
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import kubernetes
from selfhost.manifests.adapters import adapted
from selfhost.manifests.exposure import Backend, exposure
from selfhost.manifests.network import Peer, Policy, PolicyPort, Rule, dns_rule, server_policy
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import (
    Container,
    EmptyDir,
    FileItem,
    Files,
    GrpcHealth,
    Mount,
    Noted,
    Number,
    Pair,
    PodView,
    Port,
    Probed,
    Variable,
    Volume,
)
from selfhost.manifests.roles import Roles, roles_of
from selfhost.manifests.server import USER_ID
from selfhost.manifests.weights import placed
from selfhost.plan import Plan

BASE = "kubernetes"
OMIT: frozenset[str] = frozenset()
GATEWAY = "inference-gateway"  # what the examples of the Inference Extension call theirs
PICKER_IMAGE = "ghcr.io/llm-d/llm-d-inference-scheduler:v0.8.0"
POOL_GROUP = "inference.networking.k8s.io"
_GRPC, _HEALTH, _METRICS = 9002, 9003, 9090
_API_PORTS = (443, 6443)  # of API servers; which of them, and at what address, a cluster alone knows
_FILE = "picker.yaml"
_LONGER = 60  # seconds more than the pods have to end
# The metrics that the picker reads, where they are not vLLM's, which it knows by itself (epplib _deployment.yaml).
_METRIC_FLAGS = {
    "vllm": (),
    "sglang": (
        ("--total-queued-requests-metric", "sglang:num_queue_reqs"),
        ("--total-running-requests-metric", "sglang:num_running_reqs"),
        ("--kv-cache-usage-percentage-metric", "sglang:token_usage"),
        ("--cache-info-metric", "sglang:cache_config_info"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picker:
    """The endpoint picker. `config` is its file, lines of YAML."""

    name: str
    labels: tuple[Pair, ...]
    pod: PodView
    policy: Policy
    config_key: str
    config: str
    grpc_port: int
    metrics_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class View(kubernetes.View):
    """What target kubernetes prints, the pool and its picker, and the pods that only read prompts.

    `pool` are labels of the pods that requests may be sent to, `guarded` those of the pods that the policy is for.
    """

    picker: Picker | None
    pool: tuple[Pair, ...]
    guarded: tuple[Pair, ...]
    prefill: Roles | None


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: an engine whose metrics the picker cannot read.
        UsageError: options that contradict the plan.
    """
    assumed = options.access.expose == "none"
    if assumed:
        way = replace(options.access, expose="gateway", gateway=GATEWAY, host=f"{plan.name}.internal")
        options = replace(options, access=way)
    asked = options.access
    base = kubernetes.view(plan, options)
    roles = roles_of(adapted(placed(plan, options), options), options, base.server, base.storage)
    common = {field.name: getattr(base, field.name) for field in fields(base)}
    if asked.expose == "ingress":
        if options.nodes.picker_image is not None:
            raise UsageError(
                "--picker-image has no effect with --expose ingress, which asks no endpoint picker.",
                hint="Leave it out, or use --expose gateway.",
            )
        if roles is not None:
            raise UsageError(
                "--prefill-replicas needs the endpoint picker, which an Ingress does not ask.",
                hint="Use --expose gateway.",
            )
        return View(**common, picker=None, pool=(), guarded=base.selector, prefill=None)
    if plan.engine.name not in _METRIC_FLAGS:
        raise UnsupportedError(
            f"The endpoint picker does not read the metrics of {plan.engine.name}.",
            hint="Use --target kubernetes --expose gateway, or plan for vllm or sglang.",
        )
    pool = base.selector if roles is None else roles.member
    picker = _picker(plan, options, disaggregated=roles is not None)
    sender = Peer(because="the endpoint picker reads the metrics", pods=picker.pod.selector)
    policy = server_policy(plan, options, group=() if roles is None else roles.member, clients=(sender,))
    backend = Backend(group=POOL_GROUP, kind="InferencePool", name=plan.name, port=None)
    common |= {
        "policy": policy,
        "exposure": exposure(plan, options, backend=backend),
        "headline": (
            *base.headline,
            *(_assumed(plan) if assumed else ()),
            "requests go where the endpoint picker sends them; the gateway has to know InferencePool",
            *(() if roles is None else roles.said),
        ),
    }
    if roles is not None:
        common |= {"server": roles.decode, "labels": roles.decode_labels, "selector": roles.decode.selector}
    return View(**common, picker=picker, pool=pool, guarded=pool, prefill=roles)


def _assumed(plan: Plan) -> tuple[str, ...]:
    names = f"a Gateway {GATEWAY} in this namespace, and {plan.name}.internal as the name that clients call"
    return (f"ASSUMED: {names}; --expose gateway --gateway NAME/NAMESPACE --host NAME says them",)


def _picker(plan: Plan, options: RenderOptions, *, disaggregated: bool) -> Picker:
    name = f"{plan.name}-picker"
    labels = (
        Pair(key="app.kubernetes.io/name", value="endpoint-picker"),
        Pair(key="app.kubernetes.io/instance", value=plan.name),
        Pair(key="app.kubernetes.io/component", value="picker"),
        Pair(key="app.kubernetes.io/managed-by", value="selfhost"),
    )
    config = DISAGGREGATED if disaggregated else _TOGETHER
    image = parse_image(options.nodes.picker_image or PICKER_IMAGE)
    items = (FileItem(key=_FILE, path=_FILE),)
    pod = PodView(
        labels=labels,
        selector=labels[:3],
        annotations=(Pair(key="kubectl.kubernetes.io/default-container", value="picker"),),
        service_account=name,
        grace=Number(
            value=plan.clocks.grace_seconds.value + _LONGER,
            because="longer than the pods that it sends requests to",
        ),
        nodes=(),
        spread=False,
        taints=(),
        calls_api="watches the pool and its pods",
        user_id=USER_ID,
        groups=(),
        groups_because="",
        pull_secrets=options.access.image_pull_secrets,
        init=(),
        containers=(_container(plan, Noted(value=image.reference, because=_because(options))),),
        volumes=(
            Volume(name="config", config_map=Files(name=name, items=items, because="how it chooses")),
            Volume(name="tmp", empty=EmptyDir(size=Noted(value="64Mi", because="scratch files"))),
        ),
    )
    return Picker(
        name=name,
        labels=labels,
        pod=pod,
        policy=_policy(options),
        config_key=_FILE,
        config=config,
        grpc_port=_GRPC,
        metrics_port=_METRICS,
    )


def _because(options: RenderOptions) -> str:
    if options.nodes.picker_image is not None:
        return "as asked"
    return "the release whose flags and configuration these are"


def _container(plan: Plan, image: Noted) -> Container:
    metrics = [
        Noted(value=f"{flag}={name}", because="the engine's name for it")
        for flag, name in _METRIC_FLAGS[plan.engine.name]
    ]
    health = GrpcHealth(port=_HEALTH, service="envoy.service.ext_proc.v3.ExternalProcessor")
    five = Number(value=5, because="it answers from memory")
    return Container(
        name="picker",
        image=image,
        command=(),
        args=(
            Noted(value=f"--pool-name={plan.name}", because="the pool beside it"),
            Noted(value="--pool-namespace=$(NAMESPACE)", because="its own"),
            Noted(value=f"--pool-group={POOL_GROUP}", because="InferencePool v1"),
            Noted(value=f"--config-file=/etc/picker/{_FILE}", because="how it chooses"),
            Noted(value=f"--grpc-port={_GRPC}", because="where the gateway asks"),
            Noted(value=f"--grpc-health-port={_HEALTH}", because="where the kubelet asks"),
            Noted(value="--metrics-endpoint-auth=false", because="the NetworkPolicy says who may read them"),
            Noted(value="--zap-encoder=json", because="a line of JSON for each event"),
            *metrics,
        ),
        env=(
            Variable(name="NAMESPACE", pod_field="metadata.namespace", because="of the pool"),
            Variable(name="POD_NAME", pod_field="metadata.name", because="its own"),
        ),
        ports=(
            Port(name="grpc", number=_GRPC),
            Port(name="health", number=_HEALTH),
            Port(name="metrics", number=_METRICS),
        ),
        cpu_request=Noted(value="500m", because="ours: a request is scored in under a millisecond"),
        cpu_limit=Noted(value="4", because="ours: bursts of requests"),
        memory_request=Noted(value="512Mi", because="ours: the index of prefixes"),
        memory_limit=Noted(value="2Gi", because="ours: the index of prefixes"),
        ephemeral=Noted(value="256Mi", because="logs"),
        probes=Probed(
            ready_path="/",
            live_path="/",
            port="health",
            grpc=health,
            period=five,
            startup_failures=Number(value=12, because="a minute to list the pods"),
            timeout=five,
            live_timeout=five,
        ),
        user_id=USER_ID,
        read_only_root=True,
        root_because="it writes nothing",
        mounts=(Mount(name="config", path="/etc/picker", read_only=True), Mount(name="tmp", path="/tmp")),
    )


def _policy(options: RenderOptions) -> Policy:
    """Gateways ask from namespaces that vary, Prometheus from its own; it asks the API server and the pods."""
    gateway = options.gateway_namespace or (options.access.gateway or "").partition("/")[2]
    askers = [Peer(because="a gateway of this namespace", everyone=True)]
    if gateway:
        askers.append(Peer(because="the gateway asks for every request", namespace=gateway))
    monitoring = Peer(because="Prometheus reads the metrics", namespace=options.monitoring_namespace)
    api = tuple(PolicyPort(number=port) for port in _API_PORTS)
    anywhere = (Peer(because="the API server's address is the cluster's affair", cidr="0.0.0.0/0"),)
    return Policy(
        ingress=(
            Rule(because="which pod?", ports=(PolicyPort(number=_GRPC),), peers=tuple(askers)),
            Rule(because="metrics", ports=(PolicyPort(number=_METRICS),), peers=(monitoring,)),
        ),
        egress=(
            dns_rule(options, "names"),
            Rule(because="the API server", ports=api, peers=anywhere),
            Rule(
                because="metrics of the pods, on their own port",
                ports=(PolicyPort(),),
                peers=(Peer(because="pods of this namespace", everyone=True),),
            ),
        ),
    )


# Scorers and weights of the inferencepool chart v1.5.0; the first plugin of each kind is found by its type.
_TOGETHER = """\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
  - type: queue-scorer
  - type: kv-cache-utilization-scorer
  - type: prefix-cache-scorer
  - type: max-score-picker
  - type: single-profile-handler
schedulingProfiles:
  - name: default
    plugins:
      - pluginRef: queue-scorer
        weight: 2
      - pluginRef: kv-cache-utilization-scorer
        weight: 2
      - pluginRef: prefix-cache-scorer
        weight: 3
      - pluginRef: max-score-picker
"""
# deploy/config/pd-epp-config.yaml: a prompt with at least 16 tokens that no cache holds is read by a pod of its own.
DISAGGREGATED = """\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
featureGates:
  - prepareDataPlugins
plugins:
  - type: disagg-headers-handler
  - type: prefix-cache-scorer
    parameters:
      maxPrefixBlocksToMatch: 256
      lruCapacityPerServer: 31250
  - type: queue-scorer
  - type: prefill-filter
  - type: decode-filter
  - type: max-score-picker
  - type: prefix-based-pd-decider
    parameters:
      nonCachedTokens: 16
  - type: disagg-profile-handler
    parameters:
      deciders:
        prefill: prefix-based-pd-decider
schedulingProfiles:
  - name: prefill
    plugins:
      - pluginRef: prefill-filter
      - pluginRef: max-score-picker
      - pluginRef: prefix-cache-scorer
        weight: 2
      - pluginRef: queue-scorer
        weight: 1
  - name: decode
    plugins:
      - pluginRef: decode-filter
      - pluginRef: max-score-picker
      - pluginRef: prefix-cache-scorer
        weight: 2
      - pluginRef: queue-scorer
        weight: 1
"""
