"""What is on this machine already: pulled models with their lock files, checked without asking anybody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from selfhost import strict
from selfhost.errors import VerifyError
from selfhost.hub.card import CARD, CARD_BYTES, declared_by_card, declared_by_lock
from selfhost.hub.directory import cache_root, snapshot_path
from selfhost.hub.references import Reference
from selfhost.licence import Declared
from selfhost.pull import marks
from selfhost.pull.hashing import hash_file
from selfhost.pull.lockfile import read_lock
from selfhost.pull.types import LOCK_NAME, WORK_NAME, LockedFile, RemoteFile, Snapshot

_COMMIT_DIGITS = 40


def assure(snapshot: Snapshot, *, count: Callable[[int], None] | None = None) -> Snapshot:
    """A snapshot of which every byte is known to be right: marked as unchanged since it was verified, or hashed now.

    Args:
        snapshot: directory and lock.
        count: told the bytes that are hashed.

    Raises:
        VerifyError: a file is missing or holds other bytes.
    """
    work = work_of(snapshot.root)
    for file in snapshot.lock.files:
        path = snapshot.path(file)
        target = path.resolve()
        known = as_remote(file)
        if marks.marked(work, known, target) == file.sha256:
            continue
        try:
            size, hashes = hash_file(target, count=count)
        except OSError as error:
            raise VerifyError(f"{path} cannot be read: {error.strerror or error}.", hint=_HINT) from None
        if size != file.size_bytes or hashes.sha256 != file.sha256:
            raise VerifyError(f"{path} is not what its lock file says.", hint=_HINT)
        marks.mark(work, known, target, file.sha256)
    return snapshot


def declared_at(snapshot: Snapshot) -> Declared:
    """What a pulled model declares of its licence: what the pull wrote down, and its card."""
    card = b""
    with suppress(OSError), (snapshot.root / CARD).open("rb") as stream:
        card = stream.read(CARD_BYTES)
    declared, _ = declared_by_lock({"licence": strict.encode(snapshot.lock.licence)}, declared_by_card(card))
    return declared


def is_whole(snapshot: Snapshot, files: Sequence[RemoteFile], *, partial: bool) -> bool:
    """Whether a lock names just the files that a pull would bring."""
    lock = snapshot.lock
    named = {(file.path, file.size_bytes, file.etag) for file in lock.files}
    return lock.partial == partial and named == {(file.path, file.size_bytes, file.etag) for file in files}


def snapshot_at(root: Path) -> Snapshot:
    """The pulled model in a directory, unchecked.

    Raises:
        VerifyError: there is no lock file, or it is not one.
    """
    return Snapshot(root=root, lock=read_lock(root / LOCK_NAME))


def snapshots_in(cache: Path) -> tuple[Snapshot, ...]:
    """Every pulled model in the Hub's cache, unchecked; downloads of other tools have no lock file and are left out."""
    found: list[Snapshot] = []
    try:
        paths = sorted(cache.glob(f"models--*/snapshots/*/{LOCK_NAME}"))
    except OSError as error:
        raise VerifyError(
            f"{cache} cannot be read: {error.strerror or error}.", hint="set HF_HUB_CACHE, or name a --dir."
        ) from None
    for path in paths:
        with suppress(VerifyError):
            found.append(snapshot_at(path.parent))
    return tuple(found)


def find_pulled(reference: Reference, *, directory: Path | None, cache: Path) -> Snapshot | None:
    """The pulled model that a reference means, as far as this machine knows without the Hub, or None."""
    revision = reference.revision or "main"
    if directory is not None:
        with suppress(VerifyError):
            found = snapshot_at(directory)
            exact = len(revision) == _COMMIT_DIGITS
            if found.lock.repo == reference.name and (not exact or found.lock.revision == revision):
                return found
        return None
    folder = snapshot_path(cache, reference.name, "").parent
    commit = revision
    with suppress(OSError, ValueError):
        commit = (folder / "refs" / revision).read_text(encoding="ascii").strip()
    with suppress(VerifyError):
        return snapshot_at(folder / "snapshots" / commit)
    return None


def work_of(root: Path) -> Path:
    """Where a pull keeps its marks: inside a plain directory, beside the snapshots in the Hub's cache."""
    return root.parents[1] / WORK_NAME if cache_root(root) else root / WORK_NAME


def as_remote(file: LockedFile) -> RemoteFile:
    """A locked file as the Hub would list it."""
    large = len(file.etag) == 64
    return RemoteFile(
        path=file.path,
        size_bytes=file.size_bytes,
        git_oid="" if large else file.etag,
        sha256=file.etag if large else None,
    )


_HINT = "run `selfhost pull` again: it brings what is missing or wrong."
