"""Plan and weights -> one tar file: small files first, weights last, every byte hashed as it is written."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from selfhost.bundle.archive import Placed, arrange
from selfhost.bundle.contents import contents
from selfhost.bundle.images import Resolve, check_mirror
from selfhost.bundle.manifest import MANIFEST, SCHEMA, WEIGHTS, Manifest, manifest_text
from selfhost.errors import OutputError, UsageError
from selfhost.manifests import RenderOptions
from selfhost.plan import Plan
from selfhost.pull import tar
from selfhost.pull.carry import copy_checked, public
from selfhost.pull.stage import each, publish, stage
from selfhost.pull.types import Lock, Snapshot

Report = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A bundle that was written.

    Args:
        path: the file.
        size_bytes: its length.
        manifest: what is in it.
        digest: SHA-256 of its manifest, which names every other file's: `sha256:` and 64 digits.
        notes: what the maker should know.
    """

    path: Path
    size_bytes: int
    manifest: Manifest
    digest: str
    notes: tuple[str, ...]


def create(
    plan: Plan,
    out: Path,
    *,
    created: str,
    resolve: Resolve,
    options: RenderOptions | None = None,
    snapshot: Snapshot | None = None,
    mirror: str | None = None,
    force: bool = False,
    report: Report | None = None,
) -> Created:
    """Write a bundle. Equal arguments give equal bytes.

    Args:
        plan: what is deployed.
        out: the file to write; one that another call wrote is replaced.
        created: UTC time in ISO 8601.
        resolve: says what an image's tag names at present; None from it leaves the image unpinned.
        options: what the cluster decides.
        snapshot: verified weights, None for a bundle without.
        mirror: registry and path below which the cluster has its images.
        force: replace whatever file stands at `out`.
        report: told how many bytes of weights were written, piece by piece.

    Raises:
        UsageError: weights of another model than the plan's, or a mirror that is none.
        VerifyError: a file of the weights is no longer what its lock says.
        OutputError: the bundle cannot be written; nothing of it is left.
    """
    notes = []
    lock = None
    if snapshot is not None:
        lock = public(snapshot.lock)
        snapshot = replace(snapshot, lock=lock)
        notes += _check_weights(plan, lock)
    _check_place(out, force=force)
    made = contents(
        plan,
        options=options or RenderOptions(),
        lock=lock,
        mirror=None if mirror is None else check_mirror(mirror),
        resolve=resolve,
        created=created,
    )
    text = manifest_text(made.manifest).encode()
    archive = arrange(made.manifest, text)
    with stage(out, need_bytes=archive.size_bytes) as folder:
        part = folder / "bundle.tar"
        with part.open("wb", buffering=0) as file:
            descriptor = file.fileno()
            os.truncate(descriptor, archive.size_bytes)  # whatever is not written is padding, and zero
            _put(descriptor, archive.head, 0)
            large = []
            for placed in archive.members:
                _put(descriptor, placed.header, placed.offset_bytes)
                if placed.member.path in made.small:
                    _put(descriptor, made.small[placed.member.path], placed.content_offset_bytes)
                else:
                    large.append(placed)
            if snapshot is not None:
                _write_weights(descriptor, snapshot, large, report)
            os.fsync(descriptor)
        part.chmod(0o644)
        publish(part, out)
    notes += [
        f"{image.source} is not pinned: nobody said which bytes it names."
        for image in made.manifest.images
        if image.digest is None
    ]
    return Created(
        path=out,
        size_bytes=archive.size_bytes,
        manifest=made.manifest,
        digest=f"sha256:{hashlib.sha256(text).hexdigest()}",
        notes=tuple(notes),
    )


def _write_weights(descriptor: int, snapshot: Snapshot, placed: list[Placed], report: Report | None) -> None:
    """Several files at once, each at its place."""
    locked = {WEIGHTS + file.path: file for file in snapshot.lock.files}

    def work(one: Placed, stop: Event) -> None:
        offset = one.content_offset_bytes

        def put(data: bytes | memoryview) -> None:
            nonlocal offset
            _put(descriptor, data, offset)
            offset += len(data)

        copy_checked(snapshot, locked[one.member.path], put, stop, report=report)

    each(placed, work)


def _put(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]


def _check_weights(plan: Plan, lock: Lock) -> list[str]:
    """Refuse weights of another model, and say what an unpinned plan gets."""
    if plan.weights.kind != "hub":
        return []
    wanted, commit = plan.weights.location, plan.model.revision
    if lock.repo.lower() != wanted.lower() or commit not in (None, lock.revision):
        asked = wanted if commit is None else f"{wanted} at {commit[:12]}"
        raise UsageError(
            f"The weights are {lock.repo} at {lock.revision[:12]}, the plan is for {asked}.",
            hint="Pull the planned model, or plan for the one that is there.",
        )
    if commit is not None:
        return []
    return [f"The plan pins no commit; the weights are {lock.revision[:12]}, served as the branch main."]


def _check_place(out: Path, *, force: bool) -> None:
    try:
        mode = out.stat().st_mode
        if stat.S_ISDIR(mode):
            raise OutputError(f"{out} is a directory.", hint="Name a file with -o.")
        if not stat.S_ISREG(mode):
            raise OutputError(f"{out} is not a regular file.", hint="Name a file with -o.")
        with out.open("rb") as file:
            head = file.read(2 * tar.BLOCK_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"Cannot write {out}: {error.strerror or error}.") from None
    ours = head.startswith(MANIFEST.encode() + b"\0") and SCHEMA.encode() in head
    if not ours and not force:
        raise OutputError(
            f"{out} is there already and no bundle.", hint="Name another file with -o, or add --force."
        )
