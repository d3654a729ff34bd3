"""Where pulled files go: the Hub's cache or a plain directory; unfinished files, locks and marks stand beside them.

Nothing is written outside: folders below the destination are made and entered one at a time, and a link among them is
refused.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from selfhost.errors import OutputError
from selfhost.hub.directory import snapshot_path
from selfhost.pull.lockfile import beside, sync_directory
from selfhost.pull.types import LOCK_NAME, WORK_NAME, Listing, RemoteFile

_HINT = "choose another --dir, or remove the link."


class Place(Protocol):
    """A destination."""

    @property
    def root(self) -> Path:
        """The directory below which the model's files stand when all is done."""
        ...

    @property
    def work(self) -> Path:
        """Where marks and locks stand."""
        ...

    def part(self, file: RemoteFile) -> Path:
        """Where a file grows."""
        ...

    def guard(self, file: RemoteFile) -> Path:
        """The lock that lets one process at a time write a file."""
        ...

    def found(self, file: RemoteFile) -> Path | None:
        """A whole file that is there already and may be the right one."""
        ...

    def publish(self, file: RemoteFile) -> None:
        """Put a finished and verified part in its place, in one step."""
        ...

    def link(self, file: RemoteFile) -> None:
        """Show a content that is there already under the file's name."""
        ...

    def prepare(self) -> None:
        """Make the folders."""
        ...

    def finish(self) -> None:
        """What is left to do when every file is there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A plain directory: files by their names, work in `.selfhost` inside.

    Args:
        root: the directory, absolute.
    """

    root: Path

    @property
    def work(self) -> Path:
        """See `Place`."""
        return self.root / WORK_NAME

    def part(self, file: RemoteFile) -> Path:
        """See `Place`."""
        return self.work / "parts" / file.etag

    def guard(self, file: RemoteFile) -> Path:
        """See `Place`."""
        return self.work / "locks" / file.etag

    def found(self, file: RemoteFile) -> Path | None:
        """See `Place`."""
        path = self.root / file.path
        refuse_links(self.root, Path(file.path))
        return path if os.path.isfile(path) else None

    def publish(self, file: RemoteFile) -> None:
        """See `Place`."""
        folder = enter(self.root, Path(file.path).parent)
        self.part(file).replace(self.root / file.path)
        sync_directory(folder)

    def link(self, file: RemoteFile) -> None:
        """Nothing to do: a file stands under its own name."""

    def prepare(self) -> None:
        """See `Place`."""
        self.root.mkdir(parents=True, exist_ok=True)
        for name in ("parts", "locks", "ok"):
            enter(self.root, Path(WORK_NAME) / name)

    def finish(self) -> None:
        """Unfinished files of another revision are of no use to this one."""
        with suppress(OSError):
            for path in (self.work / "parts").iterdir():
                path.unlink()
            (self.work / "parts").rmdir()

    def is_ours(self) -> bool:
        """Whether a pull has filled this directory, or it is new or empty: then files in it may be replaced."""
        if os.path.isfile(self.root / LOCK_NAME) or os.path.isdir(self.work):
            return True
        try:
            return not any(self.root.iterdir())
        except (FileNotFoundError, NotADirectoryError):  # what cannot be made is told by making it
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class HubCache:
    """huggingface_hub's cache: contents by hash in `blobs`, names as links in `snapshots/COMMIT` (its cache guide).

    Args:
        cache: the cache, absolute.
        repo: the repository.
        commit: the commit.
        revision: what was asked for; a branch or tag is written to `refs`.
    """

    cache: Path
    repo: str
    commit: str
    revision: str

    @property
    def root(self) -> Path:
        """See `Place`."""
        return snapshot_path(self.cache, self.repo, self.commit)

    @property
    def folder(self) -> Path:
        """The repository's folder in the cache."""
        return self.root.parent.parent

    @property
    def work(self) -> Path:
        """See `Place`."""
        return self.folder / WORK_NAME

    def part(self, file: RemoteFile) -> Path:
        """See `Place`; the library's own unfinished files end the same way, and its clean-up knows them."""
        return self.folder / "blobs" / f"{file.etag}.selfhost.incomplete"

    def guard(self, file: RemoteFile) -> Path:
        """The library's own lock of this content, so that `hf download` and a pull wait for each other."""
        return self.cache / ".locks" / self.folder.name / f"{file.etag}.lock"

    def found(self, file: RemoteFile) -> Path | None:
        """See `Place`."""
        blob = self.folder / "blobs" / file.etag
        return blob if os.path.isfile(blob) else None

    def publish(self, file: RemoteFile) -> None:
        """See `Place`."""
        self.part(file).replace(self.folder / "blobs" / file.etag)
        sync_directory(self.folder / "blobs")
        self.link(file)

    def link(self, file: RemoteFile) -> None:
        """See `Place`."""
        folder = enter(self.root, Path(file.path).parent)
        name = self.root / file.path
        blob = self.folder / "blobs" / file.etag
        target = os.path.relpath(blob, folder)
        if os.path.islink(name) and os.readlink(name) == target:
            return
        temporary = beside(name)
        try:
            temporary.symlink_to(target)
        except OSError:  # a file system without links: a second name, or a copy as the library makes one
            import shutil

            try:
                os.link(blob, temporary)
            except OSError:
                shutil.copyfile(blob, temporary)
        temporary.replace(name)

    def prepare(self) -> None:
        """See `Place`."""
        self.cache.mkdir(parents=True, exist_ok=True)
        below = self.folder.name
        for name in ("blobs", "refs", f"snapshots/{self.commit}", f"{WORK_NAME}/ok"):
            enter(self.cache, Path(below) / name)
        enter(self.cache, Path(".locks") / below)

    def finish(self) -> None:
        """Write the branch or tag, as the library does, so that it is found offline."""
        if self.revision != self.commit:
            path = Path("refs") / self.revision
            enter(self.folder, path.parent)
            temporary = beside(self.folder / path)
            temporary.write_text(self.commit, encoding="ascii")
            temporary.replace(self.folder / path)


