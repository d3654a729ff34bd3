"""selfhost.lock.json: which files of which commit stand in a directory, with their hashes."""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path

from selfhost import strict
from selfhost.errors import OutputError, SelfhostError, VerifyError
from selfhost.hub.references import check_repository
from selfhost.pull.names import fault_of
from selfhost.pull.types import LOCK_NAME, LOCK_SCHEMA, Lock

_LARGEST_FILE_BYTES = 64 << 20  # 100,000 files take about 25 MB
_HINT = "Pull the model again; what is right is kept."
_HEX = frozenset("0123456789abcdef")


def lock_text(lock: Lock) -> str:
    """The text of a lock file, ending in a newline. Equal locks give equal text."""
    return json.dumps(strict.encode(lock), indent=1, ensure_ascii=False) + "\n"


def write_lock(lock: Lock, path: Path) -> None:
    """Write a lock file in one step and onto the disk: a reader sees none or the whole.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(path, lock_text(lock).encode())


def read_lock(path: Path) -> Lock:
    """Read a lock file, or the one in a directory.

    Raises:
        VerifyError: there is none, or it is not one.
    """
    file = path / LOCK_NAME if os.path.isdir(path) else path
    try:
        # A pipe in its place would keep a reader waiting.
        with open(file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise OSError("it is no regular file")
            data = stream.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise VerifyError(
            f"Cannot read {file}: {error.strerror or error}.",
            hint="name a directory that `selfhost pull` filled.",
        ) from None
    if len(data) > _LARGEST_FILE_BYTES:
        raise VerifyError(f"{file} is larger than any lock file.", hint=_HINT)
    return parse_lock(data, where=str(file))


def parse_lock(data: bytes, *, where: str) -> Lock:
    """Understand the bytes of a lock file.

    Raises:
        VerifyError: they are none, or name files that cannot be.
    """

    def refuse(sentence: str) -> SelfhostError:
        return VerifyError(f"{where}: {sentence}.", hint=_HINT)

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise refuse("it is not UTF-8 text") from None
    table = strict.parse(text, lambda end: refuse(f"it {end}"))
    if table.get("schema") != LOCK_SCHEMA:
        raise refuse(f"it has the schema {table.get('schema')!r:.60}, this selfhost reads {LOCK_SCHEMA!r}")
    lock = strict.decode(Lock, table, "lock", refuse)
    assert isinstance(lock, Lock)
    # The lock's words go into commands that are shown, and an etag is a file's name below `.selfhost`.
    for field in ("endpoint", "created", "selfhost_version"):
        if not getattr(lock, field).isprintable():
            raise refuse(f"lock.{field} holds control characters")
    try:
        check_repository(lock.repo)
    except SelfhostError:
        raise refuse("lock.repo is no repository") from None
    if not _is_hash(lock.revision, 40):
        raise refuse("lock.revision is no commit")
    seen: set[str] = set()
    for number, file in enumerate(lock.files):
        fault = fault_of(file.path)
        if fault is not None or file.path in seen or file.size_bytes < 0:
            raise refuse(f"lock.files[{number}] {fault or 'stands twice or has no length'}")
        if not _is_hash(file.sha256, 64):
            raise refuse(f"lock.files[{number}].sha256 is no SHA-256")
        if not _is_hash(file.etag, 40, 64):
            raise refuse(f"lock.files[{number}].etag is no hash")
        seen.add(file.path)
    return lock


def _is_hash(text: str, *digits: int) -> bool:
    return len(text) in digits and _HEX.issuperset(text)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole or not at all, also after a loss of power.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from None


def beside(path: Path) -> Path:
    """A new name in the same directory, for what then takes the path's place; process numbers repeat between pods."""
    return path.with_name(f".{secrets.token_hex(8)}.tmp")


def sync_directory(path: Path) -> None:
    """Bring a directory's entries onto the disk; file systems that cannot are left alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
