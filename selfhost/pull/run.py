"""The pull itself: several files at once, several processes in turn, and a lock file when every byte is right."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from selfhost.errors import OutputError, VerifyError
from selfhost.pull import marks
from selfhost.pull.hashing import hash_file
from selfhost.pull.lockfile import read_lock, write_lock
from selfhost.pull.part import Part, disk_error
from selfhost.pull.places import Directory, Place, refuse_links
from selfhost.pull.progress import Progress
from selfhost.pull.transfer import Line, Stopped, fetch
from selfhost.pull.types import LOCK_NAME, Lock, LockedFile, RemoteFile, Snapshot
from selfhost.pull.verify import check_tensors
from selfhost.units import size_text

JOBS = 4  # files at once: enough to fill a line, few enough for one disk
WAIT_SECONDS = 0.5  # between looks at a file that another process is writing
# A lock whose file has not grown for so long is passed over: its holder is stopped, or died where the file system keeps
# no locks. Longer than a pull waits for a peer before it tries again.
STALE_SECONDS = 120.0
_PREVIOUS = "previous.lock.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one pull does.

    Args:
        files: what to pull.
        place: where to.
        jobs: how many at once.
    """

    files: tuple[RemoteFile, ...]
    place: Place
    jobs: int = JOBS


def missing_bytes(place: Place, files: Sequence[RemoteFile]) -> int:
    """Bytes that are still to come, going by what stands at the destination."""
    missing = 0
    for file in files:
        found = place.found(file)
        if found is not None and found.stat().st_size == file.size_bytes:
            continue
        with suppress(OSError):
            missing -= min(place.part(file).stat().st_size, file.size_bytes)
        missing += file.size_bytes
    return missing


