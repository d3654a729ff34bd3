"""Verified snapshots -> what is offered: each file by name and by hash, and the Hub's JSON about it, made once.

A request is looked up here and never joined to a path. Each file is remembered as it was when its content was
verified; one that has changed since is not sent.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from selfhost.errors import LicenceError, ModelReferenceError, UsageError, VerifyError
from selfhost.hub.references import check_repository
from selfhost.licence import Verdict
from selfhost.pull.types import Lock, LockedFile, Snapshot
from selfhost.strict import encode

MAIN = "main"
_GIT_OID = re.compile(r"[0-9a-f]{40}")  # of a blob or a commit
_PULL_AGAIN = "run `selfhost pull` again: it brings what is missing or wrong."


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """By what a change of a file shows: device, inode, length, time of the last write in nanoseconds."""

    device: int
    inode: int
    size_bytes: int
    written_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> State:
        """The state that a `stat` found."""
        return cls(
            device=status.st_dev,
            inode=status.st_ino,
            size_bytes=status.st_size,
            written_ns=status.st_mtime_ns,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One file that is served.

    Args:
        repo: its repository.
        commit: of the snapshot.
        file: name, length and hashes.
        target: the regular file on disk, with no link in its path.
        state: as it was when it was verified.
    """

    repo: str
    commit: str
    file: LockedFile
    target: Path
    state: State

    @property
    def in_lfs(self) -> bool:
        """Whether the Hub knows the content by its SHA-256; else by a git blob id."""
        return not _GIT_OID.fullmatch(self.file.etag)

    @property
    def etag(self) -> str:
        """The hash under which the Hub and its clients know the content."""
        return self.file.sha256 if self.in_lfs else self.file.etag

    def is_unchanged(self) -> bool:
        """Whether the file on disk is still the one that was verified, as far as its state shows."""
        try:
            return State.of(self.target.stat()) == self.state
        except OSError:
            return False


