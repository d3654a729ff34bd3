"""What templates/monitor/ sees as `plan`: a monitor on a plan's GPU nodes, and what Prometheus and Grafana need."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from selfhost import __version__
from selfhost.engines import Argument
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests.dashboard import dashboard
from selfhost.manifests.document import Document
from selfhost.manifests.download import ARCHIVE_PATH, carrier
from selfhost.manifests.engine_metrics import engine_metrics
from selfhost.manifests.grafana import to_text
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.options.given import given, refuse_groups
from selfhost.manifests.pod import Noted, Pair
from selfhost.manifests.rules import JOB, Group, rule_groups
from selfhost.manifests.server import USER_ID
from selfhost.manifests.zipapp import ARCHIVE_FILE, MONITOR, archives
from selfhost.plan import Plan, to_json

PORT = 9835
DASHBOARD_FILE = "dashboard.json"
RULES_FILE = "prometheus-rules.yaml"
PLAN_PATH = "/etc/selfhost/plan.json"
KUBELET_DIR = "/var/lib/kubelet/pod-resources"
# Set by NVIDIA's GPU feature discovery on every node with a GPU of theirs.
PRESENT_LABEL = "nvidia.com/gpu.present"
# What the engine's own objects are told. Its namespace and image are not among them: they decide here too.
_ENGINE_ALONE = frozenset((
    "--pull-image", "--storage-class", "--access-mode", "--token-secret", "--hub-endpoint", "--gateway-namespace",
    "--surge", "--writable-root", "--pod-security",
))  # fmt: skip
_GPU_TAINT = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One archive of selfhost, and the ConfigMap that brings it into the cluster."""

    name: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a template may print; `files` are written as they are."""

    name: str
    namespace: str
    engine_name: str
    engine_namespace: str
    engine_ports: tuple[int, ...]
    engine_selector: tuple[Pair, ...]
    engine_policy: bool
    headline: tuple[str, ...]
    labels: tuple[Pair, ...]
    selector: tuple[Pair, ...]
    content: str
    image: Noted
    command: tuple[str, ...]
    args: tuple[Noted, ...]
    archives: tuple[Archive, ...]
    archive_path: str
    plan_name: str
    plan_path: str
    plan_folder: str
    port: int
    taints: tuple[str, ...]
    node_label: str
    node_values: tuple[str, ...]
    node_because: str
    runtime_class: str | None
    host_pid: bool
    root: bool
    kernel_log: bool
    kubelet_dir: str
    user_id: int
    user_because: str
    host_paths: bool
    privileged_level: bool
    prometheus_namespace: str
    api_server: str | None
    operator: bool
    job: str
    groups: tuple[Group, ...]
    dashboard: str
    dashboard_file: str
    rules_file: str
    files: tuple[Document, ...]
    resources: tuple[str, ...]


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: GPUs that are not NVIDIA's, which NVML does not read.
        UsageError: options of what this target does not make.
        OutputError: nvidia-ml-py is not installed here, which the archive takes its one file from.
    """
    _refuse(plan, options)
    name = f"{plan.name[:55].rstrip('-')}-monitor"
    namespace = options.monitor_namespace or options.monitoring_namespace
    bundled = archives(MONITOR) if options.monitor_image is None else {}
    board = to_text(dashboard(name=plan.name, engine=engine_metrics(plan.engine.name, plan.engine.metrics)))
    host_paths = options.monitor_root or options.kernel_log
    return View(
        name=name,
        namespace=namespace,
        engine_name=plan.name,
        engine_namespace=options.namespace,
        engine_ports=(plan.engine.port, *([plan.engine.metrics_port] if plan.engine.metrics_port else [])),
        engine_selector=(
            Pair(key="app.kubernetes.io/name", value=plan.engine.name),
            Pair(key="app.kubernetes.io/instance", value=plan.name),
            Pair(key="app.kubernetes.io/component", value="server"),
        ),
        engine_policy=namespace not in (options.namespace, options.monitoring_namespace),
        headline=_headline(plan, options),
        labels=_labels(plan),
        selector=_labels(plan)[:3],
        content=_content(plan, options),
        image=_image(plan, options),
        command=("python3", f"{ARCHIVE_PATH}/{ARCHIVE_FILE}") if bundled else ("selfhost",),
        args=tuple(Noted(value=word.text, because=word.because) for word in _words(options)),
        archives=tuple(
            Archive(name=f"{name}-archive" + (f"-{number}" if number > 1 else ""), file=file)
            for number, file in enumerate(bundled, 1)
        ),
        archive_path=ARCHIVE_PATH,
        plan_name=f"{name}-plan",
        plan_path=PLAN_PATH,
        plan_folder=PLAN_PATH.rpartition("/")[0],
        port=PORT,
        taints=tuple(dict.fromkeys((_GPU_TAINT, plan.gpu.resource))),
        node_label=PRESENT_LABEL if options.all_gpu_nodes else plan.gpu.label,
        node_values=("true",) if options.all_gpu_nodes else plan.gpu.label_values,
        node_because="every node with an NVIDIA GPU"
        if options.all_gpu_nodes
        else f"nodes with {plan.gpu.name}",
        runtime_class=options.runtime_class,
        host_pid=options.host_pid,
        root=options.monitor_root,
        kernel_log=options.kernel_log,
        kubelet_dir=KUBELET_DIR,
        user_id=0 if options.monitor_root else USER_ID,
        user_because=(
            "root, without one capability: the kubelet's socket is root's"
            if options.monitor_root
            else "as asked"
        ),
        host_paths=host_paths,
        privileged_level=host_paths or options.host_pid,
        prometheus_namespace=options.monitoring_namespace,
        api_server=options.api_server,
        operator=options.pod_monitor,
        job=JOB,
        groups=rule_groups(plan, engine_metrics(plan.engine.name, plan.engine.metrics)),
        dashboard=board,
        dashboard_file=DASHBOARD_FILE,
        rules_file=RULES_FILE,
        files=(
            Document(name=DASHBOARD_FILE, text=board),
            *(Document(name=file, data=data) for file, data in bundled.items()),
        ),
        resources=(),
    )


