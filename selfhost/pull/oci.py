"""Verified files -> an OCI image layout on disk: an image that is the model's directory, or an artefact of plain files.

The image is for Kubernetes' image volumes. Its layers are plain tar files, as weights hardly compress; each large file
is a layer of its own, so that a changed file changes one layer. The artefact follows CNCF ModelPack (model-spec
docs/spec.md, June 2026), with the file names where oras looks for them. Equal snapshots give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from selfhost import __version__
from selfhost.errors import OutputError, UnsupportedError, UsageError
from selfhost.pull import tar
from selfhost.pull.carry import Put, changed, copy_checked, public, write_all
from selfhost.pull.hashing import Count
from selfhost.pull.lockfile import lock_text
from selfhost.pull.stage import each, publish, stage
from selfhost.pull.types import LOCK_NAME, Lock, LockedFile, Snapshot

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
MODEL_TYPE = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"

LARGE_BYTES = 64 << 20  # files from here on are layers of their own
# overlay2 of moby stops at 128 layers, and a mount's options have to fit a page of 4 KiB in older kernels.
MOST_LAYERS = 100
# containerd does not unpack an image of another platform, even one that a name leads to directly
# (core/unpack/unpacker.go, 2.x), and weights serve on both: Grace-Blackwell nodes are arm64.
PLATFORMS = ("amd64", "arm64")
MARK = "selfhost/revision"  # the annotation by which a layout is known as ours

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# SPDX identifiers of what the Hub spells in lower case (spdx.org/licenses, 3.27); anything else is a LicenseRef.
_SPDX = {
    "apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "bsd-2-clause": "BSD-2-Clause",
    "cc-by-4.0": "CC-BY-4.0", "cc-by-sa-4.0": "CC-BY-SA-4.0", "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0", "cc0-1.0": "CC0-1.0", "gpl-3.0": "GPL-3.0-only", "agpl-3.0": "AGPL-3.0-only",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One blob of content and the files in it."""

    digest: str
    size_bytes: int
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OciResult:
    """What was written.

    Args:
        path: the layout.
        tag: the name of the image in it.
        digest: of what the tag names; the registry will show the same.
        size_bytes: all blobs together.
        layers: in order.
    """

    path: Path
    tag: str
    digest: str
    size_bytes: int
    layers: tuple[Layer, ...]

    @property
    def push(self) -> str:
        """A command that brings it to a registry; without --preserve-digests skopeo would compress every layer."""
        source = shlex.quote(f"oci:{self.path}:{self.tag}")
        return f"skopeo copy --all --preserve-digests {source} docker://REGISTRY/NAME:{self.tag}"


