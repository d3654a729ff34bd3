"""What templates/kubernetes/ sees as `plan`: the plan, in Kubernetes' terms, with nothing left to compute."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from selfhost import __version__
from selfhost.errors import UnsupportedError
from selfhost.manifests.accelerators import ClaimTemplate, devices
from selfhost.manifests.document import Document
from selfhost.manifests.download import Download, download
from selfhost.manifests.fetch import fetch_pod
from selfhost.manifests.licence import licence_annotations
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Noted, Number, Pair, PodView
from selfhost.manifests.quantities import number_of, size_of
from selfhost.manifests.server import USER_ID, config_name, file_key, labels, selector, server_pod
from selfhost.manifests.weights import Storage, placed, storage
from selfhost.manifests.zipapp import ARCHIVE_FILE, pull_archive
from selfhost.place import NODE_GPUS
from selfhost.plan import Plan, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """The download Job; `archive` is the file that the ConfigMap brings into the cluster, None where there is none."""

    name: str
    attempts: Number
    deadline: Number
    ports: tuple[int, ...]
    archive: str | None
    pod: PodView


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """A file of the engine, as a key of its ConfigMap."""

    key: str
    text: str
    because: str


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
    progress_deadline: Number
    server: PodView
    port: int
    metrics_port_name: str
    metrics_path: str
    max_surge: int
    max_unavailable: int
    strategy_because: str
    spread: bool
    storage: Storage
    volume: Noted
    config_name: str
    config_files: tuple[ConfigFile, ...]
    download: Pull | None
    pulls: bool
    download_name: str
    hub_endpoint: str | None
    token_secret: str
    namespaces: tuple[Noted, ...]
    pod_monitor: bool
    pod_security: str
    node_label: str
    node_values: tuple[str, ...]
    gpu_taints: tuple[str, ...]
    claim_template: ClaimTemplate | None
    user_id: int
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
            hint="Render it for several nodes (--target lws), or plan for a GPU with more memory or smaller weights.",
        )
    plan = placed(plan, options)
    stored = storage(plan, options)
    pull = _pull(plan, options, stored)
    handed = devices(plan, options)
    return View(
        name=plan.name,
        namespace=options.namespace,
        headline=(*headline(plan), *handed.said),
        model_id=plan.model.id,
        revision=plan.model.revision,
        labels=labels(plan, "server"),
        selector=selector(plan, "server"),
        download_labels=labels(plan, "download"),
        download_selector=selector(plan, "download"),
        annotations=plan_annotations(plan),
        licence=_licence(plan),
        replicas=plan.replicas,
        progress_deadline=number_of(plan.clocks.progress_deadline_seconds),
        server=server_pod(plan, options, stored, spread=plan.replicas > 1),
        port=plan.engine.port,
        metrics_port_name="http" if plan.engine.metrics_port is None else "metrics",
        metrics_path=plan.engine.metrics_path,
        max_surge=1 if options.surge else 0,
        max_unavailable=0 if options.surge else 1,
        strategy_because=_strategy_reason(plan, options),
        spread=plan.replicas > 1,
        storage=stored,
        volume=size_of(plan.weights.volume_bytes),
        config_name=config_name(plan),
        config_files=config_files(plan),
        download=pull,
        pulls=stored.fill == "pull",
        download_name=f"{plan.name}-download",
        hub_endpoint=options.hub_endpoint,
        token_secret=options.token_secret,
        namespaces=_namespaces(options),
        pod_monitor=options.pod_monitor and bool(plan.engine.metrics),
        pod_security=options.pod_security,
        node_label=plan.gpu.label,
        node_values=plan.gpu.label_values,
        gpu_taints=handed.taints,
        claim_template=handed.template,
        user_id=USER_ID,
        files=archive_files(pull),
        resources=(),
    )


def plan_annotations(plan: Plan) -> tuple[Pair, ...]:
    """What travels with the workload: model, licence and the whole plan."""
    return (
        Pair(key="selfhost/model", value=plan.model.id),
        *_licence(plan),
        Pair(key="selfhost/plan", value=to_json(plan, indent=None).rstrip("\n")),
    )


def config_files(plan: Plan) -> tuple[ConfigFile, ...]:
    """The engine's own files."""
    return tuple(
        ConfigFile(key=file_key(one.path), text=one.text, because=one.because) for one in plan.engine.files
    )


def archive_files(pull: Pull | None) -> tuple[Document, ...]:
    """The archive that the download runs, where its image has no selfhost."""
    if pull is None or pull.archive is None:
        return ()
    return (Document(name=pull.archive, data=pull_archive()),)


def _licence(plan: Plan) -> tuple[Pair, ...]:
    return tuple(Pair(key=key, value=value) for key, value in licence_annotations(plan))


def headline(plan: Plan) -> tuple[str, ...]:
    """What the deployment is, and what the reader has to know of it, a line each."""
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
    return tuple(lines)


def _replicas(plan: Plan) -> str:
    return f"{plan.replicas} replicas of " if plan.replicas > 1 else ""


def _strategy_reason(plan: Plan, options: RenderOptions) -> str:
    if options.surge:
        return f"an update needs {plan.gpu.count} spare GPUs and has no downtime"
    if plan.replicas > 1:
        return f"no spare GPUs: an update takes one replica of {plan.replicas} down at a time"
    load = plan.clocks.load_seconds.value
    return f"no spare GPUs: an update stops the only pod first and is down until the new one is ready, at most {load} s"


def _pull(plan: Plan, options: RenderOptions, stored: Storage) -> Pull | None:
    if stored.fill == "nobody" or stored.marker is None:
        return None
    found = download(plan, options, marker=stored.marker)
    name = _job_name(plan, options, found)
    archive = ARCHIVE_FILE if found.archive else None
    return Pull(
        name=name,
        attempts=number_of(plan.clocks.download_attempts),
        deadline=number_of(plan.clocks.download_deadline_seconds),
        ports=found.ports,
        archive=archive,
        pod=fetch_pod(plan, options, stored, found, name),
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
        options,
    )
    return f"{plan.name}-download-{hashlib.sha256(repr(decides).encode()).hexdigest()[:8]}"


def _namespaces(options: RenderOptions) -> tuple[Noted, ...]:
    found = [Noted(value=options.monitoring_namespace, because="Prometheus reads the metrics")]
    if options.gateway_namespace is not None:
        found.insert(0, Noted(value=options.gateway_namespace, because="the gateway sends requests"))
    return tuple(found)