def _refuse(plan: Plan, options: RenderOptions) -> None:
    """Refuse what NVML does not read, and options of what this target does not make."""
    if plan.gpu.vendor != "NVIDIA":
        raise UnsupportedError(
            f"The monitor reads NVIDIA's NVML; the plan is for {plan.gpu.name}.",
            hint="Watch the engine alone: the target kubernetes has a PodMonitor for its metrics.",
        )
    groups = (options.weights, options.gpus, options.nodes, options.access, options.network, options.scaling)
    refuse_groups("monitor", (*groups, options.proxy))
    for flag in given(options):
        if flag in _ENGINE_ALONE:
            raise UsageError(f"{flag} has no effect with --target monitor.", hint="Leave it out.")


def _labels(plan: Plan) -> tuple[Pair, ...]:
    return (
        Pair(key="app.kubernetes.io/name", value=JOB),
        Pair(key="app.kubernetes.io/instance", value=plan.name),
        Pair(key="app.kubernetes.io/component", value="monitor"),
        Pair(key="app.kubernetes.io/version", value=__version__),
        Pair(key="app.kubernetes.io/managed-by", value="selfhost"),
    )


def _headline(plan: Plan, options: RenderOptions) -> tuple[str, ...]:
    where = "every node with an NVIDIA GPU" if options.all_gpu_nodes else f"nodes with {plan.gpu.name}"
    return (
        f"watches {where}, and the engines on them",
        f"alerts and memory as planned for {plan.model.id} on {plan.gpu.count} x {plan.gpu.name}",
    )


def _image(plan: Plan, options: RenderOptions) -> Noted:
    image, _ = carrier(plan, options.monitor_image)
    if options.monitor_image is not None:
        because = "as asked; selfhost[cluster] is installed in it"
    elif image == plan.engine.image:
        because = "the engine's own, which is on these nodes already; its Python runs selfhost.pyz"
    else:
        because = (
            f"not the engine's own: {plan.engine.name} {plan.engine.version} may lack what selfhost needs"
        )
    return Noted(value=image.reference, because=because)


def _words(options: RenderOptions) -> tuple[Argument, ...]:
    words = [
        Argument(value="monitor", because="reads NVML, /proc and the engines' metrics"),
        Argument(flag="--serve", value=f":{PORT}", because="for Prometheus"),
        Argument(flag="--plan", value=PLAN_PATH, because="what memory was predicted"),
    ]
    if options.dcgm_names:
        words.append(Argument(flag="--dcgm-names", because="as asked, for dashboards made for dcgm-exporter"))
    return tuple(words)


def _content(plan: Plan, options: RenderOptions) -> str:
    """Changes with what the ConfigMaps bring, so that the pods are started again; a pod does not see them change."""
    decides = (__version__, to_json(plan), options)
    return hashlib.sha256(repr(decides).encode()).hexdigest()[:16]