def write_layout(
    snapshot: Snapshot,
    out: Path,
    *,
    tag: str,
    prefix: str = "/",
    artifact: bool = False,
    report: Count | None = None,
    large_bytes: int = LARGE_BYTES,
) -> OciResult:
    """Write an OCI image layout that any registry tool can push.

    Args:
        snapshot: verified files; each is hashed once more on the way.
        out: the layout's folder; new, empty, or a layout of an earlier call, which is replaced.
        tag: name of the image in the layout.
        prefix: the model's directory in the image.
        artifact: one blob for each file instead of an image with layers.
        report: told how many bytes of content were written, piece by piece.
        large_bytes: files of at least this length are layers of their own.

    Raises:
        UsageError: a tag or a prefix that cannot be.
        UnsupportedError: a file name that means something else inside an image.
        VerifyError: a file on disk is no longer what the lock says.
        OutputError: the layout cannot be written; nothing of it is left.
    """
    if _TAG.fullmatch(tag) is None:
        raise UsageError(f"{tag[:80]!r} is no tag.", hint="A tag is letters, digits, dots and dashes.")
    base = _prefix(prefix)
    lock = public(snapshot.lock)
    snapshot = replace(snapshot, lock=lock)
    for file in lock.files:
        if not artifact and file.path.rpartition("/")[2].startswith(".wh."):
            raise UnsupportedError(
                f"{file.path} has a name that deletes a file inside an image.",
                hint="Write an artefact instead.",
            )
    _check_place(out)
    with stage(out, need_bytes=lock.total_bytes) as folder:
        layout = folder / "layout"
        blobs = _Blobs(folder=layout / "blobs" / "sha256")
        blobs.folder.mkdir(parents=True)
        if artifact:
            layers, top = _write_artifact(blobs, snapshot, report)
        else:
            layers, top = _write_image(blobs, snapshot, base, report, large_bytes)
        named = {**top, "annotations": {"org.opencontainers.image.ref.name": tag, **_identity(lock)}}
        _write(
            layout / "index.json", _json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [named]})
        )
        _write(layout / "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        size = sum(path.stat().st_size for path in blobs.folder.iterdir())
        publish(layout, out)
    return OciResult(path=out, tag=tag, digest=str(top["digest"]), size_bytes=size, layers=layers)


Descriptor = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blobs:
    """The folder of blobs, each called by its hash."""

    folder: Path

    def put(self, data: bytes, media_type: str, **more: object) -> Descriptor:
        """Write a small blob and describe it."""
        digest = hashlib.sha256(data).hexdigest()
        _write(self.folder / digest, data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}

    def stream(self, name: str, fill: Callable[[Put], None]) -> tuple[str, int]:
        """Write a blob piece by piece; its digest and length."""
        total, path, size = hashlib.sha256(), self.folder / f".{name}", 0
        with path.open("wb", buffering=0) as out:

            def put(data: bytes | memoryview) -> None:
                nonlocal size
                total.update(data)
                size += len(data)
                write_all(out, data)

            fill(put)
            os.fsync(out.fileno())
        path.replace(self.folder / total.hexdigest())
        return f"sha256:{total.hexdigest()}", size


def _write_image(
    blobs: _Blobs, snapshot: Snapshot, base: str, report: Count | None, large_bytes: int
) -> tuple[tuple[Layer, ...], Descriptor]:
    lock = snapshot.lock
    groups = _groups(lock, large_bytes)

    def work(number: int, stop: Event) -> Layer:
        files, last = groups[number], number == len(groups) - 1

        def fill(put: Put) -> None:
            extra = {LOCK_NAME: lock_text(lock).encode()} if last else {}
            _tar(snapshot, files, extra, base, put, report, stop)

        digest, size = blobs.stream(f"layer-{number}", fill)
        paths = [file.path for file in files] + ([LOCK_NAME] if last else [])
        return Layer(digest=digest, size_bytes=size, paths=tuple(sorted(paths)))

    layers = tuple(each(range(len(groups)), work))
    described = [{"mediaType": LAYER_TYPE, "digest": one.digest, "size": one.size_bytes} for one in layers]
    manifests = []
    for platform in PLATFORMS:
        config = {
            "created": lock.created,
            "architecture": platform,
            "os": "linux",
            "config": {"Labels": _annotations(lock)},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": blobs.put(_json(config), CONFIG_TYPE),
            "layers": described,
            "annotations": _annotations(lock),
        }
        about = {"architecture": platform, "os": "linux"}
        manifests.append(blobs.put(_json(manifest), MANIFEST_TYPE, platform=about))
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}
    return layers, blobs.put(_json({**index, "annotations": _annotations(lock)}), INDEX_TYPE)


def _groups(lock: Lock, large_bytes: int) -> tuple[tuple[LockedFile, ...], ...]:
    """Files of each layer: large ones alone, or as few together as the number of layers asks for; small ones last.

    A runtime that has the first layers unpacked keeps them when a later one changes, and READMEs change more often.
    """
    files = sorted(lock.files, key=lambda file: file.path)
    large = [file for file in files if file.size_bytes >= large_bytes]
    small = tuple(file for file in files if file.size_bytes < large_bytes)
    together = max(1, -(-len(large) // (MOST_LAYERS - 1)))
    own = [tuple(large[start : start + together]) for start in range(0, len(large), together)]
    return (*own, small)


def _tar(
    snapshot: Snapshot,
    files: Sequence[LockedFile],
    extra: Mapping[str, bytes],
    base: str,
    put: Put,
    report: Count | None,
    stop: Event,
) -> None:
    """One layer: folders before what is in them, everything by name."""
    locked = {file.path: file for file in files}
    folders: set[str] = set()
    for path in sorted([*locked, *extra]):
        name = base + path
        parts = name.split("/")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end])
            if folder not in folders:
                folders.add(folder)
                put(tar.folder_header(folder))
        if path in extra:
            data = extra[path]
            put(tar.file_header(name, len(data)) + data + bytes(tar.padding_bytes(len(data))))
            continue
        file = locked[path]
        put(tar.file_header(name, file.size_bytes))
        copy_checked(snapshot, file, put, stop, report=report)
        put(bytes(tar.padding_bytes(file.size_bytes)))
    put(tar.END)


