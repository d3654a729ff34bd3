"""A file that grows on disk while it is hashed: resumed from what is there, believed when its hash is right."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from selfhost.errors import OutputError, SelfhostError
from selfhost.pull.hashing import Count, Digest, Hashes, feed
from selfhost.pull.types import RemoteFile
from selfhost.units import size_text

# Full: the disk, the quota, the largest file; what is there stays and the next pull goes on from it.
_FULL = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The quota is used up",
    errno.EFBIG: "The file is too large",
}
WRITE_OUT_BYTES = 32 << 20


class Part:
    """One unfinished file. Every byte is written at its own offset.

    Two processes that a broken lock lets in at once (`flock` on some network file systems) thus write the same bytes
    to the same places, and waste bandwidth but do no harm.
    """

    def __init__(self, path: Path, file: RemoteFile, *, count: Count | None = None) -> None:
        """Open the part and hash what an earlier pull left.

        Args:
            path: where it stands.
            file: what it will be.
            count: told of the bytes that are there already.

        Raises:
            OutputError: it cannot be written.
        """
        self.path = path
        self.file = file
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise disk_error(error, path) from None
        there = os.fstat(self._descriptor).st_size
        if there > file.size_bytes:
            os.ftruncate(self._descriptor, 0)
            there = 0
        self._digest = Digest(file.size_bytes, with_git=file.sha256 is None)
        self.done_bytes = feed(self._descriptor, self._digest, there, count=count)
        self._written_out = self.done_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            os.close(self._descriptor)

    @property
    def missing_bytes(self) -> int:
        """How much is still to come."""
        return self.file.size_bytes - self.done_bytes

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes; what is beyond the file's length has to be kept away by the caller.

        Raises:
            OutputError: the disk does not take them.
        """
        view = memoryview(data)
        try:
            while view:
                put = os.pwrite(self._descriptor, view, self.done_bytes)
                self._digest.update(view[:put])
                self.done_bytes += put
                view = view[put:]
            if self.done_bytes - self._written_out >= WRITE_OUT_BYTES:
                self._write_out()
        except OSError as error:
            raise disk_error(error, self.path, missing_bytes=self.missing_bytes) from None

    def _write_out(self) -> None:
        """Let the kernel begin to write what has come, so that little is left for `sync` to wait for.

        On Linux this advice starts the writing of dirty pages and drops clean ones only (mm/fadvise.c).
        """
        size = self.done_bytes - self._written_out
        with suppress(OSError):
            os.posix_fadvise(self._descriptor, self._written_out, size, os.POSIX_FADV_DONTNEED)
        self._written_out = self.done_bytes

    def restart(self) -> None:
        """Forget everything: what was there was wrong."""
        os.ftruncate(self._descriptor, 0)
        self._digest = Digest(self.file.size_bytes, with_git=self.file.sha256 is None)
        self.done_bytes = self._written_out = 0

    def hashes(self) -> Hashes:
        """Hashes of all that is there."""
        return self._digest.hashes

    def sync(self) -> None:
        """Bring the bytes onto the disk before the file gets its name.

        Raises:
            OutputError: the disk does not take them.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise disk_error(error, self.path) from None


def disk_error(error: OSError, path: Path, *, missing_bytes: int | None = None) -> SelfhostError:
    """What a failed write means to a user."""
    full = _FULL.get(error.errno or 0)
    if full is not None:
        more = (
            ""
            if missing_bytes is None
            else f", with {size_text(missing_bytes)} of {path.name[:12]} still to come"
        )
        return OutputError(
            f"{full}{more}.", hint="make room, then run the same command: it goes on from here."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return OutputError(
            f"Cannot write {path}: {error.strerror}.", hint="choose a directory that this user may write."
        )
    few = error.errno in (errno.EMFILE, errno.ENFILE)
    return OutputError(
        f"Cannot write {path}: {error.strerror or error}.",
        hint="name fewer --jobs, or raise `ulimit -n`." if few else None,
    )
