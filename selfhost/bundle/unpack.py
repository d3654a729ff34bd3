"""Bundle -> files below a directory, each believed only when its hash is right; a second run keeps what is whole."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal

from selfhost.bundle.archive import Placed
from selfhost.bundle.manifest import LOCK, WEIGHTS, manifest_text
from selfhost.bundle.read import Bundle, Reader, bundled_lock
from selfhost.bundle.tree import Put, Tree
from selfhost.errors import BundleError, OutputError, UsageError
from selfhost.pull.stage import each
from selfhost.pull.types import LOCK_NAME, Lock
from selfhost.units import size_text

Only = Literal["weights", "manifests"]
Layout = Literal["directory", "cache"]
Report = Callable[[int], None]

# What may stand in the names of the Hub's cache: huggingface_hub 2.4, utils/_validators.py validate_repo_id.
_REPO = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]{0,95}(/[A-Za-z0-9][-A-Za-z0-9._]{0,95})?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What stands on disk now.

    Args:
        root: the directory.
        model: the directory to serve from, None where no weights were unpacked.
        written: paths below `root` that were written.
        kept: paths that were there already and right.
        notes: what the user should know.
    """

    root: Path
    model: Path | None
    written: tuple[str, ...]
    kept: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Goal:
    """One member and where it goes."""

    placed: Placed
    path: str


def unpack(
    bundle: Bundle,
    directory: Path,
    *,
    only: Only | None = None,
    layout: Layout = "directory",
    force: bool = False,
    report: Report | None = None,
) -> Unpacked:
    """Unpack a bundle, verifying while writing. Nothing outside the directory is written, and no link is followed.

    With `only="weights"` the directory becomes the model's own, or the Hub's cache; else weights go into `weights`
    below it. The lock file of the weights is written after them.

    Args:
        bundle: what `open_bundle` gave.
        directory: made where it does not exist.
        only: a part.
        layout: how weights are laid out: by their names, or as huggingface_hub's cache.
        force: replace files that are there with other content.
        report: told how many bytes are right on disk, piece by piece.

    Raises:
        BundleError: a member is not what the manifest says.
        UsageError: weights are wanted and the bundle holds none.
        OutputError: a file cannot be written, or another one stands in its place.
    """
    if only == "weights" and bundle.manifest.weights is None:
        raise UsageError(f"{bundle.path} holds no weights.", hint="Leave --only weights out.")
    base = "" if only == "weights" else WEIGHTS
    with Reader(bundle) as reader, Tree(directory) as tree:
        lock = None if only == "manifests" else bundled_lock(reader)
        goals = _goals(bundle, only)
        if lock is not None:
            goals += _cache_goals(bundle, lock, base) if layout == "cache" else _plain_goals(bundle, base)
        there = _there(tree, goals, force=force)
        if lock is not None and layout == "directory":
            _clear_lock(tree, bundle, base, force=force)
        _check_room(directory, [goal for goal in goals if goal.path not in there])

        def work(goal: _Goal, stop: Event) -> None:
            def fill(put: Put) -> None:
                reader.check(goal.placed, stop=stop, sink=put, report=report)

            if goal.path not in there:
                tree.write(goal.path, fill)
            elif report is not None:
                report(goal.placed.member.size_bytes)

        each(sorted(goals, key=lambda goal: -goal.placed.member.size_bytes), work)
        written = [goal.path for goal in goals if goal.path not in there]
        model: str | None = None
        notes: tuple[str, ...] = ()
        if lock is not None:
            model, notes, last = _finish(tree, reader, lock, base, layout)
            written.append(last)
        if only != "weights":
            data = manifest_text(bundle.manifest).encode()
            tree.write("manifest.json", lambda put: put(data))
            written.append("manifest.json")
    return Unpacked(
        root=directory,
        model=None if model is None else directory / model,
        written=tuple(sorted(written)),
        kept=tuple(sorted(there)),
        notes=notes,
    )


def _goals(bundle: Bundle, only: Only | None) -> list[_Goal]:
    """Everything but weights, by its own name."""
    if only == "weights":
        return []
    return [
        _Goal(placed=one, path=one.member.path)
        for one in bundle.placed
        if one.member.role not in ("weights", "lock")
    ]


