"""Writing below one directory and nowhere else: every folder on the way is opened without following a link."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selfhost.errors import OutputError, SelfhostError
from selfhost.pull.carry import write_all
from selfhost.pull.hashing import PIECE_BYTES

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PART = ".selfhost-part"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Put = Callable[[bytes | memoryview], None]


class Tree:
    """A directory that is written to by one process at a time. Several threads may use it at once."""

    def __init__(self, root: Path) -> None:
        """Make and open the directory.

        Raises:
            OutputError: it cannot be written, or another process is at it.
        """
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._error(error, "") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise OutputError(
                f"Another process is writing to {root}.", hint="wait until it is done."
            ) from None
        except OSError:
            pass  # a file system without locks

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            os.close(self._descriptor)

    def holds(self, path: str, *, size_bytes: int, sha256: str) -> bool | None:
        """Whether a file stands there with this content; None where nothing stands there.

        Raises:
            OutputError: a link is on the way, or it cannot be read.
        """
        try:
            with self._folder(path, make=False) as (folder, name):
                descriptor = os.open(
                    name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
                )
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # the name itself is a link
                return False
            raise self._error(error, path) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size_bytes:
                return False
            total, view, offset = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES)), 0
            while got := os.preadv(descriptor, [view], offset):
                total.update(view[:got])
                offset += got
            return total.hexdigest() == sha256
        except OSError as error:
            raise self._error(error, path) from None
        finally:
            os.close(descriptor)

    def read(self, path: str, limit: int) -> bytes | None:
        """The start of a small file, None where there is none."""
        try:
            with self._folder(path, make=False) as (folder, name):
                descriptor = os.open(
                    name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
                )
            with os.fdopen(descriptor, "rb") as file:
                return file.read(limit)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(error, path) from None

    def write(self, path: str, fill: Callable[[Put], None]) -> None:
        """Write a file whole: it gets its name when `fill` has ended well, and is gone when it has not.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            with self._folder(path, make=True) as (folder, name):
                part = f".{name[:200]}{_PART}"
                with suppress(FileNotFoundError):
                    os.unlink(part, dir_fd=folder)  # of a run that was killed
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(part, flags, 0o644, dir_fd=folder)
                try:
                    with os.fdopen(descriptor, "wb", buffering=0) as out:
                        fill(lambda data: write_all(out, data))
                        os.fsync(out.fileno())
                    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(part, dir_fd=folder)
                    raise
        except OSError as error:
            raise self._error(error, path) from None

    def remove(self, path: str) -> None:
        """Remove a file or a link.

        Raises:
            OutputError: it cannot be removed.
        """
        try:
            with self._folder(path, make=False) as (folder, name):
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._error(error, path) from None

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link, or leave it where it is already the same.

        Raises:
            OutputError: something else stands there.
        """
        try:
            with self._folder(path, make=True) as (folder, name):
                with suppress(OSError):
                    if os.readlink(name, dir_fd=folder) == target:
                        return
                os.symlink(target, name, dir_fd=folder)
        except FileExistsError:
            raise self.taken(path) from None
        except OSError as error:
            raise self._error(error, path) from None

    def taken(self, path: str) -> OutputError:
        """The error for a place where something else stands."""
        return OutputError(
            f"{self.root / path} is there already and something else.",
            hint="name another directory, or add --force to replace it.",
        )

    @contextmanager
    def _folder(self, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """The open folder of a path, and the name in it."""
        *folders, name = path.split("/")
        descriptor = os.dup(self._descriptor)
        try:
            for folder in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(folder, 0o755, dir_fd=descriptor)
                below = os.open(folder, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _error(self, error: OSError, path: str) -> SelfhostError:
        where = self.root / path
        if error.errno in _FULL:
            return OutputError(
                f"The disk of {self.root} is full.",
                hint="make room, then run it again: whole files are kept.",
            )
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return OutputError(
                f"A link or a file is on the way to {where}, and none is followed.",
                hint="name another directory.",
            )
        return OutputError(f"Cannot write {where}: {error.strerror or error}.")
