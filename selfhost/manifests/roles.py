"""Prefill apart from decode: pods that only read prompts hand their KV cache to pods that only write answers.

A sidecar in the writing pods sends a prompt to the pod that the endpoint picker chose, and then its own server the
address of the cache. Read in llm-d/llm-d-inference-scheduler v0.8.0 (pkg/sidecar/proxy, deploy/components/vllm-sim-pd)
and vLLM 0.32.0 (distributed/kv_transfer/kv_connector/v1/nixl, envs.py) on 2026-11-26.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from selfhost.engines import Argument, parse_engine, parse_image
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Additions, Container, Noted, Number, Pair, PodView, Port, Variable
from selfhost.manifests.server import USER_ID, server_pod
from selfhost.manifests.weights import Storage
from selfhost.plan import Plan

ROLE = "llm-d.ai/role"  # by which the picker's filters know pods
SIDECAR_IMAGE = "ghcr.io/llm-d/llm-d-routing-sidecar:v0.8.0"
SINCE = (0, 12, 0)  # first release whose connector was checked against the sidecar's protocol nixlv2
_ENGINE_PORT, _SIDE_CHANNEL_PORT = 8200, 5600  # the sidecar's examples; vLLM's envs.py
_TRANSFER = json.dumps({"kv_connector": "NixlConnector", "kv_role": "kv_both"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Two kinds of pods.

    Args:
        name: of the Deployment of the pods that read prompts.
        replicas: how many there are.
        prefill: those.
        prefill_labels: labels of their Deployment.
        decode: the plan's replicas, which write answers.
        decode_labels: labels of their Deployment.
        member: labels that all of them have.
        said: what the reader has to know.
    """

    name: str
    replicas: int
    prefill: PodView
    prefill_labels: tuple[Pair, ...]
    decode: PodView
    decode_labels: tuple[Pair, ...]
    member: tuple[Pair, ...]
    said: tuple[str, ...]


def roles_of(plan: Plan, options: RenderOptions, server: PodView, stored: Storage) -> Roles | None:
    """The two kinds of pods, None where each pod does both.

    Args:
        plan: the decision.
        options: what the cluster decides.
        server: the pod that does both.
        stored: where the weights lie.

    Raises:
        UnsupportedError: the engine or its release cannot hand its cache on.
        UsageError: replicas that are scaled.
    """
    count = options.nodes.prefill_replicas
    if count is None:
        return None
    if plan.engine.name != "vllm":
        raise UnsupportedError(
            f"--prefill-replicas: the sidecar's protocol was read for vLLM, not for {plan.engine.name}.",
            hint="Plan for vllm, or leave --prefill-replicas out.",
        )
    if parse_engine(f"vllm@{plan.engine.version}").number < SINCE:
        raise UnsupportedError(
            f"--prefill-replicas: vllm {plan.engine.version} is too old.", hint="Take vllm@0.12 or newer."
        )
    if options.scaling.autoscale is not None:
        raise UsageError(
            "--prefill-replicas and --autoscale exclude each other: which kind is short is not known."
        )
    member = (
        Pair(key="app.kubernetes.io/instance", value=plan.name),
        Pair(key="selfhost/group", value=plan.name),
    )
    gpus = plan.gpu.count * (plan.replicas + count)
    transfer = Argument(
        flag="--kv-transfer-config", value=_TRANSFER, because="the cache goes from pod to pod by NIXL"
    )
    args = (*plan.engine.args, transfer)
    more = Additions(
        env=(
            Variable(
                name="VLLM_NIXL_SIDE_CHANNEL_HOST",
                pod_field="status.podIP",
                because="where other pods ask for the cache",
            ),
            Variable(
                name="VLLM_NIXL_SIDE_CHANNEL_PORT",
                value=str(_SIDE_CHANNEL_PORT),
                because="vLLM's own default",
            ),
        )
    )
    reading = server_pod(plan, options, stored, component="prefill", args=args, more=more, spread=count > 1)
    moved = tuple(_moved(word) for word in args)
    writing = server_pod(plan, options, stored, args=moved, more=more, spread=server.spread)
    return Roles(
        name=f"{plan.name}-prefill",
        replicas=count,
        prefill=_marked(reading, member, "prefill"),
        prefill_labels=reading.labels,
        decode=_with_sidecar(plan, options, _marked(writing, member, "decode")),
        decode_labels=writing.labels,
        member=member,
        said=(
            f"{count} pods read prompts, {plan.replicas} write answers: {gpus} GPUs in all, each pod sized as planned",
            "prefill apart from decode was not tried on GPUs: measure it against as many pods that do both",
        ),
    )


def _moved(word: Argument) -> Argument:
    """The server's port makes room for the sidecar's."""
    if word.flag != "--port":
        return word
    return replace(word, value=str(_ENGINE_PORT), because="behind the sidecar, which has the pod's own port")


def _marked(pod: PodView, member: tuple[Pair, ...], role: str) -> PodView:
    own = (Pair(key="selfhost/group", value=member[1].value), Pair(key=ROLE, value=role))
    return replace(pod, labels=(*pod.labels, *own))


def _with_sidecar(plan: Plan, options: RenderOptions, pod: PodView) -> PodView:
    server = pod.containers[0]
    ports = tuple(
        replace(port, name="engine", number=_ENGINE_PORT) if port.name == "http" else port
        for port in server.ports
    )
    probes = None if server.probes is None else replace(server.probes, port="engine")
    behind = replace(server, ports=ports, probes=probes)
    return replace(pod, init=(*pod.init, _sidecar(plan, options)), containers=(behind, *pod.containers[1:]))


def _sidecar(plan: Plan, options: RenderOptions) -> Container:
    asked = options.nodes.sidecar_image
    because = "as asked" if asked else "the release whose flags these are"
    return Container(
        name="routing",
        image=Noted(value=parse_image(asked or SIDECAR_IMAGE).reference, because=because),
        command=(),
        args=(
            Noted(value=f"--port={plan.engine.port}", because="the pod's own port"),
            Noted(value=f"--vllm-port={_ENGINE_PORT}", because="the server behind it"),
            Noted(value="--kv-connector=nixlv2", because="the protocol of NixlConnector"),
            Noted(
                value="--secure-proxy=false",
                because="the gateway speaks HTTP to the pods, as to the server itself",
            ),
            Noted(value=f"--data-parallel-size={plan.split.data}", because="as the server's"),
        ),
        env=(Variable(name="POD_IP", pod_field="status.podIP", because="its own address"),),
        ports=(Port(name="http", number=plan.engine.port),),
        cpu_request=Noted(value="500m", because="ours: it copies streams"),
        cpu_limit=Noted(value="2", because="ours: bursts of requests"),
        memory_request=Noted(value="128Mi", because="ours: buffers of open streams"),
        memory_limit=Noted(value="512Mi", because="ours: buffers of open streams"),
        pre_stop=Number(
            value=plan.clocks.pre_stop_seconds.value,
            because="goes on while endpoints and gateways forget the pod",
        ),
        restart="Always",
        user_id=USER_ID,
        read_only_root=True,
        root_because="it writes nothing",
        mounts=(),
    )
