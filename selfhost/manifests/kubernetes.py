"""What templates/kubernetes/ sees as `plan`: the plan, in Kubernetes' terms, with nothing left to compute."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from selfhost import __version__
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests.document import Document
from selfhost.manifests.download import ARCHIVE_PATH, Download, download
from selfhost.manifests.licence import licence_annotations
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.zipapp import ARCHIVE_FILE, pull_archive
from selfhost.place import NODE_GPUS
from selfhost.plan import Clocks, Derived, Plan, to_json
from selfhost.units import GIB, MIB

USER_ID = 10001  # above 10,000: no clash with users of a node (Pod Security advice)
# AMD's device nodes belong to the groups `video` and `render`; the second number differs between distributions.
_AMD_GROUPS = (44, 109)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A value as it stands in the manifest, and its reason for the comment beside it."""

    value: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A label or an annotation."""

    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable, escaped for Kubernetes' own expansion."""

    name: str
    value: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """The download Job; `archive` is the file that the ConfigMap brings into the cluster, None where there is none."""

    name: str
    image: Noted
    command: tuple[str, ...]
    args: tuple[Noted, ...]
    home: str
    ports: tuple[int, ...]
    archive: str | None
    archive_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a template may print; `files` are written as they are."""

    name: str
    namespace: str
    headline: tuple[str, ...]
    model_id: str
    revision: str | None
    labels: tuple[Pair, ...]
    selector: tuple[Pair, ...]
    download_labels: tuple[Pair, ...]
    download_selector: tuple[Pair, ...]
    annotations: tuple[Pair, ...]
    licence: tuple[Pair, ...]
    replicas: int
    image: Noted
    command: tuple[str, ...]
    args: tuple[Noted, ...]
    env: tuple[Variable, ...]
    port: int
    health_path: str
    metrics_path: str
    gpu_resource: str
    gpu_taints: tuple[str, ...]
    gpu_count: Noted
    gpu_name: str
    node_label: str
    node_values: tuple[str, ...]
    clocks: Clocks
    cpu_request: Noted
    cpu_limit: Noted
    memory: Noted
    ephemeral: Noted
    shared_memory: Noted
    home: Noted
    tmp: Noted
    home_path: str
    user_id: int
    groups: tuple[int, ...]
    groups_because: str
    read_only_root: bool
    max_surge: int
    max_unavailable: int
    strategy_because: str
    spread: bool
    volume: Noted
    access_mode: Noted
    storage_class: str | None
    claim_name: str
    cache_path: str
    mount_path: str
    marker: str
    wait_seconds: str
    download: Pull | None
    download_name: str
    hub_endpoint: str | None
    token_secret: str
    namespaces: tuple[Noted, ...]
    pod_monitor: bool
    files: tuple[Document, ...]
    resources: tuple[str, ...]


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: what one pod cannot be (more GPUs than a node has).
        UsageError: options that contradict the plan.
    """
    if plan.gpu.count > NODE_GPUS:
        raise UnsupportedError(
            f"The plan needs {plan.gpu.count} GPUs for one replica; a pod has those of one node, at most {NODE_GPUS}.",
            hint="Plan for a GPU with more memory, or for smaller weights (--quant fp8).",
        )
    pull = _pull(plan, options)
    return View(
        name=plan.name,
        namespace=options.namespace,
        headline=_headline(plan),
        model_id=plan.model.id,
        revision=plan.model.revision,
        labels=_labels(plan, "server"),
        selector=_labels(plan, "server")[:3],
        download_labels=_labels(plan, "download"),
        download_selector=_labels(plan, "download")[:3],
        annotations=(
            Pair(key="selfhost/model", value=plan.model.id),
            *_licence(plan),
            Pair(key="selfhost/plan", value=to_json(plan, indent=None).rstrip("\n")),
        ),
        licence=_licence(plan),
        replicas=plan.replicas,
        image=Noted(value=plan.engine.image.reference, because=_image_reason(plan)),
        command=tuple(map(_literal, plan.engine.command)),
        args=tuple(Noted(value=_literal(arg.text), because=arg.because) for arg in plan.engine.args),
        env=tuple(Variable(name=e.name, value=_literal(e.value), because=e.because) for e in plan.engine.env),
        port=plan.engine.port,
        health_path=plan.engine.health_path,
        metrics_path=plan.engine.metrics_path,
        gpu_resource=plan.gpu.resource,
        gpu_taints=_taints(plan),
        gpu_count=Noted(value=str(plan.gpu.count), because=_gpu_reason(plan)),
        gpu_name=plan.gpu.name,
        node_label=plan.gpu.label,
        node_values=plan.gpu.label_values,
        clocks=plan.clocks,
        cpu_request=_count(plan.pod.cpu_request),
        cpu_limit=_count(plan.pod.cpu_limit),
        memory=_size(plan.pod.memory_bytes),
        ephemeral=_size(plan.pod.ephemeral_bytes),
        shared_memory=_size(plan.pod.shared_memory_bytes),
        home=_size(plan.pod.home_bytes),
        tmp=_size(plan.pod.tmp_bytes),
        home_path=plan.engine.home_path,
        user_id=USER_ID,
        groups=_AMD_GROUPS if plan.gpu.vendor == "AMD" else (),
        groups_because="video and render, of /dev/kfd and /dev/dri; `getent group render` on a node says which",
        read_only_root=options.read_only_root,
        max_surge=1 if options.surge else 0,
        max_unavailable=0 if options.surge else 1,
        strategy_because=_strategy_reason(plan, options),
        spread=plan.replicas > 1,
        volume=_size(plan.weights.volume_bytes),
        access_mode=_access_mode(plan, options),
        storage_class=options.storage_class,
        mount_path=plan.weights.mount_path,
        claim_name=f"{plan.name}-weights",
        cache_path=plan.weights.cache_path,
        marker=_literal(_marker(plan)),
        wait_seconds=str(plan.clocks.download_deadline_seconds.value),
        download=pull,
        download_name=f"{plan.name}-download",
        hub_endpoint=options.hub_endpoint,
        token_secret=options.token_secret,
        namespaces=_namespaces(options),
        pod_monitor=options.pod_monitor,
        files=()
        if pull is None or pull.archive is None
        else (Document(name=pull.archive, data=pull_archive()),),
        resources=(),
    )