def _plain_goals(bundle: Bundle, base: str) -> list[_Goal]:
    return [
        _Goal(placed=one, path=base + one.member.path.removeprefix(WEIGHTS))
        for one in bundle.placed
        if one.member.role == "weights"
    ]


def _cache_goals(bundle: Bundle, lock: Lock, base: str) -> list[_Goal]:
    """Contents by their hash, as the Hub's cache keeps them; two names of one content are one file."""
    if not (_REPO.fullmatch(lock.repo) and _COMMIT.fullmatch(lock.revision)):
        raise BundleError(
            f"{bundle.path}: {lock.repo!r:.80} at {lock.revision!r:.50} has no place in the Hub's cache.",
            hint="unpack it with --layout directory.",
        )
    etags = {WEIGHTS + file.path: file.etag for file in lock.files}
    goals: dict[str, _Goal] = {}
    for one in bundle.placed:
        if one.member.role != "weights":
            continue
        etag = etags[one.member.path]
        if _ETAG.fullmatch(etag) is None or (len(etag) == 64 and etag != one.member.sha256):
            raise BundleError(f"{bundle.path}: {LOCK} gives {one.member.path} a hash that cannot be.")
        path = f"{base}{_repo_folder(lock)}/blobs/{etag}"
        goals.setdefault(path, _Goal(placed=one, path=path))
    return list(goals.values())


def _repo_folder(lock: Lock) -> str:
    return f"models--{lock.repo.replace('/', '--')}"


def _there(tree: Tree, goals: list[_Goal], *, force: bool) -> frozenset[str]:
    """Files that are right already; refuses to write over others unless it was asked for."""

    def work(goal: _Goal, stop: Event) -> bool:
        member = goal.placed.member
        found = tree.holds(goal.path, size_bytes=member.size_bytes, sha256=member.sha256)
        if found is False and not force:
            raise tree.taken(goal.path)
        return bool(found)

    right = each(goals, work)
    return frozenset(goal.path for goal, same in zip(goals, right, strict=True) if same)


def _clear_lock(tree: Tree, bundle: Bundle, base: str, *, force: bool) -> None:
    """Take away the lock file of another model, which would vouch for files that are being replaced."""
    placed = bundle.find(LOCK)
    assert placed is not None
    path = base + LOCK_NAME
    if tree.holds(path, size_bytes=placed.member.size_bytes, sha256=placed.member.sha256) is False:
        if not force:
            raise tree.taken(path)
        tree.remove(path)


def _check_room(directory: Path, goals: list[_Goal]) -> None:
    need = sum(goal.placed.member.size_bytes for goal in goals)
    free = shutil.disk_usage(directory).free
    if need > free:
        raise OutputError(
            f"{directory} has {size_text(free)} free, and {size_text(need)} are still to come.",
            hint="make room or name another directory.",
        )


def _finish(
    tree: Tree, reader: Reader, lock: Lock, base: str, layout: Layout
) -> tuple[str, tuple[str, ...], str]:
    """Names of a cache, and the lock file last: it vouches for everything before it.

    Returns:
        The model's directory below the root, notes, and the lock's path.
    """
    model = base.rstrip("/")
    notes: tuple[str, ...] = ()
    if layout == "cache":
        folder = f"{base}{_repo_folder(lock)}"
        model = f"{folder}/snapshots/{lock.revision}"
        for file in lock.files:
            up = "../" * (2 + file.path.count("/"))
            tree.link(f"{model}/{file.path}", f"{up}blobs/{file.etag}")
        notes = _branch(tree, f"{folder}/refs/main", lock.revision)
    placed = reader.bundle.find(LOCK)
    assert placed is not None
    path = f"{model}/{LOCK_NAME}" if model else LOCK_NAME
    tree.write(path, lambda put: reader.check(placed, sink=put))
    return model, notes, path


def _branch(tree: Tree, path: str, commit: str) -> tuple[str, ...]:
    """Let `main` name this commit where it names none yet, so that an unpinned server finds it."""
    found = tree.read(path, 64)
    if found is None:
        tree.write(path, lambda put: put(commit.encode()))
    elif found.strip() != commit.encode():
        old = json.dumps(found.decode("ascii", "replace"))[1:13]
        return (
            f"The branch main stays at {old}: only servers that ask for {commit[:12]} find these weights.",
        )
    return ()
