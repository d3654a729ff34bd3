"""Directory + lock -> faults: every file hashed by several processes, tensor headers and index checked, offline."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selfhost.errors import SelfhostError, VerifyError
from selfhost.hub.directory import INDEX, Files
from selfhost.hub.references import shown
from selfhost.pull.hashing import hash_file
from selfhost.pull.types import LOCK_NAME, WORK_NAME, Lock, LockedFile

if TYPE_CHECKING:
    from multiprocessing.pool import Pool as Hashers

Report = Callable[[str, int], None]

MOST_PROCESSES = 8  # a disk rarely feeds more
WORTH_BYTES = 64 << 20
_LOOK_SECONDS = 2.0  # without a result, after which the processes are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is not as the lock says."""

    path: str
    message: str


@contextmanager
def hashers(lock: Lock, processes: int | None = None) -> Iterator[Hashers | None]:
    """Processes that hash the files of a lock; to be begun before any thread is, as they are forks of this process.

    Args:
        lock: what there is to hash.
        processes: how many at once; None takes one for each processor, at most eight.

    Yields:
        None where one process is as quick: a single file, or so little that starting others takes longer.
    """
    workers = min(processes or os.cpu_count() or 1, MOST_PROCESSES, len(lock.files))
    if workers <= 1 or lock.total_bytes < WORTH_BYTES:
        yield None
        return
    import multiprocessing

    # Ctrl-C reaches every process of a terminal; this one then ends the others.
    quiet = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.get_context("fork").Pool(workers, signal.signal, quiet) as pool:
        yield pool


def verify(
    root: Path, lock: Lock, *, pool: Hashers | None = None, report: Report | None = None
) -> tuple[Fault, ...]:
    """Check every file of a lock on disk; nothing is asked from anybody.

    Args:
        root: the directory below which the files stand; links in it are followed, as the Hub's cache is made of them.
        lock: what they have to be.
        pool: processes that hash, of `hashers`; None hashes here.
        report: told the path and bytes of each file that is done.

    Returns:
        Faults, hashes first; empty where everything is right.
    """
    faults = [*_hash_faults(root, lock, pool, report)]
    wrong = {fault.path for fault in faults}
    faults += check_tensors(root, lock, skip=wrong)
    return tuple(faults)


def extra_files(root: Path, lock: Lock) -> tuple[str, ...]:
    """Files below a directory that its lock does not name, hidden work folders aside; they are not checked."""
    known = {file.path for file in lock.files} | {LOCK_NAME}
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in (WORK_NAME, ".cache", ".git")]
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root)
            if path not in known:
                found.append(path)
    return tuple(sorted(found))


def check_tensors(
    root: Path, lock: Lock, *, skip: set[str] | frozenset[str] = frozenset()
) -> tuple[Fault, ...]:
    """Parse the header of every safetensors file and hold the index against what is there.

    Args:
        root: the directory.
        lock: its files.
        skip: paths that are known to be wrong already.
    """
    files = Files(path=root, root=_allowed(root))
    faults: list[Fault] = []
    tensors: dict[str, str] = {}
    for file in lock.files:
        if not file.path.endswith(".safetensors") or file.path in skip:
            continue
        try:
            for header in files.header(file.path):
                tensors.setdefault(header.name, file.path)
        except SelfhostError as error:
            faults.append(Fault(path=file.path, message=_plain(error)))
    paths = {file.path for file in lock.files}
    if INDEX in paths and INDEX not in skip and not faults and not lock.partial:
        faults += _index_faults(files, paths, tensors)
    return tuple(faults)


def _index_faults(files: Files, paths: set[str], tensors: dict[str, str]) -> Iterator[Fault]:
    try:
        index = files.json(INDEX) or {}
    except SelfhostError as error:
        yield Fault(path=INDEX, message=_plain(error))
        return
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict):
        yield Fault(path=INDEX, message="has no weight_map")
        return
    for name, where in weight_map.items():
        if not isinstance(where, str) or where not in paths:
            yield Fault(path=INDEX, message=f"names {shown(str(where), 80)!r}, which is not here")
            return
        if tensors.get(name) is None:
            yield Fault(path=INDEX, message=f"names the tensor {name!r:.80}, which {where} does not hold")
            return


def _hash_faults(root: Path, lock: Lock, pool: Hashers | None, report: Report | None) -> Iterator[Fault]:
    jobs = [(str(root / file.path), file) for file in sorted(lock.files, key=lambda f: -f.size_bytes)]
    results = map(_check, jobs) if pool is None else _shared(jobs, pool)
    for file, message in results:
        yield from _reported(file, message, report)


def _shared(jobs: list[tuple[str, LockedFile]], pool: Hashers) -> Iterator[tuple[LockedFile, str | None]]:
    """Results of several processes, in any order.

    Raises:
        VerifyError: one of them was killed; the pool would wait for its file for ever.
    """
    import multiprocessing

    began = {child.pid for child in multiprocessing.active_children()}
    results = pool.imap_unordered(_check, jobs)
    for _ in jobs:
        while True:
            try:
                found = results.next(timeout=_LOOK_SECONDS)
                break
            except multiprocessing.TimeoutError:
                if began - {child.pid for child in multiprocessing.active_children()}:
                    raise VerifyError(
                        "A process that hashed was killed, by hand or for want of memory.",
                        hint="run it again with --processes 1.",
                    ) from None
        yield found


def _reported(file: LockedFile, message: str | None, report: Report | None) -> Iterator[Fault]:
    if report is not None:
        report(file.path, file.size_bytes)
    if message is not None:
        yield Fault(path=file.path, message=message)


def _check(job: tuple[str, LockedFile]) -> tuple[LockedFile, str | None]:
    path, file = Path(job[0]), job[1]
    try:
        size = path.stat().st_size
        if size != file.size_bytes:
            return file, f"has {size:,} bytes, not {file.size_bytes:,}"
        if not path.is_file():
            return file, "is not a regular file"
        _, hashes = hash_file(path)
    except (OSError, UnicodeEncodeError) as error:  # the latter: a locale without the name's letters
        return file, f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if hashes.sha256 != file.sha256:
        return file, "holds other bytes than its SHA-256 says"
    return file, None


def _allowed(root: Path) -> Path:
    """Where links of this directory may lead: the Hub's cache for one of its snapshots, else the directory itself."""
    from selfhost.hub.directory import cache_root

    return (cache_root(root) or root).resolve()


def _plain(error: SelfhostError) -> str:
    return error.message.rstrip(".")
