"""What templates/kubernetes/ sees as `plan`: the plan, in Kubernetes' terms, with nothing left to compute."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from selfhost import __version__
from selfhost.errors import UnsupportedError
from selfhost.manifests import exposure as ways
from selfhost.manifests import scaling as sizes
from selfhost.manifests.accelerators import ClaimTemplate, devices
from selfhost.manifests.access import Access, access
from selfhost.manifests.adapters import adapted
from selfhost.manifests.document import Document
from selfhost.manifests.download import download
from selfhost.manifests.fetch import fetch_pod
from selfhost.manifests.licence import licence_annotations
from selfhost.manifests.network import Policy, download_policy, server_policy
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.outbound import Outbound, outbound, refuse_idle
from selfhost.manifests.pod import Noted, Number, Pair, PodView
from selfhost.manifests.quantities import number_of, size_of
from selfhost.manifests.server import USER_ID, config_name, file_key, labels, selector, server_pod
from selfhost.manifests.watching import Watching, watching
from selfhost.manifests.weights import Storage, placed, storage
from selfhost.manifests.zipapp import ARCHIVE_FILE, pull_archive
from selfhost.place import NODE_GPUS
from selfhost.plan import Plan, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """The download Job.

    Args:
        name: of the Job and its ConfigMap; changes with what it does.
        attempts: how often a download that broke off is begun again.
        deadline: seconds that all attempts may take together.
        policy: whom it may talk to.
        archive: file that the ConfigMap brings into the cluster, None where there is none.
        pod: that downloads.
    """

    name: str
    attempts: Number
    deadline: Number
    policy: Policy
    archive: str | None
    pod: PodView


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """A file of the engine, as a key of its ConfigMap.

    Args:
        key: in the ConfigMap.
        text: what stands in it.
        because: what it is for.
    """

    key: str
    text: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a template may print.

    Args:
        name: of every object, and of the Service.
        namespace: of every object; the release's where it is left out.
        headline: what was planned, for the first lines of every file.
        model_id: the model's name on the Hub, or its path.
        revision: its commit, None where none is known.
        labels: of what belongs to the server.
        selector: those of them that find its pods; never changed in place.
        download_labels: of what belongs to the download.
        download_selector: those of them that find its pod.
        annotations: of the workload: model, licence and the whole plan.
        licence: the verdict on the model's licence.
        replicas: copies of the server, None where something else scales them.
        progress_deadline: seconds until an update that does not get ready counts as failed.
        server: the pod that serves.
        port: of the Service and the server.
        metrics_port_name: port that Prometheus reads.
        metrics_path: path that Prometheus reads.
        max_surge: pods that an update may start beside those that run: each needs its own GPUs.
        max_unavailable: pods that an update may stop at once.
        strategy_because: what that means for an update.
        spread: there are several replicas: a PodDisruptionBudget guards them.
        storage: where the weights are.
        volume: size of the weights' volume.
        config_name: of the ConfigMap with the engine's files.
        config_files: files that the engine reads at start.
        download: what fetches the weights, None where nobody has to.
        pulls: whether that is the Hub's download.
        download_name: of the download's policy.
        hub_endpoint: mirror of the Hub.
        token_secret: Secret with the Hub's token.
        policy: whom the server may talk to.
        pod_monitor: Prometheus' operator reads the metrics.
        access: the key that clients send.
        exposure: how clients outside come in.
        scaling: who changes the number of replicas, and by what.
        watching: rules and dashboard.
        dashboard_name: of the dashboard's ConfigMap.
        network: what stands between the cluster and the world.
        pod_security: level that the namespace has to permit.
        node_label: by which nodes with the GPU are found.
        node_values: of that label.
        gpu_taints: of those nodes.
        claim_template: what a claim on devices (DRA) asks for.
        user_id: of pods that are not the engine's own.
        files: written as they are.
        resources: names of the objects' files.
    """

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
    replicas: int | None
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
    policy: Policy
    pod_monitor: bool
    access: Access
    exposure: ways.Exposure | None
    scaling: sizes.Scaling | None
    watching: Watching
    dashboard_name: str
    network: Outbound
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
    return build(plan, options)


