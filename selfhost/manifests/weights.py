"""Where the weights of a plan lie on a cluster: the volume, the claim, what fills it, and the plan that reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from selfhost.engines import Argument, EnvVar
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.options.weights import Source
from selfhost.manifests.pod import Noted, Volume
from selfhost.manifests.quantities import size_of
from selfhost.plan import Plan

VOLUME = "weights"
# Flags and variables by which engines are told the model and its commit (engines' modules of this project).
_MODEL_FLAGS = (None, "--model", "--model-path", "--model-id", "--tokenizer", "--tokenizer-path")
_MODEL_VARIABLES = ("MODEL_ID",)
_REVISION_FLAGS = ("--revision", "--tokenizer-revision")
_REVISION_VARIABLES = ("REVISION",)
Fill = Literal["pull", "s3", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NfsShare:
    """An export of a file server, as a volume of the cluster.

    Args:
        name: of the PersistentVolume.
        server: its host name or address.
        path: that it exports.
    """

    name: str
    server: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClaim:
    """A claim that comes with the manifests.

    Args:
        size: that it asks for.
        access_mode: how many nodes may mount it; ReadWriteMany for several replicas.
        storage_class: what makes the volume; the cluster's default where it is left out.
        bound_to: name of the volume it is for.
    """

    size: Noted
    access_mode: Noted
    storage_class: str | None
    bound_to: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The weights on the cluster.

    Args:
        volume: as pods see it.
        path: where it is mounted.
        claim_name: the claim, None where there is none.
        new_claim: the claim to make, None where it is there already.
        share: the file server's volume to make.
        fill: what puts the weights there.
        shared: whether pods on several nodes can read it.
        marker: the file that shows that the weights are whole; None where a pod cannot start without them.
        restricted: whether Pod Security `restricted` permits it.
        because: where the weights are, for the reader.
    """

    volume: Volume
    path: str
    claim_name: str | None
    new_claim: NewClaim | None
    share: NfsShare | None
    fill: Fill
    shared: bool
    marker: str | None
    restricted: bool
    because: str


def placed(plan: Plan, options: RenderOptions) -> Plan:
    """The plan as it reads weights from where the options say: the place is no decision of the plan.

    With a directory of the model instead of the Hub's cache, the model's word changes and the commit is left out.

    Raises:
        UsageError: the place cannot hold what the plan needs.
    """
    source = options.weights.source
    if source is None or (source.kind in ("hf", "pvc", "nfs") and source.directory is None):
        if source is not None and source.kind == "hf" and plan.weights.kind != "hub":
            raise UsageError(
                f"--weights hf: {plan.model.id} is not on the Hub.",
                hint="Leave --weights out, or name where it lies.",
            )
        return plan
    inside = _inside(plan, source)
    old = plan.weights.location if plan.weights.kind == "volume" else plan.model.id
    engine = plan.engine
    args = tuple(
        _renamed(argument, old, inside) for argument in engine.args if argument.flag not in _REVISION_FLAGS
    )
    cache = f"{plan.weights.cache_path}/"
    env = tuple(
        _variable(item, old, inside, cache) for item in engine.env if item.name not in _REVISION_VARIABLES
    )
    if (args, env) == (engine.args, engine.env) and old != inside:
        raise UnsupportedError(
            f"{engine.name} of this plan names its model in no argument that --weights could change.",
            hint="Leave --weights out.",
        )
    weights = replace(plan.weights, kind="volume", location=inside, skip=())
    return replace(plan, weights=weights, engine=replace(engine, args=args, env=env))


def _renamed(argument: Argument, old: str, new: str) -> Argument:
    if argument.value != old or argument.flag not in _MODEL_FLAGS:
        return argument
    return replace(argument, value=new, because="the model's directory on the weights volume")


def _variable(item: EnvVar, old: str, new: str, cache: str) -> EnvVar:
    """The model's variable renamed; it may name the commit's own folder in the Hub's cache."""
    if item.name not in _MODEL_VARIABLES or not (item.value == old or item.value.startswith(cache)):
        return item
    return replace(item, value=new, because="the model's directory on the weights volume")


def _inside(plan: Plan, source: Source) -> str:
    """Path of the model in the container."""
    mount = plan.weights.mount_path
    if source.kind in ("hostpath", "s3") or (source.kind == "oci" and source.directory is None):
        directory = f"{mount}/{plan.name}"
    else:
        directory = f"{mount}/{source.directory}"
    if plan.model.origin != "gguf":
        return directory
    if source.directory is not None and source.directory.endswith(".gguf"):
        return directory
    return f"{directory}/{plan.weights.location.rpartition('/')[2]}"


def storage(plan: Plan, options: RenderOptions) -> Storage:
    """Where the weights lie.

    Args:
        plan: the decision, as `placed` gives it.
        options: what the cluster decides.

    Raises:
        UsageError: a place that this many replicas, or Pod Security, cannot use.
    """
    source = options.weights.source or Source(kind="hf" if plan.weights.kind == "hub" else "pvc")
    if source.kind == "oci":
        return _image(plan, source)
    if source.kind == "hostpath":
        return _host_path(plan, options, source)
    return _claimed(plan, options, source)


