"""What templates/production-stack/ sees as `plan`: values of the chart vllm-stack, and the objects beside it.

Read in vllm-project/production-stack at its tag vllm-stack-0.1.12, on 2026-11-26. The chart writes the command itself
and some arguments always; those are given by its own keys, and all others word for word as `extraArgs`.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.errors import UnsupportedError
from selfhost.manifests import kubernetes
from selfhost.manifests.exposure import Backend
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.peers import (
    BASE,
    Gap,
    Workload,
    beside,
    main_container,
    one_node,
    only_engines,
    refuse,
    short_annotations,
    values_of,
    without,
)
from selfhost.manifests.peers import OMIT as WORKLOAD
from selfhost.manifests.pod import Container, Mount, Noted, Number, Pair, PodView, SecretKey, Variable, Volume
from selfhost.manifests.scaling import replicas_of
from selfhost.plan import Plan

OMIT = WORKLOAD | {"66-ingress.yaml"}  # the chart makes one to its router
CHART, CHART_VERSION = "vllm-stack", "0.1.12"
# The chart's releases push the router's image under `v` and their own version (.github/workflows/helm-release.yml).
ROUTER_REPOSITORY, ROUTER_TAG = "lmcache/lmstack-router", f"v{CHART_VERSION}"
MODEL_NAME, ROUTER_PORT = "llm", 80
PORT_NAME = "container-port"
# What the chart always sets (templates/deployment-vllm-multi.yaml).
CHART_VARIABLES = frozenset(
    {"PYTHONHASHSEED", "HF_HOME", "POD_IP", "PROMETHEUS_MULTIPROC_DIR", "VLLM_API_KEY", "HF_TOKEN"}
)
CHART_FLAGS = frozenset(
    {
        None,
        "--host",
        "--port",
        "--revision",
        "--tensor-parallel-size",
        "--max-model-len",
        "--enable-prefix-caching",
        "--no-enable-prefix-caching",
    }
)
_SHARED_MEMORY = "/dev/shm"


@dataclass(frozen=True, slots=True, kw_only=True)
class View(kubernetes.View):
    """What stands beside the chart, and its values."""

    chart: str
    chart_version: str
    release: str
    model_name: str
    workload: str
    service: str
    router_service: str
    router_repository: str
    router_tag: str
    repository: str
    tag: Noted
    model: Noted
    commit: Noted | None
    count: Number
    tensor: Number
    max_model_len: Number | None
    prefix_caching: bool
    extra_args: tuple[Noted, ...]
    env: tuple[Variable, ...]
    api_key: SecretKey | None
    pull_secret: str | None
    runtime_class: str
    shared_memory: Noted
    wait: Container | None
    volumes: tuple[Volume, ...]
    mounts: tuple[Mount, ...]
    pod: PodView
    container: Container
    ingress_host: str | None
    ingress_class: str | None
    tls_secret: str | None
    gaps: tuple[Gap, ...]


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: another engine than vLLM, several nodes, or what the chart's one Deployment cannot be.
        UsageError: options that contradict the plan, or that the chart has no place for.
    """
    only_engines(plan, "production-stack", ("vllm",), "its chart starts `vllm serve`, whatever the image")
    one_node(
        plan,
        options,
        "production-stack",
        "its way over nodes is a RayCluster that knows none of the plan's clocks",
    )
    _refuse(options)
    if plan.engine.command != ("vllm", "serve"):
        raise UnsupportedError(
            f"production-stack starts `vllm serve`; the plan starts {' '.join(plan.engine.command)}.",
            hint="Plan for a newer vLLM, or render with --target kubernetes.",
        )
    base = beside(plan, options, _workload(plan))
    pod, container, image = base.server, main_container(base.server), plan.engine.image
    _refuse_pod(pod)
    values = values_of(base) | {"annotations": short_annotations(base)}
    return View(
        **values,
        chart=CHART,
        chart_version=CHART_VERSION,
        release=plan.name,
        model_name=MODEL_NAME,
        workload=f"{plan.name}-{MODEL_NAME}-deployment-vllm",
        service=f"{plan.name}-{MODEL_NAME}-engine-service",
        router_service=f"{plan.name}-router-service",
        router_repository=ROUTER_REPOSITORY,
        router_tag=ROUTER_TAG,
        repository=image.repository,
        tag=Noted(
            value=image.tag + (f"@{image.digest}" if image.digest else ""), because=container.image.because
        ),
        model=_model(container),
        commit=_value(container, "--revision"),
        count=Number(value=replicas_of(plan, options).least, because="as planned"),
        tensor=Number(value=plan.split.tensor, because="GPUs that share each layer"),
        max_model_len=_number(_value(container, "--max-model-len")),
        prefix_caching=_value(container, "--no-enable-prefix-caching") is None,
        extra_args=tuple(
            word
            for (flag, _), word in zip(_words(container), container.args, strict=True)
            if flag not in CHART_FLAGS
        ),
        env=without(container.env, CHART_VARIABLES),
        api_key=_api_key(container.env),
        pull_secret=pod.pull_secrets[0] if pod.pull_secrets else None,
        runtime_class=pod.runtime_class or "",
        shared_memory=_shared_memory(pod, container),
        wait=pod.init[0] if pod.init else None,
        volumes=tuple(volume for volume in pod.volumes if volume.name != "shm"),
        mounts=tuple(mount for mount in container.mounts if mount.path != _SHARED_MEMORY),
        pod=pod,
        container=container,
        ingress_host=options.access.host if options.access.expose == "ingress" else None,
        ingress_class=options.access.ingress_class,
        tls_secret=options.access.tls_secret,
        gaps=_gaps(plan, scaled=base.scaling is not None),
    )