def _literal(text: str) -> str:
    """Text that Kubernetes' own `$(NAME)` expansion of commands, arguments and variables gives back unchanged."""
    return text.replace("$", "$$")


def _labels(plan: Plan, component: str) -> tuple[Pair, ...]:
    return (
        Pair(key="app.kubernetes.io/name", value=plan.engine.name),
        Pair(key="app.kubernetes.io/instance", value=plan.name),
        Pair(key="app.kubernetes.io/component", value=component),
        Pair(key="app.kubernetes.io/version", value=plan.engine.version),
        Pair(key="app.kubernetes.io/managed-by", value="selfhost"),
    )


def _licence(plan: Plan) -> tuple[Pair, ...]:
    return tuple(Pair(key=key, value=value) for key, value in licence_annotations(plan))


def _headline(plan: Plan) -> tuple[str, ...]:
    split, budget = plan.split, plan.memory
    shape = f"TP {split.tensor}" + (f" x PP {split.pipeline}" if split.pipeline > 1 else "")
    shape += f" x DP {split.data}" if split.data > 1 else ""
    noun = "request" if budget.concurrency == 1 else "requests"
    lines = [
        f"{plan.model.id} at {plan.model.revision or 'an unpinned revision'}",
        f"{_replicas(plan)}{plan.gpu.count} x {plan.gpu.name} ({shape}), {plan.engine.name} {plan.engine.version}",
        f"sized for {budget.concurrency:,} {noun} of {budget.max_model_len:,} tokens at once",
    ]
    if plan.model.revision is None and plan.weights.kind == "hub":
        lines.append(
            f"NOT PINNED: no commit was known when this was planned; plan {plan.model.id}@COMMIT to pin it"
        )
    if plan.workload.max_loras > 0:
        lines.append(f"LoRA: memory is kept for {plan.workload.max_loras} adapters; none is loaded from here")
    if "/mig-" in plan.gpu.resource:
        lines.append("MIG: for nodes with the strategy mixed; under single an instance is one nvidia.com/gpu")
    if plan.gpu.vendor == "AMD":
        lines.append("AMD: not tried under Pod Security restricted; vLLM's own example runs privileged")
    return tuple(lines)


