"""What a pull speaks of: the files a repository lists, the ones that are chosen and why, and what is on disk after."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from selfhost.licence import Declared, Verdict

LOCK_NAME = "selfhost.lock.json"
LOCK_SCHEMA = "selfhost/lock/v1"
WORK_NAME = ".selfhost"  # where unfinished files and locks stand inside a destination


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file as the Hub lists it.

    Args:
        path: name inside the repository, with slashes.
        size_bytes: its length.
        git_oid: git blob id (SHA-1 of header and content); of the pointer for a file in LFS or Xet storage.
        sha256: of the content, None for a file that git itself stores.
    """

    path: str
    size_bytes: int
    git_oid: str
    sha256: str | None = None

    @property
    def etag(self) -> str:
        """The hash under which the Hub and its cache know the content."""
        return self.sha256 or self.git_oid


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A repository at one commit.

    Args:
        repo: its present name.
        commit: what the revision resolved to.
        revision: what was asked for, such as `main`.
        endpoint: base address of the Hub that answered, without a trailing slash.
        files: everything it holds, sorted by path.
        declared: what its page says about licence and access.
    """

    repo: str
    commit: str
    revision: str
    endpoint: str
    files: tuple[RemoteFile, ...]
    declared: Declared


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One file of a listing, whether it is pulled, and why."""

    file: RemoteFile
    keep: bool
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One file on disk: its path below the root, length, SHA-256 of its content, and the Hub's own hash."""

    path: str
    size_bytes: int
    sha256: str
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What `selfhost.lock.json` says: which commit, which files with which content, under which licence.

    Args:
        schema: name and version of the format.
        repo: the repository.
        revision: the commit.
        endpoint: the Hub it came from.
        created: UTC time in ISO 8601.
        selfhost_version: what wrote it.
        files: sorted by path.
        licence: the verdict at the time of the pull.
        partial: only a part of the model was asked for, so that an index may name files that are not here.
    """

    schema: str
    repo: str
    revision: str
    endpoint: str
    created: str
    selfhost_version: str
    files: tuple[LockedFile, ...]
    licence: Verdict
    partial: bool = field(default=False, metadata={"later": True})

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Files on disk that were verified against a lock.

    Args:
        root: the directory below which `lock.files` stand; in the Hub's cache they are links.
        lock: what they are.
    """

    root: Path
    lock: Lock

    def path(self, file: LockedFile) -> Path:
        """Where a file stands."""
        return self.root / file.path