def free_bytes(path: Path) -> int | None:
    """Bytes that this user may still write at a path, None where the file system does not say."""
    for folder in (path, *path.parents):
        try:
            found = os.statvfs(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return found.f_bavail * found.f_frsize if found.f_blocks else None
    return None


def check_space(place: Place, files: Sequence[RemoteFile]) -> None:
    """Refuse a pull that the disk cannot hold, before its first byte.

    Raises:
        OutputError: there is too little room.
    """
    missing, free = missing_bytes(place, files), free_bytes(place.root)
    if free is not None and missing > free:
        raise OutputError(
            f"{place.root} has {size_text(free)} free, and {size_text(missing)} are still to come.",
            hint="make room, or choose another --dir.",
        )


def run(job: Job, line: Line, progress: Progress) -> tuple[LockedFile, ...]:
    """Bring every file to its place and check it.

    Args:
        job: what and where to.
        line: how.
        progress: told what happens.

    Returns:
        The files with their hashes, sorted by path.

    Raises:
        SelfhostError: the first that went wrong; what is there stays for the next pull.
        KeyboardInterrupt: the user's; likewise.
    """
    try:
        job.place.prepare()
    except OSError as error:
        raise disk_error(error, job.place.root) from None
    queue = _Queue(job.files)
    errors: list[BaseException] = []
    done: dict[str, LockedFile] = {}

    def work() -> None:
        try:
            while (file := queue.take(line.stop)) is not None:
                locked = _one(job.place, file, line, progress, regardless=queue.is_stale(file, job.place))
                if locked is None:
                    line.stop.wait(WAIT_SECONDS)
                    queue.later(file, progress)
                else:
                    done[file.path] = locked
                    queue.done(file)
        except Stopped:
            pass
        except BaseException as error:
            errors.append(error)
            line.stop.set()

    threads = [
        threading.Thread(target=work, daemon=True, name=f"selfhost-pull-{number}")
        for number in range(max(1, min(job.jobs, len(job.files))))
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
    except BaseException:
        line.stop.set()
        raise
    if errors:
        raise errors[0]
    return tuple(done[path] for path in sorted(done))


def settle(place: Place, lock: Lock, *, alone: Callable[[], bool] = lambda: True) -> Snapshot:
    """Check what belongs together, write the lock file last, and clear away what an earlier revision left.

    Args:
        place: where the files are.
        lock: what they are.
        alone: whether no other pull is working there; what it still needs is left to it.

    Raises:
        VerifyError: a tensor header is damaged, or the index names what is not there.
    """
    faults = check_tensors(place.root, lock)
    if faults:
        first = faults[0]
        raise VerifyError(
            f"{first.path} {first.message}." if " " not in first.path else f"{first.message}.",
            hint="the repository itself is damaged; name another revision.",
        )
    write_lock(lock, place.root / LOCK_NAME)
    if not isinstance(place, Directory):
        place.finish()
    elif alone():
        place.finish()
        _clear(place, lock)
    return Snapshot(root=place.root, lock=lock)


def check_directory(place: Place, files: Sequence[RemoteFile]) -> None:
    """Look for what is in the way: links, and files of the user's own in a directory that no pull has filled.

    Names that the locale cannot write are refused too, in any place.

    Raises:
        OutputError: something is in the way.
    """
    for file in files:
        try:
            os.fsencode(file.path)
        except UnicodeEncodeError:
            raise OutputError(
                f"{file.path} has letters that file names here cannot hold ({sys.getfilesystemencoding()}).",
                hint="set LC_ALL=C.UTF-8.",
            ) from None
    if not isinstance(place, Directory):
        return
    for file in files:
        refuse_links(place.root, Path(file.path))
    try:
        ours = place.is_ours()
    except OSError as error:
        raise disk_error(error, place.root) from None
    if not ours:
        for file in files:
            _refuse_another(place, file)


def begin(place: Place, files: Sequence[RemoteFile], repo: str, commit: str) -> None:
    """Look at what is there before anything changes.

    The lock file of another commit, whose files are about to change, is taken away; it is kept to know what it named.

    Raises:
        OutputError: a file of the user's own is in the way.
    """
    check_directory(place, files)
    if not isinstance(place, Directory):
        return
    path = place.root / LOCK_NAME
    if not os.path.isfile(path):
        return
    with suppress(VerifyError):
        lock = read_lock(path)
        if (lock.repo, lock.revision) == (repo, commit):
            return
    try:
        place.prepare()
        path.replace(place.work / _PREVIOUS)
    except OSError as error:
        raise disk_error(error, path) from None


def _refuse_another(place: Directory, file: RemoteFile) -> None:
    found = place.found(file)
    if found is None:
        return
    try:
        size, hashes = hash_file(found, with_git=file.sha256 is None)
    except OSError as error:
        raise disk_error(error, found) from None
    if size != file.size_bytes or not hashes.match(file.etag):
        raise OutputError(
            f"{found} is another file than the repository's.",
            hint="name a directory that is empty or that `selfhost pull` filled.",
        )


def _clear(place: Directory, lock: Lock) -> None:
    path = place.work / _PREVIOUS
    if not path.is_file():
        return
    with suppress(VerifyError, OSError):
        kept = {file.path for file in lock.files}
        for file in read_lock(path).files:
            old = place.root / file.path
            if file.path not in kept and old.is_file() and not old.is_symlink():
                old.unlink()
    path.unlink(missing_ok=True)


class _Queue:
    """Files that nobody has taken yet; one that another process is writing goes to the end.

    Files of one content are taken one after the other, as they grow in the same place.
    """

    def __init__(self, files: Sequence[RemoteFile]) -> None:
        # Small files first: with the configuration there, a directory can already be sized.
        self._files = deque(sorted(files, key=lambda file: (file.size_bytes >= 1 << 20, file.path)))
        self._in_hand: set[str] = set()
        self._told: set[str] = set()
        self._grown: dict[str, tuple[int, float]] = {}
        self._changed = threading.Condition()

    def take(self, stop: threading.Event) -> RemoteFile | None:
        """The next file; None when all are done, or the pull ends."""
        with self._changed:
            while (self._files or self._in_hand) and not stop.is_set():
                for file in self._files:
                    if file.etag not in self._in_hand:
                        self._files.remove(file)
                        self._in_hand.add(file.etag)
                        return file
                self._changed.wait(WAIT_SECONDS)
            return None

    def is_stale(self, file: RemoteFile, place: Place) -> bool:
        """Whether a file that another process has in hand has not grown for `STALE_SECONDS`."""
        try:
            size = place.part(file).stat().st_size
        except OSError:
            size = -1
        now = time.monotonic()
        before, since = self._grown.setdefault(file.etag, (size, now))
        if size != before:
            self._grown[file.etag] = (size, now)
            return False
        return now - since >= STALE_SECONDS

    def later(self, file: RemoteFile, progress: Progress) -> None:
        """Put a file back."""
        with self._changed:
            if file.path not in self._told:
                self._told.add(file.path)
                progress.notice(f"{file.path}: another pull is writing it; waiting for it")
            self._files.append(file)
            self._in_hand.discard(file.etag)
            self._changed.notify_all()

    def done(self, file: RemoteFile) -> None:
        """One file less."""
        with self._changed:
            self._in_hand.discard(file.etag)
            self._changed.notify_all()


def _one(
    place: Place, file: RemoteFile, line: Line, progress: Progress, *, regardless: bool
) -> LockedFile | None:
    """One file in its place; None where another process has it in hand, unless it is to be taken regardless."""
    with _held(place.guard(file)) as mine:
        if not mine and not regardless:
            return None
        if not mine:
            progress.notice(f"{file.path}: whoever was writing it has stopped; taken over")
        sha256 = _already(place, file, progress)
        if sha256 is None:
            sha256 = _bring(place, file, line, progress)
        return LockedFile(path=file.path, size_bytes=file.size_bytes, sha256=sha256, etag=file.etag)


def _already(place: Place, file: RemoteFile, progress: Progress) -> str | None:
    """SHA-256 of the content where it is there already, with its name put right."""
    found = place.found(file)
    if found is None:
        return None
    sha256 = marks.marked(place.work, file, found)
    if sha256 is None and found.stat().st_size == file.size_bytes:
        try:
            _, hashes = hash_file(found, with_git=file.sha256 is None)
        except OSError as error:
            raise disk_error(error, found) from None
        if hashes.match(file.etag):
            sha256 = hashes.sha256
            marks.mark(place.work, file, found, sha256)
    if sha256 is None:
        progress.notice(f"{file.path}: what is there is not the repository's file; pulled again")
        return None
    place.link(file)
    progress.had(file.size_bytes)
    return sha256


def _bring(place: Place, file: RemoteFile, line: Line, progress: Progress) -> str:
    with Part(place.part(file), file, count=progress.had) as part:
        hashes = fetch(line, part)
    try:
        place.publish(file)
    except OSError as error:
        raise disk_error(error, place.root / file.path) from None
    found = place.found(file)
    if found is not None:
        marks.mark(place.work, file, found, hashes.sha256)
    return hashes.sha256


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a file's lock if it is free; the kernel frees it when a process ends, however it ends."""
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

    lock: BaseFileLock = FileLock(path, mode=0o664)
    try:
        try:
            lock.acquire(timeout=0)
        except NotImplementedError:  # a file system without flock(2)
            lock = SoftFileLock(path, mode=0o664)
            lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise disk_error(error, path) from None
    try:
        yield True
    finally:
        lock.release()
