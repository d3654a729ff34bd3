"""Which finished files were verified and have not changed since, so that a second pull need not hash them again.

A mark is a small file named after the content's hash. It holds length, modification time and the machine's boot id:
after a loss of power what the page cache held may be gone although the names are there, and a mark of an earlier boot
counts for nothing.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from selfhost.pull.lockfile import beside
from selfhost.pull.types import RemoteFile

_BOOT_ID = "/proc/sys/kernel/random/boot_id"  # Linux, proc(5)


def boot_id() -> str:
    """What tells this boot of the machine from any other; empty where the system does not say, and no mark holds."""
    try:
        with open(_BOOT_ID, encoding="ascii") as stream:
            return stream.read(64).strip()
    except OSError:
        return ""


def mark(work: Path, file: RemoteFile, path: Path, sha256: str) -> None:
    """Note that a file was hashed and is right. A mark that cannot be written costs a hash later, nothing else."""
    with suppress(OSError):
        target = work / "ok" / file.etag
        temporary = beside(target)
        temporary.write_text(f"{_state(path)} {sha256}", encoding="ascii")
        temporary.replace(target)


def marked(work: Path, file: RemoteFile, path: Path) -> str | None:
    """SHA-256 of a file that is marked and unchanged, None where it has to be hashed."""
    try:
        text = (work / "ok" / file.etag).read_text(encoding="ascii")
        state, _, sha256 = text.rpartition(" ")
        return sha256 if boot_id() and state == _state(path) else None
    except (OSError, ValueError):
        return None


def _state(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino} {boot_id()}"
