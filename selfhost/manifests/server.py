"""The server's pod: what the plan starts, on what node, with which volumes and clocks."""

from __future__ import annotations

from selfhost.engines import Argument
from selfhost.manifests.accelerators import Devices, devices
from selfhost.manifests.access import key_additions, key_arguments
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.outbound import server_additions
from selfhost.manifests.pod import (
    Additions,
    Container,
    EmptyDir,
    FileItem,
    Files,
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
from selfhost.manifests.quantities import count_of, literal, number_of, size_of
from selfhost.manifests.scaling import spread_keys
from selfhost.manifests.weights import Storage
from selfhost.plan import Plan

USER_ID = 10001  # above 10,000: no clash with users of a node (Pod Security advice)
FILES_PATH = "/etc/selfhost/engine"
_WAIT = """\
waited=0
until [ -e "$1" ]; do
  if [ "$waited" -ge "$2" ]; then
    echo "$1 did not appear within $2 s: the weights are not on the volume" >&2
    exit 1
  fi
  sleep 5
  waited=$((waited + 5))
done
"""


def labels(plan: Plan, component: str) -> tuple[Pair, ...]:
    """Kubernetes' recommended labels; the first three select."""
    return (
        Pair(key="app.kubernetes.io/name", value=plan.engine.name),
        Pair(key="app.kubernetes.io/instance", value=plan.name),
        Pair(key="app.kubernetes.io/component", value=component),
        Pair(key="app.kubernetes.io/version", value=plan.engine.version),
        Pair(key="app.kubernetes.io/managed-by", value="selfhost"),
    )


def selector(plan: Plan, component: str) -> tuple[Pair, ...]:
    """The labels that select the pods of a component."""
    return labels(plan, component)[:3]


def image_of(plan: Plan) -> Noted:
    """The engine's image."""
    image = plan.engine.image
    because = (
        "pinned to its bytes"
        if image.digest
        else f"{image.tag} is a release; its digest was not known offline"
    )
    return Noted(value=image.reference, because=because)


def server_pod(
    plan: Plan,
    options: RenderOptions,
    stored: Storage,
    *,
    component: str = "server",
    args: tuple[Argument, ...] | None = None,
    more: Additions | None = None,
    serves: bool = True,
    gpus: int | None = None,
    spread: bool = False,
) -> PodView:
    """The pod of a server, or of a part of one that runs on several nodes.

    Args:
        plan: the decision.
        options: what the cluster decides.
        stored: where the weights lie.
        component: what the pod is, for its labels (`server`, `worker`, `prefill`).
        args: arguments, the plan's where they are the same.
        more: variables and files that options add.
        serves: whether it answers requests; a worker has no probes and no port.
        gpus: GPUs of this pod, all of the plan's where they are on one node.
        spread: whether its replicas are to be on different nodes.
    """
    added = (more or Additions()) + server_additions(options)
    words = plan.engine.args if args is None else args
    if serves:
        added += key_additions(plan, options)
        words += key_arguments(plan, options)
    volumes = (
        stored.volume,
        Volume(name="shm", empty=EmptyDir(size=_shared(plan), memory=True)),
        Volume(name="home", empty=EmptyDir(size=size_of(plan.pod.home_bytes))),
        Volume(name="tmp", empty=EmptyDir(size=size_of(plan.pod.tmp_bytes))),
        *_files(plan),
        *added.volumes,
    )
    handed = devices(plan, options, gpus=gpus)
    server = _server(plan, options, stored, args=words, more=added, serves=serves, handed=handed)
    return PodView(
        labels=labels(plan, component),
        selector=selector(plan, component),
        annotations=(Pair(key="kubectl.kubernetes.io/default-container", value="server"),),
        service_account=plan.name,
        grace=number_of(plan.clocks.grace_seconds),
        nodes=handed.nodes,
        spread=spread,
        spread_keys=spread_keys(options),
        taints=handed.taints,
        priority_class=options.scaling.priority_class,
        pull_secrets=options.access.image_pull_secrets,
        user_id=USER_ID,
        groups=handed.groups,
        groups_because=handed.groups_because,
        resource_claims=handed.claims,
        init=() if stored.marker is None else (_wait(plan, stored, stored.marker),),
        containers=(server,),
        volumes=volumes,
    )


def config_name(plan: Plan) -> str:
    """The ConfigMap with the engine's own files."""
    return f"{plan.name}-engine"


def file_key(path: str) -> str:
    """Key of a file in the ConfigMap: its path, as keys hold no slash."""
    return path.strip("/").replace("/", "_")


def _root(plan: Plan, options: RenderOptions) -> str:
    """Why the root is read-only or not."""
    hooks = plan.gpu.on == "cuda"
    if not options.read_only_root:
        return "as asked, for NVIDIA CDI hooks that write to the root" if hooks else "as asked"
    if hooks:
        return "some NVIDIA CDI hooks write to the root; then render with --writable-root"
    return "the server writes to its volumes alone; for a runtime that does not, --writable-root"


def _files(plan: Plan) -> tuple[Volume, ...]:
    if not plan.engine.files:
        return ()
    items = tuple(FileItem(key=file_key(one.path), path=file_key(one.path)) for one in plan.engine.files)
    because = "what the engine reads at start"
    return (Volume(name="engine", config_map=Files(name=config_name(plan), items=items, because=because)),)


def _server(
    plan: Plan,
    options: RenderOptions,
    stored: Storage,
    *,
    args: tuple[Argument, ...],
    more: Additions,
    serves: bool,
    handed: Devices,
) -> Container:
    engine, pod = plan.engine, plan.pod
    files = tuple(
        Mount(name="engine", path=one.path, read_only=True, sub_path=file_key(one.path))
        for one in engine.files
    )
    ports = [Port(name="http", number=engine.port)]
    if engine.metrics_port is not None:
        ports.append(Port(name="metrics", number=engine.metrics_port))
    return Container(
        name="server",
        image=image_of(plan),
        command=tuple(map(literal, engine.command)),
        args=tuple(Noted(value=literal(word.text), because=word.because) for word in args),
        env=(
            *(Variable(name=e.name, value=literal(e.value), because=e.because) for e in engine.env),
            *more.env,
        ),
        ports=tuple(ports) if serves else (),
        cpu_request=count_of(pod.cpu_request),
        cpu_limit=count_of(pod.cpu_limit),
        memory_request=size_of(pod.memory_bytes),
        memory_limit=size_of(pod.memory_bytes),
        ephemeral=size_of(pod.ephemeral_bytes),
        devices=handed.resources,
        claims=tuple(claim.name for claim in handed.claims),
        probes=_probes(plan) if serves else None,
        pre_stop=number_of(plan.clocks.pre_stop_seconds) if serves else None,
        user_id=0 if engine.needs_root else USER_ID,
        as_root=engine.needs_root,
        read_only_root=options.read_only_root,
        root_because=_root(plan, options),
        mounts=(
            Mount(name=stored.volume.name, path=stored.path, read_only=True),
            Mount(name="shm", path="/dev/shm"),
            Mount(name="home", path=engine.home_path),
            Mount(name="tmp", path="/tmp"),
            *files,
            *more.mounts,
        ),
    )


def _probes(plan: Plan) -> Probed:
    clocks, engine = plan.clocks, plan.engine
    failures = clocks.startup_failures
    return Probed(
        ready_path=engine.health_path,
        live_path=engine.live_path or engine.health_path,
        port="http",
        period=number_of(clocks.probe_period_seconds),
        startup_failures=Number(
            value=failures.value, because=f"{failures.because}; {clocks.load_seconds.because}"
        ),
        timeout=Number(value=engine.probe_timeout_seconds, because=engine.probe_because),
        live_timeout=Number(
            value=2 * engine.probe_timeout_seconds, because="life is doubted later than readiness"
        ),
    )


def _shared(plan: Plan) -> Noted:
    size = size_of(plan.pod.shared_memory_bytes)
    return Noted(value=size.value, because=f"{size.because}; counted in the memory limit")


def _wait(plan: Plan, stored: Storage, marker: str) -> Container:
    """Ends once the weights are there: a server that starts before would only crash."""
    seconds = str(plan.clocks.download_deadline_seconds.value)
    return Container(
        name="weights",
        image=image_of(plan),
        command=(plan.engine.shell, "-c"),
        args=(
            Noted(value=literal(_WAIT), because="waits for the weights"),
            Noted(value="weights", because="name of the script in its messages"),
            Noted(value=literal(marker), because="there once the weights are whole"),
            Noted(value=seconds, because="as long as the download may take"),
        ),
        cpu_request=Noted(value="100m", because="it sleeps"),
        cpu_limit=Noted(value="1", because="it sleeps"),
        memory_request=Noted(value="128Mi", because="a shell"),
        memory_limit=Noted(value="256Mi", because="a shell"),
        user_id=USER_ID,
        read_only_root=True,
        root_because="it writes nothing",
        mounts=(Mount(name=stored.volume.name, path=stored.path, read_only=True),),
    )
