"""Plan + options -> every file of a bundle but the weights, and the record of what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from selfhost import __version__
from selfhost.bundle import guide
from selfhost.bundle.chart import chart_files
from selfhost.bundle.images import Moved, Resolve, move, references, renamed
from selfhost.bundle.manifest import (
    LOCK,
    SCHEMA,
    WEIGHTS,
    BundledModel,
    BundledWeights,
    Manifest,
    Member,
    Role,
    Versions,
)
from selfhost.engines import parse_image
from selfhost.manifests import Document, RenderOptions, render
from selfhost.manifests.kubernetes import view
from selfhost.plan import Plan
from selfhost.pull.lockfile import lock_text
from selfhost.pull.types import Lock

PLAN = "plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What goes into a bundle.

    Args:
        manifest: the record.
        small: content of every member that is no weight, by its path.
    """

    manifest: Manifest
    small: Mapping[str, bytes]


def contents(
    plan: Plan,
    *,
    options: RenderOptions,
    lock: Lock | None,
    mirror: str | None,
    resolve: Resolve,
    created: str,
) -> Contents:
    """Render everything, with images pinned and renamed.

    Args:
        plan: what is deployed.
        options: what the cluster decides.
        lock: of the weights that go in, None for a bundle without.
        mirror: registry inside, None to leave images where they are.
        resolve: says what an image's tag names at present, or None.
        created: UTC time in ISO 8601.

    Raises:
        UsageError: options that contradict the plan, or two images that would get one name.
        SelfhostError: what `resolve` raises.
    """
    documents, moved, inside = _rendered(plan, options, mirror, resolve)
    if inside.image is not None:
        plan = replace(plan, engine=replace(plan.engine, image=parse_image(inside.image)))
    shown = view(plan, inside)
    weights = None
    if lock is not None:
        weights = BundledWeights(
            repo=lock.repo, revision=lock.revision, files=len(lock.files), size_bytes=lock.total_bytes
        )
    licence = lock.licence if lock is not None else plan.licence
    text = guide.readme(plan, shown, moved, weights=weights, licence=licence, mirror=mirror)
    small: dict[str, tuple[Role, bytes]] = {
        guide.README: ("readme", text.encode()),
        guide.IMAGES: ("images", guide.images_text(moved).encode()),
        guide.LOADER: ("loader", guide.loader(plan, shown, moved[0].new.reference).encode()),
    }
    for document in documents:
        # The bundle's own README says what the manifests' would, and the plan stands beside it.
        if document.name == PLAN:
            small[PLAN] = ("plan", document.content)
        elif document.name != guide.README:
            small[f"manifests/{document.name}"] = ("manifest", document.content)
    for path, data in chart_files(plan, shown, documents, moved, mirror=mirror).items():
        small[f"chart/{plan.name}/{path}"] = ("chart", data)
    if lock is not None:
        small[LOCK] = ("lock", lock_text(lock).encode())
    weighty = _weights(lock)
    small[guide.SUMS] = ("sums", guide.sums_text([*_small_members(small), *weighty]).encode())
    manifest = Manifest(
        schema=SCHEMA,
        name=plan.name,
        created=created,
        versions=Versions(selfhost=__version__, engine=plan.engine.name, engine_version=plan.engine.version),
        model=BundledModel(id=plan.model.id, revision=plan.model.revision),
        weights=weights,
        licence=licence,
        images=tuple(one.record for one in moved),
        members=(*_small_members(small), *weighty),
    )
    return Contents(manifest=manifest, small={path: data for path, (_, data) in small.items()})


def _rendered(
    plan: Plan, options: RenderOptions, mirror: str | None, resolve: Resolve
) -> tuple[tuple[Document, ...], tuple[Moved, ...], RenderOptions]:
    """Documents with the images' new names, these images, and the options that give them."""
    first = render(plan, options=options).documents
    engine = parse_image(options.image) if options.image is not None else plan.engine.image
    found = dict.fromkeys([engine.reference, *references(first)])
    moved = move(map(parse_image, found), mirror=mirror, resolve=resolve)
    inside = replace(options, image=moved[0].new.reference)
    if options.pull_image is not None:
        pull = parse_image(options.pull_image)
        new = next(
            one.new for one in moved if (one.old.repository, one.old.tag) == (pull.repository, pull.tag)
        )
        inside = replace(inside, pull_image=new.reference)
    return renamed(render(plan, options=inside).documents, moved), moved, inside


def _small_members(small: Mapping[str, tuple[Role, bytes]]) -> tuple[Member, ...]:
    """In the order in which a person looks at them; the lock is the last before the weights it speaks of."""
    order: tuple[Role, ...] = ("readme", "images", "plan", "loader", "manifest", "chart", "sums", "lock")
    ordered = sorted(small.items(), key=lambda item: (order.index(item[1][0]), item[0]))
    return tuple(
        Member(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), role=role)
        for path, (role, data) in ordered
    )


def _weights(lock: Lock | None) -> tuple[Member, ...]:
    files = lock.files if lock is not None else ()
    return tuple(
        Member(path=WEIGHTS + file.path, size_bytes=file.size_bytes, sha256=file.sha256, role="weights")
        for file in sorted(files, key=lambda file: file.path)
    )