def place_for(listing: Listing, *, directory: Path | None, cache: Path) -> Directory | HubCache:
    """The destination that a pull was asked for: the directory if one was named, else the cache.

    Raises:
        OutputError: the cache would be below the home of a user without one.
    """
    if directory is not None:
        return Directory(root=Path(os.path.abspath(directory)))
    # A user without an entry in /etc/passwd, as a pod's often is.
    if cache.parts[:1] and cache.parts[0].startswith("~"):
        raise OutputError(
            f"The Hub's cache has no place: {cache} is below the home of a user who has none.",
            hint="set HF_HOME, or name a --dir.",
        )
    return HubCache(
        cache=Path(os.path.abspath(cache)),
        repo=listing.repo,
        commit=listing.commit,
        revision=listing.revision,
    )


def refuse_links(root: Path, name: Path) -> None:
    """Refuse a path below a root of which any part is a link.

    Raises:
        OutputError: one is.
    """
    path = root
    for part in name.parts:
        path = path / part
        if os.path.islink(path):  # unlike Path.is_symlink, false for what cannot be looked at
            raise OutputError(f"{path} is a link; a pull would write through it.", hint=_HINT)


def enter(root: Path, folder: Path) -> Path:
    """Make a folder below a root, one part at a time, and refuse a link or a file in the way.

    Raises:
        OutputError: a part of the path is a link or no directory.
    """
    path = root
    for part in folder.parts:
        path = path / part
        with suppress(FileExistsError):
            path.mkdir()
        if path.is_symlink():
            raise OutputError(f"{path} is a link; a pull would write through it.", hint=_HINT)
        if not path.is_dir():
            raise OutputError(f"{path} is a file where a folder has to be.", hint=_HINT)
    return path