def _image(plan: Plan, source: Source) -> Storage:
    pinned = "@sha256:" in source.name
    because = "pinned to its bytes" if pinned else "its tag pins it by trust; a digest would pin its bytes"
    where = plan.weights.mount_path if source.directory is not None else plan.weights.location
    if plan.model.origin == "gguf" and source.directory is None:
        where = plan.weights.location.rpartition("/")[0]
    return Storage(
        volume=Volume(name=VOLUME, image=Noted(value=source.name, because=because)),
        path=where,
        claim_name=None,
        new_claim=None,
        share=None,
        fill="nobody",
        shared=True,
        marker=None,
        restricted=True,
        because="an image volume: Kubernetes 1.36, or 1.31 with the gate ImageVolume; the kubelet pulls it",
    )


def _host_path(plan: Plan, options: RenderOptions, source: Source) -> Storage:
    if options.pod_security != "privileged":
        raise UsageError(
            f"--weights hostpath: Pod Security {options.pod_security} permits no directory of a node.",
            hint="Use pvc:, nfs:// or oci:// weights, or say --pod-security privileged.",
        )
    marker = plan.weights.location if plan.model.origin == "gguf" else f"{plan.weights.location}/config.json"
    path = plan.weights.location.rpartition("/")[0] if plan.model.origin == "gguf" else plan.weights.location
    because = "a directory of every node that the pod may run on; only Pod Security privileged permits it"
    return Storage(
        volume=Volume(name=VOLUME, host_path=Noted(value=source.name, because=because)),
        path=path,
        claim_name=None,
        new_claim=None,
        share=None,
        fill="nobody",
        shared=True,
        marker=marker,
        restricted=False,
        because=because,
    )


def _claimed(plan: Plan, options: RenderOptions, source: Source) -> Storage:
    mode = access_mode(plan, options, share=source.kind == "nfs")
    given = source.kind == "pvc" and source.name != ""
    claim_name = source.name if given else f"{plan.name}-weights"
    share = None
    if source.kind == "nfs":
        name = f"{options.namespace}-{plan.name}-weights"
        share = NfsShare(name=name, server=source.name, path=source.path)
    fill: Fill = "nobody"
    if plan.weights.kind == "hub":
        fill = "pull"
    elif source.kind == "s3":
        fill = "s3"
    new = NewClaim(
        size=size_of(plan.weights.volume_bytes),
        access_mode=mode,
        storage_class="" if share else options.storage_class,
        bound_to=share.name if share else None,
    )
    return Storage(
        volume=Volume(name=VOLUME, claim=claim_name),
        path=plan.weights.mount_path,
        claim_name=claim_name,
        new_claim=None if given else new,
        share=share,
        fill=fill,
        shared=mode.value == "ReadWriteMany",
        marker=marker_of(plan, filled=fill == "s3"),
        restricted=True,
        because=_where(source, claim_name),
    )


def _where(source: Source, claim: str) -> str:
    if source.kind == "nfs":
        return f"NFS export {source.path} of {source.name}, as a volume of the cluster"
    if source.kind == "s3":
        return f"copied from s3://{source.name}/{source.path} to the claim {claim}"
    return f"the claim {claim}"


def marker_of(plan: Plan, *, filled: bool = False) -> str:
    """The file that shows that the weights are whole.

    Args:
        plan: the decision.
        filled: a Job copies a directory there, and writes the file last.
    """
    weights = plan.weights
    if weights.kind == "hub":
        return f"{weights.mount_path}/.selfhost/{plan.name}-{(plan.model.revision or 'main')[:12]}"
    if filled:
        return f"{weights.mount_path}/.selfhost/{plan.name}"
    if plan.model.origin == "gguf":
        return weights.location
    return f"{weights.location}/config.json"


def access_mode(plan: Plan, options: RenderOptions, *, share: bool = False) -> Noted:
    """The access mode of the claim.

    Raises:
        UsageError: a ReadWriteOnce volume for pods on more than one node.
    """
    asked = options.access_mode
    pods = max(plan.replicas, options.scaling.max_replicas or 0) + (options.nodes.prefill_replicas or 0)
    if pods > 1 or options.nodes.several(plan):
        if asked == "ReadWriteOnce":
            who = f"{pods} replicas" if pods > 1 else "pods on several nodes"
            raise UsageError(
                f"{who} cannot share a ReadWriteOnce volume.",
                hint="Leave --access-mode out, plan for one replica, or use nfs:// or oci:// weights.",
            )
        readers = (
            f"{pods} replicas read it on their own nodes" if pods > 1 else "pods of several nodes read it"
        )
        return Noted(value="ReadWriteMany", because=readers)
    if share:
        return Noted(value=asked or "ReadWriteMany", because="a file server has any number of readers")
    mode = asked or "ReadWriteOnce"
    if options.surge and mode == "ReadWriteOnce":
        raise UsageError(
            "--surge starts the new pod on any node, and a ReadWriteOnce volume is on one.",
            hint="Add --access-mode ReadWriteMany, or leave --surge out.",
        )
    because = "as asked" if asked else "one replica; the download Job is done before it starts"
    return Noted(value=mode, because=because)


__all__ = ["NewClaim", "NfsShare", "Storage", "access_mode", "marker_of", "placed", "storage"]