def build(plan: Plan, options: RenderOptions) -> View:
    """The view of a plan, however many nodes a replica is on; targets that print more begin with it."""
    plan = adapted(placed(plan, options), options)
    stored = storage(plan, options)
    pull = _pull(plan, options, stored)
    handed = devices(plan, options)
    count = sizes.replicas_of(plan, options)
    watched = watching(plan, options)
    refuse_idle(options, downloads=pull is not None)
    return View(
        name=plan.name,
        namespace=options.namespace,
        headline=(
            *headline(plan),
            *_adapters(plan, options),
            *sizes.headline(plan, options),
            *ways.headline(plan, options),
            *handed.said,
        ),
        model_id=plan.model.id,
        revision=plan.model.revision,
        labels=labels(plan, "server"),
        selector=selector(plan, "server"),
        download_labels=labels(plan, "download"),
        download_selector=selector(plan, "download"),
        annotations=plan_annotations(plan),
        licence=_licence(plan),
        replicas=None if count.scaled else plan.replicas,
        progress_deadline=number_of(plan.clocks.progress_deadline_seconds),
        server=server_pod(plan, options, stored, spread=count.most > 1),
        port=plan.engine.port,
        metrics_port_name=watched.port,
        metrics_path=watched.path,
        max_surge=1 if options.surge else 0,
        max_unavailable=0 if options.surge else 1,
        strategy_because=_strategy_reason(plan, options),
        spread=count.least > 1,
        storage=stored,
        volume=size_of(plan.weights.volume_bytes),
        config_name=config_name(plan),
        config_files=config_files(plan),
        download=pull,
        pulls=stored.fill == "pull",
        download_name=f"{plan.name}-download",
        hub_endpoint=options.hub_endpoint,
        token_secret=options.token_secret,
        policy=server_policy(plan, options),
        pod_monitor=watched.pod_monitor,
        access=access(plan, options),
        exposure=ways.exposure(plan, options),
        scaling=sizes.scaling(plan, options),
        watching=watched,
        dashboard_name=f"{plan.name}-dashboard",
        network=outbound(options),
        pod_security=pod_security(plan, options),
        node_label=plan.gpu.label,
        node_values=plan.gpu.label_values,
        gpu_taints=handed.taints,
        claim_template=handed.template,
        user_id=USER_ID,
        files=(*archive_files(pull), *watched.files),
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
    lines += plan.engine.notes
    if plan.provenance.sizing is not None:
        lines.append(f"memory {plan.provenance.sizing}")
    return tuple(lines)


def pod_security(plan: Plan, options: RenderOptions) -> str:
    """Pod Security of the namespace: as asked, but where the image starts as root alone at most `baseline`."""
    return (
        "baseline"
        if plan.engine.needs_root and options.pod_security == "restricted"
        else options.pod_security
    )


def _adapters(plan: Plan, options: RenderOptions) -> tuple[str, ...]:
    """What is loaded beside the model."""
    kept = plan.workload.max_loras
    if kept == 0:
        return ()
    names = ", ".join(adapter.name for adapter in options.nodes.adapters)
    loaded = (
        f"loaded at start: {names}" if names else "none is loaded from here; --lora NAME=WHERE loads some"
    )
    return (f"LoRA: memory is kept for {kept} adapters at once; {loaded}",)


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
    archive = ARCHIVE_FILE if found.archive else None
    name = _job_name(plan, fetch_pod(plan, options, stored, found, ""))
    return Pull(
        name=name,
        attempts=number_of(plan.clocks.download_attempts),
        deadline=number_of(plan.clocks.download_deadline_seconds),
        policy=download_policy(options, found.ports),
        archive=archive,
        pod=fetch_pod(plan, options, stored, found, name),
    )


def _job_name(plan: Plan, pod: PodView) -> str:
    """A name that changes with what the Job does, as Kubernetes does not let a Job's pod be changed."""
    decides = (__version__, plan.provenance.selfhost_version, plan.clocks, pod)
    return f"{plan.name}-download-{hashlib.sha256(repr(decides).encode()).hexdigest()[:8]}"