@dataclass(frozen=True, kw_only=True)
class Model:
    """One repository at one commit.

    Args:
        repo: its name.
        commit: the commit.
        verdict: of its licence.
        files: name -> file.
    """

    repo: str
    commit: str
    verdict: Verdict
    files: Mapping[str, Offer]

    @cached_property
    def page(self) -> bytes:
        """The Hub's answer about the model."""
        return _json(_page(self))

    @cached_property
    def tree(self) -> bytes:
        """The Hub's answer to what stands in the whole tree."""
        return _json(_entries(self))

    def folder(self, path: str, *, recursive: bool) -> bytes | None:
        """The Hub's answer to what stands in a folder, `` for the root; None where there is no such folder."""
        if not path and recursive:
            return self.tree
        below = f"{path}/" if path else ""
        rows = {str(row["path"]): row for row in _entries(self)}
        if path and rows.get(path, {}).get("type") != "directory":
            return None
        inside = (name for name in rows if name.startswith(below))
        return _json([rows[name] for name in inside if recursive or "/" not in name[len(below) :]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Everything that is served.

    Args:
        models: repository -> commit, and `main` where it is at one commit only -> model.
        blobs: SHA-256 -> a file of that content.
    """

    models: Mapping[str, Mapping[str, Model]]
    blobs: Mapping[str, Offer]

    @property
    def offers(self) -> tuple[Offer, ...]:
        """Every file once."""
        return tuple(
            offer
            for revisions in self.models.values()
            for revision, model in revisions.items()
            if revision != MAIN
            for offer in model.files.values()
        )


def make_table(snapshots: Sequence[Snapshot], *, allow_gated: bool = False) -> Table:
    """What a server of these snapshots offers. Their files have to be verified already.

    Args:
        snapshots: directories with their locks; two of one commit complete each other.
        allow_gated: also models of which the owner grants access one by one.

    Raises:
        UsageError: nothing to serve.
        LicenceError: a gated model that was not allowed.
        VerifyError: a file is missing or has another length than its lock says.
    """
    if not snapshots:
        raise UsageError("There is nothing to serve.", hint="name a MODEL, and it is pulled first.")
    files: dict[tuple[str, str], dict[str, Offer]] = {}
    verdicts: dict[tuple[str, str], Verdict] = {}
    for snapshot in snapshots:
        lock = snapshot.lock
        _check_names(lock)
        _check_gate(lock.repo, lock.licence, allow_gated)
        key = lock.repo, lock.revision
        verdicts.setdefault(key, lock.licence)
        known = files.setdefault(key, {})
        for file in lock.files:
            if file.path not in known:
                known[file.path] = _offer(snapshot, file)
    commits = Counter(repo for repo, _ in files)
    models: dict[str, dict[str, Model]] = {}
    for (repo, commit), found in files.items():
        model = Model(
            repo=repo, commit=commit, verdict=verdicts[repo, commit], files=dict(sorted(found.items()))
        )
        revisions = models.setdefault(repo, {})
        revisions[commit] = model
        if commits[repo] == 1:
            revisions[MAIN] = model
    blobs = {offer.file.sha256: offer for found in files.values() for offer in found.values()}
    return Table(models=models, blobs=blobs)


def _check_names(lock: Lock) -> None:
    """A lock file may come from anywhere, and its names go into header fields."""
    try:
        check_repository(lock.repo)
    except ModelReferenceError as error:
        raise VerifyError(
            f"A lock file names an impossible repository: {error.message}", hint=_PULL_AGAIN
        ) from None
    if not _GIT_OID.fullmatch(lock.revision):
        raise VerifyError(f"The lock file of {lock.repo} names no commit.", hint=_PULL_AGAIN)


def _check_gate(repo: str, verdict: Verdict, allowed: bool) -> None:
    if verdict.gate in ("auto", "manual") and not allowed:
        raise LicenceError(
            f"{repo} is gated: its owner grants access to each account, and a server would hand it to everybody.",
            hint="where everybody who can reach the server has been granted access, add --allow-gated.",
        )


def _offer(snapshot: Snapshot, file: LockedFile) -> Offer:
    path = snapshot.path(file)
    try:
        target = path.resolve(strict=True)
        status = target.stat()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is a link to itself"
        raise VerifyError(f"{path} cannot be read: {reason}.", hint=_PULL_AGAIN) from None
    if not target.is_file() or status.st_size != file.size_bytes:
        raise VerifyError(f"{path} is not what its lock file says.", hint=_PULL_AGAIN)
    lock = snapshot.lock
    return Offer(repo=lock.repo, commit=lock.revision, file=file, target=target, state=State.of(status))


def _page(model: Model) -> dict[str, object]:
    """A model's page as `/api/models/X?blobs=true` gives it (huggingface_hub 2.4, hf_api.py `ModelInfo`)."""
    gate = model.verdict.gate
    page: dict[str, object] = {
        "id": model.repo,
        "modelId": model.repo,
        "sha": model.commit,
        "private": False,
        "disabled": False,
        "tags": [f"license:{model.verdict.licence}"] if model.verdict.licence else [],
        "cardData": _card(model.verdict),
        "siblings": [_sibling(offer) for offer in model.files.values()],
    }
    if gate != "unknown":
        page["gated"] = False if gate == "none" else gate
    return page


def _card(verdict: Verdict) -> dict[str, object]:
    """The licence travels: as the card's fields, from which a pull judges anew, and as the verdict itself."""
    card: dict[str, object] = {"selfhost": encode(verdict)}
    if verdict.licence is not None:
        card["license"] = verdict.licence
        card["license_name"] = verdict.name
    if verdict.source.startswith(("https://", "http://")):
        card["license_link"] = verdict.source
    return card


def _sibling(offer: Offer) -> dict[str, object]:
    row: dict[str, object] = {"rfilename": offer.file.path, "size": offer.file.size_bytes}
    if offer.in_lfs:
        row["lfs"] = {
            "sha256": offer.etag,
            "size": offer.file.size_bytes,
            "pointerSize": len(_pointer(offer)),
        }
    return {**row, "blobId": _git_oid(offer)}


def _entries(model: Model) -> list[dict[str, object]]:
    """Files and folders as `/api/models/X/tree/R` gives them (hf_api.py `RepoFile`, `RepoFolder`)."""
    rows: dict[str, dict[str, object]] = {}
    for path, offer in model.files.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            # The id of a folder covers files that may not have been pulled, so it is not known.
            rows.setdefault(folder, {"type": "directory", "path": folder, "size": 0, "oid": ""})
        row: dict[str, object] = {"type": "file", "path": path, "size": offer.file.size_bytes}
        if offer.in_lfs:
            row["lfs"] = {
                "oid": offer.etag,
                "size": offer.file.size_bytes,
                "pointerSize": len(_pointer(offer)),
            }
        rows[path] = {**row, "oid": _git_oid(offer)}
    return list(rows.values())


def _pointer(offer: Offer) -> bytes:
    """What git itself holds of a file in LFS (git-lfs docs/spec.md)."""
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
    return text.format(offer.file.sha256, offer.file.size_bytes).encode()


def _git_oid(offer: Offer) -> str:
    """Id of the git blob: of the content, or of the pointer that stands for it."""
    if not offer.in_lfs:
        return offer.file.etag
    pointer = _pointer(offer)
    return hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")
