"""Where the weights of a plan lie on one machine under Compose: a volume, a directory, an export, an image."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.manifests.document import Document
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.options.weights import Source
from selfhost.manifests.quantities import literal
from selfhost.manifests.weights import Fill, marker_of
from selfhost.manifests.zipapp import ARCHIVE_FILE, pull_archive
from selfhost.plan import Plan

HERE = "./weights"  # of a plan whose weights are no repository and for which no other place was named


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The weights; exactly one of volume, directory and image is set.

    Args:
        path: where containers see them.
        volume: name of the volume in compose.yaml.
        external: name of a volume that is there already.
        nfs_options, nfs_device: of a volume that is an export of a file server.
        directory: of the machine.
        image: an image of theirs.
        fill: what puts them there.
        owned: whether the volume has to be given to the user that writes it.
        marker: the file that shows that they are whole.
        because: where they are, for the reader.
    """

    path: str
    volume: str | None = None
    external: str | None = None
    nfs_options: str | None = None
    nfs_device: str | None = None
    directory: str | None = None
    image: str | None = None
    fill: Fill = "nobody"
    owned: bool = False
    marker: str
    because: str


def kept(plan: Plan, options: RenderOptions) -> Kept:
    """Where the weights lie.

    Args:
        plan: the decision, as `placed` gives it.
        options: what was asked for.
    """
    source = options.weights.source or Source(kind="hf")
    pulled = plan.weights.kind == "hub"
    mount = literal(plan.weights.mount_path)
    filled = source.kind == "s3"
    marker = marker_of(plan, filled=filled)
    fill: Fill = "pull" if pulled else "s3" if filled else "nobody"
    if source.kind == "oci":
        path = mount if source.directory is not None else _directory(plan)
        because = "an image of theirs: Docker 28 or Podman 4.5 mounts one"
        return Kept(path=literal(path), image=literal(source.name), marker=marker, because=because)
    if source.kind == "hostpath":
        because = f"the directory {source.name} of the machine"
        return Kept(
            path=literal(_directory(plan)), directory=literal(source.name), marker=marker, because=because
        )
    if source.kind == "nfs":
        return Kept(
            path=mount, volume="weights", nfs_options=f"addr={source.name},nfsvers=4,{'rw' if pulled else 'ro'}",
            nfs_device=f":{source.path}", fill=fill, marker=marker,
            because=f"NFS export {source.path} of {source.name}",
        )  # fmt: skip
    if source.kind == "pvc":
        return Kept(
            path=mount, volume="weights", external=source.name, fill=fill, owned=pulled, marker=marker,
            because=f"the volume {source.name}, which is there already",
        )  # fmt: skip
    if fill == "nobody":
        return Kept(
            path=mount, directory=HERE, marker=marker, because=f"the directory {HERE} beside this file"
        )
    because = f"a volume of this project, {plan.weights.volume_bytes.because}"
    return Kept(path=mount, volume="weights", fill=fill, owned=True, marker=marker, because=because)


def _directory(plan: Plan) -> str:
    """The model's own directory in the container."""
    location = plan.weights.location
    return location.rpartition("/")[0] if plan.model.origin == "gguf" else location


def fetched(needed: bool) -> tuple[Document, ...]:
    """The archive that the download runs."""
    return (Document(name=ARCHIVE_FILE, data=pull_archive()),) if needed else ()