def _workload(plan: Plan) -> Workload:
    return Workload(
        name=f"{plan.name}-{MODEL_NAME}-deployment-vllm",
        selector=(
            Pair(key="app.kubernetes.io/name", value=MODEL_NAME),
            Pair(key="app.kubernetes.io/instance", value=plan.name),
            Pair(key="app.kubernetes.io/component", value="serving-engine"),
        ),
        backend=Backend(name=f"{plan.name}-router-service", port=ROUTER_PORT),
        port_name=PORT_NAME,
    )


def _refuse_pod(pod: PodView) -> None:
    if pod.resource_claims:
        raise UnsupportedError(
            "production-stack has no place for claims on devices (DRA).",
            hint="Leave the claims out, or render with --target kubernetes.",
        )
    if len(pod.pull_secrets) > 1:
        raise UnsupportedError(
            "production-stack takes one --image-pull-secret.", hint="Put both registries into one Secret."
        )


def _refuse(options: RenderOptions) -> None:
    refuse(
        "production-stack",
        (
            (
                "--prefill-replicas",
                options.nodes.prefill_replicas is not None,
                "Render with --target llm-d or --target gateway, which know both roles.",
            ),
        ),
    )


def _words(container: Container) -> tuple[tuple[str | None, Noted], ...]:
    """Flag and value of each argument; no flag for a bare word."""
    found = []
    for word in container.args:
        flag, _, value = word.value.partition("=") if word.value.startswith("--") else (None, "", word.value)
        found.append((flag, Noted(value=value, because=word.because)))
    return tuple(found)


def _value(container: Container, flag: str | None) -> Noted | None:
    return next((value for known, value in _words(container) if known == flag), None)


def _model(container: Container) -> Noted:
    found = _value(container, None)
    if found is None:
        raise UnsupportedError(
            "production-stack takes the model as the first word, and the plan names it otherwise.",
            hint="Plan for a newer vLLM, or render with --target kubernetes.",
        )
    return found


def _number(value: Noted | None) -> Number | None:
    return None if value is None else Number(value=int(value.value), because=value.because)


def _api_key(env: tuple[Variable, ...]) -> SecretKey | None:
    return next((variable.secret for variable in env if variable.name == "VLLM_API_KEY"), None)


def _shared_memory(pod: PodView, container: Container) -> Noted:
    """Size of the volume at /dev/shm, which the chart makes itself."""
    names = [mount.name for mount in container.mounts if mount.path == _SHARED_MEMORY]
    sizes = [volume.empty.size for volume in pod.volumes if volume.name in names and volume.empty is not None]
    return sizes[0]


def _gaps(plan: Plan, *, scaled: bool) -> tuple[Gap, ...]:
    clocks = plan.clocks
    gaps = [
        Gap(
            what="terminationGracePeriodSeconds, preStop",
            so=f"pods are killed 30 s after SIGTERM and requests may still come in, instead of "
            f"{clocks.pre_stop_seconds.value} s of quiet and {clocks.drain_seconds.value} s to finish; "
            "patch-deployment.yaml sets both",
        ),
        Gap(
            what="enableServiceLinks",
            so="a Service named `vllm` in the namespace sets VLLM_PORT to a URL, at which vLLM ends: name no Service "
            "so; patch-deployment.yaml turns it off",
        ),
        Gap(
            what="progressDeadlineSeconds",
            so=f"1200 s is fixed, this plan needs {clocks.progress_deadline_seconds.value} s; the patch sets it",
        ),
        Gap(
            what="terminationMessagePolicy",
            so="a traceback stands in the log alone; patch-deployment.yaml sets it",
        ),
        Gap(
            what="topologySpreadConstraints",
            so="replicas avoid each other by a preferred anti-affinity instead",
        ),
        Gap(what="a host name for each replica", so="all pods of the Deployment have the same one"),
        Gap(
            what="arguments of its own",
            so="`--host 0.0.0.0` and prefix caching said aloud are added to the plan's; order and spelling are the "
            "chart's",
        ),
        Gap(
            what="variables of its own",
            so="PYTHONHASHSEED, POD_IP, HF_HOME=/tmp and PROMETHEUS_MULTIPROC_DIR=/tmp: metrics of the process itself "
            "(process_*, python_*) are then missing",
        ),
        Gap(
            what="ports of its own", so="55555 and 9999 are named in pods and Services; nothing listens there"
        ),
        Gap(
            what="its own autoscaling",
            so="left off: its trigger asks for the label `model`, which vLLM calls `model_name`, and finds nothing; "
            "--autoscale brings a ScaledObject that finds something",
        ),
        Gap(
            what="the router",
            so="it needs a token, as it asks Kubernetes for pods; its image was not tried as another user than root",
        ),
    ]
    if scaled:
        gaps.append(
            Gap(
                what="no number of replicas",
                so="each `helm upgrade` sets it back to the fewest, until KEDA looks",
            )
        )
    return tuple(gaps)


__all__ = ["BASE", "OMIT", "View", "view"]