def _write_artifact(
    blobs: _Blobs, snapshot: Snapshot, report: Count | None
) -> tuple[tuple[Layer, ...], Descriptor]:
    lock = snapshot.lock
    files = sorted(lock.files, key=lambda file: file.path)

    def work(number: int, stop: Event) -> Layer:
        file = files[number]

        def fill(put: Put) -> None:
            copy_checked(snapshot, file, put, stop, report=report, hashed=True)

        digest, size = blobs.stream(f"file-{number}", fill)
        if digest != f"sha256:{file.sha256}":
            raise changed(snapshot, file)
        return Layer(digest=digest, size_bytes=size, paths=(file.path,))

    layers = each(range(len(files)), work)
    described = [_file_descriptor(layer) for layer in layers]
    text = lock_text(lock).encode()
    own = blobs.put(text, _media_type(LOCK_NAME), annotations=_title(LOCK_NAME))
    described.append(own)
    layers.append(Layer(digest=str(own["digest"]), size_bytes=len(text), paths=(LOCK_NAME,)))
    formats = {"safetensors", "gguf"} & {layer.paths[0].rpartition(".")[2].lower() for layer in layers}
    config = {
        "descriptor": {
            "createdAt": lock.created,
            "name": lock.repo,
            "sourceURL": f"{lock.endpoint}/{lock.repo}",
            "revision": lock.revision,
            "licenses": [_spdx(lock)],
        },
        "config": {"format": "safetensors" if "safetensors" in formats else "gguf"} if formats else {},
        "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": MODEL_TYPE,
        "config": blobs.put(_json(config), MODEL_CONFIG_TYPE),
        "layers": described,
        "annotations": _annotations(lock),
    }
    return tuple(layers), blobs.put(_json(manifest), MANIFEST_TYPE, artifactType=MODEL_TYPE)


def _file_descriptor(layer: Layer) -> Descriptor:
    path = layer.paths[0]
    return {
        "mediaType": _media_type(path),
        "digest": layer.digest,
        "size": layer.size_bytes,
        "annotations": _title(path),
    }


def _title(path: str) -> dict[str, str]:
    return {"org.opencontainers.image.title": path, "org.cncf.model.filepath": path}


def _media_type(path: str) -> str:
    """ModelPack's kinds of uncompressed, unarchived files."""
    name = path.lower()
    kind = "weight.config"
    if name.endswith((".safetensors", ".gguf", ".bin", ".pt", ".pth")):
        kind = "weight"
    elif name.endswith((".md", ".pdf")) or re.match(r"(licen[cs]e|notice|readme)", name.rpartition("/")[2]):
        kind = "doc"
    elif name.endswith((".py", ".so", ".sh")):
        kind = "code"
    return f"application/vnd.cncf.model.{kind}.v1.raw"


def _prefix(prefix: str) -> str:
    parts = prefix.strip("/").split("/") if prefix.strip("/") else []
    if (
        not prefix.startswith("/")
        or not prefix.isprintable()
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise UsageError(f"{prefix[:80]!r} is no directory in an image.", hint="Write / or /models/NAME.")
    return "".join(f"{part}/" for part in parts)


def _check_place(out: Path) -> None:
    if not os.path.lexists(out):
        return
    if not out.is_dir() or out.is_symlink():
        raise OutputError(f"{out} is not a directory.", hint="Name a new one for the layout.")
    try:
        empty = not any(out.iterdir())
        ours = (
            f'"{MARK}"' in (out / "index.json").read_text(encoding="utf-8")[:100_000] if not empty else True
        )
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise OutputError(
            f"{out} holds something that selfhost did not write.", hint="Name a new or an empty directory."
        )


def _identity(lock: Lock) -> dict[str, str]:
    return {"selfhost/model": lock.repo, MARK: lock.revision}


def _annotations(lock: Lock) -> dict[str, str]:
    notes = {
        "org.opencontainers.image.created": lock.created,
        "org.opencontainers.image.title": lock.repo,
        "org.opencontainers.image.source": f"{lock.endpoint}/{lock.repo}",
        "org.opencontainers.image.revision": lock.revision,
        "org.opencontainers.image.licenses": _spdx(lock),
        "selfhost/licence": lock.licence.licence or "unknown",
        "selfhost/permission": lock.licence.permission,
        "selfhost/version": __version__,
        **_identity(lock),
    }
    return dict(sorted(notes.items()))


def _spdx(lock: Lock) -> str:
    licence = lock.licence.licence or "unknown"
    return _SPDX.get(licence) or "LicenseRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", licence)


def _json(value: object) -> bytes:
    """JSON as Go's own writer prints it, so that tools which read and write a manifest keep its digest."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