def _taints(plan: Plan) -> tuple[str, ...]:
    """Keys by which GPU nodes are kept free of other pods: the vendor's, and that of a MIG profile."""
    return tuple(dict.fromkeys((f"{plan.gpu.vendor.lower()}.com/gpu", plan.gpu.resource)))


def _replicas(plan: Plan) -> str:
    return f"{plan.replicas} replicas of " if plan.replicas > 1 else ""


def _image_reason(plan: Plan) -> str:
    image = plan.engine.image
    return (
        "pinned to its bytes"
        if image.digest
        else f"{image.tag} is a release; its digest was not known offline"
    )


def _gpu_reason(plan: Plan) -> str:
    split = plan.split
    return f"TP {split.tensor} x PP {split.pipeline} x DP {split.data}"


def _strategy_reason(plan: Plan, options: RenderOptions) -> str:
    if options.surge:
        return f"an update needs {plan.gpu.count} spare GPUs and has no downtime"
    if plan.replicas > 1:
        return f"no spare GPUs: an update takes one replica of {plan.replicas} down at a time"
    load = plan.clocks.load_seconds.value
    return f"no spare GPUs: an update stops the only pod first and is down until the new one is ready, at most {load} s"


def _access_mode(plan: Plan, options: RenderOptions) -> Noted:
    if plan.replicas > 1:
        if options.access_mode == "ReadWriteOnce":
            raise UsageError(
                f"{plan.replicas} replicas cannot share a ReadWriteOnce volume.",
                hint="Leave --access-mode out, or plan for one replica.",
            )
        return Noted(value="ReadWriteMany", because=f"{plan.replicas} replicas read it on their own nodes")
    mode = options.access_mode or "ReadWriteOnce"
    if options.surge and mode == "ReadWriteOnce":
        raise UsageError(
            "--surge starts the new pod on any node, and a ReadWriteOnce volume is on one.",
            hint="Add --access-mode ReadWriteMany, or leave --surge out.",
        )
    because = "as asked" if options.access_mode else "one replica; the download Job is done before it starts"
    return Noted(value=mode, because=because)


def _marker(plan: Plan) -> str:
    """The file that shows that the weights are whole."""
    if plan.weights.kind == "hub":
        return f"{plan.weights.mount_path}/.selfhost/{plan.name}-{(plan.model.revision or 'main')[:12]}"
    if plan.model.origin == "gguf":
        return plan.weights.location
    return f"{plan.weights.location}/config.json"


def _pull(plan: Plan, options: RenderOptions) -> Pull | None:
    found = download(plan, options, marker=_marker(plan))
    if found is None:
        return None
    return Pull(
        name=_job_name(plan, options, found),
        image=Noted(value=found.image.reference, because=found.image_because),
        command=found.command,
        args=tuple(Noted(value=_literal(word.text), because=word.because) for word in found.words),
        home=f"{plan.engine.home_path}/huggingface",
        ports=found.ports,
        archive=ARCHIVE_FILE if found.archive else None,
        archive_path=ARCHIVE_PATH,
    )


def _job_name(plan: Plan, options: RenderOptions, found: Download) -> str:
    """A name that changes with what the Job does, as Kubernetes does not let a Job's pod be changed."""
    decides = (
        __version__,
        plan.provenance.selfhost_version,
        plan.model.id,
        plan.weights,
        plan.gpu,
        plan.clocks,
        found,
        options.hub_endpoint,
        options.token_secret,
    )
    return f"{plan.name}-download-{hashlib.sha256(repr(decides).encode()).hexdigest()[:8]}"


def _namespaces(options: RenderOptions) -> tuple[Noted, ...]:
    found = [Noted(value=options.monitoring_namespace, because="Prometheus reads the metrics")]
    if options.gateway_namespace is not None:
        found.insert(0, Noted(value=options.gateway_namespace, because="the gateway sends requests"))
    return tuple(found)


def _count(derived: Derived) -> Noted:
    return Noted(value=str(derived.value), because=derived.because)


def _size(derived: Derived) -> Noted:
    """Bytes in the largest binary unit that keeps them whole."""
    size = derived.value
    if size % GIB == 0:
        text = f"{size // GIB}Gi"
    elif size % MIB == 0:
        text = f"{size // MIB}Mi"
    else:
        text = str(size)
    return Noted(value=text, because=derived.because)
